"""Whose consequences look alike: ``correspondence.npz`` of a run on several robots (Figure 5).

A sample of training chunks, equally many of each robot and one of an episode, is scored by the rule as it stands at
the end of training: each chunk is a query, and the consequences of the whole sample are its candidates. What the
posterior (Eq 12) leaves to mismatched candidates is counted by their robot and by whether they did the same task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptrlib.credit.interface import ChunkFeatures
from ptrlib.data.chunks import Batch, ChunkDataset, SegmentSampler
from ptrlib.method.candidates import CandidatePool, Targets
from ptrlib.method.overlay import PosteriorTransitionReweighting
from ptrlib.method.scorer import pool_actions, ptr_score
from ptrlib.method.weights import conservative_weights
from ptrlib.writing import written

FILE = "correspondence.npz"
CHUNKS = 96  # of each robot
BATCHES = 60  # minibatches looked through for them, at most


@dataclass(frozen=True)
class Correspondence:
    """n queries against the consequences of all n, M embodiments; row i of every array is query i.

    ``queries`` has the columns ``embodiment``, ``instruction``, ``episode``, ``start``, ``matched`` (the posterior
    of its own consequence) and ``score`` and ``weight`` (Eq 14 and 21 among these candidates). The last axis of
    ``mass`` and ``count`` is: candidates with another instruction, candidates with the query's.
    ``pairs`` names for every two embodiments a query and its best match (rows of ``queries``), ``posterior`` of that
    match, and how it was ``chosen``: "most alike" of all queries, or the "first drawn"; ``images[p]`` shows pair p.
    """

    queries: pd.DataFrame
    embodiments: tuple[str, ...]
    mass: NDArray[np.float32]  # (n, M, 2) posterior on mismatched candidates
    count: NDArray[np.int64]  # (n, M, 2) mismatched candidates
    score_against: NDArray[np.float32]  # (n, M) Eq 14 among its own and the mismatched of one embodiment
    weight_against: NDArray[np.float32]  # (n, M) Eq 21 of that
    pairs: pd.DataFrame  # query, match, posterior, chosen
    images: NDArray[np.uint8]  # (P, 2, cameras, height, width, 3): o_{t+Delta} of query and match


@dataclass
class _Sample:
    """n chunks, all with a recorded consequence."""

    context: Tensor  # (n, d)
    summary: Tensor  # (n, d) pooled action tokens
    targets: Tensor  # (n, D)
    episodes: Tensor  # (n,)
    frames: Tensor  # (n,) t + Delta
    starts: Tensor  # (n,) t


@torch.no_grad()
def make_correspondence(overlay: PosteriorTransitionReweighting, dataset: ChunkDataset,
                        features: Callable[[Batch], ChunkFeatures], *, segments: int, seed: int
                        ) -> Correspondence | None:
    """Let the rule's scorer tell chunks of ``dataset`` apart across its embodiments.

    Args:
        features: the policy's forward pass of a minibatch, as the rule sees it.
        segments: in a minibatch.
        seed: of the sample.

    Returns None where some embodiment has no chunk with a recorded consequence. Changes no state of the rule.
    """
    robot = np.array([episode.embodiment for episode in dataset.episodes])
    embodiments = tuple(np.unique(robot).tolist())
    sample = _draw(overlay, dataset, features, robot, segments, seed)
    if sample is None:
        return None
    logits = _logits(overlay, sample)
    posterior, score, episodes = logits.softmax(1), ptr_score(logits), sample.episodes.numpy()
    of_robot = torch.from_numpy(robot[episodes][:, None] == np.array(embodiments))  # (n, M)
    instruction = np.array([dataset.episodes[index].instruction for index in episodes])
    same = torch.from_numpy(instruction[:, None] == instruction)
    split = torch.stack([~same, same], -1)[:, :, None] & of_robot[None, :, :, None]  # (n, n, M, 2)
    against = _scores_against(logits, of_robot)
    queries = pd.DataFrame({
        "embodiment": robot[episodes], "instruction": instruction, "episode": episodes,
        "start": sample.starts.numpy(), "matched": posterior[:, 0].numpy(), "score": score.numpy(),
        "weight": _weights(overlay, score).numpy()})
    pairs = _pairs(posterior[:, 1:].numpy(), of_robot.numpy())
    return Correspondence(
        queries, embodiments, torch.einsum("ij,ijms->ims", posterior[:, 1:], split.float()).numpy(),
        ((logits[:, 1:] > -torch.inf)[:, :, None, None] & split).sum(1).numpy(), against.numpy(),
        _weights(overlay, against).numpy(), pairs, _images(dataset, sample, pairs))


def _draw(overlay: PosteriorTransitionReweighting, dataset: ChunkDataset,
          features: Callable[[Batch], ChunkFeatures], robot: NDArray[np.str_], segments: int, seed: int
          ) -> _Sample | None:
    """Chunks as training draws them, at most one of an episode, the same number of every robot.

    One of an episode, because chunks of one episode share their scene: among them the scorer would tell moments
    apart, not scenes.
    """
    sampler, generator = SegmentSampler(dataset, segments, seed=seed), np.random.default_rng(seed)
    taken: list[int] = []  # episodes
    parts = []
    for _ in range(BATCHES):
        chunk, known = features(sampler.next()), len(taken)
        rows = [row for row in generator.permutation(np.flatnonzero(chunk.valid.numpy())).tolist()
                if _take(int(chunk.episode_ids[row]), taken, robot)]
        if len(taken) > known:
            parts.append(_sample(overlay, chunk, torch.tensor(rows)))
    names = pd.Series(robot[taken])
    even = names.groupby(names).cumcount() < names.value_counts().reindex(np.unique(robot), fill_value=0).min()
    if not even.any():
        return None
    chosen = torch.from_numpy(np.flatnonzero(even))
    return _Sample(*(torch.cat([getattr(part, entry.name) for part in parts])[chosen] for entry in fields(_Sample)))


def _take(episode: int, taken: list[int], robot: NDArray[np.str_]) -> bool:
    """Whether ``episode`` is new and wanted; if so it is ``taken``."""
    wanted = episode not in taken and (robot[taken] == robot[episode]).sum() < CHUNKS
    if wanted:
        taken.append(episode)
    return wanted


def _sample(overlay: PosteriorTransitionReweighting, chunk: ChunkFeatures, rows: Tensor) -> _Sample:
    return _Sample(chunk.context[rows], pool_actions(chunk.action_tokens[rows], chunk.step_mask[rows]),
                   overlay.encode_targets(chunk.target_images[rows]), chunk.episode_ids[rows], chunk.frames[rows],
                   chunk.frames[rows] - chunk.offset[rows])


def _logits(overlay: PosteriorTransitionReweighting, sample: _Sample) -> Tensor:
    """(n, 1 + n): the query's own consequence, then every chunk's; -inf at what is no mismatched candidate."""
    targets = Targets.of(sample.targets, torch.ones_like(sample.episodes, dtype=torch.bool), sample.episodes,
                         frames=sample.frames, eps=overlay.config.norm_eps)
    candidates = CandidatePool(overlay.target_dim, overlay.config).candidates(targets)  # of an empty queue
    return candidates.logits(overlay.scorer(sample.context, sample.summary), tau=overlay.controller.tau,
                             clamp=overlay.config.logit_clamp)


def _scores_against(logits: Tensor, of_robot: Tensor) -> Tensor:
    """(n, M): Eq 14 when the mismatched candidates are those of one embodiment."""
    scores = [ptr_score(torch.cat([logits[:, :1], logits[:, 1:].masked_fill(~members, -torch.inf)], 1))
              for members in of_robot.T]
    return torch.stack(scores, 1)


def _weights(overlay: PosteriorTransitionReweighting, score: Tensor) -> Tensor:
    config = overlay.config
    return conservative_weights(score, beta=overlay.controller.beta, alpha=config.alpha, w_min=config.w_min,
                                w_max=config.w_max)


def _pairs(posterior: NDArray[np.float32], of_robot: NDArray[np.bool_]) -> pd.DataFrame:
    """For every ordered two embodiments: the query whose best match there has most mass, and the first query."""
    rows = []
    for one in range(of_robot.shape[1]):
        for other in range(of_robot.shape[1]):
            if one == other:
                continue
            queries, candidates = np.flatnonzero(of_robot[:, one]), np.flatnonzero(of_robot[:, other])
            mass = posterior[np.ix_(queries, candidates)]
            for chosen, query in (("most alike", int(mass.max(1).argmax())), ("first drawn", 0)):
                match = int(mass[query].argmax())
                rows.append({"query": queries[query], "match": candidates[match], "posterior": mass[query, match],
                             "chosen": chosen})
    return pd.DataFrame(rows)


def _images(dataset: ChunkDataset, sample: _Sample, pairs: pd.DataFrame) -> NDArray[np.uint8]:
    shown = pairs[["query", "match"]].to_numpy()
    episode, start = sample.episodes.numpy()[shown.ravel()], sample.starts.numpy()[shown.ravel()]
    batch = dataset.batch(episode, start[:, None], np.ones((len(episode), 1), bool))
    images = batch.target_images[:, 0].numpy()
    return images.reshape(*shown.shape, *images.shape[1:])


def save_correspondence(folder: Path, correspondence: Correspondence) -> None:
    """Write ``folder/correspondence.npz`` whole. Raises Stopped if the disk is full."""
    columns: dict[str, Any] = {
        f"{table}/{name}": np.asarray(values.tolist())
        for table in ("queries", "pairs") for name, values in getattr(correspondence, table).items()}
    arrays: dict[str, Any] = {name: getattr(correspondence, name) for name in (
        "mass", "count", "score_against", "weight_against", "images")}
    with written(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, embodiments=np.asarray(correspondence.embodiments), **columns, **arrays)


def load_correspondence(folder: str | Path) -> Correspondence | None:
    """The correspondence of a run folder; None for a run on one robot, or whose rule ranks no chunks.

    Raises:
        ValueError: the file cannot be read.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path}: not a readable correspondence ({error}); restore it from git, "
                         "or delete it") from None
    tables = {table: pd.DataFrame({name.partition("/")[2]: arrays.pop(name) for name in list(arrays)
                                   if name.startswith(f"{table}/")}) for table in ("queries", "pairs")}
    return Correspondence(embodiments=tuple(arrays.pop("embodiments").tolist()), **tables, **arrays)
