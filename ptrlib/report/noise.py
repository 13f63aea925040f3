"""How strong must action noise be? Success under several strengths of it, each against SFT on clean data.

A method of such a manifest is a rule, or ``RULE@WORDS`` where the rule stands there more than once (``ptr@sigma=0.1``).
Its strength is read off its configuration; one method is SFT on clean data (``sft@clean``). Proportions are in [0, 1]
unless a docstring says points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptrlib import runs
from ptrlib.config import DataConfig
from ptrlib.report import charts, published, results
from ptrlib.report.charts import method_label
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import StoredRun
from ptrlib.report.statistics import Interval
from ptrlib.report.verdicts import answer, scope

CLEAN, BASELINE = "clean data", "sft"
CELL = ("strength", "method")
LEAST_POINTS = 5.0  # that the axis of differences reaches to, so that small ones look small
PANELS = {"success": "success (%)", "difference": "minus SFT on clean data (points)"}


@dataclass(frozen=True)
class NoiseStudy:
    """Finished runs under several strengths of noise: clean data first, then white noise by σ, then with a bias.

    ``episodes`` are theirs, with ``method``, the rule alone, and ``strength``; ``measured`` is :func:`measure` of them.
    """

    stored: list[StoredRun]
    episodes: pd.DataFrame
    measured: pd.DataFrame

    @property
    def noises(self) -> list[DataConfig]:
        """The noisy data, one of each strength."""
        return list({strength(data): data for data in (run.setting.config.data for run in self.stored)
                     if strength(data) != CLEAN}.values())

    @property
    def names(self) -> list[str]:
        return [run.name for run in self.stored]


def read(manifest: str | Path, root: Path = runs.RUNS) -> NoiseStudy:
    """The finished runs of ``manifest``.

    Raises:
        ValueError: a run is missing, is neither on clean data nor on action noise, or is the same rule under the same
            strength as another; or there is no SFT on clean data.
    """
    stored = sorted(results.runs_of(manifest, root), key=lambda run: _order(run.setting.config.data))
    names: dict[tuple[str, str, int], str] = {}
    for run in stored:
        method, config = run.setting.method, run.setting.config
        cell = method.partition("@")[0], strength(config.data), config.seed
        if cell in names:
            raise ValueError(f"{manifest}: methods '{names[cell]}' and '{method}' are both {cell[0]} with {cell[1]}; "
                             "keep one of them")
        names[cell] = method
    strengths = {run.name: strength(run.setting.config.data) for run in stored}
    episodes = results.episodes_frame(stored)
    episodes = episodes.assign(method=episodes.method.str.partition("@")[0], strength=episodes.run.map(strengths))
    if not ((episodes.strength == CLEAN) & (episodes.method == BASELINE)).any():
        raise ValueError(f"{manifest} has no SFT on clean data to compare with; add to its methods "
                         "sft@clean: {credit: sft, network.use_belief: false, data.corruption: none}")
    return NoiseStudy(stored, episodes, measure(episodes))


def strength(data: DataConfig) -> str:
    """``clean data``, ``σ = 0.5``, ``bias 0.5`` or ``σ = 0.1, bias 0.5``.

    Raises:
        ValueError: neither clean data nor action noise on recorded labels.
    """
    if data.corruption == "none":
        return CLEAN
    if data.corruption != "action_noise" or data.noise_fraction == 0:
        raise ValueError(f"data.corruption is '{data.corruption}' with data.noise_fraction {data.noise_fraction:g}; "
                         "strengths of noise are compared on 'none' and on 'action_noise' that is added to labels")
    white, constant = f"σ = {data.noise_sigma:g}", f"bias {data.noise_bias:g}"
    if data.noise_bias == 0:
        return white
    return constant if data.noise_sigma == 0 else f"{white}, {constant}"


def strength_words(data: DataConfig) -> str:
    """:func:`strength`, white noise beside the paper's: ``σ = 0.5 (5 times the paper’s)``."""
    if strength(data) == CLEAN or data.noise_bias > 0:
        return strength(data)
    factor = data.noise_sigma / published.statement("noise_sigma")
    return f"{strength(data)} ({'the paper’s' if np.isclose(factor, 1) else f'{factor:.3g} times the paper’s'})"


def _order(data: DataConfig) -> tuple[bool, float, float]:
    return data.corruption != "none", data.noise_bias, data.noise_sigma


def measure(episodes: pd.DataFrame) -> pd.DataFrame:
    """A row per strength, method and ``quantity``, with its estimate, low, high and count, and the runs behind it.

    ``success`` is the rate with Wilson's interval; ``difference`` is that rate minus SFT's on clean data and ``to_sft``
    minus SFT's under the same strength, both paired by scene and training seed.
    """
    rows = []
    for noise in dict.fromkeys(episodes.strength):
        present = episodes[episodes.strength == noise]
        for method in charts.in_order(present.method):
            trained = present[present.method == method].run.nunique()
            rows += [{"strength": noise, "method": method, "quantity": quantity, **vars(interval), "runs": trained}
                     for quantity, interval in _measured(episodes, noise, method)]
    return pd.DataFrame(rows)


