"""Five small rooms in RoboCasa's own layout format.

A room is one or two runs of furniture along its walls. A run is described from left to right, as seen by a robot
that faces it: floor units (which carry one counter, interrupted by the stove) and wall units above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ptrlib.simulators.robocasa_kitchen.appliances import MICROWAVE_SIZE, STOVE_SIZE

COUNTER_DEPTH, COUNTER_HEIGHT, UNIT_DEPTH, UNIT_HEIGHT, PLINTH = 0.65, 0.92, 0.60, 0.84, 0.05
WALL_UNIT_DEPTH, WALL_UNIT_HEIGHT, WALL_UNIT_BOTTOM = 0.38, 0.80, 1.40
CEILING, WALL_THICKNESS = 2.6, 0.02
HALF_PI = 1.5707963
LEFT_WALL, BACK_WALL, RIGHT_WALL = "left", "back", "right"

Unit = tuple[str, float]  # what, width in metres


@dataclass(frozen=True)
class Run:
    """Furniture along one wall, ``start`` metres from that wall's left end."""

    wall: str
    start: float
    floor: tuple[Unit, ...]  # "drawers", "doors", "sink", "stove"
    above: tuple[Unit, ...]  # "single_left", "single_right", "double", "microwave", "gap"
    coffee: float | None = None  # where along the run the coffee machine stands

    @property
    def length(self) -> float:
        """In metres."""
        return sum(width for _, width in self.floor)


@dataclass(frozen=True)
class Room:
    """A floor of width (along x) by depth (along -y), the back wall at y = 0."""

    name: str
    width: float
    depth: float
    runs: tuple[Run, ...]


ROOMS = (
    Room("one_wall", 5.1, 3.2, (
        Run(BACK_WALL, 0.15,
            (("drawers", 0.5), ("doors", 0.75), ("sink", 1.1), ("drawers", 0.5), ("stove", 0.76), ("doors", 1.1)),
            (("single_left", 0.5), ("double", 0.8), ("gap", 1.05), ("double", 0.5), ("gap", 0.96), ("microwave", 0.52),
             ("single_right", 0.38)), coffee=0.45),)),
    Room("one_wall_reversed", 5.1, 3.2, (
        Run(BACK_WALL, 0.15,
            (("doors", 1.1), ("stove", 0.76), ("drawers", 0.5), ("sink", 1.1), ("doors", 0.75), ("drawers", 0.5)),
            (("single_left", 0.45), ("microwave", 0.52), ("gap", 0.89), ("double", 0.5), ("gap", 1.05),
             ("double", 0.8), ("single_right", 0.5)), coffee=4.20),)),
    Room("corner_right", 4.2, 3.9, (
        Run(BACK_WALL, 0.0,
            (("drawers", 0.55), ("sink", 1.2), ("drawers", 0.5), ("stove", 0.76), ("doors", 1.19)),
            (("double", 0.7), ("gap", 0.95), ("single_left", 0.45), ("gap", 0.96), ("double", 0.74))),
        Run(RIGHT_WALL, 0.65,
            (("doors", 1.2), ("drawers", 0.55), ("doors", 0.65)),
            (("gap", 0.55), ("microwave", 0.52), ("single_right", 0.5), ("double", 0.7)), coffee=2.05))),
    Room("corner_left", 4.2, 3.9, (
        Run(BACK_WALL, 0.0,
            (("doors", 1.19), ("stove", 0.76), ("drawers", 0.5), ("sink", 1.2), ("drawers", 0.55)),
            (("gap", 0.60), ("double", 0.5), ("gap", 0.94), ("single_right", 0.45), ("gap", 0.95),
             ("double", 0.7))),
        Run(LEFT_WALL, 0.5,
            (("doors", 0.65), ("drawers", 0.55), ("doors", 1.2)),
            (("double", 0.7), ("single_left", 0.5), ("microwave", 0.52)), coffee=0.35))),
    Room("two_walls", 4.4, 3.6, (
        Run(LEFT_WALL, 0.3,
            (("drawers", 0.55), ("doors", 0.7), ("sink", 1.2), ("drawers", 0.5)),
            (("double", 0.75), ("single_right", 0.45), ("gap", 0.90), ("double", 0.8)), coffee=0.70),
        Run(RIGHT_WALL, 0.3,
            (("drawers", 0.5), ("doors", 0.7), ("stove", 0.76), ("doors", 0.95)),
            (("double", 0.7), ("single_left", 0.42), ("gap", 0.92), ("microwave", 0.52))))),
)


