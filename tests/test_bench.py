"""The benchmarks on a tiny setting, what the speed page makes of them, and the page itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from ptrlib.report import REPOSITORY, book, speed
from ptrlib.report.figures import FOLDER_VARIABLE

BENCH = REPOSITORY / "experiments" / "bench"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of results of all benchmarks, tiny."""
    folder = tmp_path_factory.mktemp("bench") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        patch.chdir(REPOSITORY)
        import speed as bench
        bench.main(bench.Bench(rounds=2, libero_rounds=1, repeats=2, batch=8, stage_rounds=1, pool_rounds=6,
                               pool_sizes=(64, 4096), tables=6, per_task=2, out=folder))
    return folder


def test_every_rule_takes_the_same_batches_and_its_parts_are_the_step(measured):
    steps, parts = speed.table("steps", measured), speed.table("parts", measured)
    assert set(steps.policy) == {"tabletop", "libero"} and set(steps.rule) == {
        "sft", "sft_belief", "ptr", "ptr_full_targets", "ptr_half_targets", "ptr_quarter_targets"}
    assert (steps.groupby(["policy", "round"]).chunks.nunique() == 1).all()
    keys = ["policy", "rule", "round"]
    whole = steps.set_index(keys).seconds
    assert (whole > 0).all()
    assert parts.groupby(keys).seconds.sum()[whole.index].to_numpy() == pytest.approx(whole.to_numpy(), rel=1e-3)
    assert set(parts.part) == set(speed.PARTS)
    with_scorer = set(parts[parts.part.isin(["target encoder", "candidate pool"])].rule)
    assert with_scorer == {"ptr", "ptr_full_targets", "ptr_half_targets", "ptr_quarter_targets"}
    assert "belief tokenizer" not in set(parts[parts.rule == "sft"].part)


