"""RoboCasa's official layouts, HDF5 and LeRobot, read in the order of our simulator."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ptrlib.data import robocasa
from ptrlib.data.errors import DataError
from ptrlib.data.reading import read_episodes
from ptrlib.policy.action_space import EMBODIMENTS
from tests.data.lerobot_files import write_lerobot
from tests.data.robocasa_files import (
    MODALITY,
    robot_actions,
    robot_observations,
    write_robocasa_hdf5,
    write_robocasa_lerobot,
)

ROWS = 6
SEEN, DONE = robot_observations(ROWS), robot_actions(ROWS)
LANG = "Pick the apple from the counter and place it in the cabinet."


def expected_state() -> np.ndarray:
    turned = Rotation.from_quat(SEEN["robot0_base_to_eef_quat"]).as_rotvec()
    return np.concatenate([SEEN["robot0_base_to_eef_pos"], turned, SEEN["robot0_gripper_qpos"],
                           SEEN["robot0_base_pos"]], axis=1)


def test_hdf5_demonstrations(tmp_path: Path) -> None:
    [episode] = read_episodes(write_robocasa_hdf5(tmp_path / "demo_gentex_im128_randcams.hdf5", SEEN, DONE, LANG),
                              filter_key="30_demos")
    assert (episode.embodiment, episode.task, episode.instruction) == ("robocasa", "PnPCounterToCab", LANG)
    np.testing.assert_allclose(episode.state, expected_state(), rtol=1e-6)
    np.testing.assert_allclose(episode.actions, DONE[:-1], rtol=1e-6)
    assert {camera: int(images[0, 0, 0, 0]) for camera, images in episode.images.items()} == {
        "agentview_left": 0, "agentview_right": 50, "eye_in_hand": 100}


@pytest.mark.parametrize(("version", "modality"), [("v2.1", True), ("v3.0", False)])
def test_lerobot_demonstrations(tmp_path: Path, version: str, modality: bool) -> None:
    [episode] = read_episodes(write_robocasa_lerobot(tmp_path, SEEN, DONE, version, modality=modality))
    assert (episode.embodiment, episode.task) == ("robocasa", "close the drawer")  # the task has a sentence's place
    assert episode.instruction == "open the drawer"
    np.testing.assert_allclose(episode.state, expected_state(), rtol=1e-6)
    np.testing.assert_allclose(episode.actions, DONE[:-1], rtol=1e-6)
    assert list(episode.images) == ["agentview_left", "agentview_right", "eye_in_hand"]
    embodiment = EMBODIMENTS[episode.embodiment]
    assert (episode.state.shape[1], episode.actions.shape[1]) == (
        len(embodiment.state_slots), len(embodiment.action_slots))


def test_a_gripper_and_a_mode_of_0_and_1_become_those_of_the_simulator() -> None:
    columns = np.zeros((2, 12))
    columns[1, [4, 11]] = 1  # control_mode, gripper_close
    np.testing.assert_array_equal(robocasa.action_of_lerobot(columns)[:, [6, 11]], [[-1, -1], [1, 1]])


def test_the_modality_file_says_where_the_parts_lie(tmp_path: Path) -> None:
    write_robocasa_lerobot(tmp_path, SEEN, DONE)
    swapped = json.loads(json.dumps(MODALITY))
    swapped["action"]["end_effector_position"].update(start=8, end=11)
    swapped["action"]["end_effector_rotation"].update(start=5, end=8)
    (tmp_path / "meta/modality.json").write_text(json.dumps(swapped))
    np.testing.assert_allclose(read_episodes(tmp_path)[0].actions[:, :6], DONE[:-1, [3, 4, 5, 0, 1, 2]], rtol=1e-6)


def test_the_modality_file_of_another_robot_changes_nothing(tmp_path: Path) -> None:
    write_lerobot(tmp_path)
    other = {"state": {"arm": {"start": 0, "end": 7}}, "action": {"arm": {"start": 0, "end": 7}}}
    (tmp_path / "meta/modality.json").write_text(json.dumps(other))
    episode = read_episodes(tmp_path)[0]
    assert episode.state.shape == (6, 8) and episode.embodiment == "libero"


def test_broken_files_are_named(tmp_path: Path) -> None:
    root = write_robocasa_lerobot(tmp_path / "lerobot", SEEN, DONE)
    (root / "meta/modality.json").write_text(json.dumps(MODALITY | {"state": dict.fromkeys(MODALITY["state"], 3)}))
    with pytest.raises(DataError, match=r"modality\.json does not say where each part starts and ends; download"):
        read_episodes(root)
    with pytest.raises(DataError, match=r"observation\.state has 8 columns where RoboCasa's have 16; say in meta"):
        read_episodes(write_lerobot(tmp_path / "narrow", info={"robot_type": "PandaOmron"}))
    zero = SEEN | {"robot0_base_to_eef_quat": np.zeros((ROWS, 4))}
    with pytest.raises(DataError, match=r"episode_000000/observation\.state holds no rotation"):
        read_episodes(write_robocasa_lerobot(tmp_path / "zero", zero, DONE))
    file = write_robocasa_hdf5(tmp_path / "demo.hdf5", SEEN, DONE, LANG)
    with h5py.File(file, "r+") as handle:
        del handle["data/demo_1/obs/robot0_base_pos"]
    with pytest.raises(DataError, match=r"demo\.hdf5: demo_1/obs/robot0_base_pos is missing"):
        read_episodes(file)
