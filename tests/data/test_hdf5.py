"""Files: round trips, both upstream layouts, and one clear sentence for each way a file can be broken."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptrlib.data.episodes import Episode
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import EpisodeWriter, axis_angle_of, recorded_in, write_episodes
from ptrlib.data.reading import read_episodes
from tests.factories import tiny_episode, tiny_episodes


def assert_same(one: Episode, other: Episode) -> None:
    for key in ("instruction", "embodiment", "task", "source", "operator", "success", "seed"):
        assert getattr(one, key) == getattr(other, key), key
    for key in ("state", "actions", "simulator_states"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key), err_msg=key)
    for key in ("images", "truth", "extra"):
        assert getattr(one, key).keys() == getattr(other, key).keys()
        for name, values in getattr(one, key).items():
            np.testing.assert_array_equal(values, getattr(other, key)[name], err_msg=name)
            assert values.dtype == getattr(other, key)[name].dtype


# --------------------------------------------------------------------------------------- round trips


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), steps=st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_written_and_read_is_the_same(tmp_path: Path, seed: int, steps: list[int]) -> None:
    rng = np.random.default_rng(seed)
    episodes = [tiny_episode(rng, length, size=4, seed=number) for number, length in enumerate(steps)]
    episodes[0].truth["label_noise"] = np.arange(steps[0]) % 2 == 0
    episodes[-1].success = False
    write_episodes(tmp_path / "bowl_demo.hdf5", episodes)
    read = read_episodes(tmp_path / "bowl_demo.hdf5")
    assert len(read) == len(episodes)
    for one, other in zip(episodes, read, strict=True):
        assert_same(one, other)


def test_a_robot_with_another_state_survives_the_file(tmp_path: Path) -> None:
    episode = tiny_episode(np.random.default_rng(0), steps=4)
    episode.state = np.arange(5 * 13, dtype=np.float32).reshape(5, 13)
    episode.actions, episode.embodiment = np.ones((4, 13), np.float32), "fr3"
    write_episodes(tmp_path / "a.hdf5", [episode])
    assert_same(episode, read_episodes(tmp_path / "a.hdf5")[0])


def test_a_folder_is_read_file_by_file_and_limited_per_file(tmp_path: Path) -> None:
    episodes = tiny_episodes(6, steps=5, size=4)
    write_episodes(tmp_path / "a_demo.hdf5", episodes[:3])
    write_episodes(tmp_path / "b_demo.hdf5", episodes[3:])
    (tmp_path / "notes.txt").write_text("not data")
    assert [episode.seed for episode in read_episodes(tmp_path, limit_per_file=2)] == [0, 1, 3, 4]


def test_cameras_and_image_size_are_chosen_while_reading(tmp_path: Path) -> None:
    episode = tiny_episode(np.random.default_rng(0), steps=3, size=8)
    write_episodes(tmp_path / "a.hdf5", [episode])
    read = read_episodes(tmp_path / "a.hdf5", image_size=4, cameras=["eye_in_hand"])[0]
    assert list(read.images) == ["eye_in_hand"]
    blocks = episode.images["eye_in_hand"].reshape(4, 4, 2, 4, 2, 3).mean((2, 4))
    assert np.abs(read.images["eye_in_hand"] - blocks).max() <= 0.5
    assert read_episodes(tmp_path / "a.hdf5", cameras=())[0].images == {}


def test_a_view_is_the_camera_of_several_names_that_a_file_has(tmp_path: Path) -> None:
    first, second = (tiny_episode(np.random.default_rng(seed), steps=3, size=4) for seed in (0, 1))
    second.images = {"agentview_left": second.images["agentview"], "agentview_right": second.images["eye_in_hand"]}
    write_episodes(tmp_path / "a.hdf5", [first])
    write_episodes(tmp_path / "b.hdf5", [second])
    view = "agentview|agentview_left"  # as LIBERO and RoboCasa call what stands before the robot
    read = read_episodes(tmp_path, cameras=[view])
    for episode, original in zip(read, (first.images["agentview"], second.images["agentview_left"]), strict=True):
        assert list(episode.images) == [view]
        np.testing.assert_array_equal(episode.images[view], original)
    with pytest.raises(DataError, match=r"b.hdf5: .*/eye_in_hand_rgb is missing; ask for cameras among \['agentview_l"):
        read_episodes(tmp_path, cameras=[view, "eye_in_hand"])


def test_more_than_ten_demos_keep_their_order(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.hdf5", tiny_episodes(12, steps=4, size=4))
    assert [episode.seed for episode in read_episodes(tmp_path / "a.hdf5")] == list(range(12))


# ------------------------------------------------------------------------------------ upstream layouts


def upstream_libero_file(path: Path, rows: int = 6) -> None:
    """As LIBERO's create_dataset.py replays a demonstration: step with actions[j], then record obs[j]."""
    with h5py.File(path, "w") as handle:
        data = handle.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": ["open", "the", "drawer"]})
        gripper, ee, view, before = [], [], [], []
        actions = np.array([[j / 10] * 6 + [-1] for j in range(rows)])
        for clock in range(1, rows + 1):  # 0 before the first action
            before.append([clock - 1.0])
            gripper.append([clock, clock])
            ee.append([clock] * 6)
            image = np.zeros((4, 4, 3), np.uint8)
            image[-1] = clock  # OpenGL: the last row of the file is the top of the picture
            view.append(image)
        demo = data.create_group("demo_0")
        demo["actions"], demo["states"] = actions, np.array(before)
        demo["robot_states"] = np.zeros((rows, 9))
        for key, values in (("gripper_states", gripper), ("ee_states", ee), ("agentview_rgb", view)):
            demo[f"obs/{key}"] = np.array(values, dtype=np.uint8 if key == "agentview_rgb" else float)


