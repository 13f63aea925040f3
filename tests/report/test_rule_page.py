"""The page "A rule of our own": recovery, ingredients, other worlds, verdicts and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from ptrlib import runs
from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.report import claim, results, rule
from tests.report.test_claim_page import METHODS, VARIANTS, episodes, scored, unscored


def test_recovery_is_the_share_of_the_gap_that_is_won_back():
    rate = episodes().groupby(["method", "corruption"]).success.mean()
    share = rule.recovery(episodes(), "crossfit", "combined")
    gap = rate["oracle", "combined"] - rate["sft", "combined"]
    assert share.estimate == pytest.approx((rate["crossfit", "combined"] - rate["sft", "combined"]) / gap)
    assert 0.8 < share.low < share.estimate < share.high < 1.0
    assert rule.recovery(episodes(), "oracle", "combined").low == pytest.approx(1.0)
    assert rule.recovery(episodes(), "crossfit_random", "combined").estimate == 0.0


def test_a_rule_taken_up_after_some_seeds_is_judged_on_the_others():
    mine = episodes().assign(method=lambda table: table.method.replace("crossfit", rule.WIDER))
    left = mine[~mine.training_seed.isin([0, 1])]
    assert {0, 1} <= set(mine.training_seed) and left.training_seed.nunique() > 0
    share = rule.recovery(left, rule.WIDER, "combined").text(100, digits=0)
    assert f"the second rule with w in [1/20, 20] {share} % ({left.training_seed.nunique()} seeds)." in rule.unseen(
        mine, "combined")
    assert rule.unseen(mine[mine.training_seed == 0], "combined") == rule.unseen(episodes(), "combined") == ""


def test_where_there_is_no_gap_the_share_is_not_told():
    flat = episodes().assign(success=lambda table: np.random.default_rng(1).random(len(table)) < 0.5)
    share = rule.recovery(flat, "crossfit", "combined")
    assert np.isnan(share.low) and np.isnan(share.high)
    same = flat[flat.method.isin(["sft"])]
    none = pd.concat([same, same.assign(method="oracle"), same.assign(method="crossfit")])
    assert np.isnan(rule.recovery(none, "crossfit", "combined").estimate)


def test_another_world_has_a_line_per_rule_beside_sft_and_the_oracle():
    mine = episodes()
    table = rule.elsewhere_table(mine, "combined").set_index("rule")
    assert table.loc["SFT", "minus SFT's (points)"] == "–" == table.loc["oracle filter", "share of the gap (%)"]
    gain = results.compare(mine, {("ptr", "combined"): 1.0, ("sft", "combined"): -1.0})
    assert table.loc["PTR", "minus SFT's (points)"] == gain.text(100, sign=True)
    share = rule.recovery(mine, "ptr", "combined")
    assert table.loc["PTR", "share of the gap (%)"] == share.text(100, digits=0)


def test_a_gain_is_told_beside_the_same_weights_on_other_episodes():
    mine = episodes()
    gain = results.compare(mine, {("crossfit", "combined"): 1.0, ("crossfit_random", "combined"): -1.0})
    told = rule.against_shuffled(mine, "combined")
    assert f"is {gain.text(100, sign=True)} points" in told and "**it is what the weights say**" in told
    level = mine.assign(method=mine.method.replace("ptr", "crossfit_every").replace("sft", "crossfit_every_random"))
    assert "cannot be told" in rule.against_shuffled(level, "combined")
    assert rule.against_shuffled(mine[mine.method != "crossfit_random"], "combined").startswith("No rule's weights")


def test_how_alike_a_rule_and_its_control_are_is_told():
    """By hand: four chunks, of which one corrupted, weigh 1, 1, 1 and 0; in the control the corrupted one weighs 2."""
    table = pd.DataFrame([{"run": f"{method} {seed}", "method": method, "corruption": "combined", "split": split,
                           "weight": weight, "corrupted": place == 3}
                          for method, weights in (("crossfit", (1, 1, 1, 0)), ("crossfit_random", (0, 0, 0, 2)))
                          for seed in (0, 1) for split in ("train", "held_out")
                          for place, weight in enumerate(weights)])
    told = rule.matched(table, "combined")
    assert "(2 training runs): effective sample size 75 [75, 75] % of the chunks, its control's 25 [25, 25] %" in told
    assert "corrupted chunks, 25 [25, 25] % of all, get 0 [0, 0] % of the weight" in told
    assert "of the weight, in the control 100 [100, 100] %" in told
    assert not rule.matched(table, "none") and not rule.matched(table[table.method == "crossfit"], "combined")


def test_what_instruction_and_length_alone_win_is_told_apart():
    mine = episodes().replace({"method": {"crossfit": rule.WIDER, "crossfit_random": rule.CLOSER}})
    won, more = (results.compare(mine, {(one, "combined"): 1.0, (other, "combined"): -1.0})
                 for one, other in ((rule.CLOSER, "sft"), (rule.WIDER, rule.CLOSER)))
    told = rule.beyond_length(mine, "combined")
    assert f"the same weights are {won.text(100, sign=True)} points from SFT" in told
    assert f"is {more.text(100, sign=True)} points from them: **the rule wins by more than these two tell**" in told
    assert "whether instruction and length alone win cannot be told" in told
    assert not rule.beyond_length(mine[mine.method != rule.CLOSER], "combined")


def test_the_seeds_that_one_processor_made_are_told_of_alone():
    mine = episodes().replace({"method": {"crossfit": rule.WIDER}})
    mine = mine[mine.method.isin(["sft", rule.WIDER]) & (mine.corruption == "combined")]
    same = {"processor": "one", "data_fingerprint": "a", "precision": "auto", "multiplies_bfloat16": True}
    made = mine[["method", "corruption", "training_seed"]].drop_duplicates().assign(**same)
    assert not rule.within_one_processor(mine, made, "combined")  # all seeds
    made.loc[(made.method == "sft") & (made.training_seed == 0), "processor"] = "other"
    gain = results.difference(mine[mine.training_seed != 0], rule.WIDER, "sft", "combined")
    told = rule.within_one_processor(mine, made, "combined")
    assert f"minus SFT {gain.text(100, sign=True)} points" in told and "(seeds 1 and 2): **it is ahead" in told
    assert not rule.within_one_processor(mine, made.assign(data_fingerprint=range(len(made))), "combined")
    unknown = made.assign(multiplies_bfloat16=made.multiplies_bfloat16.astype(object).where(made.training_seed > 1))
    assert "(seed 2)" in rule.within_one_processor(mine, unknown, "combined")
    told = rule.within_one_processor(mine, unknown.assign(precision="float32"), "combined")
    assert "(seeds 1 and 2)" in told


def test_worlds_without_scores_give_no_panel_and_others_are_named():
    assert rule.elsewhere_auroc({}).empty
    lists = {"corrupted": [0.0, 2.0], "untouched": [1.0, 3.0], "held_out": []}
    worlds = {"one": scored("a", **lists), "other": scored("b", method=rule.WIDER, **lists)}
    worlds = {name: table.assign(**{f"truth_{kind}": table.corrupted & (kind == "truncation") for kind in CORRUPTIONS})
              for name, table in worlds.items()}
    measured = rule.elsewhere_auroc(worlds)
    assert measured.kind.tolist() == ["one", "other"] and measured.method.tolist() == ["ptr", rule.WIDER]
    assert measured.estimate.tolist() == pytest.approx([3 / 4] * 2) and set(measured.group) == {"truncation"}


def test_what_the_clip_changes_is_told_of_methods_that_differ_in_nothing_else():
    clipped = [run for run in results.runs_of("tabletop_claim") if run.setting.method in ("sft", "crossfit_every_wide")]
    without = results.runs_of("tabletop_unclipped")
    table = rule.of_clip(clipped, without, "combined").set_index("method")
    assert list(table.index) == ["SFT", "every chunk, w in [1/20, 20]"]
    of_sft = [[run for run in runs_ if run.setting.method == "sft" and run.setting.config.data.corruption == "combined"]
              for runs_ in (clipped, without)]
    change = [100 * results.episodes_frame(runs_).success.mean() for runs_ in of_sft]
    assert table.loc["SFT", "without the clip, minus with it"].startswith(f"{change[1] - change[0]:+.1f} [")
    norms = results.metrics_frame(of_sft[0]).gradient_norm
    assert table.loc["SFT", "clipped in (% of steps logged)"].startswith(f"{100 * (norms > 1).mean():.0f} [")
    assert (results.metrics_frame(without).gradient_norm < 100).all()  # "which hardly a step reaches"
    longer = results.runs_of("tabletop_scale")
    assert rule.of_clip([run for run in longer if "steps" in run.setting.method], without, "combined").empty


def test_each_ingredient_has_its_line_on_the_seeds_it_has():
    table = episodes()
    sft = table[(table.method == "sft") & (table.corruption == "combined") & (table.training_seed == 1)]
    others = pd.concat([sft.assign(method=name) for name in rule.INGREDIENTS[rule.RULE]])
    told = rule.ingredients(pd.concat([table, others]), "combined").set_index("changed")
    first = table[(table.training_seed == 1) & (table.corruption == "combined")].groupby("method").success.mean()
    assert set(told.index) == set(rule.INGREDIENTS[rule.RULE].values()) and set(told.runs) == {1}
    assert set(told.answer) == {"worse, in this one training run of each"}
    assert told.estimate.to_numpy() == pytest.approx(first["sft"] - first["crossfit"])
    assert rule.ingredients(table, "combined").empty
    with pytest.raises(ValueError, match="and ptr on combined data have no training seed in common"):
        results.compare(pd.concat([sft, sft.assign(method="ptr", training_seed=7)]),
                      {("sft", "combined"): 1.0, ("ptr", "combined"): -1.0})


def test_the_second_rule_is_judged_like_the_first():
    table = episodes()
    second = table[table.method == "crossfit"].assign(method="crossfit_every")
    text = rule.headline(pd.concat([table, second]), "combined")
    assert text.count("the goal of 70%") == 2 and "“contrasts of every chunk” wins back" in text
    told = rule.verdicts(pd.concat([table, second]), unscored(), "combined").set_index("question")
    assert told.answer["e. Does the second rule beat SFT?"] == "yes"
    assert told.answer["e. Does the second rule beat the first rule?"] == "cannot be told"
    assert told.answer["e. Does the second rule win back 70% of the gap to the oracle filter?"] == "yes"
    assert told.answer["e. Does the second rule cost success on clean data?"] == "cannot be told"


def test_what_the_truth_wins_between_the_bounds_stands_beside_the_rule():
    table = episodes()
    combined = table[table.corruption == "combined"]
    oracle, first = (combined[combined.method == name] for name in ("oracle", "crossfit"))
    truth = pd.concat([table, oracle.assign(method="bounded_oracle"), first.assign(method="crossfit_every")])
    told = rule.ceilings(truth, "combined")
    behind = results.compare(table, {("crossfit", "combined"): 1.0, ("oracle", "combined"): -1.0})
    assert "“the truth, w in [1/4, 4]” wins back 100 [100, 100] % of the gap, which **reaches** the goal of 70%" in told
    said = f"is {behind.text(100, sign=True)} points from it: **the rule stays behind it**"
    assert all(f"“{rule.method_label(name)}” {said}" in told for name in rule.RULES)
    level = pd.concat([table, first.assign(method="bounded_oracle_wide"), first.assign(method=rule.WIDER)])
    assert "whether the rule stays behind it cannot be told" in rule.ceilings(level, "combined")
    assert rule.ceilings(table, "combined") == ""


def test_executed_noise_is_judged_by_score_and_by_success():
    table = episodes().replace({"corruption": {"combined": "action_noise"}})
    second = table[table.method == "crossfit"].assign(method="crossfit_every")
    shuffled = table[table.method == "sft"].assign(method="crossfit_every_random")
    blind = scored("a", corrupted=[1.0] * 60, untouched=[1.0] * 60, held_out=[], method="crossfit_every")
    told = rule.executed_verdicts(pd.concat([table, second, shuffled]), blind).set_index("question")
    assert told.answer["g. Does the score of the second rule tell executed noise?"] == "cannot be told"
    assert told.answer["g. Does the second rule beat SFT there?"] == "yes" and len(told) == 4
    assert told.answer["g. Do its weights beat the same weights given to other episodes?"] == "yes"
    seeing = scored("a", corrupted=[0.0] * 60, untouched=[1.0] * 60, held_out=[], method="crossfit_every")
    assert rule.executed_verdicts(table, seeing).answer[0] == "yes"


def test_the_first_rule_is_held_to_its_goals():
    told = rule.verdicts(episodes(), unscored(), "combined").set_index("question").answer
    assert told["e. Does the cross-fitted rule beat SFT?"] == "yes"
    headline = rule.headline(episodes(), "combined")
    assert "**reaches** the goal of 70%" in headline and "no loss can be told" in headline
    poor = episodes()
    poor.loc[poor.method == "crossfit", "success"] = poor[poor.method == "ptr"].success.to_numpy()
    assert "**misses** the goal" in rule.headline(poor, "combined")
    assert "none of our rules" in rule.headline(poor[poor.method == "sft"], "combined")


def test_the_page_shows_what_its_runs_hold(tiny_book):
    both = {"data.corruption": ["none", "combined"]}
    stored = tiny_book.make("tabletop_claim", methods=METHODS, seeds=1, changes=both)
    runs.write_text(tiny_book.folder / runs.EXPERIMENTS / "tiny_variants.yaml", yaml.safe_dump(VARIANTS))
    every = list({run.name: run for run in [*stored, *tiny_book.make("tiny_variants")]}.values())
    page = tiny_book.execute("our_rule", methods=METHODS, seeds=1, ingredients="tiny_variants")
    mine, text = results.episodes_frame(stored), page.text()
    rates = results.success_rates(mine)
    in_percent = {name: 100 * rates[name] for name in ("success", "low", "high")}
    pd.testing.assert_frame_equal(page.frame("rule_success"), rates.assign(**in_percent), rtol=1e-4, check_dtype=False)
    assert f"{len(stored)} runs" in text and "also show 2 runs of `tiny_variants`" in text
    snapshots = results.weights_frame(every).query("corruption == 'combined'")
    pd.testing.assert_frame_equal(page.frame("rule_scores"), claim.score_distributions(snapshots, ["crossfit"])[1],
                                  rtol=1e-4, check_dtype=False)
    saturation = claim.saturation(results.last_snapshot(results.weights_frame(every)), every)
    drawn = rule.against_divergence(results.episodes_frame(every), saturation, "combined")[1]
    pd.testing.assert_frame_equal(page.frame("rule_divergence"), drawn, rtol=1e-4, atol=1e-9, check_dtype=False)
    assert set(drawn.method) == {"ptr", "crossfit", "crossfit_random", "crossfit_insample", "crossfit_wide"}
    assert drawn.set_index("method").bound["crossfit_wide"] == pytest.approx(2 * np.log(20))
    assert "e. Does the cross-fitted rule beat SFT?" in text and "from the same weights on other episodes" in text


def test_gains_that_need_scenes_anew_for_every_seed_are_told():
    told = rule.crosswise(results.episodes_frame(results.runs_of("robocasa_precise")), "combined")
    assert told.startswith("**With the scenes drawn once for all training runs it cannot be told:** minus SFT +15.8 [-")
    assert "minus its own weights on other episodes +21.7 [-" in told
    assert rule.crosswise(results.episodes_frame(results.runs_of("tabletop_hard")), "combined") == ""
