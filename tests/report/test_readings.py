"""The paper's other reading: rows of what is stored."""

from __future__ import annotations

import pytest

from ptrlib.report import readings, results
from ptrlib.runs import load_manifest

MANIFESTS = ("tabletop_claim", "tabletop_hard_detached", "tabletop_grown_detached", "robocasa_precise_detached")


def test_a_row_says_what_its_runs_hold():
    table = readings.table(["tabletop_claim"])
    assert len(table) == 2 * len(readings.QUESTIONS) and set(table["runs on"]) == {"Tabletop (easy)"}
    episodes = results.episodes_frame(results.runs_of("tabletop_claim"))
    gain = results.compare(episodes, {("ptr", "combined"): 1.0, ("ptr_detached", "combined"): -1.0})
    row = table[(table.data == "combined corruption") & (table.question == "PTR minus PTR, detached scorer")].iloc[0]
    assert row.number.startswith(gain.text(100, sign=True)) and gain.high < 0
    assert row.answer == "the scorer’s gradient costs success"


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_manifest_holds_both_readings_of_the_same_settings(manifest):
    methods = {setting.method for setting in load_manifest(results.manifest_path(manifest)).settings}
    changes = [name.removeprefix(readings.DETACHED) for name in methods if name.startswith(readings.DETACHED)]
    assert changes and all(f"{rule}{change}" in methods for change in changes for rule in ("ptr", "sft", "sft_belief"))


def test_what_is_not_stored_is_left_out(monkeypatch):
    monkeypatch.setattr(results, "is_stored", lambda name: name == "tabletop_claim")
    assert len(readings.table(MANIFESTS)) == 2 * len(readings.QUESTIONS)
    assert readings.table([]).empty
