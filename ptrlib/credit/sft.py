"""Uniform supervised post-training (Eq 2), with or without belief tokens (SFT, SFT+Belief)."""

from __future__ import annotations

import torch

from ptrlib.credit.interface import ChunkFeatures, Credit, CreditOutput
from ptrlib.distributed import global_sum


class SFT(Credit):
    """Every chunk weighs one. With belief tokens the tokenizer keeps its own two losses (Eq 10-11)."""

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        """Weights (B,) of one; the auxiliary loss is the tokenizer's, 0 without one."""
        weight = torch.ones_like(features.context[:, 0]).detach()
        auxiliary = features.context.new_zeros(())
        info: dict[str, float] = {}
        if features.belief is not None:
            ptr = self.config.ptr
            belief = features.belief
            sums = torch.stack([belief.entropy.sum(), belief.diversity.sum()])
            totals = global_sum(torch.cat([sums, sums.new_tensor([belief.entropy.numel()])]))
            entropy, diversity = totals[:2] / totals[2].clamp_min(1)  # of the joined batch, as PTR's
            auxiliary = ptr.lambda_ent * entropy + ptr.lambda_div * diversity
            info = {"tok_entropy": entropy.item(), "tok_diversity": diversity.item()}
        return CreditOutput(weight, auxiliary, None, info)
