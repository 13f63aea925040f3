"""How often the scene alone identifies the consequence: what :mod:`ptrlib.scene_identity` measured, as a figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib import scene_identity
from ptrlib.report import REPOSITORY
from ptrlib.report.figures import COLOURS
from ptrlib.report.statistics import Interval, mean_by_episode
from ptrlib.report.verdicts import answer

FOLDER = REPOSITORY / scene_identity.FOLDER
LOOKS = {"scene": ("$g(o_t)$ alone, nothing learned", "orange", "o"),
         "context": ("PTR's scorer, action hidden", "sky", "s"),
         "action": ("PTR's scorer with the action", "blue", "^")}
PANELS = {"correct": "the consequence identified (%)", "episode": "its episode identified (%)"}


def judged(manifest: str, folder: Path = FOLDER) -> pd.DataFrame:
    """A row per judged chunk, as :func:`ptrlib.scene_identity.measure` gives them.

    Raises:
        ValueError: nothing was measured; the sentence says how to.
    """
    path = folder / f"{manifest}.parquet"
    if not path.is_file():
        raise ValueError(f"{path} is missing; make it with: python -m ptrlib.scene_identity {manifest}")
    return pd.read_parquet(path)


def rates(chunks: pd.DataFrame) -> pd.DataFrame:
    """A row per ``offset``, ``quantity`` (a key of PANELS) and ``query`` (a key of LOOKS, or ``chance``): estimate,
    low, high, count. Chance is a draw from the candidates, of which 1 or 1 + ``others`` would be right."""
    rows = []
    for offset, part in chunks.groupby("offset"):
        for quantity, right in (("correct", 1.0), ("episode", 1.0 + part.others)):
            shown = {query: part[f"{query}_{quantity}"] for query in LOOKS} | {"chance": right / part.candidates}
            rows += [{"offset": offset, "quantity": quantity, "query": query,
                      **vars(_mean(values, part.episode))} for query, values in shown.items()]
    return pd.DataFrame(rows)


def _mean(values: pd.Series, episode: pd.Series) -> Interval:
    return mean_by_episode(values.astype(float), episode, np.zeros(len(values)))


def chart(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """:func:`rates` in percent: a panel per quantity, a row per Delta, a mark per query; the grey line is chance."""
    drawn = table.assign(**{name: 100 * table[name] for name in ("estimate", "low", "high")})
    offsets = sorted(set(drawn.offset))
    figure, panels = plt.subplots(1, 2, figsize=(5.8, 0.55 * len(offsets) + 1.3), sharey=True)
    for axes, (quantity, title) in zip(panels, PANELS.items(), strict=True):
        part = drawn[drawn.quantity == quantity]
        for place, (query, (label, colour, mark)) in enumerate(LOOKS.items()):
            cells = part[part["query"] == query].sort_values("offset")
            height = np.arange(len(cells)) + (place - 1) * 0.22
            axes.errorbar(cells.estimate, height, xerr=[cells.estimate - cells.low, cells.high - cells.estimate],
                          fmt=mark, color=COLOURS[colour], markersize=4.5, capsize=2, linewidth=1.2, label=label)
        chance = part[part["query"] == "chance"].sort_values("offset")
        axes.vlines(chance.estimate, np.arange(len(chance)) - 0.4, np.arange(len(chance)) + 0.4, color=COLOURS["grey"],
                    linewidth=1.5, label="guessing")
        axes.set(xlabel=title, xlim=(0, None))
        axes.grid(axis="y", visible=False)
    panels[0].set(yticks=range(len(offsets)), yticklabels=[f"Δ = {offset}" for offset in offsets],
                  ylim=(len(offsets) - 0.5, -0.5))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, drawn


def verdict(chunks: pd.DataFrame, offset: int) -> str:
    """Markdown: what the scene alone identifies at one Delta, and whether knowing the action adds to it. The scorers
    of ``chunks`` are of one training seed."""
    part = chunks[chunks.offset == offset]
    shown = {query: _mean(part[f"{query}_correct"], part.episode) for query in LOOKS}
    place = _mean(part.scene_episode, part.episode)
    guess = _mean(1 / part.candidates, part.episode)
    gain = _mean(part.action_correct.astype(float) - part.context_correct, part.episode)
    rest = _mean(part.action_correct.astype(float) - part.scene_correct, part.episode)
    return (f"At Δ = {offset} the view before the action, compared with {part.candidates.mean():.0f} candidates "
            f"({1 + part.others.mean():.1f} of its own episode), picks one of its own episode for {place.text(100)} % "
            f"of {len(part)} held-out chunks, and the right one for {shown['scene'].text(100)} % (guessing: "
            f"{100 * guess.estimate:.1f} %). PTR's scorer finds it "
            f"for {shown['context'].text(100)} % with the action hidden and for {shown['action'].text(100)} % with it, "
            f"{gain.text(100, sign=True)} points: **"
            + answer(gain.low, gain.high, "knowing the action helps to identify the consequence",
                     "with the action it identifies fewer", "that the action helps cannot be told")
            + f"**. With the action the scorer is {rest.text(100, sign=True)} points from the view alone: **"
            + answer(rest.low, rest.high, "it identifies more than the scene does",
                     "it identifies less than the scene does", "they cannot be told apart")
            + "**. Scorers of one training seed: the intervals cover held-out episodes alone.")
