"""Belief proxy tokens: what one chunk hands to the next (Section 4.1, Eq 5-11)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ptrlib.config import PTRConfig


class BeliefOutput(NamedTuple):
    """What the tokenizer makes of B chunks."""

    tokens: Tensor  # (B, M, d) z_{t+1}, without gradient (Eq 5)
    entropy: Tensor  # (B,) nats, H_tok (Eq 10)
    diversity: Tensor  # (B,) D_tok (Eq 11)
    share: Tensor  # (B, L, M) pi over time (Eq 7)


class BeliefTokenizer(nn.Module):
    """Compress L per-step features into M tokens by soft assignments over time.

    Args:
        dim: d, width of the context features C_t and of the action features A_t.
    """

    def __init__(self, dim: int, config: PTRConfig | None = None) -> None:
        super().__init__()
        config = config or PTRConfig()
        self.temperature = config.tau_tok
        self.fuse = nn.Linear(2 * dim, dim, bias=False)  # W_f
        self.assign = nn.Linear(dim, config.belief_tokens, bias=False)  # W_a

    def forward(self, context_features: Tensor, action_features: Tensor,
                step_mask: Tensor | None = None) -> BeliefOutput:
        """Eq 6-8, 10 and 11 for ``context_features`` C_t (B, L, d), ``action_features`` A_t (B, L, d) and
        ``step_mask`` (B, L), True on the steps that the tokens are to hold: those that exist and, where the next chunk
        begins before this one's last step, are over by then. A chunk without any such step gives zeros."""
        fused = torch.tanh(self.fuse(torch.cat([context_features, action_features], dim=-1)))
        if step_mask is None:
            step_mask = torch.ones(fused.shape[:2], dtype=torch.bool, device=fused.device)
        log_share = slot_log_shares(self.assign(fused), step_mask, self.temperature)
        share = log_share.exp() * step_mask[..., None]
        tokens = torch.einsum("blm,bld->bmd", share, fused.to(share.dtype))
        return BeliefOutput(tokens=tokens.detach().to(fused.dtype),
                            entropy=slot_entropy(share, log_share),
                            diversity=slot_overlap(share) * step_mask.any(1), share=share)


def slot_log_shares(logits: Tensor, step_mask: Tensor, temperature: float) -> Tensor:
    """log pi (B, L, M) of Eq 7: a softmax over TIME for each slot, in float32. Steps outside
    ``step_mask`` (B, L) have no share; their entries are finite and must be multiplied away."""
    scaled = (logits.float() / temperature).masked_fill(~step_mask[..., None], -1e9)
    return torch.log_softmax(scaled, dim=1)


def reconstruction(share: Tensor, tokens: Tensor) -> Tensor:
    """Eq 9: per-step features (B, L, d) from shares (B, L, M) and tokens (B, M, d). The paper gives it no loss (Eq 10
    and 11 are all of L_tok), so that training does without."""
    return torch.einsum("blm,bmd->bld", share, tokens.to(share.dtype))


def slot_entropy(share: Tensor, log_share: Tensor) -> Tensor:
    """Eq 10: mean over slots of the entropy over time, (B,) in nats, of shares (B, L, M)."""
    return -(share * log_share).sum(1).mean(-1)


def slot_overlap(share: Tensor) -> Tensor:
    """Eq 11: squared Frobenius norm of the slots' Gram matrix minus the identity, (B,)."""
    gram = share.transpose(1, 2) @ share
    identity = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    return (gram - identity).square().sum((1, 2))
