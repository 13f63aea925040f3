"""Which negatives PTR's score is set against: the section's numbers are those of its runs."""

from __future__ import annotations

import pytest

from ptrlib.report import pool, results
from ptrlib.report.claim import truth_auroc


@pytest.fixture(scope="module")
def stored():
    return results.runs_of("tabletop_pool")


@pytest.fixture(scope="module")
def told(stored):
    return pool.discrimination(stored)


def test_a_score_is_judged_on_all_chunks_and_within_tasks(stored, told):
    weights = results.last_weights_frame([run for run in stored if run.setting.method == "ptr_state"])
    mine = told[told.method == "ptr_state"].set_index(["corruption", "within"]).estimate
    assert mine[pool.ANY, False] == pytest.approx(truth_auroc(weights, "ptr_state").estimate)
    assert set(told.method) == set(pool.SCORERS)
    alone = weights.truth_label_noise & ~weights.truth_action_noise & ~weights.truth_truncation
    label = weights[(weights.split == "train") & weights.valid & (~weights.corrupted | alone)]
    by_hand = []
    for _, run in label.groupby("run", observed=True):
        wins, pairs = 0.0, 0
        for _, task in run.groupby("task", observed=True):
            gaps = task.score[~task.corrupted].to_numpy()[:, None] - task.score[task.corrupted].to_numpy()
            wins, pairs = wins + (gaps > 0).sum() + (gaps == 0).sum() / 2, pairs + gaps.size
        by_hand.append(wins / pairs)
    assert mine["label_noise", True] == pytest.approx(sum(by_hand) / len(by_hand))


def test_the_table_and_the_answers_are_those_of_the_runs(stored, told):
    table = pool.table(stored, told).set_index(["hard negatives", "scorer's gradient"])
    episodes = results.episodes_frame(stored)
    row = table.loc["by state", "without"]
    mine = episodes[episodes.method == "ptr_state_detached"]
    assert row["success (%)"] == f"{100 * mine.success.mean():.1f}" and row.episodes == len(mine)
    shuffled = results.compare(episodes, {("ptr_state_detached", "combined"): 1.0,
                                          ("random_state_detached", "combined"): -1.0})
    assert row["minus its shuffled weights'"] == shuffled.text(100, sign=True)
    assert (table["minus its shuffled weights'"] == "–").sum() == 4
    answers = pool.answers(stored, told).set_index("question")
    assert len(answers) == 6 + 4 * 3 + 4 + 6 + 2
    for words, blind in (("PTR", True), ("PTR, hard by state", False), ("PTR, none hard", False)):
        said = answers.loc[f"Does the score of “{words}” tell corrupted chunks?"].answer
        assert said == ("cannot be told" if blind else "yes")  # what README says


def test_pools_are_compared_on_the_same_chunks(stored, told):
    answers = pool.answers(stored, told).set_index("question")
    by_kind = told[(~told.within) & (told.corruption == "label_noise")].set_index("method").estimate
    number = answers.number[f"Hard negatives: by state, minus by task, {pool.PANELS[0]}: AUROC of label noise"]
    assert number.startswith(f"{by_kind['ptr_state'] - by_kind['ptr']:+.3f} [")
    table = pool.table(stored, told)
    weights = results.last_weights_frame([run for run in stored if run.setting.method == "ptr"])
    share = weights[weights.split == "train"].groupby("run", observed=True).corrupted.mean().mean()
    assert table["corrupted chunks (%)"][0].startswith(f"{100 * share:.1f} [")


def test_the_chart_has_a_panel_with_the_scorers_gradient_and_one_without(told):
    _, drawn = pool.chart(told)
    assert tuple(dict.fromkeys(drawn.kind)) == pool.PANELS
    assert set(drawn.method) == {pair[0] for pair in pool.POOLS.values()} and len(drawn) == 6 * 4
    assert not drawn.within.any()
