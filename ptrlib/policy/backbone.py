"""The backbone f_phi (Section 3, Eq 3): language, belief and vision tokens to hidden states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

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


@dataclass
class Language:
    """Instructions as the backbone has read them, each distinct one of U once.

    Words come first and see only words, so that what the backbone makes of them holds for every moment at which
    the instruction is given.
    """

    hidden: Tensor  # (U, W, d) the words' part of H_t
    mask: Tensor  # (U, W) bool, False at padding
    sentence: Tensor  # (U, d)
    keys_values: list[Tensor]  # of each layer, (U, W, 2 d)
    rows: Tensor  # (B,) which of the U each of B samples was given

    def of(self, samples: Tensor) -> Language:
        """The language of a selection of the samples."""
        return replace(self, rows=self.rows[samples])


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

    def read(self, instruction: Tensor) -> Language:
        """The words' part of the context, for word identifiers (B, W) of :func:`hash_words`."""
        words, rows = instruction.unique(dim=0, return_inverse=True)
        words = words[:, :int((words != PADDING).any(0).sum())]  # columns of padding alone cost time for nothing
        mask, tokens = words != PADDING, self._embed(words)
        sentence = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1).sqrt()
        bias = attention_bias(context_mask(mask, vision_tokens=0))[:, None]
        keys_values = []
        with computing(self.precision, tokens.device):
            for layer in self.layers:
                tokens, seen = layer(tokens, bias)
                keys_values.append(seen)
        return Language(self.norm(tokens), mask, sentence, keys_values, rows)

    def forward(self, vision: Tensor, language: Language, belief: Tensor | None) -> Context:
        """Context of vision tokens (B, N, d), the words given to B samples and belief tokens (B, M, d) or None."""
        rows, longest = language.rows, language.mask.shape[1]
        sentence = language.sentence.index_select(0, rows)
        tokens = self.fusion.before(vision, sentence)
        if belief is not None:
            tokens = torch.cat([belief.to(vision.dtype) + self.belief_position, tokens], dim=1)
        mask = functional.pad(language.mask[rows], (0, tokens.shape[1]), value=True)
        bias = attention_bias(context_mask(mask, vision.shape[1])[:, longest:])[:, None]
        with computing(self.precision, tokens.device):
            for layer, words in zip(self.layers, language.keys_values, strict=True):
                tokens, _ = layer(tokens, bias, words.index_select(0, rows))
        tokens = self.norm(tokens)
        hidden = torch.cat([language.hidden.index_select(0, rows), tokens], dim=1)
        return Context(hidden, mask, self.fusion.pooled(tokens[:, -vision.shape[1]:], sentence))

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

    def forward(self, tokens: Tensor, bias: Tensor, earlier: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The tokens' (B, S, d) next states, and the keys and values (B, S, 2 d) that later tokens see of them.

        ``earlier`` holds the keys and values of tokens before them.
        """
        normed = self.attention_norm(tokens)
        own = self.attention.to_keys_values(normed)
        seen = own if earlier is None else torch.cat([earlier, own], dim=1)
        tokens = tokens + self.attention(normed, seen, bias)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens)), own
