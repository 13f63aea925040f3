"""What belief tokens without the next chunk's labels change: the same questions, over the same scenes."""

from __future__ import annotations

import pytest

from ptrlib.report import foresight, results


@pytest.fixture
def unchanged(monkeypatch):
    """The hard suite set against itself."""
    monkeypatch.setitem(foresight.COMPARED, "tabletop_hard", "tabletop_hard")
    return "tabletop_hard"


def test_where_nothing_was_mended_nothing_differs(unchanged):
    table = foresight.table(unchanged).set_index(["data", "question"])
    for method in ("PTR", "SFT+Belief", "random weights"):
        same = table.loc["combined corruption", f"{method}, tokens of what is over minus {method}"]
        assert same.number == "+0.0 [+0.0, +0.0] points, n = 2000" and same.answer == "cannot be told"
    scores = [table.loc["combined corruption", f"Does PTR's score tell corrupted chunks, {words}?"].number
              for words in ("as first run", "tokens of what is over")]
    assert scores[0] == scores[1] and scores[0].startswith("AUROC 0.")
    assert not any("α = 0" in question for _, question in table.index)  # not run on the hard suite


def test_the_chart_sets_both_versions_against_sft(unchanged):
    _, drawn = foresight.chart(unchanged)
    episodes = results.episodes_frame(results.runs_of(unchanged))
    gain = results.compare(episodes, {("ptr", "combined"): 1.0, ("sft", "combined"): -1.0})
    mine = drawn[(drawn.method == "ptr") & drawn.corruption.str.startswith("combined")]
    assert len(mine) == 2 and mine.estimate.to_numpy() == pytest.approx(100 * gain.estimate)
    assert set(drawn.method) == {"sft_belief", "ptr", "random"} and len(drawn) == 3 * 2 * 2


def test_the_sentence_says_what_ptr_comes_to_without_the_fault(unchanged, monkeypatch):
    text = foresight.sentence(unchanged)
    assert text.count("**PTR is behind**") == 2 and "as first run -11.2 [" in text
    assert foresight.sentence("libero_corruption") == ""
    monkeypatch.setitem(foresight.COMPARED, "tabletop_hard", "robocasa_passing_precise")  # not made yet
    monkeypatch.setattr(results, "is_stored", lambda name: name == "tabletop_hard")
    assert foresight.sentence(unchanged) == ""
