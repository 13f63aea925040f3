"""RoboCasa's page: the demonstrators' attempts are counted as they are, and the sheet shows every task."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptrlib.config import override
from ptrlib.report import kitchen, results, sheet
from ptrlib.report.statistics import wilson_interval
from ptrlib.simulators import robocasa
from ptrlib.simulators.sheet import Pictures, read


@pytest.fixture
def folder(tmp_path):
    """OpenDrawer fails in one of ten scenes, TurnSinkSpout in half; both were tuned on seeds that are there too."""
    rows = [{"suite": "s", "task": task, "task_index": 0, "seed": seed, "style": "precise",
             "success": bool(seed % every), "steps": 100 + seed % 5, "phase": "pull", "commit": "0" * 40}
            for task, every in (("OpenDrawer", 10), ("TurnSinkSpout", 2)) for seed in (*range(20), *range(1000, 1050))]
    pd.DataFrame(rows).to_csv(tmp_path / "some.csv", index=False)
    return tmp_path


def test_only_scenes_that_nobody_looked_at_count(folder):
    rates = kitchen.task_rates(kitchen.attempts(folder)).set_index("task")
    assert list(rates.index) == [task.name for task in robocasa.TASKS]
    interval = wilson_interval(45, 50)
    drawer = rates.loc["OpenDrawer"]
    assert (drawer.attempts, drawer.successes, drawer.low, drawer.high) == (50, 45, interval.low, interval.high)
    assert drawer.category == "Doors and drawers" and drawer["fails in"] == "pull"
    assert rates.attempts.sum() == 100 and rates.success.isna().sum() == 22


def test_the_suite_of_passing_tasks_holds_those_that_the_stored_report_has_at_80_percent():
    rates = kitchen.task_rates(kitchen.attempts())
    passing = rates[rates.success >= kitchen.GOOD]
    assert [task.name for task in robocasa.SUITES[robocasa.PASSING]] == passing.task.tolist() and len(passing) == 21


def test_the_verdict_names_what_is_below_the_mark_and_what_was_not_tried(folder):
    rates = kitchen.task_rates(kitchen.attempts(folder))
    text = kitchen.verdict(rates)
    assert text.startswith("**1 of 24 tasks reach 80%, 0 reach 95%** by their observed rates; of all 100 attempts 70.0")
    assert "Each was tried in at least 50 scenes." in text and "fewer" not in text
    few = kitchen.verdict(kitchen.task_rates(kitchen.attempts(folder).query("seed < 1010")))
    assert "**2 tasks have fewer than 50 scenes** (from 10 on)" in few and "at least" not in few
    assert "Below 80%: TurnSinkSpout." in text and "PnPCounterToCab, " in text
    figure, drawn = kitchen.chart(rates)
    assert drawn.success.notna().sum() == 2 and len(figure.axes[0].get_yticks()) == 24
    assert kitchen.table(rates)["success (%)"].tolist().count("–") == 22


def test_scenes_that_an_earlier_version_met_are_told_apart(folder):
    text = kitchen.told_apart(kitchen.attempts(folder))
    met, unmet = text.split("; ")
    assert met.startswith("In scenes that an earlier version had met once ") and "of 10 attempts" in met
    assert unmet.startswith("in scenes that no version had met ") and unmet.endswith("of 90 attempts succeed.")
    recorded = kitchen.told_apart(kitchen.attempts(folder).assign(suite=kitchen.RECORDED))
    assert recorded.startswith("In scenes that were recorded, most of them for the second time ")
    assert recorded.endswith("of 100 attempts succeed.") and "version" not in recorded
    assert kitchen.told_apart(kitchen.attempts(folder).iloc[:0]) == ""


def test_without_reports_nothing_is_claimed(tmp_path):
    rates = kitchen.task_rates(kitchen.attempts(tmp_path))
    assert kitchen.verdict(rates) == "No attempt is recorded yet." and rates.success.isna().all()
    pd.DataFrame({"suite": ["s"], "task": ["a"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"a\.csv has no column 'seed'; delete it and make it again with: python -m"):
        kitchen.attempts(tmp_path)


def test_the_sheet_shows_every_task_through_every_camera():
    pictures = Pictures(np.zeros((4, 2, 8, 8, 3), np.uint8), ("left", "hand"), ("a", "b", "c", "d"), ("do it",) * 4)
    figure, drawn = sheet.chart(pictures)
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 0, 0]
    assert figure.axes[0].images[0].get_array().shape == (8, 2 * 8 + 3, 3)
    assert drawn.task.tolist() == list("abcd") and set(drawn.cameras) == {"left hand"}


def test_the_stored_sheet_is_of_all_24_tasks():
    pictures = read(robocasa.ALL)
    assert pictures.tasks == tuple(task.name for task in robocasa.TASKS)
    assert pictures.images.shape == (24, 3, 128, 128, 3)
    assert pictures.images.reshape(24, 3, -1).std(-1).min() > 5  # no camera looks at one colour


def test_a_sheet_that_is_not_there_is_answered_with_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.npz does not exist; `python -m ptrlib\.simulators\.sheet"):
        read("nowhere", tmp_path)


def test_policies_are_counted_by_category_and_by_task():
    tasks = ("CloseDrawer", "OpenDrawer", "TurnOnStove")
    episodes = pd.DataFrame([{"task": task, "init_state": scene, "method": method, "corruption": kind,
                              "success": method == "ptr" or scene < 3 and task != "TurnOnStove"}
                             for task in tasks for scene in range(4)
                             for method, kind in (("ptr", "none"), ("sft", "none"), ("sft", "combined"))])
    table = kitchen.policy_table(episodes)
    assert list(table.tasks) == ["Doors and drawers, together", "Others, together", "OpenDrawer", "CloseDrawer",
                                 "TurnOnStove"]
    assert list(table.columns) == ["tasks", "SFT, clean data", "PTR, clean data", "SFT, combined corruption", "n, each"]
    alone = kitchen.policy_table(episodes[episodes.corruption == "none"])
    assert list(alone.columns) == ["tasks", "SFT", "PTR", "n, each"] and alone["SFT"].equals(table["SFT, clean data"])
    together, half = table.iloc[0], wilson_interval(6, 8)
    assert together["SFT, clean data"] == f"75 [{100 * half.low:.0f}, {100 * half.high:.0f}]"
    assert together["n, each"] == "8" and table.iloc[4]["n, each"] == "4"
    uneven = kitchen.policy_table(episodes.query("method == 'sft' or init_state < 2"))
    assert uneven.iloc[0]["n, each"] == "4 to 8" and uneven.iloc[4]["n, each"] == "2 to 4"
    assert uneven.iloc[0]["PTR, clean data"].endswith(", n = 4") and "n = 8" in uneven.iloc[0]["SFT, clean data"]
    assert not table.iloc[0].astype(str).str.contains("n = ").any()
    assert table.iloc[4]["SFT, clean data"].startswith("0 [") and table.iloc[4]["PTR, clean data"].startswith("100 [")


@pytest.mark.parametrize(("successes", "told"), [(5, "which reaches the half"), (4, "rank nothing")])
def test_methods_are_compared_above_the_floor_only(successes, told):
    episodes = pd.DataFrame([{"task": task, "method": "sft", "corruption": "none", "success": scene < successes}
                             for task in ("OpenDrawer", "CloseDrawer") for scene in range(10)])
    others = episodes.assign(task="TurnOnStove", success=True)
    text = kitchen.floor(pd.concat([episodes, others, episodes.assign(method="ptr", success=True)]))
    assert told in text and "of 20 episodes of 2 Door/Drawer tasks" in text
    assert "No run of SFT" in kitchen.floor(others) and kitchen.benchmark_of(others) is None
    assert kitchen.benchmark_of(episodes) == ("RoboCasa" if told.startswith("which reaches") else None)


def test_a_task_is_called_by_the_papers_category():
    assert kitchen.category("CloseDrawer") == "Doors and drawers" and kitchen.category("TurnOnStove") == "Others"
    with pytest.raises(ValueError, match="RoboCasa has no task 'Dance'"):
        kitchen.category("Dance")


def test_the_stored_policies_are_introduced_by_what_they_learned_from():
    stored = results.runs_of("robocasa_corruption")
    text = kitchen.introduction(stored)
    assert text.startswith("**RoboCasa") and f"({len(stored)} runs, one by one on the provenance page)" in text
    assert ("8000 steps from 40 clean demonstrations of each of 6 tasks, then for 400 steps of 64 places for chunks "
            "(53 filled on average) from 20 others") in text
    table = kitchen.policy_table(results.episodes_frame(stored).query("corruption == 'none'"))
    assert table.tasks.tolist()[:2] == ["Doors and drawers, together", "Others, together"]
    assert table["n, each"].tolist() == ["30 to 120", "30 to 120"] + ["10 to 40"] * 6  # of 1 to 4 seeds


def test_the_start_is_shown_with_its_own_episodes_and_its_own_start():
    config = results.runs_of("robocasa_corruption")[0].setting.config
    episodes = kitchen.start_episodes(config)
    note = kitchen.start_note(episodes)
    assert f"`{config.initial_policy}`, succeeds in 60.0 [47.4, 71.4] % of 60 episodes" in note
    assert "(init states 0 to 9)" in note
    assert kitchen.policy_table(episodes).columns.tolist() == ["tasks", "SFT", "n, each"]
    nowhere = override(config, {"initial_policy": "robocasa_six-sft-none-s9-00000000"})
    assert kitchen.start_episodes(nowhere).empty


def test_policies_are_compared_on_the_same_scenes():
    episodes = pd.DataFrame([{"task": "CloseDrawer", "init_state": scene, "training_seed": 0, "method": method,
                              "corruption": "none", "success": method == "ptr" or scene < 2}
                             for method in ("sft", "ptr") for scene in range(8)])
    text = kitchen.comparison(episodes)
    assert text.startswith("With clean data PTR minus SFT is +75.0 [") and "**PTR succeeds more often**" in text
    assert "over 8 pairs of scene and training seed" in text and "combined" not in text
    assert "cannot be told" in kitchen.comparison(episodes.assign(success=True))
    both = kitchen.comparison(pd.concat([episodes, episodes.assign(corruption="combined")]))
    assert both.startswith(text) and "With combined corruption PTR minus SFT is +75.0 [" in both
    assert kitchen.comparison(episodes[episodes.method == "sft"]) == ""


def test_failures_of_an_open_task_are_told_by_what_ended_them():
    attempts = pd.DataFrame([{"task": "OpenDoubleDoor", "style": style, "success": number >= 4,
                              "steps": 700 if number < 3 else 300, "phase": "pull"}
                             for style in ("slow", "precise") for number in range(8)])
    text = kitchen.still_open(pd.concat([attempts, attempts.assign(task="OpenDrawer", success=True)]))
    assert text.startswith("- OpenDoubleDoor: 8 of 16 attempts fail, 6 of them because the library's time ran out")
    assert "pull 8" in text and "slow 4" in text and "OpenDrawer" not in text
    table = kitchen.style_table(attempts)
    assert table.columns.tolist() == ["task", "precise", "slow"] and table.iloc[0].tolist() == [
        "OpenDoubleDoor", "4 of 8", "4 of 8"]
    quick = attempts.assign(success=(attempts["style"] == "precise") | attempts.success)
    assert "**0 of 1 tasks reach 80% in every style**" in kitchen.style_note(quick)
    assert "**1 of 1 tasks" in kitchen.style_note(quick[quick["style"] == "precise"])


def test_gentler_training_is_told_beside_the_start_in_its_scenes():
    stored = results.runs_of("robocasa_rate")
    table = kitchen.gentler(stored)
    assert table["learning rate"].tolist() == ["none: the start policy"] * 2 + ["0.0001"] * 2 + ["3e-05"] * 2
    assert table["succeeds in"].tolist() == ["36 of 60", "18 of 30", "26 of 60", "14 of 30", "23 of 60", "12 of 30"]
    told = kitchen.gentler_note(stored)
    assert "the one at 0.0001 for 400 steps on demonstrations (20 a task), in segments of 4, keeps the most" in told
    assert "Door/Drawer episodes, 14;" in told and "**which is not enough**" in told
    assert kitchen.of_demonstrators(stored) == ""
    elsewhere = results.runs_of("robocasa_corruption")[:1]
    with pytest.raises(ValueError, match="were not judged in the same scenes; evaluate them"):
        kitchen.gentler(elsewhere)


def test_part_of_the_demonstrators_is_compared_with_all_of_them_in_the_same_scenes():
    stored = [run for name in ("robocasa_fifty_rate", "robocasa_operators") for run in results.runs_of(name)]
    rates = {run.setting.method: results.episodes_frame([run]).success.mean() for run in stored
             if run.setting.config.ptr.optimization.learning_rate == 0.0001}
    told = kitchen.of_demonstrators(stored)
    assert told.count("points") == 5 and "; 10 demonstrations a task of all: " in told
    few = 100 * (rates["sft@precise"] - rates["sft@fifth"])
    assert f"And precise alone minus 10 demonstrations a task of all: {few:+.1f} [" in told
    assert f"precise alone: {100 * (rates['sft@precise'] - rates['sft']):+.1f} [" in told
    assert "more often, in this one training run of each**" in told
    note = kitchen.gentler_note(stored)  # the precise one alone keeps 17, and leaves a weighting nothing to choose from
    assert "Door/Drawer episodes, 13;" in note and "**which is not enough**" in note


def test_the_floor_looks_at_robocasas_episodes_alone():
    episodes = pd.DataFrame([{"task": task, "method": "sft", "corruption": "none", "success": task == "OpenDrawer"}
                             for task in ("OpenDrawer", "put the bowl on the plate") for _ in range(4)])
    assert "of 4 episodes of 1 Door/Drawer tasks, which reaches the half" in kitchen.floor(episodes)
