"""The book's charts of stored runs: data frames in, matplotlib figures out.

Every function returns the figure and the frame with exactly the numbers it drew, for
:func:`ptrlib.report.figures.save_figure`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptrlib.report.figures import COLOURS

# Names and colours of the methods, the same in every chart and table.
METHODS = {"sft": ("SFT", "grey"), "sft_belief": ("SFT+Belief", "sky"), "ptr": ("PTR", "blue"),
           "no_belief": ("w/o belief tokens", "black"), "no_gather": ("w/o cross-rank gather", "sky"),
           "no_ema": ("w/o EMA, frozen encoder", "orange"), "no_refiner": ("w/o refiner", "yellow"),
           "no_clipping": ("w/o clipping", "vermillion"), "ptr_alpha0": ("PTR, α = 0", "yellow"),
           "no_average": ("w/o EMA, drifting encoder", "purple"), "ptr_detached": ("PTR, detached scorer", "brown"),
           "ptr_tenth": ("PTR, losses at a tenth", "sky"), "ptr_neutral": ("PTR, neutral fallback", "green"),
           "ptr_twice": ("PTR, twice the steps", "vermillion"),
           "ptr_state": ("PTR, hard by state", "green"), "ptr_uniform": ("PTR, none hard", "vermillion"),
           "ptr_state_detached": ("hard by state, detached scorer", "green"),
           "ptr_uniform_detached": ("none hard, detached scorer", "vermillion"),
           "random_state_detached": ("hard by state, detached, shuffled", "grey"),
           "random_uniform_detached": ("none hard, detached, shuffled", "purple"),
           "sft_belief_twice": ("SFT+Belief, twice the steps", "grey"), "random": ("PTR, shuffled weights", "purple"),
           "sft_masked": ("SFT without padding", "black"), "crossfit": ("cross-fitted contrasts", "green"),
           "crossfit_random": ("contrasts, shuffled", "black"),
           "crossfit_every": ("contrasts of every chunk", "wine"),
           "crossfit_every_random": ("every chunk, shuffled", "grey"),
           "crossfit_every_wide": ("every chunk, w in [1/20, 20]", "orange"),
           "crossfit_every_wide_random": ("w in [1/20, 20], shuffled", "black"),
           "crossfit_every_wide_alike": ("w in [1/20, 20], shuffled among alike", "purple"),
           "crossfit_likelihood": ("start policy's loss as score", "sky"),
           "crossfit_consequence": ("… PTR's question", "blue"), "crossfit_action": ("… action only", "orange"),
           "crossfit_instruction": ("… instruction only", "yellow"), "crossfit_ending": ("… ending only", "vermillion"),
           "crossfit_insample": ("… in sample", "black"),
           "crossfit_chunk": ("… chunk by chunk", "grey"), "crossfit_narrow": ("… w in [1/2, 2]", "orange"),
           "crossfit_wide": ("… w in [1/20, 20]", "purple"),
           "ptr_full_targets": ("PTR, targets at full size", "orange"),
           "ptr_half_targets": ("PTR, targets at half the size", "sky"),
           "ptr_quarter_targets": ("PTR, targets at a quarter", "green"), "oracle": ("oracle filter", "vermillion"),
           "bounded_oracle": ("the truth, w in [1/4, 4]", "purple"),
           "bounded_oracle_wide": ("the truth, w in [1/20, 20]", "sky")}
CORRUPTIONS = {"none": "clean data", "action_noise": "action noise", "truncation": "truncation",
               "label_noise": "label noise", "combined": "combined corruption", "executed_noise": "executed noise"}
WORLDS = {"tabletop": "Tabletop", "libero": "LIBERO", "robocasa": "RoboCasa"}
SUITES = {"robocasa_six": "six tasks", "robocasa_passing": "21 tasks"}  # whose own names say too little
MARKERS = "os^Dv"
LEGEND_CHARACTERS = 78  # what a line of a figure's legend holds
HALF_CHARACTERS = 40  # and of one in two columns


def method_label(method: str) -> str:
    """The name of a manifest's method as the book writes it; an unknown one stays as it is."""
    return METHODS.get(method, (method, ""))[0]


def corruption_label(corruption: str) -> str:
    return CORRUPTIONS.get(corruption, corruption)


