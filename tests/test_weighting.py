"""Weights of whole data sets: every chunk once, under its demonstration's own name, as the trained rule gives them."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ptrlib import runs, weighting
from ptrlib.cli import main
from ptrlib.config import RunConfig
from ptrlib.credit.crossfit import CrossFit
from ptrlib.credit.interface import ChunkFeatures, CreditOutput
from ptrlib.credit.ptr import PTR
from ptrlib.credit.storage import FILE, load_credit
from ptrlib.data.hdf5 import write_episodes
from ptrlib.data.reading import read_episodes
from ptrlib.storage import load_policy
from ptrlib.training import Learner, Trainer, load_data, train
from ptrlib.weighting import by_episode, weigh, write_weights
from tests.data.lerobot_files import write_lerobot
from tests.factories import tiny_episodes
from tests.test_training import tiny_config

CROSSFIT = {"credit": "crossfit", "network.use_belief": False, "crossfit.steps": 60, "crossfit.batch_size": 32}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, episodes = tmp_path_factory.mktemp("data"), tiny_episodes(6, 20, 32)
    for number in (0, 1):
        write_episodes(folder / f"task{number}.hdf5", episodes[number::2])
    return folder


@pytest.fixture(scope="module")
def start(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(credit="sft", **{"data.path": str(dataset), "ptr.optimization.steps": 2,
                                          "data.held_out_fraction": 0.5})
    return train(config, root=tmp_path_factory.mktemp("runs"), progress=False)


def config_of(dataset: Path, start: Path, **changes: object) -> RunConfig:
    return tiny_config(**{"credit": "ptr", "data.path": str(dataset), "initial_policy": start.name,
                          "ptr.optimization.steps": 4, "ptr.warmup_steps": 1,
                          "ptr.optimization.batch_size": 256} | changes)  # more than there are chunks


@pytest.mark.parametrize("changes", [{}, CROSSFIT])
def test_every_chunk_has_the_weight_of_the_trained_rule(dataset: Path, start: Path, changes: dict) -> None:
    """All chunks lie in one batch here, so that the rule in training's memory can be asked for the same scores."""
    config = config_of(dataset, start, **changes)
    folder = train(config, root=start.parent, progress=False)
    table = weigh(folder)
    assert list(table.columns) == ["file", "episode", "task", "start", "row", "valid", "score", "weight", "split",
                                   "relative"]
    with h5py.File(table.file[0]) as handle:  # `row` is where the file itself keeps the action `start`
        first = read_episodes(table.file[0])[0]
        own = table[(table.file == table.file[0]) & (table.episode == first.name)]
        np.testing.assert_array_equal(handle["data"][first.name]["actions"][()][own.row], first.actions[own.start])
    stored = {(episode.file, episode.name, step) for episode in read_episodes(dataset)
              for step in range(len(episode))}
    assert len(table) == len(stored)
    assert set(table[["file", "episode", "start"]].itertuples(index=False, name=None)) == stored
    assert set(table.file) == {str(dataset / f"task{number}.hdf5") for number in (0, 1)}
    trained = Trainer(config, load_data(config, load_policy(start).statistics), load_policy(start))
    trained.run(config.ptr.optimization.steps)
    trained.learner.eval()
    for split, chunks in (("train", trained.data.train), ("held_out", trained.data.held_out)):
        assert chunks is not None
        [batch] = chunks.scoring_batches(64, order=np.random.default_rng(config.seed))
        with torch.no_grad():
            _, features = trained.learner.features(batch, torch.Generator().manual_seed(config.seed))
            out = trained.learner.credit(features)
        key = torch.argsort(features.episode_ids * 1000 + features.frames)
        ours = table[table.split == split]
        np.testing.assert_allclose(ours.score, out.score[key], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.weight, out.weight[key], rtol=1e-4)
    assert table.weight.nunique() > 1 and (table.weight[~table.valid & (config.credit == "ptr")] == 1).all()
    assert table[table.split == "train"].relative.mean() == pytest.approx(1)
    if config.credit == "crossfit":
        fixed = trained.learner.credit
        assert isinstance(fixed, CrossFit)
        np.testing.assert_allclose(np.sort(table.weight), np.sort(fixed.weight), rtol=1e-5)


