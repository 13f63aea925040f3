"""The table of everything: what README.md shows is what the stored runs hold."""

from __future__ import annotations

import pytest

from ptrlib.report import (
    REPOSITORY,
    claim,
    corruption,
    dynamics,
    foresight,
    generalist,
    kitchen,
    mended,
    operators,
    overview,
    pool,
    results,
    rule,
    scales,
    speed,
    start,
)
from ptrlib.report.statistics import crossed_bootstrap, wilson_interval


@pytest.fixture(scope="module")
def shown():
    return overview.table()


def test_the_readme_holds_the_table_of_the_stored_runs(shown):
    text = (REPOSITORY / "README.md").read_text()
    assert overview.written_into(text, shown) == text, "write it anew: python -m ptrlib.report.overview"
    other = text.replace("| Tabletop (easy), clean", "| Tabletop (easier), clean", 1)
    assert other != text and overview.written_into(other, shown) == text


def test_the_readmes_sentences_on_the_papers_rule_hold_in_its_table(shown):
    ends = shown["PTR − SFT (points)"].str.extract(r"\[([-+.\d]+), ([-+.\d]+)\]").astype(float)
    tabletop = shown["world, data"].str.startswith("Tabletop")
    assert (ends[0] <= 0).all()  # "In no row of the table is the paper's rule shown to be ahead"
    precise = shown["world, data"].str.contains("precise") & shown["world, data"].str.endswith("clean data")
    worse = tabletop | precise  # the page of clean data says so of RoboCasa's precise demonstrator
    assert precise.sum() == 2 and (ends[1][worse] < 0).all()
    assert (ends[1][~worse] >= 0).all() and (~worse).sum() == 6


def test_the_readmes_numbers_on_the_easy_suite_are_those_of_its_runs():
    stored = results.runs_of("tabletop_claim")
    episodes, corrupted = results.episodes_frame(stored), results.last_weights_frame(stored).query(
        "corruption == 'combined'")
    told = claim.truth_auroc(corrupted, "ptr")
    text = " ".join((REPOSITORY / "README.md").read_text().replace("points [", "[").split())
    assert told is not None and f"AUROC {told.text(digits=3)}" in text
    for name, digits in (("crossfit", "50 % [37, 61]"), ("crossfit_every_wide", "84 % [74, 94]")):
        share = rule.recovery(episodes, name, "combined")
        assert digits in text and share.text(100, digits=0) == digits.replace(" %", "")
    gain = results.compare(episodes, {("ptr", "combined"): 1.0, ("random", "combined"): -1.0})
    assert f"{100 * gain.estimate:+.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]" in text
    unclipped = results.episodes_frame(results.runs_of("tabletop_unclipped"))
    without = rule.recovery(unclipped, "crossfit_every_wide", "combined").text(100, digits=0).replace(" [", " % [")
    assert f"Without the clip on gradients the third wins back {without}" in text
    further, words = _gain(unclipped, rule.WIDER, rule.CLOSER, "combined")
    length, alone = _gain(unclipped, rule.CLOSER, "sft", "combined")
    assert further.low > 0 and f"it is {words} from its own weights given to other" in text
    assert length.low <= 0 <= length.high and f"nothing that can be told over SFT ({alone}; {length.count} e" in text


def test_the_readmes_sentence_on_what_hides_corrupted_chunks_holds():
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    stored = results.runs_of("tabletop_pool")
    told = pool.discrimination(stored)
    table = pool.table(stored, told).set_index(["hard negatives", "scorer's gradient"])
    by_task, by_state = (table.loc[words, "with"] for words in ("by task (as elsewhere)", "by state"))
    score = told[(told.method == "ptr_state") & (told.corruption == pool.ANY)].iloc[0]
    assert score.low > 0.5 and f"({by_state['AUROC, any corruption']})" in text
    assert f"(AUROC {by_task['AUROC, any corruption']}; 0.5 is guessing)" in text


def test_the_readmes_sentences_on_libero_hold():
    text = " ".join((REPOSITORY / "README.md").read_text().replace("points [", "[").split())
    study = corruption.read(["libero_corruption"])
    for kind in ("combined", "none"):
        gain = results.difference(study.episodes, "ptr", "sft", kind)
        assert gain.low < 0 < gain.high and gain.text(100, sign=True).replace(", +", ", ") in text
    alike = corruption.made_alike(study).replace(", +", ", ")
    for words in ("(seeds 2 and 3) +5.5 [-1.5, 12.5] points, n = 200", "+5.5 [-1.5, 12.5]"):
        assert words in (alike if "seeds" in words else text)


