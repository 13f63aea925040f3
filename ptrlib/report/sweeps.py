"""Figure 10 on Tabletop: one hyperparameter moved while the others keep their defaults, three diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ptrlib.config import RunConfig
from ptrlib.report.claim import AT_CLIP
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import (
    StoredRun,
    contrast,
    last_weights_frame,
    manifest_path,
    metrics_frame,
)
from ptrlib.report.statistics import POSITIVE, SHARE, Interval, mean_over_runs, wilson_interval
from ptrlib.report.verdicts import Verdict, answer, in_points, scope
from ptrlib.runs import read_manifest

# A key of the configuration and its symbol, in the order of Figure 10.
PARAMETERS = {"ptr.tau": "$\\tau_0$", "ptr.beta": "$\\beta_0$", "ptr.w_max": "$w_{max}$"}
WORDS = {"ptr.tau": "τ₀", "ptr.beta": "β₀", "ptr.w_max": "w_max"}
DIAGNOSTICS = {"success": "success (%)", "score": "final score $T$ (nats)",
               "stability": "stability $1/\\mathrm{Std}(w)$"}
_MARKS = {"success": ("blue", "o"), "score": ("orange", "s"), "stability": ("green", "^")}

# What Section 5.6 says of each sweep: parameter, diagnostic, which end of the sweep is compared with the default,
# and whether it is said to be lower or higher there.
STATED = (("ptr.tau", "stability", "lowest", "lower", "“smaller values [...] reduce stability”"),
          ("ptr.tau", "score", "highest", "lower", "“larger values [...] weaken the score signal”"),
          ("ptr.beta", "stability", "lowest", "lower",
           "“very small values amplify score differences into unstable weights”"),
          ("ptr.beta", "stability", "highest", "higher", "“very large values compress weights toward uniformity”"),
          ("ptr.w_max", "stability", "highest", "lower", "“larger values allow less controlled gradients”"))


def default(parameter: str) -> float:
    """The default of a dotted key."""
    return float(attrgetter(parameter)(RunConfig()))


def swept(manifest: str) -> str:
    """The one parameter of PARAMETERS that a manifest's grid sweeps."""
    path = manifest_path(manifest)
    found = [key for key in read_manifest(path).get("grid", {}) if key in PARAMETERS]
    if len(found) != 1:
        raise ValueError(f"{path} sweeps {', '.join(found) or 'none'} of {', '.join(PARAMETERS)}; a manifest of this "
                         "page has exactly one of them in its grid")
    return found[0]


def with_default(parameter: str, values: float | Sequence[float] | None) -> list[float] | None:
    """The values to sweep, or the one, with the default among them; None stays None (the manifest's)."""
    chosen = [values] if isinstance(values, int | float) else values
    return None if chosen is None else sorted({*map(float, chosen), default(parameter)})


def run_diagnostics(stored: Sequence[StoredRun], parameter: str) -> pd.DataFrame:
    """A row per run of one sweep: ``value``, ``training_seed``, ``score``, ``stability``, mean ``weight``, the share
    ``at_clip`` (w_max), and where the controller ended (``tau_end``, ``beta_end``).

    Score and spread are of the training chunks with a target in the last snapshot; where all weights are equal the
    stability is missing.
    """
    weights = last_weights_frame(stored)
    chunks = weights[(weights.split == "train") & weights.valid].groupby("run")
    spread = chunks.weight.std(ddof=0)
    ends = metrics_frame(stored).sort_values("step").groupby("run")[["tau", "beta"]].last()
    return pd.DataFrame([{
        "parameter": parameter, "value": attrgetter(parameter)(run.setting.config), "run": run.name,
        "training_seed": run.setting.config.seed, "score": chunks.score.mean()[run.name],
        "stability": 1 / spread[run.name] if spread[run.name] > 0 else np.nan, "weight": chunks.weight.mean()[run.name],
        "at_clip": (chunks.get_group(run.name).weight >= AT_CLIP * run.setting.config.ptr.w_max).mean(),
        "tau_end": ends.tau[run.name], "beta_end": ends.beta[run.name]} for run in stored])


def diagnostics(runs: pd.DataFrame, episodes: pd.DataFrame) -> pd.DataFrame:
    """A row per parameter, value and diagnostic: estimate, low, high, count, and ``normalised``: the estimate over
    the largest magnitude of its sweep.

    Success is a rate of all episodes with Wilson's interval; the others are means over training seeds with
    Student's.

    Args:
        runs: :func:`run_diagnostics`, of one or several sweeps.
        episodes: their evaluation episodes with the columns ``parameter`` and ``value``.
    """
    rows = []
    for parameter, value, part in _cells(runs):
        cell = episodes[(episodes.parameter == parameter) & (episodes.value == value)]
        measured = {"success": wilson_interval(int(cell.success.sum()), len(cell)),
                    "score": mean_over_runs(part.score), "stability": mean_over_runs(part.stability, within=POSITIVE)}
        rows += [{"parameter": parameter, "value": value, "diagnostic": name, **vars(interval)}
                 for name, interval in measured.items()]
    table = pd.DataFrame(rows)
    largest = table.groupby(["parameter", "diagnostic"]).estimate.transform(lambda values: values.abs().max())
    return table.assign(normalised=table.estimate / largest.where(largest > 0))


