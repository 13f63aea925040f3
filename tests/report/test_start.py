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
        "tabletop_true_tasks", "tabletop_hard", "tabletop_width_first", "libero_corruption", "libero_foresight",
        "libero_robocasa_generalist", "tabletop_start")}
    assert "in 185 of the 185 runs shown here PTR's hard negatives" in kinds["tabletop_true_tasks"]
    assert "in 5 of the 10 runs shown here PTR's hard negatives" in kinds["tabletop_width_first"]
    assert "shift_targets" not in kinds["tabletop_width_first"]
    assert "in 6 of the 10 runs shown here PTR's hard negatives" in kinds["libero_foresight"]
    assert "in 8 of the 10 runs shown here a chunk's consequence was shifted" in kinds["libero_foresight"]
    assert "true_tasks" not in kinds["libero_robocasa_generalist"]  # clean data
    assert "in 5 of the 10 runs shown here belief tokens held recorded steps" in kinds["tabletop_width_first"]
    assert kinds["tabletop_hard"] == kinds["libero_corruption"] == kinds["tabletop_start"] == ""


def test_manifests_are_listed_by_what_their_runs_have():
    listed = mended.having().set_index("manifest")
    assert not {"tabletop_start", "tabletop_hard", "libero_corruption", "robocasa_precise",
                "robocasa_corruption"} & set(listed.index)
    assert listed.loc["tabletop_width_first"].tolist() == [10, 0, 5, 5, 0]
    assert listed.loc["libero_mended"].tolist() == [4, 0, 0, 4, 0]
    assert listed.loc["libero_foresight"].tolist() == [10, 8, 6, 10, 0]
    assert listed.loc["robocasa_everybody_foresight"].tolist() == [10, 8, 4, 10, 0]


def test_runs_that_are_mended_in_nothing_differ_in_nothing(monkeypatch):
    shared = ("tabletop_corruption", "tabletop_claim")  # the same runs
    monkeypatch.setitem(mended.COMPARED, "tabletop_corruption", shared)
    table = mended.table("tabletop_corruption").set_index("question")
    same = table.loc[f"{mended.CHANGE}, combined corruption"]
    assert same.number == "+0.0 [+0.0, +0.0] points, n = 2000" and same.answer == "cannot be told"
    assert table.loc["PTR without the two minus SFT, combined corruption"].answer == "less often"
    for question in ("Chunks identified late in training, {}", "Does its score tell corrupted chunks, {}?"):
        first, without = (table.loc[question.format(words)].number for words in ("as first run", "without the two"))
        assert first == without


@pytest.mark.parametrize(("first", "again", "method"), [("tabletop_true_tasks", "tabletop_foresight", "ptr@hard"),
                                                        ("tabletop_foresight", "tabletop_hard", "ptr")])
def test_every_setting_that_was_made_again_stands_beside_its_first_runs(first, again, method):
    settings = mended.every_setting(first)
    shown, row = (table.set_index("method").loc["PTR (hard)"] for table in (mended.as_text(settings), settings))
    before, after = (results.episodes_frame([run for run in results.runs_of(manifest) if run.setting.method == name
                                             and run.setting.config.data.corruption == "combined"])
                     for manifest, name in ((first, "ptr@hard"), (again, method)))
    assert row["first"] == pytest.approx(100 * before.success.mean())
    assert row["mended"] == pytest.approx(100 * after.success.mean())
    assert row.change == pytest.approx(row["mended"] - row["first"]) and row.low <= row.change <= row.high
    assert row.n == len(after) == 2000
    assert len(settings) == len({run.setting.method for run in results.runs_of(first)})
    assert shown["mended (%)"] == f"{row['mended']:.1f}"
    assert shown["change (points)"] == f"{row.change:+.1f} [{row.low:.1f}, {row.high:.1f}]"


def test_only_changes_beyond_their_interval_are_named():
    settings = pd.DataFrame({"method": ["one", "other"], "change": [3.0, -1.0], "low": [1.0, -2.5], "high": [5.0, 0.5]})
    told = mended.told_apart(settings)
    assert "Of the 2 settings" in told and "can be told in 1 (a rise in 1, a fall in 0)" in told
    assert "the largest change is 3.0 points" in told
