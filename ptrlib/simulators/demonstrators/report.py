"""How often the demonstrators succeed: one row per task and scene, without images.

    python -m ptrlib.simulators.demonstrators.report --suite libero_goal --init-states 0:50 --out goal.csv
    python -m ptrlib.simulators.demonstrators.report --world robocasa --suite robocasa_door_drawer --seeds 0:50 \
        --out robocasa.csv
    python -m ptrlib.simulators.demonstrators.report --world robocasa --recorded data/robocasa/robocasa_short \
        --out short.csv

Styles are taken in turn over the scenes, as in a recording; one style alone in every scene is
``--styles precise``. ``--seeds`` draws scenes instead of taking those of the evaluation, and ``--recorded`` counts the
attempts, kept and failed, of recordings that are there. Rows that the file has already are not run again.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import tyro
from tqdm import tqdm

from ptrlib.runs import code_version
from ptrlib.simulators.demonstrators import demonstrator_for
from ptrlib.simulators.demonstrators.styles import STYLES, style_named
from ptrlib.simulators.protocol import choose_tasks, world_named
from ptrlib.simulators.workers import Workers


@dataclass
class Report:
    """Run the demonstrators in a suite's scenes and tabulate their success."""

    world: str = "libero"
    suite: str = "libero_spatial"
    init_states: str = "0:50"
    """evaluation scenes, the first and one past the last"""
    seeds: str | None = None
    """scenes drawn by seed instead, the first and one past the last"""
    recorded: tuple[Path, ...] = ()
    """folders that `ptrlib demos` recorded, whose attempts are counted instead of making new ones"""
    styles: tuple[str, ...] = tuple(STYLES)
    tasks: tuple[int, ...] = ()
    """indices within the suite; none means all"""
    workers: int = 1
    out: Path = Path("demonstrators.csv")

    @property
    def scene(self) -> str:
        """What a scene's number means, as ``reset`` calls it and the table's column is named."""
        return "seed" if self.seeds is not None or self.recorded else "init_state"

    @property
    def key(self) -> list[str]:
        """Columns that tell rows apart."""
        return ["suite", "task_index", self.scene, "style"]


def rows_of(simulator, suite: str, scene: str, scenes: list[tuple[int, str]]):
    """One row per (number of the scene, style): success, steps until it, the last phase, and the code's commit.

    ``scene`` is "init_state" or "seed".
    """
    version = code_version()
    made_by = version["commit"] + ("-dirty" if version["dirty"] else "")
    for number, style in scenes:
        simulator.reset(**{scene: number})
        demonstrator = demonstrator_for(simulator, style, number)
        success, steps = False, 0
        while steps < simulator.time_limit and not success and not demonstrator.finished:
            success = simulator.step(demonstrator.act())
            steps += 1
        yield {
            "suite": suite, "task": simulator.task.name, "task_index": simulator.task.index,
            scene: number, "style": style, "success": success, "steps": steps,
            "phase": demonstrator.phase, "commit": made_by,
        }  # fmt: skip


def numbers_of(report: Report) -> range:
    """Raises ValueError if the scenes do not read ``first:end``."""
    given = report.init_states if report.seeds is None else report.seeds
    try:
        first, end = (int(number) for number in given.split(":"))
    except ValueError:
        raise ValueError(f"{report.scene.replace('_', ' ')}s must read first:end, got {given!r}") from None
    return range(first, end)


def run(report: Report) -> pd.DataFrame:
    """Fill ``report.out`` with every row asked for and return the whole table.

    Raises:
        ValueError: no such world, suite, task or style, init states or seeds that are not ``first:end``, or a
            table of the other kind of scenes in the way.
    """
    for style in report.styles:
        style_named(style)
    numbers_of(report)  # says what is wrong with them before anything is made
    if report.recorded and (report.seeds is not None or report.tasks):
        raise ValueError("--recorded counts every attempt that is there; leave out --seeds and --tasks")
    key = report.key
    table = pd.read_csv(report.out) if report.out.exists() else pd.DataFrame(columns=key)
    if report.scene not in table:
        raise ValueError(f"{report.out} has no column {report.scene!r}: it is another kind of scenes' table; "
                         "choose another file")
    there = set(table[key].itertuples(index=False, name=None))
    rows = table.to_dict("records")
    if report.recorded:  # all of them or none: a part of a recording would be a rate of its own
        rows += [row for row in _recorded(report) if tuple(row[name] for name in key) not in there]
        _write(pd.DataFrame(rows).sort_values(key), report.out)
        return pd.DataFrame(rows)
    for row in _attempted(report, there):
        rows.append(row)
        _write(pd.DataFrame(rows).sort_values(key), report.out)
    return pd.DataFrame(rows)


