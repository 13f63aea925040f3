"""The candidate pool: whose consequence a chunk's own is told apart from (Section 4.2).

Mismatched candidates are the other targets of the global batch, all of them, and up to 64 drawn for each
sample from a first-in-first-out queue of earlier targets. Left out, wherever they come from, are the
sample's own target and the **same target** seen elsewhere: a frame of the same episode less than
``same_target_window`` frames away, or features equal to the sample's (cosine above 1 - 1e-6). Without
frame numbers only the sample itself and equal features are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ptrlib.config import PTRConfig
from ptrlib.distributed import all_gather
from ptrlib.method.scorer import logits_of, unit

SAME_FEATURES = 1 - 1e-6  # cosine of two float32 targets that are one
COLLECTED_ABOVE = 40  # entries in the queue per entry drawn, from which collecting the drawn ones is faster


@dataclass
class Targets:
    """N post-action targets and where they come from. -1 stands for an unknown frame or task."""

    features: Tensor  # (N, D) unit length, zeros where not valid
    valid: Tensor  # (N,) bool
    episodes: Tensor  # (N,) int
    frames: Tensor  # (N,) int, t + Delta
    tasks: Tensor  # (N,) int
    state: Tensor  # (N, n), n = 0 where unknown

    @classmethod
    def of(cls, features: Tensor, valid: Tensor, episode_ids: Tensor, *, frames: Tensor | None = None,
           tasks: Tensor | None = None, state: Tensor | None = None, eps: float = PTRConfig.norm_eps) -> Targets:
        """A batch as it enters the pool: normalised (``eps`` of :func:`unit`), without gradient, what is not given as
        unknown."""
        unknown = torch.full_like(episode_ids, -1)
        features = unit(features.detach().masked_fill(~valid[:, None], 0), eps)
        return cls(features, valid, episode_ids, unknown if frames is None else frames,
                   unknown if tasks is None else tasks,
                   features.new_zeros(len(valid), 0) if state is None else state.detach().float())

    def gathered(self, sizes: list[int]) -> Targets:
        """The targets of all ranks, in rank order."""
        if len(sizes) == 1:
            return self
        numbers = torch.stack([self.valid.long(), self.episodes, self.frames, self.tasks], dim=1)
        valid, episodes, frames, tasks = all_gather(numbers, sizes).unbind(1)
        width = self.features.shape[1]
        rows = all_gather(torch.cat([self.features, self.state], dim=1), sizes)
        return Targets(rows[:, :width], valid.bool(), episodes, frames, tasks, rows[:, width:])

    def rows(self, index: Any) -> Targets:
        """A selection of them."""
        return Targets(*(getattr(self, entry.name)[index] for entry in fields(self)))

    def __len__(self) -> int:
        return len(self.features)


@dataclass
class CandidateSet:
    """Y_t of B samples: column 0 is the matched target, then the N of the global batch, then k drawn from
    the queue. What is not a candidate of a sample is masked, never moved."""

    matched: Tensor  # (B, D)
    batch: Tensor  # (N, D)
    batch_mask: Tensor  # (B, N)
    queue: Tensor  # (Q, D)
    drawn: Tensor  # (B, k) rows of the queue
    drawn_mask: Tensor  # (B, k)
    norm_eps: float = PTRConfig.norm_eps  # for the queries

    @property
    def mask(self) -> Tensor:
        """(B, 1 + N + k) bool, True on candidates."""
        matched = self.batch_mask.new_ones(len(self.matched), 1)
        return torch.cat([matched, self.batch_mask, self.drawn_mask], dim=1)

    @property
    def features(self) -> Tensor:
        """(B, 1 + N + k, D), for looking at; :meth:`logits` does without this large tensor."""
        size = len(self.matched)
        return torch.cat([self.matched[:, None], self.batch.expand(size, -1, -1), self.queue[self.drawn]], 1)

    def logits(self, query: Tensor, *, tau: float, clamp: float) -> Tensor:
        """:func:`identification_logits` of ``query`` (B, D) on :attr:`features`, without making that tensor."""
        query = unit(query, self.norm_eps)
        cosine = torch.cat([(query * self.matched).sum(-1, keepdim=True), query @ self.batch.T,
                            self._with_drawn(query)], dim=1)
        return logits_of(cosine, tau, clamp, self.mask)

    def _with_drawn(self, query: Tensor) -> Tensor:
        """(B, k) products with the drawn entries: of all the queue's where that is little, for one product of
        matrices takes less time than collecting the entries."""
        if len(self.queue) <= COLLECTED_ABOVE * self.drawn.shape[1]:
            return (query @ self.queue.T).gather(1, self.drawn)
        return torch.einsum("bd,bkd->bk", query, self.queue[self.drawn])


class CandidatePool(nn.Module):
    """The queue and the rule that draws from it.

    Args:
        target_dim: D.
        seed: of the draws; the same on every rank.
    """

    queue_features: Tensor
    queue_episodes: Tensor
    queue_frames: Tensor
    queue_tasks: Tensor
    queue_state: Tensor

    def __init__(self, target_dim: int, config: PTRConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config or PTRConfig()
        size = self.config.queue_size
        self.register_buffer("queue_features", torch.zeros(size, target_dim))
        for name in ("queue_episodes", "queue_frames", "queue_tasks"):
            self.register_buffer(name, torch.full((size,), -1))
        self.register_buffer("queue_state", torch.zeros(size, 0))  # as wide as the first state pushed
        self.pushed = 0  # targets that ever entered
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def filled(self) -> int:
        """Entries of the queue that hold a target."""
        return min(self.pushed, self.config.queue_size)

    def queue(self) -> Targets:
        """The entries that hold a target, as views."""
        rows = slice(self.filled)
        valid = torch.ones_like(self.queue_episodes[rows], dtype=torch.bool)
        return Targets(self.queue_features[rows].float(), valid, self.queue_episodes[rows],
                       self.queue_frames[rows], self.queue_tasks[rows], self.queue_state[rows].float())

    @torch.no_grad()
    def candidates(self, batch: Targets, *, start: int = 0, count: int | None = None,
                   hard_ratio: float = 0.0) -> CandidateSet:
        """Candidates of the samples ``start : start + count`` of the global ``batch``.

        A sample without a valid target gets none but column 0. The draws are made for the global batch on
        every rank, so that several ranks see what one would.
        """
        count = len(batch) - start if count is None else count
        samples, queue = batch.rows(slice(start, start + count)), self.queue()
        batch_mask = _mismatched(samples, batch, self.config.same_target_window)
        own = torch.arange(count, device=batch_mask.device)
        batch_mask[own, own + start] = False
        eligible = _mismatched(samples, queue, self.config.same_target_window)
        drawn, drawn_mask = self._draw(samples, queue, eligible, start, len(batch), hard_ratio)
        return CandidateSet(samples.features, batch.features, batch_mask, queue.features, drawn, drawn_mask,
                            self.config.norm_eps)

    def _draw(self, samples: Targets, queue: Targets, eligible: Tensor, start: int, batch_size: int,
              hard_ratio: float) -> tuple[Tensor, Tensor]:
        """At most ``queue_negatives`` distinct eligible entries per sample, the share ``hard_ratio`` of them
        hard where there are that many, the others uniform among those left: rows (B, k) and mask (B, k)."""
        count = min(self.config.queue_negatives, len(queue))
        key = self._random(batch_size, start, eligible)
        hard_count = round(hard_ratio * count)
        if hard_count > 0 and count > 0:
            hardness = _hardness(samples, queue, self._random(batch_size, start, eligible))
            best = hardness.masked_fill(~eligible, -torch.inf).topk(hard_count, dim=1)
            key.scatter_add_(1, best.indices, (best.values > -torch.inf).to(key.dtype))  # above all others
        chosen = key.masked_fill_(~eligible, -1.0).topk(count, dim=1, sorted=False)
        return chosen.indices, chosen.values >= 0

    def _random(self, batch_size: int, start: int, like: Tensor) -> Tensor:
        """Uniform numbers for rows ``start ...`` of the global batch, of the shape of ``like`` (B, Q)."""
        return self.uniform(batch_size, like.shape[1])[start: start + len(like)].to(like.device)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), the same on every rank, drawn on the CPU."""
        return torch.rand(*shape, generator=self.generator)

    @contextmanager
    def draws(self) -> Iterator[None]:
        """In eval mode the draws within are not remembered: scoring leaves training's draws as they were."""
        before = self.generator.get_state()
        yield
        if not self.training:
            self.generator.set_state(before)

    @torch.no_grad()
    def push(self, batch: Targets) -> None:
        """Put the valid targets of the global ``batch`` into the queue, over the oldest ones."""
        entering = batch.rows(batch.valid)
        size = self.config.queue_size
        skipped = max(len(entering) - size, 0)  # would be overwritten at once
        entering = entering.rows(slice(skipped, None))
        first = self.pushed + skipped
        slots = torch.arange(first, first + len(entering), device=self.queue_features.device) % size
        if self.queue_state.shape[1] != entering.state.shape[1]:
            self.queue_state = self.queue_state.new_full((size, entering.state.shape[1]), torch.nan)
        self.queue_features[slots] = entering.features.to(self.queue_features.dtype)
        self.queue_state[slots] = entering.state.to(self.queue_state.dtype)
        for buffer, values in ((self.queue_episodes, entering.episodes), (self.queue_frames, entering.frames),
                               (self.queue_tasks, entering.tasks)):
            buffer[slots] = values.to(buffer.dtype)
        self.pushed = first + len(entering)

    def get_extra_state(self) -> dict[str, Any]:
        return {"pushed": self.pushed, "generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.pushed = int(state["pushed"])
        self.generator.set_state(state["generator"].cpu())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "queue_state")
        if stored is not None and len(stored) == len(self.queue_state):
            self.queue_state = self.queue_state.new_zeros(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _mismatched(samples: Targets, others: Targets, window: int) -> Tensor:
    """(B, N) bool: where ``others`` are valid and not the target of ``samples``."""
    near = (samples.frames[:, None] - others.frames).abs() < window
    known = (samples.frames[:, None] >= 0) & (others.frames >= 0)
    same_frame = (samples.episodes[:, None] == others.episodes) & near & known
    with torch.autocast(samples.features.device.type, enabled=False):  # in bfloat16 SAME_FEATURES would be 1
        same_features = samples.features.float() @ others.features.float().T > SAME_FEATURES
    return samples.valid[:, None] & others.valid & ~same_frame & ~same_features


def _hardness(samples: Targets, queue: Targets, random: Tensor) -> Tensor:
    """(B, Q), higher is harder, -inf is not hard at all: entries of the sample's task, in random order; or,
    where tasks are unknown, entries by the distance of their proprioceptive state."""
    same_task = samples.tasks[:, None] == queue.tasks
    by_task = torch.where(same_task, random, -torch.inf)
    if (samples.tasks >= 0).all():
        return by_task
    if samples.state.shape[1] == 0 or samples.state.shape[1] != queue.state.shape[1]:
        return by_task.masked_fill(samples.tasks[:, None] < 0, -torch.inf)
    distance = torch.cdist(samples.state, queue.state).nan_to_num(nan=torch.inf)
    return torch.where(samples.tasks[:, None] >= 0, by_task, -distance)
