"""The intervals of the book against known values, known truths and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ptrlib.method.weights import source_shares
from ptrlib.report import results, statistics


@pytest.mark.parametrize(("successes", "trials", "low", "high"), [
    (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
])
def test_wilson_interval_matches_newcombe(successes, trials, low, high):
    interval = statistics.wilson_interval(successes, trials)
    assert interval.estimate == successes / trials and interval.count == trials
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


def test_mean_over_runs_is_students_interval_and_one_run_has_none():
    interval = statistics.mean_over_runs([1.0, 2.0, 3.0, 4.0, 5.0])  # t(4, 0.975) = 2.776, standard error 0.7071
    assert (interval.estimate, interval.low, interval.high, interval.count) == pytest.approx(
        (3.0, 3.0 - 1.9632, 3.0 + 1.9632, 5), abs=1e-3)
    assert statistics.mean_over_runs([0.0, 0.0, 0.9], within=statistics.SHARE).low == 0.0
    assert statistics.mean_over_runs([0.9, 0.9, 0.0], within=statistics.SHARE).high == 1.0
    alone = statistics.mean_over_runs([1.5], within=statistics.SHARE)
    assert np.isnan(alone.low) and np.isnan(alone.high) and not alone.excludes(0.0)
    assert statistics.mean_over_runs([np.nan, 1.0]).text() == "–"
    assert alone.text() == "1.5" and interval.text() == "3.0 [1.0, 5.0]"


def test_wilson_interval_refuses_what_is_no_proportion():
    for successes, trials in ((3, 2), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="not a proportion"):
            statistics.wilson_interval(successes, trials)


def successes(generator, method_effect=0.0, seeds=3, tasks=6, scenes=12, seed_sd=0.2, scene_sd=1.0):
    """Success of two methods on shared scenes, (seeds, tasks, scenes) each; hard scenes are hard for both."""
    scene = generator.normal(0, scene_sd, (tasks, scenes))
    outcomes = []
    for effect in (0.0, method_effect):
        run = generator.normal(0, seed_sd, (seeds, 1, 1))
        outcomes.append(generator.random((seeds, tasks, scenes)) < 1 / (1 + np.exp(-(scene + run + effect))))
    return outcomes


def indexed(values):
    seeds, tasks, scenes = values.shape
    index = pd.MultiIndex.from_product([range(seeds), [f"task {t}" for t in range(tasks)], range(scenes)])
    return pd.Series(values.astype(float).ravel(), index=index)


def test_paired_bootstrap_covers_the_truth_about_as_often_as_it_says():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        one, other = successes(generator)  # same effect: the true difference is 0
        interval = statistics.paired_bootstrap(indexed(other.astype(float) - one), replicates=300)
        covered += not interval.excludes(0.0)
    assert 0.90 <= covered / 200 <= 0.99


def test_paired_bootstrap_finds_a_difference_that_is_there():
    one, other = successes(np.random.default_rng(1), method_effect=1.0)
    interval = statistics.paired_bootstrap(indexed(other.astype(float) - one))
    assert interval.low > 0 and interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(other.mean() - one.mean())


def test_pairing_beats_comparing_unpaired_when_scenes_matter():
    one, other = successes(np.random.default_rng(2), seed_sd=0.0, scene_sd=4.0)
    paired = statistics.paired_bootstrap(indexed(other.astype(float) - one))
    shuffled = np.random.default_rng(3).permuted(other.reshape(3, 6, 12), axis=2)  # scenes no longer match
    unpaired = statistics.paired_bootstrap(indexed(shuffled.astype(float) - one))
    assert paired.estimate == pytest.approx(unpaired.estimate)
    assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)


def test_paired_bootstrap_refuses_scenes_that_only_some_seeds_have():
    values = indexed(np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="not paired"):
        statistics.paired_bootstrap(values.iloc[:-1])


def test_paired_bootstrap_covers_where_scenes_add_to_all_seeds_what_they_do_in_the_stored_runs():
    """Scenes are drawn anew for every seed although all seeds meet the same ones: wide enough with five seeds while
    what a scene adds to all of them alike has less than a quarter of the variance of the rest."""
    generator, covered, sizes = np.random.default_rng(0), 0, (5, 6, 30)
    for _ in range(200):
        shared = generator.normal(0, np.sqrt(0.2), (1, *sizes[1:]))
        values = indexed(shared + generator.normal(0, 1, sizes))
        covered += not statistics.paired_bootstrap(values, replicates=300).excludes(0.0)
    assert covered / 200 >= 0.93


@pytest.mark.parametrize("manifest", ["tabletop_claim", "tabletop_hard"])
@pytest.mark.parametrize("kind", ["none", "combined"])
def test_what_a_scene_adds_to_all_seeds_alike_is_small_in_differences_of_methods(manifest, kind):
    episodes = results.episodes_frame(results.runs_of(manifest))
    of_kind = episodes[episodes.corruption == kind]
    for pair in itertools.combinations(sorted(of_kind.method.unique()), 2):
        values = results.paired_values(of_kind, {(pair[0], kind): 1.0, (pair[1], kind): -1.0})
        table = values.unstack(0)  # a row per scene, a column per training seed
        centred = table - table.groupby(level="task", observed=True).transform("mean")
        scenes, seeds = centred.shape
        freedom = scenes - centred.index.get_level_values("task").nunique()
        of_scenes = seeds * (centred.mean(axis=1) ** 2).sum() / freedom
        rest = (centred.sub(centred.mean(axis=1), axis=0) ** 2).to_numpy().sum() / (freedom * (seeds - 1))
        assert seeds == 5 and (of_scenes - rest) / seeds < 0.25 * rest, pair


def test_crossed_bootstrap_covers_what_all_seeds_share_and_the_paired_one_does_not():
    generator, covered = np.random.default_rng(0), {"crossed": 0, "paired": 0}
    for _ in range(200):  # five seeds of a method against one policy's single episode in every scene; no difference
        one, _ = successes(generator, seeds=5, scene_sd=0.5)
        alone = generator.random(one.shape[1:]) < one.mean()
        values = indexed(one.astype(float) - alone)
        for name, bootstrap in (("crossed", statistics.crossed_bootstrap), ("paired", statistics.paired_bootstrap)):
            covered[name] += not bootstrap(values, replicates=300).excludes(0.0)
    assert covered["crossed"] / 200 >= 0.93 and covered["paired"] / 200 < 0.85
    interval = statistics.crossed_bootstrap(values)
    assert interval.estimate == pytest.approx(values.mean()) and interval.count == len(values)
    with pytest.raises(ValueError, match="not paired"):
        statistics.crossed_bootstrap(values.iloc[:-1])


def test_a_gain_of_auroc_is_that_of_the_same_chunks():
    table = chunks(np.random.default_rng(0), gap=1.0)
    better = table.score + 0.5 * table.positive
    gain = statistics.auroc_gain(better, table.score, table.positive, table.episode, table.run)
    parts = [statistics.auroc(score, table.positive, table.episode, table.run) for score in (better, table.score)]
    assert gain.estimate == pytest.approx(parts[0].estimate - parts[1].estimate) and gain.low > 0
    assert gain.high - gain.low < parts[1].high - parts[1].low  # they are resampled together
    same = statistics.auroc_gain(table.score, table.score, table.positive, table.episode, table.run)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def chunks(generator, gap, runs=3, episodes=30, per_episode=8):
    """Chunks whose score differs by episode (correlated chunks) and by ``gap`` for positive episodes."""
    rows = []
    for run in range(runs):
        for episode in range(episodes):
            positive = episode % 3 == 0
            level = generator.normal(gap * positive + 10 * run, 0.7)
            rows += [(run, f"{run}/{episode}", positive, score)
                     for score in generator.normal(level, 0.7, per_episode).round(1)]
    return pd.DataFrame(rows, columns=["run", "episode", "positive", "score"])


def test_auroc_is_the_mean_over_runs_and_never_compares_them():
    table = chunks(np.random.default_rng(0), gap=1.0)
    interval = statistics.auroc(table.score, table.positive, table.episode, table.run)
    by_run = [roc_auc_score(part.positive, part.score) for _, part in table.groupby("run")]
    assert interval.estimate == pytest.approx(np.mean(by_run)) and interval.count == len(table)
    assert 0.5 < interval.low < interval.estimate < interval.high < 1


def test_auroc_replicates_are_those_of_scikit_learn_on_the_resampled_episodes():
    table = chunks(np.random.default_rng(0), gap=0.5, runs=1, episodes=9).assign(stratum=0)
    drawn = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), size=20).astype(float)
    replicates = statistics._auroc_replicates(table, drawn)
    code, _ = pd.factorize(table.episode)
    expected = [roc_auc_score(table.positive, table.score, sample_weight=counts[code])
                if len(set(table.positive[counts[code] > 0])) == 2 else np.nan for counts in drawn]
    assert replicates == pytest.approx(np.array(expected), nan_ok=True)


def test_auroc_within_strata_compares_no_chunks_of_two():
    """A score that knows nothing but the stratum, where one holds more of the positive chunks."""
    table = chunks(np.random.default_rng(0), gap=0.0, episodes=40)
    number = table.episode.str.split("/").str[1].astype(int)
    table = table.assign(stratum=number % 5 < 2 + 2 * table.positive)
    table["score"] = 3.0 * table.stratum
    across = statistics.auroc(table.score, table.positive, table.episode, table.run)
    within = statistics.auroc(table.score, table.positive, table.episode, table.run, stratum=table.stratum)
    assert across.estimate != pytest.approx(0.5) and within.estimate == within.low == within.high == 0.5
    mixed = table.assign(score=np.random.default_rng(1).normal(size=len(table)))
    told = statistics.auroc(mixed.score, mixed.positive, mixed.episode, mixed.run, stratum=mixed.stratum)
    wins, pairs = 0.0, 0
    one = mixed[mixed.run == mixed.run.iloc[0]]
    for _, part in one.groupby("stratum"):
        above = part.score[part.positive].to_numpy()[:, None] > part.score[~part.positive].to_numpy()
        wins, pairs = wins + above.sum(), pairs + above.size
    alone = statistics.auroc(one.score, one.positive, one.episode, one.run, stratum=one.stratum)
    assert alone.estimate == pytest.approx(wins / pairs) and told.count == len(mixed)


def test_auroc_interval_of_a_blind_score_holds_a_half():
    generator = np.random.default_rng(4)
    tables = [chunks(generator, gap=0.0) for _ in range(40)]
    inside = [not statistics.auroc(t.score, t.positive, t.episode, t.run, replicates=400).excludes(0.5)
              for t in tables]
    assert np.mean(inside) >= 0.85


def test_auroc_needs_both_classes():
    with pytest.raises(ValueError, match="run 'a' holds no negative chunks"):
        statistics.auroc([1.0, 2.0], [True, True], [0, 1], ["a", "a"])


def test_mean_by_episode_is_wider_than_pretending_chunks_are_independent():
    table = chunks(np.random.default_rng(6), gap=0.0, runs=1)
    by_episode = statistics.mean_by_episode(table.score, table.episode, table.run)
    by_chunk = statistics.mean_by_episode(table.score, np.arange(len(table)), table.run)
    assert by_episode.estimate == pytest.approx(table.score.mean()) == pytest.approx(by_chunk.estimate)
    assert by_episode.high - by_episode.low > 1.5 * (by_chunk.high - by_chunk.low)


def test_mean_by_episode_knows_that_training_runs_differ():
    table = chunks(np.random.default_rng(6), gap=0.0, runs=3)  # the level of a run is 10 above the one before
    interval = statistics.mean_by_episode(table.score, table.episode, table.run)
    assert interval.estimate == pytest.approx(table.groupby("run").score.mean().mean())
    assert interval.low < 5 and interval.high > 15
    pooled = statistics.mean_by_episode(table.score, table.episode, np.zeros(len(table)))
    assert interval.high - interval.low > pooled.high - pooled.low


def test_effective_sample_size_and_divergence():
    assert statistics.effective_sample_size([2.0] * 7) == pytest.approx(7)
    assert statistics.effective_sample_size([5.0, 0.0, 0.0]) == pytest.approx(1)
    assert statistics.divergence([3.0, 3.0]) == pytest.approx(0)
    assert statistics.divergence([1.0, 0.0, 0.0, 0.0]) == pytest.approx(np.log(4))


def test_interval_text():
    interval = statistics.Interval(0.123, -0.04, 0.2, 10)
    assert interval.text(100, 1, sign=True) == "+12.3 [-4.0, +20.0]"
    assert not interval.excludes(0) and interval.excludes(0.3)


def test_source_ratios_by_hand_and_against_the_methods_own_shares():
    weight = [4.0, 4.0, 0.25, 0.25, 0.25, 1.0]
    source, episode = ["a", "a", "b", "b", "b", "b"], [0, 1, 2, 2, 3, 4]
    table = statistics.source_ratios(weight, source, episode, ["run"] * 6)
    of_run, everything = (table[table.run.isna() == missing].set_index("source") for missing in (False, True))
    mean = (8 + 1.75) / 6
    for ratios in (of_run, everything):
        assert ratios.estimate.to_dict() == pytest.approx({"a": 4 / mean, "b": 1.75 / 4 / mean})
        assert ratios["count"].tolist() == [2, 4] and ratios.prior.tolist() == pytest.approx([1 / 3, 2 / 3])
    shares = source_shares(torch.tensor([2 / 6, 4 / 6]), torch.tensor(weight), torch.tensor([0, 0, 1, 1, 1, 1]))
    assert (of_run.estimate * of_run.prior).tolist() == pytest.approx(shares.tolist())
    # whatever is drawn, all weights of a are 4, and the mean of b lies between those of its episodes
    assert 4 / (4 * 2 / 6 + 1.0 * 4 / 6) <= of_run.low["a"] <= of_run.high["a"] <= 4 / (4 * 2 / 6 + 0.25 * 4 / 6) + 1e-9


def test_source_ratios_are_averaged_over_runs():
    table = statistics.source_ratios([4.0, 1.0, 1.0, 1.0], ["a", "b", "a", "b"], [0, 1, 2, 3], [0, 0, 1, 1])
    ratio = table[table.source == "a"]
    assert ratio.run.isna().tolist() == [False, False, True]
    assert ratio.estimate.tolist() == pytest.approx([1.6, 1.0, 1.3])
    assert (ratio.low.iloc[2], ratio.high.iloc[2]) == pytest.approx((1.0, 1.6))  # either run may be drawn twice


def test_source_ratios_are_one_without_information_and_their_intervals_cover_it():
    covered = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        episode = np.repeat(np.arange(60), 5)
        weight = generator.lognormal(0, 0.5, 60)[episode] * generator.lognormal(0, 0.3, 300)
        table = statistics.source_ratios(weight, np.where(episode < 20, "a", "b"), episode, np.zeros(300),
                                         replicates=300)
        covered += table.low[0] <= 1 <= table.high[0]
    assert 87 <= covered <= 100


def test_source_ratios_refuse_runs_on_other_sources():
    with pytest.raises(ValueError, match="run 1 holds no chunks of source 'b'"):
        statistics.source_ratios([1.0, 2.0, 1.0], ["a", "b", "a"], [0, 1, 2], [0, 0, 1])
