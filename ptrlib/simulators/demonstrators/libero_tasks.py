"""From the BDDL goal of a LIBERO task to the skills that reach it."""

from __future__ import annotations

from ptrlib.simulators.demonstrators.skills import Commands, Skills

# How each kind of object is held, and how deep under its top (metres).
RIM_DEPTH = {"akita_black_bowl": 0.026}


def kind_of(name: str) -> str:
    """``akita_black_bowl_1`` -> ``akita_black_bowl``."""
    return name.rsplit("_", 1)[0]


def solve(skills: Skills) -> Commands:
    """Commands that make every goal hold, in an order that keeps the earlier ones."""
    for goal in skills.scene.goals:
        if not skills.scene.holds(goal):
            yield from achieve(skills, goal)


def achieve(skills: Skills, goal: list[str]) -> Commands:
    _, name, target = goal
    scene = skills.scene
    yield from skills.pick(name, "rim", RIM_DEPTH[kind_of(name)])
    yield from skills.place(name, lambda: scene.position(target) + [0, 0, 0.005], scene.owner(target))
