"""Where the hand goes in each style: every style once in the same scene, a row per control step.

    python -m ptrlib.simulators.demonstrators.trajectories --out experiments/demonstrators/trajectories.csv
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from ptrlib.simulators.demonstrators import Demonstrator
from ptrlib.simulators.demonstrators.styles import STYLES
from ptrlib.simulators.protocol import choose_tasks, world_named


@dataclass
class Trajectories:
    """Follow the hand through one evaluation scene in all styles."""

    suite: str = "libero_spatial"
    task: int = 0
    """index within the suite"""
    init_state: int = 10
    """of the scene; those below 10 were looked at while tuning"""
    out: Path = Path("trajectories.csv")


def steps_of(simulator, style: str, init_state: int) -> Iterator[dict[str, Any]]:
    """One row before each action: the grip's position (m), its distance (m) from the object of the task's
    first goal, the phase, and whether the hand is told to close."""
    simulator.reset(init_state=init_state)
    demonstrator = Demonstrator(simulator, style, init_state)
    scene = demonstrator.scene
    thing = scene.goals[0][1]
    for step in range(simulator.time_limit):
        grip = scene.grip_position
        distance = float(np.linalg.norm(grip - scene.position(thing)))
        action = demonstrator.act()
        if demonstrator.finished:
            return
        yield {"suite": simulator.suite, "task": simulator.task.name, "init_state": init_state, "style": style,
               "thing": thing, "step": step, **dict(zip("xyz", grip.round(4).tolist(), strict=True)),
               "distance": round(distance, 4), "closing": bool(action[6] > 0), "phase": demonstrator.phase}
        if simulator.step(action):
            return


def run(wanted: Trajectories) -> pd.DataFrame:
    """Write ``wanted.out`` and return its table.

    Raises:
        ValueError: no such suite or task, or a task without a demonstrator.
    """
    world = world_named("libero")
    task = choose_tasks(world, wanted.suite, [wanted.task])[0]
    simulator = world.make(wanted.suite, task.index, render=False)
    try:
        table = pd.DataFrame([row for style in STYLES for row in steps_of(simulator, style, wanted.init_state)])
    finally:
        simulator.close()
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    partial = wanted.out.with_name(wanted.out.name + ".partial")
    table.to_csv(partial, index=False)
    os.replace(partial, wanted.out)
    return table


if __name__ == "__main__":
    print(run(tyro.cli(Trajectories)).groupby("style", sort=False).step.count().to_string())
