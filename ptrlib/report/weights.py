"""Weights over training: Figure 11, and where in an episode they go.

Settings are those of :mod:`ptrlib.report.dynamics`. Weights are those of training chunks with a recorded consequence;
"early" is the first snapshot, just after the warm-up, "late" the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import PTRConfig
from ptrlib.report import results
from ptrlib.report.charts import folded
from ptrlib.report.dynamics import Gathered, in_order, source_colours
from ptrlib.report.figures import COLOURS
from ptrlib.report.statistics import POSITIVE, SHARE, Interval, mean_by_episode, mean_over_runs
from ptrlib.report.verdicts import answer

CLOSE = 0.05  # a weight this close to a bound, in proportion to it, is “near” it, as the paper says
MUCH = 1 / 3  # of the chunks: our reading of "much of its mass near the clipping bound"
UNIFORM = (0.8, 1.25)  # the paper's "near-uniform around w = 1"
BINS, PHASES = 24, 10
ONE_RUN = ", in this one run"
GENERALIST = "the generalist’s weights spread wider than those of"
WINDOW = 0.1  # of a run's logging steps, over which losses are averaged before they are compared
WEIGHTED = "ptr, weighted"  # PTR's own objective, beside its plain action loss
LINES = {"ptr": ("PTR, plain mean", "blue", "-"), WEIGHTED: ("PTR, weighted mean", "blue", "--"),
         "sft_belief": ("SFT+Belief", "sky", "-"), "random": ("PTR, shuffled weights", "purple", "-")}


def snapshots(gathered: Gathered) -> pd.DataFrame:
    """Training chunks of PTR's runs at every snapshot, with ``setting``, ``moment`` and ``relative``, the weight
    over its run's mean at that snapshot (all chunks, also those without a consequence)."""
    ranked = [run for run in gathered.stored if run.setting.config.credit == "ptr"]
    if not ranked:
        raise ValueError("there are no PTR runs among those gathered; ask for a manifest that has some")
    table = gathered.frame(results.weights_frame(ranked)).query("split == 'train'")
    steps = table.groupby("run").step
    last = table.step == steps.transform("max")
    mean = table.groupby(["run", "step"]).weight.transform("mean")
    kept = last | (table.step == steps.transform("min"))
    return table.assign(moment=np.where(last, "late", "early"), relative=table.weight / mean)[kept]


