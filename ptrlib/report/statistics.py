"""Intervals and tests behind every number of the book.

Success rates get a Wilson interval. Differences between methods are paired: every method faces the same
scenes, so the difference is taken scene by scene and the bootstrap resamples training seeds first and, within
each drawn seed, the scenes of every task (the tasks are the benchmark's own and stay). What a scene adds to the
difference of every seed alike is small between methods; it is not where one policy's only episode in a scene stands
against every seed's, and there seeds and scenes are drawn crosswise. Quantities of chunks
are resampled by training run and, within each, by episode, because the chunks of one episode resemble each other.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

REPLICATES = 4000
CHUNK_REPLICATES = 1000  # of quantities of chunks, of which a page shows many
LEVEL = 0.95
ANYWHERE, SHARE, POSITIVE = (-math.inf, math.inf), (0.0, 1.0), (0.0, math.inf)  # where a quantity can lie


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; ``count`` is the number of episodes or chunks behind it."""

    estimate: float
    low: float
    high: float
    count: int

    def excludes(self, value: float) -> bool:
        """Whether the interval lies wholly on one side of ``value``."""
        return self.low > value or self.high < value

    def text(self, scale: float = 1.0, digits: int = 1, sign: bool = False) -> str:
        """``12.3 [4.5, 20.1]``, times ``scale``; ``sign`` writes the plus of positive numbers. An interval without
        ends (nan) is left out, and a dash stands for an estimate that does not exist."""
        if math.isnan(self.estimate):
            return "–"
        form = f"{'+' if sign else ''}.{digits}f"
        if math.isnan(self.low):
            return f"{scale * self.estimate:{form}}"
        return f"{scale * self.estimate:{form}} [{scale * self.low:{form}}, {scale * self.high:{form}}]"


def wilson_interval(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion, which stays inside [0, 1] at 0 % and 100 %.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials is not a proportion")
    z = float(norm.ppf(0.5 + level / 2))
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half), trials)


def paired_bootstrap(values: pd.Series, *, replicates: int = REPLICATES, level: float = LEVEL,
                     seed: int = 0) -> Interval:
    """Mean of paired differences with its hierarchical percentile-bootstrap interval.

    Args:
        values: one difference per scene, indexed by (training seed, task, scene); every seed must hold the
            same scenes. Scenes are drawn within their task, and anew for every drawn seed. With one seed the
            interval says nothing about another training run.

    Raises:
        ValueError: a seed lacks scenes that another has.
    """
    means, count = _resampled_means(values, replicates, seed)
    return _percentiles(float(values.mean()), means, level, count)


def crossed_bootstrap(values: pd.Series, *, replicates: int = REPLICATES, level: float = LEVEL,
                      seed: int = 0) -> Interval:
    """As :func:`paired_bootstrap`, for differences that share something in a scene whatever the seed: the scenes of
    every task are drawn once and met by all drawn seeds (the pigeonhole bootstrap, Owen 2007).

    Raises:
        ValueError: a seed lacks scenes that another has.
    """
    table = _by_seed(values)
    generator = np.random.default_rng(seed)
    seeds = generator.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), size=replicates)
    total = np.zeros(replicates)
    for _, block in table.groupby(level=0, sort=True):
        scenes = generator.multinomial(len(block), np.full(len(block), 1 / len(block)), size=replicates)
        total += ((scenes @ block.to_numpy(float)) * seeds).sum(1)
    return _percentiles(float(values.mean()), total / table.size, level, table.size)


def paired_ratio(numerator: pd.Series, denominator: pd.Series, *, replicates: int = REPLICATES, level: float = LEVEL,
                 seed: int = 0) -> Interval:
    """Ratio of two means of paired differences, both as in :func:`paired_bootstrap` and resampled together.

    Where the denominator itself cannot be told from zero, its ratio has no interval: the ends are nan.

    Raises:
        ValueError: the two are not indexed alike.
    """
    if not numerator.index.equals(denominator.index):
        raise ValueError("numerator and denominator must be differences on the same scenes")
    above, count = _resampled_means(numerator, replicates, seed)
    below, _ = _resampled_means(denominator, replicates, seed)
    if denominator.mean() <= 0 or (below <= 0).mean() > (1 - level) / 2:
        estimate = numerator.mean() / denominator.mean() if denominator.mean() > 0 else math.nan
        return Interval(float(estimate), math.nan, math.nan, count)
    positive = below > 0
    ratio = above[positive] / below[positive]
    return _percentiles(float(numerator.mean() / denominator.mean()), ratio, level, count)


