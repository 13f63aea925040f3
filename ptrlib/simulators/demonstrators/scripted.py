"""What the demonstrators of all worlds share: plans become commands, commands become actions in a style."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from ptrlib.simulators.demonstrators.controller import Command
from ptrlib.simulators.demonstrators.scene import Scene
from ptrlib.simulators.demonstrators.skills import OPEN, Commands
from ptrlib.simulators.demonstrators.styles import STYLES, Jitter, Style

ATTEMPTS = 5  # plans made before giving up
STEADY = {"descend", "grasp", "place", "press", "pull", "push", "turn"}  # phases in contact, or nearly


class Tracker(Protocol):
    """Turns commands into actions of the world's robot."""

    def action(self, command: Command, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """(d_a,) towards ``command`` from the grip's present pose."""
        ...

    def shaken(self, action: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """``action`` with ``noise`` (6,) on the translation and the rotation that it commands."""
        ...


class ScriptedDemonstrator:
    """Solves the task of a freshly reset simulator, one action at a time.

    ``act`` gives the next action (d_a,) float32 in [-1, 1]; the caller steps the simulator with exactly that.
    ``phase`` names what the action is for. The same scene, style and seed give the same actions.
    """

    def __init__(self, scene: Scene, tracker: Tracker, style: Style, generator: np.random.Generator,
                 plan: Callable[[], Commands]) -> None:
        self.scene, self.tracker, self.style, self.plan = scene, tracker, style, plan
        self.jitter = Jitter(style.jitter, generator)
        self.commands = self._commands()
        self.gripper = OPEN
        self.phase = "reach"
        self.finished = False  # every plan has been tried

    def act(self) -> np.ndarray:
        """The next action (d_a,); stays put, gripper as it was, when every plan has been tried."""
        position, rotation = self.scene.grip_position, self.scene.grip_rotation
        command = next(self.commands, None)
        if command is None:
            self.finished = True
            command = Command(position, rotation, self.gripper, "give up")
        self.phase, self.gripper = command.phase, command.gripper
        action = self.tracker.action(command, position, rotation)
        action = self.tracker.shaken(action, self.jitter.step(steady=command.phase in STEADY))
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _commands(self) -> Iterator[Command]:
        for _ in range(ATTEMPTS):
            yield from self.plan()


def generator_of(style: str, seed: int) -> np.random.Generator:
    """The random numbers of one demonstration: another style is another stream."""
    return np.random.default_rng([seed, list(STYLES).index(style)])
