"""Post-action targets: a slowly moving copy of the policy's own vision tower (Section 4.2)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptrlib.config import PTRConfig


class EMATargetEncoder(nn.Module):
    """g: an exponential moving average of a vision tower, without gradient and always in eval mode.

    Features are those of ``vision_tower.target_features(images)`` where the tower has that method (an
    intermediate layer, pooled), else those of ``vision_tower(images)``; both must be (B, D). Keep the
    tower's parameters in float32 (autocast is fine): in bfloat16 a step of 1 - mu = 0.001 rounds away.
    """

    def __init__(self, vision_tower: nn.Module, config: PTRConfig | None = None) -> None:
        super().__init__()
        config = config or PTRConfig()
        self.decay, self.eps = config.ema_decay, config.norm_eps
        self.tower = copy.deepcopy(_bare(vision_tower)).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EMATargetEncoder:
        """Stays in eval mode: targets must not depend on dropout or on the batch they come in."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Targets (B, D) of unit length, for whatever ``images`` (B, ...) the tower takes."""
        features = getattr(self.tower, "target_features", self.tower)(images)
        return F.normalize(features.float(), dim=-1, eps=self.eps)

    @torch.no_grad()
    def update(self, vision_tower: nn.Module) -> None:
        """g <- mu g + (1 - mu) v, to be called after the optimiser's step.

        Floating-point buffers (running statistics) move like parameters; counters are copied.
        """
        ours, theirs = _state(self.tower), _state(_bare(vision_tower))
        if [value.shape for value in ours] != [value.shape for value in theirs]:
            raise ValueError("the vision tower given to update() is not the one that was copied: "
                             "pass the tower the target encoder was made from")
        moving = [(own, new) for own, new in zip(ours, theirs, strict=True) if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in moving],
                             [new.to(own.device, own.dtype) for own, new in moving], 1 - self.decay)
        for own, new in zip(ours, theirs, strict=True):
            if not own.is_floating_point():
                own.copy_(new)


def _bare(module: nn.Module) -> nn.Module:
    """The module inside a DistributedDataParallel wrapper."""
    return module.module if isinstance(module, nn.parallel.DistributedDataParallel) else module


def _state(module: nn.Module) -> list[Tensor]:
    return [value.detach() for value in (*module.parameters(), *module.buffers())]
