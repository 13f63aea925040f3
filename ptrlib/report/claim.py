"""The chapter "When does the claim hold?": interference, saturation, memory, padding, contrasts.

Frames in, frames and verdicts out. Proportions are in [0, 1] unless a docstring says points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.report.charts import CORRUPTIONS as CORRUPTION_LABELS
from ptrlib.report.charts import in_order, method_colour, method_label
from ptrlib.report.results import StoredRun, contrast, intervals, paired_values
from ptrlib.report.statistics import (
    Interval,
    auroc,
    divergence,
    effective_sample_size,
    mean_by_episode,
    mean_over_runs,
    paired_ratio,
)
from ptrlib.report.verdicts import Verdict, answer, scope, score_auroc

RULE = "crossfit"
SHUFFLED = ("random", "crossfit_random")  # controls whose score is another rule's
RECOVERY_GOAL = 0.7
INTERFERENCE = ("ptr", "ptr_alpha0", "ptr_tenth", "ptr_detached", "sft_belief")
AT_CLIP = 0.999  # of w_max: a weight above this share of it is at the clip


def recovery(episodes: pd.DataFrame, method: str, corruption: str) -> Interval:
    """(method - SFT) / (oracle - SFT) in success, on the same scenes."""
    won = paired_values(episodes, {("sft", corruption): -1.0, (method, corruption): 1.0})
    gap = paired_values(episodes, {("sft", corruption): -1.0, ("oracle", corruption): 1.0})
    return paired_ratio(won, gap)


def recoveries(episodes: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """:func:`recovery` of every method but the two that define the gap."""
    there = set(episodes[episodes.corruption == corruption].method)
    if not {"sft", "oracle"} <= there:
        return pd.DataFrame()
    methods = [(method,) for method in in_order(there) if method not in ("sft", "oracle")]
    return intervals(methods, ["method"], lambda method: recovery(episodes, method, corruption)) if methods \
        else pd.DataFrame()


def differences(episodes: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Paired difference of success to SFT, of every method and kind of data that SFT was run on."""
    cells = list(dict.fromkeys(zip(episodes.method, episodes.corruption, strict=True)))
    pairs = [(method, kind) for method, kind in cells if method != "sft" and ("sft", kind) in cells
             and (methods is None or method in methods)]
    pairs.sort(key=lambda pair: (list(CORRUPTION_LABELS).index(pair[1]), in_order(episodes.method).index(pair[0])))
    return intervals(pairs, ["method", "corruption"], lambda method, kind: contrast(
        episodes, {(method, kind): 1.0, ("sft", kind): -1.0})) if pairs else pd.DataFrame()


