"""The chapter "When does the claim hold?": interference, saturation, memory, padding, starts. The page of our own rule
(:mod:`ptrlib.report.rule`) asks some of it too.

Frames in, frames and verdicts out. Proportions are in [0, 1] unless a docstring says points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import fingerprint, override
from ptrlib.method.bounds import kl_bound, sharp_kl_bound
from ptrlib.report.charts import CORRUPTIONS as CORRUPTION_LABELS
from ptrlib.report.charts import difference_chart, in_order, method_colour, method_label
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import (
    StoredRun,
    alike,
    compare,
    intervals,
    is_stored,
    last_snapshot,
    manifest_path,
    runs_of,
    success_rates,
)
from ptrlib.report.statistics import (
    POSITIVE,
    SHARE,
    Interval,
    auroc,
    divergence,
    effective_sample_size,
    mean_by_episode,
    mean_over_runs,
)
from ptrlib.report.verdicts import Verdict, answer, in_points, scope, score_auroc

# What section a compares on clean data: baseline -> method -> question. SFT+Belief has PTR's belief tokens, SFT none.
INTERFERENCE = {
    "sft": {"ptr": "a. Does PTR fall behind SFT on clean data?",
            "sft_belief": "a. Do belief tokens alone (SFT+Belief)?",
            "no_belief": "a. Does PTR without belief tokens?"},
    "sft_belief": {"ptr": "a. Does PTR fall behind SFT+Belief, which has the same belief tokens, on clean data?",
                   "ptr_alpha0": "a. Do its auxiliary losses alone (α = 0, against SFT+Belief)?",
                   "ptr_tenth": "a. Does PTR with both losses at a tenth (against SFT+Belief)?",
                   "ptr_detached": "a. Does PTR whose scorer reads without gradient (against SFT+Belief)?",
                   "ptr_neutral": "a. Does PTR with a neutral weight where nothing followed (against SFT+Belief)?"},
    "ptr_detached": {"ptr": "a. Does PTR fall behind PTR whose scorer reads without gradient?"},
    "ptr_alpha0": {"ptr": "a. Does PTR fall behind its auxiliary losses alone (α = 0)?"},
    "sft_belief_twice": {"ptr_twice": "a. Does PTR with twice the steps (against SFT+Belief with as many)?"}}
BASELINES = {"sft": "minus SFT’s", "sft_belief": "minus SFT+Belief’s",
             "ptr_detached": "minus PTR’s with a detached scorer", "ptr_alpha0": "minus α = 0’s",
             "sft_belief_twice": "minus SFT+Belief’s of twice the steps"}
OWN = "crossfit"  # begins the names of our own rules, whose scores are fixed before training
ON_OUR_PAGE = (OWN, "bounded_oracle")  # begin the names of what the page of our rule shows and the chapter does not
PARTS = (("ptr", "ptr_detached", "the scorer’s gradient"), ("ptr", "ptr_alpha0", "the weights"),
         ("ptr_alpha0", "sft_belief", "the losses alone"),
         ("ptr_detached", "sft_belief", "weights without the gradient"))
LATE = 0.75  # the episode's last quarter begins
AT_CLIP = 0.999  # of w_max: a weight above this share of it is at the clip


def section(manifest: str) -> tuple[list[StoredRun], str]:
    """The runs of a section with a manifest of its own, or none of them and one sentence (Markdown) on what is missing;
    "" asks for no runs and no sentence."""
    if not manifest:
        return [], ""
    if is_stored(manifest):
        return runs_of(manifest), ""
    return [], (f"The runs of `{manifest}` are not all stored and not shown; `ptrlib run {manifest_path(manifest)}` "
                "makes them.")


def with_further(stored: Sequence[StoredRun], manifest: str) -> tuple[list[StoredRun], str]:
    """``stored`` and the runs of another manifest, each once; or ``stored`` alone and a sentence on why.

    Runs of a method that both have must differ in nothing but their training seeds.
    """
    further, said = section(manifest)
    known = {_kind(run): fingerprint(override(run.setting.config, {"seed": 0})) for run in stored}
    if any(known.get(_kind(run)) not in (None, fingerprint(override(run.setting.config, {"seed": 0})))
           for run in further):
        return list(stored), f"The runs of `{manifest}` have other settings than those above and are not shown."
    names = {run.name for run in stored}
    return [*stored, *(run for run in further if run.name not in names)], said


def _kind(run: StoredRun) -> tuple[str, str]:
    return run.setting.method, run.setting.config.data.corruption


def differences(episodes: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Paired difference of success to SFT, of every method and kind of data that SFT was run on, over the training
    seeds that both have."""
    cells = list(dict.fromkeys(zip(episodes.method, episodes.corruption, strict=True)))
    pairs = [(method, kind) for method, kind in cells if method != "sft" and ("sft", kind) in cells
             and (methods is None or method in methods)]
    pairs.sort(key=lambda pair: (list(CORRUPTION_LABELS).index(pair[1]), in_order(episodes.method).index(pair[0])))
    return intervals(pairs, ["method", "corruption"], lambda method, kind: compare(
        episodes, {(method, kind): 1.0, ("sft", kind): -1.0})) if pairs else pd.DataFrame()


