"""The diffusion head: the second option behind the same interface (Section 3, "Diffusion heads")."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ptrlib.config import BasePolicyConfig, NetworkConfig
from ptrlib.policy.expert import ActionHead, Predict


class DiffusionHead(ActionHead):
    """Predicts the noise of a cosine schedule; samples by DDIM without added noise.

    Time runs over ``diffusion_levels`` levels; the signal share of level k of K is
    cos^2(pi/2 (k + 1) / (K + 1)), which is never exactly 0 or 1.
    """

    def __init__(self, network: NetworkConfig, base: BasePolicyConfig) -> None:
        super().__init__(network, base)
        self.levels = network.diffusion_levels
        self.clip = network.diffusion_clip

    def sample_time(self, batch: int, generator: torch.Generator) -> Tensor:
        """k / K for a level k drawn uniformly from 0 .. K - 1."""
        level = torch.randint(self.levels, (batch,), generator=generator, device=generator.device)
        return level / self.levels

    def signal(self, time: Tensor) -> Tensor:
        """The share alpha_bar of the signal's variance at time k / K."""
        return (math.pi / 2 * (time * self.levels + 1) / (self.levels + 1)).cos().square()

    def noised(self, actions: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.signal(time)
        return signal.sqrt() * actions + (1 - signal).sqrt() * noise, noise

    def estimate(self, output: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The noisy chunk is nearly all noise where the signal is weak: there the expert need add little.

        Without this the estimate of the clean chunk would divide the expert's error by the weak signal.
        """
        signal = self.signal(time)
        return (1 - signal).sqrt() * noisy + signal.sqrt() * output

    def denoised(self, chunk: Tensor, predict: Predict, steps: int) -> tuple[Tensor, Tensor]:
        """``steps`` deterministic DDIM steps over evenly spaced levels, the noisiest first."""
        levels = torch.linspace(self.levels - 1, 0, steps, device=chunk.device).round()
        # after the last step nothing of the noise is left: a signal of 1
        signals = torch.cat([self.signal(levels / self.levels), levels.new_ones(1)])
        for step, level in enumerate(levels):
            estimate, hidden = predict(chunk, (level / self.levels).expand(len(chunk)))
            clean = (chunk - (1 - signals[step]).sqrt() * estimate) / signals[step].sqrt()
            clean = clean.clamp(-self.clip, self.clip)
            estimate = (chunk - signals[step].sqrt() * clean) / (1 - signals[step]).sqrt()
            chunk = signals[step + 1].sqrt() * clean + (1 - signals[step + 1]).sqrt() * estimate
        return chunk, hidden