def test_the_readmes_sentence_on_the_start_policy_of_our_rule_holds():
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    usual, own = (results.last_weights_frame([run for run in results.runs_of(name)
                                              if run.setting.config.data.corruption == "combined"
                                              and run.setting.method in rule.RULES])
                  for name in ("tabletop_claim", "tabletop_own_start_rule"))
    table = rule.of_starts({"others": usual, "own": own}).set_index(["rule", "the start policy learned"])
    for column in ("any corruption", "label noise"):
        first, second = (table.loc[("cross-fitted contrasts", words), column] for words in ("own", "others"))
        assert f"{first} instead of {second}" in text


@pytest.mark.parametrize("comparison", foresight.COMPARED)
def test_the_readmes_sentences_on_what_belief_tokens_cost_hold(comparison):
    episodes = results.episodes_frame(foresight.runs_behind(comparison))
    text = " ".join((REPOSITORY / "README.md").read_text().replace("points [", "[").split())
    untold = comparison in ("libero_corruption", "robocasa_corruption")  # where no change of PTR can be told
    for kind in ("combined", "none") if untold else ("combined",):
        gain = results.compare(episodes, {("ptr", kind): 1.0, (f"ptr{foresight.FIRST}", kind): -1.0})
        assert (gain.low > 0) == (not untold) and gain.high > 0
        words = f"{100 * gain.estimate:.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
        assert (f"{words}, {gain.count}" if untold else words) in text


def test_the_readmes_sentence_on_the_other_reading_holds():
    text = " ".join((REPOSITORY / "README.md").read_text().replace("points [", "[").split())
    for manifest in ("tabletop_claim", "tabletop_hard_detached"):
        episodes = results.episodes_frame(results.runs_of(manifest))
        for method, baseline, sign in (("ptr", "ptr_detached", -1), ("ptr_detached", "sft", 0),
                                       ("ptr_detached", "sft_belief", 0)):
            gain, words = _gain(episodes, method, baseline, "combined")
            assert words in text and (gain.low > 0) - (gain.high < 0) == sign, words
    kitchen_runs = results.episodes_frame(results.runs_of("robocasa_precise_detached"))
    for method, baseline, sign in (("ptr", "ptr_detached", -1), ("ptr_detached", "sft", 0)):
        gain, words = _gain(kitchen_runs, method, baseline, "none")
        assert words in text and (gain.low > 0) - (gain.high < 0) == sign and gain.count == 120, words
    grown = results.runs_of("tabletop_grown_detached")
    told = []
    for change in ("steps=4000", "width=128"):
        gain, words = _gain(results.episodes_frame(grown), f"ptr_detached@{change}", f"sft@{change}", "combined")
        assert gain.low < 0 < gain.high
        told.append(words)
    assert f"it cannot be told from SFT there either ({' and '.join(told)})" in text
    detached = results.metrics_frame([run for run in grown if run.setting.method.startswith("ptr_detached")])
    ever = dynamics.sharpened(detached)
    assert len(ever) == 10 and not ever.any()  # "confident in none of these ten runs"


def test_the_front_page_says_in_short_what_the_readme_says():
    told = overview.in_short((REPOSITORY / "README.md").read_text()).splitlines()
    assert len(told) == 6
    assert told[2].startswith("- **In no row of the table is the paper's rule shown to be ahead.** [")
    assert all("](results/" in line and "](book/" not in line for line in told)
    assert overview.in_short("# Nothing found yet") == ""


def test_the_readmes_sentence_on_what_our_scorers_tell_holds():
    runs = [run for run in results.runs_of("tabletop_claim") if run.setting.method == "crossfit"]
    weights = results.last_weights_frame(runs).query("corruption == 'combined'")
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    told = claim.truth_auroc(weights, "crossfit")
    assert told is not None and told.low > 0.5
    assert f"(AUROC {told.text(digits=3)} of those with a recorded consequence)" in text


@pytest.mark.parametrize("manifest", start.STARTS)
def test_the_start_policy_is_judged_in_the_scenes_of_its_comparison(manifest):
    compared, alone = results.runs_of(manifest), results.runs_of(start.STARTS[manifest])
    episodes, left = results.episodes_frame(compared), start.episodes_of(manifest)
    scenes = ["task", "init_state", "seed"]
    assert set(map(tuple, left[scenes].to_numpy())) == set(map(tuple, episodes[scenes].to_numpy()))
    for run in alone:
        assert run.setting.config.ptr.optimization.steps == 0
        assert run.setting.config.initial_policy == compared[0].setting.config.initial_policy


