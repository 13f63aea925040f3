"""The weight of every chunk that a run was trained on, or of others, for another trainer: ``ptrlib weights RUN``.

``weights.parquet`` of a run folder holds snapshots of chunks that were sampled. Here the rule, as it stood at the end
of training, scores each chunk once: without augmentation, and among the others of a batch that is drawn as large as
in training. The weights of credit "crossfit" are those it was trained with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ptrlib.checks import one_of
from ptrlib.config import RunConfig
from ptrlib.credit import CREDITS, credit_class
from ptrlib.credit.storage import load_credit, numbers_known
from ptrlib.data.chunks import ChunkDataset, Statistics
from ptrlib.data.errors import DataError
from ptrlib.data.lerobot import is_lerobot
from ptrlib.demonstrations import differing
from ptrlib.storage import SavedPolicy, load_policy
from ptrlib.training import Learner, load_data, load_whole, other_than
from ptrlib.writing import check_place, written

SUFFIXES = (".csv", ".parquet")


def write_weights(folder: str | Path, path: Path, data: Sequence[str | Path] = (), *, exclude: Sequence[str] = (),
                  per: str = "chunk") -> None:
    """Write :func:`weigh` of a run folder to a .csv or .parquet file, whole.

    Raises:
        ValueError: ``path`` is neither or cannot be a file, or one that :func:`weigh` raises.
        Stopped: the disk is full.
    """
    _check_out(path)
    table = weigh(folder, data, exclude=exclude, per=per)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path, shared=True) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False, compression="zstd")


def _check_out(path: Path) -> None:
    """Before all the chunks are scored, which takes long."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights are written to {' or '.join(SUFFIXES)} files; give --out such a name")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give --out the name of a file")
    check_place(path, "--out")


def weigh(folder: str | Path, data: Sequence[str | Path] = (), *, exclude: Sequence[str] = (),
          per: str = "chunk") -> pd.DataFrame:
    """A row per chunk of the demonstrations of a run, in their order, corrupted where the run was told to.

    Columns: ``file`` and ``episode``, the demonstration's own name there; ``task``; ``start``, the chunk's first
    action, counted from the episode's first; ``row``, the same action's row in the file's own actions, which is
    ``start + 1`` in files with LIBERO's timing (:mod:`ptrlib.data.hdf5`) and ``start`` in all others; ``valid``,
    whether what followed it was recorded (PTR gives the others score 0 and weight 1); ``score`` in nats; ``weight``;
    ``relative``, the weight by the mean weight of the training chunks; ``split``, "train" or "held_out" (never
    learned from).

    Of LeRobot datasets also ``episode_index`` and ``frame_index``, that of ``start``.

    Args:
        data: where the demonstrations lie now, in the order of data.path and data.further_paths. If these are others
            than the run was trained on, all of their episodes are weighed as they were recorded: their ``split`` is
            "new", and ``relative`` is by their own mean weight.
        exclude: episodes of such others that are left out, as data.exclude names them.
        per: "chunk", or "episode" for :func:`by_episode`.

    Raises:
        ValueError: the rule ranks no chunks or has learned from none, its state is not stored, or the demonstrations
            are not there or have changed, or are others than those that the rule has fixed weights of.
    """
    one_of("--per", per, ("chunk", "episode"))
    saved = load_policy(folder)
    config, rule = saved.config, credit_class(saved.config.credit)
    if not rule.ranks_chunks:
        ranking = [name for name in CREDITS if credit_class(name).ranks_chunks]
        raise ValueError(f"{folder}: the weights of credit '{config.credit}' do not tell chunks apart; "
                         f"train with credit={' or credit='.join(ranking)}")
    if not rule.fixed and config.ptr.optimization.steps == 0:
        raise ValueError(f"{folder} took no step, so its scorer has learned nothing and every weight is 1; train with "
                         f"ptr.optimization.steps above ptr.warmup_steps ({config.ptr.warmup_steps})")
    learner = Learner(config, len(saved.cameras), saved)
    load_credit(folder, learner.credit)
    learner.eval()
    table = pd.concat([_table(learner, dataset).assign(split=split)
                       for split, dataset in _splits(Path(folder), saved, tuple(map(str, data)), tuple(exclude))],
                      ignore_index=True)
    table["relative"] = table.weight / table.weight[_learned(table)].mean()
    table = _with_indices(table)
    return table if per == "chunk" else by_episode(table, everywhere=rule.fixed)


