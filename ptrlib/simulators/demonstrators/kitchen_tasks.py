"""Which plan solves which of RoboCasa's tasks, and the demonstrator that carries it out."""

from __future__ import annotations

from collections.abc import Callable

from ptrlib.simulators.demonstrators import kitchen_fixtures, kitchen_objects
from ptrlib.simulators.demonstrators.kitchen_motion import KitchenSkills, KitchenTracker
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.scripted import ScriptedDemonstrator, generator_of
from ptrlib.simulators.demonstrators.skills import Commands
from ptrlib.simulators.demonstrators.styles import style_named

# Task name -> plan. A plan is one attempt: it looks at the scene before every command, and is made anew after it
# has ended without success.
PLANS: dict[str, Callable[[KitchenSkills], Commands]] = {**kitchen_fixtures.PLANS, **kitchen_objects.PLANS}


class KitchenDemonstrator(ScriptedDemonstrator):
    """RoboCasa's: twelve actions.

    Raises:
        ValueError: no such style, or a task without a plan.
    """

    def __init__(self, simulator, style: str, seed: int) -> None:
        chosen = style_named(style)
        plan = plan_of(simulator.task.name)
        generator = generator_of(style, seed)
        scene = KitchenScene(simulator)
        self.skills = KitchenSkills(scene, chosen, generator)
        super().__init__(scene, KitchenTracker(scene), chosen, generator, lambda: plan(self.skills))


def plan_of(task: str) -> Callable[[KitchenSkills], Commands]:
    """Raises ValueError for a task without a plan."""
    if task not in PLANS:
        raise ValueError(f"task {task!r} has no demonstrator; there are demonstrators for {', '.join(PLANS)}")
    return PLANS[task]
