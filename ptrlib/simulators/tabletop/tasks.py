"""Tabletop's tasks: what stands on the table, what is asked for, and how tasks are grouped into suites.

Tasks of one family share their scenes: all colours stand on every table, so the instruction alone says
which object and which zone are meant, and a wrong instruction (label noise) contradicts what is seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ptrlib.simulators.tabletop.robots import NAMES

EVALUATION_SCENES = 1_000_000  # init states; evaluation uses the first ones
TUNING_SCENES = 100_000  # from this init state on scenes are for tuning, never for a reported number


@dataclass(frozen=True)
class Table:
    """What a family's scenes hold; the names are colours of :data:`ptrlib.simulators.tabletop.raster.COLOURS`."""

    objects: tuple[str, ...] = ()  # small enough to be grasped
    blocks: tuple[str, ...] = ()  # too large to be grasped
    zones: tuple[str, ...] = ()
    spills: tuple[str, ...] = ()
    slider: bool = False

    @property
    def movable(self) -> tuple[str, ...]:
        return (*self.objects, *self.blocks)


@dataclass(frozen=True)
class Goal:
    """One thing to be done."""

    kind: str  # "place" | "push" | "slide" | "wipe"
    item: int = 0  # index among the table's movable things, or its spills
    zone: int = 0
    slide: float = 0.0  # where along the rail the handle must end, in [0, 1]


@dataclass(frozen=True)
class Task:
    """One task for one robot."""

    name: str
    instruction: str
    family: str
    table: Table
    goals: tuple[Goal, ...]  # in the order in which the demonstrators reach them; all must hold at the end
    time_limit: int  # steps
    robot: str = NAMES[0]

    @property
    def scene_key(self) -> int:
        """Names the task in seeds: the same scenes whatever the suite and the robot."""
        return zlib.crc32(self.name.split("@")[0].encode())

    def on(self, robot: str) -> Task:
        """The same task for another robot."""
        return replace(self, name=f"{self.name}@{robot.removeprefix('tabletop_')}", robot=robot)


_OBJECTS, _ZONES = ("red", "green", "blue"), ("yellow", "purple")
_BLOCKS, _SPILLS = ("orange", "cyan"), ("brown", "teal")
_ENDS = {"black": 0.0, "white": 1.0}


def _pick_place() -> Iterator[Task]:
    table = Table(objects=_OBJECTS, zones=_ZONES)
    for item, colour in enumerate(_OBJECTS):
        for zone, ground in enumerate(_ZONES):
            yield Task(f"put_{colour}_in_{ground}", f"put the {colour} object in the {ground} zone", "pick_place",
                       table, (Goal("place", item, zone),), 100)


def _push() -> Iterator[Task]:
    table = Table(blocks=_BLOCKS, zones=_ZONES)
    for item, colour in enumerate(_BLOCKS):
        for zone, ground in enumerate(_ZONES):
            yield Task(f"push_{colour}_to_{ground}", f"push the {colour} block to the {ground} zone", "push",
                       table, (Goal("push", item, zone),), 120)


def _slider() -> Iterator[Task]:
    table = Table(objects=_OBJECTS[:2], slider=True)
    for end, place in _ENDS.items():
        yield Task(f"slide_to_{end}", f"slide the handle to the {end} end", "slider", table,
                   (Goal("slide", slide=place),), 80)
    yield Task("slide_to_middle", "slide the handle to the middle of the rail", "slider", table,
               (Goal("slide", slide=0.5),), 80)


def _wipe() -> Iterator[Task]:
    table = Table(objects=_OBJECTS[:1], spills=_SPILLS)
    for item, colour in enumerate(_SPILLS):
        yield Task(f"wipe_{colour}", f"wipe the {colour} spill", "wipe", table, (Goal("wipe", item),), 90)
    yield Task("wipe_both", "wipe both spills", "wipe", table, (Goal("wipe", 0), Goal("wipe", 1)), 140)


def _sequence() -> Iterator[Task]:
    table = Table(objects=_OBJECTS[:2], zones=_ZONES)
    for first, second in ((0, 1), (1, 0)):
        one, other = _OBJECTS[first], _OBJECTS[second]
        for zone in (0, 1):
            ground, second_ground = _ZONES[zone], _ZONES[1 - zone]
            yield Task(f"put_{one}_in_{ground}_then_{other}_in_{second_ground}",
                       f"put the {one} object in the {ground} zone then the {other} object in the {second_ground} zone",
                       "sequence", table, (Goal("place", first, zone), Goal("place", second, 1 - zone)), 180)
    table = Table(objects=_OBJECTS[:2], zones=_ZONES[:1], slider=True)
    for end, place in _ENDS.items():
        yield Task(f"put_red_in_yellow_then_slide_to_{end}",
                   f"put the red object in the yellow zone then slide the handle to the {end} end", "sequence",
                   table, (Goal("place", 0, 0), Goal("slide", slide=place)), 180)


FAMILIES = {"pick_place": tuple(_pick_place()), "push": tuple(_push()), "slider": tuple(_slider()),
            "wipe": tuple(_wipe()), "sequence": tuple(_sequence())}


def _choose(*names: str) -> tuple[Task, ...]:
    known = {task.name: task for tasks in FAMILIES.values() for task in tasks}
    return tuple(known[name] for name in names)


_EASY = _choose("put_red_in_yellow", "put_red_in_purple", "put_blue_in_yellow", "put_blue_in_purple",
                "slide_to_black", "slide_to_white", "wipe_brown", "wipe_teal")
_HARD = (*FAMILIES["push"], *FAMILIES["sequence"][:4])
_SHARED = _choose("put_red_in_yellow", "put_blue_in_purple", "slide_to_black", "slide_to_white", "wipe_brown",
                  "wipe_teal")  # what specialists and the generalist are compared on
_PER_ROBOT = {name.removeprefix("tabletop_"): tuple(task.on(name) for task in _SHARED) for name in NAMES}

SUITES: dict[str, tuple[Task, ...]] = {
    "easy": _EASY, "hard": _HARD, "standard": (*_EASY, *_HARD), **FAMILIES, **_PER_ROBOT,
    "generalist": tuple(task for tasks in _PER_ROBOT.values() for task in tasks)}


def suite_named(name: str) -> tuple[Task, ...]:
    """The tasks of a suite. Raises ValueError for an unknown one."""
    if name not in SUITES:
        raise ValueError(f"tabletop has no suite {name!r}; choose from {', '.join(SUITES)}")
    return SUITES[name]