def files() -> dict[str, bytes]:
    """Path below the asset root -> content; room k has the layout number k, counted from 1."""
    return {f"scenes/kitchen_layouts/test/layout{number:03d}.yaml":
            yaml.safe_dump(layout(room), sort_keys=False).encode() for number, room in enumerate(ROOMS, start=1)}


def layout(room: Room) -> dict[str, Any]:
    """The room as the library's scene builder reads it."""
    groups: dict[str, Any] = {"room": {"walls": list(_walls(room)), "floor": [_floor(room)]}}
    for run in room.runs:
        groups[f"{run.wall}_group"] = {**_placing(room, run), **_furniture(run)}
    return groups


def _placing(room: Room, run: Run) -> dict[str, Any]:
    """Rotation and position of a run that is written as if it stood at the back wall from x = 0."""
    turn = {BACK_WALL: 0.0, RIGHT_WALL: -HALF_PI, LEFT_WALL: HALF_PI}[run.wall]
    corner = {BACK_WALL: [run.start, 0.0], RIGHT_WALL: [room.width, -run.start],
              LEFT_WALL: [0.0, -room.depth + run.start]}[run.wall]
    return {"group_origin": [0.0, 0.0], "group_pos": corner, "group_z_rot": turn}


def _furniture(run: Run) -> dict[str, list[dict[str, Any]]]:
    counters = list(_counters(run))
    return {"counters": [fixture for counter in counters for fixture in counter],
            "stoves": list(_stoves(run)), "floor_units": list(_floor_units(run)),
            "wall_units": list(_wall_units(run)), "on_counter": list(_coffee_machine(run))}


def _spans(units: Sequence[Unit]) -> list[tuple[str, float, float]]:
    """(what, left, right) of each unit."""
    spans, left = [], 0.0
    for what, width in units:
        spans.append((what, left, left + width))
        left += width
    return spans


def _counter_spans(run: Run) -> list[list[tuple[str, float, float]]]:
    """The floor units under each counter: the stove, as high as a counter, separates two."""
    groups: list[list[tuple[str, float, float]]] = [[]]
    for span in _spans(run.floor):
        if span[0] == "stove":
            groups.append([])
        else:
            groups[-1].append(span)
    return [group for group in groups if group]


def _counters(run: Run) -> Any:
    for number, spans in enumerate(_counter_spans(run), start=1):
        left, right = spans[0][1], spans[-1][2]
        counter = {"name": f"counter_{number}", "type": "counter",
                   "size": [_mm(right - left), COUNTER_DEPTH, COUNTER_HEIGHT],
                   "pos": [_mm((left + right) / 2), -COUNTER_DEPTH / 2, COUNTER_HEIGHT / 2]}
        sinks = [(start + stop) / 2 for what, start, stop in spans if what == "sink"]
        if sinks:
            share = (sinks[0] - left) / (right - left)
            yield [{"name": "sink", "type": "sink"},
                   {**counter, "interior_obj": "sink", "obj_x_percent": _mm(share), "obj_y_percent": 0.5}]
        else:
            yield [counter]


def _stoves(run: Run) -> Any:
    for what, left, right in _spans(run.floor):
        if what == "stove":
            yield {"name": "stove", "type": "stove", "size": list(STOVE_SIZE),
                   "pos": [_mm((left + right) / 2), -STOVE_SIZE[1] / 2, STOVE_SIZE[2] / 2]}


