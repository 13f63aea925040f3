"""From score to weight, and what the weights do to the training distribution (Section 4.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ptrlib.config import PTRConfig
from ptrlib.distributed import global_sum
from ptrlib.method.bounds import check_range


def conservative_weights(score: Tensor, *, beta: float, alpha: float = PTRConfig.alpha,
                         w_min: float = PTRConfig.w_min, w_max: float = PTRConfig.w_max) -> Tensor:
    """Eq 21: w = 1 + alpha (clip(exp(T / beta), w_min, w_max) - 1), of any shape, without gradient.

    The clip is applied to T / beta first, so that no exponential overflows. Half-precision scores give
    float32 weights.

    Raises:
        ValueError: beta, alpha or the clip is out of range.
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    check_range(w_min, w_max, alpha)
    score = score.detach()
    if score.dtype in (torch.float16, torch.bfloat16):
        score = score.float()
    ratio = (score / beta).clamp(math.log(w_min), math.log(w_max)).exp().clamp(w_min, w_max)
    return 1 + alpha * (ratio - 1)


def self_normalised_mean(loss: Tensor, weight: Tensor) -> Tensor:
    """Eq 27: sum sg(w) l / sum sg(w) over the global batch, a scalar; 0 where all weights are 0.

    ``loss`` and ``weight`` have one shape. Under several ranks both sums are over all of them, and
    DistributedDataParallel's mean of the gradients is the gradient of the joined batch.
    """
    if loss.shape != weight.shape:
        raise ValueError(f"loss has shape {tuple(loss.shape)} and weight {tuple(weight.shape)}: "
                         "give one loss and one weight per sample")
    weighted = weight.detach() * loss
    total, mass = global_sum(torch.stack([weighted.sum(), weight.detach().sum().to(weighted.dtype)]))
    return total / mass.clamp_min(torch.finfo(mass.dtype).tiny)


def source_shares(prior: Tensor, weight: Tensor, source: Tensor) -> Tensor:
    """Eq 29: q(m) = pi_m E_m[w] / Z, the share of each source under the weighted distribution.

    Args:
        prior: (M,) proportions pi_m; scaled to sum to 1.
        weight: (N,) weights of samples.
        source: (N,) integers in [0, M), the source of each sample.

    Raises:
        ValueError: a source with a positive proportion has no samples.
    """
    weight = weight.detach()
    total = weight.new_zeros(len(prior)).index_add_(0, source, weight)
    count = torch.bincount(source, minlength=len(prior))
    missing = ((count == 0) & (prior > 0)).nonzero().flatten().tolist()
    if missing:
        raise ValueError(f"source {missing[0]} has a prior but no samples: drop it or score its chunks")
    mass = prior.to(weight.dtype) * total / count.clamp_min(1)
    return mass / mass.sum()
