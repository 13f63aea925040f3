"""Table 1 on Tabletop: families, differences, verdicts and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptrlib import runs
from ptrlib.report import REPOSITORY, published, results, standard
from ptrlib.simulators.tabletop.tasks import SUITES

TASKS = {suite: [task.name for task in SUITES[suite]] for suite in ("easy", "hard")}


def episodes(success: dict[str, float], scenes: int = 40, seeds: int = 4) -> pd.DataFrame:
    """Clean episodes of both suites: the chance of each method, on scenes that are hard or easy for all of them."""
    generator = np.random.default_rng(0)
    rows = []
    for suite, tasks in TASKS.items():
        for task in tasks:
            luck = generator.random((seeds, scenes))
            for method, chance in success.items():
                rows += [{"suite": suite, "task": task, "init_state": scene, "training_seed": seed, "method": method,
                          "corruption": "none", "success": bool(luck[seed, scene] < chance)}
                         for seed in range(seeds) for scene in range(scenes)]
    return pd.DataFrame(rows)


def answers(success: dict[str, float]) -> pd.Series:
    told = standard.verdicts(episodes(success))
    return told.set_index(told.question.str.replace(r" \(.*", "", regex=True)).answer


def test_every_episode_counts_once_in_its_family_and_once_in_all():
    drawn = episodes({"sft": 0.5}, scenes=2, seeds=1)
    twice = standard.by_family(drawn)
    assert len(twice) == 2 * len(drawn) and not twice.family.isna().any()
    counted = twice.groupby(["suite", "family"]).task.nunique()
    assert counted["easy", "pick and place"] == 4 and counted["easy", "slider"] == counted["easy", "wipe"] == 2
    assert counted["hard", "push"] == counted["hard", "sequence"] == 4
    assert counted["easy", standard.ALL] == counted["hard", standard.ALL] == 8
    rates = standard.family_rates(drawn).set_index(["suite", "family"])
    slider = drawn[drawn.task.str.startswith("slide")]
    assert rates.loc[("easy", "slider"), "success"] == slider.success.mean()
    assert rates.loc[("easy", "slider"), "episodes"] == len(slider) == 4


def test_differences_are_those_of_the_rates_and_rows_follow_the_families():
    drawn = episodes({"sft": 0.6, "ptr": 0.8}, scenes=10)
    measured = standard.family_differences(drawn, "none").set_index(["suite", "family"])
    rates = standard.family_rates(drawn).set_index(["suite", "family", "method"]).success
    for suite, family in measured.index:
        assert measured.loc[(suite, family), "estimate"] == pytest.approx(
            rates[suite, family, "ptr"] - rates[suite, family, "sft"])
    chart = standard.for_chart(measured.reset_index())
    assert chart.group.tolist() == ["pick and place", "slider", "wipe", standard.ALL, "push", "sequence", standard.ALL]
    assert chart.estimate.tolist() == pytest.approx(100 * measured.loc[
        list(zip(["easy"] * 4 + ["hard"] * 3, chart.group, strict=True)), "estimate"].to_numpy())


def test_the_papers_rows_are_its_printed_numbers():
    table, printed = standard.published_rows(), published.success(published.SIMULATION)
    assert len(table) == printed.shape[1]
    average = table[(table.source == "paper, RoboCasa") & (table.tasks == "Avg")].iloc[0]
    assert float(average.PTR) == printed.loc["PTR", ("RoboCasa", "Avg")] and average["PTR − SFT"] == "+1.4"


@pytest.mark.parametrize(("ptr", "competitive", "better"), [
    (0.8, "holds", "cannot be told"), (0.95, "holds", "holds"), (0.5, "does not hold", "does not hold")])
def test_verdicts_follow_the_intervals(ptr, competitive, better):
    told = answers({"sft": 0.8, "ptr": ptr})
    assert (told[told.index.str.contains("stays competitive")] == competitive).all() and len(told) == 3
    assert told["hard suite: PTR beats SFT where tasks are harder"] == better


def test_what_the_episodes_cannot_settle_is_not_settled():
    drawn = episodes({"sft": 0.5}, scenes=2, seeds=2)
    drawn["success"] = drawn.init_state == 0
    other = drawn.assign(method="ptr", success=~drawn.success)  # wins as often as it loses
    told = standard.verdicts(pd.concat([drawn, other]))
    assert told.answer.str.startswith("cannot be told").all()
    assert "below the 60% that this book wants to see" in standard.headline(pd.concat([drawn, other]))
    assert "nothing to conclude" in standard.headline(drawn)


def test_a_benchmarks_stored_runs_stand_in_rows_of_their_own():
    stored = [run for run in results.runs_of("libero_corruption", REPOSITORY / runs.RUNS)
              if run.setting.config.data.corruption == "none"]
    drawn = results.episodes_frame(stored)
    (row,) = standard.benchmark_rows("libero_corruption", REPOSITORY / runs.RUNS).to_dict("records")
    sft = drawn[drawn.method == "sft"].success
    assert row["SFT"].startswith(f"{100 * sft.mean():.1f} [") and row["SFT"].endswith(f"n = {len(sft)}")
    gain = results.difference(drawn, "ptr", "sft", "none").text(100, sign=True)
    assert row["source"] == "ours, LIBERO (spatial)" and row["PTR − SFT"] == gain and "alpha" not in " ".join(row)


def test_the_page_shows_what_its_runs_hold(tiny_book):
    stored = [run for manifest in ("tabletop_corruption", "tabletop_hard")
              for run in tiny_book.make(manifest, changes={"data.corruption": ["none", "combined"]})]
    page = tiny_book.execute("standard")
    mine = results.episodes_frame(stored)
    mine = mine[mine.method.isin(["sft", "sft_belief", "ptr", "random", "oracle"])]
    rates = standard.family_rates(mine)
    clean = standard.for_chart(rates[rates.corruption == "none"], "success")
    pd.testing.assert_frame_equal(page.frame("standard_success"), clean, rtol=1e-4, check_dtype=False)
    for name, corruption in (("standard_differences", "none"), ("standard_corrupted", "combined")):
        expected = standard.for_chart(standard.family_differences(mine, corruption))
        pd.testing.assert_frame_equal(page.frame(name), expected, rtol=1e-4, check_dtype=False)
    text = page.text()
    cell = rates.set_index(["suite", "family", "corruption", "method"]).loc["hard", standard.ALL, "none", "ptr"]
    shown = f"{100 * cell.success:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}], n = {int(cell.episodes)}"
    assert shown in text and cell.episodes == 16
    assert "paper, RoboCasa" in text and "`libero_corruption` is not shown: " in text
    assert "ptrlib notebook standard source=fresh seeds=1" in text