def _resampled_means(values: pd.Series, replicates: int, seed: int) -> tuple[NDArray[np.float64], int]:
    """Bootstrap means (replicates,) of values indexed by (training seed, task, scene), and their number. The draws
    depend on the index and the seed alone."""
    table = _by_seed(values)
    blocks = [block.to_numpy(float) for _, block in table.groupby(level=0, sort=True)]  # a task's (scenes, seeds)
    drawn = _scene_draws(tuple(len(block) for block in blocks), table.shape[1], replicates, seed)
    total = drawn @ np.concatenate([block.ravel() for block in blocks]).astype(np.float32)
    return total.astype(np.float64) / table.size, table.size


def _by_seed(values: pd.Series) -> pd.DataFrame:
    """Values indexed by (training seed, task, scene) with a column per seed."""
    table = values.unstack(level=0)
    if table.isna().any().any():
        raise ValueError("the differences are not paired: some training seeds lack scenes that others have; "
                         "evaluate every run on the same scenes")
    return table


@lru_cache(maxsize=2)  # a page asks for many differences on the same scenes
def _scene_draws(scenes: tuple[int, ...], seeds: int, replicates: int, seed: int) -> NDArray[np.float32]:
    """How often each cell is drawn, (replicates, cells): training seeds first, then each task's scenes, anew for every
    drawn seed. The cells are tasks of ``scenes`` scenes one after the other, each scene with its ``seeds`` seeds."""
    generator = np.random.default_rng(seed)
    drawn_seeds = generator.integers(seeds, size=(replicates, seeds))[:, :, None]
    row = np.arange(replicates)[:, None, None]
    counts = []
    for count in scenes:
        cell = generator.integers(count, size=(replicates, seeds, count)) * seeds + drawn_seeds
        flat = np.bincount((row * (count * seeds) + cell).ravel(), minlength=replicates * count * seeds)
        counts.append(flat.reshape(replicates, -1).astype(np.float32))
    return np.concatenate(counts, axis=1)


def auroc(score: ArrayLike, positive: ArrayLike, episode: ArrayLike, run: ArrayLike, *,
          stratum: ArrayLike | None = None, replicates: int = CHUNK_REPLICATES, level: float = LEVEL,
          seed: int = 0) -> Interval:
    """Chance that a positive chunk scores above a negative one (ties count half), a mean over runs.

    Args:
        score: (N,) any real score.
        positive: (N,) bool.
        episode: (N,) the episode of each chunk: the unit of resampling, within its run.
        run: (N,) the training run of each chunk: scores of different runs are never compared, and runs are
            resampled before episodes.
        stratum: (N,) the same for all chunks of an episode; only chunks of one stratum are compared.

    Raises:
        ValueError: a run holds only positive or only negative chunks.
    """
    estimate, means, count = _resampled_auroc(score, positive, episode, run, stratum, replicates, seed)
    return _percentiles(estimate, means, level, count)


def auroc_gain(score: ArrayLike, other: ArrayLike, positive: ArrayLike, episode: ArrayLike, run: ArrayLike, *,
               replicates: int = CHUNK_REPLICATES, level: float = LEVEL, seed: int = 0) -> Interval:
    """:func:`auroc` of ``score`` minus that of ``other``, a score (N,) of the same chunks; resampled together."""
    (one, ones, count), (two, twos, _) = (_resampled_auroc(values, positive, episode, run, None, replicates, seed)
                                          for values in (score, other))
    return _percentiles(one - two, ones - twos, level, count)


def _resampled_auroc(score: ArrayLike, positive: ArrayLike, episode: ArrayLike, run: ArrayLike,
                     stratum: ArrayLike | None, replicates: int, seed: int) -> tuple[float, NDArray[np.float64], int]:
    """AUROC, its bootstrap replicates (replicates,), whose draws depend on the chunks' runs and episodes alone, and the
    number of chunks."""
    run_number, names = _numbered(run)
    table = pd.DataFrame({"score": np.asarray(score, float), "positive": np.asarray(positive, bool),
                          "episode": _numbered(episode)[0], "run": run_number,
                          "stratum": 0 if stratum is None else _numbered(stratum)[0]})
    drawn, picked = _resamples(_episodes_of(table, ["run"]), table.run.nunique(), 1, replicates, seed)
    estimates: list[float] = []
    resampled: list[NDArray[np.float64]] = []
    for number, chunks in table.groupby("run", sort=True):
        if chunks.positive.nunique() < 2:
            absent = "negative" if chunks.positive.all() else "positive"
            raise ValueError(f"run {names[number]!r} holds no {absent} chunks: AUROC needs both")
        estimates.append(_auroc_replicates(chunks, np.ones((1, chunks.episode.nunique()))).item())
        resampled.append(_auroc_replicates(chunks, drawn[len(resampled)]))
    return float(np.mean(estimates)), _over_runs(np.stack(resampled), picked[0]), len(table)