def test_held_out_chunks_are_compared_with_those_of_their_own_task(tmp_path: Path) -> None:
    episodes = tiny_episodes(9, 20, 32)
    alone = episodes.pop(4)
    for number in (0, 1):
        write_episodes(tmp_path / f"task{number}.hdf5", episodes[number::2])
    write_episodes(tmp_path / "adjust_the_lamp.hdf5", [replace(alone, task="adjust_the_lamp")])
    config = tiny_config(**{"data.path": str(tmp_path)})
    data = load_data(config)
    assert data.held_out is not None and len(data.train.tasks) > len({e.task for e in data.held_out.episodes}) > 0
    for dataset in (data.train, data.held_out):
        scaled = weighting._scaled(dataset, data.statistics)
        assert scaled.tasks == data.train.tasks and scaled.task_ids.tolist() == dataset.task_ids.tolist()


def test_the_command_says_what_its_columns_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["weights", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "row (the same action's row in the file's own actions: start + 1 in files with LIBERO's timing)" in told


def test_the_table_is_a_file_that_a_command_writes(dataset: Path, start: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(config_of(dataset, start), root=start.parent, progress=False)
    assert main(["weights", str(folder), "--out", str(tmp_path / "deep" / "weights.csv")]) == 0
    write_weights(folder, tmp_path / "deep" / "weights.parquet")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deep" / "weights.csv"),
                                  pd.read_parquet(tmp_path / "deep" / "weights.parquet"), check_dtype=False)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["weights.csv", "weights.parquet"]
    assert main(["weights", str(folder), "--out", "weights.txt"]) == 2
    assert "written to .csv or .parquet files; give --out such a name" in capsys.readouterr().err


def test_where_weights_cannot_be_written_is_said_before_any_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                       ) -> None:
    monkeypatch.setattr(weighting, "weigh", lambda *_, **__: pytest.fail("it was computed"))
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for name, sentence in (("folder.csv", r"folder\.csv is a folder; give --out the name of a file"),
                           ("file/deep/weights.csv", r"file is a file, and .*weights\.csv cannot lie in it; give")):
        with pytest.raises(ValueError, match=sentence):
            write_weights(tmp_path, tmp_path / name)
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)  # whoever runs the tests may write anywhere
    with pytest.raises(ValueError, match=rf"^{tmp_path} cannot be written to, and .*/deep/weights\.csv is to lie in "
                                         "it; give --out a name in another folder$"):
        write_weights(tmp_path, tmp_path / "deep" / "weights.csv")


@pytest.mark.parametrize("name", ["weights.csv", "weights.parquet"])
def test_weights_that_cannot_be_written_leave_nothing_and_the_older_file_as_it_was(tmp_path: Path, name: str,
                                                                                  monkeypatch: pytest.MonkeyPatch
                                                                                  ) -> None:
    def full(_: object, path: Path, **__: object) -> None:
        assert str(os.getpid()) in path.name  # two commands do not write into one file
        path.write_text("half")
        raise OSError("no space left on device")

    for method in ("to_csv", "to_parquet"):
        monkeypatch.setattr(pd.DataFrame, method, full)
    monkeypatch.setattr(weighting, "weigh", lambda *_, **__: pd.DataFrame())
    (tmp_path / name).write_text("older")
    with pytest.raises(OSError, match="no space left"):
        write_weights(tmp_path, tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / name] and (tmp_path / name).read_text() == "older"


def test_what_cannot_be_weighed_is_said_in_a_sentence(dataset: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not tell chunks apart; train with credit=ptr or credit=ptr_neu"):
        weigh(start)
    data = tmp_path / "data"
    data.mkdir()
    write_episodes(data / "a.hdf5", tiny_episodes(4, 30, 32))
    config = tiny_config(credit="ptr", **{"data.path": str(data), "ptr.optimization.steps": 1, "ptr.warmup_steps": 0})
    folder = train(config, root=tmp_path, progress=False)
    write_episodes(data / "a.hdf5", tiny_episodes(5, 30, 32))
    with pytest.raises(ValueError, match=r"data: these are not the demonstrations that .* was trained on .*; put"):
        weigh(folder)
    (folder / FILE).write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"credit\.safetensors: not a readable rule .*; remove .* and train it again"):
        weigh(folder)
    (folder / FILE).unlink()
    with pytest.raises(ValueError, match=r"credit\.safetensors: the state .* not stored here .*; remove .* and train"):
        weigh(folder)
    with pytest.raises(ValueError, match="no trained policy here"):
        weigh(tmp_path)


def test_a_rule_survives_its_file(dataset: Path, start: Path) -> None:
    config = config_of(dataset, start)
    folder = train(config, root=start.parent, progress=False)
    assert runs.read_config(folder) == config
    trained = Trainer(config, load_data(config, load_policy(start).statistics), load_policy(start))
    trained.run(config.ptr.optimization.steps)
    read = Learner(config, 2, load_policy(folder)).credit
    load_credit(folder, read)
    torch.testing.assert_close(read.state_dict(), trained.learner.credit.state_dict(), equal_nan=True)


