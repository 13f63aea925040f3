"""The chapter on when the claim holds: saturation, memory, starts, verdicts and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from ptrlib import runs
from ptrlib.config import override
from ptrlib.method.bounds import sharp_kl_bound
from ptrlib.report import claim, results, scales, scene_identity
from ptrlib.runs import Setting
from tests.report.test_scales_page import TINY_SCALE

VARIANTS = {"name": "tiny_variants", "extends": "tabletop_corruption", "base": {"data.corruption": "combined"},
            "methods": {"sft": {"credit": "sft", "network.use_belief": False},
                        "crossfit": {"credit": "crossfit", "network.use_belief": False},
                        "crossfit_insample": {"credit": "crossfit", "network.use_belief": False, "crossfit.folds": 1},
                        "crossfit_wide": {"credit": "crossfit", "network.use_belief": False, "ptr.w_min": 0.05,
                                          "ptr.w_max": 20.0}}, "seeds": [0]}
CHANCES = {("sft", "none"): 0.8, ("sft", "combined"): 0.3, ("oracle", "combined"): 0.7, ("crossfit", "combined"): 0.66,
           ("crossfit", "none"): 0.8, ("crossfit_random", "combined"): 0.3, ("ptr", "combined"): 0.3,
           ("ptr", "none"): 0.4, ("ptr_detached", "none"): 0.6, ("sft_belief", "none"): 0.6}
METHODS = ["sft", "ptr", "oracle", "crossfit", "crossfit_random"]  # of the tiny page


def episodes() -> pd.DataFrame:
    """Every rule meets the same luck in a scene, so that a chance is nearly its rate."""
    luck = np.random.default_rng(0).random((3, 6, 50))
    return pd.DataFrame([{"method": method, "corruption": corruption, "training_seed": seed, "task": f"task {task}",
                          "init_state": scene, "success": bool(luck[seed, task, scene] < chance)}
                         for (method, corruption), chance in CHANCES.items()
                         for seed in range(3) for task in range(6) for scene in range(50)])


def test_verdicts_follow_the_intervals():
    told = claim.verdicts(episodes(), unscored(), pd.DataFrame(), "combined").set_index("question").answer
    assert told["a. Does PTR fall behind SFT on clean data?"] == "yes"
    assert told["a. Do belief tokens alone (SFT+Belief)?"] == "yes"
    assert told["a. Does PTR whose scorer reads without gradient (against SFT+Belief)?"] == "cannot be told"
    without = claim.verdicts(episodes().query("method != 'sft_belief'"), unscored(), pd.DataFrame(), "combined")
    assert not without.question.str.contains("SFT+Belief", regex=False).any()
    assert not any(question.startswith("e.") for question in told.index)  # they have a page of their own
    flat = episodes().assign(success=True)
    assert "is +0.0 [+0.0, +0.0] points from SFT: **cannot be told**" in claim.headline(flat, "combined")
    assert "not tested" in claim.headline(flat[flat.method != "ptr"], "combined")


def test_interference_is_read_against_the_policy_with_the_same_tokens():
    measured = claim.interference(episodes()).set_index(["method", "corruption"])
    assert list(measured.index) == [("sft_belief", "sft"), ("ptr", "sft"), ("ptr", "sft_belief"),
                                    ("ptr", "ptr_detached"), ("ptr_detached", "sft_belief")]
    assert measured.estimate["ptr", "sft"] == pytest.approx(
        measured.estimate["ptr", "sft_belief"] + measured.estimate["sft_belief", "sft"])
    assert measured.estimate["ptr_detached", "sft_belief"] == 0.0
    gain = results.compare(episodes(), {("ptr", "none"): 1.0, ("ptr_detached", "none"): -1.0})
    told = claim.parts(episodes()).splitlines()[0]
    assert f"gradient (PTR minus PTR, detached scorer) {gain.text(100, sign=True)} points, **costs success**" in told


def test_saturation_counts_chunks_at_the_clip(tiny_book):
    stored = tiny_book.make("tabletop_claim", methods=METHODS)
    weights = results.last_snapshot(results.weights_frame(stored))
    measured = claim.saturation(weights, stored).set_index("run")
    assert set(measured.method) == {"ptr", "crossfit", "crossfit_random"}
    name = measured[measured.method == "crossfit"].index[0]
    mine = weights[(weights.run == name) & (weights.split == "train")]
    valid = mine[mine.valid]
    assert measured.at_clip[name] == pytest.approx((valid.weight > 3.99).mean())
    assert measured.sharp_bound[name] == pytest.approx(sharp_kl_bound(0.25, 4.0))
    assert measured.bound[name] == pytest.approx(2 * np.log(4))
    assert (measured.divergence <= measured.sharp_bound).all()
    assert measured.sample_size[name] == pytest.approx(mine.weight.sum()**2 / (mine.weight**2).sum() / len(mine))


def scored(run: str, *, corrupted: list[float], untouched: list[float], held_out: list[float], step: int = 10,
           method: str = "ptr") -> pd.DataFrame:
    """A snapshot with a chunk per score, each of an episode of its own."""
    kinds = [("train", True, corrupted), ("train", False, untouched), ("held_out", False, held_out)]
    return pd.DataFrame([{"run": run, "method": method, "step": step, "split": split, "corrupted": hit, "valid": True,
                          "score": score, "episode": f"{run}/{split}/{hit}/{place}"}
                         for split, hit, scores in kinds for place, score in enumerate(scores)])


def test_scores_are_compared_by_truth_and_by_split():
    chunks = scored("a", corrupted=[0.0, 2.0], untouched=[1.0, 3.0], held_out=[0.5, 0.5, 3.5, 0.5])
    assert claim.truth_auroc(chunks, "ptr").estimate == pytest.approx(3 / 4)
    assert claim.memory_auroc(chunks, "ptr").estimate == pytest.approx(6 / 8)
    clean = scored("a", corrupted=[], untouched=[1.0], held_out=[])
    assert claim.truth_auroc(clean, "ptr") is None and claim.memory_auroc(clean, "ptr") is None
    assert claim.truth_auroc(chunks, "crossfit") is None


def test_distributions_are_those_of_the_first_and_last_snapshot():
    rng = np.random.default_rng(0)
    lists = {kind: rng.normal(size=200).tolist() for kind in ("corrupted", "untouched", "held_out")}
    early, late = (scored("a", step=step, **lists) for step in (5, 10))
    rule = [scored("b", step=step, method="crossfit", **lists) for step in (5, 10)]
    weights = pd.concat([early, late.assign(score=late.score + 100), *rule])
    figure, drawn = claim.score_distributions(weights, ["ptr", "crossfit"])
    assert [panel.get_title() for panel in figure.axes] == ["PTR, step 5", "PTR, step 10",
                                                            "cross-fitted contrasts, before training"]
    shares = drawn.groupby(["method", "moment", "group"]).share.sum()
    assert len(shares) == 9 and shares.to_numpy() == pytest.approx(1.0)
    of_ptr = drawn[(drawn.method == "ptr") & (drawn.low > 50) & (drawn.share > 0)]
    assert set(of_ptr.moment) == {"step 10"} and set(drawn.chunks) == {200}
    table = claim.score_table(weights, ["ptr", "crossfit"])
    assert table["when"].tolist() == ["step 5", "step 10", "before training"]


def test_both_starts_are_told_apart():
    pretrained = episodes()
    from_scratch = pretrained[(pretrained.corruption == "none") & pretrained.method.isin(["sft", "ptr", "ptr_detached"])
                              & (pretrained.training_seed == 0)].copy()
    from_scratch.loc[from_scratch.method == "ptr", "success"] = False
    both = claim.both_starts(pretrained, from_scratch)
    assert set(both.method) == {"sft", "ptr", "ptr_detached"} and set(both.corruption) == {"none"}
    rate = from_scratch[from_scratch.method == "sft"].success.mean()
    drawn = claim.start_differences(both).set_index(["method", "corruption"])
    assert drawn.estimate["ptr", "scratch"] == pytest.approx(-rate)
    assert drawn["count"]["ptr", "scratch"] == 300 and drawn["count"]["ptr", "pretrained"] == 900
    told = claim.start_verdicts(both).set_index("question")
    assert told.answer["f. Is “PTR” behind SFT from scratch, on clean data?"].startswith("yes, in this one")
    farther = told.loc["f. Is “PTR” farther behind from scratch than from the pretrained policy?"]
    first = pretrained[(pretrained.training_seed == 0) & (pretrained.corruption == "none")].groupby("method").success
    assert farther.answer.startswith("yes") and farther.estimate == pytest.approx(-first.mean()["ptr"])
    table = claim.start_table(both, {"pretrained": 6, "scratch": 9})
    assert table.steps.tolist() == [6, 6, 6, 9, 9, 9] and table.runs.tolist() == [3, 3, 3, 1, 1, 1]
    assert not told.index.str.contains("α = 0").any()
    weightless = from_scratch[from_scratch.method == "sft"].assign(method="ptr_alpha0")
    controlled = claim.start_verdicts(claim.both_starts(pretrained, pd.concat([from_scratch, weightless])))
    control = controlled.set_index("question").loc[claim.START_CONTROLS["ptr_alpha0"]]
    assert control.answer.startswith("no, PTR does worse") and control.estimate == pytest.approx(-rate)
    apart = from_scratch.assign(training_seed=7)  # no seed in common: only the first question has an answer
    assert not claim.start_verdicts(claim.both_starts(pretrained, apart)).question.str.contains("farther").any()


def unscored() -> pd.DataFrame:
    columns = ["method", "split", "valid", "score", "run", "corrupted"]
    return pd.DataFrame(columns=columns).astype({"valid": bool, "corrupted": bool})


def test_variants_join_the_runs_they_can_be_compared_with(tiny_book, monkeypatch):
    runs.write_text(tiny_book.folder / runs.EXPERIMENTS / "tiny_variants.yaml", yaml.safe_dump(VARIANTS))
    both = {"data.corruption": ["none", "combined"]}
    stored, variants = tiny_book.make("tabletop_claim", methods=METHODS, seeds=1, changes=both), tiny_book.make(
        "tiny_variants")
    monkeypatch.chdir(tiny_book.folder)
    every, said = claim.with_further(stored, "tiny_variants")
    assert not said and [run.name for run in every] == [run.name for run in stored] + [
        run.name for run in variants if run.setting.method in ("crossfit_insample", "crossfit_wide")]
    other = [results.StoredRun(Setting(run.setting.method, override(run.setting.config, {"log_every": 3})), run.folder)
             for run in stored]
    kept, said = claim.with_further(other, "tiny_variants")
    assert kept == other and "`tiny_variants` have other settings" in said


def test_a_section_without_its_runs_says_so(tiny_book, monkeypatch):
    monkeypatch.chdir(tiny_book.folder)
    stored, said = claim.section("tabletop_scale")
    assert not stored and "`tabletop_scale` are not all stored" in said
    assert "`ptrlib run experiments/tabletop_scale.yaml` makes them." in said
    assert claim.section("") == ([], "")


def test_the_page_shows_what_its_runs_hold(tiny_book):
    both = {"data.corruption": ["none", "combined"]}
    stored = tiny_book.make("tabletop_claim", methods=METHODS, seeds=1, changes=both)
    runs.write_text(tiny_book.folder / runs.EXPERIMENTS / "tiny_scale.yaml", yaml.safe_dump(TINY_SCALE))
    runs.write_text(tiny_book.folder / runs.EXPERIMENTS / "tiny_variants.yaml", yaml.safe_dump(VARIANTS))
    of_scale, from_scratch = tiny_book.make("tiny_scale"), tiny_book.make("tabletop_scratch")
    tiny_book.make("tiny_variants")
    page = tiny_book.execute("when_the_claim_holds", methods=METHODS, seeds=1, scale="tiny_scale",
                             ingredients="tiny_variants")
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
    pd.testing.assert_frame_equal(page.frame("claim_scale"), scales.chart(scales.measure(of_scale))[1], rtol=1e-4,
                                  check_dtype=False)
    starts = claim.both_starts(mine, results.episodes_frame(from_scratch))
    pd.testing.assert_frame_equal(page.frame("claim_scratch"), claim.start_chart(claim.start_differences(starts))[1],
                                  rtol=1e-4, atol=1e-9, check_dtype=False)
    snapshots = results.weights_frame(stored).query("corruption == 'combined'")
    pd.testing.assert_frame_equal(page.frame("claim_scores"), claim.score_distributions(
        snapshots, ["ptr"])[1], rtol=1e-4, check_dtype=False)
    asked = scene_identity.judged("tabletop_corruption")
    pd.testing.assert_frame_equal(page.frame("claim_scene"), scene_identity.chart(scene_identity.rates(asked))[1],
                                  rtol=1e-4, check_dtype=False)
    assert "f. Is “PTR” behind SFT from scratch, on clean data?" in text and "settings tried" in text
    assert "tiny_variants" not in text  # variants of our rule are shown on its page
