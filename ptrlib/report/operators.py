"""Who among the demonstrators costs a good policy its success: SFT on clean data without some of them.

The runs are those of ``tabletop_operators.yaml`` and its hard twin. What the precise demonstrator's alone win over
everybody's is there for a weighting of demonstrations to win.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ptrlib.report import results, start
from ptrlib.report.results import compare
from ptrlib.report.statistics import Interval, wilson_interval
from ptrlib.report.verdicts import answer, in_points

ALL, ALONE = "everybody’s", "none: the start policy, left alone"
SETS = {"sft": ALL, "precise": "the precise one’s alone", "without_slow": "without the slow one’s",
        "without_hesitant": "without the hesitant one’s", "without_noisy": "without the noisy one’s",
        "without_recovery": "without the recovering one’s", "fifth": "a fifth of everybody’s",
        "one_by_one": "everybody’s, chunks drawn one by one"}  # method of the manifests -> whose demonstrations
SCRATCH = "tabletop_operators_scratch"  # the same question where no start policy knows the precise demonstrator
COMPARED = {"tabletop_operators": "tabletop_corruption", "tabletop_operators_hard": "tabletop_hard"}


def gains(manifests: Sequence[str] = tuple(COMPARED)) -> pd.DataFrame:
    """A row per suite and set of demonstrations: success and its difference to SFT on everybody's, in points, with the
    numbers of episodes and training seeds behind them; the start policy, left alone, comes first."""
    rows = []
    for manifest in manifests:
        episodes = results.episodes_frame(results.runs_of(manifest))
        suite, alone = str(episodes.suite.iloc[0]), start.episodes_of(COMPARED[manifest])
        behind = start.gain(episodes, alone, "sft", "none")
        behind = Interval(-behind.estimate, -behind.high, -behind.low, behind.count)
        told = start.in_words(behind, results.training_seeds(episodes)["sft", "none"])
        rows.append(_row(suite, ALONE, alone, behind, 0) | {"minus everybody’s": told})
        for method, words in SETS.items():
            mine = episodes[episodes.method == method]
            gain = compare(episodes, {(method, "none"): 1.0, ("sft", "none"): -1.0}) if method != "sft" else None
            rows.append(_row(suite, words, mine, gain, mine.training_seed.nunique()))
    return pd.DataFrame(rows)


def _row(suite: str, words: str, episodes: pd.DataFrame, gain: Interval | None, seeds: int) -> dict[str, object]:
    rate = wilson_interval(int(episodes.success.sum()), len(episodes))
    ends = [100 * value for value in (gain.estimate, gain.low, gain.high)] if gain else [float("nan")] * 3
    return {"suite": suite, "demonstrations": words, "success": rate.text(100), "n": len(episodes), "seeds": seeds,
            **dict(zip(("estimate", "low", "high"), ends, strict=True)),
            "minus everybody’s": in_points(gain) if gain else "–"}


def for_chart(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`gains` as :func:`ptrlib.report.charts.grouped_chart` takes it."""
    drawn = table[table.demonstrations != ALL]
    return drawn.assign(kind="Tabletop, " + drawn.suite + " suite", group=drawn.demonstrations, method="sft")[
        ["kind", "group", "method", "estimate", "low", "high"]].reset_index(drop=True)


def verdict(table: pd.DataFrame, clean: pd.DataFrame) -> str:
    """Markdown, a line per suite: what a judge who keeps the precise demonstrator's alone wins over SFT on everybody's,
    what PTR wins there (``clean``: its episodes and SFT's on clean data), and whether that judge reaches the start."""
    lines = []
    for suite, rows in table.groupby("suite", sort=False):
        rows = rows.set_index("demonstrations")
        precise, alone = rows.loc[SETS["precise"]], rows.loc[ALONE]
        ptr = compare(clean[clean.suite == suite], {("ptr", "none"): 1.0, ("sft", "none"): -1.0})
        told = answer(precise.low, precise.high, "there is something to win by judging demonstrators",
                      "judging demonstrators costs success", "whether judging them wins anything cannot be told")
        lines.append(f"- On the {suite} suite the precise demonstrator's alone differ from everybody's by "
                     f"{precise['minus everybody’s']}: **{told}**. The start policy, left alone, differs by "
                     f"{alone['minus everybody’s']}, PTR by {in_points(ptr)}.")
    return "\n".join(lines)


def without_start(episodes: pd.DataFrame) -> str:
    """Markdown: the precise demonstrator's alone against everybody's, and as many of everybody's, from scratch
    (``episodes``: those of SCRATCH). The start policy learned from the precise demonstrator, which this leaves out."""
    rates = {method: wilson_interval(int(part.success.sum()), len(part)).text(100)
             for method, part in episodes.astype({"method": str}).groupby("method")}
    lines = []
    for method, baseline in (("precise", "sft"), ("precise", "fifth"), ("fifth", "sft")):
        gain = compare(episodes, {(method, "none"): 1.0, (baseline, "none"): -1.0})
        told = answer(gain.low, gain.high, "ahead", "behind", "which is ahead cannot be told")
        lines.append(f"- {SETS[method]} ({rates[method]} %) minus {SETS[baseline]} "
                     f"({rates[baseline]} %): {in_points(gain)}: **{told}**")
    return "\n".join(lines)
