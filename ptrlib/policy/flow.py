"""The flow-matching head (Eq 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ptrlib.policy.expert import ActionHead, Predict


class FlowMatchingHead(ActionHead):
    """Predicts the velocity a - epsilon along the straight line from noise (time 0) to actions (time 1)."""

    def sample_time(self, batch: int, generator: torch.Generator) -> Tensor:
        """sigma ~ Beta(alpha, beta), (batch,): a ratio of Gamma draws, as ``Beta`` takes no generator."""
        shape = torch.tensor([self.base.flow_time_alpha, self.base.flow_time_beta], device=generator.device)
        gamma = torch._standard_gamma(shape.expand(batch, 2), generator=generator)
        return gamma[:, 0] / gamma.sum(1)

    def noised(self, actions: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return time * actions + (1 - time) * noise, actions - noise

    def estimate(self, output: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        return output

    def denoised(self, chunk: Tensor, predict: Predict, steps: int) -> tuple[Tensor, Tensor]:
        """``steps`` Euler steps from sigma = 0 to 1."""
        for step in range(steps):
            velocity, hidden = predict(chunk, chunk.new_full((len(chunk),), step / steps))
            chunk = chunk + velocity / steps
        return chunk, hidden
