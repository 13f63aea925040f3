"""Training one setting: Algorithm 1 on minibatches of segments, resumable to the bit.

A minibatch has places for ``batch_size`` chunks, in segments of ``segment_chunks`` consecutive chunks of one
episode; places before its first step and after its last stay empty (``chunks`` of the metrics counts the others).
Belief tokens recur along a segment (Eq 3-5). One forward and one backward pass serve the policy, the tokenizer and
the credit rule (Eq 32).
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from ptrlib import distributed, runs
from ptrlib.config import RunConfig, to_dict
from ptrlib.correspondence import Correspondence, make_correspondence, save_correspondence
from ptrlib.credit import credit_class, make_credit
from ptrlib.credit.crossfit import alone_under_their_instruction, never_asked
from ptrlib.credit.interface import ChunkFeatures, Credit, CreditOutput, FeatureSizes
from ptrlib.credit.ptr import PTR
from ptrlib.credit.storage import save_credit
from ptrlib.data.chunks import Batch, ChunkDataset, SegmentSampler, Statistics, common_cameras, hold_out
from ptrlib.data.corruption import CORRUPTIONS, corrupt
from ptrlib.data.episodes import Episode
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import recorded_in
from ptrlib.data.lerobot import frames_per_second, is_lerobot
from ptrlib.data.reading import excluded_by_path, read_episodes
from ptrlib.demonstrations import differing, fingerprint_episodes, fingerprint_parts
from ptrlib.gallery import make_gallery, save_gallery
from ptrlib.method.belief import BeliefOutput
from ptrlib.policy.action_space import DESCRIBE, EMBODIMENTS, make_known
from ptrlib.policy.backbone import Context, Language
from ptrlib.policy.expert import HeadLoss
from ptrlib.storage import SavedPolicy, load_policy, make_policy, make_tokenizer, save_policy
from ptrlib.writing import written

# Minibatches scored for one weight snapshot, unless fewer hold as many chunks as the split has. AUROC is
# resampled by episode, so most episodes should be met several times.
SNAPSHOT_BATCHES = {"train": 80, "held_out": 24}
CHECKPOINT_EVERY = 250  # steps


class Learner(nn.Module):
    """Policy, tokenizer and credit rule: everything one optimiser step updates."""

    def __init__(self, config: RunConfig, cameras: int, start_from: SavedPolicy | None = None) -> None:
        super().__init__()
        self.config = config
        self.policy = make_policy(config, cameras)
        self.tokenizer = make_tokenizer(config)
        if start_from is not None:  # before the rule copies the vision tower for its targets
            self.policy.load_state_dict(start_from.policy.state_dict())
            if self.tokenizer is not None and start_from.tokenizer is not None:
                self.tokenizer.load_state_dict(start_from.tokenizer.state_dict())
        tower, width = self.policy.vision_tower, config.network.width
        self.credit: Credit = make_credit(config, FeatureSizes(width, width, tower, tower.target_dim(cameras)))

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        """The total loss (Eq 32) of a minibatch, and what to log of it."""
        action_loss, features = self.features(batch, generator)
        out = self.credit(features)
        weighted = out.weighted_mean(action_loss)
        return weighted + out.auxiliary_loss, _summary(action_loss, weighted, out, features)

    def features(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ChunkFeatures]:
        """Per-chunk action losses (B,) and what the credit rule sees, for the B chunks that are present."""
        policy, present = self.policy, batch.present.flatten()
        segments, chunks = batch.present.shape
        of_segment = torch.arange(segments, device=present.device).repeat_interleave(chunks)[present]
        places = present.nonzero()[:, 0]

        def here(values: Tensor) -> Tensor:
            return values.flatten(0, 1).index_select(0, places)  # copies whole images; [present] goes byte by byte

        draws = [policy.head.draw(batch.actions[:, n], generator) for n in range(chunks)]
        noise, times = (here(torch.stack(parts, 1)) for parts in zip(*draws, strict=True))
        state, actions = here(batch.state), here(batch.actions)
        inputs = _Inputs(policy.vision(here(batch.images)), policy.backbone.read(batch.instruction).of(of_segment),
                         state, actions, policy.action_tokens(actions), batch.action_mask[of_segment],
                         here(batch.step_mask), here(batch.learn_mask), self._visible(here(batch.learn_mask)), noise,
                         times)
        beliefs = self._beliefs(inputs, batch.present) if self.tokenizer is not None else None
        context, head, belief = self._chunks(inputs, beliefs)
        features = ChunkFeatures(
            context=context.pooled, action_tokens=inputs.action_tokens, step_mask=inputs.step_mask,
            target_images=here(batch.target_images), valid=batch.valid.flatten()[present],
            episode_ids=batch.episode_ids[of_segment], frames=batch.frames.flatten()[present],
            task_ids=batch.task_ids[of_segment], state=state, offset=batch.offset.flatten()[present], belief=belief)
        return head.per_sample, features

    def _chunks(self, inputs: _Inputs, beliefs: Tensor | None) -> tuple[Context, HeadLoss, BeliefOutput | None]:
        """The policy and the tokenizer on chunks that were given ``beliefs`` (B, M, d)."""
        context = self.policy.backbone(inputs.vision, inputs.language, beliefs)
        head = self.policy.head.loss_of_draw(context, inputs.state, inputs.actions, inputs.action_mask,
                                             inputs.learn_mask, inputs.noise, inputs.times, inputs.visible)
        if self.tokenizer is None:
            return context, head, None
        return context, head, self.tokenizer(head.hidden, inputs.action_tokens, self._executed(inputs).step_mask)

    def _visible(self, learn_mask: Tensor) -> Tensor:
        """Every step, as when the policy acts."""
        return learn_mask if self.config.data.hide_padded_actions else torch.ones_like(learn_mask)

    def _executed(self, inputs: _Inputs) -> _Inputs:
        """``inputs`` without the steps that are not over when the next chunk of a segment begins: that chunk is to
        predict them, so its belief tokens must not hold them."""
        if self.config.data.belief_foresight:
            return inputs
        over = torch.arange(inputs.step_mask.shape[1], device=inputs.state.device) < self.config.data.chunk_stride
        return replace(inputs, step_mask=inputs.step_mask & over, visible=inputs.visible & over)

    def _beliefs(self, inputs: _Inputs, present: Tensor) -> Tensor:
        """The belief tokens z_t (B, M, d) that enter each of the chunks ``present`` (S, N): z_{t_0} in the first of
        a segment, then what the tokenizer makes of the chunk before.

        This is Algorithm 1's loop. The tokens carry no gradient (Eq 5), so it runs without, and the pass that
        learns takes all chunks at once.
        """
        place = (present.flatten().cumsum(0) - 1).unflatten(0, present.shape)  # of each chunk among the present ones
        tokens = self.policy.z_init.detach().repeat(len(inputs.vision), 1, 1)
        with torch.no_grad():
            for n, following in enumerate(present.T[1:]):
                before, after = place[following, n], place[following, n + 1]
                if len(after):
                    _, _, belief = self._chunks(self._executed(inputs.of(before)), tokens[before])
                    assert belief is not None
                    tokens[after] = belief.tokens
        first = torch.zeros(len(tokens), 1, 1, dtype=torch.bool, device=present.device)
        first[place[:, 0]] = True
        return torch.where(first, self.policy.z_init, tokens)

    def after_step(self) -> None:
        self.credit.after_step(self.policy.vision_tower)


@dataclass
class _Inputs:
    """What the policy is given for B chunks beside their belief tokens."""

    vision: Tensor  # (B, N, d)
    language: Language
    state: Tensor  # (B, 200)
    actions: Tensor  # (B, L, 200)
    action_tokens: Tensor  # (B, L, d)
    action_mask: Tensor  # (B, 200)
    step_mask: Tensor  # (B, L)
    learn_mask: Tensor  # (B, L), the steps that count in the action loss
    visible: Tensor  # (B, L), the steps of which the policy sees the noisy actions
    noise: Tensor  # (B, L, 200)
    times: Tensor  # (B,)

    def of(self, rows: Tensor) -> _Inputs:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        chosen: dict[str, Any] = {name: value.of(rows) if isinstance(value, Language) else value[rows]
                                  for name, value in values.items()}
        return _Inputs(**chosen)


def _summary(action_loss: Tensor, weighted: Tensor, out: CreditOutput, features: ChunkFeatures) -> dict[str, Any]:
    weight, loss, valid = (distributed.all_gather(rows) for rows in (out.weight, action_loss, features.valid))
    return {"loss_action": loss.mean().item(), "loss_weighted": weighted.item(),
            "loss_auxiliary": out.auxiliary_loss.item(),
            "weight_mean": weight.mean().item(), "weight_std": weight.std(unbiased=False).item(),
            "weight_max": weight.max().item(), "chunks": len(weight),
            "chunks_with_target": int(valid.sum()), **out.info}


@dataclass
class TrainingData:
    """Chunks to learn from, held-out chunks on which scores are only looked at, and the statistics."""

    train: ChunkDataset
    held_out: ChunkDataset | None
    statistics: Statistics
    cameras: tuple[str, ...]
    fingerprint: str
    parts: dict[str, str]  # of what the fingerprint does not know (ptrlib.demonstrations.fingerprint_parts)


def load_data(config: RunConfig, statistics: Statistics | None = None) -> TrainingData:
    """Read, split, corrupt (training episodes only) and cut the demonstrations of ``config.data``.

    ``statistics`` of the policy a run starts from are kept, so that its inputs keep their meaning; only what these
    demonstrations move far more is scaled anew.
    """
    return prepare_data(config, _read(config, config.data.cameras or None), statistics)


def _read(config: RunConfig, cameras: tuple[str, ...] | None) -> list[Episode]:
    """The demonstrations of ``config.data`` through ``cameras``: None for all that there are, () for none."""
    data, paths = config.data, (config.data.path, *config.data.further_paths)
    _check_named_once(paths)
    make_known(data)
    any_columns = any(is_lerobot(Path(path)) for path in paths)  # of HDF5 files beside them there are none to choose
    episodes: list[Episode] = []
    for path, exclude in zip(paths, excluded_by_path(data.exclude, paths), strict=True):
        columns = is_lerobot(Path(path)) or not any_columns
        read = read_episodes(path, image_size=config.network.image_size, cameras=cameras,
                             limit_per_file=data.episodes_per_task or None, filter_key=data.filter_key or None,
                             exclude=exclude, embodiment=data.embodiment,
                             state_column=data.state_column if columns else "",
                             action_column=data.action_column if columns else "")
        _check_robots(read, data.embodiment)
        episodes += read
    _check_read_once(episodes)
    return _of_operators(episodes, config)


def _check_named_once(paths: tuple[str, ...]) -> None:
    """Raise ValueError if one of ``paths`` is another, whose episodes would count twice."""
    places = [Path(path).resolve() for path in paths]
    for index, place in enumerate(places):
        if place in places[:index]:
            raise ValueError(f"{paths[index]} is named twice among the demonstrations, whose episodes would count "
                             "twice; name it once (data.path and data.further_paths, or --data)")


def _check_read_once(episodes: list[Episode]) -> None:
    """Raise ValueError if an episode is there twice: it would count twice, and could be learned from and held out."""
    counts = Counter((Path(episode.file).resolve(), episode.name) for episode in episodes)
    for (file, name), count in counts.items():
        if count > 1:
            raise ValueError(f"{file}: {name} is read {count} times; name its file once in data.path and "
                             "data.further_paths, alone or by its folder, and the episode once in a list of "
                             "data.filter_key")


def _of_operators(episodes: list[Episode], config: RunConfig) -> list[Episode]:
    """The episodes of data.operators. Raises ValueError if one of them demonstrated nothing."""
    wanted, known = config.data.operators, sorted({episode.operator for episode in episodes})
    for name in wanted:
        if name not in known:
            raise ValueError(f"data.operators names {name!r} and the demonstrators in {_paths(config)} are "
                             f"{', '.join(map(repr, known))}; choose among these")
    return [episode for episode in episodes if episode.operator in wanted] if wanted else episodes


def load_whole(config: RunConfig, saved: SavedPolicy, tasks: Sequence[str], first_id: int) -> ChunkDataset:
    """Every chunk of demonstrations that the trained policy ``saved`` need not know, through its cameras and scaled by
    its statistics: of all episodes, whatever chose among its own ones, as they were recorded. ``tasks`` keep their
    numbers, and ``first_id`` is the first episode's: its rule remembers tasks and episodes by number."""
    choices: dict[str, Any] = {entry.name: entry.default for entry in fields(config.data)
                               if entry.name in ("operators", "filter_key")}
    config = replace(config, data=replace(config.data, episodes_per_task=0, **choices))
    episodes = _read(config, saved.cameras)
    _check_consequences(config, max(map(len, episodes)))
    return ChunkDataset(episodes, config.data, config.ptr.base_policy.chunk_length, saved.statistics, first_id,
                        instruction_length=config.network.instruction_length, tasks=tasks)