def _attempted(report: Report, there: set[tuple]) -> Iterator[dict[str, Any]]:
    """Attempts that are asked for and not ``there``, as they are made."""
    missing: deque = deque()
    for task in choose_tasks(world_named(report.world), report.suite, report.tasks or None):
        in_turn = [(number, report.styles[number % len(report.styles)]) for number in numbers_of(report)]
        scenes = [scene for scene in in_turn if (report.suite, task.index, *scene) not in there]
        if scenes:
            missing.append((task.index, scenes))
    with (
        tqdm(total=sum(len(scenes) for _, scenes in missing), unit="episode") as progress,
        Workers(min(report.workers, len(missing)), _work, report.world, report.suite, report.scene) as pool,
    ):
        for worker, message in pool.messages():
            if message == "ready":
                pool.send(worker, missing.popleft() if missing else None)
            else:
                yield message
                progress.update()


def _recorded(report: Report) -> Iterator[dict[str, Any]]:
    """Every attempt of the recordings. They do not say in which phase an attempt ended.

    Raises:
        ValueError: a folder holds no recording of this world, or a broken file.
    """
    for folder in report.recorded:
        files = [*sorted(folder.glob("*_demo.hdf5")), *sorted(folder.glob("failed/*_failed.hdf5"))]
        if not files:
            raise ValueError(f"{folder} holds no *_demo.hdf5; give a folder that `ptrlib demos` finished")
        for file in files:
            try:
                handle = h5py.File(file)
            except OSError:
                raise ValueError(f"{file} is not a whole HDF5 file; delete it and record it again") from None
            with handle:
                yield from _rows_of_file(report, file, handle["data"])


def _rows_of_file(report: Report, file: Path, data: h5py.Group) -> Iterator[dict[str, Any]]:
    settings, version = (json.loads(str(data.attrs.get(key, "{}"))) for key in ("recording", "code"))
    if settings.get("world") != report.world or "commit" not in version:
        raise ValueError(f"{file} is no recording of the world {report.world!r}; say which with --world")
    indices = {task.name: task.index for task in world_named(report.world).tasks(settings["suite"])}
    for demo in data.values():
        attributes = demo.attrs
        yield {
            "suite": settings["suite"], "task": attributes["task"], "task_index": indices[attributes["task"]],
            "seed": int(attributes["seed"]), "style": attributes["operator"], "success": bool(attributes["success"]),
            "steps": int(attributes["num_samples"]) - 1, "phase": "",  # the first row is the reset
            "commit": version["commit"] + ("-dirty" if version["dirty"] else ""),
        }  # fmt: skip


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Success rate, its number of episodes, and mean steps of the successes, by task and style."""
    groups = table.groupby(["suite", "task_index", "style"])
    steps = table[table["success"].astype(bool)].groupby(["suite", "task_index", "style"])["steps"].mean()
    return groups["success"].agg(["mean", "size"]).assign(steps=steps).reset_index()


def _work(pipe: Connection, name: str, suite: str, scene: str) -> None:
    world = world_named(name)
    while True:
        pipe.send("ready")
        job = pipe.recv()
        if job is None:
            return
        simulator = world.make(suite, job[0], render=False)
        for row in rows_of(simulator, suite, scene, job[1]):
            pipe.send(row)
        simulator.close()


def _write(table: pd.DataFrame, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    table.to_csv(partial, index=False)
    os.replace(partial, out)


if __name__ == "__main__":
    print(summary(run(tyro.cli(Report))).to_string(index=False))
