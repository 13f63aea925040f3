"""How often does the scene alone identify the consequence? PTR's question, answered without looking at the action.

PTR asks which of the candidates is o_{t+Delta} (Section 4.2). A candidate from another episode shows another scene, so
that whoever recognises the scene of o_t may know the answer without knowing what was done. Here the question is put,
with PTR's own candidates, to

- *scene*: the cosine of g(o_t) to the candidates; nothing is learned, neither action nor instruction is looked at;
- *context*: PTR's scorer (Eq 4) that is given h_t and zeros in place of the action tokens;
- *action*: PTR's scorer, as it is.

Both scorers learn by identification (Eq 31) from the training episodes of clean data, on features of the policy that
post-training starts from, which stay fixed; all three judge held-out episodes. ``python -m ptrlib.scene_identity``
writes a row per judged chunk to ``experiments/scene_identity``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ptrlib import runs
from ptrlib.config import RunConfig, override
from ptrlib.data.chunks import Batch, ChunkDataset, SegmentSampler
from ptrlib.experiment import record_missing
from ptrlib.method.candidates import CandidatePool, CandidateSet, Targets
from ptrlib.method.overlay import PosteriorTransitionReweighting
from ptrlib.method.scorer import TransitionScorer, identification_losses, pool_actions
from ptrlib.storage import load_policy
from ptrlib.training import Learner, load_data

FOLDER = runs.EXPERIMENTS / "scene_identity"
QUERIES = ("scene", "context", "action")
OFFSETS = (4, 16, 32)  # Delta, as in experiments/tabletop_scale.yaml
JUDGED_BATCHES = 60  # of held-out episodes, after as many as fill the queue


@dataclass
class Asked:
    """B chunks with a recorded consequence, and what they are asked about."""

    scene: Tensor  # (B, D) g(o_t)
    context: Tensor  # (B, d) h_t
    summary: Tensor  # (B, d) pooled action tokens
    targets: Targets  # of o_{t+Delta}
    starts: Tensor  # (B,) t


def measure(config: RunConfig, *, judged: int = JUDGED_BATCHES, root: Path = runs.RUNS) -> pd.DataFrame:
    """A row per judged chunk: ``episode``, ``start``, ``offset``, ``candidates`` (|Y|), ``others`` (other candidates of
    its own episode) and for each of QUERIES whether its best candidate is the chunk's own consequence
    (``QUERY_correct``, no tie) and whether it is of the chunk's own episode (``QUERY_episode``).

    Args:
        config: of a run; its start policy, data, batch, pool, steps and learning rate are used.

    Raises:
        ValueError: the run starts from no policy, or holds out no episodes.
    """
    if not config.initial_policy:
        raise ValueError("initial_policy is empty; features are those of the policy that training starts from")
    torch.manual_seed(config.seed)
    saved = load_policy(root / config.initial_policy)
    config = override(config, {"credit": "ptr", "network.use_belief": False})
    data = load_data(config, saved.statistics)
    if data.held_out is None:
        raise ValueError(f"data.held_out_fraction ({config.data.held_out_fraction:g}) leaves no held-out episode to "
                         "judge; raise it")
    learner = Learner(config, len(data.cameras), saved).eval()
    assert isinstance(overlay := learner.credit.overlay, PosteriorTransitionReweighting)
    scorers = _learned(config, learner, overlay, data.train)
    queue, rows = CandidatePool(overlay.target_dim, config.ptr, seed=config.seed), []
    sampler = _sampler(config, data.held_out)
    while queue.filled < config.ptr.queue_size:
        queue.push(_asked(learner, overlay, sampler.next()).targets)
    for _ in range(judged):
        asked = _asked(learner, overlay, sampler.next())
        rows.append(_judged(asked, queue, scorers, config))
        queue.push(asked.targets)
    table = pd.concat(rows, ignore_index=True).drop_duplicates(["episode", "start"], ignore_index=True)
    table.attrs["data_fingerprint"] = data.fingerprint
    return table


def _sampler(config: RunConfig, dataset: ChunkDataset) -> SegmentSampler:
    return SegmentSampler(dataset, config.ptr.optimization.batch_size // config.data.segment_chunks, seed=config.seed)


@torch.no_grad()
def _asked(learner: Learner, overlay: PosteriorTransitionReweighting, batch: Batch) -> Asked:
    """The chunks of a batch that have a recorded consequence."""
    present = batch.present.flatten()
    _, features = learner.features(batch, torch.Generator().manual_seed(0))
    valid = features.valid
    targets = Targets.of(overlay.encode_targets(features.target_images, valid), valid, features.episode_ids,
                         frames=features.frames, tasks=features.task_ids, state=features.state,
                         eps=overlay.config.norm_eps)
    scene = overlay.encode_targets(batch.images.flatten(0, 1)[present][valid])
    summary = pool_actions(features.action_tokens, features.step_mask)
    return Asked(scene, features.context[valid], summary[valid], targets.rows(valid),
                 batch.starts.flatten()[present][valid])


def _learned(config: RunConfig, learner: Learner, overlay: PosteriorTransitionReweighting, dataset: ChunkDataset
             ) -> dict[str, TransitionScorer]:
    """PTR's scorer without the action and with it, trained alike on the chunks of ``dataset``."""
    optimization, width = config.ptr.optimization, config.network.width
    scorers = {name: TransitionScorer(width, width, overlay.target_dim) for name in ("context", "action")}
    optimizer = torch.optim.AdamW([weight for scorer in scorers.values() for weight in scorer.parameters()],
                                  lr=optimization.learning_rate, weight_decay=optimization.weight_decay)
    pool, sampler = CandidatePool(overlay.target_dim, config.ptr, seed=config.seed), _sampler(config, dataset)
    for _ in range(optimization.steps):
        asked = _asked(learner, overlay, sampler.next())
        candidates = pool.candidates(asked.targets)
        loss = torch.stack([identification_losses(candidates.logits(
            query, tau=config.ptr.tau, clamp=config.ptr.logit_clamp)).mean()
            for query in _queries(asked, scorers).values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        pool.push(asked.targets)
    return scorers


def _queries(asked: Asked, scorers: dict[str, TransitionScorer]) -> dict[str, Tensor]:
    """u_t (B, D) of each scorer; the one that is not shown the action is given zeros."""
    summaries = {"context": torch.zeros_like(asked.summary), "action": asked.summary}
    return {name: scorer(asked.context, summaries[name]) for name, scorer in scorers.items()}


@torch.no_grad()
def _judged(asked: Asked, pool: CandidatePool, scorers: dict[str, TransitionScorer], config: RunConfig) -> pd.DataFrame:
    candidates, queue = pool.candidates(asked.targets), pool.queue()
    size = len(asked.targets)
    episodes = torch.cat([asked.targets.episodes[:, None], asked.targets.episodes.expand(size, -1),
                          queue.episodes[candidates.drawn]], 1)
    own = episodes == asked.targets.episodes[:, None]
    table = pd.DataFrame({
        "episode": asked.targets.episodes.numpy(), "start": asked.starts.numpy(), "offset": config.data.offset,
        "candidates": candidates.mask.sum(1).numpy(), "others": (own & candidates.mask).sum(1).numpy() - 1})
    for name, query in {"scene": asked.scene, **_queries(asked, scorers)}.items():
        correct, same = answers(candidates, own, query)
        table[f"{name}_correct"], table[f"{name}_episode"] = correct.numpy(), same.numpy()
    return table


def answers(candidates: CandidateSet, own: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the candidate nearest to ``query`` (B, D) is the matched one, and whether it is of the chunk's own
    episode (``own``, (B, K+1)); both (B,) bool. A tie with the matched one is not correct."""
    cosine = candidates.logits(query, tau=1.0, clamp=torch.inf)
    best = cosine[:, 1:].max(1)
    correct = cosine[:, 0] > best.values
    return correct, correct | own.gather(1, best.indices[:, None] + 1)[:, 0]


def write(manifest: str, offsets: Sequence[int] = OFFSETS, folder: Path = FOLDER) -> Path:
    """Measure the start policy and data of a manifest at every Delta and keep the rows, with their provenance."""
    started = datetime.now(UTC)
    config = override(runs.load_manifest(runs.EXPERIMENTS / f"{manifest}.yaml").settings[0].config,
                      {"data.corruption": "none"})
    record_missing([config])
    parts = [measure(override(config, {"data.offset": offset})) for offset in offsets]
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{manifest}.parquet", folder / f".{manifest}.parquet"
    pd.concat(parts, ignore_index=True).to_parquet(temporary, index=False, compression="zstd")
    temporary.replace(path)
    runs.write_provenance(folder, runs.provenance(
        config, started, command=f"python -m ptrlib.scene_identity {manifest}", data=config.data.path,
        data_fingerprint=parts[0].attrs["data_fingerprint"], initial_policy=config.initial_policy), f"{manifest}.json")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?", default="tabletop_corruption", help="a manifest, without its suffix")
    print(write(parser.parse_args().manifest))
