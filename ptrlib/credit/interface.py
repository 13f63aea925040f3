"""What a credit rule is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from ptrlib.config import RunConfig
from ptrlib.data.chunks import ChunkDataset
from ptrlib.data.episodes import Episode
from ptrlib.method.belief import BeliefOutput
from ptrlib.method.weights import self_normalised_mean
from ptrlib.policy.policy import Policy


class FeatureSizes(NamedTuple):
    """Widths of the features a rule reads, and the vision tower whose copy encodes the targets."""

    context: int
    action: int
    vision_tower: nn.Module
    target: int


@dataclass
class ChunkFeatures:
    """A minibatch of B chunks after the policy's forward pass. Only ``context``, ``action_tokens``
    and ``belief`` carry gradients."""

    context: Tensor  # (B, d) h_t
    action_tokens: Tensor  # (B, L, d) E_t
    step_mask: Tensor  # (B, L) bool, steps inside the episode
    target_images: Tensor  # (B, cameras, H, W, 3) uint8, o_{t+Delta}
    valid: Tensor  # (B,) bool, o_{t+Delta} was recorded
    episode_ids: Tensor  # (B,)
    frames: Tensor  # (B,) t + Delta
    task_ids: Tensor  # (B,)
    state: Tensor  # (B, slots)
    offset: Tensor  # (B,) steps
    belief: BeliefOutput | None


@dataclass
class CreditOutput:
    """Weights (B,) without gradient, the auxiliary losses (a scalar with gradient), the score (B,) or
    None, and statistics to log."""

    weight: Tensor
    auxiliary_loss: Tensor
    score: Tensor | None
    info: Mapping[str, float]

    def weighted_mean(self, loss: Tensor) -> Tensor:
        """Eq 27 over the global batch."""
        return self_normalised_mean(loss, self.weight)


class Credit(nn.Module):
    """One rule. A subclass implements :meth:`forward`; all else has neutral defaults."""

    ranks_chunks = False  # its weights follow a score of the chunk: a run keeps a gallery of both ends
    fixed = False  # it weighs every chunk of the episodes that it was prepared for, and of no others

    def __init__(self, config: RunConfig, sizes: FeatureSizes) -> None:
        super().__init__()
        self.config = config

    def prepare(self, policy: Policy, datasets: Sequence[ChunkDataset]) -> None:
        """Called once before training with the policy that it starts from, the training chunks and, where there
        are any, the held-out ones."""

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        """Weights (B,), auxiliary losses and score of the B chunks of a minibatch; of several ranks each gives its own
        chunks, and losses are those of the joined batch."""
        raise NotImplementedError

    def after_step(self, vision_tower: nn.Module) -> None:
        """Called once after every optimiser step."""

    @staticmethod
    def keeps(episode: Episode) -> bool:
        """Whether the rule learns from this episode at all."""
        return True