def test_upstream_libero_files_are_shifted_and_turned_upright(tmp_path: Path) -> None:
    upstream_libero_file(tmp_path / "KITCHEN_open_the_drawer_demo.hdf5")
    episode = read_episodes(tmp_path)[0]
    assert (episode.task, episode.instruction) == ("KITCHEN_open_the_drawer", "open the drawer")
    assert (episode.operator, episode.seed, episode.success) == ("", -1, True)
    assert len(episode) == 5 and len(episode.state) == 6 and episode.first_row == 1
    # the robot is at clock t + 1 before in-memory action t, which is the file's action t + 1
    np.testing.assert_array_equal(episode.state[:, 0], [1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(episode.actions[:, 0], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(episode.simulator_states[:5, 0], [1, 2, 3, 4, 5])
    assert np.isnan(episode.simulator_states[5]).all()
    np.testing.assert_array_equal(episode.images["agentview"][:, 0, 0, 0], [1, 2, 3, 4, 5, 6])
    assert episode.images["agentview"][:, 1:].max() == 0


def test_what_we_write_has_upstreams_layout(tmp_path: Path) -> None:
    episode = tiny_episode(np.random.default_rng(0), steps=5, size=4)
    write_episodes(tmp_path / "a.hdf5", [episode], {"env_args": {"env_name": "x"}})
    with h5py.File(tmp_path / "a.hdf5") as handle:
        data, demo = handle["data"], handle["data/demo_0"]
        assert {"env_name", "problem_info", "bddl_file_name", "bddl_file_content", "env_args", "num_demos",
                "total", "macros_image_convention"} <= set(data.attrs)
        assert (data.attrs["num_demos"], data.attrs["total"], demo.attrs["num_samples"]) == (1, 6, 6)
        assert json.loads(data.attrs["problem_info"])["language_instruction"] == episode.instruction
        assert json.loads(data.attrs["env_args"]) == {"env_name": "x"}
        shapes = {"actions": (6, 7), "states": (6, 11), "robot_states": (6, 9), "rewards": (6,),
                  "dones": (6,)}
        assert {key: demo[key].shape for key in shapes} == shapes
        assert {key: values.shape[1:] for key, values in demo["obs"].items()} == {
            "agentview_rgb": (4, 4, 3), "eye_in_hand_rgb": (4, 4, 3), "gripper_states": (2,),
            "joint_states": (7,), "ee_states": (6,), "ee_pos": (3,), "ee_ori": (3,)}
        np.testing.assert_array_equal(demo["actions"][0], [0, 0, 0, 0, 0, 0, -1])
        np.testing.assert_array_equal(demo["obs/agentview_rgb"][0], episode.images["agentview"][0, ::-1])
        np.testing.assert_array_equal(demo["states"][3], episode.simulator_states[2])  # before actions[3]
        np.testing.assert_array_equal(demo["dones"][:], [0, 0, 0, 0, 0, 1])
        np.testing.assert_array_equal(demo.attrs["init_state"], episode.simulator_states[0])


def test_liberos_keys_with_the_observation_before_its_action_are_read_as_the_attribute_says(tmp_path: Path) -> None:
    path = tmp_path / "anew_demo.hdf5"
    upstream_libero_file(path)
    with h5py.File(path, "r+") as handle:
        handle["data"].attrs["observed"] = "before"
    episode = read_episodes(path)[0]
    assert len(episode) == 5 and len(episode.state) == 6 and episode.first_row == 0
    np.testing.assert_array_equal(episode.state[:, 0], [1, 2, 3, 4, 5, 6])  # the last has no action that is kept
    np.testing.assert_allclose(episode.actions[:, 0], [0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-7)
    np.testing.assert_array_equal(episode.images["agentview"][:, 0, 0, 0], [1, 2, 3, 4, 5, 6])  # turned upright still
    assert episode.task == "anew" and not episode.extra
    with h5py.File(path, "r+") as handle:
        handle["data"].attrs["observed"] = "after"
    with pytest.raises(DataError, match=r"data.attrs\[observed\] is 'after'; write 'before' if .*, or delete the attr"):
        read_episodes(path)


def test_the_state_of_two_arms_is_that_of_both(tmp_path: Path) -> None:
    path = tmp_path / "transport.hdf5"
    robomimic_file(path, next_obs=True)
    with h5py.File(path, "r+") as handle:
        for demo in handle["data"].values():
            for group in ("obs", "next_obs"):
                for key in ("eef_pos", "eef_quat", "gripper_qpos"):
                    demo[f"{group}/robot1_{key}"] = demo[f"{group}/robot0_{key}"][()] + (10 * (key == "eef_pos"))
    episode = read_episodes(path)[0]
    assert episode.state.shape == (5, 16) and not episode.extra
    np.testing.assert_array_equal(episode.state[:, 8] - episode.state[:, 0], 10)
    np.testing.assert_array_equal(episode.state[:, 11:], episode.state[:, 3:8])


def test_two_cameras_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    robomimic_file(path, next_obs=False)
    with h5py.File(path, "r+") as handle:
        handle["data/demo_0/obs/eye_in_hand_image"] = handle["data/demo_0/obs/agentview_image"][()]
    with pytest.raises(DataError, match="obs/robot0_eye_in_hand_image and eye_in_hand_image are both the camera "
                       "'eye_in_hand'; give one of them another name"):
        read_episodes(path)


def robomimic_file(path: Path, *, next_obs: bool) -> None:
    with h5py.File(path, "w") as handle:
        env_args = {"env_name": "Lift", "lang": "lift the cube"}
        handle.create_group("data").attrs["env_args"] = json.dumps(env_args)
        for name in ("demo_0", "demo_1"):
            demo = handle["data"].create_group(name)
            demo["actions"] = np.arange(4 * 7, dtype=float).reshape(4, 7)
            for group, first in (("obs", 0), ("next_obs", 1)) if next_obs else (("obs", 0),):
                clock = np.arange(first, first + 4)
                demo[f"{group}/robot0_eef_pos"] = np.repeat(clock[:, None], 3, 1).astype(float)
                demo[f"{group}/robot0_eef_quat"] = np.tile([0, 0, np.sin(0.25), np.cos(0.25)], (4, 1))
                demo[f"{group}/robot0_gripper_qpos"] = np.zeros((4, 2))
                images = np.zeros((4, 6, 6, 3), np.uint8)
                images[:, 0] = clock[:, None, None]
                demo[f"{group}/agentview_image"] = images
                demo[f"{group}/robot0_eye_in_hand_image"] = images
        handle["mask/good"] = np.array([b"demo_1"])


@pytest.mark.parametrize("next_obs", [True, False])
def test_robomimic_files(tmp_path: Path, next_obs: bool) -> None:
    robomimic_file(tmp_path / "lift.hdf5", next_obs=next_obs)
    episode = read_episodes(tmp_path / "lift.hdf5")[0]
    steps = 4 if next_obs else 3
    assert episode.instruction == "lift the cube" and set(episode.images) == {"agentview", "eye_in_hand"}
    assert len(episode) == steps and episode.first_row == 0
    np.testing.assert_array_equal(episode.state[:, 0], np.arange(steps + 1))
    np.testing.assert_array_equal(episode.images["eye_in_hand"][:, 0, 0, 0], np.arange(steps + 1))
    np.testing.assert_array_equal(episode.actions[:, 0], 7 * np.arange(steps))
    np.testing.assert_allclose(episode.state[0, 3:6], [0, 0, 0.5], rtol=1e-6)


def own_file(path: Path, state: dict[str, int], convention: str = "", groups: tuple[str, ...] = ("obs", "next_obs")
             ) -> None:
    """Cameras called as LIBERO's, white above and black below in the file; obs[j] before actions[j] with next_obs."""
    with h5py.File(path, "w") as handle:
        data = handle.create_group("data")
        if convention:
            data.attrs["macros_image_convention"] = convention
        demo = data.create_group("demo_0")
        demo["actions"] = np.repeat(np.arange(5.0)[:, None], 7, 1)
        for group in groups:
            clock = np.arange(5.0) + (group == "next_obs")
            for key, size in state.items():
                demo[f"{group}/{key}"] = np.repeat(clock[:, None], size, 1)
            demo[f"{group}/front_rgb"] = np.repeat([[[[255] * 3] * 4] * 2 + [[[0] * 3] * 4] * 2], 5, 0).astype(np.uint8)


@pytest.mark.parametrize("state", [{"state": 8}, {"ee_states": 6, "gripper_states": 2},
                                   {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}])
def test_next_obs_is_robomimics_timing_whatever_the_cameras_are_called(tmp_path: Path, state: dict[str, int]) -> None:
    own_file(tmp_path / "own.hdf5", state)
    episode = read_episodes(tmp_path)[0]
    assert len(episode) == 5 and episode.first_row == 0 and list(episode.images) == ["front"]
    np.testing.assert_array_equal(episode.actions[:, 0], np.arange(5))
    np.testing.assert_array_equal(episode.state[:, 0], np.arange(6))
    assert (episode.images["front"][:, :2] == 255).all() and (episode.images["front"][:, 2:] == 0).all()


@pytest.mark.parametrize(("groups", "convention", "upright"), [
    (("obs", "next_obs"), "", True), (("obs", "next_obs"), "opencv", True), (("obs", "next_obs"), "opengl", False),
    (("obs",), "", False), (("obs",), "opencv", True), (("obs",), "opengl", False)])
def test_images_lie_as_the_file_says(tmp_path: Path, groups: tuple[str, ...], convention: str, upright: bool) -> None:
    own_file(tmp_path / "own.hdf5", {"state": 8}, convention, groups)
    images = read_episodes(tmp_path)[0].images["front"]
    assert (images[:, :2] == (255 if upright else 0)).all() and (images[:, 2:] == (0 if upright else 255)).all()


@pytest.mark.parametrize(("groups", "key"), [(("obs", "next_obs"), "robot0_eef_pos"), (("obs",), "ee_states")])
def test_a_file_without_a_state_is_told_which_key_any_robot_s_may_have(tmp_path: Path, groups: tuple[str, ...],
                                                                      key: str) -> None:
    own_file(tmp_path / "own.hdf5", {"joint_positions": 7}, groups=groups)
    with pytest.raises(DataError, match=f"demo_0/obs/{key} is missing; .* such as its joints, as obs/state"):
        read_episodes(tmp_path)


@pytest.mark.parametrize(("env_name", "words"), [
    ("PickPlaceCan", "pick place can"), ("Lift", "lift"), ("Coffee_D0", "coffee d0")])
def test_a_robomimic_file_without_instruction_is_named_by_its_environment(tmp_path: Path, env_name: str, words: str
                                                                         ) -> None:
    file = tmp_path / "image_v141.hdf5"  # as the files of all of robomimic's tasks are called
    robomimic_file(file, next_obs=False)
    assert {(episode.task, episode.instruction) for episode in read_episodes(file)} == {
        ("image_v141", "lift the cube")}  # with one, it is as it was
    with h5py.File(file, "r+") as handle:
        handle["data"].attrs["env_args"] = json.dumps({"env_name": env_name, "type": 1})
        handle["data/demo_0"].attrs["ep_meta"] = "{}"  # robosuite 1.5 writes it
        handle["data/demo_1"].attrs["ep_meta"] = json.dumps({"lang": "take the can"})
    first, second = read_episodes(file)
    assert (first.task, first.instruction, first.source) == (env_name, words, "image_v141")
    assert (second.task, second.instruction) == ("image_v141", "take the can")
    with h5py.File(file, "r+") as handle:
        del handle["data"].attrs["env_args"], handle["data/demo_0"].attrs["ep_meta"]
    first = read_episodes(file)[0]
    assert (first.task, first.instruction) == ("image_v141", "image v141")


def test_files_that_share_their_environment_are_tasks_by_their_names(tmp_path: Path) -> None:
    for name, env_args in (("pick_cup", {"env_name": "FrankaRealWorld"}), ("lift", {"env_name": "Lift"}),
                           ("open_drawer_demo", {"env_name": "FrankaRealWorld"}), ("old", {}), ("older", {}),
                           ("wipe", {"env_name": "FrankaRealWorld", "lang": "wipe the table"})):
        robomimic_file(tmp_path / f"{name}.hdf5", next_obs=True)
        with h5py.File(tmp_path / f"{name}.hdf5", "r+") as handle:
            handle["data"].attrs["env_args"] = json.dumps(env_args)
    wanted = {("pick_cup", "pick cup"), ("Lift", "lift"), ("open_drawer", "open drawer"), ("old", "old"),
              ("older", "older"), ("wipe", "wipe the table")}
    assert {(episode.task, episode.instruction) for episode in read_episodes(tmp_path)} == wanted
    alone = read_episodes(tmp_path / "pick_cup.hdf5")[0]
    assert (alone.task, alone.instruction) == ("FrankaRealWorld", "franka real world")


def spoil(demo: h5py.Group) -> None:
    """Tables beside those that are needed, some of them as only others would use them."""
    rows = len(demo["actions"])
    for group in ("obs", "next_obs") if "next_obs" in demo else ("obs",):
        demo[f"{group}/force_torque"] = np.full((rows, 6), np.nan)
        demo[f"{group}/grasped"] = np.zeros((rows, 1), bool)
        demo[f"{group}/names"] = np.full((rows, 1), b"cube")
        demo[f"{group}/long"] = np.zeros((rows + 1, 2))
        demo[f"{group}/sound"] = np.ones((rows, 2))
        demo.create_group(f"{group}/more")["deep"] = np.zeros((rows, 2))
    demo["obs/object"] = np.zeros((rows, 3))
    if "next_obs" in demo:
        demo["obs/wider"], demo["next_obs/wider"] = np.zeros((rows, 2)), np.zeros((rows, 3))


def test_tables_that_training_never_reads_are_left_out_where_they_are_broken(tmp_path: Path) -> None:
    robomimic_file(tmp_path / "lift.hdf5", next_obs=True)
    upstream_libero_file(tmp_path / "open_demo.hdf5")
    for name, kept in (("lift.hdf5", {"sound"}), ("open_demo.hdf5", {"sound", "object"})):
        with h5py.File(tmp_path / name, "r+") as handle:
            spoil(handle["data/demo_0"])
            if "robot_states" in handle["data/demo_0"]:
                handle["data/demo_0/robot_states"][2] = np.nan
        assert read_episodes(tmp_path / name)[0].extra.keys() == kept


def test_filter_keys_select(tmp_path: Path) -> None:
    file = tmp_path / "lift.hdf5"
    robomimic_file(file, next_obs=False)
    assert [episode.name for episode in read_episodes(file, filter_key="good")] == ["demo_1"]
    with h5py.File(file, "r+") as handle:
        handle["mask/best"] = np.array([b"demo_0", b"demo_7"])
    with pytest.raises(DataError, match="demo_7 is listed but not there; copy or record the file again"):
        read_episodes(file, filter_key="best")
    assert [episode.name for episode in read_episodes(file, filter_key="best", limit_per_file=1)] == ["demo_0"]
    with pytest.raises(DataError, match=r"mask/worst does not exist .*'best', 'good'.*choose"):
        read_episodes(file, filter_key="worst")


def test_axis_angle_agrees_with_rotation_of_vectors() -> None:
    angle = np.array([0.0, 1e-9, 0.3, 3.0, 3.5])
    axis = np.array([1.0, 2.0, -2.0]) / 3
    quaternion = np.concatenate([np.sin(angle / 2)[:, None] * axis, np.cos(angle / 2)[:, None]], axis=1)
    np.testing.assert_allclose(axis_angle_of(quaternion), angle[:, None] * axis, atol=1e-7)


# --------------------------------------------------------------------------------- recording, interrupted


def test_an_interrupted_recording_is_taken_up_again(tmp_path: Path) -> None:
    path, episodes = tmp_path / "deep" / "a_demo.hdf5", tiny_episodes(3, steps=4, size=4)
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, {}) as writer:
        writer.append(episodes[0])
        raise KeyboardInterrupt
    assert not path.exists()
    with EpisodeWriter(path, {"env_name": "libero"}) as writer:
        assert writer.recorded == [(0, "precise")] and len(writer) == 1
        writer.append(episodes[1])
        writer.append(episodes[2], {"model_file": "<mujoco/>"})
    assert [episode.seed for episode in read_episodes(path)] == [0, 1, 2]
    assert [entry.name for entry in path.parent.iterdir()] == ["a_demo.hdf5"]
    with h5py.File(path) as handle:
        assert handle["data/demo_2"].attrs["model_file"] == "<mujoco/>"


def test_a_finished_file_is_taken_up_and_stays_whole_until_it_is_replaced(tmp_path: Path) -> None:
    path, episodes = tmp_path / "a_demo.hdf5", tiny_episodes(3, steps=4, size=4)
    with EpisodeWriter(path, {}) as writer:
        writer.take_up()  # nothing there yet
        for episode in episodes[:2]:
            writer.append(episode)
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, {}) as writer:
        writer.take_up()
        writer.append(episodes[2])
        raise KeyboardInterrupt
    assert [episode.seed for episode in read_episodes(path)] == [0, 1]
    with EpisodeWriter(path, {"env_name": "libero"}) as writer:
        writer.take_up()
        assert [seed for seed, _ in writer.recorded] == [0, 1, 2]
    whole = read_episodes(path)
    assert [episode.seed for episode in whole] == [0, 1, 2]
    for episode, expected in zip(whole, episodes, strict=True):
        np.testing.assert_array_equal(episode.actions, expected.actions)
        np.testing.assert_array_equal(episode.images["agentview"], expected.images["agentview"])


def test_two_recordings_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a_demo.hdf5"
    with EpisodeWriter(path, {}) as writer:
        writer.append(tiny_episodes(1, steps=4, size=4)[0])
        with pytest.raises(DataError, match="recorded by another process"):
            EpisodeWriter(path, {})
    EpisodeWriter(path, {}).close()  # free again


def test_an_interrupted_recording_goes_on_with_its_own_settings_alone(tmp_path: Path) -> None:
    path, episodes = tmp_path / "a_demo.hdf5", tiny_episodes(3, steps=4, size=4)
    settings = {"seed": 0, "styles": ["precise"]}
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, {}, settings={"seed": 3}) as writer:
        raise KeyboardInterrupt  # nothing was recorded: others may begin
    for number in (0, 1):
        with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, {}, settings=settings) as writer:
            assert len(writer) == number
            writer.append(episodes[number])
            raise KeyboardInterrupt
    for other, told in (({"seed": 1, "styles": ["precise"]}, "seed 0 instead of 1"),
                        ({"seed": 0, "styles": ["slow"]}, r"styles \['precise'\] instead of \['slow'\]")):
        for _ in range(2):  # a refusal holds no lock and changes nothing
            with pytest.raises(DataError, match=rf"a_demo\.hdf5 was begun with {told}; delete the \.partial folder "
                                                rf"{path}\.partial to begin anew, or go on with those settings\.$"):
                EpisodeWriter(path, {}, settings=other)
    with EpisodeWriter(path, {}, settings=settings) as writer:
        assert len(writer) == 2
    assert [episode.seed for episode in read_episodes(path)] == [0, 1] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("noted", [None, "{cut"])
