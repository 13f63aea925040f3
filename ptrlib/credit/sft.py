"""Uniform supervised post-training (Eq 2), with or without belief tokens (SFT, SFT+Belief)."""

from __future__ import annotations

import torch

from ptrlib.credit.interface import ChunkFeatures, Credit, CreditOutput


class SFT(Credit):
    """Every chunk weighs one. With belief tokens the tokenizer keeps its own two losses (Eq 10-11)."""

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        weight = torch.ones_like(features.context[:, 0]).detach()
        auxiliary = features.context.new_zeros(())
        info: dict[str, float] = {}
        if features.belief is not None:
            ptr = self.config.ptr
            entropy, diversity = features.belief.entropy.mean(), features.belief.diversity.mean()
            auxiliary = ptr.lambda_ent * entropy + ptr.lambda_div * diversity
            info = {"tok_entropy": entropy.item(), "tok_diversity": diversity.item()}
        return CreditOutput(weight, auxiliary, None, info)
