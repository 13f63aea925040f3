"""Belief tokens that begin anew when the policy acts: both versions over the same scenes, and what the page says."""

from __future__ import annotations

import pytest

from ptrlib.report import restart, results


def test_both_versions_are_compared_over_the_same_scenes():
    table = restart.table("tabletop_restart", "tabletop_claim").set_index(["data", "question"])
    rates = {name: results.episodes_frame(results.runs_of(name)).groupby(["method", "corruption"], observed=True)
             .success.mean() for name in ("tabletop_restart", "tabletop_claim")}
    for method, label in (("ptr", "PTR"), ("sft_belief", "SFT+Belief")):
        change = 100 * (rates["tabletop_restart"][method, "combined"] - rates["tabletop_claim"][method, "combined"])
        row = table.loc["combined corruption", f"{label}, begun anew minus {label}"]
        assert float(row.number.split()[0]) == pytest.approx(change, abs=0.06) and row.number.endswith("n = 2000")
    assert len(table) == 10


def test_what_the_page_says_of_it_holds():
    table = restart.table("tabletop_restart", "tabletop_claim").set_index(["data", "question"])
    for data in ("clean data", "combined corruption"):
        for label in ("PTR", "SFT+Belief"):
            assert table.loc[data, f"{label}, begun anew minus {label}"].answer == "cannot be told"
        assert table.loc[data, "PTR, begun anew minus SFT"].answer == "less often"
        assert table.loc[data, "SFT+Belief, begun anew minus SFT"].answer == "cannot be told"


def test_only_the_acting_differs():
    anew, claim = (results.runs_of(name) for name in ("tabletop_restart", "tabletop_claim"))
    before = {(run.setting.method, run.setting.config.data.corruption, run.setting.config.seed): run.setting.config
              for run in claim}
    for run in anew:
        config = run.setting.config
        assert config.evaluation.restart_beliefs == config.data.segment_chunks == 4
        other = before[run.setting.method, config.data.corruption, config.seed]
        assert config.data == other.data and config.ptr == other.ptr and other.evaluation.restart_beliefs == 0
