"""The action expert: what the flow-matching and the diffusion head have in common.

A small transformer reads the noisy chunk, the state and the context, and predicts the quantity that its
head asks for. The head decides how noise is mixed in, what is predicted, and how a chunk is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptrlib.config import BasePolicyConfig, NetworkConfig
from ptrlib.policy.backbone import Context
from ptrlib.policy.precision import computing
from ptrlib.policy.transformer import Attention, FeedForward, attention_bias, fourier_features, quiet

USUAL_SLOTS = 16  # slots that a robot uses, roughly; scales the projections of unified vectors


@dataclass
class Memory:
    """What the expert keeps of a context: computed once, used at every denoising step."""

    keys_values: list[tuple[Tensor, Tensor]]  # of each layer
    summary: Tensor | None  # (B, 1, d), added to every token


@dataclass
class HeadLoss:
    """One training pass of a head."""

    per_sample: Tensor  # l_act (B,): mean over the active slots and the valid steps
    hidden: Tensor  # C_t (B, L, d): hidden states at the action tokens (Section 4.1)


class ActionHead(nn.Module):
    """Base of the heads; a subclass says how time is drawn, what is mixed and how chunks are sampled."""

    def __init__(self, network: NetworkConfig, base: BasePolicyConfig) -> None:
        super().__init__()
        self.base = base
        self.expert = ActionExpert(network, base)

    def action_tokens(self, actions: Tensor) -> Tensor:
        """E_t (B, L, d) of clean chunks (B, L, 200), zero in unused slots (Eq 4)."""
        with computing(self.expert.precision, actions.device):
            return self.expert.projector(actions).float()

    def sample_time(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise times in [0, 1], on the generator's device."""
        raise NotImplementedError

    def noised(self, actions: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy chunk and the expert's target, both (B, L, 200), for time (B, 1, 1)."""
        raise NotImplementedError

    def estimate(self, output: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The head's estimate of its target from the expert's output, the noisy chunk and time (B, 1, 1)."""
        raise NotImplementedError

    def sample(self, context: Context, state: Tensor, action_mask: Tensor, noise: Tensor,
               steps: int) -> tuple[Tensor, Tensor]:
        """From standard normal ``noise`` (B, L, 200), drawn by the caller so that a sample does not depend on
        the batch it is in: actions (B, L, 200), exactly zero in unused slots, and hidden states (B, L, d)."""
        raise NotImplementedError

    def loss(self, context: Context, state: Tensor, actions: Tensor, action_mask: Tensor, step_mask: Tensor,
             generator: torch.Generator) -> HeadLoss:
        """Per-sample loss of clean chunks ``actions`` (B, L, 200) (Eq 1 for the flow head).

        ``state`` is (B, 200); ``action_mask`` (B, 200) marks the robot's slots and ``step_mask`` (B, L)
        the steps that count. Neither the values of unused slots nor those of masked steps matter. The mean
        over slots and steps replaces Eq 1's sum, so that robots with many joints do not count for more.
        """
        noise = draw_normal(actions, generator)
        time = self.sample_time(len(actions), generator).to(actions.device)
        noisy, target = self.noised(actions, noise, time[:, None, None])
        counts = step_mask[:, :, None] & action_mask[:, None]
        predicted, hidden = self.predict(noisy, time, state, action_mask, self.expert.remember(context),
                                         context.mask, step_mask)
        error = (predicted - target).square().masked_fill(~counts, 0).sum((1, 2))
        return HeadLoss(error / counts.sum((1, 2)).clamp(min=1), hidden)

    def predict(self, noisy: Tensor, time: Tensor, state: Tensor, action_mask: Tensor, memory: Memory,
                context_mask: Tensor, step_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Estimated target (B, L, 200) and hidden states (B, L, d); unused slots stay zero."""
        unused = ~action_mask[:, None]
        noisy = noisy.masked_fill(unused, 0)
        output, hidden = self.expert(noisy, time, state, memory, context_mask, step_mask)
        return self.estimate(output, noisy, time[:, None, None]).masked_fill(unused, 0), hidden


def draw_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise in the shape of ``like``, the same whatever device ``like`` is on."""
    noise = torch.randn(like.shape, generator=generator, device=generator.device)
    return noise.to(like.device)


class ActionExpert(nn.Module):
    """L action tokens and a state token attend to one another and to the context H_t."""

    def __init__(self, network: NetworkConfig, base: BasePolicyConfig) -> None:
        super().__init__()
        width = network.width
        self.precision = network.precision
        self.projector = ActionProjector(base, width)
        self.state = nn.Linear(base.action_dim, width)
        nn.init.normal_(self.state.weight, std=USUAL_SLOTS**-0.5)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList([ExpertLayer(network) for _ in range(network.expert_layers)])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, base.action_dim)
        quiet(self.output, 0.1)
        self.summary = nn.Linear(width, width) if network.fusion == "film" else None

    def remember(self, context: Context) -> Memory:
        """What every denoising step reads of the context."""
        with computing(self.precision, context.hidden.device):
            keys_values = [cast(ExpertLayer, layer).cross_attention.keys_values(context.hidden)
                           for layer in self.layers]
        return Memory(keys_values, None if self.summary is None else self.summary(context.pooled)[:, None])

    def forward(self, noisy: Tensor, time: Tensor, state: Tensor, memory: Memory, context_mask: Tensor,
                step_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B, L, 200) and hidden states (B, L, d) of the noisy chunk (B, L, 200) at time (B,)."""
        present = functional.pad(step_mask, (0, 1), value=True)  # the state token is always there
        itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
        bias = attention_bias(present[:, None] | itself)[:, None]
        context_bias = attention_bias(context_mask)[:, None, None]
        with computing(self.precision, noisy.device):
            tokens = torch.cat([self.projector(noisy), self.state(state)[:, None]], dim=1).float()
            tokens = tokens + self.time(fourier_features(time, tokens.shape[-1], 0.01, 4.0))[:, None]
            if memory.summary is not None:
                tokens = tokens + memory.summary
            for layer, keys_values in zip(self.layers, memory.keys_values, strict=True):
                tokens = layer(tokens, bias, keys_values, context_bias)
            hidden = self.norm(tokens[:, :-1])
            return self.output(hidden).float(), hidden


class ActionProjector(nn.Module):
    """The action-channel projector g_phi (Eq 4): chunks (B, L, 200) to action tokens (B, L, d).

    The step's place enters before the nonlinearity, so that a mean over the tokens still depends on the
    order of the steps.
    """

    def __init__(self, base: BasePolicyConfig, width: int) -> None:
        super().__init__()
        self.rise = nn.Linear(base.action_dim, width)
        nn.init.normal_(self.rise.weight, std=USUAL_SLOTS**-0.5)
        steps = torch.arange(base.chunk_length) / base.chunk_length
        self.position = nn.Parameter(fourier_features(steps, width, 0.25, 4.0))
        self.fall = nn.Linear(width, width)

    def forward(self, actions: Tensor) -> Tensor:
        return self.fall(functional.gelu(self.rise(actions) + self.position))


class ExpertLayer(nn.Module):
    """Self-attention, cross-attention to the context and feed-forward, pre-norm."""

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        width = network.width
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, network.heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, network.heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, network.expansion)
        for branch in (self.self_attention.output, self.cross_attention.output, self.feed_forward.fall):
            quiet(branch, network.expert_layers**-0.5)

    def forward(self, tokens: Tensor, bias: Tensor, keys_values: tuple[Tensor, Tensor],
                context_bias: Tensor) -> Tensor:
        normed = self.self_norm(tokens)
        tokens = tokens + self.self_attention(normed, self.self_attention.keys_values(normed), bias)
        tokens = tokens + self.cross_attention(self.cross_norm(tokens), keys_values, context_bias)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))
