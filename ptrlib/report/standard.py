"""Table 1 on Tabletop: success by family of tasks, and what it says about the paper's two benchmarks.

The paper's near-ceiling benchmark is LIBERO, its harder one RoboCasa; Tabletop's suites ``easy`` and ``hard``
take their places. The two are shown beside each other and never averaged. The stored runs of the benchmarks
themselves stand in rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ptrlib import runs
from ptrlib.report import charts, kitchen, published, results
from ptrlib.report.charts import METHODS, method_label
from ptrlib.report.results import alike, compare, contrast, intervals, success_rates
from ptrlib.report.statistics import Interval
from ptrlib.report.verdicts import Verdict, answer, floor_warning, in_points, scope
from ptrlib.simulators.tabletop.tasks import FAMILIES

ALL = "all tasks"
CLEAN_METHODS = ("sft", "sft_belief", "ptr", "random")
COMPETITIVE = 0.02  # a loss of success below this still counts as competitive; the paper's own loss is 0.5 points
NAMES = {"pick_place": "pick and place", "slider": "slider", "wipe": "wipe", "push": "push", "sequence": "sequence"}
_FAMILY = {task.name: NAMES[family] for family, tasks in FAMILIES.items() for task in tasks}


def by_family(episodes: pd.DataFrame) -> pd.DataFrame:
    """Every episode of Tabletop twice: once under its task's ``family`` and once under all tasks of its suite."""
    return pd.concat([episodes.assign(family=episodes.task.map(_FAMILY)), episodes.assign(family=ALL)],
                     ignore_index=True)


def family_rates(episodes: pd.DataFrame) -> pd.DataFrame:
    """:func:`success_rates` per suite, family, corruption and method."""
    return success_rates(by_family(episodes), by=("suite", "family", "corruption", "method"))