def test_demonstrations_that_were_moved_are_named_or_given(dataset: Path, start: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "elsewhere").mkdir(parents=True)
    shutil.copytree(dataset, home / "data")
    monkeypatch.chdir(home)
    for changes in ({}, CROSSFIT):
        config = tiny_config(**{"credit": "ptr", "data.path": "data", "ptr.warmup_steps": 0,
                                "ptr.optimization.steps": 1, "data.corruption": "combined"} | changes)
        folder = train(config, root=home / "runs", progress=False)
        there = weigh(folder)
        monkeypatch.chdir(home / "elsewhere")
        with pytest.raises(ValueError, match=rf"^data does not exist in this folder; .* was trained in {home}, where "
                                             r"it does: run the command there, or say with --data where the demonstr"):
            weigh(folder)
        pd.testing.assert_frame_equal(weigh(folder, ["../data"]).drop(columns="file"), there.drop(columns="file"))
        monkeypatch.chdir(home)
        (home / "data").rename(home / "moved")
        with pytest.raises(ValueError, match="^data does not exist, and .* was trained on it; say with --data .* now$"):
            weigh(folder)
        pd.testing.assert_frame_equal(weigh(folder, ["moved"]).drop(columns="file"), there.drop(columns="file"))
        (home / "moved").rename(home / "data")


def test_other_demonstrations_are_weighed_whole_by_a_rule_that_can(dataset: Path, start: Path, tmp_path: Path) -> None:
    changes = {"data.corruption": "combined", "data.episodes_per_task": 2, "data.operators": ["precise"]}
    folder = train(config_of(dataset, start, **changes), root=start.parent, progress=False)
    others = tiny_episodes(5, 20, 32, seed=3)
    for file, operator in (("a.hdf5", "slow"), ("b.hdf5", "precise")):  # of the first the run would have chosen none
        write_episodes(tmp_path / file, [replace(episode, operator=operator) for episode in others])
        table = weigh(folder, [tmp_path / file])
        assert set(table.split) == {"new"} and set(table.file) == {str(tmp_path / file)}
        assert table.groupby("episode").size().tolist() == list(map(len, others))
        assert table.weight.nunique() > 1 and table.relative.mean() == pytest.approx(1)
    turned = [replace(episode, images={camera: images[:, ::-1] for camera, images in episode.images.items()})
              for episode in read_episodes(dataset)]
    for number in (0, 1):
        write_episodes(tmp_path / "turned" / f"task{number}.hdf5", turned[3 * number:3 * number + 3])
    assert set(weigh(folder, [tmp_path / "turned"]).split) == {"new"}
    fixed = train(config_of(dataset, start, **CROSSFIT), root=start.parent, progress=False)
    for path in (tmp_path / "a.hdf5", tmp_path / "turned"):
        with pytest.raises(ValueError, match=r"and credit 'crossfit' has fixed weights of those alone; train with"):
            weigh(fixed, [path])