def _places(config: RunConfig) -> list[dict[str, str]]:
    """Where the demonstrations say they were recorded; LeRobot datasets do not."""
    return [place for path in (config.data.path, *config.data.further_paths) if not is_lerobot(Path(path))
            for place in recorded_in(path)]


def _paths(config: RunConfig) -> str:
    return ", ".join((config.data.path, *config.data.further_paths))


def _check_robots(episodes: list[Episode], embodiment: str) -> None:
    """Raise DataError for an episode whose sizes its robot does not have. ``embodiment`` is data.embodiment: a robot of
    another name is named by the file, which knows better than a default."""
    for episode in episodes:
        sizes = episode.state.shape[1], episode.actions.shape[1]
        fitting = [name for name, robot in EMBODIMENTS.items()
                   if (len(robot.state_slots), len(robot.action_slots)) == sizes]
        if episode.embodiment not in fitting:
            by_file = episode.embodiment != embodiment
            told = "robot_type in meta/info.json" if is_lerobot(Path(episode.file)) else \
                "the attribute 'embodiment' of the demonstrations"
            setting = told if by_file else "data.embodiment"
            raise DataError(episode.file, f"holds states of {sizes[0]} and actions of {sizes[1]} numbers, which the "
                            f"robot {episode.embodiment!r}{', named in the file,' if by_file else ''} does not have",
                            f"set {setting} to one that does ({', '.join(fitting) or 'there is none yet'}) of "
                            f"{', '.join(EMBODIMENTS)}, {DESCRIBE}",
                            demo=episode.name)