def _learned(table: pd.DataFrame) -> pd.Series:
    """The training chunks; all, where none of the run's own are there."""
    return table.split != "held_out"


def by_episode(table: pd.DataFrame, *, everywhere: bool = False) -> pd.DataFrame:
    """A row per episode of a table with a row per chunk, in their order.

    Columns: ``file``, ``episode``, ``task``; ``chunks``; ``recorded``, the chunks whose consequence was recorded;
    ``weight``, the mean over those alone, since PTR gives the others 1 whatever the episode is like (over all where
    there is none, or where the rule weighs ``everywhere``); ``relative``, by the mean over all such training chunks;
    ``split``; of LeRobot datasets also ``episode_index``.
    """
    keys = ["file", "episode", "task", "split", *(["episode_index"] if "episode_index" in table else [])]
    counts = table.valid | everywhere
    usual = table.weight[counts & _learned(table)].mean() if (counts & _learned(table)).any() else table.weight.mean()
    counts |= ~counts.groupby([table[key] for key in keys], dropna=False).transform("any")
    groups = table.assign(weight=table.weight.where(counts)).groupby(keys, sort=False, dropna=False)
    episodes = groups.agg(chunks=("start", "size"), recorded=("valid", "sum"), weight=("weight", "mean")).reset_index()
    first = ["file", "episode", "task", "chunks", "recorded", "weight", "relative", "split"]
    return episodes.assign(relative=episodes.weight / usual)[[*first, *keys[4:]]]


def _with_indices(table: pd.DataFrame) -> pd.DataFrame:
    """With LeRobot's own numbers of a chunk's episode and first frame, where there are any."""
    of_lerobot = table.file.map({file: is_lerobot(Path(file)) for file in table.file.unique()})
    if not of_lerobot.any():
        return table
    index = pd.to_numeric(table.episode.where(of_lerobot).str.removeprefix("episode_")).astype("Int64")
    return table.assign(episode_index=index, frame_index=table.start.where(of_lerobot).astype("Int64"))


def _splits(folder: Path, saved: SavedPolicy, paths: tuple[str, ...], exclude: tuple[str, ...]
            ) -> list[tuple[str, ChunkDataset]]:
    """The chunks to be scored: those of the run, or "new" ones of ``paths`` but for the episodes ``exclude``."""
    record, config = json.loads((folder / "provenance.json").read_text()), saved.config
    if exclude:
        if not paths:
            raise ValueError("--exclude leaves out episodes of other demonstrations; name these with --data (the run's "
                             "own are weighed whole)")
        config = replace(config, data=replace(config.data, path=paths[0], further_paths=paths[1:]))
        return _new(folder, config, saved, "choice of episodes", exclude)
    if paths:
        config = replace(config, data=replace(config.data, path=paths[0], further_paths=paths[1:]))
        if other := _other_than(record, config):
            return _new(folder, config, saved, other)
    else:
        _check_there(folder, config, record)
    data = load_data(config)
    other = differing(record, data.fingerprint, data.parts)
    if other and paths:  # the images, which only now are read
        return _new(folder, config, saved, other)
    if other:
        raise ValueError(f"{config.data.path}: these are not the demonstrations that {folder} was trained on (other "
                         f"{other}); put those back, or train again")
    return [(split, _scaled(dataset, saved.statistics)) for split, dataset in (
        ("train", data.train), ("held_out", data.held_out)) if dataset is not None]