def test_a_recording_that_was_begun_without_noting_its_settings_is_refused(tmp_path: Path, noted: str | None) -> None:
    path = tmp_path / "a_demo.hdf5"
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, {}) as writer:  # as older versions began it
        writer.append(tiny_episodes(1, steps=4, size=4)[0])
        (writer.partial / "settings.json").unlink(missing_ok=True)
        if noted is not None:
            (writer.partial / "settings.json").write_text(noted)
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r"was begun with settings not noted; delete the \.partial folder .* anew\.$"):
        EpisodeWriter(path, {}, settings={"seed": 0})


def _record_until_killed(path: Path) -> None:
    writer = EpisodeWriter(path, {})
    first, second = tiny_episodes(2, steps=4, size=4)
    writer.append(first)
    # killed in the middle of writing the second: the images are a generator that never comes back
    second.images["agentview"] = _Kill(second.images["agentview"])
    writer.append(second)


class _Kill:
    """Images whose reading kills the process, after the demo's file has been opened and begun."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, _: object) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return self.images


def test_a_demo_half_written_when_the_process_is_killed_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    process = multiprocessing.get_context("spawn").Process(target=_record_until_killed, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert any(entry.suffix == ".tmp" for entry in (tmp_path / "a.hdf5.partial").iterdir())
    with EpisodeWriter(path, {}) as writer:
        assert writer.recorded == [(0, "precise")]
    assert len(read_episodes(path)) == 1


def test_a_recording_without_episodes_leaves_no_file(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path / "a.hdf5", {}).close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no episodes to write"):
        write_episodes(tmp_path / "a.hdf5", [])


def test_a_file_that_is_refused_leaves_nothing_and_one_that_is_written_keeps_nothing_older(tmp_path: Path) -> None:
    path, episodes = tmp_path / "a.hdf5", tiny_episodes(3, steps=4, size=4)
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(path, {}) as writer:
        writer.append(episodes[2])
        raise KeyboardInterrupt
    write_episodes(path, episodes[:2])
    assert [episode.seed for episode in read_episodes(path)] == [0, 1]
    for refused in ([], [episodes[0], dataclasses.replace(episodes[1], state=episodes[1].state[1:])]):
        with pytest.raises(ValueError, match=r"no episodes to write|state has"):
            write_episodes(path, refused)
    assert list(tmp_path.iterdir()) == [path] and len(read_episodes(path)) == 2


def test_a_file_that_cannot_be_joined_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(EpisodeWriter, "_join", full)
    with pytest.raises(OSError, match="no space left"):
        write_episodes(tmp_path / "a.hdf5", tiny_episodes(1, steps=4, size=4))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_being_recorded_is_not_written_over(tmp_path: Path) -> None:
    path, episodes = tmp_path / "a.hdf5", tiny_episodes(2, steps=4, size=4)
    with EpisodeWriter(path, {}) as writer:
        writer.append(episodes[0])
        with pytest.raises(DataError, match="recorded by another process"):
            write_episodes(path, episodes[1:])
    assert [episode.seed for episode in read_episodes(path)] == [0]


def test_compression_changes_nothing_but_the_size(tmp_path: Path) -> None:
    episode = tiny_episode(np.random.default_rng(0), steps=20, size=16)
    for images in episode.images.values():
        images[:] = 7
    with EpisodeWriter(tmp_path / "a.hdf5", {}, compression="gzip") as writer:
        writer.append(episode)
    assert_same(episode, read_episodes(tmp_path / "a.hdf5")[0])
    assert (tmp_path / "a.hdf5").stat().st_size < 2 * 20 * 16 * 16 * 3


@pytest.mark.parametrize(("change", "message"), [
    (lambda e: e.images.update(agentview=e.images["agentview"][:-1]), r"images\[agentview\] has 5 rows"),
    (lambda e: setattr(e, "state", e.state[:-1]), "state has 5 rows for 5 actions"),
    (lambda e: e.actions.__setitem__((2, 3), np.nan), "actions must be a finite"),
    (lambda e: setattr(e, "actions", e.actions[:0]), "has no actions"),
])
def test_the_writer_refuses_broken_episodes(tmp_path: Path, change: object, message: str) -> None:
    episode = tiny_episode(np.random.default_rng(0), steps=5, size=4)
    change(episode)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        write_episodes(tmp_path / "a.hdf5", [episode])
    assert not (tmp_path / "a.hdf5").exists()


# --------------------------------------------------------------------------------------- broken files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_episodes(tmp_path / "bowl_demo.hdf5", tiny_episodes(3, steps=6, size=8))
    return tmp_path / "bowl_demo.hdf5"


def replace(handle: h5py.File, key: str, values: np.ndarray) -> None:
    del handle[key]
    handle[key] = values


BROKEN = {
    "no data group": (lambda h: h.move("data", "stuff"), "data", "has no group 'data'"),
    "data is a table": (lambda h: (h.__delitem__("data"), h.__setitem__("data", np.zeros(3))), "data",
                        "has no group 'data'"),
    "no demos": (lambda h: (h.__delitem__("data"), h.create_group("data")), "data", "holds no episodes"),
    "no actions": (lambda h: h.__delitem__("data/demo_1/actions"), "demo_1/actions", "is missing"),
    "no obs": (lambda h: h.__delitem__("data/demo_1/obs"), "demo_1/obs",
               "is missing; make observations of a raw file with robomimic's dataset_states_to_obs.py"),
    "no state": (lambda h: h.__delitem__("data/demo_1/obs/ee_states"), "demo_1/obs/ee_states", "is missing"),
    "camera missing": (lambda h: h.__delitem__("data/demo_2/obs/agentview_rgb"), "demo_2/obs/agentview_rgb",
                       "is missing"),
    "no images": (lambda h: [h.__delitem__(f"data/demo_2/obs/{camera}_rgb") for camera in ("agentview", "eye_in_hand")],
                  "demo_2/obs/agentview_rgb", "is missing; name one file with images as data.path"),
    "state too short": (lambda h: replace(h, "data/demo_1/obs/gripper_states", np.zeros((2, 2))),
                        "demo_1/obs/gripper_states", "has 2 rows where actions have"),
    "state too narrow": (lambda h: replace(h, "data/demo_1/obs/ee_states", h["data/demo_1/obs/ee_pos"][()]),
                         "demo_1/obs/ee_states", "has 3 columns instead of 6"),
    "images too short": (lambda h: replace(h, "data/demo_1/obs/agentview_rgb",
                                           h["data/demo_1/obs/agentview_rgb"][:2]),
                         "demo_1/obs/agentview_rgb", "has 2 rows where actions have"),
    "images as floats": (lambda h: replace(h, "data/demo_1/obs/agentview_rgb", np.zeros((7, 8, 8, 3))),
                         "demo_1/obs/agentview_rgb", "must be uint8"),
    "images too small": (lambda h: replace(h, "data/demo_1/obs/agentview_rgb", np.zeros(
        (len(h["data/demo_1/actions"]), 2, 2, 3), np.uint8)), "demo_1/obs/agentview_rgb",
                         "too small for image_size 4"),
    "actions of another kind": (lambda h: replace(h, "data/demo_1/actions", np.zeros((4, 7), bool)), "demo_1/actions",
                                "must be a table of numbers, (rows, dimension), not bool of shape (4, 7)"),
    "flat actions": (lambda h: replace(h, "data/demo_1/actions", np.zeros(7)), "demo_1/actions",
                     "must be a table of numbers"),
    "NaN action": (lambda h: h["data/demo_1/actions"].__setitem__((3, 2), np.nan), "demo_1/actions",
                   "holds NaN or infinity in row 3"),
    "beyond float32": (lambda h: replace(h, "data/demo_1/actions", np.full((len(h["data/demo_1/actions"]), 7), 1e300)),
                       "demo_1/actions", "holds a number beyond float32 in row 0"),
    "empty episode": (lambda h: replace(h, "data/demo_1/actions", np.zeros((0, 7))), "demo_1/actions",
                      "has 0 rows"),
    "one row": (lambda h: replace(h, "data/demo_1/actions", np.zeros((1, 7))), "demo_1/actions",
                "has 1 rows"),
    "bad JSON": (lambda h: h["data"].attrs.__setitem__("problem_info", "{broken"), "data.attrs[problem_info]",
                 "is not JSON"),
    "truth too short": (lambda h: h.__setitem__("data/demo_1/truth/label_noise", np.ones(2, bool)),
                        "demo_1/truth/label_noise", "has shape (2,)"),
}


def test_text_that_was_stored_as_bytes_is_text(file: Path) -> None:
    with h5py.File(file, "r+") as handle:
        for key, value in (("instruction", b"lift the red cube"), ("operator", b"alice"), ("success", "False")):
            handle["data/demo_1"].attrs[key] = np.bytes_(value) if isinstance(value, bytes) else value
    first, second = read_episodes(file)[:2]
    assert (second.instruction, second.operator, second.success) == ("lift the red cube", "alice", False)
    assert first.success
    with h5py.File(file, "r+") as handle:
        handle["data/demo_0"].attrs["success"] = 0.0
    assert not read_episodes(file)[0].success


def test_a_list_that_keeps_nothing_is_named(file: Path) -> None:
    with h5py.File(file, "r+") as handle:
        handle["mask/none"] = np.array([], dtype="S6")
    with pytest.raises(DataError, match=r"mask/none lists no episodes; choose another data\.filter_key\.$"):
        read_episodes(file, filter_key="none")


@pytest.mark.parametrize("case", BROKEN)
def test_broken_content_names_file_demo_key_and_mend(file: Path, case: str) -> None:
    change, place, problem = BROKEN[case]
    with h5py.File(file, "r+") as handle:
        change(handle)
    assert_one_sentence(file, place, problem)


def assert_one_sentence(file: Path, place: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_episodes(file, image_size=4, cameras=["agentview", "eye_in_hand"])
    message = str(caught.value)
    assert message.startswith(f"{file}") and place in message and problem in message
    assert "; " in message and message.endswith(".") and "\n" not in message
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # no h5py traceback


def test_a_filter_key_that_is_no_list_is_one_sentence(file: Path) -> None:
    with h5py.File(file, "r+") as handle:
        handle["mask/best"] = 3
    with pytest.raises(DataError, match=r"bowl_demo\.hdf5 cannot be read \(.*\); copy or record it again"):
        read_episodes(file, filter_key="best")


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda file: file.write_bytes(file.read_bytes()[:300]), "is cut short; copy"),
    (lambda file: replace_data(file, None), "data has no group 'data'; give"),
    (lambda file: replace_data(file, np.zeros(2)), "data has no group 'data'; give"),
    (lambda file: replace_data(file, {}), "demo_0 cannot be copied, to go on from it .*; make room")])
def test_a_finished_file_that_cannot_be_taken_up_is_named(file: Path, change: Callable, sentence: str) -> None:
    change(file)
    with pytest.raises(DataError, match=rf"bowl_demo\.hdf5.*{sentence}"), EpisodeWriter(file, {}) as writer:
        writer.take_up()


def replace_data(file: Path, new: np.ndarray | dict | None) -> None:
    """No 'data', a table of that name, or a group with a demo of another name."""
    with h5py.File(file, "r+") as handle:
        del handle["data"]
        if isinstance(new, np.ndarray):
            handle["data"] = new
        elif new is not None:
            handle.create_group("data/somebody_s")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_file_cut_short(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:int(share * len(content))])
    assert_one_sentence(file, "", "is cut short")


def test_an_empty_file_and_one_that_is_not_hdf5(file: Path) -> None:
    file.write_bytes(b"")
    assert_one_sentence(file, "", "is cut short")
    file.write_text("instruction,action\npick,3\n" * 200)
    assert_one_sentence(file, "", "is not an HDF5 file")


def test_damage_inside_compressed_images(tmp_path: Path) -> None:
    file = tmp_path / "a.hdf5"
    with EpisodeWriter(file, {}, compression="gzip") as writer:
        writer.append(tiny_episode(np.random.default_rng(0), steps=20, size=16))
    with h5py.File(file) as handle:
        start = handle["data/demo_0/obs/agentview_rgb"].id.get_chunk_info(0).byte_offset
    content = bytearray(file.read_bytes())
    content[start:start + 64] = bytes(64)
    file.write_bytes(content)
    assert_one_sentence(file, "demo_0/obs/agentview_rgb", "cannot be read")


def test_files_say_where_they_were_recorded_once_each_and_others_do_not(tmp_path: Path) -> None:
    place = {"world": "robocasa", "assets": "minimal", "kitchen": "robocasa-kitchen-0"}
    for name, told in (("a", place | {"versions": {}}), ("b", place), ("c", {"world": "libero", "layouts": []})):
        write_episodes(tmp_path / f"{name}.hdf5", tiny_episodes(1, 20, 16), {"provenance": json.dumps(told)})
    assert recorded_in(tmp_path) == [place, {"world": "libero"}]
    write_episodes(tmp_path / "own" / "d.hdf5", tiny_episodes(1, 20, 16))
    for name, told in (("e", "in our laboratory"), ("f", "[1]"), ("g", 3)):
        write_episodes(tmp_path / "own" / f"{name}.hdf5", tiny_episodes(1, 20, 16), {"provenance": told})
    assert recorded_in(tmp_path / "own") == []
    replace_data(tmp_path / "own" / "d.hdf5", None)
    with pytest.raises(DataError, match=r"d\.hdf5: data has no group 'data'"):
        recorded_in(tmp_path / "own")


def test_missing_paths_and_folders_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; check the path"):
        read_episodes(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no \.hdf5 or \.h5 file, nor a LeRobot data set; record"):
        read_episodes(tmp_path)
