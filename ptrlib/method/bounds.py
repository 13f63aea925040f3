"""What a clipped weight cannot exceed (Section 4.4): Eq 24, 26 and 30, the last two also in a sharp form."""

from __future__ import annotations

import math

from ptrlib.config import PTRConfig


def weight_bounds(w_min: float, w_max: float, alpha: float = PTRConfig.alpha) -> tuple[float, float]:
    """Eq 24: the lowest and the highest weight that Eq 21 can give."""
    check_range(w_min, w_max, alpha)
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


def check_range(w_min: float, w_max: float, alpha: float) -> None:
    """Raise ValueError unless 0 < w_min <= 1 <= w_max < inf and 0 <= alpha <= 1."""
    if not 0 < w_min <= 1 <= w_max < math.inf:
        raise ValueError(f"the clip must satisfy 0 < w_min <= 1 <= w_max, got [{w_min}, {w_max}]")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