def interference(episodes: pd.DataFrame) -> pd.DataFrame:
    """:func:`differences` on clean data, to SFT and to SFT+Belief: ``corruption`` holds the baseline."""
    rows = intervals([(method, baseline) for baseline, method, _ in _asked_of_interference(episodes)],
                     ["method", "corruption"], lambda method, baseline: compare(
                         episodes, {(method, "none"): 1.0, (baseline, "none"): -1.0}))
    order = in_order(rows.method) if len(rows) else []
    return rows.sort_values("method", key=lambda names: names.map(order.index), kind="stable") if order else rows


def parts(episodes: pd.DataFrame) -> str:
    """Markdown, a line per kind of data: what each part of PTR costs or gains, by the runs that differ in it alone."""
    there, lines = set(zip(episodes.method, episodes.corruption, strict=True)), []
    for kind in (name for name in CORRUPTION_LABELS if name in set(episodes.corruption)):
        told = []
        for method, baseline, what in PARTS:
            terms = {(method, kind): 1.0, (baseline, kind): -1.0}
            if set(terms) <= there:
                gain, where = compare(episodes, terms), scope(alike(episodes, terms))
                words = answer(gain.low, gain.high, "helps", "costs success")
                told.append(f"{what} ({method_label(method)} minus {method_label(baseline)}) "
                            f"{gain.text(100, sign=True)} points, **{words}**{where}")
        if told:
            lines.append(f"- With {CORRUPTION_LABELS[kind]}: {'; '.join(told)}.")
    return "\n".join(lines)