def histogram_chart(chunks: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 11 (a-c): the distribution of weights early (grey) and late, a panel per setting; seeds are pooled."""
    valid = chunks[chunks.valid]
    edges = np.linspace(0, max(PTRConfig().w_max, float(valid.weight.max())), BINS + 1)
    counted = []
    for (setting, moment), part in valid.groupby(["setting", "moment"], sort=False):
        counts, _ = np.histogram(part.weight, edges)
        counted.append(pd.DataFrame({"setting": setting, "moment": moment, "step": part.step.iloc[0], "low": edges[:-1],
                                     "high": edges[1:], "share": counts / counts.sum(), "chunks": len(part)}))
    drawn = pd.concat(counted, ignore_index=True)
    settings = list(dict.fromkeys(drawn.setting))
    colours = source_colours(settings)
    rows = -(-len(settings) // 2)
    figure, panels = plt.subplots(rows, 2, figsize=(5.6, 1.9 * rows + 0.2), squeeze=False, sharey=True)
    for axes in panels.flat[len(settings):]:
        axes.set_visible(False)
    for axes, setting in zip(panels.flat, settings, strict=False):
        for moment, colour in (("early", COLOURS["grey"]), ("late", colours[setting][0])):
            part = drawn[(drawn.setting == setting) & (drawn.moment == moment)]
            if len(part):
                axes.stairs(part.share, edges, fill=True, alpha=0.55, color=colour, label=f"step {part.step.iloc[0]}")
        axes.set_title(folded(setting.replace(", ", "\n")), fontsize=9)
        axes.legend()
    for axes in panels[:, 0]:
        axes.set_ylabel("share of chunks")
    for axes in panels.flat[max(0, len(settings) - 2):len(settings)]:
        axes.set_xlabel("weight $w$")
    return figure, drawn


def spreads(chunks: pd.DataFrame) -> pd.DataFrame:
    """A row per run and moment: mean and spread of its weights, and the shares near either bound and around 1."""
    ptr, rows = PTRConfig(), []
    for (setting, run, moment), part in chunks[chunks.valid].groupby(["setting", "run", "moment"], sort=False):
        weight = part.weight
        rows.append({"setting": setting, "run": run, "training_seed": part.training_seed.iloc[0], "moment": moment,
                     "mean": weight.mean(), "spread": weight.std(ddof=0),
                     "near w_max": (weight >= (1 - CLOSE) * ptr.w_max).mean(),
                     "near w_min": (weight <= (1 + CLOSE) * ptr.w_min).mean(),
                     "around 1": weight.between(*UNIFORM).mean(), "below 1": (weight < 1).mean()})
    return pd.DataFrame(rows)


def spread_table(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`spreads` as text: means over training seeds with Student's interval, where there are several."""
    rows = []
    for (setting, moment), part in measured.groupby(["setting", "moment"], sort=False):
        row = {"setting": setting, "moment": moment, "runs": len(part)}
        row |= {name: mean_over_runs(part[name], within=POSITIVE).text(digits=2) for name in ("mean", "spread")}
        row |= {f"{label} (%)": mean_over_runs(part[name], within=SHARE).text(100) for name, label in (
            ("near w_max", "near the upper bound"), ("near w_min", "near the lower bound"),
            ("around 1", "within 0.8–1.25"), ("below 1", "below 1"))}
        rows.append(row)
    return pd.DataFrame(rows)


# Figure 11 (d)

def loss_reduction(gathered: Gathered) -> pd.DataFrame:
    """(l_SFT - l) / l_SFT of the action loss, for every rule beside SFT, a row per run and logging step.

    Runs are paired by setting and training seed: both saw the same chunks in the same order. Losses are averaged over
    ``WINDOW`` of the logging steps first. ``ptr, weighted`` is PTR's weighted mean (Eq 27) against SFT's plain one.
    """
    metrics = gathered.metrics()
    weighted = metrics[metrics.rule == "ptr"].assign(rule=WEIGHTED, loss_action=lambda table: table.loss_weighted)
    table = pd.concat([metrics, weighted]).sort_values("step", kind="stable")
    by = ["setting", "training_seed", "rule"]
    table["smooth"] = table.groupby(by).loss_action.transform(
        lambda losses: losses.rolling(max(1, round(WINDOW * len(losses))), 1).mean())
    plain = table[table.rule == "sft"].set_index(["setting", "training_seed", "step"]).smooth.rename("sft")
    paired = table[table.rule.isin(LINES)].join(plain, on=["setting", "training_seed", "step"], how="inner")
    paired = paired.assign(reduction=(paired.sft - paired.smooth) / paired.sft)
    return in_order(paired[[*by, "run", "step", "progress", "reduction"]], list(dict.fromkeys(metrics.setting)))


def reduction_chart(reduction: pd.DataFrame, warmup: dict[str, float]) -> tuple[Figure, pd.DataFrame]:
    """Figure 11 (d): the reduction (percent) over training, a panel per setting; bands span the training seeds.

    ``warmup`` is the share of training that each setting's warm-up takes, drawn as a grey band.
    """
    by = ["setting", "rule", "step", "progress"]
    drawn = (100 * reduction.set_index(by).reduction).groupby(by, sort=False).agg(["mean", "min", "max"]).reset_index()
    settings = list(dict.fromkeys(drawn.setting))
    rows = -(-len(settings) // 2)
    figure, panels = plt.subplots(rows, 2, figsize=(5.6, 1.9 * rows + 0.7), squeeze=False, sharex=True)
    for axes in panels.flat[len(settings):]:
        axes.set_visible(False)
    for axes, setting in zip(panels.flat, settings, strict=False):
        axes.axvspan(0, 100 * warmup[setting], color=COLOURS["grey"], alpha=0.25, linewidth=0)
        axes.axhline(0, color=COLOURS["grey"], linewidth=0.8)
        for rule, (label, colour, style) in LINES.items():
            line = drawn[(drawn.setting == setting) & (drawn.rule == rule)]
            axes.plot(100 * line.progress, line["mean"], style, color=COLOURS[colour], linewidth=1.2, label=label)
            axes.fill_between(100 * line.progress, line["min"], line["max"], color=COLOURS[colour], alpha=0.15,
                              linewidth=0)
        axes.set_title(folded(setting.replace(", ", "\n")), fontsize=9)
    for axes in panels.flat[max(0, len(settings) - 2):len(settings)]:
        axes.set_xlabel("training (% of its steps)")
        axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("reduction (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure, drawn


def warmups(gathered: Gathered) -> dict[str, float]:
    """The share of training that the warm-up takes, by setting."""
    return {gathered.labels[run.name]: run.setting.config.ptr.warmup_steps / run.setting.config.ptr.optimization.steps
            for run in gathered.stored}


def late_reduction(reduction: pd.DataFrame) -> dict[tuple[str, str], Interval]:
    """The reduction over the last ``WINDOW`` of training, by (setting, rule): a mean over training seeds."""
    by = ["setting", "rule", "training_seed"]
    late = reduction.sort_values("step", kind="stable").groupby(by, sort=False).reduction.last()
    return {(str(setting), str(rule)): mean_over_runs(part)
            for (setting, rule), part in late.groupby(level=[0, 1], sort=False)}


# Phase of the episode

def phase_chart(chunks: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Late weight, relative to the run's mean, against the phase of the episode: a panel for chunks that no corruption
    touched, a line per setting, and one for the share of chunks without a recorded consequence (all chunks)."""
    late = chunks[chunks.moment == "late"].copy()
    late["tenth"] = (PHASES * late.phase).astype(int).clip(0, PHASES - 1)
    rows = []
    for quantity, table in (("weight", late[late.valid & ~late.corrupted].assign(value=lambda part: part.relative)),
                            ("no consequence", late.assign(value=lambda part: ~part.valid))):
        for (setting, tenth), part in table.groupby(["setting", "tenth"], sort=True):
            rows.append({"quantity": quantity, "setting": setting, "phase": (tenth + 0.5) / PHASES,
                         **vars(mean_by_episode(part.value, part.episode, part.run))})
    drawn = pd.DataFrame(rows)
    settings = list(dict.fromkeys(chunks.setting))
    drawn = in_order(drawn, settings)
    figure, panels = plt.subplots(2, 1, figsize=(5.4, 4.8), sharex=True, height_ratios=[3, 2])
    titles = {"weight": "weight over the run's mean", "no consequence": "share without a consequence"}
    for axes, (quantity, title) in zip(panels, titles.items(), strict=True):
        for setting, (colour, style) in source_colours(settings).items():
            line = drawn[(drawn.quantity == quantity) & (drawn.setting == setting)]
            axes.plot(line.phase, line.estimate, color=colour, linestyle=style, linewidth=1.2, label=setting)  # type: ignore[arg-type]
            axes.fill_between(line.phase, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        axes.set_title(title)
    panels[0].axhline(1, color=COLOURS["grey"], linewidth=0.8)
    panels[1].set(xlabel="phase of the episode (0: its start, 1: its end)", xlim=(0, 1))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, list(map(folded, labels)), loc="outside upper center", ncols=2)
    return figure, drawn


# Verdicts

def answers(measured: pd.DataFrame, reduction: pd.DataFrame) -> pd.DataFrame:
    """The statements about Figure 11, a row per statement and setting: number, interval, answer."""
    return pd.DataFrame(list(_answers(measured, reduction)), columns=["statement", "setting", "number", "answer"])


def answer_table(told: pd.DataFrame) -> pd.DataFrame:
    """:func:`answers` with a row per statement and a column per setting, without those of :func:`generalist_table`."""
    told = told[~told.statement.str.startswith(GENERALIST)]
    cells = told.assign(told=told.answer + ": " + told.number)
    table = cells.pivot(index="statement", columns="setting", values="told").fillna("–")
    return table.loc[told.statement.unique(), told.setting.unique()].rename_axis(columns=None).reset_index()


def generalist_table(told: pd.DataFrame) -> pd.DataFrame:
    """The answers that set the generalist beside every other setting, a row each."""
    return told[told.statement.str.startswith(GENERALIST)].drop(columns="setting")


def _answers(measured: pd.DataFrame, reduction: pd.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    for setting, part in measured.groupby("setting", sort=False):
        seeds = part.set_index(["training_seed", "moment"]).unstack()
        if "early" in part.moment.values:
            near = mean_over_runs(seeds["around 1"].early, within=SHARE)
            yield ("early weights are near-uniform around 1 (most within 0.8–1.25)", str(setting),
                   f"{near.text(100)} %", _told(near, 0.5))
            wider = mean_over_runs(seeds.spread.late - seeds.spread.early)
            yield "weights spread as the scorer matures", str(setting), wider.text(digits=2, sign=True), _told(wider, 0)
        yield ("much of the late weight lies near the upper bound (at least a third)", str(setting),
               f"{(much := mean_over_runs(seeds['near w_max'].late, within=SHARE)).text(100)} %", _told(much, MUCH))
        top, bottom = seeds["near w_max"].late, seeds["near w_min"].late
        yield ("more late weights near the upper bound than near the lower one", str(setting),
               *_in_runs(top > bottom))
        yield "some late weights lie near the lower bound", str(setting), *_in_runs(bottom > 0)
    yield from _suppressed(measured)
    generalist = [name for name in dict.fromkeys(measured.setting) if "(generalist)" in name]
    late = measured[measured.moment == "late"].set_index(["setting", "training_seed"]).spread
    for name in generalist:
        for other in dict.fromkeys(measured.setting):
            shared = late[other].index.intersection(late[name].index)
            if other != name and len(shared):
                wider = mean_over_runs(late[name][shared] - late[other][shared])
                yield (f"{GENERALIST} {other}", name,
                       wider.text(digits=2, sign=True), _told(wider, 0))
    for (setting, rule), interval in late_reduction(reduction).items():
        if rule in ("ptr", WEIGHTED):
            means = "both plain means" if rule == "ptr" else "PTR’s weighted"
            yield (f"PTR’s action loss ends below SFT’s, {means}", setting, f"{interval.text(100, sign=True)} %",
                   _told(interval, 0))


def _told(interval: Interval, above: float) -> str:
    """Whether the interval lies above; a number without an interval is about its one run alone."""
    if math.isnan(interval.low):
        return ("yes" if interval.estimate > above else "no") + ONE_RUN
    return answer(interval.low - above, interval.high - above, "yes", "no")


def _in_runs(held: pd.Series) -> tuple[str, str]:
    """In how many runs something is so, and the answer: a share cannot fall below zero, so Student's interval around
    one near zero would say nothing."""
    count = int(held.sum())
    words = "yes" if count == len(held) else "no" if count == 0 else "in some runs"
    return f"in {count} of {len(held)} runs", words + (ONE_RUN if len(held) == 1 else "")


def _suppressed(measured: pd.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    """Whether more of RoboCasa's late weights are below 1 than of LIBERO's with the same data and training seeds."""
    late = measured[measured.moment == "late"].set_index(["setting", "training_seed"])["below 1"]
    settings = list(dict.fromkeys(measured.setting))
    for name in (name for name in settings if name.startswith("RoboCasa")):
        for other in settings:
            if other.startswith("LIBERO") and other.rpartition(", ")[2] == name.rpartition(", ")[2]:
                shared = late[other].index.intersection(late[name].index)
                if len(shared):
                    more = mean_over_runs(late[name][shared] - late[other][shared], within=(-1.0, 1.0))
                    yield ("more of RoboCasa’s late weights than of LIBERO’s are below 1", name,
                           f"{more.text(100, sign=True)} points", _told(more, 0))


def verdict(table: pd.DataFrame) -> str:
    """Markdown, a line per statement: in how many of the settings it holds, and how many of these answers are about
    one run alone."""
    lines = []
    for statement, part in table.groupby("statement", sort=False):
        alone = part.answer.str.endswith(ONE_RUN)
        words = part.answer.str.removesuffix(ONE_RUN)
        told = "; ".join(f"{word} in {count} of {len(part)}" + (f" ({single} of them one run alone)" if single else "")
                         for word, count in words.value_counts().items()
                         for single in [int((alone & (words == word)).sum())])
        lines.append(f"- {statement}: **{told}**.")
    return "\n".join(lines)
