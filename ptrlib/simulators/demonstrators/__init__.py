"""Scripted demonstrators: privileged, closed-loop, through the same actions a policy has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ptrlib.simulators.demonstrators.controller import PoseTracker
from ptrlib.simulators.demonstrators.kitchen_tasks import KitchenDemonstrator
from ptrlib.simulators.demonstrators.libero_tasks import check_goals, solve
from ptrlib.simulators.demonstrators.scene import Scene
from ptrlib.simulators.demonstrators.scripted import ScriptedDemonstrator, generator_of
from ptrlib.simulators.demonstrators.skills import Skills
from ptrlib.simulators.demonstrators.styles import STYLES, style_named

__all__ = ["STYLES", "Demonstrator", "KitchenDemonstrator", "demonstrate", "demonstrator_for"]


class Demonstrator(ScriptedDemonstrator):
    """LIBERO's: seven actions.

    Raises:
        ValueError: no such style, or a task whose goals no skill reaches.
    """

    def __init__(self, simulator, style: str, seed: int) -> None:
        chosen = style_named(style)
        generator = generator_of(style, seed)
        scene = Scene(simulator)
        check_goals(simulator.task.name, scene)
        self.skills = Skills(scene, chosen, generator)
        super().__init__(scene, PoseTracker(), chosen, generator, lambda: solve(self.skills))


def demonstrator_for(simulator, style: str, seed: int) -> ScriptedDemonstrator:
    """The demonstrator of the simulator's world.

    Raises:
        ValueError: no such style, or a task that none is there for.
    """
    kind = KitchenDemonstrator if simulator.embodiment == "robocasa" else Demonstrator
    return kind(simulator, style, seed)


def demonstrate(simulator, style: str, seed: int, max_steps: int | None = None) -> Iterator[np.ndarray]:
    """Actions (d_a,) that solve the task; the caller steps the simulator with each before asking for the next.

    Ends at the first success, when every plan has been tried, or after ``max_steps`` (the simulator's time
    limit by default). A demonstrator that knows no way from the start on stays put for one action: an attempt
    without any could not be kept.
    """
    demonstrator = demonstrator_for(simulator, style, seed)
    for step in range(simulator.time_limit if max_steps is None else max_steps):
        action = demonstrator.act()
        if step and (simulator.success() or demonstrator.finished):
            return
        yield action