def family_differences(episodes: pd.DataFrame, corruption: str, baseline: str = "sft") -> pd.DataFrame:
    """Paired difference of success to ``baseline`` per suite, family and method, as proportions."""
    cells = by_family(episodes[episodes.corruption == corruption])
    items = [(suite, family, method) for suite, family, method in
             cells[["suite", "family", "method"]].drop_duplicates().itertuples(index=False) if method != baseline]

    def measure(suite: str, family: str, method: str) -> Interval:
        part = cells[(cells.suite == suite) & (cells.family == family)]
        return contrast(part, {(method, corruption): 1.0, (baseline, corruption): -1.0})

    return intervals(items, ("suite", "family", "method"), measure)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by suite, within it the families as Tabletop lists them with all tasks last, then the methods as the
    book does."""
    families, methods = [*NAMES.values(), *kitchen.CATEGORY_NAMES, ALL], charts.in_order(frame.method)
    keys = pd.DataFrame({"suite": frame.suite, "family": frame.family.map(families.index),
                         "method": frame.method.map(methods.index)})
    return frame.loc[keys.sort_values(["suite", "family", "method"], kind="stable").index]


def for_chart(frame: pd.DataFrame, estimate: str = "estimate") -> pd.DataFrame:
    """A frame per suite, family and method as :func:`ptrlib.report.charts.grouped_chart` takes it, in percent."""
    kept = in_order(frame)
    drawn = kept.assign(kind="Tabletop, " + kept.suite + " suite", group=kept.family,
                        **{name: 100 * kept[source] for name, source in
                           (("estimate", estimate), ("low", "low"), ("high", "high"))})
    return drawn[["kind", "group", "method", "estimate", "low", "high"]].reset_index(drop=True)


def published_rows() -> pd.DataFrame:
    """Table 1 as printed, a row per column of it: source, tasks, a column per method, and PTR minus SFT."""
    printed = published.success(published.SIMULATION)
    rows = [{"source": f"paper, {benchmark}", "tasks": column, **{method: f"{printed.loc[method, key]:.1f}"
                                                                 for method in printed.index},
             "PTR − SFT": f"{printed.loc['PTR', key] - printed.loc['SFT', key]:+.1f}"}
            for key in printed for benchmark, column in [key]]
    return pd.DataFrame(rows)


def our_rows(rates: pd.DataFrame, episodes: pd.DataFrame, source: str, corruption: str = "none") -> pd.DataFrame:
    """Ours in the layout of :func:`published_rows`, each rate with its Wilson interval and number of episodes.

    Args:
        rates: a row per suite, family and method; other corruptions than ``corruption`` are left out.
        episodes: the episodes behind ``rates``, with the column ``family``.
        source: the world, as the table names it; the suite is added.
    """
    rates = in_order(rates[rates.corruption == corruption])
    rows = []
    for (suite, family), cells in rates.groupby(["suite", "family"], sort=False):
        row = {"source": f"{source}, {suite}", "tasks": family}
        for cell in cells.itertuples():
            row[method_label(cell.method)] = (f"{100 * cell.success:.1f} [{100 * cell.low:.1f}, "
                                              f"{100 * cell.high:.1f}], n = {cell.episodes}")
        part = episodes[(episodes.suite == suite) & (episodes.family == family)]
        if {"ptr", "sft"} <= set(cells.method):
            gain = contrast(part, {("ptr", corruption): 1.0, ("sft", corruption): -1.0})
            row["PTR − SFT"] = gain.text(100, sign=True)
        rows.append(row)
    return pd.DataFrame(rows)


def benchmark_rows(manifest: str, root: Path = runs.RUNS) -> pd.DataFrame:
    """:func:`our_rows` of a benchmark's stored runs on clean data: all tasks together and, for RoboCasa, its
    categories.

    Raises:
        ValueError: a run is missing; the sentence names the command that makes it.
    """
    stored, episodes = _clean_runs(manifest, root)
    parts = [episodes.assign(family=ALL)]
    if stored[0].setting.config.evaluation.world == "robocasa":
        parts.insert(0, episodes.assign(family=episodes.task.map(kitchen.category)))
    told = pd.concat(parts, ignore_index=True)
    rates = success_rates(told, by=("suite", "family", "corruption", "method"))
    return our_rows(rates, told, "ours").assign(source=f"ours, {results.world_of(stored)}")


def benchmark_note(manifest: str, root: Path = runs.RUNS) -> str:
    """A line of Markdown on the runs behind :func:`benchmark_rows`, and a warning where SFT hardly succeeds."""
    stored, episodes = _clean_runs(manifest, root)
    seeds = results.training_seeds(episodes)
    return (f"**{results.world_of(stored)}**: {episodes.task.nunique()} tasks, {results.span(seeds)} training "
            f"seed{'s' if seeds.max() > 1 else ''} per method, {results.steps_of(stored)}. "
            f"{_floors(stored, episodes)}").strip()


def _floors(stored: list[results.StoredRun], episodes: pd.DataFrame) -> str:
    """What speaks against ranking methods there: RoboCasa has a floor of its own, in the protocol."""
    own = kitchen.floor(episodes) if stored[0].setting.config.evaluation.world == "robocasa" else ""
    return f"{own} {floor_warning(episodes)}"


def _clean_runs(manifest: str, root: Path) -> tuple[list[results.StoredRun], pd.DataFrame]:
    path = results.manifest_path(manifest)
    known = runs.read_manifest(path)["methods"]
    clean = results.narrow(manifest, methods=[name for name in CLEAN_METHODS if name in known],
                           changes={"data.corruption": ["none"]})
    if not results.is_stored(clean, root):
        raise ValueError(f"its runs on clean data are not all stored; `ptrlib run {path}` makes them")
    stored = results.runs_of(clean, root)
    return stored, results.episodes_frame(stored)


def table_order(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of the joined table: source, tasks, the methods in the book's order, the difference."""
    labels = [label for label, _ in METHODS.values() if label in table]
    return table[["source", "tasks", *labels, *(["PTR − SFT"] if "PTR − SFT" in table else [])]].fillna("")