def test_the_sizes_of_targets_that_are_measured_are_those_beside_the_default(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.chdir(REPOSITORY)
    import demonstrations
    for policy, sizes in (("tabletop", {"": 32, "half": 16, "quarter": 8}),
                          ("libero", {"": 64, "full": 128, "quarter": 32})):
        chosen = demonstrations.settings(policy)
        assert {rule.removeprefix("ptr").removesuffix("_targets").strip("_"): config.network.target_pixels
                for rule, config in chosen.items() if rule.startswith("ptr")} == sizes


def test_the_record_says_where_and_when(measured):
    made = speed.record(measured)
    assert {"commit", "machine", "packages", "load_average", "started"} <= set(made) and made["gpu"] is None
    assert "no GPU" in speed.circumstances(made)
    assert not [path for path in measured.iterdir() if path.suffix not in {".csv", ".json"}]


def test_the_median_has_the_interval_of_order_statistics():
    """Of nine values the second and the eighth hold the median with 1 - 2 (1 + 9) / 512; of five, none do at 95 %."""
    found = speed.median([9, 1, 8, 2, 7, 3, 6, 4, 5])
    assert (found.estimate, found.low, found.high, found.count) == (5, 2, 8, 9)
    assert speed.median([3, 1, 2]).estimate == 2 and math.isnan(speed.median([1, 2, 3, 4, 5]).low)
    assert speed.median(range(6)).low == 0 and speed.median(range(6)).high == 5
    generator = np.random.default_rng(0)
    covers = [speed.median(row).low <= 0 <= speed.median(row).high for row in generator.normal(size=(2000, 15))]
    assert np.mean(covers) == pytest.approx(1 - 2 * sum(math.comb(15, k) for k in range(4)) / 2**15, abs=0.012)


def made_up(ratio: float, rate: float, rounds: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps of PTR that take ``ratio`` times as long as the others', give or take 0.02, on rounds that differ."""
    rows = [{"policy": "tabletop", "device": "cpu", "compiled": False, "precision": "float32", "rule": rule,
             "round": number, "chunks": 50,
             "seconds": (1 + number) * (ratio + 0.02 * (-1) ** number if rule == "ptr" else 1.0)}
            for number in range(rounds) for rule in ("sft", "sft_belief", "ptr")]
    simulated = [{"stage": "simulator", "unit": "control steps", "round": number, "count": 400,
                  "seconds": 400 / rate / (1 + 0.02 * (-1) ** number)} for number in range(rounds)]
    return pd.DataFrame(rows), pd.DataFrame(simulated)


@pytest.mark.parametrize(("ratio", "rate", "answers"), [
    (1.05, 500_000, ["met", "met"]), (1.4, 300_000, ["not met"] * 2), (1.15, 400_000, ["cannot be told"] * 2)])
def test_a_goal_is_judged_by_the_whole_interval(ratio, rate, answers):
    judged = speed.goals(*made_up(ratio, rate))
    assert list(judged.answer) == answers
    met = answers.count("met")
    assert speed.verdict(judged).startswith(f"{met} of 2 goals are met, {answers.count('not met')} are not")
    found = speed.ratios(made_up(ratio, rate)[0]).set_index(["rule", "against"])
    assert found.loc[("ptr", "sft"), "median"] == pytest.approx(ratio) and len(found) == 3
    shown = speed.ratio_table(found.reset_index())
    assert shown["median [95 %]"][1].startswith(f"{ratio:.3f} [") and shown["over one of"].tolist()[1] == "SFT"


def test_what_is_missing_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"steps\.csv is missing; measure it with: make bench$"):
        speed.table("steps", tmp_path)
    with pytest.raises(ValueError, match=r"speed\.json is missing; measure it with: make bench$"):
        speed.record(tmp_path)
    (tmp_path / "pool.csv").write_text("size,operation\n")
    with pytest.raises(ValueError, match=r"pool\.csv has no column 'round'; measure it again with: make bench$"):
        speed.table("pool", tmp_path)


def test_evaluation_is_set_beside_the_stock_loop_by_its_records(tmp_path):
    assert speed.against_stock(tmp_path).empty
    shown = speed.against_stock()
    assert shown.world.str.contains("LIBERO").sum() == shown.world.str.contains("RoboCasa").sum() == 1
    made = json.loads((speed.STOCK / "robocasa_speed.json").read_text())
    (tmp_path / "robocasa_speed.json").write_text(json.dumps(made))
    row = speed.against_stock(tmp_path).iloc[0]
    assert row["times as fast"] == pytest.approx(made["speedup"]["wall"], abs=0.01)
    walls = [episode["wall"] for episode in made["results"]["plain loop"]["episodes"]]
    assert row["plain loop (s each)"] == f"{min(walls):.1f} to {max(walls):.1f}"
    assert row.commit == made["commit"][:8] and "minimal kitchen" in row.world


def test_the_page(measured, tmp_path, monkeypatch):
    for name in ("JUPYTER_PREFER_ENV_PATH", "MPLBACKEND", FOLDER_VARIABLE):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(book, "APART", tmp_path)
    executed = book.run_notebook("speed", {"results": str(measured)})
    text = executed.read_text()
    assert "times as fast" in text and "goals are met" in text
    assert "no GPU: the goals for one are not judged here" in text
    steps, parts, pool = (speed.table(name, measured) for name in ("steps", "parts", "pool"))
    drawn = {"speed_overhead": speed.ratios(steps), "speed_parts": speed.parts_chart(parts)[1],
             "speed_pool": speed.pool_chart(pool, 1024)[1]}
    for name, frame in drawn.items():
        stored = pd.read_csv(executed.parent / "figures" / f"{name}.csv")
        pd.testing.assert_frame_equal(stored, frame.reset_index(drop=True), rtol=1e-5, check_dtype=False)
    first = parts[(parts.policy == "tabletop") & (parts.rule == "ptr") & (parts.part == "backward pass")]
    bars = drawn["speed_parts"].set_index(["policy", "rule", "part"]).milliseconds
    assert bars["tabletop", "ptr", "backward pass"] == pytest.approx(1000 * first.seconds.median())
