"""What every simulated world offers: the one interface that recording, evaluation and demonstrators see.

A *world* ("libero", "tabletop") lists suites of tasks and makes simulators. A *simulator* holds one task
and is reset to one scene after another. Images cost far more than physics, so they are rendered only when
``observe(images=True)`` asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class SimulatorMissing(ImportError):
    """A world's packages are not installed; the message says how to get them."""


@dataclass(frozen=True)
class TaskSpec:
    """One task of a suite."""

    name: str  # identifier, unique in the suite
    instruction: str  # the sentence the policy is given; where scenes differ in it, in general words
    index: int  # position in the suite
    init_states: int  # number of fixed evaluation scenes


@dataclass(frozen=True)
class Observation:
    """What the robot sees between two actions."""

    images: dict[str, NDArray[np.uint8]]  # camera -> (H, W, 3), upright RGB; empty when not asked for
    state: NDArray[np.float32]  # (d_s,) proprioception, the embodiment's raw order and units


class Simulator(Protocol):
    """One task, ready to be reset to any of its scenes."""

    task: TaskSpec  # after a reset, with the instruction of the present scene
    suite: str
    embodiment: str  # key of ptrlib.policy.action_space.EMBODIMENTS
    cameras: tuple[str, ...]
    time_limit: int  # steps after which the benchmark's own evaluation gives up

    def reset(self, *, init_state: int | None = None, seed: int | None = None) -> None:
        """Go to evaluation scene ``init_state``, or to a fresh scene drawn from ``seed``.

        Exactly one of the two is given. The same argument gives the same scene, bit for bit, whatever
        the simulator did before.
        """
        ...

    def observe(self, images: bool) -> Observation:
        """The present observation; ``images=False`` skips rendering."""
        ...

    def step(self, action: NDArray[np.floating[Any]]) -> bool:
        """Execute one (d_a,) action for one control period; True when the task is solved."""
        ...

    def success(self) -> bool:
        """Whether the task is solved now."""
        ...

    def simulator_state(self) -> NDArray[np.float64]:
        """(n,) the physics state, from which the scene can be restored."""
        ...

    def recorded_extras(self) -> dict[str, NDArray[np.float64]]:
        """Further arrays that the benchmark's demonstration files hold at each step."""
        ...

    def file_attributes(self) -> dict[str, Any]:
        """Attributes that the benchmark's demonstration files carry, and ``provenance``."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Versions and settings that determine physics and pixels, JSON-serialisable."""
        ...

    def close(self) -> None:
        """Free the graphics context; the simulator is unusable afterwards."""
        ...


class BatchSimulator(Protocol):
    """Many episodes stepped together, each with a task, an embodiment and a scene of its own.

    Made by ``World.make_batch(suite, task_indices)``, one row per index. An episode is the same, bit for bit,
    whatever other rows there are.
    """

    suite: str
    specs: tuple[TaskSpec, ...]  # of each row
    embodiments: tuple[str, ...]  # of each row
    cameras: tuple[str, ...]
    time_limits: NDArray[np.int64]  # of each row, in steps

    def reset(self, *, init_states: Sequence[int] | None = None, seeds: Sequence[int] | None = None) -> None:
        """``Simulator.reset`` of every row; exactly one of the two is given."""
        ...

    def observe(self, rows: NDArray[np.int64], images: bool = True) -> list[Observation]:
        """The present observations of ``rows``, in that order."""
        ...

    def step(self, actions: Sequence[NDArray[np.floating[Any]] | None]) -> NDArray[np.bool_]:
        """One (d_a,) action per row, None for one that shall stay put; (B,) which tasks are solved now."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Versions and settings that determine physics and pixels, JSON-serialisable."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class World:
    """A benchmark: its suites, their tasks, and a factory of simulators."""

    name: str
    suites: Callable[[], list[str]]
    tasks: Callable[[str], list[TaskSpec]]
    make: Callable[..., Simulator]  # make(suite, task_index, *, image_size=128, render=True)
    make_batch: Callable[..., BatchSimulator] | None = None  # make_batch(suite, task_indices), where offered
    record: Callable[..., list[Path]] | None = None  # recording.record for this world, where it has one of its own
    record_for: Callable[[str, int], None] | None = None  # records the data.path of a manifest in seconds
    image_size: int = 128  # pixels of recorded images, unless told otherwise
    embodiments: tuple[str, ...] = ()  # its robots, keys of ptrlib.policy.action_space.EMBODIMENTS


# Worlds are imported when asked for: each drags in a simulator that may not be installed.
WORLDS = {"libero": "ptrlib.simulators.libero", "robocasa": "ptrlib.simulators.robocasa",
          "tabletop": "ptrlib.simulators.tabletop"}


def world_named(name: str) -> World:
    """The world called ``name``; "a+b" is those two as one (:mod:`ptrlib.simulators.joined`).

    Raises:
        ValueError: no such world.
        SimulatorMissing: its packages are not installed.
    """
    if "+" in name:
        return import_module("ptrlib.simulators.joined").joined(name)
    if name not in WORLDS:
        raise ValueError(f"there is no world {name!r}; choose from {', '.join(WORLDS)}")
    return import_module(WORLDS[name]).WORLD


def choose_tasks(world: World, suite: str, tasks: Sequence[int] | None) -> list[TaskSpec]:
    """The tasks of ``suite`` with the given indices, all of them for None.

    Raises:
        ValueError: no such suite or task.
    """
    known = world.tasks(suite)
    for index in tasks or ():
        if not 0 <= index < len(known):
            names = "; ".join(f"{task.index} {task.name}" for task in known)
            raise ValueError(f"suite {suite!r} has no task {index}; it has {names}")
    return known if tasks is None else [known[index] for index in tasks]
