"""The arithmetic of the network's matrix products and convolutions."""

from __future__ import annotations

import torch


def computing(precision: str, device: torch.device) -> torch.autocast:
    """Context in which matrix products and convolutions run in ``precision``.

    Parameters, normalisations and losses stay in float32. "auto" is bfloat16 where the processor
    multiplies it natively (there it is three to four times as fast) and float32 elsewhere. Weights are
    not cached between casts: a cast made without gradients must never serve a pass that needs them.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f'network.precision must be "auto", "float32" or "bfloat16", got {precision!r}')
    reduced = precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced, cache_enabled=False)


def multiplies_bfloat16(device: torch.device) -> bool:
    """True where "auto" means bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