def prepare_data(config: RunConfig, episodes: list[Episode], statistics: Statistics | None = None) -> TrainingData:
    """:func:`load_data` for episodes that are in memory already.

    Raises:
        ValueError: every episode is held out, or none that the rule learns from is left, or it weighs chunks by what
            followed them, and nothing was recorded after any.
        DataError: an episode, held out or not, has other cameras than the first.
    """
    data, chunk_length = config.data, config.ptr.base_policy.chunk_length
    cameras = common_cameras(episodes)  # of all: the network takes as many in the episodes that are held out
    train, held_out = hold_out(episodes, data.held_out_fraction, seed=config.seed)
    if not train:
        raise ValueError(f"data.held_out_fraction = {data.held_out_fraction} leaves no episode of {_paths(config)} to "
                         f"learn from (of {len(episodes)}); lower it, or record more of each task")
    train = corrupt(train, data.corruption, seed=config.seed, noise_sigma=data.noise_sigma,
                    noise_bias=data.noise_bias, noise_fraction=data.noise_fraction,
                    truncation_fraction=data.truncation_fraction, truncation_keep=data.truncation_keep,
                    label_fraction=data.label_fraction)
    statistics = statistics.covering(episodes) if statistics else Statistics.of(train)
    kept = [episode for episode in train if credit_class(config.credit).keeps(episode)]
    if not kept:
        raise ValueError(f"every training episode is corrupted (data.corruption = {data.corruption}) and credit "
                         f"'{config.credit}' learns from none of these; corrupt fewer (data.noise_fraction, "
                         "data.truncation_fraction, data.label_fraction), or choose another credit")
    words = config.network.instruction_length
    chunks = ChunkDataset(kept, data, chunk_length, statistics, instruction_length=words)
    _check_consequences(config, int(chunks.lengths.max()))
    judged = ChunkDataset(held_out, data, chunk_length, statistics, len(kept), instruction_length=words,
                          tasks=chunks.tasks) if held_out else None
    return TrainingData(chunks, judged, statistics, cameras, fingerprint_episodes(episodes),
                        fingerprint_parts(episodes))


