"""The weight of every chunk that a run was trained on, to be used in another trainer: ``ptrlib weights RUN``.

``weights.parquet`` of a run folder holds snapshots of chunks that were sampled. Here the rule, as it stood at the end
of training, scores each chunk once: without augmentation, and among the others of a batch that is drawn as large as
in training. The weights of credit "crossfit" are those it was trained with.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ptrlib.credit import CREDITS, credit_class
from ptrlib.credit.storage import load_credit
from ptrlib.data.chunks import ChunkDataset, Statistics
from ptrlib.storage import load_policy
from ptrlib.training import Learner, TrainingData, load_data

SUFFIXES = (".csv", ".parquet")


def write_weights(folder: str | Path, path: Path) -> None:
    """Write :func:`weigh` of a run folder to a .csv or .parquet file under a temporary name, then rename it.

    Raises:
        ValueError: ``path`` is neither or cannot be a file, or one that :func:`weigh` raises.
    """
    _check_out(path)
    table = weigh(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_out(path: Path) -> None:
    """Before all the chunks are scored, which takes long."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights are written to {' or '.join(SUFFIXES)} files; give --out such a name")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give --out the name of a file")
    above = next(folder for folder in path.parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{above} is a file, and {path} cannot lie in it; give --out a name in a folder")


def weigh(folder: str | Path) -> pd.DataFrame:
    """A row per chunk of the demonstrations of a run, in their order, corrupted where the run was told to.

    Columns: ``file`` and ``episode``, the demonstration's own name there; ``task``; ``start``, the chunk's first
    action; ``valid``, whether what followed it was recorded (PTR gives the others score 0 and weight 1); ``score``
    in nats; ``weight``; ``relative``, the weight by the mean weight of the training chunks; ``split``, "train" or
    "held_out" (never learned from).

    Raises:
        ValueError: the rule ranks no chunks, its state is not stored, or the demonstrations have changed.
    """
    saved = load_policy(folder)
    config = saved.config
    if not credit_class(config.credit).ranks_chunks:
        ranking = [name for name in CREDITS if credit_class(name).ranks_chunks]
        raise ValueError(f"{folder}: the weights of credit '{config.credit}' do not tell chunks apart; "
                         f"train with credit={' or credit='.join(ranking)}")
    learner = Learner(config, len(saved.cameras), saved)
    load_credit(folder, learner.credit)
    data = load_data(config)
    learned_from = json.loads((Path(folder) / "provenance.json").read_text())["data_fingerprint"]
    if data.fingerprint != learned_from:
        raise ValueError(f"{config.data.path}: these are not the demonstrations that {folder} was trained on; "
                         "put those back, or train again")
    table = pd.concat(_tables(learner.eval(), data, saved.statistics), ignore_index=True)
    return table.assign(relative=table.weight / table.weight[table.split == "train"].mean())


def _tables(learner: Learner, data: TrainingData, statistics: Statistics) -> list[pd.DataFrame]:
    """One per split; ``statistics`` are the run's own, which may come from the policy that it started from."""
    return [_table(learner, ChunkDataset(dataset.episodes, dataset.data, dataset.chunk_length, statistics,
                                         dataset.first_id, instruction_length=dataset.instructions.shape[1],
                                         tasks=dataset.tasks)).assign(split=split)
            for split, dataset in (("train", data.train), ("held_out", data.held_out)) if dataset is not None]


@torch.no_grad()
def _table(learner: Learner, dataset: ChunkDataset) -> pd.DataFrame:
    config, rows = learner.config, []
    generator = torch.Generator().manual_seed(config.seed)
    segments = config.ptr.optimization.batch_size // config.data.segment_chunks
    for batch in dataset.scoring_batches(segments, order=np.random.default_rng(config.seed)):
        _, features = learner.features(batch, generator)
        out = learner.credit(features)
        assert out.score is not None  # the rule ranks chunks
        rows.append(pd.DataFrame({
            "index": (features.episode_ids - dataset.first_id).numpy(),
            "start": (features.frames - features.offset).numpy(), "valid": features.valid.numpy(),
            "score": out.score.float().numpy(), "weight": out.weight.float().numpy()}))
    table = pd.concat(rows).sort_values(["index", "start"], ignore_index=True)
    episodes = [dataset.episodes[index] for index in table.pop("index")]
    for place, (column, entry) in enumerate((("file", "file"), ("episode", "name"), ("task", "task"))):
        table.insert(place, column, [getattr(episode, entry) for episode in episodes])
    return table