def _floor_units(run: Run) -> Any:
    for number, (what, left, right) in enumerate(_spans(run.floor), start=1):
        if what == "stove":
            continue
        # Only drawers move; the other fronts are panels, which cost the physics nothing.
        levels, shares = (["drawer", "drawer", "drawer"], [0.38, 0.34, 0.28]) if what == "drawers" else (
            [["panel_cabinet", "panel_cabinet"]], [1.0])
        yield {"name": f"stack_{number}", "type": "stack", "levels": levels, "percentages": shares,
               "size": [_mm(right - left), UNIT_DEPTH, UNIT_HEIGHT],
               "pos": [_mm((left + right) / 2), -UNIT_DEPTH / 2, PLINTH + UNIT_HEIGHT / 2]}


def _wall_units(run: Run) -> Any:
    for number, (what, left, right) in enumerate(_spans(run.above), start=1):
        middle = _mm((left + right) / 2)
        if what == "microwave":
            yield {"name": "microwave", "type": "microwave", "size": list(MICROWAVE_SIZE),
                   "pos": [middle, -MICROWAVE_SIZE[1] / 2, WALL_UNIT_BOTTOM + MICROWAVE_SIZE[2] / 2]}
            height = WALL_UNIT_HEIGHT - MICROWAVE_SIZE[2]
            yield {"name": f"above_microwave_{number}", "type": "panel_cabinet",
                   "size": [_mm(right - left), WALL_UNIT_DEPTH, _mm(height)],
                   "pos": [middle, -WALL_UNIT_DEPTH / 2, _mm(WALL_UNIT_BOTTOM + WALL_UNIT_HEIGHT - height / 2)]}
        elif what != "gap":
            single = what.startswith("single")
            yield {"name": f"cab_{number}", "type": "single_cabinet" if single else "hinge_cabinet",
                   **({"orientation": what.removeprefix("single_")} if single else {}),
                   "num_levels": 1,  # between the library's two shelves the hand could not point down
                   "size": [_mm(right - left), WALL_UNIT_DEPTH, WALL_UNIT_HEIGHT],
                   "pos": [middle, -WALL_UNIT_DEPTH / 2, WALL_UNIT_BOTTOM + WALL_UNIT_HEIGHT / 2]}


def _coffee_machine(run: Run) -> Any:
    if run.coffee is None:
        return
    for number, spans in enumerate(_counter_spans(run), start=1):
        left, right = spans[0][1], spans[-1][2]
        if left <= run.coffee <= right:
            # the library places it: against the wall, some centimetres to either side of the given place
            share = (run.coffee - left) / (right - left) * 2 - 1
            yield {"name": "coffee_machine", "type": "coffee_machine",
                   "placement": {"fixture": f"counter_{number}_{run.wall}_group", "size": [0.40, 0.36],
                                 "pos": [_mm(share), 1.0], "rotation": [0.0, 0.0]}}


def _walls(room: Room) -> Any:
    half_width, half_depth, half_height = room.width / 2, room.depth / 2, CEILING / 2
    sides: dict[str, tuple[float, list[float]]] = {
        BACK_WALL: (half_width, [half_width, 0.0, half_height]),
        LEFT_WALL: (half_depth, [0.0, -half_depth, half_height]),
        RIGHT_WALL: (half_depth, [room.width, -half_depth, half_height])}
    for side, (half, pos) in sides.items():
        yield {"name": "wall" if side == BACK_WALL else f"wall_{side}", "type": "wall", "wall_side": side,
               "size": [_mm(half), half_height, WALL_THICKNESS], "pos": [_mm(length) for length in pos]}


def _floor(room: Room) -> dict[str, Any]:
    return {"name": "floor", "type": "floor", "size": [_mm(room.width / 2), _mm(room.depth / 2), WALL_THICKNESS],
            "pos": [_mm(room.width / 2), _mm(-room.depth / 2), 0.0]}


def _mm(length: float) -> float:
    """Rounded to a tenth of a millimetre: the same text on every machine."""
    return round(length, 4)
