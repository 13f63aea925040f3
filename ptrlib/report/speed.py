"""What PTR costs: the benchmarks' CSVs in, intervals, goals and figures out.

``make bench`` writes a CSV per benchmark and ``speed.json`` into ``experiments/bench/results``. Every number is a
median over rounds. Rules are compared round by round, so that what slows a whole round cancels out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ptrlib.report import REPOSITORY
from ptrlib.report.charts import method_colour, method_label, world_label
from ptrlib.report.figures import COLOURS
from ptrlib.report.statistics import LEVEL, Interval

FOLDER = REPOSITORY / "experiments" / "bench" / "results"
COMMAND = "make bench"
STOCK = REPOSITORY / "experiments" / "bench"  # where `make bench-libero` and `make bench-robocasa` write
COLUMNS = {"steps": ("policy", "device", "compiled", "precision", "rule", "round", "chunks", "seconds"),
           "parts": ("policy", "device", "compiled", "precision", "rule", "round", "part", "seconds"),
           "pool": ("size", "operation", "round", "seconds"),
           "throughput": ("stage", "unit", "round", "count", "seconds")}
SETTING = ["policy", "device", "precision", "compiled"]  # what a step was measured on
POLICIES = {"tabletop": "Tabletop's policy", "libero": "the LIBERO policy at 128 pixels"}
COMPARED = (*((rule, "sft_belief") for rule in ("ptr", "ptr_full_targets", "ptr_half_targets", "ptr_quarter_targets")),
            ("ptr", "sft"), ("sft_belief", "sft"))
OVERHEAD_GOALS = {"tabletop": 1.15, "libero": 1.05}  # at most, PTR's step over that of SFT+Belief
RATE_GOALS = {"simulator with images": 30_000, "simulator": 400_000}  # at least, control steps a second
PARTS = {"loader": "purple", "vision tower": "blue", "backbone": "sky", "action head": "green",
         "belief tokenizer": "yellow", "backward pass": "orange", "optimiser": "black", "target encoder": "vermillion",
         "candidate pool": "purple", "scorer and losses": "blue", "after the step": "sky", "all else": "grey"}
ADDED_BY_PTR = ("target encoder", "candidate pool", "scorer and losses", "after the step")  # wholly or mostly; hatched


@dataclass(frozen=True)
class Goal:
    """One goal and whether the measurement meets it; ``interval`` is formatted, the rest is raw."""

    goal: str
    asked: str
    measured: str
    rounds: int
    answer: str


def table(name: str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """A benchmark's rows, one per round.

    Raises:
        ValueError: it is missing or lacks a column; the sentence says how to make it.
    """
    path = Path(folder) / f"{name}.csv"
    if not path.is_file():
        raise ValueError(f"{path} is missing; measure it with: {COMMAND}")
    found = pd.read_csv(path)
    missing = [column for column in COLUMNS[name] if column not in found]
    if missing:
        raise ValueError(f"{path} has no column '{missing[0]}'; measure it again with: {COMMAND}")
    return found


def record(folder: str | Path = FOLDER) -> dict[str, Any]:
    """Where, when and with what the benchmarks were run."""
    path = Path(folder) / "speed.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; measure it with: {COMMAND}")
    return json.loads(path.read_text())


def median(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The median of n rounds, and the order statistics that hold the true one with at least the probability
    ``level``. Fewer than six rounds cannot give such an interval at 95 %: its ends are nan then."""
    ordered = np.sort(np.asarray(values, float))
    count = len(ordered)
    below, tail = 0, 0.5**count  # P(fewer than `below` + 1 of n rounds lie under the median)
    while tail <= (1 - level) / 2:
        below += 1
        tail += math.comb(count, below) * 0.5**count
    low, high = (ordered[below - 1], ordered[-below]) if below else (math.nan, math.nan)
    return Interval(float(np.median(ordered)), float(low), float(high), count)


def circumstances(made: dict[str, Any]) -> str:
    """A sentence of Markdown on the machine, the code and the load under which the benchmarks ran."""
    machine, load = made["machine"], made["load_average"][0]
    dirty = ", changed since" if made["dirty"] else ""
    gpu = f"a {made['gpu']}" if made["gpu"] else "no GPU: the goals for one are not judged here"
    return (f"Measured on {made['started'][:10]} with the code of commit {made['commit'][:8]}{dirty}, torch "
            f"{made['packages']['torch']}, on one {machine['processor']} with {machine['cores']} cores, of which "
            f"{load:.1f} were busy when it began (load average of a minute), and {gpu}.")


