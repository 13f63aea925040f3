"""RoboCasa's official demonstrations in the order that our simulator observes and acts in.

State (11,): end-effector position 3 and axis-angle 3 in the frame of the mobile base, finger positions 2, base
position 3 in the world. Action (12,): end-effector position 3 and rotation 3, gripper, base velocity 3, torso, mode.

*HDF5* (v0.1 and v0.2 of the data): actions have this order already; what the state is made of lies in ``obs`` under
the names of :data:`HDF5_KEYS`. *LeRobot* (v1.0, "RoboCasa365"): the same numbers in another order, whose parts
``meta/modality.json`` names; :data:`STATE_PARTS` and :data:`ACTION_PARTS` are that order for copies that lost the
file, as LeRobot's own conversion from v2.1 to v3.0 loses it. One data set is one task there, with an instruction of
its own for every episode; the task's name is an instruction more, which ``annotation.human.task_name`` points at.

Tasks have had other names since v0.2; an episode's is the paper's, which is v0.1's, in either layout
(:func:`task_of`).

Read from: robocasa/robocasa ``robocasa/utils/lerobot_utils.py`` (both orders, and which key becomes which part),
``robocasa/scripts/dataset_scripts/convert_hdf5_lerobot.py`` (columns, cameras, tasks),
``robocasa/models/assets/groot_dataset_assets/PandaOmron_modality.json``, ``robocasa/wrappers/gym_wrapper.py`` (below
0.5 the gripper is open and the arm moves) and ``robocasa/utils/robomimic/robomimic_env_wrapper.py`` (images in files
are upright); issue 24 there, where an author gives the order of v0.1's actions; ARISE-Initiative/robosuite
``robosuite/robots/mobile_robot.py`` (what the observables are; x, y, z, w quaternions of the hand, not of the site);
huggingface/lerobot ``src/lerobot/envs/robocasa.py`` (the same order without modality.json). No official file was at
hand: that v0.1's files have these keys is known from public code that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

EMBODIMENT = "robocasa"
ROBOT = "PandaOmron"  # robot_type in meta/info.json
TASK_NAME = "annotation.human.task_name"  # column of a LeRobot data set

Parts = Mapping[str, slice]  # name -> columns

STATE_PARTS: Parts = {
    "base_position": slice(0, 3), "base_rotation": slice(3, 7), "end_effector_position_relative": slice(7, 10),
    "end_effector_rotation_relative": slice(10, 14), "gripper_qpos": slice(14, 16)}
ACTION_PARTS: Parts = {
    "base_motion": slice(0, 4), "control_mode": slice(4, 5), "end_effector_position": slice(5, 8),
    "end_effector_rotation": slice(8, 11), "gripper_close": slice(11, 12)}

STATE_SIZES = {"end_effector_position_relative": 3, "end_effector_rotation_relative": 4, "gripper_qpos": 2,
                "base_position": 3}
ACTION_SIZES = {"end_effector_position": 3, "end_effector_rotation": 3, "gripper_close": 1, "base_motion": 4,
                 "control_mode": 1}
_SWITCHES = ("gripper_close", "control_mode")

HDF5_KEYS = {"end_effector_position_relative": "robot0_base_to_eef_pos",
             "end_effector_rotation_relative": "robot0_base_to_eef_quat",
             "gripper_qpos": "robot0_gripper_qpos", "base_position": "robot0_base_pos"}

TASKS_NOW = {"PickPlaceCounterToCabinet": "PnPCounterToCab", "PickPlaceCabinetToCounter": "PnPCabToCounter",
             "PickPlaceCounterToSink": "PnPCounterToSink", "PickPlaceSinkToCounter": "PnPSinkToCounter",
             "PickPlaceCounterToMicrowave": "PnPCounterToMicrowave",
             "PickPlaceMicrowaveToCounter": "PnPMicrowaveToCounter",
             "PickPlaceCounterToStove": "PnPCounterToStove", "PickPlaceStoveToCounter": "PnPStoveToCounter",
             "StartCoffeeMachine": "CoffeePressButton"}  # name since v0.2 -> the paper's, where they differ
_CABINETS = {"OpenCabinet": "Open", "CloseCabinet": "Close"}
_DOORS = {"door": "SingleDoor", "doors": "DoubleDoor"}


def task_of(name: str, instruction: str) -> str:
    """The paper's name of the task that files call ``name``; the name itself where it is none of the 24.

    OpenCabinet and CloseCabinet are two of the paper's tasks each, and the last word of the instruction tells which.
    """
    door = _DOORS.get(instruction.rstrip(" .").rpartition(" ")[2].lower())
    if name in _CABINETS and door is not None:
        return _CABINETS[name] + door
    return TASKS_NOW.get(name, name)


def state_of(parts: Mapping[str, NDArray]) -> NDArray[np.float64]:
    """(n, 11) from the named parts, (n, size) each; the rotation is a unit quaternion x, y, z, w of either sign."""
    rotation = Rotation.from_quat(parts["end_effector_rotation_relative"]).as_rotvec()
    return np.concatenate([parts["end_effector_position_relative"], rotation, parts["gripper_qpos"],
                           parts["base_position"]], axis=1)


def state_of_lerobot(columns: NDArray, parts: Parts = STATE_PARTS) -> NDArray[np.float64]:
    """(n, 16) as LeRobot files hold it -> (n, 11)."""
    return state_of({name: columns[:, parts[name]] for name in STATE_SIZES})


def action_of_lerobot(columns: NDArray, parts: Parts = ACTION_PARTS) -> NDArray[np.float64]:
    """(n, 12) as LeRobot files hold it -> (n, 12) in the order of the simulator.

    RoboCasa's own environment takes a gripper or mode below 0.5 as -1 and any other as 1: so do we, as some
    conversions write 0 and 1.
    """
    return np.concatenate([np.where(columns[:, parts[name]] < 0.5, -1.0, 1.0) if name in _SWITCHES
                           else columns[:, parts[name]] for name in ACTION_SIZES], axis=1)


def parts_of(modality: Mapping[str, Any]) -> tuple[Parts, Parts] | None:
    """The parts of state and action that a ``meta/modality.json`` names; None if they are not RoboCasa's.

    Raises KeyError or TypeError if a part has no start and end.
    """
    found = []
    for kind, sizes in (("state", STATE_SIZES), ("action", ACTION_SIZES)):
        named = modality.get(kind, {})
        if not sizes.keys() <= named.keys():
            return None
        parts = {name: slice(named[name]["start"], named[name]["end"]) for name in sizes}
        if any(part.stop - part.start != sizes[name] for name, part in parts.items()):
            return None
        found.append(parts)
    return found[0], found[1]