def test_the_readmes_sentence_on_our_faults_holds():
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert "so that no row of the table has any" in text
    assert not any(mended.note(results.runs_of(name)) for name in overview.MANIFESTS)
    libero = mended.table("libero_corruption").set_index("question").loc[f"{mended.CHANGE}, combined corruption"]
    assert libero.answer == "cannot be told"  # "The first: nothing that can be told", the page on our faults


@pytest.mark.parametrize("manifest", overview.MANIFESTS)
def test_the_readmes_sentence_on_the_start_policies_holds(manifest):
    episodes, alone = results.episodes_frame(results.runs_of(manifest)), start.episodes_of(manifest)
    text = " ".join((REPOSITORY / "README.md").read_text().replace("points [", "[").split())
    gain = start.gain(episodes, alone, "sft", "none")
    told = f"{100 * gain.estimate:+.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
    if manifest in ("tabletop_hard", "robocasa_corruption"):
        assert gain.high < 0 and told in text
    else:  # "on the other clean data it cannot be told"
        assert gain.low <= 0 <= gain.high
    for method, kind in episodes[["method", "corruption"]].drop_duplicates().itertuples(index=False):
        assert start.gain(episodes, alone, method, kind).low <= 0  # "No method is shown to beat the start policy"


@pytest.mark.parametrize(("manifest", "ahead"), [("tabletop_hard", True), ("libero_corruption", True),
                                                 ("robocasa_corruption", False), ("robocasa_precise", True)])
def test_the_readmes_sentence_on_our_rule_elsewhere_holds(manifest, ahead):
    episodes = results.episodes_frame(results.runs_of(manifest))
    for other in ("sft", "crossfit_every_wide_random"):  # "of its own weights shuffled too"
        terms = {("crossfit_every_wide", "combined"): 1.0, (other, "combined"): -1.0}
        gain = results.compare(episodes, terms)
        assert (gain.low > 0) == ahead and gain.high > 0
        cautious = crossed_bootstrap(results.paired_values(results.alike(episodes, terms), terms))
        assert (cautious.low > 0) == (ahead and manifest != "robocasa_precise")  # "not with scenes drawn once for both"
        if other == "sft":
            assert f"+{100 * gain.estimate:.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]" in " ".join(
                (REPOSITORY / "README.md").read_text().replace("points [", "[").split())


def test_the_readmes_sentence_on_our_rule_on_libero_holds():
    episodes = results.episodes_frame(results.runs_of("libero_corruption"))
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    share = rule.recovery(episodes, rule.WIDER, "combined").text(100, digits=0).replace(" [", " % [")
    further, words = _gain(episodes, rule.WIDER, rule.CLOSER, "combined")
    seeds = [results.alike(episodes, [(method, "combined") for method in (rule.WIDER, other)]).training_seed.nunique()
             for other in ("sft", rule.CLOSER)]
    assert further.low > 0 and seeds == [4, 2]
    assert (f"{episodes.groupby(['method', 'corruption']).size()[rule.WIDER, 'combined']} episodes of four training "
            f"runs each; there it wins back {share} of the gap, and is {words} from its weights on episodes of like "
            f"length and instruction, {further.count} of two runs)") in text


def test_the_readmes_sentences_on_all_21_tasks_hold():
    episodes = results.episodes_frame(results.runs_of("robocasa_passing_precise"))
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    shuffled, words = _gain(episodes, "ptr", "random", "combined")
    assert shuffled.low > 0 and f"RoboCasa's 21 tasks with combined corruption, {words}, one training run" in text
    ours, words = _gain(episodes, "crossfit_every_wide", "sft", "combined")
    other, _ = _gain(episodes, "crossfit_every_wide", "crossfit_every_wide_random", "combined")
    assert ours.low > 0 > other.low and f"on its 21 tasks the first alone ({words}, one training run)" in text
    assert len(overview.table()) == 12 and "in one of the table's twelve rows they are" in text
    for manifest in overview.MANIFESTS[:-1]:
        others = results.episodes_frame(results.runs_of(manifest))
        assert all(_gain(others, "ptr", "random", kind)[0].low <= 0 for kind in ("none", "combined"))
    assert _gain(episodes, "ptr", "random")[0].low <= 0
    told = kitchen.floor(episodes)
    assert "which reaches the half" in told and "50.0 [28.0, 72.0] % of 16 episodes" in told
    assert "on all 21 tasks just (8 of 16, 50 % [28, 72])" in text
    clean = episodes[(episodes.method == "sft") & (episodes.corruption == "none")]
    picked = clean[clean.task.astype(str).map(kitchen.category) == kitchen.CATEGORY_NAMES[0]]
    assert (len(picked), picked.success.sum()) == (32, 0) and "in none of 32 (0 % [0, 11])" in text


