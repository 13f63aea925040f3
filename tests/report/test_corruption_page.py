"""The corruption page: which runs it asks for, what it makes of them, and the page itself on tiny runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from ptrlib import runs
from ptrlib.report import corruption, published, results, statistics, verdicts
from tests.report.made_up_runs import write_manifest, write_runs

GRID = {"data.corruption": ["none", "action_noise", "truncation", "label_noise", "combined"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    manifest = write_manifest(folder, grid=GRID)
    write_runs(manifest, folder / "runs")
    return corruption.read([manifest], folder / "runs")


def with_rates(study, rates, scenes=60, seeds=3):
    """``study`` with episodes of which exactly ``rates[method, kind]`` percent succeed, the same scenes for all."""
    rows = [{"method": method, "corruption": kind, "training_seed": seed, "task": f"task {scene % 3}", "suite": "s",
             "init_state": scene, "run": f"{method} {kind} {seed}", "success": (scene * 7 + seed) % 60 < 0.6 * rate}
            for (method, kind), rate in rates.items() for seed in range(seeds) for scene in range(scenes)]
    return dataclasses.replace(study, episodes=pd.DataFrame(rows))


def test_a_change_reaches_only_the_data_that_it_changes(tmp_path):
    stored = {s.folder_name for s in runs.load_manifest(results.manifest_path("tabletop_corruption")).settings}
    paths = corruption.wanted("tabletop_corruption", corruption="label_noise", seeds=2, folder=tmp_path,
                              changes={"data.label_fraction": 0.4, "data.noise_sigma": None})
    settings = [setting for path in paths for setting in runs.load_manifest(path).settings]
    clean = [s for s in settings if s.config.data.corruption == "none"]
    noisy = [s for s in settings if s.config.data.corruption == "label_noise"]
    assert len(clean) + len(noisy) == len(settings) and {s.config.seed for s in settings} == {0, 1}
    assert {s.folder_name for s in clean} < stored and len(clean) == 2 * 4  # without corruption no oracle
    assert not {s.folder_name for s in noisy} & stored and len(noisy) == 2 * 5
    assert {s.config.data.label_fraction for s in noisy} == {0.4}


def test_without_changes_the_manifest_itself_is_read(tmp_path):
    assert corruption.wanted("tabletop_corruption") == [results.manifest_path("tabletop_corruption")]
    everything = corruption.wanted("tabletop_corruption", changes={"data.noise_sigma": 0.7}, folder=tmp_path)
    settings = [setting for path in everything for setting in runs.load_manifest(path).settings]
    changed = {s.config.data.corruption for s in settings if s.config.data.noise_sigma == 0.7}
    assert changed == {"action_noise", "combined"}
    assert {s.config.data.corruption for s in settings} == set(GRID["data.corruption"])


@pytest.mark.parametrize(("asked", "words"), [
    ({"corruption": "bananas"}, "corruption 'bananas' is unknown; choose among action_noise, truncation"),
    ({"corruption": ["truncation", "label_noise"], "changes": {"data.noise_sigma": 0.2}},
     "data.noise_sigma changes nothing about truncation and label noise; ask for corruption=action_noise"),
    ({"methods": "recap"}, "has no method 'recap'; it has sft, ptr"),
    ({"changes": {"ptr.optimization.steps": "many"}}, "'ptr.optimization.steps' must be int, got 'many'")])
def test_what_cannot_be_is_refused_in_one_sentence(asked, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        corruption.wanted("tabletop_corruption", **asked, folder=tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_without_corruptions_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no grid over data.corruption; name a manifest that has one"):
        corruption.wanted("tabletop_pretrain", changes={"data.label_fraction": 0.4}, folder=tmp_path)


def test_executed_noise_is_not_added_to_labels_as_well(tmp_path):
    paths = corruption.wanted("tabletop_corruption", corruption=corruption.EXECUTED, folder=tmp_path)
    settings = runs.load_manifest(paths[-1]).settings
    assert {s.config.data.path for s in settings} == {"data/tabletop_executed/easy"}
    assert {(s.config.data.corruption, s.config.data.noise_fraction) for s in settings} == {("action_noise", 0.0)}
    shared = runs.load_manifest(results.manifest_path("tabletop_corruption")).settings[0].config
    assert {s.config.initial_policy for s in settings} == {shared.initial_policy}
    assert [s.method for s in runs.load_manifest(corruption.executed(methods=["ptr", "sft_belief"], seeds=1,
                                                                     folder=tmp_path)[0]).settings] == ["ptr"]
    assert corruption.executed(methods=["sft_belief"]) == []


def test_the_two_readings_of_action_noise_are_kept_apart(tmp_path):
    manifest = write_manifest(tmp_path, seeds=[0], grid={"data.corruption": ["none", "action_noise"]})
    second = tmp_path / "executed.yaml"
    second.write_text(manifest.read_text().replace("evaluation.episodes_per_task: 4", (
        "evaluation.episodes_per_task: 4\n  data.path: data/tabletop_executed/easy")).replace("- none\n", ""))
    for path in (manifest, second):
        write_runs(path, tmp_path / "runs")
    both = corruption.read([manifest, second], tmp_path / "runs")
    assert both.corruptions == ["action_noise", corruption.EXECUTED] and both.focus == "action_noise"
    for table in (both.episodes, both.weights, both.provenance):
        assert set(table.corruption) == {"none", "action_noise", corruption.EXECUTED}
    assert [run.name for run in corruption.ranked(both)] == [
        run.name for run in both.stored if run.setting.method == "ptr"
        and run.setting.config.data.corruption == "action_noise" and "executed" not in run.setting.config.data.path]
    gap = results.contrast(both.episodes, {("sft", corruption.EXECUTED): 1.0, ("sft", "action_noise"): -1.0})
    assert gap.text(100, sign=True) in corruption.reading_text(both)


def test_charts_hold_the_rates_the_paired_differences_and_the_drops(study):
    rates = study.episodes.groupby(["method", "corruption"]).success.mean()
    success = corruption.success_groups(study)
    assert list(dict.fromkeys(success.corruption)) == GRID["data.corruption"]
    for row in success.itertuples():
        assert row.estimate == pytest.approx(100 * rates[row.method, row.corruption])
        assert row.low < row.estimate < row.high and row.episodes == 80
    for row in corruption.difference_groups(study).itertuples():
        expected = results.difference(study.episodes, row.method, "sft", row.corruption)
        assert (row.estimate, row.low, row.high) == pytest.approx(
            (100 * expected.estimate, 100 * expected.low, 100 * expected.high))
    drops = corruption.drop_groups(study)
    ours = drops[drops.kind.str.endswith(": ours")]
    assert len(ours) == 3 * 4
    for row in ours.itertuples():
        assert row.estimate == pytest.approx(100 * (rates[row.method, "none"] - rates[row.method, row.corruption]))
    paper = drops[drops.kind.str.endswith(": the paper")]
    printed = published.read("figure2_drops")
    assert sorted(paper.estimate) == sorted(printed.drop_points) and paper.low.isna().all()
    assert set(paper.method) == {"sft", "ptr"}


def test_uneven_training_seeds_are_said_and_only_shared_ones_are_compared(study):
    """A second training seed under one corruption alone: what is compared with clean data keeps one, and says so."""
    rates = {(method, kind): rate for method, rate in (("sft", 60), ("ptr", 40), ("sft_belief", 50))
             for kind in ("none", "combined")}
    even = with_rates(study, rates, seeds=2)
    first = even.episodes.training_seed == 0
    again = even.episodes.method.isin(["sft", "ptr"]) & (even.episodes.corruption == "combined")
    uneven = dataclasses.replace(even, episodes=even.episodes[first | again])
    drawn = corruption.difference_groups(uneven).set_index(["method", "corruption"])["count"]
    assert drawn["ptr", "combined"] == 120 and drawn["ptr", "none"] == drawn["sft_belief", "combined"] == 60
    assert "1 to 2 training seeds" in corruption.introduction(uneven)
    assert "that its sides have in common" in corruption.introduction(uneven)
    assert "in common" not in corruption.introduction(even)
    assert "in this one training run of each" in corruption.verdict_line(uneven)
    told = verdicts.headline(uneven.episodes, "combined")
    assert "SFT succeeds more often, in these two training runs of each**" in told
    assert "% in the same 60 episodes" in told
    assert "in the same" not in verdicts.headline(even.episodes, "combined")


def test_an_oracle_loses_against_the_clean_runs_of_sft(study):
    fixed = with_rates(study, {("sft", "none"): 80, ("sft", "truncation"): 50, ("oracle", "truncation"): 75})
    drops = corruption.drop_groups(fixed)
    oracle = drops[(drops.method == "oracle") & drops.kind.str.endswith(": ours")]
    assert oracle.estimate.item() == pytest.approx(5)


def test_the_verdict_names_where_ptr_loses_less_and_where_it_does_not(study):
    rates = {("sft", "none"): 90, ("ptr", "none"): 90, ("sft", "truncation"): 40, ("ptr", "truncation"): 80,
             ("sft", "label_noise"): 80, ("ptr", "label_noise"): 40, ("sft", "combined"): 30, ("ptr", "combined"): 30}
    fixed = with_rates(study, rates)
    table = corruption.drop_table(fixed).set_index("data")
    assert table.answer.to_dict() == {"truncation": corruption.LESS, "label noise": corruption.MORE,
                                      "combined corruption": corruption.UNKNOWN}
    assert table.loc["truncation", "estimate"] == pytest.approx(0.4) and (table["harms SFT"] == "yes").all()
    assert table.loc["truncation", "paper, LIBERO: SFT, PTR"] == "6.7, 3.8"
    line = corruption.verdict_line(fixed)
    assert "**holds** with truncation, **does not hold (PTR loses more)** with label noise" in line
    assert "**cannot be told** with combined corruption" in line and "at all" not in line
    harmless = corruption.verdict_line(with_rates(study, {**rates, ("sft", "combined"): 90, ("ptr", "combined"): 90}))
    assert "That the corruption costs SFT anything at all cannot be told with combined corruption" in harmless
    one = corruption.verdict_line(with_rates(study, rates, seeds=1))
    assert one.count(verdicts.scope(with_rates(study, rates, seeds=1).episodes)) == 1
    alone = with_rates(study, {("ptr", "none"): 90, ("ptr", "combined"): 20})
    assert "no runs of both SFT and PTR" in corruption.verdict_line(alone)
    asked = corruption.answers(fixed).set_index(["question", "data"])
    row = asked.loc["Does PTR succeed more often than SFT?", "truncation"]
    assert row.answer == "yes" and row.number.startswith("+40.0")


def test_rates_stand_above_the_papers(study):
    table = corruption.rate_table(study).set_index(["source", "method"])
    clean = study.episodes[(study.episodes.method == "sft") & (study.episodes.corruption == "none")].success.mean()
    assert table.loc[("LIBERO (spatial)", "SFT"), "clean data"].startswith(f"{100 * clean:.1f} [")
    printed = published.success(published.SIMULATION)
    assert table.loc[("paper, LIBERO", "PTR"), "clean data"] == f"{printed.loc['PTR', ('LIBERO', 'Avg')]:.1f}"
    after = printed.loc["SFT", ("RoboCasa", "Avg")] - 17.8
    assert table.loc[("paper, RoboCasa", "SFT"), "combined corruption"] == f"{after:.1f}"
    assert table.loc[("paper, RoboCasa", "SFT"), "action noise"] == ""  # the paper states none


def test_truncated_chunks_are_compared_with_those_that_such_a_cut_would_leave(study):
    generator, data, rows = np.random.default_rng(0), study.config.data, []
    for episode in range(600):
        length, hit = int(generator.integers(30, 90)), episode % 2 == 0
        kept = round(generator.uniform(*data.truncation_keep) * length) if hit else length
        rows += [{"episode": f"run/train/{episode}", "start": start, "phase": start / kept,
                  "valid": start + data.offset <= kept, "corrupted": hit, "truth_truncation": hit,
                  "score": (length + start) / 60 + generator.normal(0, 0.3)} for start in range(0, kept, 8)]
    chunks = pd.DataFrame(rows).assign(method="ptr", corruption="truncation", split="train", run="run",
                                       truth_action_noise=False, truth_label_noise=False)
    made_up = dataclasses.replace(study, weights=chunks)
    left = corruption.as_if_cut(chunks[~chunks.corrupted], data.truncation_keep, data.offset)
    there, valid = ~chunks.corrupted & chunks.valid, chunks[chunks.valid]
    assert 0 < len(left) < there.sum() and left.valid.all()
    share = len(left) / there.sum()
    assert share == pytest.approx(valid.corrupted.sum() / there.sum(), abs=0.05)  # as many as truncation leaves
    assert statistics.auroc(valid.score, ~valid.corrupted, valid.episode, valid.run).low > 0.5  # though none is told
    assert "(**cannot be told**)." in corruption.truncation_note(made_up)
    told = dataclasses.replace(study, weights=chunks.assign(score=chunks.score - 2.0 * chunks.corrupted))
    assert "(**told apart**)." in corruption.truncation_note(told)
    assert corruption.truncation_note(made_up, "random") == ""


def test_weights_are_relative_to_their_run_and_scores_see_what_is_there(study):
    groups = corruption.weight_groups(study, "combined").set_index(["kind", "group", "method"])
    chunks = study.weights.query("method == 'ptr' and corruption == 'combined' and split == 'train'")
    relative = chunks.weight / chunks.groupby("run").weight.transform("mean")
    by_run = relative[chunks.valid & chunks.truth_action_noise].groupby(chunks.run).mean()
    assert groups.loc[("corruption", "action noise", "ptr"), "estimate"] == pytest.approx(by_run.mean())
    assert list(dict.fromkeys(groups.index.get_level_values(0)))[0] == "consequence"
    assert corruption.weighting(study) == ["ptr", "random"] and corruption.scoring(study) == ["ptr"]
    auroc = corruption.auroc_groups(study)
    assert set(auroc.method) == {"ptr", corruption.SFT_LOSS} and set(auroc.data) == set(GRID["data.corruption"][1:])
    assert (auroc[auroc.method == "ptr"].low > 0.7).all()
    table, mine = corruption.auroc_table(auroc), auroc[auroc.method == "ptr"]
    assert table["data"].tolist() == [corruption.corruption_label(kind) for kind in mine["data"]]
    assert table.PTR.tolist() == [f"{row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in mine.itertuples()]
    assert "action loss of SFT" in table
    first = mine.iloc[0]
    noted = corruption.auroc_note(auroc)
    assert noted.startswith("Does PTR’s score put untouched chunks above corrupted ones? **yes** with ")
    assert f"({first.estimate:.3f} [{first.low:.3f}, {first.high:.3f}])" in noted and "told" not in noted
    mirrored = corruption.auroc_note(auroc.assign(estimate=1 - auroc.estimate, low=1 - auroc.high, high=1 - auroc.low))
    assert "**no, the wrong way round** with" in mirrored and "yes" not in mirrored
    assert "**cannot be told** with" in corruption.auroc_note(auroc.assign(low=0.4, high=0.6))
    assert corruption.auroc_note(auroc[auroc.method != "ptr"]) == ""
    held_out = corruption.held_out_groups(study)
    assert len(held_out) == 5 * 2 and set(held_out.group) == {"training episodes", "held-out episodes"}
    lines = corruption.weight_lines(study, "combined")
    share = np.mean([part.corrupted.mean() for _, part in chunks.groupby("run")])
    assert f"corrupted chunks are {100 * share:.1f} [" in lines and lines.count("\n") == 1


def test_the_introduction_reads_the_strength_of_the_noise_from_the_runs(study):
    text = corruption.introduction(study)
    assert "**LIBERO (spatial): 30 runs**, 3 methods on 5 kinds of data, 2 training seeds" in text
    assert "σ = 0.1 of a full action on 30% of the episodes (the paper: 0.1; scaled by 1)" in text
    assert "**80 evaluation episodes** behind each rate" in text and "30% of" in text
    assert "2 of its 4 runs" not in corruption.missing_cost([], study)


def test_the_page_shows_what_its_runs_hold(tiny_book):
    methods = ["sft", "ptr", "oracle"]
    stored = tiny_book.make("tabletop_corruption", methods=methods)
    stored += tiny_book.make("tabletop_executed", methods=methods)
    page = tiny_book.execute("corruption_robustness", methods=methods)
    text = page.text()
    assert f"Tabletop (easy): {len(stored)} runs" in text and "scaled by 5" in text
    assert "PTR loses less to corruption than SFT" in text and "are not stored here" in text
    success = page.frame("corruption_success").set_index(["method", "corruption"])
    expected = results.episodes_frame(stored).groupby(["run", "method"]).success.mean()
    assert len(success) == len(stored) and success.estimate.sum() == pytest.approx(100 * expected.sum())
    assert set(success.index.get_level_values(1)) == {*GRID["data.corruption"], corruption.EXECUTED}
    ptr = [run for run in stored if run.setting.method == "ptr" and run.setting.config.data.corruption == "combined"]
    chunks = results.last_snapshot(results.weights_frame(ptr)).query("split == 'train'")
    drawn = page.frame("weights_by_group").set_index(["kind", "group"])
    relative = chunks.weight / chunks.weight.mean()
    assert drawn.loc[("consequence", "recorded"), "estimate"] == pytest.approx(relative[chunks.valid].mean(), rel=1e-4)
    auroc = page.frame("score_auroc").set_index(["data", "corruption", "method"])
    measured = verdicts.score_auroc(results.weights_frame(ptr), "ptr").set_index("corruption").estimate
    assert auroc.loc[("combined", "label_noise", "ptr"), "estimate"] == pytest.approx(measured["label_noise"], rel=1e-4)


def test_controls_that_share_a_rules_score_have_none_of_their_own():
    libero = corruption.read(["libero_corruption"])
    assert {"crossfit_every_wide_random", "crossfit_every_wide_alike"} <= set(libero.weights.method)
    drawn = corruption.auroc_groups(libero).method
    assert "crossfit_every_wide" in set(drawn) and not drawn.str.endswith(("random", "alike")).any()


def test_seeds_that_were_made_alike_are_compared_alone(study):
    rates = {(method, kind): rate for kind in ("none", "combined") for method, rate in (("sft", 80), ("ptr", 20))}
    judged = with_rates(study, rates)
    made = pd.DataFrame([{"method": method, "corruption": kind, "training_seed": seed, "processor": "one",
                          "data_fingerprint": "as first recorded", "precision": "float32",
                          "multiplies_bfloat16": None} for method, kind in rates for seed in range(3)])

    def told(**columns):
        return corruption.made_alike(dataclasses.replace(judged, provenance=made.assign(**columns)))

    assert not told()  # nothing differs: no need to say it
    assert not told(processor=made.method)  # no two are alike
    first = (made.method == "sft") & (made.training_seed == 0)
    text = told(processor=made.processor.mask(first, "another"))
    assert "with combined corruption (seeds 1 and 2) -60.0" in text and "n = 120: **PTR is behind**" in text
    others = (made.method == "sft") & (made.training_seed < 2) & (made.corruption == "none")
    text = told(data_fingerprint=made.data_fingerprint.mask(others, "recorded anew"))
    assert "with clean data (seed 2) -60.0" in text and "combined" not in text
    assert told(precision=made.precision.mask(first, "auto")) == told(processor=made.processor.mask(first, "another"))
