"""Small files in the layouts of RoboCasa's official demonstrations, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.data.lerobot_files import TASKS, write_lerobot

CAMERAS = ("observation.images.robot0_agentview_left", "observation.images.robot0_agentview_right",
           "observation.images.robot0_eye_in_hand")
MODALITY = {
    "state": {"base_position": {"original_key": "observation.state", "start": 0, "end": 3},
              "base_rotation": {"original_key": "observation.state", "start": 3, "end": 7},
              "end_effector_position_relative": {"original_key": "observation.state", "start": 7, "end": 10},
              "end_effector_rotation_relative": {"original_key": "observation.state", "start": 10, "end": 14},
              "gripper_qpos": {"original_key": "observation.state", "start": 14, "end": 16}},
    "action": {"base_motion": {"original_key": "action", "start": 0, "end": 4},
               "control_mode": {"original_key": "action", "start": 4, "end": 5},
               "end_effector_position": {"original_key": "action", "start": 5, "end": 8},
               "end_effector_rotation": {"original_key": "action", "start": 8, "end": 11},
               "gripper_close": {"original_key": "action", "start": 11, "end": 12}}}


def robot_observations(rows: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """The library's observables of ``rows`` moments, by their names; quaternions of either sign."""
    generator = np.random.default_rng(seed)
    rotations = Rotation.random(rows, random_state=seed).as_quat()
    return {"robot0_base_to_eef_pos": generator.normal(size=(rows, 3)),
            "robot0_base_to_eef_quat": rotations * generator.choice([-1, 1], (rows, 1)),
            "robot0_gripper_qpos": generator.uniform(0, 0.04, (rows, 2)),
            "robot0_base_pos": generator.normal(size=(rows, 3)),
            "robot0_base_quat": Rotation.random(rows, random_state=seed + 1).as_quat()}


def robot_actions(rows: int, seed: int = 0) -> NDArray[np.float64]:
    """(rows, 12) in the order of the simulator and of HDF5 files: arm 6, gripper, base 3, torso, mode."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (rows, 12))
    actions[:, [6, 11]] = np.sign(actions[:, [6, 11]])
    return actions


def write_robocasa_hdf5(path: Path, observations: Mapping[str, NDArray], actions: NDArray, lang: str) -> Path:
    """One demo as RoboCasa 0.1's ``dataset_states_to_obs.py`` writes it, without next_obs."""
    rows = len(actions)
    with h5py.File(path, "w") as handle:
        data = handle.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "PnPCounterToCab", "type": 1, "env_kwargs": {
            "robots": "PandaMobile"}})
        demo = data.create_group("demo_1")
        demo.attrs["ep_meta"] = json.dumps({"lang": lang, "layout_id": 3})
        demo["actions"] = actions
        for key, values in observations.items():
            demo[f"obs/{key}"] = values
        demo["obs/robot0_eef_pos"] = np.full((rows, 3), 99.0)  # in the world, which is not the state
        demo["obs/robot0_eef_quat"] = np.tile([0.0, 0, 0, 1], (rows, 1))
        demo["obs/object"] = np.zeros((rows, 14))
        for number, camera in enumerate(("agentview_left", "agentview_right", "eye_in_hand")):
            demo[f"obs/robot0_{camera}_image"] = np.full((rows, 8, 8, 3), 50 * number, np.uint8)
        handle["mask/30_demos"] = np.array([b"demo_1"])
    return path


def lerobot_columns(observations: Mapping[str, NDArray], actions: NDArray) -> tuple[NDArray, NDArray]:
    """(n, 16) state and (n, 12) action in the order of RoboCasa's LeRobot data sets."""
    state = np.concatenate([observations[key] for key in (
        "robot0_base_pos", "robot0_base_quat", "robot0_base_to_eef_pos", "robot0_base_to_eef_quat",
        "robot0_gripper_qpos")], axis=1)
    return state, np.concatenate([actions[:, 7:11], actions[:, 11:], actions[:, :6], actions[:, 6:7]], axis=1)


def write_robocasa_lerobot(root: Path, observations: Mapping[str, NDArray], actions: NDArray, version: str = "v2.1", *,
                           modality: bool = True) -> Path:
    """One episode as RoboCasa's ``convert_hdf5_lerobot.py`` writes it, images in the table instead of videos."""
    state, reordered = lerobot_columns(observations, actions)
    write_lerobot(root, version, lengths=[len(actions)], state=state, actions=reordered, cameras=CAMERAS,
                  extra={"annotation.human.task_name": [[1]], "annotation.human.task_description": [[0]]},
                  info={"robot_type": "PandaOmron"})
    if modality:
        (root / "meta/modality.json").write_text(json.dumps(MODALITY))
    assert TASKS[1] == "close the drawer"  # what task_name 1 points at
    return root
