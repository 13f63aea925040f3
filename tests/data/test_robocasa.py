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
from ptrlib.simulators.robocasa import TASKS
from tests.data.lerobot_files import picture, write_lerobot
from tests.data.robocasa_files import (
    MODALITY,
    robot_actions,
    robot_observations,
    write_robocasa_hdf5,
    write_robocasa_lerobot,
)

ROWS, DEMOS = 6, 2
SEEN, DONE = robot_observations(ROWS * DEMOS), robot_actions(ROWS * DEMOS)
LANGS = ("Pick the apple from the counter and place it in the cabinet.",
         "Pick the jam from the counter and place it in the cabinet.")
FIRST, SECOND = slice(0, ROWS), slice(ROWS, 2 * ROWS)


def expected_state(part: slice) -> np.ndarray:
    turned = Rotation.from_quat(SEEN["robot0_base_to_eef_quat"]).as_rotvec()
    return np.concatenate([SEEN["robot0_base_to_eef_pos"], turned, SEEN["robot0_gripper_qpos"],
                           SEEN["robot0_base_pos"]], axis=1)[part]


@pytest.mark.parametrize("next_obs", [False, True])
@pytest.mark.parametrize("env_name", ["PnPCounterToCab", "PickPlaceCounterToCabinet"])  # of v0.1 and since
def test_hdf5_demonstrations(tmp_path: Path, next_obs: bool, env_name: str) -> None:
    file = write_robocasa_hdf5(tmp_path / "demo_gentex_im128_randcams.hdf5", SEEN, DONE, LANGS, next_obs=next_obs,
                               env_name=env_name)
    episodes = read_episodes(file)
    for episode, lang, part in zip(episodes, LANGS, (FIRST, SECOND), strict=True):
        assert (episode.embodiment, episode.task, episode.instruction) == ("robocasa", "PnPCounterToCab", lang)
        np.testing.assert_allclose(episode.state, expected_state(part), rtol=1e-6)
        np.testing.assert_allclose(episode.actions, DONE[part][:-1], rtol=1e-6)
        for camera, first in {"agentview_left": 0, "agentview_right": 50, "eye_in_hand": 100}.items():
            assert episode.images[camera][:, 0, 0, 0].tolist() == list(range(first, first + ROWS))
    assert [episode.name for episode in read_episodes(file, filter_key="30_demos")] == [episodes[0].name]


@pytest.mark.parametrize(("version", "modality"), [("v2.1", True), ("v3.0", False)])
def test_lerobot_demonstrations(tmp_path: Path, version: str, modality: bool) -> None:
    episodes = read_episodes(write_robocasa_lerobot(tmp_path, SEEN, DONE, version, modality=modality, langs=LANGS,
                                                    task="PickPlaceCounterToCabinet"))
    embodiment = EMBODIMENTS["robocasa"]
    for number, (episode, lang, part) in enumerate(zip(episodes, LANGS, (FIRST, SECOND), strict=True)):
        assert (episode.embodiment, episode.task, episode.instruction) == ("robocasa", "PnPCounterToCab", lang)
        np.testing.assert_allclose(episode.state, expected_state(part), rtol=1e-6)
        np.testing.assert_allclose(episode.actions, DONE[part][:-1], rtol=1e-6)
        assert (episode.state.shape[1], episode.actions.shape[1]) == (
            len(embodiment.state_slots), len(embodiment.action_slots))
        assert list(episode.images) == ["agentview_left", "agentview_right", "eye_in_hand"]
        for camera, place in (("eye_in_hand", 0), ("agentview_left", 1), ("agentview_right", 2)):
            expected = [picture(number, frame, place, 1)[0, 0] for frame in range(ROWS)]
            np.testing.assert_allclose(episode.images[camera].mean(axis=(1, 2)), expected, atol=3)  # half a step of 8


def test_a_task_has_the_papers_name_whatever_the_files_call_it() -> None:
    for task in TASKS:
        assert robocasa.task_of(task.environment, task.instruction) == task.name
        assert robocasa.task_of(task.name, task.instruction) == task.name
    assert robocasa.task_of("OpenCabinet", "Open the cabinet doors.") == "OpenDoubleDoor"
    assert robocasa.task_of("OpenCabinet", "demo") == "OpenCabinet"  # which of the two is not told
    assert robocasa.task_of("OpenFridge", "Open the fridge door.") == "OpenFridge"  # none of the paper's


def test_one_data_set_of_cabinets_is_two_of_the_papers_tasks(tmp_path: Path) -> None:
    doors = ("Open the cabinet doors.", "Open the cabinet door.")
    for path in (write_robocasa_lerobot(tmp_path / "lerobot", SEEN, DONE, langs=doors, task="OpenCabinet"),
                 write_robocasa_hdf5(tmp_path / "demo.hdf5", SEEN, DONE, doors, env_name="OpenCabinet")):
        assert [episode.task for episode in read_episodes(path)] == ["OpenDoubleDoor", "OpenSingleDoor"]


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
    zero = SEEN | {"robot0_base_to_eef_quat": np.zeros((ROWS * DEMOS, 4))}
    with pytest.raises(DataError, match=r"episode_000000/observation\.state holds no rotation"):
        read_episodes(write_robocasa_lerobot(tmp_path / "zero", zero, DONE))
    file = write_robocasa_hdf5(tmp_path / "demo.hdf5", SEEN, DONE, LANGS)
    with h5py.File(file, "r+") as handle:
        del handle["data/demo_1/obs/robot0_base_pos"]
    with pytest.raises(DataError, match=r"demo\.hdf5: demo_1/obs/robot0_base_pos is missing"):
        read_episodes(file)
