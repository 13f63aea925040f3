"""The chapter on when the claim holds: recovery, saturation, verdicts and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from ptrlib import runs
from ptrlib.config import override
from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.method.weights import sharp_kl_bound
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
           ("ptr", "none"): 0.4, ("ptr_detached", "none"): 0.8}
METHODS = ["sft", "ptr", "oracle", "crossfit", "crossfit_random"]  # of the tiny page


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
    told = claim.verdicts(episodes(), unscored(), pd.DataFrame(), "combined").set_index("question").answer
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


def test_another_world_has_a_line_per_rule_beside_sft_and_the_oracle():
    mine = episodes()
    table = claim.elsewhere_table(mine, "combined").set_index("rule")
    assert table.loc["SFT", "minus SFT's (points)"] == "–" == table.loc["oracle filter", "share of the gap (%)"]
    gain = results.compare(mine, {("ptr", "combined"): 1.0, ("sft", "combined"): -1.0})
    assert table.loc["PTR", "minus SFT's (points)"] == gain.text(100, sign=True)
    share = claim.recovery(mine, "ptr", "combined")
    assert table.loc["PTR", "share of the gap (%)"] == share.text(100, digits=0)


def test_a_gain_is_told_beside_the_same_weights_on_other_episodes():
    mine = episodes()
    gain = results.compare(mine, {("crossfit", "combined"): 1.0, ("crossfit_random", "combined"): -1.0})
    told = claim.against_shuffled(mine, "combined")
    assert f"is {gain.text(100, sign=True)} points" in told and "**it is what the weights say**" in told
    level = mine.assign(method=mine.method.replace("ptr", "crossfit_every").replace("sft", "crossfit_every_random"))
    assert "cannot be told" in claim.against_shuffled(level, "combined")
    assert claim.against_shuffled(mine[mine.method != "crossfit_random"], "combined").startswith("No rule's weights")


def test_worlds_without_scores_give_no_panel_and_others_are_named():
    assert claim.elsewhere_auroc({}).empty
    lists = {"corrupted": [0.0, 2.0], "untouched": [1.0, 3.0], "held_out": []}
    worlds = {"one": scored("a", **lists), "other": scored("b", method=claim.WIDER, **lists)}
    worlds = {name: table.assign(**{f"truth_{kind}": table.corrupted & (kind == "truncation") for kind in CORRUPTIONS})
              for name, table in worlds.items()}
    measured = claim.elsewhere_auroc(worlds)
    assert measured.kind.tolist() == ["one", "other"] and measured.method.tolist() == ["ptr", claim.WIDER]
    assert measured.estimate.tolist() == pytest.approx([3 / 4] * 2) and set(measured.group) == {"truncation"}


def test_each_ingredient_has_its_line_on_the_seeds_it_has():
    table = episodes()
    sft = table[(table.method == "sft") & (table.corruption == "combined") & (table.training_seed == 1)]
    others = pd.concat([sft.assign(method=name) for name in claim.INGREDIENTS[claim.RULE]])
    told = claim.ingredients(pd.concat([table, others]), "combined").set_index("changed")
    first = table[(table.training_seed == 1) & (table.corruption == "combined")].groupby("method").success.mean()
    assert set(told.index) == set(claim.INGREDIENTS[claim.RULE].values()) and set(told.runs) == {1}
    assert set(told.answer) == {"worse, in this one training run of each"}
    assert told.estimate.to_numpy() == pytest.approx(first["sft"] - first["crossfit"])
    assert claim.ingredients(table, "combined").empty
    with pytest.raises(ValueError, match="and ptr on combined data have no training seed in common"):
        claim.compare(pd.concat([sft, sft.assign(method="ptr", training_seed=7)]),
                      {("sft", "combined"): 1.0, ("ptr", "combined"): -1.0})


def test_the_second_rule_is_judged_like_the_first():
    table = episodes()
    second = table[table.method == "crossfit"].assign(method="crossfit_every")
    text = claim.headline(pd.concat([table, second]), "combined")
    assert text.count("the goal of 70%") == 2 and "“contrasts of every chunk” wins back" in text
    told = claim.verdicts(pd.concat([table, second]), unscored(), pd.DataFrame(), "combined").set_index("question")
    assert told.answer["e. Does the second rule beat SFT?"] == "yes"
    assert told.answer["e. Does the second rule beat the first rule?"] == "cannot be told"
    assert told.answer["e. Does the second rule win back 70% of the gap to the oracle filter?"] == "yes"
    assert told.answer["e. Does the second rule cost success on clean data?"] == "cannot be told"


def test_executed_noise_is_judged_by_score_and_by_success():
    table = episodes().replace({"corruption": {"combined": "action_noise"}})
    second = table[table.method == "crossfit"].assign(method="crossfit_every")
    shuffled = table[table.method == "sft"].assign(method="crossfit_every_random")
    blind = scored("a", corrupted=[1.0] * 60, untouched=[1.0] * 60, held_out=[], method="crossfit_every")
    told = claim.executed_verdicts(pd.concat([table, second, shuffled]), blind).set_index("question")
    assert told.answer["g. Does the score of the second rule tell executed noise?"] == "cannot be told"
    assert told.answer["g. Does the second rule beat SFT there?"] == "yes" and len(told) == 4
    assert told.answer["g. Do its weights beat the same weights given to other episodes?"] == "yes"
    seeing = scored("a", corrupted=[0.0] * 60, untouched=[1.0] * 60, held_out=[], method="crossfit_every")
    assert claim.executed_verdicts(table, seeing).answer[0] == "yes"


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
    every = list({run.name: run for run in [*stored, *tiny_book.make("tiny_variants")]}.values())
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
    snapshots = results.weights_frame(every).query("corruption == 'combined'")
    pd.testing.assert_frame_equal(page.frame("claim_scores"), claim.score_distributions(
        snapshots, ["ptr", "crossfit"])[1], rtol=1e-4, check_dtype=False)
    asked = scene_identity.judged("tabletop_corruption")
    pd.testing.assert_frame_equal(page.frame("claim_scene"), scene_identity.chart(scene_identity.rates(asked))[1],
                                  rtol=1e-4, check_dtype=False)
    saturation = claim.saturation(results.last_snapshot(results.weights_frame(every)), every)
    drawn = claim.against_divergence(results.episodes_frame(every), saturation, "combined")[1]
    pd.testing.assert_frame_equal(page.frame("claim_divergence"), drawn, rtol=1e-4, atol=1e-9, check_dtype=False)
    assert set(drawn.method) == {"ptr", "crossfit", "crossfit_random", "crossfit_insample", "crossfit_wide"}
    assert drawn.set_index("method").bound["crossfit_wide"] == pytest.approx(2 * np.log(20))
    assert "f. Is “PTR” behind SFT from scratch, on clean data?" in text and "settings tried" in text
    assert "also show 2 runs of `tiny_variants`" in text
