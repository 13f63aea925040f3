"""Scenes: where everything stands at the start of an episode, drawn from one seed per episode.

Each episode has a generator of its own, so a scene does not depend on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptrlib.simulators.tabletop.robots import MOTORS
from ptrlib.simulators.tabletop.tasks import Task

THINGS = 3  # movable things at most; the handle of the slider is the one after them
ZONES = 2
SPILLS = 2
SPOTS = 4  # of a spill
OBJECT_RADIUS = 0.11
BLOCK_RADIUS = 0.17
ZONE_RADIUS = 0.22
HANDLE_RADIUS = 0.09
SPOT_RADIUS = 0.06
SPOT_SPACING = 0.10
RAIL_LENGTH = 0.70
REGION = 0.74  # centres lie in the square of this half side
AWAY = 9.0  # where things that a table lacks are kept: far out of view and reach
CLEARANCE = 0.03
LAYOUTS = 48  # drawn for each scene; the first without overlap is taken, else the one with least
DISC, SQUARE = 0.0, 0.75  # share of the radius that is straight side; the rest is rounded corner
_SHARE_START = 0.5  # the hand starts in the middle square of this half side


@dataclass
class Scenes:
    """Scenes of B episodes. Positions in table units, angles in radians."""

    hand: NDArray[np.float64]  # (B, 2)
    things: NDArray[np.float64]  # (B, THINGS, 2)
    angle: NDArray[np.float64]  # (B, THINGS)
    radius: NDArray[np.float64]  # (B, THINGS) half the width
    straight: NDArray[np.float64]  # (B, THINGS) half the straight side: 0 for a disc
    graspable: NDArray[np.bool_]  # (B, THINGS + 1), the handle last
    zones: NDArray[np.float64]  # (B, ZONES, 2)
    rail: NDArray[np.float64]  # (B, 2) its black end
    rail_angle: NDArray[np.float64]  # (B,)
    slide: NDArray[np.float64]  # (B,) distance of the handle from the black end
    spills: NDArray[np.float64]  # (B, SPILLS, 2) centres
    spots: NDArray[np.float64]  # (B, SPILLS, SPOTS, 2)
    noise: NDArray[np.float32]  # (steps, B, 3) standard normal, for the motors


def draw_scenes(tasks: Sequence[Task], seeds: Sequence[Sequence[int]], steps: int) -> Scenes:
    """The scene of each task for its seed, a sequence of integers; ``steps`` rows of control noise."""
    drawn = [_draw(task, np.random.default_rng([*seed, task.scene_key]), steps)
             for task, seed in zip(tasks, seeds, strict=True)]
    stacked = {key: np.stack([scene[key] for scene in drawn]) for key in drawn[0]}
    stacked["noise"] = np.ascontiguousarray(stacked["noise"].transpose(1, 0, 2))
    return Scenes(**stacked)


def _draw(task: Task, generator: np.random.Generator, steps: int) -> dict[str, NDArray]:
    table = task.table
    angles = generator.uniform(-np.pi, np.pi, THINGS + 1 + SPILLS)
    square = generator.random(THINGS) < 0.5
    hand = generator.uniform(-_SHARE_START, _SHARE_START, 2)
    sizes = np.array([OBJECT_RADIUS] * len(table.objects) + [BLOCK_RADIUS] * len(table.blocks)
                     + [ZONE_RADIUS] * len(table.zones) + [RAIL_LENGTH / 2 + HANDLE_RADIUS] * table.slider
                     + [SPOT_RADIUS + SPOT_SPACING * (SPOTS - 1) / 2] * len(table.spills))
    places, slide = _place(sizes, generator), _start_of_slide(task, generator)
    # last, as its length is that of the batch's longest task
    noise = generator.standard_normal((steps, MOTORS), dtype=np.float32)

    things, zones = np.full((THINGS, 2), AWAY), np.full((ZONES, 2), AWAY)
    spills, rail = np.full((SPILLS, 2), AWAY), np.full(2, AWAY)
    movable, grounds = len(table.movable), len(table.zones)
    things[:movable], zones[:grounds] = places[:movable], places[movable:movable + grounds]
    direction = np.array([np.cos(angles[THINGS]), np.sin(angles[THINGS])])
    if table.slider:
        rail = places[movable + grounds] - direction * RAIL_LENGTH / 2
    spills[:len(table.spills)] = places[len(places) - len(table.spills):]
    lines = angles[THINGS + 1:, None] * np.ones(SPOTS)
    along = SPOT_SPACING * (np.arange(SPOTS) - (SPOTS - 1) / 2)
    spots = spills[:, None] + along[:, None] * np.stack([np.cos(lines), np.sin(lines)], axis=-1)
    radius = np.full(THINGS, OBJECT_RADIUS)
    radius[len(table.objects):movable] = BLOCK_RADIUS
    graspable = np.append(np.arange(THINGS) < len(table.objects), table.slider)
    return {"hand": hand, "things": things, "angle": angles[:THINGS], "radius": radius,
            "straight": radius * np.where(square, SQUARE, DISC), "graspable": graspable, "zones": zones,
            "rail": rail, "rail_angle": angles[THINGS], "slide": slide,
            "spills": spills, "spots": spots, "noise": noise}


def _place(sizes: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """(n, 2) centres of discs of these radii, inside the region and apart from one another."""
    room = REGION + OBJECT_RADIUS - np.maximum(sizes, OBJECT_RADIUS)
    layouts = generator.uniform(-1, 1, (LAYOUTS, len(sizes), 2)) * room[:, None]
    one, other = np.triu_indices(len(sizes), 1)
    if not len(one):
        return layouts[0]
    gaps = np.linalg.norm(layouts[:, one] - layouts[:, other], axis=-1) - sizes[one] - sizes[other]
    free = np.minimum(gaps.min(axis=1), CLEARANCE)
    return layouts[np.argmax(free)]


def _start_of_slide(task: Task, generator: np.random.Generator) -> NDArray[np.float64]:
    """Where the handle starts: at least a third of the rail from where it is wanted."""
    start = generator.uniform(0, 1)
    wanted = [goal.slide for goal in task.goals if goal.kind == "slide"]
    if wanted and wanted[0] == 0.5:
        start = start / 3 if start < 0.5 else 1 - (1 - start) / 3
    elif wanted:
        start = abs(wanted[0] - (1 / 3 + start * 2 / 3))
    return np.asarray(start * RAIL_LENGTH)