def _over_runs(replicates: NDArray[np.float64], picked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means over resampled runs, (R,), of replicates (runs, R) and the runs that are picked (R, runs); a nan is left
    out of its mean."""
    values = replicates[picked, np.arange(len(picked))[:, None]]
    with np.errstate(invalid="ignore"):  # nan where no drawn run has a value
        return np.nansum(values, axis=1) / np.isfinite(values).sum(axis=1)


def _auroc_replicates(chunks: pd.DataFrame, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUROC of resampled episodes, which are ``drawn`` so often; nan where a draw holds one class only.

    ``wins[e, f]`` counts how often a positive chunk of episode e beats a negative one of episode f, so that a
    replicate only needs how often each episode was drawn. Only episodes of one stratum are compared.
    """
    code, episodes = pd.factorize(chunks.episode)
    stratum = chunks.groupby(code).stratum.first().to_numpy()
    alike = (stratum[:, None] == stratum).astype(float)
    positive, score = chunks.positive.to_numpy(), chunks.score.to_numpy()
    beats = np.sign(score[positive][:, None] - score[~positive][None]) / 2 + 0.5
    pair = code[positive][:, None] * len(episodes) + code[~positive][None]
    wins = np.bincount(pair.ravel(), beats.ravel(), len(episodes) ** 2).reshape(len(episodes), -1) * alike
    winners, losers = (np.bincount(code[which], minlength=len(episodes)) for which in (positive, ~positive))
    pairs = ((drawn * winners) @ alike * (drawn * losers)).sum(1)
    with np.errstate(invalid="ignore"):
        return ((drawn @ wins) * drawn).sum(1) / pairs


def mean_over_runs(values: ArrayLike, level: float = LEVEL, *, within: tuple[float, float] = ANYWHERE) -> Interval:
    """Mean of one number per training run (N,), with Student's interval; a single run has no ends (nan).

    For quantities of a whole run, such as a loss or a spread: with a handful of runs a bootstrap is too narrow.
    The interval ends where the quantity does: ``within`` is SHARE for one between 0 and 1, POSITIVE for one from 0 on.
    """
    numbers = np.asarray(values, float)
    mean, count = float(numbers.mean()), len(numbers)
    half = float(student.ppf(0.5 + level / 2, count - 1) * numbers.std(ddof=1) / math.sqrt(count)) if count > 1 \
        else math.nan
    low, high = np.clip([mean - half, mean + half], *within).tolist()
    return Interval(mean, low, high, count)


def mean_by_episode(value: ArrayLike, episode: ArrayLike, run: ArrayLike, *, replicates: int = CHUNK_REPLICATES,
                    level: float = LEVEL, seed: int = 0) -> Interval:
    """Mean over chunks (N,), averaged over runs; runs are resampled, and within each its episodes.

    With one run the interval says nothing about another training run.
    """
    table = pd.DataFrame({"value": np.asarray(value, float), "episode": _numbered(episode)[0],
                          "run": _numbered(run)[0]})
    drawn, picked = _resamples(_episodes_of(table, ["run"]), table.run.nunique(), 1, replicates, seed)
    estimates: list[float] = []
    resampled: list[NDArray[np.float64]] = []
    for _, chunks in table.groupby("run", sort=True):
        sums = chunks.groupby("episode").value.agg(["sum", "count"]).to_numpy()
        total, count = (drawn[len(resampled)] @ sums).T
        estimates.append(chunks.value.mean())
        resampled.append(total / count)
    return _percentiles(float(np.mean(estimates)), _over_runs(np.stack(resampled), picked[0]), level, len(table))


def source_ratios(weight: ArrayLike, source: ArrayLike, episode: ArrayLike, run: ArrayLike, *,
                  replicates: int = REPLICATES, level: float = LEVEL, seed: int = 0) -> pd.DataFrame:
    """q(m) / pi_m of every source m (Eq 29): the mean weight of its chunks over the mean weight of all.

    Args:
        weight: (N,) weights; also exp(T / beta), for the shares that Proposition 3 predicts.
        source: (N,) where each chunk comes from; every episode has one source.
        episode: (N,) the episode of each chunk.
        run: (N,) the training run of each chunk.

    Returns a row per run and source, with ``prior`` pi_m, ``estimate``, ``low``, ``high`` and ``count``; then a row per
    source of the mean over runs, with ``run`` missing. Within a run the episodes of every source are resampled, the
    proportions pi_m stay; for the mean the runs are resampled first.

    Raises:
        ValueError: a run lacks a source that another one has.
    """
    run_number, run_names = _numbered(run)
    table = pd.DataFrame({"weight": np.asarray(weight, float), "source": np.asarray(source, str),
                          "episode": _numbered(episode)[0], "run": run_number})
    names = sorted(table.source.unique())
    drawn, picked = _resamples(_episodes_of(table, ["run", "source"]), table.run.nunique(), len(names), replicates,
                               seed)
    rows: list[dict[str, object]] = []
    resampled: list[NDArray[np.float64]] = []
    for number, chunks in table.groupby("run", sort=True):
        name, prior = run_names[number], chunks.source.value_counts(normalize=True).reindex(names)
        if prior.isna().any():
            raise ValueError(f"run {name!r} holds no chunks of source {prior.index[prior.isna()][0]!r}; "
                             "compare runs on the same sources")
        means: list[NDArray[np.float64]] = []
        for _, part in chunks.groupby("source", sort=True):
            sums = part.groupby("episode").weight.agg(["sum", "count"]).to_numpy()
            total, count = (drawn[len(resampled) * len(names) + len(means)] @ sums).T
            means.append(total / count)
        ratios = np.stack(means) / (prior.to_numpy() @ np.stack(means))
        estimates = chunks.groupby("source").weight.mean() / chunks.weight.mean()
        counts = chunks.source.value_counts()
        rows += [{"run": name, "source": each, "prior": prior[each],
                  **asdict(_percentiles(estimates[each], ratios[m], level, int(counts[each])))}
                 for m, each in enumerate(names)]
        resampled.append(ratios)
    of_runs = pd.DataFrame(rows).groupby("source")
    for m, each in enumerate(names):
        mine = of_runs.get_group(each)
        over = _over_runs(np.stack([ratios[m] for ratios in resampled]), picked[m])
        rows.append({"run": None, "source": each, "prior": mine.prior.mean(),
                     **asdict(_percentiles(mine.estimate.mean(), over, level, int(mine["count"].sum())))})
    return pd.DataFrame(rows)


def share_of_weight(weight: ArrayLike, chosen: ArrayLike) -> float:
    """Share in [0, 1] of the sum of weights (N,) that falls on the ``chosen`` (N,)."""
    given = np.asarray(weight, float)
    return float(given[np.asarray(chosen, bool)].sum() / given.sum())


def effective_sample_size(weight: ArrayLike) -> float:
    """(sum w)^2 / sum w^2: how many equally weighted samples hold as much information."""
    values = np.asarray(weight, float)
    return float(values.sum() ** 2 / np.square(values).sum())


def divergence(weight: ArrayLike) -> float:
    """KL(q || p) in nats of the distribution that ``weight`` induces (Eq 28) from equal shares."""
    values = np.asarray(weight, float)
    share = values[values > 0] / values.sum()
    return float((share * np.log(share * values.size)).sum())


def _numbered(names: ArrayLike) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers for names, in the order of the sorted names, and those names: grouping by number is many times faster."""
    numbers, known = pd.factorize(pd.Series(names), sort=True)
    return numbers, list(known)


def _episodes_of(table: pd.DataFrame, by: list[str]) -> tuple[int, ...]:
    """The number of episodes in each group."""
    return tuple(table.groupby(by, sort=True).episode.nunique().tolist())


@lru_cache(maxsize=4)  # a page asks for many quantities of the same runs
def _resamples(episodes: tuple[int, ...], runs: int, quantities: int, replicates: int, seed: int
               ) -> tuple[list[NDArray[np.float64]], list[NDArray[np.int64]]]:
    """How often each episode of each group is drawn with replacement, (replicates, episodes) a group, and the
    runs that each of the ``quantities`` is then averaged over, (replicates, runs)."""
    generator = np.random.default_rng(seed)
    drawn = [generator.multinomial(count, np.full(count, 1 / count), size=replicates).astype(float)
             for count in episodes]
    return drawn, [generator.integers(runs, size=(replicates, runs)) for _ in range(quantities)]


def _percentiles(estimate: float, replicates: NDArray[np.float64], level: float, count: int) -> Interval:
    low, high = np.nanquantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), count)
