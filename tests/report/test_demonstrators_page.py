"""The demonstrators' page counts what was recorded, and says what was not."""

from __future__ import annotations

import pandas as pd
import pytest

from ptrlib.report import demonstrators
from ptrlib.report.statistics import wilson_interval

STYLES = list(demonstrators.STYLES)


@pytest.fixture
def folder(tmp_path):
    """One suite whole with one failure in ten scenes, one begun."""
    for suite, scenes in (("libero_goal", 50), ("libero_10", 3)):
        rows = [{"suite": suite, "task": f"KITCHEN_SCENE3_open_drawer_{task}", "task_index": task, "init_state": scene,
                 "style": STYLES[scene % 5], "success": scene % 10 != 9, "steps": 80 + scene % 5, "phase": "place",
                 "commit": "0" * 40}
                for task in range(2) for scene in range(scenes)]
        pd.DataFrame(rows).to_csv(tmp_path / f"{suite}.csv", index=False)
    return tmp_path


def test_without_records_the_sentence_says_how_to_make_them(tmp_path):
    with pytest.raises(ValueError, match=r"holds no report .*demonstrators\.report --suite SUITE --out .*SUITE\.csv$"):
        demonstrators.attempts(tmp_path)
    with pytest.raises(ValueError, match=r"trajectories\.csv is missing; make it with: python -m .*trajectories --out"):
        demonstrators.trajectories(tmp_path)
    pd.DataFrame({"suite": ["a"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"a\.csv has no column 'task'; delete it"):
        demonstrators.attempts(tmp_path)


def test_rates_and_coverage_are_counts(folder):
    table = demonstrators.attempts(folder)
    assert list(dict.fromkeys(table.suite)) == ["libero_goal", "libero_10"]  # the benchmark's order
    counted = demonstrators.coverage(table)
    assert counted.loc["scenes in all"].to_dict() == {"libero_goal": 100, "libero_10": 6}
    assert counted.loc["in style slow"].to_dict() == {"libero_goal": 20, "libero_10": 2}
    rates = demonstrators.task_rates(table)
    whole, begun = rates.iloc[0], rates.iloc[-1]
    interval = wilson_interval(45, 50)
    assert (whole.successes, whole.attempts, whole.low, whole.high) == (45, 50, interval.low, interval.high)
    assert whole.unseen == pytest.approx(36 / 40) and whole.task == "open drawer 0"
    assert begun.scenes == 3 and pd.isna(begun.unseen)
    styles = demonstrators.style_rates(table).set_index(["suite", "style"])
    assert list(styles.loc["libero_goal"].index) == STYLES and styles.loc[("libero_goal", "recovery"), "success"] == 0.5
    assert styles.loc[("libero_goal", "slow"), "med"] == 81


def test_the_styles_of_a_scene_are_measured():
    rows = [{"style": style, "step": step, "x": 0.01 * step * moving, "y": 0.0, "z": 1.0, "distance": 0.1,
             "closing": step >= 3} for style, moving in (("slow", 0), ("precise", 1)) for step in range(5)]
    table = demonstrators.style_measures(pd.DataFrame(rows)).set_index("style")
    assert list(table.index) == ["precise", "slow"] and (table.closings == 1).all()
    assert table["path (m)"].to_dict() == pytest.approx({"precise": 0.04, "slow": 0.0})
    assert table["steps that move less than 1 mm"].to_dict() == {"precise": 0, "slow": 4}