def _check_consequences(config: RunConfig, longest: int) -> None:
    """Every weight would be 1 if even the ``longest`` episode ended before the first consequence was recorded."""
    if config.credit in ("sft", "oracle", "bounded_oracle"):
        return
    crossfit = config.credit.startswith("crossfit") and config.crossfit.recorded_steps > 0
    key = "crossfit.recorded_steps" if crossfit else "data.offset"
    steps = operator.attrgetter(key)(config)
    if longest < steps:
        raise ValueError(f"no training episode of {_paths(config)} has {key} = {steps} steps (the longest has "
                         f"{longest}): nothing was recorded after any chunk; lower {key}")


def overview(config: RunConfig, data: TrainingData) -> str:
    """What a run learns from, in one line."""
    lengths, held_out = data.train.lengths, data.held_out.episodes if data.held_out else []
    recorded = np.maximum(lengths - config.data.offset + 1, 0).sum() / lengths.sum()
    limit, episodes = config.data.episodes_per_task, [*data.train.episodes, *held_out]
    counts = Counter(episode.source for episode in episodes), Counter(episode.task for episode in episodes)
    reached = any(limit in count.values() for count in counts)
    robots = sorted({episode.embodiment for episode in data.train.episodes})
    return (f"{len(lengths)} episodes ({lengths.sum()} chunks, {recorded:.0%} with a recorded consequence) to learn "
            f"from, {len(held_out)} held out; robot {' and '.join(robots)}; cameras {', '.join(data.cameras)}"
            + (f"; data.episodes_per_task = {limit} was reached: raise it to read more, if there is more" if reached
               else "") + _duration(config) + _unjudged(config, data.train) + _rising(config))


