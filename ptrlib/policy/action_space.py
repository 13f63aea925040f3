"""The unified action space (Section 3): 200 slots, each with one meaning for every robot.

A robot uses the slots of its own motor components and leaves the rest at zero, so that the same
component lies in the same dimension whatever the embodiment. The slots are those that Being-H0.5
publishes; the robots are those of Sections 5.1 and 5.4 (Table 2), those of our Tabletop, and one's own
that a configuration describes (``data.action_slots``).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptrlib.config import BasePolicyConfig, DataConfig

UNIFIED_DIM = BasePolicyConfig.action_dim

SLOTS: dict[str, tuple[int, int]] = {  # name -> [start, end)
    "eef_position": (0, 3),
    "eef_rotation": (3, 6),
    "left_eef_position": (9, 12),
    "left_eef_rotation": (12, 15),
    "gripper": (18, 19),
    "left_gripper": (19, 20),
    "dexhand": (20, 26),
    "left_dexhand": (32, 38),
    "gripper_qpos": (44, 46),  # state only
    "arm_joints": (50, 57),
    "left_arm_joints": (57, 64),
    "head": (64, 66),
    "waist": (66, 69),
    "base_position": (70, 73),  # state only; shares its slots with base_motion
    "base_motion": (70, 74),  # action only
    "control_mode": (74, 75),
}


def slots(*names: str) -> tuple[int, ...]:
    """Indices of the named groups, in the order given."""
    return tuple(index for name in names for index in range(*SLOTS[name]))


def slots_of(groups: Sequence[str]) -> tuple[int, ...]:
    """Indices of groups as a configuration names them: ``"arm_joints"`` whole, ``"arm_joints:5"`` its first five.

    Raises ValueError for a group that is none of SLOTS, or a number of slots that it does not have.
    """
    found: list[int] = []
    for group in groups:
        name, colon, number = group.partition(":")
        if name not in SLOTS:
            near = difflib.get_close_matches(name, SLOTS, n=1, cutoff=0.0)[0]
            raise ValueError(f"{name!r} is no group of slots; the nearest is {near!r} (of {', '.join(SLOTS)})")
        own = slots(name)
        if colon and not (number.isdecimal() and 1 <= int(number) <= len(own)):
            raise ValueError(f"{group!r} must name 1 to {len(own)} slots of {name!r}, such as '{name}:1'")
        found += own[:int(number)] if colon else own
    return tuple(found)


@dataclass(frozen=True)
class Embodiment:
    """A robot: where each dimension of its raw state and raw action lies among the 200 slots.

    Raises ValueError if two dimensions of either lie in one slot, where one would overwrite the other, or one in none.
    """

    name: str
    state_slots: tuple[int, ...]  # raw state dimension i lies in unified slot state_slots[i]
    action_slots: tuple[int, ...]

    def __post_init__(self) -> None:
        for which, used in (("action_slots", self.action_slots), ("state_slots", self.state_slots)):
            outside = sorted({slot for slot in used if not 0 <= slot < UNIFIED_DIM})
            if outside:
                raise ValueError(f"{which} of {self.name!r} names the slots {outside}; choose among 0 to "
                                 f"{UNIFIED_DIM - 1}")
            repeated = sorted({slot for slot in used if used.count(slot) > 1})
            if repeated:
                raise ValueError(f"{which} of {self.name!r} names the slots {repeated} more than once; give every "
                                 "dimension a slot of its own")

    @property
    def state_mask(self) -> NDArray[np.bool_]:
        """(200,) True in the slots that the state uses."""
        return _mask(self.state_slots)

    @property
    def action_mask(self) -> NDArray[np.bool_]:
        """(200,) True in the slots that the action uses."""
        return _mask(self.action_slots)

    def to_unified_state(self, raw: NDArray) -> NDArray:
        """(..., raw state dimension) -> (..., 200), zero in unused slots."""
        return _to_unified(raw, self.state_slots, f"state of {self.name!r}")

    def to_unified_action(self, raw: NDArray) -> NDArray:
        """(..., raw action dimension) -> (..., 200), zero in unused slots."""
        return _to_unified(raw, self.action_slots, f"action of {self.name!r}")

    def from_unified_action(self, unified: NDArray) -> NDArray:
        """(..., 200) -> (..., raw action dimension), the inverse of :meth:`to_unified_action`."""
        if unified.shape[-1] != UNIFIED_DIM:
            raise ValueError(f"a unified action of {self.name!r} has {UNIFIED_DIM} slots, got an array of shape "
                             f"{unified.shape}")
        return unified[..., list(self.action_slots)]


def _mask(used: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(UNIFIED_DIM, dtype=bool)
    mask[list(used)] = True
    return mask


def _to_unified(raw: NDArray, used: tuple[int, ...], what: str) -> NDArray:
    if raw.shape[-1] != len(used):
        raise ValueError(f"the {what} has {len(used)} dimensions, got an array of shape {raw.shape}")
    unified = np.zeros((*raw.shape[:-1], UNIFIED_DIM), dtype=raw.dtype)
    unified[..., list(used)] = raw
    return unified


_BIMANUAL = slots("arm_joints", "left_arm_joints", "dexhand", "left_dexhand")
_ADAM_U = slots("waist", "head") + _BIMANUAL
_FR3 = slots("arm_joints", "dexhand")
_PLANE, _FINGERS = slots("eef_position")[:2], slots("gripper_qpos")[:1]  # Tabletop is planar
_JOINTS, _GRIPPER = slots("arm_joints"), slots("gripper")

EMBODIMENTS: dict[str, Embodiment] = {
    embodiment.name: embodiment
    for embodiment in (
        Embodiment("libero", slots("eef_position", "eef_rotation", "gripper_qpos"),
                   slots("eef_position", "eef_rotation", "gripper")),
        Embodiment("robocasa", slots("eef_position", "eef_rotation", "gripper_qpos", "base_position"),
                   slots("eef_position", "eef_rotation", "gripper", "base_motion", "control_mode")),
        Embodiment("g1", _BIMANUAL, _BIMANUAL),  # 26: arms 7 x 2, hands 6 x 2
        Embodiment("adam_u", _ADAM_U, _ADAM_U),  # 31: waist 3, head 2, then as g1
        Embodiment("fr3", _FR3, _FR3),  # 13: arm 7, hand 6
        Embodiment("tabletop_gantry", _PLANE + _FINGERS, _PLANE + _GRIPPER),
        Embodiment("tabletop_two_link", _JOINTS[:2] + _FINGERS, _JOINTS[:2] + _GRIPPER),
        Embodiment("tabletop_three_link", _JOINTS[:3] + _FINGERS, _JOINTS[:3] + _GRIPPER),
    )
}
BUILT_IN = frozenset(EMBODIMENTS)  # all but those that configurations describe
DESCRIBE = "or describe it: data.embodiment=NAME data.action_slots='[arm_joints:5, gripper]'"  # in error messages


def described(data: DataConfig) -> Embodiment | None:
    """The robot that a configuration describes under the name ``data.embodiment``, or None if it describes none.

    Raises:
        ValueError: the description is no robot's, or the name is that of another robot.
    """
    if not (data.action_slots or data.state_slots):
        return None
    used = {}
    for key, groups in (("data.action_slots", data.action_slots), ("data.state_slots", data.state_slots)):
        try:
            used[key] = slots_of(groups)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    action, state = used["data.action_slots"], used["data.state_slots"]
    if not action:
        raise ValueError("data.state_slots describes a robot without actions; give data.action_slots too")
    robot = Embodiment(data.embodiment, state or action, action)
    if EMBODIMENTS.get(robot.name, robot) != robot:
        raise ValueError(f"data.embodiment = {robot.name!r} is the name of a robot with other slots; give yours a name "
                         "of its own, or leave out data.action_slots and data.state_slots")
    return robot


def make_known(data: DataConfig) -> None:
    """Enter the robot that a configuration describes, if it does, into EMBODIMENTS. Raises ValueError as
    :func:`described`."""
    if robot := described(data):
        EMBODIMENTS[robot.name] = robot
