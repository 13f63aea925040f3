"""Tabletop behind the interfaces of :mod:`ptrlib.simulators.protocol`: batched, and one table at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptrlib.simulators.protocol import Observation, TaskSpec
from ptrlib.simulators.tabletop.dynamics import Tables
from ptrlib.simulators.tabletop.raster import Camera
from ptrlib.simulators.tabletop.robots import MOTORS, ROBOTS
from ptrlib.simulators.tabletop.tasks import EVALUATION_SCENES, Task, suite_named

CAMERAS = ("scene",)
IMAGE_SIZE = 32
VERSION = 2  # of dynamics, scenes and pictures together: counts up whenever the same seed gives other bytes
_EVALUATION, _RECORDING = 0, 1  # first number of a scene's seed: evaluation never meets a recorded scene


class TabletopBatch:
    """Any number of tables, each with its own task, robot and scene, behind ``BatchSimulator``.

    ``tables`` and ``camera`` give tensors to whoever wants more speed than lists of observations allow.
    """

    cameras: tuple[str, ...] = CAMERAS

    def __init__(self, suite: str, task_indices: Sequence[int], *, image_size: int = IMAGE_SIZE,
                 device: str | torch.device = "cpu", control_noise: float = 1.0) -> None:
        known = suite_named(suite)
        self.suite = suite
        self.tasks: tuple[Task, ...] = tuple(known[index] for index in task_indices)
        self.specs = tuple(_spec(known[index], index) for index in task_indices)
        self.embodiments = tuple(task.robot for task in self.tasks)
        self.time_limits = np.array([task.time_limit for task in self.tasks])
        self.image_size = image_size
        self.tables = Tables(self.tasks, device=device, control_noise=control_noise)
        self.camera: Camera | None = None
        self._motors = np.array([ROBOTS[index].motors for index in self.tables.robots])

    def reset(self, *, init_states: Sequence[int] | None = None, seeds: Sequence[int] | None = None) -> None:
        """Start every table's evaluation scene, or the scene drawn from its seed; exactly one is given."""
        if (init_states is None) == (seeds is None):
            raise ValueError("reset needs init_states or seeds, and not both")
        kind, numbers = (_EVALUATION, init_states) if seeds is None else (_RECORDING, seeds)
        assert numbers is not None
        if len(numbers) != len(self.tasks):
            raise ValueError(f"{len(self.tasks)} tables were given {len(numbers)} scenes")
        self.tables.reset([(kind, int(number)) for number in numbers])
        if self.camera is None:
            self.camera = Camera(self.tables, self.image_size)

    def observe(self, rows: NDArray[np.int64], images: bool = True) -> list[Observation]:
        """What the robots of ``rows`` see."""
        seen = self.images(torch.as_tensor(rows, device=self.tables.device)).cpu().numpy() if images else None
        states = self.states()
        return [Observation({} if seen is None else {CAMERAS[0]: seen[place]}, states[row])
                for place, row in enumerate(rows)]

    def step(self, actions: Sequence[NDArray[np.floating[Any]] | None]) -> NDArray[np.bool_]:
        """Execute one (d_a,) action per table; None leaves its robot where it is. (B,) which are solved now."""
        padded = np.zeros((len(self.tasks), MOTORS + 1), np.float32)
        for row, action in enumerate(actions):
            if action is not None:
                padded[row, :self._motors[row]], padded[row, MOTORS] = action[:-1], action[-1]
        return self.tables.step(torch.as_tensor(padded, device=self.tables.device)).cpu().numpy()

    def states(self) -> list[NDArray[np.float32]]:
        """(d_s,) proprioception of each robot: its motors and the gripper's opening."""
        padded = self.tables.states().cpu().numpy()
        return [np.append(row[:count], row[MOTORS]) for row, count in zip(padded, self._motors, strict=True)]

    def images(self, rows: Tensor | None = None) -> Tensor:
        """(n, size, size, 3) uint8."""
        if self.camera is None:
            raise ValueError("reset the tables before looking at them")
        return self.camera.images(rows)

    def provenance(self) -> dict[str, Any]:
        """What determines scenes, motion and pictures."""
        return provenance()

    def close(self) -> None:
        """Nothing to free."""


class TabletopSimulator:
    """One table behind ``Simulator``."""

    cameras: tuple[str, ...] = CAMERAS

    def __init__(self, suite: str, task_index: int, *, image_size: int = IMAGE_SIZE, render: bool = True) -> None:
        self._batch = TabletopBatch(suite, [task_index], image_size=image_size)
        self.suite = suite
        self.task = self._batch.specs[0]
        self.embodiment = self._batch.embodiments[0]
        self.time_limit = int(self._batch.time_limits[0])

    @property
    def tables(self) -> Tables:
        return self._batch.tables

    def reset(self, *, init_state: int | None = None, seed: int | None = None) -> None:
        self._batch.reset(init_states=None if init_state is None else [init_state],
                          seeds=None if seed is None else [seed])

    def observe(self, images: bool) -> Observation:
        return self._batch.observe(np.array([0]), images)[0]

    def step(self, action: NDArray[np.floating[Any]]) -> bool:
        return bool(self._batch.step([action])[0])

    def success(self) -> bool:
        return bool(self.tables.success()[0])

    def simulator_state(self) -> NDArray[np.float64]:
        return scene_states(self.tables)[0]

    def recorded_extras(self) -> dict[str, NDArray[np.float64]]:
        return {}

    def file_attributes(self) -> dict[str, Any]:
        return file_attributes(self.suite, self.task)

    def provenance(self) -> dict[str, Any]:
        return provenance()

    def close(self) -> None:
        """Nothing to free."""


def scene_states(tables: Tables) -> NDArray[np.float64]:
    """(B, n) everything that moves: hand, gripper, held thing, things' poses, slide and dirty spots."""
    columns = [tables.hand_x[:, None], tables.hand_y[:, None], tables.opening[:, None], tables.held[:, None],
               tables.things_x, tables.things_y, tables.cos, tables.sin, tables.slide[:, None], tables.dirty]
    return torch.cat([column.double() for column in columns], 1).cpu().numpy()


def file_attributes(suite: str, task: TaskSpec) -> dict[str, Any]:
    """Attributes of a demonstration file."""
    return {"env_name": "Tabletop", "problem_info": {"problem_name": task.name, "domain_name": "tabletop",
                                                     "language_instruction": task.instruction},
            "provenance": provenance() | {"suite": suite}}


def provenance() -> dict[str, Any]:
    return {"world": "tabletop", "version": VERSION, "torch": torch.__version__}


def tasks(suite: str) -> list[TaskSpec]:
    return [_spec(task, index) for index, task in enumerate(suite_named(suite))]


def _spec(task: Task, index: int) -> TaskSpec:
    return TaskSpec(task.name, task.instruction, index, EVALUATION_SCENES)
