"""The paper's printed numbers: Tables 1-6, Figure 2 and the running text, as CSV files.

``experiments/published`` holds them as printed, each with the table or section it stands in; nothing
of ours is in there. :mod:`ptrlib.report.audit` recomputes what can be recomputed from them.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from statistics import NormalDist

import pandas as pd

from ptrlib.report import REPOSITORY

PUBLISHED = REPOSITORY / "experiments" / "published"
SIMULATION, GENERALIST = "table1_simulation", "table3_generalist"
REAL_ROBOT, ABLATION = "table4_real_robot", "table5_ablation"


def read(name: str) -> pd.DataFrame:
    """One published file by its name without suffix, e.g. ``"table1_simulation"``; text stays text."""
    return _read_csv(PUBLISHED / f"{name}.csv").copy()


@cache
def _read_csv(path: Path) -> pd.DataFrame:
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv")))
        raise ValueError(f"There is no published table '{path.stem}'; the tables are {known}.")
    return pd.read_csv(path, keep_default_na=False)


def success(table: str) -> pd.DataFrame:
    """Success rates (percent) of Table 1, 3, 4 or 5, methods as rows, (benchmark, column) as columns.

    Columns stand in the paper's order. Table 4 has suites for benchmarks and tasks for columns; the
    task names that two platforms share carry their platform.
    """
    return _success(PUBLISHED, table).copy()


@cache
def _success(folder: Path, table: str) -> pd.DataFrame:
    """:func:`success` for the files of ``folder``: the audit asks for the same tables hundreds of times."""
    frame = _read_csv(folder / f"{table}.csv").astype({"success_percent": float})
    if table == REAL_ROBOT:
        platforms = frame[frame["platform"] != ""].groupby("task")["platform"].nunique()
        shared = frame["task"].isin(platforms[platforms > 1].index)
        frame["column"] = frame["task"].where(~shared, frame["task"] + " (" + frame["platform"] + ")")
        frame = frame.rename(columns={"suite": "benchmark"})
    wide = frame.pivot(index="method", columns=["benchmark", "column"], values="success_percent")
    order = list(dict.fromkeys(zip(frame["benchmark"], frame["column"], strict=True)))
    return wide.loc[frame["method"].unique(), order]


def cell(address: str) -> float:
    """One printed success rate (percent) by its address ``table | method | benchmark | column``."""
    table, method, benchmark, column = address.split(" | ")
    return float(success(table).loc[method, (benchmark, column)])


def statement(identifier: str) -> float:
    """The number of one statement of the running text, by its ``id`` in ``statements.csv``."""
    found = read("statements").query("id == @identifier")
    if found.empty:
        raise ValueError(f"statements.csv holds no statement '{identifier}'.")
    return float(found["value"].iloc[0])


def sampling_uncertainty(confidence: float = 0.95) -> pd.DataFrame:
    """PTR minus SFT for each headline comparison, with the sampling error its episodes imply.

    Returns a row per comparison: ``episodes`` per method, ``difference`` (points), ``low`` and ``high``
    (normal interval for two independent proportions, points). The paper prints no intervals.
    Episodes are taken as independent draws of all tasks together: that tasks differ in difficulty, or that methods
    met the same scenes, would make it narrower. The variation between training runs, which would make it wider, is
    left out, as the paper trains one checkpoint per method.
    """
    comparisons = [(f"{benchmark}, clean data", statement(f"{benchmark.lower()}_episodes"),
                    f"{SIMULATION} | PTR | {benchmark} | Avg", f"{SIMULATION} | SFT | {benchmark} | Avg")
                   for benchmark in ("LIBERO", "RoboCasa")]
    for setting in ("Specialist", "Generalist"):
        places = [(f"{REAL_ROBOT} | {{}} | Overall | Overall average", "all 12 tasks", "real_trials")]
        places += [(f"{GENERALIST} | {{}} | Real robot | {suite}", suite, "real_trials_per_suite")
                   for suite in ("Bimanual", "Long-Horizon", "Spatial", "Robust")]
        comparisons += [(f"Real robots, {setting.lower()}, {place}", statement(trials),
                         address.format(f"PTR-{setting}"), address.format(f"SFT-{setting}"))
                        for address, place, trials in places]
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    rows = []
    for name, episodes, ours, theirs in comparisons:
        a, b = cell(ours) / 100, cell(theirs) / 100
        error = quantile * math.sqrt((a * (1 - a) + b * (1 - b)) / episodes)
        rows.append({"comparison": name, "episodes": int(episodes), "difference": 100 * (a - b),
                     "low": 100 * (a - b - error), "high": 100 * (a - b + error)})
    return pd.DataFrame(rows)
