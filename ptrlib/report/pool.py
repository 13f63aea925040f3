"""Which negatives is PTR's score set against? Hard ones by task, hard ones by state, or none that are hard.

The posterior of a chunk (Eq 12) is one against its candidates. Hard negatives of the task that the instruction claims
are hard for an untouched chunk and easy for a mislabelled one, whose consequence shows another task. A manifest of this
section has the methods of ``POOLS``, the detached ones' weights shuffled, and SFT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.report.charts import corruption_label, grouped_chart, method_label
from ptrlib.report.claim import truth_auroc
from ptrlib.report.results import StoredRun, alike, compare, episodes_frame, hit_alone, last_weights_frame
from ptrlib.report.statistics import SHARE, Interval, auroc_gain, mean_over_runs
from ptrlib.report.verdicts import answer, in_points, scope, score_auroc

POOLS = {"by task (as elsewhere)": ("ptr", "ptr_detached"), "by state": ("ptr_state", "ptr_state_detached"),
         "none": ("ptr_uniform", "ptr_uniform_detached")}  # hard negatives -> with the scorer's gradient, without
SHUFFLED = {"ptr_state_detached": "random_state_detached", "ptr_uniform_detached": "random_uniform_detached"}
SCORERS = tuple(method for pair in POOLS.values() for method in pair)
ANY = "any corruption"
CHUNK = ["training_seed", "place", "start"]  # names a chunk of the snapshots, whose chunks all methods share
PANELS = ("with the scorer's gradient into the policy", "without (detached scorer)")


def discrimination(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """AUROC of each method's score, untouched training chunks above corrupted ones: a row per method and kind of
    corruption, of all chunks and, under ``within``, of pairs of the same (true) task."""
    weights = last_weights_frame([run for run in stored if run.setting.method in SCORERS])
    tables = []
    for method in dict.fromkeys(weights.method):
        together = truth_auroc(weights, method)
        assert together is not None
        tables.append(pd.DataFrame([{"corruption": ANY, "method": method, "within": False, **vars(together)}]))
        tables += [score_auroc(weights, method, within_task=within).assign(within=within) for within in (False, True)]
    return pd.concat(tables, ignore_index=True)


def chart(told: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The AUROC of every score by kind of corruption, with the scorer's gradient into the policy and without."""
    gradient = {method: words for pair in POOLS.values() for method, words in zip(
        pair, PANELS, strict=True)}
    hard = {method: pair[0] for pair in POOLS.values() for method in pair}  # one colour per pool
    groups = told[~told.within].assign(group=lambda rows: rows.corruption.map(corruption_label),
                                       kind=lambda rows: rows.method.map(gradient))
    order = list(dict.fromkeys(gradient.values()))
    groups = groups.assign(method=groups.method.map(hard)).sort_values("kind", key=lambda kinds: kinds.map(order.index),
                                                                       kind="stable")
    return grouped_chart(groups, "AUROC, untouched above corrupted, 95 % interval", reference=0.5)


def table(stored: Sequence[StoredRun], told: pd.DataFrame) -> pd.DataFrame:
    """A row per method, as text: which negatives are hard, success, its difference to SFT and to its own weights
    shuffled, what its score tells, and the share of its weight that corrupted chunks get."""
    episodes, weights = episodes_frame(stored), last_weights_frame(stored)
    (corruption,) = episodes.corruption.unique()
    rows = []
    for words, pair in POOLS.items():
        for method, gradient in zip(pair, ("with", "without"), strict=True):
            mine = told[(told.method == method)].set_index(["corruption", "within"])
            chunks = weights[(weights.method == method) & (weights.split == "train")]
            shares = [(part.weight * part.corrupted).sum() / part.weight.sum() for _, part in chunks.groupby("run")]
            success = episodes[episodes.method == method].success
            rows.append({
                "hard negatives": words, "scorer's gradient": gradient, "episodes": len(success),
                "success (%)": f"{100 * success.mean():.1f}", "minus SFT's": _gain(episodes, method, "sft", corruption),
                "minus its shuffled weights'": _gain(episodes, method, SHUFFLED.get(method, ""), corruption),
                **{f"AUROC, {corruption_label(kind)}": _text(mine.loc[kind, False]) for kind, within in mine.index
                   if not within},
                "label noise, within a task": _text(mine.loc["label_noise", True]),
                "corrupted chunks (%)": mean_over_runs(chunks.groupby("run").corrupted.mean(), within=SHARE).text(100),
                "their weight (%)": mean_over_runs(shares, within=SHARE).text(100)})
    return pd.DataFrame(rows)


def _text(row: pd.Series) -> str:
    return Interval(row.estimate, row.low, row.high, row["count"]).text(digits=3)


def _gain(episodes: pd.DataFrame, method: str, baseline: str, corruption: str) -> str:
    if baseline not in set(episodes.method):
        return "–"
    return compare(episodes, {(method, corruption): 1.0, (baseline, corruption): -1.0}).text(100, sign=True)


def answers(stored: Sequence[StoredRun], told: pd.DataFrame) -> pd.DataFrame:
    """The section's questions, each with its number and the answer that its interval gives."""
    return pd.DataFrame([*_of_scores(told), *_of_pools(stored), *_of_success(episodes_frame(stored))],
                        columns=["question", "number", "answer"])


def _of_scores(told: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    for method in SCORERS:
        for row in told[(told.method == method) & (told.corruption == ANY)].itertuples():
            yield (f"Does the score of “{method_label(method)}” tell corrupted chunks?",
                   f"AUROC {row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}]",
                   answer(row.low - 0.5, row.high - 0.5, "yes", "no, the other way round"))


def _of_pools(stored: Sequence[StoredRun]) -> Iterator[tuple[str, str, str]]:
    """How much better a score tells each corruption with other hard negatives than by task, on the same chunks."""
    weights = last_weights_frame([run for run in stored if run.setting.method in SCORERS])
    chunks = weights[(weights.split == "train") & weights.valid]
    chunks = chunks.assign(place=chunks.episode.astype(str).str.partition("/")[2])  # the episode without its run
    for side, gradient in enumerate(PANELS):
        first = chunks[chunks.method == POOLS["by task (as elsewhere)"][side]]
        for words, pair in list(POOLS.items())[1:]:
            second = chunks[chunks.method == pair[side]][[*CHUNK, "score"]]
            both = first.merge(second, on=CHUNK, suffixes=("", " other"))
            for kind in CORRUPTIONS:
                part = both[~both.corrupted | hit_alone(both, kind)]
                gain = auroc_gain(part["score other"], part.score, ~part.corrupted, part.episode, part.training_seed)
                yield (f"Hard negatives: {words}, minus by task, {gradient}: AUROC of {corruption_label(kind)}",
                       gain.text(digits=3, sign=True), answer(gain.low, gain.high, "higher", "lower"))


def _of_success(episodes: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    (corruption,) = episodes.corruption.unique()
    pairs = [(other[side], POOLS["by task (as elsewhere)"][side]) for side in (0, 1)
             for other in list(POOLS.values())[1:]]
    pairs += [(method, "sft") for method in SCORERS] + list(SHUFFLED.items())
    for method, baseline in pairs:
        terms = {(method, corruption): 1.0, (baseline, corruption): -1.0}
        if {method, baseline} <= set(episodes.method):
            gain, where = compare(episodes, terms), scope(alike(episodes, terms))
            yes = "it is what the weights say" if baseline in SHUFFLED.values() else "more often"
            yield (f"“{method_label(method)}” minus “{method_label(baseline)}”", in_points(gain),
                   answer(gain.low, gain.high, yes + where, "less often" + where))
