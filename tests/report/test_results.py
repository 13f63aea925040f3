"""From run folders to frames, charts and verdicts: nothing missing, nothing made up on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptrlib import runs
from ptrlib.config import RunConfig, override
from ptrlib.report import charts, figures, results, verdicts
from ptrlib.report.cost import cost
from ptrlib.report.statistics import wilson_interval
from tests.report.made_up_runs import write_manifest, write_runs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    manifest = write_manifest(folder)
    write_runs(manifest, folder / "runs")
    return folder


@pytest.fixture(scope="module")
def stored(world):
    return results.runs_of(world / "made_up.yaml", world / "runs")


def test_runs_of_gives_every_setting_with_its_folder(stored):
    assert len(stored) == 3 * 2 * 2
    assert all(runs.folder_name(run.setting.config) == run.name for run in stored)


def test_a_missing_run_is_one_sentence_with_folder_and_command(world, tmp_path):
    manifest = write_manifest(tmp_path)
    shutil.copytree(world / "runs", tmp_path / "runs")
    victim = runs.load_manifest(manifest).settings[3].folder_name
    (tmp_path / "runs" / victim / "done").unlink()
    with pytest.raises(ValueError) as caught:
        results.runs_of(manifest, tmp_path / "runs")
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path / "runs" / victim) in message
    assert f"1 of the 12 runs of {manifest}" in message and f"ptrlib run {manifest}" in message


def test_a_run_without_its_table_or_its_origin_is_refused(world, tmp_path):
    manifest = write_manifest(tmp_path, methods={"sft": {"credit": "sft"}}, seeds=[0])
    write_runs(manifest, tmp_path / "runs")
    stored = results.runs_of(manifest, tmp_path / "runs")
    (stored[0].folder / "weights.parquet").unlink()
    (stored[1].folder / "evaluation.json").unlink()
    with pytest.raises(ValueError, match="weights.parquet is missing although"):
        results.weights_frame(stored)
    with pytest.raises(ValueError, match="evaluation.json is missing, so nobody can tell"):
        results.provenance_frame(stored)


def test_frames_carry_the_setting_and_keep_episodes_of_runs_apart(stored):
    episodes, weights = results.episodes_frame(stored), results.weights_frame(stored)
    assert set(episodes.method) == {"sft", "ptr", "random"} and set(episodes.training_seed) == {0, 1}
    assert len(episodes) == 12 * 40 and (episodes.seed == 7).all()
    assert weights.episode.nunique() == 12 * (24 + 6)
    assert (weights.corrupted == weights.truth_action_noise).all() and weights.corrupted.any()
    assert not weights[weights.split == "held_out"].corrupted.any()
    assert set(results.last_snapshot(weights).step) == {10}
    assert results.metrics_frame(stored).query("method == 'sft'").nce_acc.isna().all()


def test_provenance_frame_shares_the_time_of_an_evaluation_pass(stored):
    frame = results.provenance_frame(stored)
    assert len(frame) == 12 and (frame.evaluation_seconds == 5.0).all() and (frame.torch == "2").all()


def test_a_run_that_was_only_trained_passes_where_that_is_enough(tmp_path):
    manifest = write_manifest(tmp_path, seeds=[0])
    write_runs(manifest, tmp_path / "runs")
    victim = results.runs_of(manifest, tmp_path / "runs")[0].folder
    for name in ("done", "evaluation.json", "episodes.parquet"):
        (victim / name).unlink()
    with pytest.raises(ValueError, match=victim.name):
        results.runs_of(manifest, tmp_path / "runs")
    frame = results.provenance_frame(results.runs_of(manifest, tmp_path / "runs", evaluated=False))
    assert len(frame) == 6 and frame.evaluation_commit.isna().sum() == 1


def test_success_rates_are_counts_with_wilson_intervals(stored):
    episodes = results.episodes_frame(stored)
    rates = results.success_rates(episodes).set_index(["corruption", "method"])
    cell = episodes[(episodes.corruption == "combined") & (episodes.method == "ptr")]
    row, interval = rates.loc["combined", "ptr"], wilson_interval(int(cell.success.sum()), len(cell))
    assert (row.successes, row.episodes) == (cell.success.sum(), 80)
    assert (row.success, row.low, row.high) == (interval.estimate, interval.low, interval.high)


def test_contrasts_pair_scenes_and_refuse_what_cannot_be_paired(stored):
    episodes = results.episodes_frame(stored)
    rates = results.success_rates(episodes).set_index(["method", "corruption"]).success
    gain = results.difference(episodes, "ptr", "sft", "combined")
    assert gain.estimate == pytest.approx(rates["ptr", "combined"] - rates["sft", "combined"])
    shuffled = episodes.sample(frac=1, random_state=0)
    assert results.difference(shuffled, "ptr", "sft", "combined").estimate == pytest.approx(gain.estimate)
    drop = results.contrast(episodes, {("ptr", "none"): 1.0, ("ptr", "combined"): -1.0})
    assert drop.estimate == pytest.approx(rates["ptr", "none"] - rates["ptr", "combined"])
    with pytest.raises(ValueError, match="no episodes of 'oracle' on 'combined'"):
        results.difference(episodes, "oracle", "sft", "combined")
    fewer = episodes[~((episodes.method == "sft") & (episodes.init_state == 3))]
    with pytest.raises(ValueError, match="not evaluated on the same scenes"):
        results.difference(fewer, "ptr", "sft", "combined")


def test_narrowing_keeps_the_folders_of_what_stays_and_names_what_is_new(world, tmp_path):
    manifest = world / "made_up.yaml"
    assert results.narrow(manifest, changes={"data.noise_sigma": None}) == manifest
    everything = {run.folder_name for run in runs.load_manifest(manifest).settings}
    fewer = results.narrow(manifest, methods=["sft", "ptr"], seeds=1, folder=tmp_path)
    kept = {setting.folder_name for setting in runs.load_manifest(fewer).settings}
    assert len(kept) == 4 and kept < everything
    assert len(results.runs_of(fewer, world / "runs")) == 4
    changes = {"data.corruption": ["none", "label_noise"], "data.label_fraction": 0.4}
    other = results.narrow(manifest, changes=changes, folder=tmp_path)
    settings = runs.load_manifest(other).settings
    assert {s.config.data.corruption for s in settings} == {"none", "label_noise"}
    assert {s.config.data.label_fraction for s in settings} == {0.4} and len(settings) == 12
    with pytest.raises(ValueError, match=f"ptrlib run {other}"):
        results.runs_of(other, world / "runs")
    with pytest.raises(ValueError, match="has no method 'recap'; it has sft, ptr, random"):
        results.narrow(manifest, methods=["recap"], folder=tmp_path)
    alone = results.narrow(manifest, methods="sft", seeds=[1], folder=tmp_path)
    assert {(s.method, s.config.seed) for s in runs.load_manifest(alone).settings} == {("sft", 1)}


@pytest.mark.parametrize(("asked", "words"), [
    *(({"seeds": seeds}, f"seeds={seeds!r} names no training seeds; give how many, 1 or more, or a list")
      for seeds in (0, -1, [], 1.5, True, "two", [-1], ["a"])),
    ({"seeds": [2, 2]}, "seeds has 2 twice; ask for another value beside it"),
    ({"changes": {"data.corruption": ["none", "none"]}}, "corruption has none twice; ask for another value beside it"),
    ({"methods": "nonsense"}, "made_up.yaml has no method 'nonsense'; it has sft, ptr, random"),
    ({"changes": {"ptr.optimization.steps": "many"}},
     "made_up.yaml with what was asked for: 'ptr.optimization.steps' must be int, got 'many'")])
def test_what_no_run_can_have_is_refused_and_leaves_no_manifest(world, tmp_path, asked, words):
    with pytest.raises(ValueError) as caught:
        results.narrow(world / "made_up.yaml", folder=tmp_path, **asked)
    assert words in str(caught.value) and "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_verdicts_follow_from_the_numbers(stored):
    episodes = results.episodes_frame(stored)
    table = verdicts.success_verdicts(episodes, "combined").set_index("question")
    better = table.loc["Does PTR succeed more often than SFT?"]
    assert better.low > 0 and better.answer == "yes, in these two training runs of each"
    assert not table.index.str.contains("oracle").any()  # no such runs, no such answer
    flipped = episodes.assign(method=episodes.method.map({"ptr": "sft", "sft": "ptr", "random": "random"}))
    worse = verdicts.success_verdicts(flipped, "combined").set_index("question").iloc[0]
    assert worse.answer.startswith("no, less often") and worse.estimate == pytest.approx(-better.estimate)
    same = pd.concat([episodes[episodes.method == "sft"].assign(method=name) for name in ("sft", "ptr")])
    assert verdicts.success_verdicts(same, "combined").iloc[0].answer == "cannot be told"


def test_headline_says_which_method_wins_and_whether_the_papers_gain_fits(stored):
    episodes = results.episodes_frame(stored)
    text = verdicts.headline(episodes, "combined")
    gain = results.difference(episodes, "ptr", "sft", "combined")
    assert "PTR succeeds more often" in text and gain.text(100, sign=True) in text
    assert ("excludes" in text) == (100 * gain.low > 5.6) and "of 80 episodes" in text
    alone = verdicts.headline(episodes, "combined", benchmark=None)
    assert gain.text(100, sign=True) in alone and "paper" not in alone and "can only tell" in alone
    assert "nothing to conclude" in verdicts.headline(episodes[episodes.method == "ptr"], "combined")


def test_with_one_training_seed_the_answer_is_about_these_runs_only(stored):
    episodes = results.episodes_frame(stored)
    one = episodes[episodes.training_seed == 0]
    assert verdicts.success_verdicts(one, "combined").iloc[0].answer == "yes, in this one training run of each"
    assert "in this one training run of each" in verdicts.headline(one, "combined")
    assert "one training run" not in verdicts.headline(episodes, "combined")
    belief = episodes[episodes.method == "ptr"].assign(method="sft_belief")  # as good as PTR, to the scene
    text = verdicts.headline(pd.concat([episodes, belief]), "combined")
    assert "+0.0 [+0.0, +0.0] points: **what losses and weights do together cannot be told**" in text


def test_the_floor_warning_names_the_rate_and_goes_away_above_it(stored):
    episodes = results.episodes_frame(stored)
    weak = episodes.assign(success=episodes.init_state == 0)  # one scene of four
    assert "reaches 25.0 % of 80 episodes, below the 60%" in verdicts.floor_warning(weak)
    assert verdicts.floor_warning(episodes.assign(success=True)) == ""
    assert verdicts.floor_warning(episodes[episodes.method == "ptr"]) == ""


def test_score_verdicts_see_the_corruption_that_is_there(stored):
    weights = results.weights_frame(stored)
    table = verdicts.score_auroc(weights[weights.corruption == "combined"], "ptr")
    assert list(table.corruption) == ["action_noise"] and table.low.iloc[0] > 0.7
    assert verdicts.score_auroc(weights[weights.corruption == "none"], "ptr").empty
    assert verdicts.score_auroc(weights[weights.corruption == "combined"], "sft").empty  # it has no score
    answer = verdicts.score_verdicts(weights[weights.corruption == "combined"], "ptr")
    assert list(answer.answer) == ["yes"] and "action noise" in answer.question.iloc[0]


def test_chunks_that_another_corruption_hit_as_well_say_nothing_of_one():
    chunks = pd.DataFrame({"truth_action_noise": [True, True, False, False],
                           "truth_truncation": [False, True, True, False], "truth_label_noise": [False] * 4})
    assert results.hit_alone(chunks, "action_noise").tolist() == [True, False, False, False]
    assert results.hit_alone(chunks, "truncation").tolist() == [False, False, True, False]
    weights = chunks.assign(run="r", method="ptr", split="train", valid=True, step=1, episode=list("abcd"), task="t",
                            corrupted=[True, True, True, False], score=[1.0, 9.0, 2.0, 3.0])
    told = verdicts.score_auroc(weights, "ptr").set_index("corruption").estimate
    assert told.to_dict() == {"action_noise": 1.0, "truncation": 1.0}  # of the chunk with both, neither


def drawn_positions(figure):
    """x of every marker of the figure, in no order."""
    lines = [line for axes in figure.axes for line in axes.get_lines()
             if line.get_marker() not in ("None", "|", "")]
    return np.sort(np.concatenate([np.asarray(line.get_xdata(), float) for line in lines]))


def test_charts_draw_the_numbers_of_their_frame_and_keep_their_runs(stored, tmp_path, monkeypatch):
    monkeypatch.setenv(figures.FOLDER_VARIABLE, str(tmp_path))
    episodes, weights = results.episodes_frame(stored), results.weights_frame(stored)
    rates = results.success_rates(episodes)
    figure, drawn = charts.success_chart(rates)
    assert drawn_positions(figure) == pytest.approx(np.sort(100 * rates.success))
    figures.save_figure(figure, "made_up", data=drawn, runs=[run.name for run in stored])
    kept = pd.read_csv(tmp_path / "made_up.csv")
    assert kept.success.to_numpy() == pytest.approx(100 * rates.success.to_numpy(), rel=1e-5)
    assert json.loads((tmp_path / "made_up.json").read_text())["runs"] == sorted(run.name for run in stored)
    assert all((tmp_path / f"made_up.{suffix}").stat().st_size > 1000 for suffix in ("pdf", "png"))

    pairs = [("ptr", "none"), ("ptr", "combined"), ("random", "combined")]
    table = results.intervals(pairs, ["method", "corruption"],
                              lambda method, data: results.difference(episodes, method, "sft", data))
    figure, drawn = charts.difference_chart(table, "points")
    assert drawn_positions(figure) == pytest.approx(np.sort(100 * table.estimate))

    auroc = verdicts.score_auroc(weights[weights.corruption == "combined"], "ptr")
    groups = auroc.assign(kind="a", group="b")
    figure, drawn = charts.grouped_chart(groups, "AUROC")
    assert drawn_positions(figure) == pytest.approx(groups.estimate)

    metrics = results.metrics_frame(stored).query("method == 'ptr'")
    figure, drawn = charts.training_chart(metrics, {"nce_acc": "accuracy", "tau": "tau"})
    assert figure.axes[0].get_lines()[0].get_ydata() == pytest.approx(drawn["nce_acc mean"].to_numpy())
    ends = metrics[metrics.step == 10].nce_acc
    assert drawn["nce_acc mean"].iloc[-1] == pytest.approx(ends.mean())
    _, smooth = charts.training_chart(metrics, {"nce_acc": "accuracy"}, window=2)
    assert smooth["nce_acc mean"].iloc[-1] == pytest.approx(metrics.nce_acc.mean())


def test_the_made_up_tables_have_the_columns_that_training_writes(stored):
    from ptrlib.training import describe, prepare_data
    from tests.factories import tiny_episodes
    from tests.test_training import tiny_config

    config = tiny_config(**{"data.corruption": "combined"})
    data = prepare_data(config, tiny_episodes(8, 40, 32))
    written = set(describe(data.train, np.zeros(1, int), np.zeros(1, int)).columns)
    written |= {"step", "split", "valid", "score", "weight", "loss"}  # Trainer._score adds these
    assert set(pd.read_parquet(stored[0].folder / "weights.parquet").columns) == written


def test_a_world_is_named_with_the_assets_it_was_evaluated_with(stored, tmp_path):
    assert results.world_of(stored) == "LIBERO (spatial)"
    kitchens = []
    for number, assets in enumerate(("minimal", "minimal", "full")):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "evaluation.json").write_text(json.dumps({"simulators": [{"assets": assets}]}))
        config = override(RunConfig(), {"evaluation.world": "robocasa", "evaluation.suite": "robocasa_others"})
        kitchens.append(results.StoredRun(runs.Setting("sft", config), folder))
    assert results.world_of(kitchens[:2]) == "RoboCasa in the minimal kitchen (others)"
    assert results.world_of(kitchens[2:]) == "RoboCasa (others)"
    precise, both = (replace(kitchens[0], setting=runs.Setting("sft", override(kitchens[0].setting.config, {
        "data.operators": names}))) for names in (["precise"], ["slow", "noisy"]))
    assert results.world_of([precise]) == "RoboCasa in the minimal kitchen (others), the precise demonstrator alone"
    assert results.world_of([both]).endswith("(others), the slow and noisy demonstrators alone")
    assert results.world_of([precise, kitchens[0]]) == "RoboCasa in the minimal kitchen (others)"
    assert charts.world_label("libero+robocasa", "libero_spatial+robocasa_others", "minimal") == (
        "LIBERO (spatial) and RoboCasa in the minimal kitchen (others)")
    with pytest.raises(ValueError, match="evaluated with full and minimal assets; evaluate all of them with the same"):
        results.world_of(kitchens)
    with pytest.raises(ValueError, match="evaluated with minimal and no assets; evaluate all of them with the same"):
        results.world_of([*stored, *kitchens[:1]])  # a world that has none is another world


def test_the_cost_of_a_page_is_that_of_its_runs(stored):
    """Six settings of two minutes' training and five seconds' evaluation each."""
    whole = "One training seed of this page is 6 runs: 6 min on 2 cores at the pace of the quickest stored run of each"
    assert cost(stored, "page").startswith(whole)
    assert cost(stored, "page").endswith("`ptrlib notebook page source=fresh seeds=1` makes all that is not stored yet "
                                         "in about 10 minutes or less on cores as free.")
    steps = stored[0].setting.config.ptr.optimization.steps
    short = cost(stored, "page", arguments="manifest=m", minutes=3.0)
    fewer = int((3.0 - 0.25) / 6.0 * steps) // 10 * 10
    assert f"`ptrlib notebook page source=fresh seeds=1 manifest=m steps={fewer}` makes" in short
    assert "seeds=1 manifest=m` does so with all steps, on 5 such cores or more." in short
    assert "ask for fewer methods" in cost(stored, "page", minutes=0.2)


def test_a_legend_stands_in_the_books_order_whichever_panel_a_method_is_in():
    groups = pd.DataFrame([{"kind": kind, "group": "g", "method": method, "estimate": 1.0, "low": 0.0, "high": 2.0}
                           for kind, methods in (("first", ("ptr", "other")), ("second", ("sft", "ptr")))
                           for method in methods])
    figure, _ = charts.grouped_chart(groups, "label")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SFT", "PTR", "other"]


def test_a_legend_of_long_names_stays_on_the_figure_and_tells_methods_of_one_colour_apart():
    methods = ["sft", "no_ema", "crossfit", "crossfit_every", "crossfit_every_wide", "oracle"]
    groups = pd.DataFrame({"kind": "kind", "group": "group", "method": methods, "estimate": 0.5, "low": 0.4,
                           "high": 0.6})
    figure, _ = charts.grouped_chart(groups, "label")
    figure.canvas.draw()
    (legend,) = figure.legends
    assert figure.bbox.x0 <= legend.get_window_extent().x0 and legend.get_window_extent().x1 <= figure.bbox.x1
    lines = [bars.lines[0] for bars in figure.axes[0].containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(methods)
    assert len({line.get_color() for line in lines}) < len(methods)
