"""The table of everything: what README.md shows is what the stored runs hold."""

from __future__ import annotations

import pytest

from ptrlib.report import REPOSITORY, overview, results
from ptrlib.report.statistics import wilson_interval


@pytest.fixture(scope="module")
def shown():
    return overview.table()


def test_the_readme_holds_the_table_of_the_stored_runs(shown):
    text = (REPOSITORY / "README.md").read_text()
    assert overview.written_into(text, shown) == text, "write it anew: python -m ptrlib.report.overview"
    other = text.replace("| Tabletop (easy), clean", "| Tabletop (easier), clean", 1)
    assert other != text and overview.written_into(other, shown) == text


def test_a_cell_is_counted_from_the_episodes(shown):
    episodes = results.episodes_frame(results.runs_of("libero_corruption"))
    mine = episodes[(episodes.method == "oracle") & (episodes.corruption == "combined")]
    row = shown.set_index("world, data").loc["LIBERO (spatial), combined corruption"]
    assert row["oracle filter"] == wilson_interval(int(mine.success.sum()), len(mine)).text(100)
    assert row["episodes each (seeds)"] == f"{len(mine)} ({mine.training_seed.nunique()})"
    clean = shown["world, data"].str.endswith("clean data")
    assert not shown.isna().any().any() and (shown["oracle filter"] == "–").tolist() == clean.tolist()


def test_other_kinds_of_data_and_fewer_worlds_can_be_asked_for():
    asked = overview.table(["tabletop_hard"], kinds=["none"])
    assert asked["world, data"].tolist() == ["Tabletop (hard), clean data"] and "oracle filter" not in asked


def test_a_readme_without_the_marks_is_refused(shown):
    with pytest.raises(ValueError, match="README.md must hold .* put them back"):
        overview.written_into("nothing", shown)
