"""One generalist against a specialist for each robot: contrasts, source shares and correspondence by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ptrlib import runs
from ptrlib.correspondence import Correspondence, load_correspondence
from ptrlib.data.reading import read_episodes
from ptrlib.method.weights import conservative_weights
from ptrlib.report import correspondence, generalist, results

ROBOTS = ("gantry", "two_link")
SUCCESS = {"sft@gantry": 0.5, "sft@two_link": 0.25, "ptr@gantry": 0.75, "ptr@two_link": 0.5, "sft@generalist": 0.25,
           "ptr@generalist": 0.75}


@pytest.fixture(scope="module")
def episodes():
    """Eight scenes of one task for each robot, two training seeds; a policy solves the first scenes."""
    rows = []
    for method, rate in SUCCESS.items():
        for robot in ROBOTS if method.endswith("generalist") else [method.partition("@")[2]]:
            rows += [{"method": method, "training_seed": seed, "task": f"wipe_brown@{robot}", "init_state": scene,
                      "success": scene < 8 * rate} for seed in (0, 1) for scene in range(8)]
    return generalist.by_setting(pd.DataFrame(rows))


def test_methods_and_tasks_are_split_into_rule_setting_robot_and_job(episodes):
    assert set(zip(episodes.method, episodes.setting, strict=True)) == {
        (rule, setting) for rule in ("sft", "ptr") for setting in ("specialist", "generalist")}
    assert set(episodes.robot) == {"gantry", "two-link"} and set(episodes.job) == {"wipe brown"}


def test_rates_are_of_each_robot_and_of_all(episodes):
    rates = generalist.rates(episodes).set_index(["setting", "method", "robot"])
    assert rates.loc[("specialist", "ptr", "gantry"), "success"] == 0.75
    assert rates.loc[("specialist", "ptr", "all robots")][["success", "episodes"]].tolist() == [0.625, 32]
    assert rates.loc[("generalist", "sft", "all robots"), "success"] == 0.25


def test_contrasts_by_hand_and_beside_the_papers(episodes):
    found = generalist.contrasts(episodes).set_index(["contrast", "robot"])
    expected = {"PTR − SFT, specialists": (0.25, 0.25, 0.25, 6.3), "PTR − SFT, generalists": (0.5, 0.5, 0.5, 13.8),
                "what pooling adds to PTR − SFT": (0.25, 0.25, 0.25, 7.5),
                "what pooling costs SFT": (0.25, 0.0, 0.125, 10.8), "what pooling costs PTR": (0.0, -0.25, -0.125, 3.3),
                "PTR generalist − SFT specialists": (0.25, 0.5, 0.375, 3.0)}
    for name, (gantry, arm, everything, paper) in expected.items():
        measured = found.loc[name].estimate[["gantry", "two-link", "all robots"]]
        assert measured.tolist() == [gantry, arm, everything]
        assert found.loc[(name, "all robots"), "paper"] == pytest.approx(paper)
    assert "PTR − shuffled weights, generalists" not in found.index.get_level_values(0)
    assert np.isnan(generalist.published_contrast(generalist.CONTRASTS["PTR − shuffled weights, generalists"]))


def test_tasks_are_counted_as_the_paper_counts_them(episodes):
    of_tasks = generalist.task_contrasts(episodes)
    assert len(of_tasks) == 3 * 2
    counts = generalist.task_counts(of_tasks).set_index("comparison")
    assert counts.loc["PTR − SFT, specialists", ["tasks", "ahead", "level", "behind"]].tolist() == [2, 2, 0, 0]
    assert counts["paper: ahead of 12"].tolist() == [8, 12, 7] and counts["paper: level"].tolist()[::2] == [3, 4]
    gaps = of_tasks.set_index(["contrast", "robot"]).estimate
    assert gaps["PTR − SFT, generalists", "gantry"] == 0.5
    assert generalist.task_counts(generalist.task_contrasts(episodes[episodes.method == "sft"])).empty


def test_the_headline_follows_the_numbers(episodes):
    def told(changed: pd.DataFrame) -> str:
        return generalist.headline(generalist.contrasts(changed), ", in one run")

    assert "holds here: pooling the robots widens PTR's lead**, in one run. The paper prints +6.3 and +13.8 " in told(
        episodes)
    swapped = episodes.assign(method=episodes.method.map({"sft": "ptr", "ptr": "sft"}))
    assert "does not hold here: pooling the robots favours SFT**" in told(swapped)
    # the gap closes from below zero: better for PTR, and no lead
    behind = episodes.copy()
    behind.loc[(behind.setting == "generalist") | (behind.method == "ptr"), "success"] = False
    assert "does not put PTR ahead of SFT**" in told(behind)
    assert "cannot be told" in told(episodes.assign(success=episodes.init_state < 4))
    assert "nothing to conclude" in told(episodes[episodes.method == "sft"])
    verdicts = generalist.success_verdicts(generalist.contrasts(episodes))
    assert len(verdicts) == 6 and verdicts.answer.iloc[0] == "yes"


def test_the_arms_share_joints_and_all_robots_share_the_gripper():
    slots = generalist.shared_slots(["tabletop_gantry", "tabletop_two_link", "tabletop_three_link"]).set_index("slot")
    assert slots.loc[18].tolist()[1:] == ["action"] * 3 and slots.loc[44].tolist()[1:] == ["state"] * 3
    assert slots.loc[50].tolist()[1:] == ["", "state and action", "state and action"]
    assert slots.loc[52].tolist()[1:] == ["", "", "state and action"]
    assert slots.loc[1].tolist()[1:] == ["state and action", "", ""]
    assert sorted(slots.index) == [0, 1, 18, 44, 50, 51, 52]


def test_a_manifest_is_narrowed_by_rule_with_steps_of_the_generalists_own(tmp_path, monkeypatch):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "seeds": [0, 1], "base": {"ptr.warmup_steps": 50}, "methods": {
        f"{rule}@{place}": {"credit": rule, "evaluation.suite": place}
        for rule in ("sft", "ptr") for place in ("gantry", "generalist")}}, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    plain = {"methods": None, "seeds": None, "changes": {}, "generalist_changes": {"ptr.optimization.steps": None}}
    assert generalist.narrowed(path, **plain) == [path]
    alone, pooled = generalist.narrowed(path, **plain | {"methods": ["ptr"], "seeds": 1,
                                                         "generalist_changes": {"ptr.optimization.steps": 90}})
    [one], [other] = (runs.load_manifest(each).settings for each in (alone, pooled))
    assert (one.method, one.config.ptr.optimization.steps) == ("ptr@gantry", 60_000)
    assert (other.method, other.config.ptr.optimization.steps) == ("ptr@generalist", 90)
    with pytest.raises(ValueError, match="has no rule 'recap'; it has sft, ptr"):
        generalist.narrowed(path, **plain | {"methods": ["recap"]})


@pytest.fixture(scope="module")
def chunks():
    """Two runs of PTR on two robots, scores of the second robot lower; one chunk in four lacks its consequence."""
    generator, beta, tables = np.random.default_rng(0), 1.5, []
    for seed in (0, 1):
        episode = np.repeat(np.arange(30), 8)
        robot = np.where(episode < 20, "tabletop_gantry", "tabletop_two_link")
        valid = np.arange(240) % 4 != 0
        score = np.where(valid, generator.normal(1.0 - (episode >= 20), 0.8), 0.0)
        weight = np.where(valid, conservative_weights(torch.from_numpy(score), beta=beta).numpy(), 1.0)
        tables.append(pd.DataFrame({
            "method": "ptr@generalist", "task": "wipe_brown@gantry", "run": f"run {seed}", "training_seed": seed,
            "split": "train", "step": 10, "embodiment": robot, "episode": [f"{seed}/{e}" for e in episode],
            "valid": valid, "score": score, "weight": weight}))
    return generalist.generalist_chunks(generalist.by_setting(pd.concat(tables, ignore_index=True)))


def test_source_shares_and_proposition_3_by_hand(chunks):
    beta = {"run 0": 1.5, "run 1": 1.5}
    table = generalist.source_table(chunks, beta).set_index(["quantity", "seed", "robot"])
    assert set(table.index.get_level_values("seed")) == {"all seeds", "0", "1"}
    for seed in (0, 1):
        part = chunks[chunks.training_seed == seed]
        arm = part.robot == "two-link"
        tilt = np.where(part.valid, np.exp(part.score / 1.5), 1.0)
        measured, predicted = (table.loc[(name, str(seed), "two-link")] for name in ("measured", "Proposition 3"))
        assert measured.estimate == pytest.approx(part.weight[arm].mean() / part.weight.mean())
        assert predicted.estimate == pytest.approx(tilt[arm].mean() / tilt.mean())
        assert measured.prior == pytest.approx(1 / 3) and measured["count"] == 80
        assert predicted.estimate < measured.estimate < measured.high < 1  # the clip takes from the tilting
        shares = table.loc["measured"].loc[str(seed)]
        assert (shares.prior * shares.estimate).sum() == pytest.approx(1)
    mean = np.mean([table.loc[("measured", str(seed), "gantry"), "estimate"] for seed in (0, 1)])
    assert table.loc[("measured", "all seeds", "gantry"), "estimate"] == pytest.approx(mean)
    verdicts = generalist.source_verdicts(generalist.source_table(chunks, beta))
    assert verdicts.answer.tolist() == ["yes, more", "no, less"]


def test_without_a_clip_the_measured_shares_are_proposition_3(chunks):
    free = chunks.assign(weight=np.where(chunks.valid, np.exp(chunks.score / 2.0), 1.0))
    table = generalist.source_table(free, {"run 0": 2.0, "run 1": 2.0}).set_index(["quantity", "seed", "robot"])
    pd.testing.assert_frame_equal(table.loc["measured"], table.loc["Proposition 3"])


def test_snapshots_without_embodiment_are_refused_in_one_sentence(chunks):
    for older in (chunks.drop(columns="embodiment"), chunks.assign(embodiment=None)):
        with pytest.raises(ValueError, match=r"parquet of run 0 does not say which robot .* run its manifest again"):
            generalist.generalist_chunks(older)


@pytest.fixture(scope="module")
def found():
    """Two queries of each robot by hand: own 0.5, the rest 0.3 and 0.2, and so on."""
    queries = pd.DataFrame({"embodiment": ["tabletop_gantry"] * 2 + ["tabletop_two_link"] * 2,
                            "instruction": ["wipe", "slide"] * 2, "episode": [3, 1, 7, 5], "start": [0, 4, 8, 2],
                            "matched": [0.5, 0.4, 1.0, 0.7], "weight": 1.0})
    queries["score"] = np.log(queries.matched * 4)
    mass = np.array([[[0.3, 0.0], [0.1, 0.1]], [[0.0, 0.0], [0.2, 0.4]], [[0.0, 0.0], [0.0, 0.0]],
                     [[0.05, 0.15], [0.1, 0.0]]], np.float32)  # query, robot, other or own task
    count = np.array([[[1, 0], [1, 1]]] * 2 + [[[1, 1], [1, 0]]] * 2)
    against = np.array([[0.5, 2.0], [1.0, 3.0], [4.0, 4.0], [1.5, 0.25]], np.float32)
    pairs = pd.DataFrame({"query": [0, 1, 2, 2], "match": [2, 3, 0, 0], "posterior": [0.1, 0.4, 0.0, 0.0],
                          "chosen": ["most alike", "first drawn"] * 2})
    images = np.zeros((4, 2, 1, 8, 8, 3), np.uint8)
    return Correspondence(queries, ("tabletop_gantry", "tabletop_two_link"), mass, count, np.log(against), against,
                          pairs, images)


def test_the_mass_on_others_is_averaged_over_queries(found):
    table = correspondence.correspondence_table({"run": found}).set_index(["quantity", "query", "candidate"])
    assert table.loc[("mass", "gantry", "two-link"), "estimate"] == pytest.approx(((0.2 / 0.5) + (0.6 / 0.6)) / 2)
    assert table.loc[("mass", "gantry", "two-link"), "chance"] == pytest.approx(2 / 3)
    assert table.loc[("mass", "two-link", "gantry"), "estimate"] == pytest.approx(0.2 / 0.3)  # the other gives none
    assert table.loc[("mass", "two-link", "gantry"), "count"] == 1
    assert table.loc[("task", "gantry", "two-link"), "estimate"] == pytest.approx((0.1 / 0.2 + 0.4 / 0.6) / 2)
    assert table.loc[("task", "gantry", "two-link"), "chance"] == pytest.approx(0.5)
    assert table.loc[("weight", "gantry", "two-link"), "estimate"] == 2.5


def test_the_score_is_the_robots_part_and_the_rest(found):
    parts = correspondence.score_parts({"run": found}).set_index("robot")
    # query 0: mass on its robot 0.5 + 0.3, two of four candidates; query 1: 0.4 of two of four
    telling = (np.log(0.8 / 0.5) + np.log(0.4 / 0.5)) / 2
    assert parts.loc["gantry", "robot alone"].startswith(f"{telling:.2f} [")
    whole = found.queries.score[:2].mean()
    assert parts.loc["gantry", "within the robot"].startswith(f"{whole - telling:.2f} [")
    assert parts.loc["gantry", "most that the robot alone can give"] == pytest.approx(np.log(2))
    assert parts.loc["all robots", "queries"] == 4


def test_charts_draw_the_frames_they_return(found):
    table = correspondence.correspondence_table({"run": found})
    figure, drawn = correspondence.correspondence_chart(table)
    pd.testing.assert_frame_equal(drawn, table)
    written = [text.get_text() for text in figure.axes[2].texts]
    cells = table[table.quantity == "weight"].pivot(index="query", columns="candidate", values="estimate")
    assert written == [f"{value:.2f}" for value in cells.to_numpy().ravel()]
    figure, drawn = correspondence.pairs_chart(found)
    assert len(figure.axes) == 8 and drawn.candidate.tolist() == ["two-link", "two-link", "gantry", "gantry"]
    assert drawn.query_instruction.tolist() == ["wipe", "slide", "wipe", "wipe"]
    assert drawn.posterior.tolist() == [0.1, 0.4, 0.0, 0.0]


def test_robots_stand_in_one_order(found):
    table = pd.DataFrame({"robot": ["all robots", "two-link", "three-link", "gantry"]})
    assert correspondence.in_robot_order(table).robot.tolist() == ["gantry", "two-link", "three-link", "all robots"]


def test_the_page_shows_what_its_runs_hold(tiny_book):
    stored = tiny_book.make("tabletop_generalist")
    page = tiny_book.execute("generalist")
    episodes = generalist.by_setting(results.episodes_frame(stored))
    rates = generalist.rates(episodes)
    drawn = page.frame("generalist_success")
    assert drawn.estimate.tolist() == pytest.approx((100 * rates.success).tolist(), rel=1e-4)
    assert drawn.episodes.sum() == 2 * len(episodes) == 2 * (2 * 18 + 3 * 18) * 2
    contrasts = generalist.contrasts(episodes)
    gaps = contrasts[contrasts.contrast.str.startswith("PTR − SFT")]
    assert page.frame("generalist_gaps").estimate.tolist() == pytest.approx((100 * gaps.estimate).tolist(), rel=1e-4)
    assert len(page.frame("generalist_tasks")) == 2 * 18

    weights = generalist.by_setting(results.weights_frame(stored))
    chunks = generalist.generalist_chunks(weights)
    chunks = chunks[chunks.method.isin(["ptr", "random"])]
    metrics = results.metrics_frame(stored).dropna(subset="beta")
    shares = generalist.source_table(chunks, metrics.sort_values("step").groupby("run").beta.last())
    expected = shares[shares.seed == generalist.EVERY]
    pd.testing.assert_frame_equal(page.frame("source_shares")[["robot", "quantity", "estimate", "low", "high"]],
                                  expected[["robot", "quantity", "estimate", "low", "high"]].reset_index(drop=True),
                                  rtol=1e-4)
    [run] = [run for run in stored if run.setting.method == "ptr@generalist"]
    found = load_correspondence(run.folder)
    table = correspondence.correspondence_table({run.name: found})
    pd.testing.assert_frame_equal(page.frame("correspondence"), table, rtol=1e-4)
    pairs = page.frame("correspondence_pairs")
    assert pairs.posterior.tolist() == pytest.approx(found.pairs.posterior.tolist(), rel=1e-4)
    text = page.text()
    assert "+6.3" in text and "ptrlib notebook generalist source=fresh seeds=1" in text
    assert "With one training seed" in text


def test_specialists_and_generalist_learn_from_the_same_recordings(tiny_book):
    tiny_book.make("tabletop_generalist")
    alone, pooled = (read_episodes(tiny_book.folder / "data/tabletop" / name) for name in ("two_link", "generalist"))
    of_all = {(episode.task, episode.name): episode for episode in pooled}
    assert len(pooled) == 3 * len(alone)
    for episode in alone:
        np.testing.assert_array_equal(episode.actions, of_all[episode.task, episode.name].actions)