def verdicts(episodes: pd.DataFrame) -> pd.DataFrame:
    """The paper's statements about clean data, each answered from Tabletop's runs: suite ``easy`` for LIBERO, ``hard``
    for RoboCasa."""
    return pd.DataFrame([asdict(verdict) for verdict in _verdicts(episodes[episodes.corruption == "none"])])


def benchmark_verdict(manifest: str, root: Path = runs.RUNS) -> pd.DataFrame:
    """Whether PTR stays competitive in the benchmark itself, a row; none where PTR or SFT was not run."""
    stored, clean = _clean_runs(manifest, root)
    if not {"ptr", "sft"} <= set(clean.method):
        return pd.DataFrame()
    terms = {("ptr", "none"): 1.0, ("sft", "none"): -1.0}
    told = _competitive(compare(clean, terms), results.world_of(stored), scope(alike(clean, terms)))
    return pd.DataFrame([asdict(told)])


def _verdicts(clean: pd.DataFrame) -> Iterator[Verdict]:
    robocasa = published.success(published.SIMULATION).RoboCasa.Avg
    gains = {("hard", "sft"): ("PTR beats SFT where tasks are harder", robocasa.PTR - robocasa.SFT),
             ("hard", "sft_belief"): ("losses and weights add to belief tokens (PTR against SFT+Belief)",
                                      robocasa.PTR - robocasa["SFT+Belief"])}
    for suite in clean.suite.unique():
        cells = clean[clean.suite == suite]
        present, where = set(cells.method), scope(cells)
        if {"ptr", "sft"} <= present:
            yield _competitive(_gain(cells, "sft"), f"{suite} suite", where)
        for baseline in ("sft", "sft_belief"):
            if (suite, baseline) in gains and {"ptr", baseline} <= present:
                claim, printed = gains[suite, baseline]
                gain = _gain(cells, baseline)
                inside = "holds" if 100 * gain.low <= printed <= 100 * gain.high else "excludes"
                yield _verdict(f"{suite} suite: {claim} (paper, RoboCasa: {printed:+.1f}, which the interval {inside})",
                               gain, answer(gain.low, gain.high, f"holds{where}", f"does not hold{where}"))
        if {"ptr", "random"} <= present:
            gain = _gain(cells, "random")
            yield _verdict(f"{suite} suite: PTR's weights beat the same weights dealt at random (our control)", gain,
                           answer(gain.low, gain.high, f"holds{where}", f"does not hold{where}"))


def headline(episodes: pd.DataFrame) -> str:
    """The verdict in a line of Markdown per suite: PTR against SFT on clean data."""
    clean = episodes[episodes.corruption == "none"]
    told = []
    for suite in clean.suite.unique():
        cells = clean[clean.suite == suite]
        if {"ptr", "sft"} <= set(cells.method):
            verdict = _competitive(_gain(cells, "sft"), f"{suite} suite", scope(cells))
            told.append(f"- On the {suite} suite PTR differs from SFT by {verdict.number}: that it stays competitive "
                        f"**{verdict.answer}**. {floor_warning(cells)}".strip())
    return ("With clean data:\n\n" + "\n".join(told) if told else
            "PTR and SFT are not both among the methods shown, so there is nothing to conclude.")


def _gain(cells: pd.DataFrame, baseline: str) -> Interval:
    return contrast(cells, {("ptr", "none"): 1.0, (baseline, "none"): -1.0})


def _competitive(gain: Interval, place: str, where: str) -> Verdict:
    """Competitive: the interval excludes a loss of COMPETITIVE; not: it lies below zero."""
    told = answer(gain.low + COMPETITIVE, gain.high, f"holds{where}", f"does not hold{where}")
    return _verdict(f"{place}: PTR stays competitive with SFT (a loss of {100 * COMPETITIVE:.0f} points or more is "
                    "excluded)", gain, told)


def _verdict(question: str, gain: Interval, told: str) -> Verdict:
    return Verdict(question, in_points(gain), told, gain.estimate, gain.low, gain.high)