def _rising(config: RunConfig) -> str:
    """That a run is shorter than its warm-up of the learning rate."""
    steps, warmup = config.ptr.optimization.steps, config.ptr.optimization.lr_warmup_steps
    return (f"; the learning rate only rises, to {steps}/{warmup} of ptr.optimization.learning_rate "
            "(ptr.optimization.lr_warmup_steps)" if 0 < steps < warmup else "")


def _duration(config: RunConfig) -> str:
    """How long data.offset is in each LeRobot dataset; other files do not say."""
    rates = sorted({frames_per_second(path) for path in (config.data.path, *config.data.further_paths)
                    if is_lerobot(Path(path))})
    if not rates:
        return ""
    seconds = " and ".join(f"{config.data.offset / rate:.2g} s" for rate in rates)
    apart = ", so it is not the same in all, nor is a chunk" if len(rates) > 1 else ""
    return f"; data.offset = {config.data.offset} frames are {seconds}{apart}"


def _unjudged(config: RunConfig, chunks: ChunkDataset) -> str:
    """Of which episodes our rule says nothing."""
    if not config.credit.startswith("crossfit"):
        return ""
    short, alone = never_asked(chunks, config.crossfit), alone_under_their_instruction(chunks)
    least = config.crossfit.recorded_steps or config.data.offset
    return (f"; too short to be asked anything ({least} steps, crossfit.recorded_steps), of full weight: {short}"
            if short else "") + (
        f"; alone under their instruction, compared with themselves: {alone}" if alone else "")


def describe(dataset: ChunkDataset, episode: NDArray[np.int64], start: NDArray[np.int64]) -> pd.DataFrame:
    """Where chunks come from, a row each: episode and its own name, step, phase in [0, 1), operator, task, source,
    embodiment and, for each corruption, whether it touched the episode there (for analysis only; no rule sees it)."""
    chosen = [dataset.episodes[index] for index in episode]
    truth = {f"truth_{kind}": [bool(e.truth[kind][t]) if kind in e.truth else False
                               for e, t in zip(chosen, start, strict=True)] for kind in CORRUPTIONS}
    return pd.DataFrame({"episode": episode, "name": [e.name for e in chosen], "start": start,
                         "phase": (start / dataset.lengths[episode]).astype(np.float32),
                         "operator": [e.operator for e in chosen], "task": [e.task for e in chosen],
                         "source": [e.source for e in chosen], "embodiment": [e.embodiment for e in chosen], **truth})


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then a cosine to zero (Table 6)."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