def _asked_of_interference(episodes: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """(baseline, method, question) of INTERFERENCE that were both run on clean data."""
    there = set(episodes.method[episodes.corruption == "none"])
    for baseline, questions in INTERFERENCE.items():
        for method, question in questions.items():
            if {method, baseline} <= there:
                yield baseline, method, question


def difference_table(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`differences` as text."""
    told = [in_points(Interval(row.estimate, row.low, row.high, row.count)) for row in measured.itertuples()]
    return pd.DataFrame({"rule": measured.method.map(method_label), "data": measured.corruption.map(CORRUPTION_LABELS),
                         "minus SFT's success": told})


def saturation(weights: pd.DataFrame, stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per run whose rule weights: of the training chunks at the end, with ``corruption`` and ``method``,

    ``recorded``, the share of chunks with a recorded consequence, and ``recorded_late``, that of the episode's last
    quarter; ``at_clip``, the share of those chunks whose weight is w_max; ``without``, the mean weight of chunks
    without a recorded consequence, relative to the run's mean; ``sample_size``, effective over actual; ``divergence``
    (nats) with the paper's ``bound`` on it (Eq 26) and the ``sharp_bound`` that no weights within the clip exceed.
    """
    rows = []
    settings = {run.name: run.setting.config.ptr for run in stored}
    for name, chunks in weights[weights.split == "train"].groupby("run", sort=False):
        if chunks.weight.nunique() < 2:
            continue
        valid, ptr = chunks[chunks.valid], settings[str(name)]
        rows.append({"run": name, "method": chunks.method.iloc[0], "corruption": chunks.corruption.iloc[0],
                     "recorded": chunks.valid.mean(), "recorded_late": chunks[chunks.phase >= LATE].valid.mean(),
                     "at_clip": (valid.weight >= AT_CLIP * ptr.w_max).mean(),
                     "without": chunks[~chunks.valid].weight.mean() / chunks.weight.mean(),
                     "sample_size": effective_sample_size(chunks.weight) / len(chunks),
                     "divergence": divergence(chunks.weight),
                     "bound": kl_bound(ptr.w_min, ptr.w_max, ptr.alpha),
                     "sharp_bound": sharp_kl_bound(ptr.w_min, ptr.w_max, ptr.alpha)})
    return pd.DataFrame(rows)


def saturation_table(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`saturation` over training seeds, as text with Student's interval."""
    names = {"recorded": "with a recorded consequence (%)", "recorded_late": "… of the last quarter’s chunks (%)",
             "at_clip": "of all with one, at w_max (%)", "without": "weight without a consequence (of the mean)",
             "sample_size": "effective sample size (%)", "divergence": "KL(q‖p) (nats)"}
    shares = ("recorded", "recorded_late", "at_clip", "sample_size")
    rows = []
    for method in in_order(measured.method):
        for kind, cell in measured[measured.method == method].groupby("corruption", sort=False):
            rows.append({"method": method_label(method), "data": CORRUPTION_LABELS[str(kind)], "runs": len(cell), **{
                label: mean_over_runs(cell[name], within=SHARE).text(100) if name in shares
                else mean_over_runs(cell[name], within=POSITIVE).text(digits=2)
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


def truth_auroc(weights: pd.DataFrame, method: str, *, every: bool = False) -> Interval | None:
    """Chance that the score of ``method`` puts an untouched training chunk above a corrupted one, of those with a
    recorded consequence or, for rules that judge the others too, of ``every`` one; None where the runs hold no chunks
    of both kinds."""
    chunks = weights[(weights.method == method) & (weights.split == "train")].dropna(subset=["score"])
    chunks = chunks if every else chunks[chunks.valid]
    chunks = chunks[chunks.groupby("run").corrupted.transform("nunique") == 2]
    return auroc(chunks.score, ~chunks.corrupted, chunks.episode, chunks.run) if len(chunks) else None


def memory_auroc(weights: pd.DataFrame, method: str) -> Interval | None:
    """Chance that the score of ``method`` puts an untouched chunk of a training episode above one of a held-out
    episode: 0.5 where nothing was learned by heart. None where the runs hold no chunks of both kinds."""
    chunks = weights[(weights.method == method) & weights.valid & ~weights.corrupted].dropna(subset=["score"])
    chunks = chunks[chunks.groupby("run").split.transform("nunique") == 2]
    return auroc(chunks.score, chunks.split == "train", chunks.episode, chunks.run) if len(chunks) else None


def moments(weights: pd.DataFrame, methods: Sequence[str]) -> list[tuple[str, str, pd.DataFrame]]:
    """(method, words, chunks) of the first and the last snapshot of rules that score while training, and of the last
    of rules whose scores are fixed before it."""
    found = []
    for method in methods:
        mine = weights[(weights.method == method) & weights.valid].dropna(subset=["score"])
        steps = mine.groupby("run").step
        early, late = mine[mine.step == steps.transform("min")], mine[mine.step == steps.transform("max")]
        if method.startswith(OWN):
            found.append((method, "before training", late))
            continue
        found += [(method, f"step {part.step.min()}", part) for part in (early, late)]
    return [(method, words, chunks) for method, words, chunks in found if len(chunks)]


def score_distributions(weights: pd.DataFrame, methods: Sequence[str], bins: int = 40) -> tuple[Figure, pd.DataFrame]:
    """Scores of chunks with a recorded consequence by the truth, a panel per rule and moment; seeds are pooled.

    Training chunks, untouched and corrupted, and chunks of held-out episodes, which nothing corrupts. The outermost
    bins hold what lies beyond them (half a percent on either side).
    """
    shown = moments(weights, methods)
    rows = []
    for method, words, chunks in shown:
        rule = weights[(weights.method == method) & weights.valid].score.dropna()
        edges = np.linspace(rule.quantile(0.005), rule.quantile(0.995), bins + 1)
        for group, part in _by_truth(chunks):
            counts, _ = np.histogram(part.score.clip(edges[0], edges[-1]), edges)
            rows.append(pd.DataFrame({"method": method, "moment": words, "group": group, "low": edges[:-1],
                                      "high": edges[1:], "share": counts / counts.sum(), "chunks": len(part)}))
    drawn = pd.concat(rows, ignore_index=True)
    figure, panels = plt.subplots(len(shown), 1, figsize=(5.2, 1.5 * len(shown) + 0.6), squeeze=False)
    for axes, (method, words, _) in zip(panels[:, 0], shown, strict=True):
        panel = drawn[(drawn.method == method) & (drawn.moment == words)]
        for group, (colour, filled) in _TRUTH.items():
            line = panel[panel.group == group]
            if len(line):
                axes.stairs(100 * line.share, [*line.low, line.high.iloc[-1]], fill=filled, color=COLOURS[colour],
                            alpha=0.45 if filled else 1.0, linewidth=1.3, label=group)
        axes.set(title=f"{alone(method)}, {words}", ylabel="chunks (%)")
        if method.startswith(OWN):  # most chunks have the usual answer, and the tail is what matters
            axes.set(yscale="log", ylim=(0.05, 100))
            axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    panels[-1, 0].set_xlabel("score T (nats)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure, drawn


def alone(method: str) -> str:
    """The label of a rule where it does not stand below the rule it varies."""
    return method_label(method).replace("… ", "contrasts, ")


_TRUTH = {"training, untouched": ("sky", True), "training, corrupted": ("vermillion", False),
          "held-out, untouched": ("black", False)}


def _by_truth(chunks: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    trained = chunks.split == "train"
    for group, chosen in zip(_TRUTH, (trained & ~chunks.corrupted, trained & chunks.corrupted,
                                      ~trained & ~chunks.corrupted), strict=True):
        if chosen.any():
            yield group, chunks[chosen]


def score_table(weights: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """What the distributions overlap by, a row per rule and moment, as text: AUROC with 95 % interval and how many
    chunks of training and of held-out episodes it is of. Our rules also score chunks without a recorded consequence."""
    rows = []
    for method, words, chunks in moments(weights, methods):
        told, remembered = truth_auroc(chunks, method), memory_auroc(chunks, method)
        own = truth_auroc(last_snapshot(weights), method, every=True) if method.startswith(OWN) else None
        trained = int((chunks.split == "train").sum())
        rows.append({"score": alone(method), "when": words, "n, training": trained,
                     "n, held-out": len(chunks) - trained,
                     "untouched above corrupted": told.text(digits=3) if told else "–",
                     "the same, of all training chunks": own.text(digits=3) if own else "–",
                     "training above held-out": remembered.text(digits=3) if remembered else "–"})
    table = pd.DataFrame(rows)
    column = "the same, of all training chunks"
    return table if not len(table) or (table[column] != "–").any() else table.drop(columns=column)


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
        axes.plot(line.phase, line.estimate, color=method_colour(str(method)), label=alone(str(method)))
        axes.fill_between(line.phase, line.low, line.high, color=method_colour(str(method)), alpha=0.2, linewidth=0)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xlabel="phase of the episode", ylabel="weight, relative to the run's mean")
    axes.legend(frameon=False)
    return figure, drawn


STARTS = {"pretrained": "from the pretrained policy", "scratch": "from scratch"}
START_CONTROLS = {"sft_belief": "f. From scratch, is PTR ahead of SFT+Belief, which has the same belief tokens?",
                  "ptr_alpha0": "f. From scratch, do PTR’s weights help (against α = 0, its losses alone)?",
                  "random": "f. From scratch, is it what they say (against the same weights shuffled)?"}


def both_starts(pretrained: pd.DataFrame, scratch: pd.DataFrame) -> pd.DataFrame:
    """Episodes on clean data of the rules that were also trained from scratch, with ``start``: a key of ``STARTS``."""
    tables = {"pretrained": pretrained[pretrained.method.isin(scratch.method)], "scratch": scratch}
    return pd.concat([table[table.corruption == "none"].assign(start=start) for start, table in tables.items()],
                     ignore_index=True)


def start_differences(episodes: pd.DataFrame) -> pd.DataFrame:
    """:func:`differences` of either start, with ``corruption`` naming the start."""
    tables = [differences(part).assign(corruption=start) for start, part in episodes.groupby("start", sort=False)]
    return pd.concat(tables, ignore_index=True)


def start_chart(measured: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """:func:`start_differences`, a row per rule and a mark per start."""
    return difference_chart(measured, "success on clean data minus SFT's (points), 95 % interval", STARTS)


def start_table(episodes: pd.DataFrame, steps: dict[str, int]) -> pd.DataFrame:
    """Success (%) and the paired difference to SFT (points) of either start; ``steps`` by start."""
    rates = success_rates(episodes, ("start", "method"))
    runs = episodes.groupby(["start", "method"]).training_seed.nunique()
    found = start_differences(episodes)
    rows = []
    for row in rates.sort_values("start", key=lambda names: names.map(list(STARTS).index), kind="stable").itertuples():
        rate = Interval(row.success, row.low, row.high, row.episodes)
        beside = found[(found.corruption == row.start) & (found.method == row.method)]
        against = [Interval(cell.estimate, cell.low, cell.high, cell.count) for cell in beside.itertuples()]
        rows.append({"start": STARTS[row.start], "steps": steps[row.start], "rule": method_label(row.method),
                     "runs": runs[row.start, row.method], "episodes": row.episodes, "success (%)": rate.text(100),
                     "minus SFT's (points)": against[0].text(100, sign=True) if against else "–"})
    return pd.DataFrame(rows)


def start_verdicts(episodes: pd.DataFrame) -> pd.DataFrame:
    """f. Is a rule behind SFT from scratch, and more so than from the pretrained policy? Is PTR ahead of its controls?

    The second is answered on the scenes and training seeds that both starts have.
    """
    rows = []
    episodes = episodes.assign(corruption=episodes.start)
    there = set(zip(episodes.method, episodes.start, strict=True))
    for method in in_order(episodes.method):
        if method == "sft" or not {(method, "scratch"), ("sft", "scratch")} <= there:
            continue
        scratch = {(method, "scratch"): 1.0, ("sft", "scratch"): -1.0}
        rows.append(points(f"f. Is “{method_label(method)}” behind SFT from scratch, on clean data?", episodes,
                           scratch, "no, it is ahead", "yes"))
        both = _shared(episodes[episodes.method.isin([method, "sft"])], len(scratch) * len(STARTS))
        if len(both):
            pretrained = {(method, "pretrained"): -1.0, ("sft", "pretrained"): 1.0}
            rows.append(points(f"f. Is “{method_label(method)}” farther behind from scratch than from the pretrained "
                               "policy?", both, scratch | pretrained, "no, less far", "yes"))
    for control, question in START_CONTROLS.items():
        if {("ptr", "scratch"), (control, "scratch")} <= there:
            rows.append(points(question, episodes, {("ptr", "scratch"): 1.0, (control, "scratch"): -1.0},
                               "yes", "no, PTR does worse"))
    return pd.DataFrame([asdict(verdict) for verdict in rows])


def _shared(episodes: pd.DataFrame, cells: int) -> pd.DataFrame:
    """The episodes in scenes and with training seeds that all ``cells`` of method and start have."""
    return episodes[episodes.groupby(["training_seed", "task", "init_state"]).success.transform("size") == cells]


def verdicts(episodes: pd.DataFrame, weights: pd.DataFrame, measured: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """A row per hypothesis about PTR that the runs can answer: question, number, answer and the interval behind it."""
    return pd.DataFrame([asdict(verdict) for verdict in [
        *_meaning(episodes, corruption), *_interference(episodes), *_saturation(measured, corruption),
        *score_verdicts(weights, TOLD, REMEMBERED),
        *_padding(episodes, corruption)]])


def as_lines(verdicts: pd.DataFrame) -> str:
    """A Markdown line per verdict: question, number and answer."""
    return "\n".join(f"- {row.question} {row.number}: **{row.answer}**." for row in verdicts.itertuples())


def headline(episodes: pd.DataFrame, corruption: str) -> str:
    """A sentence of Markdown: does PTR beat SFT on corrupted data?"""
    terms = {("ptr", corruption): 1.0, ("sft", corruption): -1.0}
    if not set(terms) <= set(zip(episodes.method, episodes.corruption, strict=True)):
        return "PTR and SFT were not both run here, so the claim is not tested."
    gain = compare(episodes, terms)
    return (f"Under {CORRUPTION_LABELS[corruption]} the paper's rule is {gain.text(100, sign=True)} points "
            f"from SFT: **{answer(gain.low, gain.high, 'the claim holds here', 'the claim fails here')}**.")


def points(question: str, episodes: pd.DataFrame, terms: Mapping[tuple[str, str], float], more: str, less: str
           ) -> Verdict:
    """A verdict on a contrast; with one training seed its answer says so."""
    interval, where = compare(episodes, terms), scope(alike(episodes, terms))
    told = answer(interval.low, interval.high, more + where, less + where)
    return Verdict(question, in_points(interval), told, interval.estimate, interval.low, interval.high)


def _meaning(episodes: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    if {("ptr", corruption), ("random", corruption)} <= there:
        yield points("Is it what PTR's weights say, and not merely that there are weights (against the same weights "
                     f"shuffled, {CORRUPTION_LABELS[corruption]})?", episodes,
                     {("ptr", corruption): 1.0, ("random", corruption): -1.0}, "yes", "no, shuffled ones do better")


def _interference(episodes: pd.DataFrame) -> Iterator[Verdict]:
    for baseline, method, question in _asked_of_interference(episodes):
        yield points(question, episodes, {(method, "none"): 1.0, (baseline, "none"): -1.0}, "no, it is ahead", "yes")


def _saturation(measured: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    if measured.empty:
        return
    mine = measured[(measured.method == "ptr") & (measured.corruption == corruption)]
    if len(mine):
        share, without = mean_over_runs(mine.at_clip, within=SHARE), mean_over_runs(mine.without, within=POSITIVE)
        yield Verdict("b. Are most chunks with a consequence at w_max?", f"{share.text(100)} %",
                      answer(share.low - 0.5, share.high - 0.5, "yes", "no"), share.estimate, share.low, share.high)
        yield Verdict("b. Is w = 1 for chunks without one a neutral weight?", f"{without.text(digits=2)} of the mean",
                      answer(without.low - 1, without.high - 1, "no, more than the mean", "no, less than the mean"),
                      without.estimate, without.low, without.high)


TOLD = {"ptr": "c. Does PTR's score, of chunks it learns from, tell corrupted ones?"}
REMEMBERED = {"ptr": "c. Is PTR's score higher on chunks it learned from than on held-out ones?"}


def score_verdicts(weights: pd.DataFrame, told: Mapping[str, str], remembered: Mapping[str, str]) -> Iterator[Verdict]:
    """A verdict per question, by method: does its score tell corrupted chunks, and does it know training chunks?"""
    for questions, measure in ((told, truth_auroc), (remembered, memory_auroc)):
        for method, question in questions.items():
            value = measure(weights, method)
            if value is not None:
                yield Verdict(question, f"AUROC {value.text(digits=3)}",
                              answer(value.low - 0.5, value.high - 0.5, "yes", "no, the other way round"),
                              value.estimate, value.low, value.high)


def _padding(episodes: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    for kind in dict.fromkeys(("none", "truncation", corruption)):
        if {("sft_masked", kind), ("sft", kind)} <= there:
            yield points(f"d. Does leaving padding out of the loss help SFT? ({CORRUPTION_LABELS[kind]})",
                         episodes, {("sft_masked", kind): 1.0, ("sft", kind): -1.0}, "yes", "no, it hurts")


