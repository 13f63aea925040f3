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
            auxiliary = ptr.lambda_ent * features.belief.entropy + ptr.lambda_div * features.belief.diversity
            info = {"tok_entropy": features.belief.entropy.item(),
                    "tok_diversity": features.belief.diversity.item()}
        return CreditOutput(weight, auxiliary, None, info)
