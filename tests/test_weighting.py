"""Weights of whole data sets: every chunk once, under its demonstration's own name, as the trained rule gives them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ptrlib import runs, weighting
from ptrlib.cli import main
from ptrlib.config import RunConfig
from ptrlib.credit.crossfit import CrossFit
from ptrlib.credit.storage import FILE, load_credit
from ptrlib.data.chunks import ChunkDataset
from ptrlib.data.hdf5 import write_episodes
from ptrlib.data.reading import read_episodes
from ptrlib.storage import load_policy
from ptrlib.training import Learner, Trainer, load_data, train
from ptrlib.weighting import weigh, write_weights
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
    assert list(table.columns) == ["file", "episode", "task", "start", "valid", "score", "weight", "split", "relative"]
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


def test_held_out_chunks_are_compared_with_those_of_their_own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                   ) -> None:
    episodes = tiny_episodes(9, 20, 32)
    alone = episodes.pop(4)
    for number in (0, 1):
        write_episodes(tmp_path / f"task{number}.hdf5", episodes[number::2])
    write_episodes(tmp_path / "adjust_the_lamp.hdf5", [replace(alone, task="adjust_the_lamp")])
    config = tiny_config(**{"data.path": str(tmp_path)})
    data = load_data(config)
    assert data.held_out is not None and len(data.train.tasks) > len({e.task for e in data.held_out.episodes}) > 0
    seen: list[ChunkDataset] = []
    monkeypatch.setattr(weighting, "_table", lambda _, dataset: seen.append(dataset) or pd.DataFrame())
    weighting._tables(Learner(config, 2), data, data.statistics)
    assert [dataset.tasks for dataset in seen] == [data.train.tasks] * 2
    for dataset, before in zip(seen, (data.train, data.held_out), strict=True):
        assert dataset.task_ids.tolist() == before.task_ids.tolist()


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
    monkeypatch.setattr(weighting, "weigh", lambda _: pytest.fail("it was computed"))
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for name, sentence in (("folder.csv", r"folder\.csv is a folder; give --out the name of a file"),
                           ("file/deep/weights.csv", r"file is a file, and .*weights\.csv cannot lie in it; give")):
        with pytest.raises(ValueError, match=sentence):
            write_weights(tmp_path, tmp_path / name)


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
    monkeypatch.setattr(weighting, "weigh", lambda _: pd.DataFrame())
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
    with pytest.raises(ValueError, match=r"data: these are not the demonstrations that .* was trained on; put those"):
        weigh(folder)
    (folder / FILE).write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"credit\.safetensors: not a readable rule .*; train the run again"):
        weigh(folder)
    (folder / FILE).unlink()
    with pytest.raises(ValueError, match=r"credit\.safetensors: the state .* not stored here .*; train the run again"):
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