def test_the_readmes_sentence_on_what_the_truth_wins_holds():
    every, _ = claim.with_further(results.runs_of("tabletop_claim"), "tabletop_ingredients")
    episodes = results.episodes_frame(every)
    text = (REPOSITORY / "README.md").read_text()
    said = text[text.index("the truth itself as weights"):].partition(".")[0]
    for ceiling in rule.CEILINGS:
        share = rule.recovery(episodes, ceiling, "combined")
        assert f"{100 * share.estimate:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]" in said


def test_the_readmes_sentence_on_what_was_moved_holds():
    stored = {run.name: run for name in ("tabletop_scale", "tabletop_capacity", "tabletop_large")
              for run in results.runs_of(name)}
    gains = scales.measure(list(stored.values())).drop_duplicates(["words", "quantity"]).set_index(
        "quantity").loc["difference"].set_index("words")
    open_to_both = ["25 demonstrations a task", "4000 steps", "width 128", "everything larger at once"]
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert "behind SFT at the defaults and in seven of ten changes" in text and len(gains) == 12
    assert (gains.drop(open_to_both).high < 0).all()
    others = gains.loc[open_to_both]
    assert "and with four things larger at once which is better cannot be told" in text
    assert (others.low <= 0).all() and (others.high >= 0).all()


def test_the_readmes_sentences_on_where_the_scorer_is_confident_hold():
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert "In none of the table's runs does the paper's controller ever find the scorer confident" in text
    for manifest in overview.MANIFESTS:
        ptr = [run for run in results.runs_of(manifest) if run.setting.method == "ptr"]
        assert ptr and not dynamics.sharpened(results.metrics_frame(ptr)).any()
    stored = {run.name: run for name in ("tabletop_scale", "tabletop_capacity", "tabletop_large")
              for run in results.runs_of(name)}
    sure = scales.measure(list(stored.values())).query("quantity == 'confident' and estimate > 0").words
    assert "Of all these settings those three and 8 negatives are where the paper's controller ever finds the" in text
    assert set(sure) == {"25 demonstrations a task", "4000 steps", "width 128", "8 negatives from the queue"}


def test_the_readmes_sentence_on_where_ptr_stops_costing_success_holds():
    measured = scales.controls(results.runs_of("tabletop_grown")).set_index(["words", "question"])
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert (measured.answer == "cannot be told").all() and len(measured) == 8
    shuffled = [measured.loc[words, "PTR minus its weights shuffled"] for words in ("4000 steps", "width 128")]
    told = " and ".join(f"{100 * row.estimate:+.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]" for row in shuffled)
    assert f"not shown to win any (from the same weights shuffled {told.replace(' [', ' points [', 1)})" in text


def _gain(episodes, method, baseline, kind="none"):
    """The difference, and its estimate and interval in points as README.md writes them."""
    gain = results.compare(episodes, {(method, kind): 1.0, (baseline, kind): -1.0})
    return gain, f"{100 * gain.estimate:+.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"


def test_the_readmes_sentence_on_who_demonstrates_holds():
    rows = operators.gains().set_index(["suite", "demonstrations"])
    text = " ".join((REPOSITORY / "README.md").read_text().split()).replace("points [", "[")
    said = text[text.index("**On clean data it matters who demonstrates"):text.index("**In no row of the table")]
    for suite, manifest in (("easy", "tabletop_claim"), ("hard", "tabletop_hard")):
        precise = rows.loc[suite, operators.SETS["precise"]]
        assert precise.low > 0 and f"{precise.estimate:+.1f} [{precise.low:.1f}, {precise.high:.1f}]" in said
        others = results.episodes_frame(results.runs_of(manifest))
        for method in ("ptr", "crossfit_every_wide"):
            assert _gain(others, method, "sft")[0].low <= 0  # "neither PTR nor our rule is ahead of SFT"
    kept = results.episodes_frame([run for name in ("robocasa_fifty_rate", "robocasa_operators")
                                   for run in results.runs_of(name) if run.setting.method != "sft"
                                   or run.setting.config.ptr.optimization.learning_rate == 0.0001])
    gain, words = _gain(kept, "sft@precise", "sft")
    assert gain.low > 0 and words in said


