"""What LIBERO and RoboCasa have in common: both are robosuite environments with one arm."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptrlib.simulators import rendering
from ptrlib.simulators.protocol import Observation, TaskSpec

CONTROL_FREQUENCY = 20  # Hz


class RobosuiteSimulator:
    """The parts of :class:`ptrlib.simulators.protocol.Simulator` that need no more than the robosuite environment.

    ``env`` (that environment) and ``sim`` are for demonstrators, which may see everything.
    """

    model_cameras: dict[str, str]  # ours -> the model's
    mesh_share = 0.0  # visual meshes are thinned to cells of this share of their longest side
    env: Any

    def __init__(self, suite: str, task: TaskSpec, *, image_size: int, render: bool) -> None:
        self.suite = suite
        self.task = task
        self.cameras = tuple(self.model_cameras)
        self.image_size = image_size
        self.render_images = render
        self._renderer: Any = None

    @property
    def sim(self) -> Any:
        """The MuJoCo simulation; ``sim.model._model`` and ``sim.data._data`` are MuJoCo's own objects."""
        return self.env.sim

    def observe(self, images: bool) -> Observation:
        """Images (image_size, image_size, 3) per camera if asked for, and the state."""
        return Observation(images=self.render() if images else {}, state=self.state())

    def state(self) -> NDArray[np.float32]:
        """(d_s,) proprioception in the benchmark's own order and units."""
        raise NotImplementedError

    def render(self) -> dict[str, NDArray[np.uint8]]:
        """Camera -> (image_size, image_size, 3), upright."""
        if not self.render_images:
            raise ValueError("this simulator was made with render=False; make it with render=True for images")
        model, data = self.sim.model._model, self.sim.data._data
        if self._renderer is None:
            self._renderer = rendering.make_renderer(model, self.image_size, self.mesh_share)
        return {camera: rendering.render_camera(self._renderer, model, data, name)
                for camera, name in self.model_cameras.items()}

    def success(self) -> bool:
        """Whether the benchmark's own check holds now."""
        return bool(self.env._check_success())

    def gripper_positions(self) -> NDArray[np.float64]:
        """(2,) finger joint positions in metres."""
        return self.sim.data.qpos[of_the_arm(self.env.robots[0]._ref_gripper_joint_pos_indexes)].copy()

    def object_pose(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) in metres and rotation (3, 3) of an object by its name in the task, in the world."""
        if name not in self.env.obj_body_id:
            raise ValueError(f"task {self.task.name!r} has no object {name!r} in this scene; "
                             f"it has {', '.join(self.env.obj_body_id)}")
        body = self.env.obj_body_id[name]
        return self.sim.data.body_xpos[body].copy(), self.sim.data.body_xmat[body].reshape(3, 3).copy()

    def simulator_state(self) -> NDArray[np.float64]:
        """(n,) time, joint positions and velocities."""
        return self.sim.get_state().flatten()

    def close(self) -> None:
        """Free the graphics context and the simulation."""
        self._close_renderer()
        self.env.close()

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            rendering.close_renderer(self._renderer)
            self._renderer = None

    def _check_reset(self, init_state: int | None, seed: int | None, init_states: int) -> None:
        if (init_state is None) == (seed is None):
            raise ValueError("reset needs exactly one of init_state and seed")
        if init_state is not None and not 0 <= init_state < init_states:
            raise ValueError(f"task {self.task.name!r} has init states 0 to {init_states - 1}, got {init_state}")


def of_the_arm(value: Any) -> Any:
    """robosuite 1.5 keys an arm's properties by the arm ("right"); 1.4 stores the value itself."""
    return next(iter(value.values())) if isinstance(value, dict) else value


def quiet() -> None:
    """Keep robosuite from warning about robots that nobody asked for."""
    logging.getLogger("robosuite_logs").addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Of those distributions that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