def _other_than(record: dict[str, Any], config: RunConfig) -> str:
    """:func:`other_than`, for a rule that may weigh demonstrations among which the run's choice cannot be made, such as
    that of a demonstrator who is not there."""
    try:
        return other_than(record, config)
    except ValueError:  # of what cannot be read at all, too: it is read again
        if credit_class(config.credit).fixed:
            raise
        return "episodes"


def _new(folder: Path, config: RunConfig, saved: SavedPolicy, other: str, exclude: tuple[str, ...] = ()
         ) -> list[tuple[str, ChunkDataset]]:
    """Demonstrations that a run was not trained on. Raises ValueError if its rule cannot weigh them, or is too old."""
    if credit_class(config.credit).fixed:
        raise ValueError(f"{config.data.path}: these are not the demonstrations that {folder} was trained on (other "
                         f"{other}), and credit '{config.credit}' has fixed weights of those alone; train with "
                         "data.path of these, for which ptr.optimization.steps=0 is enough")
    config = replace(config, data=replace(config.data, exclude=exclude))
    try:
        return [("new", load_whole(config, saved, *numbers_known(folder)))]
    except DataError as error:  # names the key of a training that can be told to leave an episode out
        raise DataError(error.file, error.problem, error.mend.replace("data.exclude", "--exclude"), demo=error.demo,
                        key=error.key) from None


def _check_there(folder: Path, config: RunConfig, record: dict[str, Any]) -> None:
    """Raise ValueError if the demonstrations do not lie where the run found them."""
    for path in (config.data.path, *config.data.further_paths):
        if not Path(path).exists():
            started_in = (folder.resolve() / record.get("started_in", "../../..")).resolve()  # of experiments/runs/NAME
            mend = "say with --data where the demonstrations lie"
            if (started_in / path).exists():
                raise ValueError(f"{path} does not exist in this folder; {folder} was trained in {started_in}, where "
                                 f"it does: run the command there, or {mend}")
            raise ValueError(f"{path} does not exist, and {folder} was trained on it; {mend} now")


def _scaled(dataset: ChunkDataset, statistics: Statistics) -> ChunkDataset:
    """By the run's own ``statistics``, which may come from the policy that it started from."""
    return ChunkDataset(dataset.episodes, dataset.data, dataset.chunk_length, statistics, dataset.first_id,
                        instruction_length=dataset.instructions.shape[1], tasks=dataset.tasks)


@torch.no_grad()
def _table(learner: Learner, dataset: ChunkDataset) -> pd.DataFrame:
    config, rows = learner.config, []
    generator = torch.Generator().manual_seed(config.seed)
    segments = config.ptr.optimization.batch_size // config.data.segment_chunks
    if not config.ptr.cross_rank_gather:
        segments //= config.ranks  # a rank's candidates were those of its own part
    for batch in dataset.scoring_batches(segments, order=np.random.default_rng(config.seed)):
        _, features = learner.features(batch, generator)
        out = learner.credit(features)
        assert out.score is not None  # the rule ranks chunks
        rows.append(pd.DataFrame({
            "index": (features.episode_ids - dataset.first_id).numpy(),
            "start": (features.frames - features.offset).numpy(), "valid": features.valid.numpy(),
            "score": out.score.float().numpy(), "weight": out.weight.float().numpy()}))
    table = pd.concat(rows).drop_duplicates(["index", "start"]).sort_values(["index", "start"], ignore_index=True)
    episodes = [dataset.episodes[index] for index in table.pop("index")]
    for place, (column, entry) in enumerate((("file", "file"), ("episode", "name"), ("task", "task"))):
        table.insert(place, column, [getattr(episode, entry) for episode in episodes])
    table.insert(list(table).index("start") + 1, "row", table.start + [episode.first_row for episode in episodes])
    return table
