"""From score to weight, and what the weights do to the training distribution (Section 4.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ptrlib.config import PTRConfig
from ptrlib.distributed import global_sum


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
    _check_range(w_min, w_max, alpha)
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


def weight_bounds(w_min: float, w_max: float, alpha: float = PTRConfig.alpha) -> tuple[float, float]:
    """Eq 24: the lowest and the highest weight that Eq 21 can give."""
    _check_range(w_min, w_max, alpha)
    return 1 + alpha * (w_min - 1), 1 + alpha * (w_max - 1)


def kl_bound(w_min: float, w_max: float, alpha: float = PTRConfig.alpha) -> float:
    """The paper's bound on KL(q || p_D) in nats (Eq 26): log of highest over lowest weight."""
    low, high = weight_bounds(w_min, w_max, alpha)
    return math.log(high / low)


def sharp_kl_bound(w_min: float, w_max: float, alpha: float = PTRConfig.alpha) -> float:
    """The supremum of KL(q || p_D) in nats over all distributions of weights within Eq 24's bounds.

    With Z = E[w], KL(q || p) = E[w log w] / Z - log Z. For a fixed mean Z, E[w log w] is largest when all
    mass sits at the two ends, because w log w is convex. KL does not change when w is scaled, so let the
    ends be 1 and r, with mass m on r: Z = 1 + m (r - 1), and

        KL(m) = m r log r / Z - log Z,    dKL/dm = r log r / Z^2 - (r - 1) / Z.

    The derivative is zero at Z* = r log r / (r - 1), where m r log r / Z* = m (r - 1) = Z* - 1. Hence

        sup KL = Z* - 1 - log Z*,

    about 0.87 nats at the defaults (r = 16), where Eq 26 allows 2.77.
    """
    log_ratio = kl_bound(w_min, w_max, alpha)
    if log_ratio == 0:
        return 0.0
    mean = log_ratio / -math.expm1(-log_ratio)  # Z*
    return mean - 1 - math.log(mean)


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


def share_bounds(w_min: float, w_max: float, alpha: float = PTRConfig.alpha) -> tuple[float, float]:
    """The paper's bounds on q(m) / pi_m of any source (Eq 30): lowest over highest weight, and its inverse."""
    low, high = weight_bounds(w_min, w_max, alpha)
    return low / high, high / low


def sharp_share_bounds(prior: float, w_min: float, w_max: float, alpha: float = PTRConfig.alpha
                       ) -> tuple[float, float]:
    """The infimum and the supremum of q(m) / pi_m of a source with the proportion ``prior``.

    q(m) / pi_m = E_m[w] / (pi_m E_m[w] + (1 - pi_m) E_rest[w]) grows with the source's mean weight and falls with
    that of the rest, so the ends are taken where all weights of the source lie at one end of Eq 24's range and
    all others at the other. Eq 30 is the limit of a source that is nearly absent.

    Raises:
        ValueError: ``prior`` is no proportion, or the clip is out of range.
    """
    if not 0 < prior <= 1:
        raise ValueError(f"prior must lie in (0, 1], got {prior}")
    low, high = weight_bounds(w_min, w_max, alpha)
    return low / (prior * low + (1 - prior) * high), high / (prior * high + (1 - prior) * low)


def _check_range(w_min: float, w_max: float, alpha: float) -> None:
    if not 0 < w_min <= 1 <= w_max < math.inf:
        raise ValueError(f"the clip must satisfy 0 < w_min <= 1 <= w_max, got [{w_min}, {w_max}]")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
