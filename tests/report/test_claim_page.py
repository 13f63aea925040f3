"""The chapter on when the claim holds: recovery, saturation, verdicts and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptrlib.report import claim, results

CHANCES = {("sft", "none"): 0.8, ("sft", "combined"): 0.3, ("oracle", "combined"): 0.7, ("crossfit", "combined"): 0.66,
           ("crossfit", "none"): 0.8, ("crossfit_random", "combined"): 0.3, ("ptr", "combined"): 0.3,
           ("ptr", "none"): 0.4, ("ptr_detached", "none"): 0.8}
METHODS = ["sft", "sft_masked", "ptr", "oracle", "crossfit", "crossfit_random"]  # of the tiny page


def episodes() -> pd.DataFrame:
    """Every rule meets the same luck in a scene, so that a chance is nearly its rate."""
    luck = np.random.default_rng(0).random((3, 6, 50))
    return pd.DataFrame([{"method": method, "corruption": corruption, "training_seed": seed, "task": f"task {task}",
                          "init_state": scene, "success": bool(luck[seed, task, scene] < chance)}
                         for (method, corruption), chance in CHANCES.items()
                         for seed in range(3) for task in range(6) for scene in range(50)])


def test_recovery_is_the_share_of_the_gap_that_is_won_back():
    rate = episodes().groupby(["method", "corruption"]).success.mean()
    share = claim.recovery(episodes(), "crossfit", "combined")
    gap = rate["oracle", "combined"] - rate["sft", "combined"]
    assert share.estimate == pytest.approx((rate["crossfit", "combined"] - rate["sft", "combined"]) / gap)
    assert 0.8 < share.low < share.estimate < share.high < 1.0
    assert claim.recovery(episodes(), "oracle", "combined").low == pytest.approx(1.0)
    assert claim.recovery(episodes(), "crossfit_random", "combined").estimate == 0.0


def test_where_there_is_no_gap_the_share_is_not_told():
    flat = episodes().assign(success=lambda table: np.random.default_rng(1).random(len(table)) < 0.5)
    share = claim.recovery(flat, "crossfit", "combined")
    assert np.isnan(share.low) and np.isnan(share.high)
    same = flat[flat.method.isin(["sft"])]
    none = pd.concat([same, same.assign(method="oracle"), same.assign(method="crossfit")])
    assert np.isnan(claim.recovery(none, "crossfit", "combined").estimate)


def test_verdicts_follow_the_intervals():
    unscored = pd.DataFrame(columns=["method", "split", "valid", "score", "run", "corrupted"]).astype({"valid": bool})
    told = claim.verdicts(episodes(), unscored, pd.DataFrame(), "combined").set_index("question").answer
    assert told["a. Does PTR fall behind SFT on clean data?"] == "yes"
    assert told["a. Does PTR whose scorer reads without gradient?"] == "cannot be told"
    assert told["e. Does the cross-fitted rule beat SFT?"] == "yes"
    headline = claim.headline(episodes(), "combined")
    assert "**reaches** the goal of 70%" in headline and "no loss can be told" in headline
    poor = episodes()
    poor.loc[poor.method == "crossfit", "success"] = poor[poor.method == "ptr"].success.to_numpy()
    assert "**misses** the goal" in claim.headline(poor, "combined")


def test_saturation_counts_chunks_at_the_clip(tiny_book):
    stored = tiny_book.make("tabletop_claim", methods=METHODS)
    weights = results.last_snapshot(results.weights_frame(stored))
    measured = claim.saturation(weights, stored).set_index("run")
    assert set(measured.method) == {"ptr", "crossfit", "crossfit_random"}
    name = measured[measured.method == "crossfit"].index[0]
    mine = weights[(weights.run == name) & (weights.split == "train")]
    valid = mine[mine.valid]
    assert measured.at_clip[name] == pytest.approx((valid.weight > 3.99).mean())
    assert measured.sample_size[name] == pytest.approx(mine.weight.sum()**2 / (mine.weight**2).sum() / len(mine))


def test_the_page_shows_what_its_runs_hold(tiny_book):
    both = {"data.corruption": ["none", "combined"]}
    stored = tiny_book.make("tabletop_claim", methods=METHODS, seeds=1, changes=both)
    page = tiny_book.execute("when_the_claim_holds", methods=METHODS, seeds=1)
    mine = results.episodes_frame(stored)
    rates = results.success_rates(mine)
    in_percent = {name: 100 * rates[name] for name in ("success", "low", "high")}
    pd.testing.assert_frame_equal(page.frame("claim_success"), rates.assign(**in_percent), rtol=1e-4, check_dtype=False)
    drawn, measured = page.frame("claim_differences"), claim.differences(mine)
    assert drawn.method.tolist() == measured.method.tolist()
    assert drawn.estimate.to_numpy() == pytest.approx(100 * measured.estimate.to_numpy(), rel=1e-4, abs=1e-9)
    text = page.text()
    assert f"{len(stored)} runs" in text and "With one training seed per rule" in text
    assert "Under combined corruption the paper's rule is" in text
