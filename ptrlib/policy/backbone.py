"""The backbone f_phi (Section 3, Eq 3): language, belief and vision tokens to hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ptrlib.config import NetworkConfig
from ptrlib.policy.instruction import PADDING
from ptrlib.policy.precision import computing
from ptrlib.policy.transformer import Attention, FeedForward, attention_bias, quiet


@dataclass
class Context:
    """What the backbone knows of one moment, H_t and h_t of Eq 3."""

    hidden: Tensor  # H_t (B, S, d)
    mask: Tensor  # (B, S) bool, False at padding words
    pooled: Tensor  # h_t (B, d)


class Backbone(nn.Module):
    """A pre-norm transformer over [language][belief][vision] under one fixed mask (Section 4.6).

    Language is causal; belief tokens are ordinary context tokens and continue that causal order; vision
    tokens see everything before them and one another. Padding words are seen by nobody.
    """

    def __init__(self, network: NetworkConfig, belief_tokens: int, vision_tokens: int) -> None:
        super().__init__()
        width = network.width
        self.precision = network.precision
        self.words = nn.Embedding(network.vocabulary, width)
        self.word_position = nn.Parameter(torch.randn(network.instruction_length, width) * 0.2)
        self.belief_position = nn.Parameter(torch.randn(belief_tokens, width) * 0.2)
        self.layers = nn.ModuleList([BackboneLayer(network) for _ in range(network.backbone_layers)])
        self.norm = nn.LayerNorm(width)
        self.fusion = FUSIONS[network.fusion](width, vision_tokens)

    def forward(self, vision: Tensor, instruction: Tensor, belief: Tensor | None) -> Context:
        """Context of vision tokens (B, N, d), word identifiers (B, W) and belief tokens (B, M, d) or None."""
        longest = int((instruction != PADDING).any(0).sum())
        words = instruction[:, :longest]  # columns that are padding for the whole batch cost time for nothing
        language = self._embed(words)
        sentence = (language * (words != PADDING)[..., None]).sum(1) / (words != PADDING).sum(1, keepdim=True).sqrt()
        parts = [language, self.fusion.before(vision, sentence)]
        if belief is not None:
            parts.insert(1, belief.to(vision.dtype) + self.belief_position)
        tokens = torch.cat(parts, dim=1)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        mask[:, :longest] = words != PADDING
        bias = attention_bias(context_mask(mask, vision.shape[1]))[:, None]
        with computing(self.precision, tokens.device):
            for layer in self.layers:
                tokens = layer(tokens, bias)
        hidden = self.norm(tokens)
        return Context(hidden, mask, self.fusion.pooled(hidden[:, -vision.shape[1]:], sentence))

    def _embed(self, words: Tensor) -> Tensor:
        """Two buckets per word: two words are confused only if they collide in both."""
        buckets = self.words.num_embeddings
        embedded = (self.words(words % buckets) + self.words(words // buckets % buckets)) * 0.5**0.5
        return embedded + self.word_position[:words.shape[1]]


class AttentionFusion(nn.Module):
    """Language and vision meet in attention alone; h_t is the mean of the vision tokens."""

    def __init__(self, width: int, vision_tokens: int) -> None:
        super().__init__()

    def before(self, vision: Tensor, sentence: Tensor) -> Tensor:
        """The vision tokens (B, N, d) that enter the backbone, given the sentence (B, d)."""
        return vision

    def pooled(self, vision: Tensor, sentence: Tensor) -> Tensor:
        """h_t (B, d) of the vision tokens' hidden states (B, N, d)."""
        return vision.mean(1)


class FilmFusion(AttentionFusion):
    """The sentence gates the channels of the vision tokens before and after the backbone (FiLM), and h_t is a
    linear map of all of them, each in its place.

    A small policy learns where the thing is that the instruction names far sooner like this than by attention.
    """

    def __init__(self, width: int, vision_tokens: int) -> None:
        super().__init__(width, vision_tokens)
        self.gates = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(2)])
        for gate in self.gates:
            nn.init.zeros_(cast(nn.Linear, gate).bias)
        self.summary = nn.Linear(vision_tokens * width, width)

    def before(self, vision: Tensor, sentence: Tensor) -> Tensor:
        return self._gated(0, vision, sentence)

    def pooled(self, vision: Tensor, sentence: Tensor) -> Tensor:
        return self.summary(self._gated(1, vision, sentence).flatten(1))

    def _gated(self, number: int, vision: Tensor, sentence: Tensor) -> Tensor:
        scale, shift = self.gates[number](sentence)[:, None].chunk(2, dim=-1)
        return vision * (1 + scale) + shift


FUSIONS: dict[str, type[AttentionFusion]] = {"attention": AttentionFusion, "film": FilmFusion}


def context_mask(mask: Tensor, vision_tokens: int) -> Tensor:
    """Who may look at whom, (B, S, S) bool [query, key], for tokens present as in ``mask`` (B, S).

    Causal, except that the last ``vision_tokens`` tokens see one another; absent tokens are seen by
    nobody but themselves (so that no row is empty).
    """
    length = mask.shape[1]
    place = torch.arange(length, device=mask.device)
    is_vision = place >= length - vision_tokens
    order = (place[None] <= place[:, None]) | (is_vision[None] & is_vision[:, None])
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)
    return (order & mask[:, None]) | itself


class BackboneLayer(nn.Module):
    """Self-attention and feed-forward, each normalised before and added after."""

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(network.width)
        self.attention = Attention(network.width, network.heads)
        self.feed_forward_norm = nn.LayerNorm(network.width)
        self.feed_forward = FeedForward(network.width, network.expansion)
        for branch in (self.attention.output, self.feed_forward.fall):
            quiet(branch, network.backbone_layers**-0.5)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, self.attention.keys_values(normed), bias)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))
