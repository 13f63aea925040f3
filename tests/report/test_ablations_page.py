"""Table 5 on Tabletop: rows, differences, stability and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptrlib import runs
from ptrlib.report import REPOSITORY, ablations, results

CHANCES = {"ptr": 0.7, "no_clipping": 0.4, "no_ema": 0.9, "no_belief": 0.7, "sft": 0.7}
METHODS = ["ptr", "no_belief", "no_ema", "no_clipping", "ptr_alpha0", "no_average", "sft"]  # of the tiny page


def episodes() -> pd.DataFrame:
    """Clean and corrupted episodes; every method meets the same luck in a scene."""
    luck = np.random.default_rng(0).random((3, 6, 20))
    return pd.DataFrame([{"method": method, "corruption": corruption, "training_seed": seed, "task": f"task {task}",
                          "init_state": scene, "success": bool(luck[seed, task, scene] < chance - loss)}
                         for method, chance in CHANCES.items()
                         for corruption, loss in (("none", 0.0), ("combined", 0.2))
                         for seed in range(3) for task in range(6) for scene in range(20)])


def metrics(method: str, seed: int, factor: float) -> pd.DataFrame:
    """A run whose loss alternates between 1 and exp(``factor``); one gradient in 20 is 1 + 9 ``factor``, the rest 1."""
    step = np.arange(1, 201)
    return pd.DataFrame({"step": step, "run": f"{method}-{seed}", "method": method, "corruption": "combined",
                         "training_seed": seed, "loss_action": np.exp(factor * (step % 2)),
                         "gradient_norm": 1 + 9 * factor * (step % 20 == 0), "weight_mean": 1.0, "weight_std": factor,
                         "nce_acc": 0.5 + 0.1 * factor * (step % 2)})


def test_the_papers_drops_are_the_differences_of_its_averages_and_none_is_a_gain():
    drops = ablations.published_drops()
    assert list(drops.index) == list(ablations.ROWS) and (drops.loc["ptr"] == 0).all()
    assert drops.loc["no_clipping"].tolist() == pytest.approx([-2.3, -6.5])
    assert (drops.drop("ptr") < 0).all(axis=None)  # what the headline says of the paper


def test_the_table_holds_our_rates_and_paired_differences_beside_the_papers():
    drawn = episodes()
    table = ablations.table(drawn).set_index("configuration")
    assert list(table.index) == ["PTR (full)", "w/o belief tokens", "w/o EMA (frozen enc.)", "w/o clipping", "SFT"]
    row = table.loc["w/o clipping"]
    assert row["paper: LIBERO"] == "95.5 (-2.3)" and table.loc["SFT", "paper: LIBERO"] == ""
    cell = drawn[(drawn.method == "no_clipping") & (drawn.corruption == "combined")].success
    assert row["ours: combined corruption"].startswith(f"{100 * cell.mean():.1f} [")
    assert row["ours: combined corruption"].endswith(f"n = {len(cell)}")
    gain = results.difference(drawn, "no_clipping", "ptr", "combined").text(100, sign=True)
    assert row["minus PTR: combined corruption"] == gain and table.loc["PTR (full)", "minus PTR: clean data"] == ""
    gain = results.difference(drawn, "no_clipping", "sft", "combined").text(100, sign=True)
    assert row["minus SFT: combined corruption"] == gain and table.loc["SFT", "minus SFT: clean data"] == ""


def test_verdicts_and_headline_follow_the_intervals():
    told = ablations.verdicts(episodes())
    answer = dict(zip(told.question.str.partition(" (paper:")[0], told.answer, strict=True))
    for corruption in ("clean data", "combined corruption"):
        assert answer[f"w/o clipping, {corruption}"] == "costs success"
        assert answer[f"w/o EMA (frozen enc.), {corruption}"] == "raises success"
        assert answer[f"w/o belief tokens, {corruption}"] == "cannot be told"
    assert len(told) == 6  # SFT is a reference, not a part
    line = ablations.headline(episodes()).splitlines()[2]
    assert line == ("- With clean data, taking the part away **costs success** for w/o clipping; **raises success** "
                    "for w/o EMA (frozen enc.); **makes no difference that can be told** for w/o belief tokens.")
    assert "0.3 of 6 such intervals would leave it out" in ablations.headline(episodes())


def test_an_answer_at_the_edge_of_its_interval_says_so(monkeypatch):
    monkeypatch.setattr(ablations, "differences", lambda *_: pd.DataFrame(
        [{"method": "no_belief", "corruption": "none", "estimate": -0.02, "low": -0.04, "high": -0.0005, "count": 9}]))
    assert ablations.verdicts(episodes()).answer.tolist() == ["costs success, barely"]
    assert "**costs success** for w/o belief tokens (barely)." in ablations.headline(episodes())


def test_how_often_the_clip_binds_is_told_for_each_kind_of_data():
    weights = pd.DataFrame({"method": "ptr", "corruption": "none", "run": "a", "split": "train", "valid": True,
                            "step": [5, 10, 10, 10, 10], "weight": [4.0, 4.0, 1.0, 1.0, 1.0]})
    assert "25.0 % with clean data (1 runs)" in ablations.clip_note(weights)
    assert ablations.clip_note(weights.assign(method="sft")) == ""


def test_the_papers_marks_stand_beside_ours_without_an_interval():
    measured = ablations.differences(episodes())
    joined, labels = ablations.beside_the_paper(measured)
    printed = joined[joined.corruption == "paper, RoboCasa"].set_index("method")
    assert set(printed.index) == {"no_clipping", "no_ema", "no_belief"}
    assert (printed.low == printed.high).all() and printed.estimate["no_clipping"] == pytest.approx(-0.065)
    assert list(labels.values())[:2] == ["ours, clean data", "ours, combined corruption"] and len(labels) == 4


def test_instability_is_what_it_says_and_compares_runs_of_a_seed():
    drawn = pd.concat([metrics(method, seed, factor * (1 + seed)) for seed in range(3)
                       for method, factor in (("ptr", 0.1), ("no_clipping", 0.3), ("sft", 0.0))])
    luck = np.exp(np.random.default_rng(0).normal(size=drawn.step.max()))  # of the minibatch, the same for all methods
    drawn["loss_action"] *= luck[drawn.step - 1]
    measured = ablations.instability(drawn, warmup_steps=20)
    first = measured[(measured.method == "ptr") & (measured.training_seed == 0)].iloc[0]
    assert first.loss == pytest.approx(0.1, rel=0.01)  # the logarithm jumps by 0.1 up and down
    assert first.gradient == pytest.approx(1.9) and first.sample_size == pytest.approx(1 - 1 / 1.01)
    ratio = ablations.against_ptr(measured, "no_clipping", "loss")
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((3.0, 3.0, 3.0))
    table = ablations.instability_table(measured)
    assert table["w/o clipping"].iloc[0] == "3.00 [3.00, 3.00]"
    alone = ablations.against_ptr(measured[measured.training_seed == 0], "no_clipping", "loss")
    assert alone.estimate == pytest.approx(3.0) and np.isnan(alone.low)


def test_heavy_tails_count_the_chunks_above_ten_and_answer_the_statement():
    weights = pd.DataFrame({"method": "no_clipping", "corruption": "combined", "run": "a", "split": "train",
                            "valid": True, "step": [5] * 4 + [10] * 4,
                            "weight": [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 11.0, 50.0]})
    ignored = weights.assign(split="held_out", weight=99.0), weights.assign(valid=False, weight=99.0)
    tails = ablations.heavy_tails(pd.concat([weights, *ignored])).set_index("moment")
    assert tails.above.tolist() == [0.0, 0.5] and tails.largest.tolist() == [1.0, 50.0]
    assert tails.sample_size["early"] == 1.0
    assert tails.sample_size["late"] == pytest.approx(64 ** 2 / (1 + 4 + 121 + 2500) / 4)
    measured = ablations.instability(pd.concat([
        metrics(method, seed, factor and factor + 0.01 * seed) for seed in range(3)
        for method, factor in (("ptr", 0.3), ("no_clipping", 0.1), ("sft", 0.0))]), 20)
    told = ablations.stability_verdicts(measured, tails.reset_index())
    assert told.answer.tolist()[:2] == ["does not hold, there are none", "holds"]
    assert told.answer.str.startswith("does not hold, less").tolist()[2:] == [True, True] and len(told) == 4


def test_without_clipping_no_weight_meets_the_upper_end_and_no_sum_overflows():
    (config, *_) = [setting.config for setting in runs.load_manifest(
        REPOSITORY / "experiments/tabletop_ablations.yaml").settings if setting.method == "no_clipping"]
    batch = config.ptr.optimization.batch_size
    highest = (batch + config.ptr.queue_negatives) ** (1 / config.ptr.beta_min)  # exp(T / beta), T = log|Y|
    assert highest < config.ptr.w_max and batch * config.ptr.w_max ** 2 < np.finfo(np.float32).max
    assert config.ptr.w_min > 1 / np.sqrt(np.finfo(np.float32).max)


def test_one_row_of_the_table_is_trained_by_two_processes():
    settings = runs.load_manifest(REPOSITORY / "experiments/tabletop_ablations.yaml").settings
    ranks = {setting.method: setting.config.ranks for setting in settings}
    assert {method for method, count in ranks.items() if count > 1} == {"no_gather"}
    assert set(ablations.ROWS) | set(ablations.REFERENCES) == set(ranks)
    assert all(setting.config.ptr.cross_rank_gather == (setting.method != "no_gather") for setting in settings)


def test_without_ptr_or_a_scorer_or_weights_there_is_less_to_show_and_no_error():
    mine = episodes()
    for left in (mine[mine.method == "ptr"], mine[mine.method != "ptr"]):
        table = ablations.table(left)
        assert len(table) == left.method.nunique() and not any("minus PTR" in column for column in table)
    assert "nothing to conclude" in ablations.headline(mine[mine.method == "ptr"])
    blind = metrics("sft", 0, 0.3).drop(columns="nce_acc")
    measured = ablations.instability(blind, 20)
    assert measured.accuracy.isna().all() and np.isfinite(measured.loss).all()
    assert ablations.curves(blind, 1)[1]["nce_acc mean"].isna().all()
    tails = ablations.heavy_tails(pd.DataFrame(columns=["split", "valid", "method", "corruption", "run"]).astype(
        {"valid": bool}))
    short = ablations.instability(blind, 1000)  # shorter than the warm-up
    assert ablations.stability_verdicts(measured, tails).empty and ablations.stability_verdicts(short, tails).empty


def test_the_page_shows_what_its_runs_hold(tiny_book):
    stored = tiny_book.make("tabletop_ablations", methods=METHODS, changes={"data.corruption": ["none", "combined"]})
    page = tiny_book.execute("ablations", methods=METHODS)
    mine, course = results.episodes_frame(stored), results.metrics_frame(stored)
    rates, measured = results.success_rates(mine), ablations.differences(mine)
    in_percent = rates.assign(**{name: 100 * rates[name] for name in ("success", "low", "high")})
    pd.testing.assert_frame_equal(page.frame("ablation_success"), in_percent, rtol=1e-4, check_dtype=False)
    drawn = page.frame("ablation_differences")
    ours = drawn[~drawn.corruption.str.startswith("paper")].reset_index(drop=True)
    for name in ("estimate", "low", "high"):
        assert ours[name].to_numpy() == pytest.approx(100 * measured[name].to_numpy(), rel=1e-4, abs=1e-9)
    curves = page.frame("ablation_curves").set_index(["method", "step"])
    of_ptr = ablations.with_sample_size(course[(course.method == "ptr") & (course.corruption == "combined")])
    last = of_ptr.sort_values("step").iloc[-10:]  # fewer than the window: all of them
    assert curves.loc[("ptr", last.step.max()), "sample_size mean"] == pytest.approx(last.sample_size.mean(), rel=1e-4)
    assert set(curves.index.get_level_values("method")) == {"sft", "ptr", "no_clipping", "no_ema", "no_average"}
    text = page.text()
    assert "97.8" in text and "With one training seed per configuration" in text and "In the paper's averages" in text
    assert "LIBERO is not shown: " in text and "ptrlib notebook ablations source=fresh seeds=1" in text