def saturation(weights: pd.DataFrame, stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per run whose rule weights: of the training chunks at the end, with ``corruption`` and ``method``,

    ``at_clip``, the share of chunks with a recorded consequence whose weight is w_max; ``without``, the mean weight of
    chunks without one, relative to the run's mean; ``sample_size``, effective over actual; ``divergence`` (nats).
    """
    rows = []
    highest = {run.name: run.setting.config.ptr.w_max for run in stored}
    for name, chunks in weights[weights.split == "train"].groupby("run", sort=False):
        if chunks.weight.nunique() < 2:
            continue
        valid = chunks[chunks.valid]
        rows.append({"run": name, "method": chunks.method.iloc[0], "corruption": chunks.corruption.iloc[0],
                     "at_clip": (valid.weight >= AT_CLIP * highest[str(name)]).mean(),
                     "without": chunks[~chunks.valid].weight.mean() / chunks.weight.mean(),
                     "sample_size": effective_sample_size(chunks.weight) / len(chunks),
                     "divergence": divergence(chunks.weight)})
    return pd.DataFrame(rows)


def saturation_table(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`saturation` over training seeds, as text with Student's interval."""
    names = {"at_clip": "at w_max (%)", "without": "weight without a consequence (of the mean)",
             "sample_size": "effective sample size (%)", "divergence": "KL(q‖p) (nats)"}
    scale = {"at_clip": 100.0, "sample_size": 100.0}
    rows = []
    for method in in_order(measured.method):
        for kind, cell in measured[measured.method == method].groupby("corruption", sort=False):
            rows.append({"method": method_label(method), "data": CORRUPTION_LABELS[str(kind)], "runs": len(cell), **{
                label: mean_over_runs(cell[name]).text(scale.get(name, 1.0), digits=1 if name in scale else 2)
                for name, label in names.items()}})
    return pd.DataFrame(rows)


def discrimination(weights: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """AUROC of each rule's score, untouched above corrupted training chunks, a row per rule and corruption; and of
    SFT's own action loss, negated."""
    tables = [score_auroc(weights, method) for method in methods]
    if "sft" in set(weights.method):
        negated = weights.assign(minus_loss=-weights.loss)
        tables.append(score_auroc(negated, "sft", "minus_loss").assign(method="SFT's action loss"))
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    return table.assign(kind="AUROC, untouched above corrupted", group=table.corruption.map(CORRUPTION_LABELS))


def memory(weights: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Mean score of untouched chunks of training and of held-out episodes, for :func:`charts.grouped_chart`."""
    clean = weights[weights.valid & ~weights.corrupted]
    rows = []
    for method in methods:
        for split, group in (("train", "training episodes"), ("held_out", "held-out episodes")):
            part = clean[(clean.method == method) & (clean.split == split)]
            if len(part):
                rows.append({"kind": "score on untouched chunks (nats)", "group": group, "method": method,
                             **vars(mean_by_episode(part.score, part.episode, part.run))})
    return pd.DataFrame(rows)


def over_phase(weights: pd.DataFrame, methods: Sequence[str], bins: int = 8) -> tuple[Figure, pd.DataFrame]:
    """Weight of untouched training chunks against the phase of the episode, relative to the run's mean."""
    chunks = weights[(weights.split == "train") & weights.method.isin(methods)]
    relative = chunks.weight / chunks.groupby("run").weight.transform("mean")
    chunks = chunks.assign(relative=relative, bin=(chunks.phase * bins).astype(int).clip(0, bins - 1))
    clean = chunks[~chunks.corrupted]
    rows = [{"method": method, "phase": (part + 0.5) / bins, **vars(
        mean_by_episode(cell.relative, cell.episode, cell.run))}
        for method in in_order(clean.method) for part, cell in clean[clean.method == method].groupby("bin")]
    drawn = pd.DataFrame(rows)
    figure, axes = plt.subplots(figsize=(5.2, 2.8))
    for method, line in drawn.groupby("method", sort=False):
        axes.plot(line.phase, line.estimate, color=method_colour(str(method)), label=method_label(str(method)))
        axes.fill_between(line.phase, line.low, line.high, color=method_colour(str(method)), alpha=0.2, linewidth=0)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xlabel="phase of the episode", ylabel="weight, relative to the run's mean")
    axes.legend(frameon=False)
    return figure, drawn


def against_divergence(episodes: pd.DataFrame, measured: pd.DataFrame, corruption: str, methods: Sequence[str]
                       ) -> tuple[Figure, pd.DataFrame]:
    """Recovery of the gap against how far the weighted data are from the data, KL(q||p), a point per method."""
    rows = []
    for method in methods:
        cell = measured[(measured.method == method) & (measured.corruption == corruption)]
        if len(cell):
            rows.append({"method": method, "divergence": cell.divergence.mean(),
                         **vars(recovery(episodes, method, corruption))})
    drawn = pd.DataFrame(rows)
    figure, axes = plt.subplots(figsize=(5.2, 3.0))
    for row in drawn.to_dict("records"):
        ends = np.nan_to_num([[row["estimate"] - row["low"]], [row["high"] - row["estimate"]]], posinf=0.0, neginf=0.0)
        axes.errorbar(row["divergence"], row["estimate"], yerr=np.abs(ends), fmt="o",
                      color=method_colour(row["method"]), label=method_label(row["method"]))
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axhline(RECOVERY_GOAL, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="KL(q‖p) of the weights (nats)", ylabel="share of the gap won back")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, drawn


def verdicts(episodes: pd.DataFrame, weights: pd.DataFrame, measured: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """A row per hypothesis that the runs can answer: question, number, answer and the interval behind it."""
    return pd.DataFrame([asdict(verdict) for verdict in [
        *_interference(episodes), *_saturation(measured, corruption), *_memory(weights),
        *_padding(episodes, corruption), *_contrasts(episodes, corruption)]])


def headline(episodes: pd.DataFrame, corruption: str) -> str:
    """One paragraph of Markdown: what PTR does, and whether the rule reaches its two goals."""
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    parts = []
    if {("ptr", corruption), ("sft", corruption)} <= there:
        gain = contrast(episodes, {("ptr", corruption): 1.0, ("sft", corruption): -1.0})
        parts.append(f"Under {CORRUPTION_LABELS[corruption]} the paper's rule is {gain.text(100, sign=True)} points "
                     f"from SFT: **{answer(gain.low, gain.high, 'the claim holds here', 'the claim fails here')}**.")
    if {(RULE, corruption), ("oracle", corruption), ("sft", corruption)} <= there:
        share = recovery(episodes, RULE, corruption)
        reached = ("reaches" if share.low >= RECOVERY_GOAL else "misses" if share.high < RECOVERY_GOAL
                   else "cannot be told from")
        parts.append(f"The cross-fitted rule wins back {share.text(100, digits=0)} % of the gap between SFT and the "
                     f"oracle filter, which **{reached}** the goal of {RECOVERY_GOAL:.0%}{scope(episodes)}.")
    if {(RULE, "none"), ("sft", "none")} <= there:
        cost = contrast(episodes, {(RULE, "none"): 1.0, ("sft", "none"): -1.0})
        parts.append(f"On clean data it is {cost.text(100, sign=True)} points from SFT: **"
                     f"{answer(cost.low, cost.high, 'it gains', 'it costs', 'no loss can be told')}**.")
    return " ".join(parts) or "The runs shown answer none of the chapter's questions."


def _points(question: str, interval: Interval, more: str, less: str, neither: str = "cannot be told") -> Verdict:
    told = answer(interval.low, interval.high, more, less, neither)
    return Verdict(question, f"{interval.text(100, sign=True)} points", told, interval.estimate, interval.low,
                   interval.high)


def _interference(episodes: pd.DataFrame) -> Iterator[Verdict]:
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    questions = {"ptr": "a. Does PTR fall behind SFT on clean data?",
                 "ptr_alpha0": "a. Do its auxiliary losses alone (α = 0)?",
                 "ptr_tenth": "a. Does PTR with both losses at a tenth?",
                 "ptr_detached": "a. Does PTR whose scorer reads without gradient?"}
    for method, question in questions.items():
        if {(method, "none"), ("sft", "none")} <= there:
            yield _points(question, contrast(episodes, {(method, "none"): 1.0, ("sft", "none"): -1.0}),
                          "no, it is ahead", "yes")


def _saturation(measured: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    if measured.empty:
        return
    mine = measured[(measured.method == "ptr") & (measured.corruption == corruption)]
    if len(mine):
        share, without = mean_over_runs(mine.at_clip), mean_over_runs(mine.without)
        yield Verdict("b. Are most chunks with a consequence at w_max?", f"{share.text(100)} %",
                      answer(share.low - 0.5, share.high - 0.5, "yes", "no"), share.estimate, share.low, share.high)
        yield Verdict("b. Is w = 1 for chunks without one a neutral weight?", f"{without.text(digits=2)} of the mean",
                      answer(without.low - 1, without.high - 1, "no, more than the mean", "no, less than the mean"),
                      without.estimate, without.low, without.high)


def _memory(weights: pd.DataFrame) -> Iterator[Verdict]:
    for method, question in (("ptr", "c. Does PTR's score, of chunks it learns from, tell corrupted ones?"),
                             ("crossfit_insample", "c. Do contrasts of scorers that judge what they learned from?"),
                             (RULE, "c. Do cross-fitted contrasts?")):
        chunks = weights[(weights.method == method) & (weights.split == "train") & weights.valid]
        chunks = chunks.dropna(subset=["score"])
        chunks = chunks[chunks.groupby("run").corrupted.transform("nunique") == 2]
        if len(chunks):
            value = auroc(chunks.score, ~chunks.corrupted, chunks.episode, chunks.run)
            yield Verdict(question, f"AUROC {value.text(digits=2)}",
                          answer(value.low - 0.5, value.high - 0.5, "yes", "no, the other way round"),
                          value.estimate, value.low, value.high)


def _padding(episodes: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    for kind in ("truncation", corruption):
        if {("sft_masked", kind), ("sft", kind)} <= there:
            yield _points(f"d. Does leaving padding out of the loss help SFT? ({CORRUPTION_LABELS[kind]})",
                          contrast(episodes, {("sft_masked", kind): 1.0, ("sft", kind): -1.0}), "yes", "no, it hurts")


def _contrasts(episodes: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    for baseline, question in (("sft", "e. Does the cross-fitted rule beat SFT?"),
                               ("sft_masked", "e. Does it beat SFT without padding?"),
                               ("ptr", "e. Does it beat PTR?"),
                               ("crossfit_random", "e. Is it what the weights say? (against them shuffled)"),
                               ("crossfit_likelihood", "e. Does it beat the start policy's loss as a score?"),
                               ("crossfit_insample", "e. Does cross-fitting matter? (against in-sample scores)"),
                               ("crossfit_chunk", "e. Does pooling over the episode matter?"),
                               ("crossfit_narrow", "e. Does the bound matter? (against w in [1/2, 2])")):
        if {(RULE, corruption), (baseline, corruption)} <= there:
            yield _points(question, contrast(episodes, {(RULE, corruption): 1.0, (baseline, corruption): -1.0}),
                          "yes", "no, it is behind")