class Trainer:
    """State of one training run: what a checkpoint holds is exactly what continuing needs."""

    def __init__(self, config: RunConfig, data: TrainingData, start_from: SavedPolicy | None = None) -> None:
        torch.manual_seed(config.seed)
        optimization = config.ptr.optimization
        self.config, self.data = config, data
        self.learner = Learner(config, len(data.cameras), start_from)
        self.learner.credit.prepare(self.learner.policy, [data.train, *([data.held_out] if data.held_out else [])])
        self.model: nn.Module = distributed.wrap(self.learner)
        self.optimizer = torch.optim.AdamW(self.learner.parameters(), lr=optimization.learning_rate,
                                           weight_decay=optimization.weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, optimization.lr_warmup_steps, optimization.steps))
        self.sampler = self._batches(data.train)
        self.generator = self._of_rank()
        self.step = 0
        self.interrupted = False  # training is to end after the step that is under way
        self.metrics: list[dict[str, Any]] = []
        self.snapshots: list[pd.DataFrame] = []

    def _batches(self, dataset: ChunkDataset) -> SegmentSampler:
        """This rank's parts of a stream of batches of ``dataset``, from its beginning."""
        segments = self.config.ptr.optimization.batch_size // self.config.data.segment_chunks
        return SegmentSampler(dataset, segments, seed=self.config.seed, rank=distributed.rank(),
                              world_size=distributed.world_size())

    def _of_rank(self) -> torch.Generator:
        """Of the noise that this rank's chunks are given."""
        return torch.Generator().manual_seed(self.config.seed + 1000 * distributed.rank())

    def train_step(self) -> dict[str, Any]:
        """One optimiser step; returns what to log of it. FloatingPointError if the loss is no number."""
        loss, info = self.model(self.sampler.next(), self.generator)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.step}; "
                                     "lower ptr.optimization.learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        self.learner.after_step()
        self.step += 1
        return {"step": self.step, "loss": loss.item(), "gradient_norm": norm.item(), **info}

    def run(self, until: int, on_log: Callable[[dict[str, Any]], None] = lambda row: None,
            on_checkpoint: Callable[[], None] = lambda: None) -> None:
        """Train to step ``until``; logs every ``log_every`` steps and takes weight snapshots at the end of
        the warm-up and at the end of training (Figure 11). A run of no steps is the policy it starts from.

        KeyboardInterrupt, after a checkpoint, once ``interrupted`` is set."""
        if until == 0:
            self.snapshots.append(self.snapshot())
        snapshot_at = {min(self.config.ptr.warmup_steps + self.config.log_every, until), until}
        while self.step < until:
            started = time.perf_counter()
            info = self.train_step()
            info["step_seconds"] = time.perf_counter() - started
            if self.step % self.config.log_every == 0 or self.step == until:
                self.metrics.append(info)
                on_log(info)
            if self.step in snapshot_at:
                self.snapshots.append(self.snapshot())
            if self.interrupted or self.step % CHECKPOINT_EVERY == 0:
                on_checkpoint()
            if self.interrupted:
                raise KeyboardInterrupt

    def snapshot(self) -> pd.DataFrame:
        """Score, weight and action loss of sampled chunks of both splits, without touching any state. Several ranks
        score their parts of every batch, among the candidates that training gives them."""
        before = self.learner.credit.state_dict()
        before = {key: value.clone() if isinstance(value, Tensor) else value for key, value in before.items()}
        self.learner.credit.eval()  # remembers nothing: no target of these chunks may enter the queue
        tables = []
        for split, dataset in (("train", self.data.train), ("held_out", self.data.held_out)):
            if dataset is None:
                continue
            sampler, generator = self._batches(dataset), self._of_rank()
            batches = min(SNAPSHOT_BATCHES[split], -(-len(dataset) // self.config.ptr.optimization.batch_size))
            tables += [self._score(sampler.next(), dataset, generator, split) for _ in range(batches)]
        self.learner.credit.train().load_state_dict(before)
        tables = [table for of_rank in distributed.all_gather_objects(tables) for table in of_rank]
        return pd.concat(tables, ignore_index=True).drop_duplicates(["split", "episode", "start"])

    @torch.no_grad()
    def _score(self, batch: Batch, dataset: ChunkDataset, generator: torch.Generator, split: str) -> pd.DataFrame:
        action_loss, features = self.learner.features(batch, generator)
        out = self.learner.credit(features)
        start = batch.starts.flatten()[batch.present.flatten()]
        table = describe(dataset, features.episode_ids.numpy() - dataset.first_id, start.numpy())
        score = out.score if out.score is not None else torch.full_like(out.weight, math.nan)
        return table.assign(step=self.step, split=split, valid=features.valid.numpy(), score=score.float().numpy(),
                            weight=out.weight.float().numpy(), loss=action_loss.float().numpy())

    def correspondence(self) -> Correspondence | None:
        """Whose consequences the scorer takes for whose (Figure 5); None of a run on one robot, or of a rule that
        does not rank chunks by their consequence."""
        learner, dataset = self.learner, self.data.train
        robots = {episode.embodiment for episode in dataset.episodes}
        if not (isinstance(learner.credit, PTR) and learner.credit.ranks_chunks and len(robots) > 1):
            return None
        generator = torch.Generator().manual_seed(self.config.seed)
        return make_correspondence(learner.credit.overlay, dataset,
                                   lambda batch: learner.features(batch, generator)[1],
                                   segments=self.sampler.segments, seed=self.config.seed)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "learner": self.learner.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "sampler": self.sampler.state_dict(),
                "generator": self.generator.get_state(), "metrics": self.metrics, "snapshots": self.snapshots,
                "data_fingerprint": self.data.fingerprint, "data_parts": self.data.parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.metrics, self.snapshots = state["step"], state["metrics"], state["snapshots"]
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])
        self.generator.set_state(state["generator"])