def world_label(world: str, suite: str, assets: str = "") -> str:
    """``Tabletop (easy)``, ``RoboCasa in the minimal kitchen (six tasks)``: the simulator and the suite that a number
    comes from, and which ``assets`` RoboCasa had ("minimal", "full"). Joined worlds are named one by one."""
    labels = []
    for name, part in zip(world.split("+"), suite.split("+"), strict=True):
        place = " in the minimal kitchen" if name == "robocasa" and assets == "minimal" else ""
        tasks = SUITES.get(part, part.removeprefix(f"{name}_").replace("_", "-"))
        labels.append(f"{WORLDS.get(name, name)}{place} ({tasks})")
    return " and ".join(labels)


def folded(label: str) -> str:
    """A label on more lines where it is too long for half a figure, such as one that names RoboCasa's kitchen."""
    lines = label.replace("minimal kitchen", "minimal\nkitchen").split("\n")
    return "\n".join(textwrap.fill(line, HALF_CHARACTERS) for line in lines)


def _title(kind: str) -> str:
    """A panel's title, on two lines where it also names whose demonstrations were learned from."""
    return kind.replace(", the ", ",\nthe ")


def method_colour(method: str) -> str:
    return COLOURS[METHODS.get(method, ("", "black"))[1]]


def method_marker(method: str) -> str:
    """One that no other method of its colour has; unknown methods share the first."""
    known = list(METHODS)
    before = known[:known.index(method)] if method in known else []
    return MARKERS[[method_colour(other) for other in before].count(method_colour(method)) % len(MARKERS)]


def in_order(methods: Iterable[str]) -> list[str]:
    """Distinct methods in the book's order, unknown ones last."""
    known = list(METHODS)
    distinct = methods.unique() if isinstance(methods, pd.Series) else dict.fromkeys(methods)  # sooner
    return sorted(distinct, key=lambda name: known.index(name) if name in known else len(known))


