"""Scripted demonstrators: privileged, closed-loop, through the same seven actions a policy has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ptrlib.simulators.demonstrators.controller import Command, PoseTracker
from ptrlib.simulators.demonstrators.libero_tasks import check_goals, solve
from ptrlib.simulators.demonstrators.scene import Scene
from ptrlib.simulators.demonstrators.skills import OPEN, Skills
from ptrlib.simulators.demonstrators.styles import STYLES, Jitter, style_named

__all__ = ["STYLES", "Demonstrator", "demonstrate"]

ATTEMPTS = 5  # plans made before giving up
STEADY = {"descend", "grasp", "place", "pull", "push", "turn"}  # phases in contact, or nearly


class Demonstrator:
    """Solves the task of a freshly reset simulator, one action at a time.

    ``act`` gives the next action (7,) float32 in [-1, 1]; the caller steps the simulator with exactly that.
    ``phase`` names what the action is for. The same scene, style and seed give the same actions.

    Raises:
        ValueError: no such style, or a task whose goals no skill reaches.
    """

    def __init__(self, simulator, style: str, seed: int) -> None:
        self.style = style_named(style)
        generator = np.random.default_rng([seed, list(STYLES).index(style)])
        self.scene = Scene(simulator)
        check_goals(simulator.task.name, self.scene)
        self.tracker = PoseTracker()
        self.jitter = Jitter(self.style.jitter, generator)
        self.skills = Skills(self.scene, self.style, generator)
        self.commands = self._commands()
        self.gripper = OPEN
        self.phase = "reach"
        self.finished = False  # every plan has been tried

    def act(self) -> np.ndarray:
        """The next action (7,); stays put, gripper as it was, when every plan has been tried."""
        position, rotation = self.scene.grip_position, self.scene.grip_rotation
        command = next(self.commands, None)
        if command is None:
            self.finished = True
            command = Command(position, rotation, self.gripper, "give up")
        self.phase, self.gripper = command.phase, command.gripper
        action = self.tracker.action(command, position, rotation)
        action[:6] += self.jitter.step(steady=command.phase in STEADY)
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _commands(self) -> Iterator[Command]:
        for _ in range(ATTEMPTS):
            yield from solve(self.skills)


def demonstrate(simulator, style: str, seed: int, max_steps: int | None = None) -> Iterator[np.ndarray]:
    """Actions (7,) that solve the task; the caller steps the simulator with each before asking for the next.

    Ends at the first success, when every plan has been tried, or after ``max_steps`` (the simulator's time
    limit by default).
    """
    demonstrator = Demonstrator(simulator, style, seed)
    for _ in range(simulator.time_limit if max_steps is None else max_steps):
        action = demonstrator.act()
        if simulator.success() or demonstrator.finished:
            return
        yield action