def train(config: RunConfig, *, root: Path = runs.RUNS, progress: bool = True, position: int = 0) -> Path:
    """Train one setting into its run folder, from its last checkpoint if it has one. Returns the folder.

    A run that is finished already is compared with the demonstrations, where these are there, and left as it is.

    Raises:
        ValueError: a setting or demonstrations that cannot be learned from, or a run that learned from others.
        FloatingPointError: the loss is no number any more.
        Stopped: the disk is full; the last checkpoint is kept, and the same call continues.
        KeyboardInterrupt: by Ctrl-C or, under ``ptrlib``, SIGTERM, after a checkpoint; the same call continues.
    """
    runs.check(config)
    if config.ranks != distributed.world_size():
        raise ValueError(f"ranks is {config.ranks} and this is a launch of {distributed.world_size()} processes; "
                         f"train it with: torchrun --nproc-per-node {config.ranks} -m ptrlib train ...")
    final = root / runs.folder_name(config)
    if runs.is_trained(config, root):
        _check_finished(config, final)
        return final
    if final.exists():
        raise ValueError(f"{final} is in the way: it holds no finished training (metrics.parquet is missing); "
                         "delete it, or give another --root")
    started = datetime.now(UTC)
    trainer, source, other_start = _prepare(config, root)
    places = _places(config)
    folder = runs.partial_folder(config, root)
    checkpoint = folder / f"checkpoint-{distributed.rank()}.pt"
    resumed, total = _resume(trainer, checkpoint), config.ptr.optimization.steps
    shown = progress and distributed.rank() == 0
    if shown:
        tqdm.write(f"{final.name}: {overview(config, trainer.data)}{other_start}", file=sys.stderr)
    with (tqdm(total=total, initial=trainer.step, desc=final.name[:48], position=position, unit="step",
               disable=not shown, mininterval=2.0) as bar, _interrupted_between_steps(trainer)):
        trainer.run(total, on_log=lambda row: _show(bar, row),
                    on_checkpoint=lambda: _save_checkpoint(trainer, checkpoint))
    distributed.barrier()
    if distributed.rank() == 0:
        _write_results(trainer, folder, runs.provenance(
            config, started, data=_paths(config), demonstrated_in=places,
            data_fingerprint=trainer.data.fingerprint, data_parts=trainer.data.parts, initial_policy=source,
            resumed=resumed, ranks=config.ranks, started_in=os.path.relpath(Path.cwd(), final.resolve())))
        folder.rename(final)
        for left_over in final.glob("*checkpoint-*"):  # not before: without them the training would be lost
            left_over.unlink()
    return final


def _check_finished(config: RunConfig, folder: Path) -> None:
    """Finished runs are kept where their demonstrations are not; where they are, they must be the same."""
    if all(Path(path).exists() for path in (config.data.path, *config.data.further_paths)):
        _check_same(config, folder, other_than(json.loads((folder / "provenance.json").read_text()), config))


def other_than(record: Mapping[str, Any], config: RunConfig) -> str:
    """What of the demonstrations of ``config.data`` is not as a run's provenance says (:func:`differing`). Images are
    not looked at: to read them takes long."""
    episodes = _read(config, ())
    return differing(record, fingerprint_episodes(episodes), fingerprint_parts(episodes))


def _check_same(config: RunConfig, folder: Path, other: str) -> None:
    if other:
        raise ValueError(f"{folder} was trained on other demonstrations than {_paths(config)} holds now (other "
                         f"{other}); delete it, or give another --root")