def test_the_readmes_sentence_on_one_policy_for_two_simulators_holds():
    episodes = generalist.by_setting(results.episodes_frame(results.runs_of("libero_robocasa_precise")))
    found = generalist.world_contrasts(episodes).set_index(["contrast", "robot"])
    text = (REPOSITORY / "README.md").read_text()
    said = " ".join(text[text.index("- **One policy for LIBERO and RoboCasa**"):].split("\n- ")[0].split())
    for robot, count in (("LIBERO", 100), ("RoboCasa", 60)):
        row = found.loc["what pooling adds to PTR − SFT", robot]
        words = f"{robot} {100 * row.estimate:+.0f} [{100 * row.low:.0f}, {100 * row.high:.0f}]"
        assert words in said.replace(" points", "") and row["count"] == count and row.low < 0 < row.high
    plain = episodes[(episodes.method == "sft") & (episodes.setting == "specialist")]
    told, of_libero = kitchen.floor(plain), plain[plain.robot == "LIBERO"].success
    assert of_libero.mean() < 0.6 and f"{of_libero.sum()} of {len(of_libero)} episodes" in said
    assert "misses the half" in told and "30.0 [" in told and "of 30 episodes" in told
    assert "9 of 30 of Door/Drawer" in said


def test_the_readmes_costs_are_the_measured_ones():
    found = speed.ratios(speed.table("steps")).set_index(["policy", "rule", "against"])
    text = (REPOSITORY / "README.md").read_text()
    cost = text[text.index("- **Cost.**"):].split("\n- ")[0]
    for policy, method in (("tabletop", "ptr"), ("libero", "ptr"), ("libero", "ptr_full_targets")):
        row = found.loc[policy, method, "sft_belief"]
        assert f" {row['median']:.3f}" in cost and f"[{row.low:.3f}, {row.high:.3f};" in cost
    again = speed.ratios(speed.table("steps", "experiments/bench/results_shared")).set_index(
        ["policy", "rule", "against"])
    told = [again.loc[policy, "ptr", "sft_belief"] for policy in ("tabletop", "libero")]
    words = " and ".join(f"{row['median']:.3f} [{row.low:.3f}, {row.high:.3f}; {row.rounds}]" for row in told)
    assert f"nor was it when measured again ({words})" in " ".join(cost.split())
    for measured in (found, again):
        for policy, goal in (("tabletop", 1.15), ("libero", 1.05)):
            row = measured.loc[policy, "ptr", "sft_belief"]
            assert row.low <= goal <= row.high  # "cannot be told"


def test_the_readmes_sentence_on_the_floor_holds():
    told = kitchen.floor(results.episodes_frame(results.runs_of("robocasa_corruption")))
    text = (REPOSITORY / "README.md").read_text()
    assert "rank nothing" in told and "41.7 [33.2, 50.6] % of 120 episodes" in told
    assert "(50 of 120 Door/Drawer episodes, 42 % [33, 51];" in " ".join(text.split())
    reached = kitchen.floor(results.episodes_frame(results.runs_of("robocasa_precise")))
    assert "which reaches the half" in reached and "60.0 [47.4, 71.4] % of 60" in reached
    assert "alone it reaches it (36 of 60, 60 % [47, 71])" in " ".join(text.split())


def test_a_cell_is_counted_from_the_episodes(shown):
    episodes = results.episodes_frame(results.runs_of("libero_corruption"))
    mine = episodes[(episodes.method == "oracle") & (episodes.corruption == "combined")]
    row = shown.set_index("world, data").loc["LIBERO (spatial), combined corruption"]
    assert row["oracle filter"].replace("<br>", " ") == wilson_interval(int(mine.success.sum()), len(mine)).text(100)
    each = episodes[(episodes.corruption == "combined") & episodes.method.isin(overview.METHODS)].groupby("method").agg(
        count=("success", "size"), seeds=("training_seed", "nunique"))
    span = [f"{each[name].min()} to {each[name].max()}" for name in ("count", "seeds")]
    assert row["episodes each (seeds)"] == f"{span[0]} ({span[1]})" == "200 to 400 (2 to 4)"
    clean = shown["world, data"].str.endswith("clean data")
    assert not shown.isna().any().any() and (shown["oracle filter"] == "–").tolist() == clean.tolist()


def test_other_kinds_of_data_and_fewer_worlds_can_be_asked_for():
    asked = overview.table(["tabletop_hard"], kinds=["none"])
    assert asked["world, data"].tolist() == ["Tabletop (hard), clean data"] and "oracle filter" not in asked


def test_a_readme_without_the_marks_is_refused(shown):
    with pytest.raises(ValueError, match="README.md must hold .* put them back"):
        overview.written_into("nothing", shown)