def success_chart(rates: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Success (%) with its Wilson interval, a row per method and a marker per corruption.

    ``rates`` is :func:`ptrlib.report.results.success_rates`.
    """
    drawn = rates.assign(**{name: 100 * rates[name] for name in ("success", "low", "high")})
    figure, axes = plt.subplots(figsize=(5.2, _height(rates)))
    _dots(axes, drawn, "success", "corruption", CORRUPTIONS)
    axes.set(xlabel="success (%), 95 % interval", xlim=(-2, 102))
    return figure, drawn


def difference_chart(differences: pd.DataFrame, unit: str,
                     labels: Mapping[str, str] = CORRUPTIONS) -> tuple[Figure, pd.DataFrame]:
    """Differences of success (points): columns method, corruption, estimate, low, high (as proportions).

    ``labels`` names the values of ``corruption``, in the order of the markers.
    """
    drawn = differences.assign(**{name: 100 * differences[name] for name in ("estimate", "low", "high")})
    figure, axes = plt.subplots(figsize=(5.2, _height(differences)))
    _dots(axes, drawn, "estimate", "corruption", labels)
    axes.axvline(0, color=COLOURS["grey"], linewidth=0.8)
    axes.set(xlabel=unit)
    return figure, drawn


def grouped_chart(groups: pd.DataFrame, label: str, reference: float | None = None
                  ) -> tuple[Figure, pd.DataFrame]:
    """An estimate with interval per group and method: columns kind, group, method, estimate, low, high.

    One panel per ``kind`` (corruption, operator, phase ...), groups below each other; a method has the same colour and
    marker in every chart, and no two share both.
    """
    kinds = list(dict.fromkeys(groups.kind))
    rows = [groups[groups.kind == kind].group.nunique() for kind in kinds]
    tall = max(0.36, 0.13 * groups.method.nunique() + 0.06)
    figure, panels = plt.subplots(len(kinds), 1, figsize=(5.2, tall * sum(rows) + 0.45 * len(kinds) + 0.8),
                                  squeeze=False, sharex=True, height_ratios=rows)
    for axes, kind in zip(panels[:, 0], kinds, strict=True):
        part = groups[groups.kind == kind]
        names = list(dict.fromkeys(part.group))
        methods = in_order(part.method)
        for index, method in enumerate(methods):
            cells = part[part.method == method]
            height = np.array([names.index(name) for name in cells.group]) + _offset(index, len(methods))
            _bars(axes, cells, "estimate", height, method_colour(method), method_label(method), method_marker(method))
        if reference is not None:
            axes.axvline(reference, color=COLOURS["grey"], linewidth=0.8)
        axes.set(yticks=range(len(names)), yticklabels=names, title=_title(kind), ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
    panels[-1, 0].set_xlabel(label)
    _legend_above(figure, panels[0, 0])
    return figure, groups


def training_chart(metrics: pd.DataFrame, columns: Mapping[str, str], window: int = 1) -> tuple[Figure, pd.DataFrame]:
    """Logged quantities over training, a panel each: ``columns`` maps column to title.

    Each run is averaged over ``window`` logging steps; lines are means over training seeds, bands span them. The first
    lines are the thickest, so that those that coincide are seen inside one another.
    """
    names = list(columns)
    smooth = metrics.sort_values("step", kind="stable").copy()
    smooth[names] = smooth.groupby("run")[names].transform(lambda values: values.rolling(window, 1).mean())
    drawn = smooth.groupby(["method", "step"], sort=False)[names].agg(["mean", "min", "max"])
    drawn.columns = drawn.columns.map(" ".join)
    drawn = drawn.reset_index()
    rows = -(-len(columns) // 2)  # two in a row can still be read on a phone
    figure, panels = plt.subplots(rows, 2, figsize=(5.4, 1.6 * rows + 0.4), squeeze=False, sharex=True)
    methods = in_order(drawn.method)
    widths = np.linspace(0.8 + 0.5 * len(methods), 1.0, len(methods))
    for axes, (column, title) in zip(panels.flat, columns.items(), strict=False):
        for method, width in zip(methods, widths, strict=True):
            line = drawn[drawn.method == method]
            colour = method_colour(method)
            axes.plot(line.step, line[f"{column} mean"], color=colour, linewidth=width, label=method_label(method))
            axes.fill_between(line.step, line[f"{column} min"], line[f"{column} max"], color=colour,
                              alpha=0.2, linewidth=0)
        axes.set_title(title)
    for axes in panels.flat[len(columns):]:
        axes.set_visible(False)
    for axes in panels.flat[max(0, len(columns) - 2):len(columns)]:  # the lowest of each column
        axes.set_xlabel("steps")
        axes.tick_params(labelbottom=True)
    _legend_above(figure, panels[0, 0])
    return figure, drawn


def _height(table: pd.DataFrame) -> float:
    """Inches for a row per method that holds a mark per corruption."""
    marks = table.groupby("method").corruption.nunique().max()
    return max(0.36, 0.13 * marks + 0.06) * table.method.nunique() + 0.9


def _dots(axes: Axes, table: pd.DataFrame, value: str, by: str, labels: Mapping[str, str]) -> None:
    """A row per method, a dot with interval per value of ``by``."""
    methods = in_order(table.method)
    groups = [group for group in labels if group in set(table[by])]
    for index, group in enumerate(groups):
        cells = table[table[by] == group]
        height = np.array([methods.index(method) for method in cells.method]) + _offset(index, len(groups))
        colour = COLOURS[("sky", "vermillion", "green", "orange", "blue")[index % 5]]
        _bars(axes, cells, value, height, colour, labels[group], MARKERS[index % len(MARKERS)])
    axes.set(yticks=range(len(methods)), yticklabels=[method_label(method) for method in methods],
             ylim=(len(methods) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    longest = max(len(labels[group]) for group in groups)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=max(1, min(len(groups), 60 // (longest + 2))))


def _bars(axes: Axes, cells: pd.DataFrame, value: str, height: np.ndarray, colour: str, label: str,
          marker: str) -> None:
    errors = np.stack([cells[value] - cells.low, cells.high - cells[value]]).clip(0)
    axes.errorbar(cells[value], height, xerr=errors, fmt=marker, color=colour, markersize=4.5, capsize=2,
                  linewidth=1.2, label=label)


def _offset(index: int, count: int) -> float:
    """Vertical distance from the row of mark ``index`` of ``count`` in it."""
    return 0.0 if count == 1 else (index / (count - 1) - 0.5) * min(0.68, 0.18 * count)


def _legend_above(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, in the book's order; a single entry goes into the title of the first, ``axes``."""
    found = {label: handle for panel in figure.axes
             for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    known = [label for label, _ in METHODS.values()]  # the first panel need not have all of them
    found = dict(sorted(found.items(), key=lambda entry: known.index(entry[0]) if entry[0] in known else len(known)))
    if len(found) > 1:
        columns = min(len(found), 3, LEGEND_CHARACTERS // (max(map(len, found)) + 2))
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=columns)
    else:
        axes.set_title(f"{axes.get_title()} ({next(iter(found))})" if found else axes.get_title())