def against_stock(folder: Path = STOCK) -> pd.DataFrame:
    """Our evaluation against a loop over a benchmark's own environment with its default settings, a row per record.

    Seconds of the wall's clock for an episode of one process, fastest to slowest, and the ratio of both totals.
    Building the environment is not counted.
    """
    rows = []
    for file in sorted(folder.glob("*_speed.json")):
        made = json.loads(file.read_text())
        seconds = {name: [episode["wall"] for episode in part["episodes"]] for name, part in made["results"].items()}
        spans = {name: f"{min(of_each):.1f} to {max(of_each):.1f}" for name, of_each in seconds.items()}
        world = made["results"]["ptrlib"]["simulator"]
        rows.append({"world": world_label(world["world"], made["suite"], world.get("assets", "")),
                     "task": str(made["task"]), "episodes": f"{made['episodes']} of {made['steps']} steps",
                     "plain loop (s each)": spans["plain loop"], "ours (s each)": spans["ptrlib"],
                     "times as fast": sum(seconds["plain loop"]) / sum(seconds["ptrlib"]), "commit": made["commit"][:8],
                     "processor": made["machine"]["processor"]})
    return pd.DataFrame(rows)


def step_times(steps: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds of a step and of a chunk, a row per setting and rule."""
    rows = []
    for (*setting, rule), part in steps.groupby([*SETTING, "rule"], sort=False):
        found = median(1000 * part.seconds)
        rows.append({**dict(zip(SETTING, setting, strict=True)), "rule": rule, **_ends(found),
                     "per_chunk": float((1000 * part.seconds / part.chunks).median()),
                     "chunks": float(part.chunks.mean())})
    return pd.DataFrame(rows)


def ratios(steps: pd.DataFrame) -> pd.DataFrame:
    """A step of one rule over a step of another on the same batch, a row per setting and pair of rules."""
    rows = []
    for setting, part in steps.groupby(SETTING, sort=False):
        rounds = part.pivot(index="round", columns="rule", values="seconds")
        rows += [{**dict(zip(SETTING, setting, strict=True)), "rule": rule, "against": other,
                  **_ends(median(rounds[rule] / rounds[other]))}
                 for rule, other in COMPARED if rule in rounds and other in rounds]
    return pd.DataFrame(rows)


def ratio_table(found: pd.DataFrame) -> pd.DataFrame:
    """:func:`ratios` as text."""
    return pd.DataFrame([{"policy": POLICIES[row.policy].removeprefix("the "), "on": _setting(row),
                          "a step of": method_label(row.rule), "over one of": method_label(row.against),
                          "median [95 %]": Interval(row.median, row.low, row.high, row.rounds).text(digits=3),
                          "rounds": row.rounds} for row in found.itertuples()])


def rates(throughput: pd.DataFrame) -> pd.DataFrame:
    """How much goes through each stage in a second."""
    return pd.DataFrame([{"stage": stage, "unit": unit, **_ends(median(part["count"] / part.seconds))}
                         for (stage, unit), part in throughput.groupby(["stage", "unit"], sort=False)])


def goals(steps: pd.DataFrame, throughput: pd.DataFrame) -> pd.DataFrame:
    """Every goal that these benchmarks can judge. It is met, or not, only where the whole interval says so."""
    return pd.DataFrame([asdict(goal) for goal in (*_overheads(ratios(steps)), *_speeds(rates(throughput)))])


def verdict(judged: pd.DataFrame) -> str:
    """One line on all goals."""
    counts = judged.answer.value_counts()
    return (f"{counts.get('met', 0)} of {len(judged)} goals are met, {counts.get('not met', 0)} are not, and of "
            f"{counts.get('cannot be told', 0)} it cannot be told.")


def _overheads(found: pd.DataFrame) -> Iterator[Goal]:
    for row in found[(found.rule == "ptr") & (found.against == "sft_belief")].itertuples():
        asked = OVERHEAD_GOALS[row.policy]
        where = f"{POLICIES[row.policy]}, {_setting(row)}"
        step = f"a step of {method_label(row.rule)} over one of {method_label(row.against)}"
        yield Goal(f"{step}: {where}", f"at most {asked:g}",
                   Interval(row.median, row.low, row.high, row.rounds).text(digits=3), row.rounds,
                   _answer(row, met=row.high <= asked, missed=row.low > asked))


def _speeds(found: pd.DataFrame) -> Iterator[Goal]:
    for row in found[found.stage.isin(RATE_GOALS)].itertuples():
        asked = RATE_GOALS[row.stage]
        yield Goal(f"{row.unit} a second of the {row.stage}", f"at least {asked:,}",
                   f"{row.median:,.0f} [{row.low:,.0f}, {row.high:,.0f}]", row.rounds,
                   _answer(row, met=row.low >= asked, missed=row.high < asked))


def _answer(row: Any, *, met: bool, missed: bool) -> str:
    return "met" if met else "not met" if missed else "cannot be told"


def _setting(row: Any) -> str:
    return f"{row.device.upper()}, {row.precision}{', compiled' if row.compiled else ''}"


def _ends(found: Interval) -> dict[str, float]:
    return {"median": found.estimate, "low": found.low, "high": found.high, "rounds": found.count}


def overhead_chart(found: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The ratios of :func:`ratios` with their intervals, and the goals as lines; a panel per setting."""
    figure, panels = _panels(found, 1.5)
    for axes, part in panels:
        for place, row in enumerate(part.itertuples()):
            axes.plot([row.low, row.high], [place, place], color=method_colour(row.rule))
            axes.plot(row.median, place, "o", color=method_colour(row.rule))
        axes.axvline(1, color=COLOURS["grey"], linewidth=0.8)
        axes.axvline(OVERHEAD_GOALS[part.policy.iloc[0]], color=COLOURS["vermillion"], linestyle="--", linewidth=1)
        names = [f"{method_label(row.rule)} / {method_label(row.against)}" for row in part.itertuples()]
        axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes.set_xlabel("ratio of step times (dashed: goal)")
    return figure, found


def parts_chart(parts: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Where a step's time goes: medians over rounds, stacked; a panel per setting, a bar per rule."""
    drawn = parts.groupby([*SETTING, "rule", "part"], sort=False).seconds.median().mul(1000).rename("milliseconds")
    drawn = drawn.reset_index()
    figure, panels = _panels(drawn, 1.7)
    for axes, part in panels:
        rules = list(dict.fromkeys(part.rule))
        cells = part.pivot(index="rule", columns="part", values="milliseconds").loc[rules].reindex(columns=PARTS)
        left = np.zeros(len(rules))
        for name, colour in PARTS.items():
            axes.barh(range(len(rules)), cells[name], left=left, color=COLOURS[colour], edgecolor="white",
                      linewidth=0.5, hatch="////" if name in ADDED_BY_PTR else None, label=name)
            left = left + cells[name].fillna(0.0).to_numpy()
        axes.set(yticks=range(len(rules)), yticklabels=map(method_label, rules), ylim=(len(rules) - 0.5, -0.5))
    axes.set_xlabel("CPU milliseconds of a step")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure, drawn


def _panels(frame: pd.DataFrame, height: float) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A panel under another for each setting of ``frame``, named."""
    settings = [part for _, part in frame.groupby(SETTING, sort=False)]
    figure, axes = plt.subplots(len(settings), 1, figsize=(5.8, 0.9 + height * len(settings)), squeeze=False)
    for panel, part in zip(axes[:, 0], settings, strict=True):
        first = next(part.itertuples())
        panel.set_title(f"{POLICIES[first.policy].removeprefix('the ')} ({_setting(first)})")
        panel.grid(axis="y", visible=False)
    return figure, list(zip(axes[:, 0], settings, strict=True))


def pool_chart(pool: pd.DataFrame, default: int) -> tuple[Figure, pd.DataFrame]:
    """Milliseconds of each operation against the queue's size; ``default`` is the size the runs have."""
    rows = [{"size": size, "operation": operation, **_ends(median(1000 * part.seconds))}
            for (operation, size), part in pool.groupby(["operation", "size"], sort=False)]
    drawn = pd.DataFrame(rows)
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    for (operation, part), marker in zip(drawn.groupby("operation", sort=False), "os^D", strict=False):
        axes.plot(part["size"], part["median"], marker=marker, label=operation)
        axes.fill_between(part["size"], part.low, part.high, alpha=0.2)
    axes.axvline(default, color=COLOURS["grey"], linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel=f"entries of the queue (dashed: {default}, Table 6)",
             ylabel="CPU milliseconds a batch")
    axes.legend()
    return figure, drawn
