"""The identification posterior and the score it gives (Section 4.2, Eq 12-14 and 31)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptrlib.config import PTRConfig


class TransitionScorer(nn.Module):
    """The query head f(h_t, e_t): a two-layer perceptron, Xavier-initialised, into target space.

    Args:
        context_dim: width of h_t.
        action_dim: width of the action tokens E_t.
        target_dim: D, width of the targets; also that of the hidden layer.
    """

    def __init__(self, context_dim: int, action_dim: int, target_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(context_dim + action_dim, target_dim)
        self.project = nn.Linear(target_dim, target_dim)
        for layer in (self.hidden, self.project):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, context: Tensor, action_summary: Tensor) -> Tensor:
        """u_t (B, D) of ``context`` h_t (B, d_c) and ``action_summary`` e_t (B, d_a)."""
        joined = torch.cat([context, action_summary], dim=-1).to(self.hidden.weight.dtype)
        return self.project(F.gelu(self.hidden(joined)))


def pool_actions(action_tokens: Tensor, step_mask: Tensor | None = None) -> Tensor:
    """e_t = pool(E_t) of Eq 4: the mean of (B, L, d_a) over the steps in ``step_mask`` (B, L)."""
    if step_mask is None:
        return action_tokens.mean(1)
    share = step_mask.to(action_tokens.dtype)
    return torch.einsum("bld,bl->bd", action_tokens, share) / share.sum(1, keepdim=True).clamp_min(1)


def identification_logits(query: Tensor, candidates: Tensor, *, tau: float,
                          clamp: float = PTRConfig.logit_clamp, mask: Tensor | None = None,
                          eps: float = PTRConfig.norm_eps) -> Tensor:
    """The logits d of Eq 12 in float32: cosine over tau, held to [-clamp, clamp], column 0 matched.

    Args:
        query: (B, D) u_t, of any length.
        candidates: (B, K+1, D) targets, of any length.
        tau: tau_score.
        clamp: bound of a logit, applied before any softmax.
        mask: (B, K+1) bool, False where there is no candidate; those get -inf, whatever they hold.
        eps: of :func:`unit`.
    """
    if mask is not None:
        candidates = candidates.masked_fill(~mask[..., None], 0)
    cosine = torch.einsum("bd,bkd->bk", unit(query, eps), unit(candidates, eps))
    return logits_of(cosine, tau, clamp, mask)


def unit(vectors: Tensor, eps: float = PTRConfig.norm_eps) -> Tensor:
    """``vectors`` (..., D) at length 1 in float32; those shorter than ``eps`` are divided by it (zero stays zero)."""
    return F.normalize(vectors.float(), dim=-1, eps=eps)


def logits_of(cosine: Tensor, tau: float, clamp: float, mask: Tensor | None = None) -> Tensor:
    """Cosines of any shape as logits; -inf where ``mask`` is False."""
    logits = (cosine / tau).clamp(-clamp, clamp)
    return logits if mask is None else logits.masked_fill(~mask, -torch.inf)


def ptr_score(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq 14: T = log p(0) + log |Y|, (B,) in nats, of logits (B, K+1) with the matched one first.

    |Y| counts the candidates that are there: the True entries of ``mask``, without it the logits above
    -inf. The matched candidate must be there. Keeps the gradient.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    mask = logits > -torch.inf if mask is None else mask
    log_posterior = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), dim=-1)[:, 0]
    return log_posterior + mask.sum(-1).to(logits.dtype).log()


def identification_losses(logits: Tensor) -> Tensor:
    """-log p(0) per sample (B,), the summands of Eq 31."""
    return -torch.log_softmax(logits, dim=-1)[:, 0]


def ranking_losses(matched_logit: Tensor, permuted_logit: Tensor) -> Tensor:
    """-log sigmoid(d0+ - d0-) per sample (B,), the summands of Eq 13."""
    return F.softplus(permuted_logit - matched_logit)


def ranking_loss(matched_logit: Tensor, permuted_logit: Tensor) -> Tensor:
    """Eq 13, a scalar: how little the matched logit (B,) drops when the actions are another sample's."""
    return ranking_losses(matched_logit, permuted_logit).mean()


def shift_in_random_order(present: Tensor, random: Tensor) -> Tensor:
    """A permutation (N,) without fixed points among the True entries of ``present`` (N,).

    They are put in the order of ``random`` (N,), uniform in [0, 1), and each takes the next one's place:
    one cycle through all. The other entries keep theirs, as does a single True one.
    """
    order = torch.where(present, random, 2.0).argsort()  # the present ones first
    step = torch.arange(len(present), device=present.device)
    count = present.sum().clamp_min(1)
    following = order[torch.where(step < count, (step + 1) % count, step)]
    return torch.empty_like(order).scatter_(0, order, following)
