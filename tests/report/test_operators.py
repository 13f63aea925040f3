"""Who among the demonstrators costs success: rates and differences are those of the stored runs."""

from __future__ import annotations

import pytest

from ptrlib.report import operators, results, start


@pytest.fixture(scope="module")
def table():
    return operators.gains(["tabletop_operators"])


def test_every_set_of_demonstrations_is_told_beside_everybodys(table):
    rows = table.set_index("demonstrations")
    assert list(rows.index) == [operators.ALONE, *operators.SETS.values()]
    episodes = results.episodes_frame(results.runs_of("tabletop_operators"))
    rates = episodes.groupby("method", observed=True).success.mean()
    for method, words in operators.SETS.items():
        assert rows.n[words] == 2000 and rows.seeds[words] == 5
        assert rows.success[words].startswith(f"{100 * rates[method]:.1f} [")
        if method != "sft":
            assert rows.estimate[words] == pytest.approx(100 * (rates[method] - rates["sft"]))
    left = start.episodes_of("tabletop_corruption")
    assert rows.n[operators.ALONE] == len(left) == 400
    assert rows.estimate[operators.ALONE] == pytest.approx(100 * (left.success.mean() - rates["sft"]))
    assert rows.low[operators.ALONE] < rows.estimate[operators.ALONE] < rows.high[operators.ALONE]


def test_runs_learned_from_the_demonstrators_that_their_row_names():
    for run in results.runs_of("tabletop_operators"):
        left_out = {"without_slow": "slow", "without_hesitant": "hesitant", "without_noisy": "noisy",
                    "without_recovery": "recovery"}.get(run.setting.method)
        chosen = set(run.setting.config.data.operators)
        assert chosen == ({"precise"} if run.setting.method == "precise" else
                          {"precise", "slow", "hesitant", "noisy", "recovery"} - {left_out} if left_out else set())
        demonstrators = set(results.last_weights_frame([run]).operator)
        assert demonstrators == (chosen or {"precise", "slow", "hesitant", "noisy", "recovery"})


def test_the_chart_leaves_out_what_all_is_compared_with(table):
    drawn = operators.for_chart(table)
    assert operators.ALL not in set(drawn.group) and len(drawn) == len(table) - 1 and drawn.notna().all().all()


def test_the_verdict_sets_a_judge_of_demonstrators_beside_ptr(table):
    clean = results.episodes_frame(results.runs_of("tabletop_corruption"))
    told = operators.verdict(table, clean)
    assert told.count("\n") == 0 and "**there is something to win by judging demonstrators**" in told
    ptr = results.compare(clean, {("ptr", "none"): 1.0, ("sft", "none"): -1.0})
    assert f"PTR by {ptr.text(100, sign=True)} points" in told
    flat = table.assign(low=-1.0, high=1.0)
    assert "**whether judging them wins anything cannot be told**" in operators.verdict(flat, clean)


def test_from_scratch_the_precise_ones_are_set_against_all_and_against_as_many():
    episodes = results.episodes_frame(results.runs_of(operators.SCRATCH))
    lines = operators.without_start(episodes).splitlines()
    assert len(lines) == 3 and all("n = 2000" in line for line in lines)
    rates = 100 * episodes.groupby("method", observed=True).success.mean()
    assert f"({rates['precise']:.1f} [" in lines[0] and f"({rates['sft']:.1f} [" in lines[0]
    assert f"{rates['precise'] - rates['fifth']:+.1f} [" in lines[1] and lines[1].endswith("**ahead**")
    swapped = episodes.astype({"method": str}).replace({"method": {"precise": "fifth", "fifth": "precise"}})
    assert operators.without_start(swapped).splitlines()[1].endswith("**behind**")