def normalised_chart(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 10 as the paper draws it: a panel per parameter, a line per diagnostic over its largest value."""
    parameters = _present(table)
    figure, panels = plt.subplots(1, len(parameters), figsize=(5.4, 2.3), squeeze=False, sharey=True)
    for axes, parameter in zip(panels[0], parameters, strict=True):
        for name, label in DIAGNOSTICS.items():
            line = table[(table.parameter == parameter) & (table.diagnostic == name)]
            colour, mark = _MARKS[name]
            axes.plot(line.value, line.normalised, marker=mark, color=COLOURS[colour], markersize=4.5, label=label)
        _axis(axes, parameter, table)
    panels[0, 0].set_ylabel("share of the sweep's largest")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure, table[["parameter", "value", "diagnostic", "normalised"]]


def raw_chart(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The same in their own units with 95 % intervals: a row per diagnostic, a column per parameter."""
    parameters = _present(table)
    drawn = table.drop(columns="normalised")
    percent = drawn.diagnostic == "success"
    drawn.loc[percent, ["estimate", "low", "high"]] *= 100
    figure, panels = plt.subplots(len(DIAGNOSTICS), len(parameters), figsize=(5.4, 5.0), squeeze=False, sharey="row",
                                  sharex="col")
    for row, (name, label) in zip(panels, DIAGNOSTICS.items(), strict=True):
        colour, mark = _MARKS[name]
        for axes, parameter in zip(row, parameters, strict=True):
            line = drawn[(drawn.parameter == parameter) & (drawn.diagnostic == name)]
            errors = np.stack([line.estimate - line.low, line.high - line.estimate]).clip(0)
            axes.errorbar(line.value, line.estimate, yerr=np.nan_to_num(errors), marker=mark, color=COLOURS[colour],
                          markersize=4.5, capsize=2, linewidth=1.2)
            _axis(axes, parameter, table)
            axes.label_outer()
        row[0].set_ylabel(label)
    panels[-1, 0].set_yscale("log")  # of the stability: without a spread it has no end
    panels[-1, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    panels[-1, 0].yaxis.set_major_formatter("{x:g}")
    panels[-1, 0].yaxis.set_minor_formatter(NullFormatter())
    return figure, drawn


def _cells(runs: pd.DataFrame) -> Iterator[tuple[str, float, pd.DataFrame]]:
    """Parameter, value and the runs of it, in Figure 10's order."""
    for parameter in _present(runs):
        for value, part in runs[runs.parameter == parameter].groupby("value"):
            yield parameter, value, part


def _present(table: pd.DataFrame) -> list[str]:
    return [parameter for parameter in PARAMETERS if parameter in set(table.parameter)]


def _axis(axes: Axes, parameter: str, table: pd.DataFrame) -> None:
    """An axis with a tick at every value, logarithmic for the clip, and a dashed line at the default."""
    values = sorted(set(table[table.parameter == parameter].value))
    axes.set_xscale("log" if parameter == "ptr.w_max" else "linear")
    axes.set_xticks(values, [f"{value:g}" for value in values], rotation=45)
    axes.minorticks_off()
    axes.axvline(default(parameter), color=COLOURS["grey"], linestyle="--", linewidth=0.8)
    axes.set_xlabel(PARAMETERS[parameter])


def diagnostics_table(drawn: pd.DataFrame) -> pd.DataFrame:
    """The numbers of :func:`raw_chart` with their intervals, a row per parameter and value."""
    rows = []
    for parameter, value, part in _cells(drawn):
        cells = {row.diagnostic: Interval(row.estimate, row.low, row.high, int(row.count)) for row in part.itertuples()}
        rows.append({"swept": WORDS[parameter], "value": f"{value:g}", "success (%)": cells["success"].text(),
                     "episodes": cells["success"].count, "final score T (nats)": cells["score"].text(digits=2),
                     "1 / Std(w)": cells["stability"].text(digits=2), "runs": cells["score"].count})
    return pd.DataFrame(rows)


def moved_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What the weights were, and where the controller took tau and beta, by the end of training: a row per parameter
    and value."""
    rows = [{"swept": WORDS[parameter], "starts at": f"{value:g}",
             "mean weight": mean_over_runs(part.weight, within=POSITIVE).text(digits=2),
             "at w_max (%)": mean_over_runs(part.at_clip, within=SHARE).text(100),
             **{f"{symbol} at the end": mean_over_runs(part[column]).text(digits=3)
                for symbol, column in (("τ", "tau_end"), ("β", "beta_end"))}, "runs": len(part)}
            for parameter, value, part in _cells(runs)]
    return pd.DataFrame(rows)


def value_contrast(episodes: pd.DataFrame, parameter: str, value: float) -> Interval:
    """Paired difference of success: ``value`` of a sweep minus its default, on the same scenes and seeds."""
    cells = episodes[episodes.parameter == parameter]
    (corruption,) = cells.corruption.unique()
    named = cells.assign(method=cells.value.map("{:g}".format))
    return contrast(named, {(f"{value:g}", corruption): 1.0, (f"{default(parameter):g}", corruption): -1.0})


def verdicts(runs: pd.DataFrame, episodes: pd.DataFrame) -> pd.DataFrame:
    """Is the default the best value, and does Section 5.6's account of each sweep hold?"""
    return pd.DataFrame([asdict(verdict) for verdict in (*_best(runs, episodes), *_account(runs))])


def _best(runs: pd.DataFrame, episodes: pd.DataFrame) -> Iterator[Verdict]:
    where = scope(episodes)
    for parameter in _present(runs):
        for value in sorted(set(runs[runs.parameter == parameter].value) - {default(parameter)}):
            other = value_contrast(episodes, parameter, value)
            ahead = Interval(-other.estimate, -other.high, -other.low, other.count)
            yield Verdict(f"{WORDS[parameter]}: does the default ({default(parameter):g}) succeed more often than "
                          f"{value:g}?", in_points(ahead),
                          answer(ahead.low, ahead.high, f"yes{where}", f"no, {value:g} does{where}"),
                          ahead.estimate, ahead.low, ahead.high)


def _account(runs: pd.DataFrame) -> Iterator[Verdict]:
    for parameter, name, end, direction, claim in STATED:
        sweep = runs[runs.parameter == parameter].pivot(index="training_seed", columns="value", values=name)
        value = sweep.columns.min() if end == "lowest" else sweep.columns.max()
        if sweep.empty or value == default(parameter) or sweep[[value, default(parameter)]].isna().any(axis=None):
            continue
        change = mean_over_runs(sweep[value] - sweep[default(parameter)])
        low, high = (change.low, change.high) if direction == "higher" else (-change.high, -change.low)
        what = "the score T" if name == "score" else "1 / Std(w)"
        yield Verdict(f"{WORDS[parameter]}: {claim} ({what} at {value:g}, minus the default's)",
                      f"{change.text(digits=2, sign=True)}, {change.count} runs each",
                      answer(low, high, "holds", "does not hold, the opposite does"),
                      change.estimate, change.low, change.high)


def headline(runs: pd.DataFrame, episodes: pd.DataFrame) -> str:
    """A line of Markdown per sweep: is the default the best value?"""
    lines = []
    for parameter in _present(runs):
        others = sorted(set(runs[runs.parameter == parameter].value) - {default(parameter)})
        gains = {f"{value:g}": value_contrast(episodes, parameter, value) for value in others}
        better = [value for value, gain in gains.items() if gain.low > 0]
        worse = [value for value, gain in gains.items() if gain.high < 0]
        told = ("**the default is not the best value**: " + ", ".join(better) + " succeeds more often" if better else
                "**the default is the best value**" if gains and len(worse) == len(gains) else
                "**whether the default is best cannot be told**")
        unsettled = [value for value in gains if value not in (*better, *worse)]
        lines.append(f"- {WORDS[parameter]}: {told}"
                     + (f"; it beats {', '.join(worse)}" if worse else "")
                     + (f"; {', '.join(unsettled)} cannot be told from it" if unsettled else "") + ".")
    return (f"“The default configuration [...] achieves the best overall balance.” By success{scope(episodes)}:\n\n"
            + "\n".join(lines))


def labelled(episodes: pd.DataFrame, stored: Mapping[str, Sequence[StoredRun]]) -> pd.DataFrame:
    """Episodes once per sweep they belong to, with its ``parameter`` and ``value``: the default's run stands in
    every sweep."""
    tables = []
    for parameter, sweep in stored.items():
        values = {run.name: attrgetter(parameter)(run.setting.config) for run in sweep}
        part = episodes[episodes.run.isin(values)]
        tables.append(part.assign(parameter=parameter, value=part.run.map(values)))
    return pd.concat(tables, ignore_index=True)
