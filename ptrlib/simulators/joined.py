"""Several worlds as one, so that one policy is judged on the robots of all: the world "libero+robocasa".

Its suites are one of each world, joined in the same way ("libero_spatial+robocasa_short"), and their tasks are the
worlds' own, one world's after the other's. A simulator is that of the task's own world: its scenes, its seeds, its
instructions and its robot are those that the world has when it stands alone.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from ptrlib.simulators.protocol import Simulator, TaskSpec, World, world_named

SIGN = "+"


def joined(name: str) -> World:
    """The worlds that ``name`` joins, as one.

    Raises:
        ValueError: no such world.
        SimulatorMissing: the packages of one are not installed.
    """
    worlds = [world_named(part) for part in name.split(SIGN)]

    def suites() -> list[str]:
        return [SIGN.join(parts) for parts in product(*(world.suites() for world in worlds))]

    def places(suite: str) -> list[tuple[World, str, TaskSpec]]:
        parts = suite.split(SIGN)
        if len(parts) != len(worlds):
            raise ValueError(f"world {name!r} joins {len(worlds)} worlds and suite {suite!r} names {len(parts)}; join "
                             f"one suite of each, as in '{suites()[0]}'")
        return [(world, part, task) for world, part in zip(worlds, parts, strict=True) for task in world.tasks(part)]

    def tasks(suite: str) -> list[TaskSpec]:
        return [replace(task, index=index) for index, (_, _, task) in enumerate(places(suite))]

    def make(suite: str, task_index: int, *, image_size: int = 128, render: bool = True) -> Simulator:
        world, part, task = places(suite)[task_index]
        return world.make(part, task.index, image_size=image_size, render=render)

    return World(name=name, suites=suites, tasks=tasks, make=make,
                 image_size=max(world.image_size for world in worlds),
                 embodiments=tuple(dict.fromkeys(robot for world in worlds for robot in world.embodiments)))
