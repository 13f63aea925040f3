"""How often the demonstrators succeed: one row per task and scene, without images.

    python -m ptrlib.simulators.demonstrators.report --suite libero_goal --init-states 0:50 --out goal.csv

Styles are taken in turn over the scenes, as in a recording; one style alone in every scene is
``--styles precise``. Rows that the file has already are not run again.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import tyro
from tqdm import tqdm

from ptrlib.runs import code_version
from ptrlib.simulators.demonstrators import Demonstrator
from ptrlib.simulators.demonstrators.styles import STYLES, style_named
from ptrlib.simulators.protocol import choose_tasks, world_named
from ptrlib.simulators.workers import Workers

KEY = ["suite", "task_index", "init_state", "style"]


@dataclass
class Report:
    """Run the demonstrators in a suite's evaluation scenes and tabulate their success."""

    suite: str = "libero_spatial"
    init_states: str = "0:50"
    """first and one past the last"""
    styles: tuple[str, ...] = tuple(STYLES)
    tasks: tuple[int, ...] = ()
    """indices within the suite; none means all"""
    workers: int = 1
    out: Path = Path("demonstrators.csv")


def rows_of(simulator, suite: str, scenes: list[tuple[int, str]]):
    """One row per (init state, style): success, steps until it, the last phase, and the code's commit."""
    version = code_version()
    made_by = version["commit"] + ("-dirty" if version["dirty"] else "")
    for init_state, style in scenes:
        simulator.reset(init_state=init_state)
        demonstrator = Demonstrator(simulator, style, init_state)
        success, steps = False, 0
        while steps < simulator.time_limit and not success and not demonstrator.finished:
            success = simulator.step(demonstrator.act())
            steps += 1
        yield {
            "suite": suite, "task": simulator.task.name, "task_index": simulator.task.index,
            "init_state": init_state, "style": style, "success": success, "steps": steps,
            "phase": demonstrator.phase, "commit": made_by,
        }  # fmt: skip


def run(report: Report) -> pd.DataFrame:
    """Fill ``report.out`` with every row asked for and return the whole table.

    Raises:
        ValueError: no such suite, task or style, or init states that are not ``first:end``.
    """
    for style in report.styles:
        style_named(style)
    try:
        first, end = (int(number) for number in report.init_states.split(":"))
    except ValueError:
        raise ValueError(f"init states must read first:end, got {report.init_states!r}") from None
    table = pd.read_csv(report.out) if report.out.exists() else pd.DataFrame(columns=KEY)
    there = set(table[KEY].itertuples(index=False, name=None))
    missing: deque = deque()
    for task in choose_tasks(world_named("libero"), report.suite, report.tasks or None):
        in_turn = [(state, report.styles[state % len(report.styles)]) for state in range(first, end)]
        scenes = [scene for scene in in_turn if (report.suite, task.index, *scene) not in there]
        if scenes:
            missing.append((task.index, scenes))
    rows = table.to_dict("records")
    with (
        tqdm(total=sum(len(scenes) for _, scenes in missing), unit="episode") as progress,
        Workers(min(report.workers, len(missing)), _work, report.suite) as pool,
    ):
        for worker, message in pool.messages():
            if message == "ready":
                pool.send(worker, missing.popleft() if missing else None)
            else:
                rows.append(message)
                _write(pd.DataFrame(rows).sort_values(KEY), report.out)
                progress.update()
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Success rate, its number of episodes, and mean steps of the successes, by task and style."""
    groups = table.groupby(["suite", "task_index", "style"])
    steps = table[table["success"].astype(bool)].groupby(["suite", "task_index", "style"])["steps"].mean()
    return groups["success"].agg(["mean", "size"]).assign(steps=steps).reset_index()


def _work(pipe: Connection, suite: str) -> None:
    world = world_named("libero")
    while True:
        pipe.send("ready")
        job = pipe.recv()
        if job is None:
            return
        simulator = world.make(suite, job[0], render=False)
        for row in rows_of(simulator, suite, job[1]):
            pipe.send(row)
        simulator.close()


def _write(table: pd.DataFrame, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    table.to_csv(partial, index=False)
    os.replace(partial, out)


if __name__ == "__main__":
    print(summary(run(tyro.cli(Report))).to_string(index=False))
