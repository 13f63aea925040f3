"""Pre-norm transformer parts shared by the backbone and the action expert."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention from queries (B, S, d) to keys and values that were projected beforehand."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"network.width ({width}) must be a multiple of network.heads ({heads})")
        self.heads = heads
        self.to_queries = nn.Linear(width, width)
        self.to_keys_values = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, keys_values: Tensor, bias: Tensor | None) -> Tensor:
        """(B, S, d) for ``keys_values`` (B, S', 2 d), what ``to_keys_values`` made of S' tokens.

        ``bias`` is added to the logits, -inf where attention is not allowed. Its shape broadcasts to
        (B, heads, S, S').
        """
        keys, values = keys_values.chunk(2, dim=-1)
        mixed = attend(self._split(self.to_queries(tokens)), self._split(keys), self._split(values), bias)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Scaled dot-product attention (B, heads, S, d / heads).

    The fused kernel takes half the time of plain products in float32, but several times as long in bfloat16 on
    a CPU, at the lengths used here (tens of tokens).
    """
    if queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        logits = queries @ keys.transpose(-1, -2) * (1 / math.sqrt(queries.shape[-1]))
        return (logits if bias is None else logits + bias).softmax(-1).to(values.dtype) @ values
    bias = None if bias is None else bias.to(queries.dtype)
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.rise = nn.Linear(width, expansion * width)
        self.fall = nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fall(functional.gelu(self.rise(tokens)))


def attention_bias(allowed: Tensor) -> Tensor:
    """Additive bias of a boolean mask: 0 where True, -inf where False."""
    return torch.zeros_like(allowed, dtype=torch.float32).masked_fill_(~allowed, -torch.inf)


def quiet(layer: nn.Linear | nn.Conv2d, scale: float) -> None:
    """Shrinks an output layer, so that the branch it ends adds little before training."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.zero_()


def fourier_features(positions: Tensor, width: int, shortest: float, longest: float) -> Tensor:
    """Sines and cosines (..., width) of positions (...), periods spaced geometrically."""
    spacing = torch.linspace(0, 1, width // 2, device=positions.device)
    periods = shortest * (longest / shortest) ** spacing
    phases = positions.float().unsqueeze(-1) * (2 * math.pi / periods)
    return torch.cat([phases.sin(), phases.cos()], dim=-1)
