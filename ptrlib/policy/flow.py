"""The flow-matching head (Eq 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ptrlib.policy.backbone import Context
from ptrlib.policy.expert import ActionHead


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

    @torch.no_grad()
    def sample(self, context: Context, state: Tensor, action_mask: Tensor, noise: Tensor,
               steps: int) -> tuple[Tensor, Tensor]:
        """``steps`` Euler steps from sigma = 0 to 1; the hidden states are those of the last step."""
        chunk = noise.masked_fill(~action_mask[:, None], 0)
        memory = self.expert.remember(context)
        step_mask = torch.ones(chunk.shape[:2], dtype=torch.bool, device=chunk.device)
        for step in range(steps):
            time = chunk.new_full((len(chunk),), step / steps)
            velocity, hidden = self.predict(chunk, time, state, action_mask, memory, context.mask, step_mask)
            chunk = chunk + velocity / steps
        return chunk, hidden
