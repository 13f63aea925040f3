"""What stands beside the comparisons: the start policy left alone, and PTR without faults of ours."""

from __future__ import annotations

import pandas as pd
import pytest

from ptrlib.report import mended, results, start


def test_what_post_training_adds_is_the_difference_of_the_rates():
    episodes, alone = results.episodes_frame(results.runs_of("tabletop_hard")), start.episodes_of("tabletop_hard")
    for method, kind in (("sft", "none"), ("oracle", "combined")):
        mine = episodes[(episodes.method == method) & (episodes.corruption == kind)]
        added = start.gain(episodes, alone, method, kind)
        assert added.estimate == pytest.approx(mine.success.mean() - alone.success.mean())
        assert added.count == len(mine) and added.low < added.estimate < added.high
    told = start.sentence("tabletop_hard", episodes)
    assert f"succeeds in {100 * alone.success.mean():.1f} [" in told and "costs success" in told
    table = start.table("tabletop_hard", episodes, ["sft"])
    assert table.data.tolist() == ["clean data", "combined corruption"]


def test_without_its_runs_nothing_is_said_about_a_start_policy():
    episodes = results.episodes_frame(results.runs_of("tabletop_sweep_tau"))
    assert start.sentence("tabletop_sweep_tau", episodes) == "" and start.table("tabletop_sweep_tau", episodes).empty
    assert start.rate("tabletop_sweep_tau") is None


def test_runs_say_which_faults_they_have():
    kinds = {manifest: mended.note(results.runs_of(manifest)) for manifest in (
        "tabletop_hard", "libero_corruption", "libero_robocasa_generalist", "tabletop_mended", "tabletop_start")}
    assert "in 10 of the 60 runs shown here PTR's hard negatives" in kinds["tabletop_hard"]
    assert "shift_targets" not in kinds["tabletop_hard"]
    assert "true_tasks" in kinds["libero_corruption"] and "shift_targets" in kinds["libero_corruption"]
    assert "true_tasks" not in kinds["libero_robocasa_generalist"]  # clean data
    assert kinds["tabletop_mended"] == kinds["tabletop_start"] == ""


def test_runs_that_are_mended_in_nothing_differ_in_nothing(monkeypatch):
    monkeypatch.setitem(mended.MENDED, "tabletop_corruption", "tabletop_claim")  # which shares its runs
    table = mended.table("tabletop_corruption").set_index("question")
    same = table.loc["PTR without the faults minus PTR as stored, combined corruption"]
    assert same.number == "+0.0 [+0.0, +0.0] points, n = 2000" and same.answer == "cannot be told"
    assert table.loc["PTR without the faults minus SFT, combined corruption"].answer == "less often"
    for question in ("Chunks identified late in training, {}", "Does its score tell corrupted chunks, {}?"):
        stored, without = (table.loc[question.format(words)].number for words in ("as stored", "without the faults"))
        assert stored == without


def test_what_the_mended_runs_answer_too_stands_below_the_older_answer(monkeypatch):
    answers = pd.DataFrame({"question": ["Is it what PTR's weights say, and not merely weights?", "other"],
                            "number": "1", "answer": "yes"})
    both = mended.beside(answers, "tabletop_corruption")
    assert both.answer.tolist() == ["yes", "cannot be told", "yes"]
    assert both.question[1] == "… without the faults found later" and both.number[1].startswith("+0.6 [")
    monkeypatch.setattr(results, "is_stored", lambda name: False)
    assert mended.beside(answers, "tabletop_corruption").equals(answers)
