"""Small files in the layouts of RoboCasa's official demonstrations, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.data.lerobot_files import write_lerobot

CAMERAS = ("observation.images.robot0_eye_in_hand", "observation.images.robot0_agentview_left",
           "observation.images.robot0_agentview_right")
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


def write_robocasa_hdf5(path: Path, observations: Mapping[str, NDArray], actions: NDArray, langs: Sequence[str], *,
                        next_obs: bool = False, env_name: str = "PnPCounterToCab") -> Path:
    """Demos as RoboCasa's ``dataset_states_to_obs.py`` writes them, one for each of ``langs``, all as long;
    ``mask/30_demos`` names the first.

    With ``next_obs``, what its option ``--include_next_obs`` adds, the last of a demo's observations is in it, and the
    action of that moment nowhere.
    """
    rows = len(actions) // len(langs)
    with h5py.File(path, "w") as handle:
        data = handle.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": env_name, "type": 1, "env_kwargs": {"robots": "PandaMobile"}})
        for number, lang in enumerate(langs):
            part = slice(number * rows, (number + 1) * rows)
            demo = data.create_group(f"demo_{number + 1}")
            demo.attrs["ep_meta"] = json.dumps({"lang": lang, "layout_id": 3})
            demo["actions"] = actions[part][:-1] if next_obs else actions[part]
            seen = {key: values[part] for key, values in observations.items()} | _unread_observations(rows)
            for key, values in seen.items():
                demo[f"obs/{key}"] = values[:-1] if next_obs else values
                if next_obs:
                    demo[f"next_obs/{key}"] = values[1:]
        handle["mask/30_demos"] = np.array([b"demo_1"])
    return path


def _unread_observations(rows: int) -> dict[str, NDArray]:
    """Pictures, each as bright as its camera's and its own number say, and what is not the robot's state."""
    pictures = {f"robot0_{camera}_image": np.broadcast_to(
        np.arange(rows, dtype=np.uint8)[:, None, None, None] + np.uint8(50 * number), (rows, 8, 8, 3))
        for number, camera in enumerate(("agentview_left", "agentview_right", "eye_in_hand"))}
    return {"robot0_eef_pos": np.full((rows, 3), 99.0),  # in the world, which is not the state
            "robot0_eef_quat": np.tile([0.0, 0, 0, 1], (rows, 1)), "object": np.zeros((rows, 14)), **pictures}


def lerobot_columns(observations: Mapping[str, NDArray], actions: NDArray) -> tuple[NDArray, NDArray]:
    """(n, 16) state and (n, 12) action in the order of RoboCasa's LeRobot data sets."""
    state = np.concatenate([observations[key] for key in (
        "robot0_base_pos", "robot0_base_quat", "robot0_base_to_eef_pos", "robot0_base_to_eef_quat",
        "robot0_gripper_qpos")], axis=1)
    return state, np.concatenate([actions[:, 7:11], actions[:, 11:], actions[:, :6], actions[:, 6:7]], axis=1)


def write_robocasa_lerobot(root: Path, observations: Mapping[str, NDArray], actions: NDArray, version: str = "v2.1", *,
                           modality: bool = True, langs: Sequence[str] = ("Close the left drawer.",),
                           task: str = "CloseDrawer") -> Path:
    """Episodes as RoboCasa's ``convert_hdf5_lerobot.py`` writes them, as long as each other, one for each of ``langs``,
    which differ.

    Images are videos of its camera order, codec, pixels and quality; the task's name comes after the instructions.
    """
    state, reordered = lerobot_columns(observations, actions)
    write_lerobot(root, version, lengths=[len(actions) // len(langs)] * len(langs), state=state, actions=reordered,
                  cameras=CAMERAS, video=True, size=32, tasks=langs, names=[task],
                  encoding={"pixels": "yuv420p", "quality": "23"},
                  extra={"annotation.human.task_description": [[index] for index in range(len(langs))],
                         "annotation.human.task_name": [[len(langs)]] * len(langs),
                         "next.reward": [[0.0]] * len(langs), "next.done": [[False]] * len(langs)},
                  info={"robot_type": "PandaOmron"})
    if modality:
        (root / "meta/modality.json").write_text(json.dumps(MODALITY))
    return root
