"""Plans for the 14 RoboCasa tasks in which the robot works a fixture: doors, drawers, knobs, levers, buttons."""

from __future__ import annotations

from collections.abc import Callable

from ptrlib.simulators.demonstrators.kitchen_motion import KitchenSkills
from ptrlib.simulators.demonstrators.skills import Commands

PLANS: dict[str, Callable[[KitchenSkills], Commands]] = {}
