"""What belief tokens without the next chunk's labels changed: the same questions, over the same scenes."""

from __future__ import annotations

import pytest

from ptrlib.config import override, touched
from ptrlib.report import foresight, results
from ptrlib.report.mended import MADE_AGAIN
from ptrlib.runs import folder_name

HARD = "tabletop_hard"


@pytest.mark.parametrize(("comparison", "count", "later"), [(HARD, 30, 0), ("robocasa_precise", 12, 0),
                                                            ("libero_corruption", 10, 3),
                                                            ("robocasa_corruption", 10, 4)])
def test_the_first_runs_are_those_of_the_rules_with_belief_tokens(comparison, count, later):
    kept = foresight.COMPARED[comparison]
    again = {run.name for run in results.runs_of(comparison) if run.setting.config.network.use_belief}
    first = foresight.first_runs(comparison)
    assert len(first) == count
    without = {folder_name(override(run.setting.config, dict.fromkeys(MADE_AGAIN[kept], False))) for run in first}
    assert without <= again and len(without) == count
    assert len(again - without) == later  # training seeds that were never run with the faults
    assert all(foresight.FAULT in touched(run.setting.config) for run in first)
    assert {run.folder for run in first} <= {run.folder for run in results.runs_of(kept)}


def test_the_table_compares_both_versions():
    table = foresight.table(HARD).set_index(["data", "question"])
    episodes = results.episodes_frame(results.runs_of(HARD))
    rate = episodes[episodes.corruption == "combined"].groupby("method", observed=True).success.mean()
    for method, label in (("ptr", "PTR"), ("sft_belief", "SFT+Belief")):
        gain = table.loc[("combined corruption", f"{label} minus SFT")]
        assert float(gain.number.split(" ")[0]) == pytest.approx(100 * (rate[method] - rate["sft"]), abs=0.06)
    scores = [table.loc["combined corruption", f"Does PTR's score tell corrupted chunks, {words}?"].number
              for words in ("as first run", "without the fault")]
    assert scores[0] != scores[1] and all(score.startswith("AUROC 0.") for score in scores)
    assert not any("α = 0" in question for _, question in table.index)  # not run on the hard suite


def test_the_chart_sets_both_versions_against_sft():
    _, drawn = foresight.chart(HARD)
    episodes = results.episodes_frame(foresight.runs_behind(HARD))
    mine = drawn[drawn.method == "ptr"].set_index("corruption").estimate
    for suffix in ("", foresight.FIRST):
        gain = results.compare(episodes, {(f"ptr{suffix}", "combined"): 1.0, ("sft", "combined"): -1.0})
        assert mine[f"combined{suffix}"] == pytest.approx(100 * gain.estimate)
    assert set(drawn.method) == {"sft_belief", "ptr", "random"} and len(drawn) == 3 * 2 * 2


def test_the_sentence_says_what_ptr_comes_to_without_the_fault(monkeypatch):
    text = foresight.sentence(HARD)
    assert text.count("**PTR is behind**") == 2 and "(as first run -11.2 [-15.0, -7.7])" in text
    monkeypatch.setattr(foresight, "first_runs", lambda name: [results.StoredRun(
        results.runs_of(name)[0].setting, results.runs_of(name)[0].folder / "nowhere")])
    assert not foresight.is_stored(HARD)


def test_what_the_page_says_of_robocasa_holds():
    """That PTR gains under combined corruption stands in README, whose test holds it to the runs."""
    text = foresight.sentence("robocasa_precise")
    assert "with clean data PTR is -13.3" in text and text.count("**PTR is behind**") == 1
    assert text.endswith("**which is better cannot be told**.")