@contextlib.contextmanager
def _interrupted_between_steps(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C, or the SIGTERM of a cluster's scheduler, waits for the step that is under way, because a checkpoint of
    half a step would not continue to the bit; a second Ctrl-C does not wait. Of several processes each would stop at
    another step: they keep their last checkpoint."""
    usual = signal.default_int_handler
    alone = distributed.world_size() == 1 and threading.current_thread() is threading.main_thread()
    asking = [number for number in (signal.SIGINT, signal.SIGTERM)  # not one that is ignored, as in the background
              if alone and signal.getsignal(number) is usual]

    def ask(*_: Any) -> None:
        trainer.interrupted = True
        if signal.SIGINT in asking:
            signal.signal(signal.SIGINT, usual)

    for number in asking:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in asking:
            signal.signal(number, usual)


def _resume(trainer: Trainer, checkpoint: Path) -> bool:
    """Continue from a checkpoint if every rank has one of the same step; whether it did.

    Raises:
        ValueError: it has learned from other demonstrations, or cannot be read.
    """
    state: dict[str, Any] = _read_checkpoint(checkpoint) if checkpoint.is_file() else {"step": 0}
    steps = distributed.all_gather(torch.tensor([state["step"]]))
    if (steps != state["step"]).any() or state["step"] == 0:
        return False
    data = trainer.data
    _check_same(trainer.config, checkpoint.parent, differing(state, data.fingerprint, data.parts))
    trainer.load_state_dict(state)
    return True


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=False)
    except OSError:  # names the file itself
        raise
    except Exception as error:  # whatever it is that damaged bytes make of the reader
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(f"{path}: not a readable checkpoint ({reason}); delete this checkpoint to begin anew"
                         ) from None


def _prepare(config: RunConfig, root: Path) -> tuple[Trainer, str, str]:
    """The trainer before its first step, the fingerprint of the policy that it starts from, and what that learned from
    where this is something else."""
    if not config.initial_policy:
        return Trainer(config, load_data(config)), "", ""
    folder = root / config.initial_policy
    if not folder.is_dir():
        raise ValueError(f"initial_policy '{config.initial_policy}' is no folder under {root}; train that run first, "
                         "or give the name alone of a folder under --root")
    saved = load_policy(folder)
    theirs, ours = _shapes(saved.config), _shapes(config)
    if differing := [key for key in ours if theirs[key] != ours[key]]:
        values = ", ".join(f"{key} is {theirs[key]} there and {ours[key]} here" for key in differing)
        raise ValueError(f"initial_policy '{config.initial_policy}' has another network ({values}); "
                         f"give the run the values of {folder / 'config.yaml'}")
    data = load_data(config, saved.statistics)
    if len(data.cameras) != len(saved.cameras) or (set(data.cameras) == set(saved.cameras)
                                                   and data.cameras != saved.cameras):
        raise ValueError(f"initial_policy '{config.initial_policy}' sees through {', '.join(saved.cameras)} and the "
                         f"data have {', '.join(data.cameras)}; set data.cameras to as many, in that order")
    return Trainer(config, data, saved), saved.fingerprint, _other_start(saved, data)


def _other_start(saved: SavedPolicy, data: TrainingData) -> str:
    """That the policy a run starts from learned from other robots, or through other cameras; "" if it did not."""
    robots = saved.embodiments or (saved.config.data.embodiment,)
    new = {episode.embodiment for episode in data.train.episodes} - set(robots)
    if not new and set(data.cameras) == set(saved.cameras):
        return ""
    return (f"; note that initial_policy has learned from the robot {' and '.join(robots)} through "
            f"{', '.join(saved.cameras)}")


def _shapes(config: RunConfig) -> dict[str, Any]:
    """What two policies must share for one to start from the other, by key."""
    network = {f"network.{key}": value for key, value in to_dict(config.network).items()
               if key not in ("use_belief", "target_size")}
    return network | {"ptr.belief_tokens": config.ptr.belief_tokens,
                      "ptr.base_policy.chunk_length": config.ptr.base_policy.chunk_length}


def _show(bar: tqdm, row: Mapping[str, Any]) -> None:
    bar.update(row["step"] - bar.n)
    shown = {"loss": row["loss_action"], "acc": row.get("nce_acc"), "score": row.get("nce_adv")}
    bar.set_postfix({key: f"{value:.3f}" for key, value in shown.items() if value is not None}, refresh=False)


def _save_checkpoint(trainer: Trainer, path: Path) -> None:
    state = trainer.state_dict()
    with written(path, failures=(RuntimeError,)) as temporary:  # torch's of a full disk
        torch.save(state, temporary)


def _write_results(trainer: Trainer, folder: Path, record: dict[str, Any]) -> None:
    learner = trainer.learner
    save_policy(folder, learner.policy, learner.tokenizer, trainer.data.statistics, trainer.data.cameras,
                trainer.config)
    with written(folder / "weights.parquet") as temporary:
        pd.concat(trainer.snapshots, ignore_index=True).to_parquet(temporary, index=False, compression="zstd")
    if learner.credit.ranks_chunks:
        last = trainer.data.held_out or trainer.data.train
        save_credit(folder, learner.credit, tasks=last.tasks, episodes=last.first_id + len(last.episodes))
        save_gallery(folder, make_gallery(trainer.snapshots[-1], trainer.data.train))
    if correspondence := trainer.correspondence():
        save_correspondence(folder, correspondence)
    runs.write_provenance(folder, record)
    with written(folder / "metrics.parquet") as temporary:
        pd.DataFrame(trainer.metrics).to_parquet(temporary, index=False)
