"""Somebody's own demonstrations, from ``data.path`` to training data: keys that choose, and sentences for misfits."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from ptrlib import runs
from ptrlib.config import DataConfig, RunConfig, fingerprint, override
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import write_episodes
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.training import load_data, train
from tests.data.lerobot_files import write_lerobot
from tests.factories import tiny_episodes
from tests.test_training import tiny_config

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_command_of_the_readme_is_one() -> None:
    command = re.search(r"^ptrlib train ((?:.*\\\n)*.*)$", README, flags=re.MULTILINE)
    assert command is not None
    config = override(RunConfig(), runs.parse_changes(command.group(1).replace("\\\n", " ").split()))
    runs.check(config)
    optimization = config.ptr.optimization
    assert 0 < optimization.lr_warmup_steps < config.ptr.warmup_steps < optimization.steps / 10


@pytest.mark.parametrize(("robot", "numbers"), [("so100", 6), ("two_so100", 12)])
def test_a_robot_of_ones_own_is_trained_weighed_and_acts_in_processes_of_their_own(robot: str, numbers: int,
                                                                                    tmp_path: Path) -> None:
    """Described in the README's words once; afterwards the run knows it."""
    words = re.search(rf"^data\.embodiment={robot} .*$", README, flags=re.MULTILINE)
    assert words is not None
    moves = np.random.default_rng(0).uniform(-1, 1, (44, numbers)).astype(np.float32)
    write_lerobot(tmp_path / "data", lengths=(22, 22), size=32, state=moves, actions=moves, tasks=("fold",))
    changes = tiny_config(credit="ptr", **{"data.path": str(tmp_path / "data"), "data.held_out_fraction": 0.0,
                                           "ptr.optimization.steps": 2, "ptr.warmup_steps": 1})

    def ptrlib(*arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "ptrlib", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    run = ptrlib("train", *runs.changes_of(changes), *shlex.split(words.group()), "--root", str(tmp_path / "runs"))
    table = pd.read_csv(ptrlib("weights", run, "--out", str(tmp_path / "weights.csv")))
    assert len(table) == 42 and np.isfinite(table.weight).all()
    act = f"""
import numpy as np
from ptrlib.agent import PolicyAgent
from ptrlib.simulators.protocol import Observation
from ptrlib.storage import load_policy
agent, image = PolicyAgent(load_policy({run!r}), execute_steps=8), np.zeros((32, 32, 3), np.uint8)
agent.begin(0, "fold", seed=0)
print(agent.act([(0, Observation({{"top": image, "wrist": image}}, np.zeros({numbers}, np.float32)))])[0].shape)"""
    shape = subprocess.run([sys.executable, "-c", act], capture_output=True, text=True, check=True).stdout
    assert shape.strip() == f"(8, {numbers})"


@pytest.mark.parametrize(("changes", "said"), [
    ({"action_slots": ["arm_joint"]}, r"^data\.action_slots: 'arm_joint' is no group of slots; the nearest is 'arm_jo"),
    ({"action_slots": ["arm_joints:8"]}, r"^data\.action_slots: 'arm_joints:8' must name 1 to 7 slots of 'arm_joints'"),
    ({"action_slots": ["gripper:"]}, r"^data\.action_slots: 'gripper:' must name 1 to 1 slots"),
    ({"action_slots": ["waist", "waist:1"]}, r"^action_slots of 'so100' names the slots \[66\] more than once"),
    ({"state_slots": ["waist"]}, r"^data\.state_slots describes a robot without actions; give data\.action_slots too$"),
    ({"action_slots": ["waist"], "embodiment": "libero"}, r"^data\.embodiment = 'libero' is the name of a robot with "),
])
def test_a_robot_that_is_described_wrongly_is_refused_before_anything_is_read(
        changes: dict[str, object], said: str) -> None:
    config = tiny_config(**{f"data.{key}": value for key, value in ({"embodiment": "so100"} | changes).items()})
    with pytest.raises(ValueError, match=said):
        runs.check(config)
    assert "so100" not in EMBODIMENTS


def test_runs_of_robots_that_are_described_otherwise_have_other_names() -> None:
    names = {fingerprint(override(RunConfig(), {"data.embodiment": "mine", "data.action_slots": [group]}))
             for group in ("waist", "waist:2", "head")}
    assert len(names) == 3


def test_the_agent_of_the_readme_acts(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.hdf5", tiny_episodes(2, 20, 32))
    run = train(tiny_config(**{"data.path": str(tmp_path), "credit": "sft", "data.held_out_fraction": 0.0}),
                root=tmp_path, progress=False)
    code = re.search(r"```python\n([^`]*PolicyAgent\([^`]*)```", README)
    assert code is not None
    image = np.zeros((48, 48, 3), np.uint8)
    names = {"RUN": run, "image": image, "wrist_image": image, "state": np.zeros(8, np.float32)}
    exec(code.group(1), names)
    actions = names["actions"]
    assert isinstance(actions, np.ndarray) and actions.shape == (8, 7)


def test_columns_of_other_names_are_state_and_action(tmp_path: Path) -> None:
    """As openpi's data sets name them."""
    frames = 22
    write_lerobot(tmp_path, lengths=(11, 11), size=32, extra={"state": [[7.0] * 8] * 2, "actions": [[0.5] * 7] * 2})
    config = tiny_config(**{"data.path": str(tmp_path), "data.held_out_fraction": 0.0, "data.state_column": "state",
                            "data.action_column": "actions"})
    episodes = load_data(config).train.episodes
    np.testing.assert_array_equal(np.concatenate([episode.state for episode in episodes]), np.full((frames, 8), 7.0))
    np.testing.assert_array_equal(episodes[1].actions, np.full((10, 7), 0.5))
    for key in ("data.state_column", "data.action_column"):
        assert fingerprint(override(RunConfig(), {key: "state"})) != fingerprint(RunConfig())


def test_columns_are_of_lerobot_datasets_alone(tmp_path: Path) -> None:
    write_episodes(tmp_path / "hdf5" / "a.hdf5", tiny_episodes(2, 12, 32))
    for chosen, named in (({"data.action_column": "moves"}, "data.action_column"),
                          ({"data.state_column": "pose", "data.action_column": "moves"},
                           "data.state_column and data.action_column")):
        with pytest.raises(DataError, match=rf"hdf5 holds HDF5 files, and only the columns .*; leave out {named}\.$"):
            load_data(tiny_config(**{"data.path": str(tmp_path / "hdf5")} | chosen))
    write_lerobot(tmp_path / "lerobot", lengths=(11, 11), size=32, extra={"actions": [[0.5] * 7] * 2})
    both = load_data(tiny_config(**{  # there they are of the one that has columns
        "data.path": str(tmp_path / "hdf5"), "data.further_paths": [str(tmp_path / "lerobot")],
        "data.cameras": ["agentview|top", "eye_in_hand|wrist"], "data.held_out_fraction": 0.0,
        "data.action_column": "actions"})).train.episodes
    assert [(episode.actions == 0.5).all() for episode in both] == [False, False, True, True]


def test_an_episode_that_is_read_twice_is_refused(tmp_path: Path) -> None:
    write_episodes(tmp_path / "cup.hdf5", tiny_episodes(4, 12, 32))
    own = {"data.path": str(tmp_path), "data.held_out_fraction": 0.0}
    with pytest.raises(ValueError, match=r"cup\.hdf5: demo_0 is read 2 times; name its file once in data\.path and "):
        load_data(tiny_config(**own, **{"data.further_paths": [str(tmp_path / "cup.hdf5")]}))
    with h5py.File(tmp_path / "cup.hdf5", "r+") as handle:
        handle["mask/train"] = np.array([b"demo_1", b"demo_2", b"demo_1"])
    with pytest.raises(ValueError, match=r"cup\.hdf5: demo_1 is read 2 times; .* once in a list of data\.filter_key$"):
        load_data(tiny_config(**own, **{"data.filter_key": "train"}))


def test_a_bad_episode_can_be_left_out_by_its_name(tmp_path: Path) -> None:
    for name in ("cup", "drawer"):
        write_episodes(tmp_path / f"{name}.hdf5", tiny_episodes(4, 12, 32))
    with h5py.File(tmp_path / "cup.hdf5", "r+") as handle:
        handle["data/demo_2/actions"][3] = np.nan
    own = {"data.path": str(tmp_path), "data.held_out_fraction": 0.0}
    with pytest.raises(DataError, match=r"cup\.hdf5: demo_2/actions holds NaN .*; correct it, or leave the episode out "
                                        r"with data\.exclude\."):
        load_data(tiny_config(**own))

    def read(**changes: object) -> list[str]:
        return [f"{Path(episode.file).stem} {episode.name[-1]}"
                for episode in load_data(tiny_config(**own | changes)).train.episodes]

    rest = ["cup 0", "cup 1", "cup 3", "drawer 0", "drawer 1", "drawer 3"]
    assert read(**{"data.exclude": ["demo_2"]}) == rest
    assert read(**{"data.exclude": ["cup/demo_2"]}) == [*rest[:5], "drawer 2", "drawer 3"]
    assert read(**{"data.exclude": ["demo_2"], "data.episodes_per_task": 3}) == rest  # the limit counts what is left
    with pytest.raises(ValueError, match=r"^data\.exclude names 'cap/demo_2', which .*nearest .* 'cup/demo_2'$"):
        read(**{"data.exclude": ["demo_2", "cap/demo_2"]})


def test_what_is_left_out_may_be_in_any_of_several_data_sets(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.hdf5", tiny_episodes(2, 12, 32))
    write_lerobot(tmp_path / "drawers", lengths=(11, 11), size=32, extra={"observation.state": [[7.0] * 8] * 2,
                                                                       "action": [[0.5] * 7] * 2})
    config = tiny_config(**{
        "data.path": str(tmp_path / "a.hdf5"), "data.further_paths": [str(tmp_path / "drawers")],
        "data.cameras": ["agentview|top", "eye_in_hand|wrist"], "data.held_out_fraction": 0.0,
        "data.exclude": ["drawers/episode_000000", "demo_1"]})
    assert [episode.name for episode in load_data(config).train.episodes] == ["demo_0", "episode_000001"]
    with pytest.raises(ValueError, match=r"'episode_00001', which is no episode of .*a\.hdf5, .*'episode_000001'$"):
        load_data(override(config, {"data.exclude": ["episode_00001"]}))


def test_a_list_of_episodes_in_the_file_can_be_chosen(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.hdf5", tiny_episodes(3, 12, 32))
    with h5py.File(tmp_path / "a.hdf5", "r+") as handle:
        handle["mask/train"] = np.array([b"demo_0", b"demo_2"])
    own = {"data.path": str(tmp_path), "data.held_out_fraction": 0.0}
    chosen = load_data(tiny_config(**own | {"data.filter_key": "train"})).train.episodes
    assert [episode.name for episode in chosen] == ["demo_0", "demo_2"]
    with pytest.raises(DataError, match=r"mask/valid does not exist among the filter keys \['train'\]; choose one"):
        load_data(tiny_config(**own | {"data.filter_key": "valid"}))


def test_no_limit_takes_all_episodes(tmp_path: Path) -> None:
    limit = DataConfig.episodes_per_task
    assert limit == 50
    write_episodes(tmp_path / "a.hdf5", tiny_episodes(limit + 3, 12, 32))
    found = [len(load_data(tiny_config(**{"data.path": str(tmp_path), "data.held_out_fraction": 0.0,
                                          "data.episodes_per_task": count})).train.episodes)
             for count in (limit, 0)]
    assert found == [limit, limit + 3]


def test_a_robot_that_the_file_names_is_to_be_changed_there(tmp_path: Path) -> None:
    file = tmp_path / "drawers.hdf5"
    write_episodes(file, tiny_episodes(2, 8, 32))
    with h5py.File(file, "r+") as handle:
        handle["data/demo_1"].attrs["embodiment"] = "fr3"
    with pytest.raises(DataError, match=r"drawers\.hdf5: demo_1 holds states of 8 and actions of 7 .* 'fr3', named in "
                                        r"the file, does not have; set the attribute 'embodiment' of the "
                                        r"demonstrations to one that does \(libero\) of libero, .*, or describe it: "):
        load_data(tiny_config(**{"data.path": str(tmp_path), "data.embodiment": "libero"}))


def test_a_folder_of_files_with_and_without_images_names_the_one_without(tmp_path: Path) -> None:
    episodes = tiny_episodes(4, 8, 32)
    write_episodes(tmp_path / "image_v141.hdf5", episodes[:2])
    for episode in episodes[2:]:
        episode.images = {}
    write_episodes(tmp_path / "low_dim_v141.hdf5", episodes[2:])
    with pytest.raises(DataError, match=r"low_dim_v141\.hdf5: demo_. holds no images; name one file with images as"):
        load_data(tiny_config(**{"data.path": str(tmp_path)}))