def test_a_rule_knows_tasks_and_episodes_of_others_by_its_own_numbers(dataset: Path, start: Path, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue holds numbers of the run's: of its hard negatives, and of episodes that a chunk may be one of."""
    config = config_of(dataset, start)
    folder = train(config, root=start.parent, progress=False)
    own, asked = load_data(config), []
    known = sorted({episode.task for episode in own.train.episodes})
    assert len(known) == 2
    others = [replace(episode, task=task, instruction=task.replace("_", " ")) for episode, task in zip(
        tiny_episodes(3, 20, 32, seed=3), (known[1], "a_task_of_its_own", known[1]), strict=True)]
    write_episodes(tmp_path / "a.hdf5", others)
    scored = PTR.forward

    def listening(self: PTR, features: ChunkFeatures) -> CreditOutput:
        asked.append(features)
        return scored(self, features)

    monkeypatch.setattr(PTR, "forward", listening)
    weigh(folder, [tmp_path / "a.hdf5"])
    of_episode = {int(episode): int(task) for features in asked for episode, task in zip(
        features.episode_ids, features.task_ids, strict=True)}
    assert sorted(of_episode) == [6, 7, 8]  # the run had 6
    names = read_episodes(tmp_path / "a.hdf5")
    assert [of_episode[6 + place] for place in range(3)] == [
        1 if episode.task == known[1] else 2 for episode in names]
    whole = (folder / FILE).read_bytes()
    save_file(load_file(folder / FILE), folder / FILE)  # as older runs have it
    with pytest.raises(ValueError, match="which tasks the rule knows is not stored here .*; remove .* and train it ag"):
        weigh(folder, [tmp_path / "a.hdf5"])
    (folder / FILE).write_bytes(whole)


def test_an_episode_of_others_can_be_left_out(dataset: Path, start: Path, tmp_path: Path) -> None:
    folder = train(config_of(dataset, start), root=start.parent, progress=False)
    write_episodes(tmp_path / "a.hdf5", tiny_episodes(3, 20, 32, seed=3))
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file["data/demo_1/actions"][0] = np.nan
    with pytest.raises(ValueError, match=r"demo_1/actions holds NaN.*; correct it, or leave .* out with --exclude"):
        weigh(folder, [tmp_path / "a.hdf5"])
    table = weigh(folder, [tmp_path / "a.hdf5"], exclude=["demo_1"])
    assert set(table.episode) == {"demo_0", "demo_2"} and set(table.split) == {"new"}
    with pytest.raises(ValueError, match="^--exclude leaves out episodes of other .*; name these with --data"):
        weigh(folder, exclude=["demo_1"])


def test_what_is_no_run_folder_is_not_to_be_removed(dataset: Path, tmp_path: Path) -> None:
    for folder in (dataset, tmp_path):
        with pytest.raises(ValueError, match=f"^{folder}: no trained policy here, nor any run .*; give a folder"):
            weigh(folder)
    (tmp_path / ".partial-x").mkdir()
    with pytest.raises(ValueError, match="its training is not finished; the command that began it goes on with it$"):
        weigh(tmp_path / ".partial-x")


def test_an_episode_weighs_what_its_chunks_with_a_recorded_consequence_do() -> None:
    """By hand: the chunks at the end of an episode weigh 1 whatever it is like."""
    rows = [("a", "train", 3.0, True), ("a", "train", 2.0, True), ("a", "train", 1.0, False),
            ("b", "train", 0.5, True), ("b", "train", 1.0, False), ("c", "held_out", 1.0, False)]
    table = pd.DataFrame([{"file": "f", "episode": name, "task": "t", "start": 0, "valid": valid, "weight": weight,
                           "split": split} for name, split, weight, valid in rows])
    found = by_episode(table)
    assert list(found.columns) == ["file", "episode", "task", "chunks", "recorded", "weight", "relative", "split"]
    assert found.episode.tolist() == ["a", "b", "c"] and found.split.tolist() == ["train", "train", "held_out"]
    assert found.chunks.tolist() == [3, 2, 1] and found.recorded.tolist() == [2, 1, 0]
    assert found.weight.tolist() == [2.5, 0.5, 1.0]
    np.testing.assert_allclose(found.relative, np.array([2.5, 0.5, 1.0]) / (5.5 / 3))
    assert by_episode(table, everywhere=True).weight.tolist() == [2.0, 0.75, 1.0]


def test_a_command_writes_a_row_per_episode(dataset: Path, start: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = train(config_of(dataset, start), root=start.parent, progress=False), tmp_path / "weights.csv"
    command = ["weights", str(folder), "--out", str(out), "--data", str(dataset), "--per"]
    assert main([*command, "episode"]) == 0
    table = pd.read_csv(out)
    assert len(table) == 6 and table.chunks.sum() == len(weigh(folder))
    assert main([*command, "task"]) == 2
    assert "'--per' is 'task'; the nearest valid value is" in capsys.readouterr().err


def test_chunks_of_a_lerobot_dataset_have_its_own_indices(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "data", lengths=(20, 18, 19), size=32)
    config = tiny_config(**{"data.path": str(tmp_path / "data"), "ptr.optimization.steps": 1, "ptr.warmup_steps": 0})
    folder = train(config, root=tmp_path / "runs", progress=False)
    table = weigh(folder)
    indices = table[["episode_index", "frame_index"]].astype(int).itertuples(index=False, name=None)
    assert sorted(indices) == [(episode, frame) for episode, actions in enumerate((19, 17, 18))
                               for frame in range(actions)]
    assert sorted(weigh(folder, per="episode").episode_index) == [0, 1, 2]
    write_weights(folder, tmp_path / "weights.csv")
    assert pd.read_csv(tmp_path / "weights.csv").frame_index.dtype == np.int64


def test_a_rule_that_learned_in_no_step_weighs_nothing(dataset: Path, start: Path) -> None:
    folder = train(config_of(dataset, start, **{"ptr.optimization.steps": 0}), root=start.parent, progress=False)
    with pytest.raises(ValueError, match=r"took no step, .* above ptr\.warmup_steps \(1\)$"):
        weigh(folder)