def _measured(episodes: pd.DataFrame, noise: str, method: str) -> Iterator[tuple[str, Interval]]:
    cells = set(episodes[list(CELL)].itertuples(index=False, name=None))
    mine = episodes[(episodes.strength == noise) & (episodes.method == method)]
    (rate,) = results.success_rates(mine, CELL).itertuples()
    yield "success", Interval(rate.success, rate.low, rate.high, rate.episodes)
    for quantity, other in (("difference", (CLEAN, BASELINE)), ("to_sft", (noise, BASELINE))):
        if other in cells and other != (noise, method):
            yield quantity, results.contrast(episodes, {(noise, method): 1.0, other: -1.0}, by=CELL)


def chart(measured: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A row per strength and a colour per method: success (%), and its difference to SFT on clean data (points),
    which the grey line marks."""
    drawn = measured[measured.quantity.isin(PANELS)].reset_index(drop=True)
    drawn = drawn.assign(**{name: 100 * drawn[name] for name in ("estimate", "low", "high")})
    strengths = list(dict.fromkeys(drawn.strength))
    figure, panels = plt.subplots(1, len(PANELS), figsize=(5.8, 0.5 * len(strengths) + 1.0), sharey=True)
    clean = drawn[(drawn.quantity == "success") & (drawn.strength == CLEAN) & (drawn.method == BASELINE)]
    references = {"success": clean.estimate.item(), "difference": 0.0}
    for axes, (quantity, label) in zip(panels, PANELS.items(), strict=True):
        axes.axvline(references[quantity], color=COLOURS["grey"], linewidth=0.8)
        _rows(axes, drawn[drawn.quantity == quantity], strengths)
        axes.set_xlabel(label)
    panels[0].set(yticks=range(len(strengths)), yticklabels=strengths, ylim=(len(strengths) - 0.5, -0.5),
                  xlim=(-2, 102))
    low, high = panels[1].get_xlim()
    panels[1].set_xlim(min(low, -LEAST_POINTS), max(high, LEAST_POINTS))
    panels[1].locator_params(axis="x", nbins=5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure, drawn


def _rows(axes: Axes, cells: pd.DataFrame, strengths: list[str]) -> None:
    """The methods of a row stand in the book's order, centred on it."""
    place = cells.groupby("strength").cumcount() - (cells.groupby("strength").method.transform("count") - 1) / 2
    for method in charts.in_order(cells.method):
        mine = cells[cells.method == method]
        height = mine.strength.map(strengths.index) + 0.2 * place[mine.index]
        errors = np.stack([mine.estimate - mine.low, mine.high - mine.estimate]).clip(0)
        axes.errorbar(mine.estimate, height, xerr=errors, fmt="o", color=charts.method_colour(method), markersize=4.5,
                      capsize=2, linewidth=1.2, label=method_label(method))
    axes.grid(axis="y", visible=False)


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`measure` as text, a row per strength and method."""
    rows = []
    for (noise, method), part in measured.groupby(list(CELL), sort=False):
        cells = {row["quantity"]: Interval(row["estimate"], row["low"], row["high"], row["count"])
                 for row in part.to_dict("records")}
        rows.append({"training data": noise, "method": method_label(str(method)), "runs": part.runs.iloc[0],
                     "episodes": cells["success"].count, "success (%)": cells["success"].text(100),
                     "− SFT, clean data (points)": _points(cells.get("difference")),
                     "− SFT, same data (points)": _points(cells.get("to_sft"))})
    return pd.DataFrame(rows)


def _points(interval: Interval | None) -> str:
    return interval.text(100, sign=True) if interval else ""


def introduction(study: NoiseStudy) -> str:
    """Markdown: the world, the runs, and how strong each noise is beside the paper's."""
    config, seeds = study.stored[0].setting.config, study.episodes.training_seed.nunique()
    share = " to ".join(f"{fraction:.0%}" for fraction in sorted({data.noise_fraction for data in study.noises}))
    words = ", ".join(map(strength_words, study.noises))
    return (f"**{charts.world_label(config.evaluation.world, config.evaluation.suite)}: {len(study.stored)} runs**, "
            f"{seeds} training seed{'s' if seeds > 1 else ''}, {config.ptr.optimization.steps} steps each; noise, in "
            f"units of a full action, on {share} of the episodes: {words}."
            + (" **With one training seed, intervals cover the choice of scenes only.**" if seeds == 1 else ""))


def verdict(study: NoiseStudy) -> str:
    """Markdown: a line per strength that says what it costs SFT, if anything can be told."""
    told = study.measured[(study.measured.quantity == "difference") & (study.measured.method == BASELINE)]
    where, lines = scope(study.episodes), []
    for data in study.noises:
        for row in told[told.strength == strength(data)].itertuples():
            gained = Interval(row.estimate, row.low, row.high, row.count)
            lost = Interval(0.0 - gained.estimate, 0.0 - gained.high, 0.0 - gained.low, gained.count)
            effect = answer(gained.low, gained.high, f"helps SFT by {gained.text(100)} points{where}",
                            f"costs SFT {lost.text(100)} points{where}",
                            f"has no effect on SFT that can be told ({gained.text(100, sign=True)} points)")
            lines.append(f"- **{strength_words(data)}** {effect}.")
    return "\n".join(lines) if lines else "SFT was trained under none of these strengths, so their cost is unknown."
