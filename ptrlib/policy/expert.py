"""The action expert: what the flow-matching and the diffusion head have in common.

A small transformer reads the noisy chunk, the state and the context, and predicts the quantity that its
head asks for. The head decides how noise is mixed in, what is predicted, and how a chunk is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptrlib.config import BasePolicyConfig, NetworkConfig
from ptrlib.policy.backbone import Context
from ptrlib.policy.precision import computing
from ptrlib.policy.transformer import Attention, FeedForward, attention_bias, fourier_features, quiet

Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (chunk, time (B,)) to the target and hidden states
USUAL_SLOTS = 16  # slots that a robot uses, roughly; scales the projections of unified vectors


@dataclass
class Memory:
    """What the expert keeps of a context: computed once, used at every denoising step."""

    keys_values: list[Tensor]  # of each layer, (B, S, 2 d)
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
        """E_t (B, L, d) of clean chunks (B, L, 200), zero in unused slots (Eq 4).

        They depend on the recorded actions alone: Eq 4 also names h_t and s_t, and Section 4.2 says that g_phi is to be
        read "purely as the action-channel projector used by the action head".
        """
        with computing(self.expert.precision, actions.device):
            slots = slots_in_use(actions)
            return self.expert.projector(actions[..., slots], slots).float()

    def sample_time(self, batch: int, generator: torch.Generator) -> Tensor:
        """(batch,) noise times in [0, 1], on the generator's device."""
        raise NotImplementedError

    def noised(self, actions: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy chunk and the expert's target, both (B, L, 200), for time (B, 1, 1)."""
        raise NotImplementedError

    def estimate(self, output: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The head's estimate of its target from the expert's output, the noisy chunk and time (B, 1, 1)."""
        raise NotImplementedError

    def denoised(self, chunk: Tensor, predict: Predict, steps: int) -> tuple[Tensor, Tensor]:
        """Standard normal noise (B, L, n) in n slots, zero where unused, brought to actions in ``steps`` calls of
        ``predict``; and the hidden states (B, L, d) of the last call."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, context: Context, state: Tensor, action_mask: Tensor, noise: Tensor, steps: int,
               executed: int | None = None) -> tuple[Tensor, Tensor]:
        """From standard normal ``noise`` (B, L, 200), drawn by the caller so that a sample does not depend on
        the batch it is in: actions (B, L, 200), exactly zero in unused slots, and hidden states (B, L, d).

        Hidden states are those of the last denoising step; with ``executed``, of the first so many actions alone, as
        if the others had not been planned."""
        slots, memory = slots_in_use(action_mask), self.expert.remember(context)
        used = action_mask[:, slots]
        asked: list[tuple[Tensor, Tensor]] = []
        step_mask = torch.ones(noise.shape[:2], dtype=torch.bool, device=noise.device)

        def predict(chunk: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
            asked.append((chunk, time))
            return self.predict(chunk, time, state, used, slots, memory, context.mask, step_mask)

        chunk, hidden = self.denoised(noise[..., slots].masked_fill(~used[:, None], 0), predict, steps)
        actions = torch.zeros_like(noise).index_copy_(2, slots, chunk)
        if executed is not None and executed < noise.shape[1]:
            step_mask = step_mask & (torch.arange(noise.shape[1], device=noise.device) < executed)
            _, hidden = predict(*asked[-1])
        return actions, hidden

    def draw(self, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What is random in the loss of chunks (B, L, 200): noise of that shape and times (B,)."""
        noise = draw_normal(actions, generator)
        return noise, self.sample_time(len(actions), generator).to(actions.device)

    def loss(self, context: Context, state: Tensor, actions: Tensor, action_mask: Tensor, learn_mask: Tensor,
             generator: torch.Generator) -> HeadLoss:
        """:meth:`loss_of_draw` of a draw from ``generator``."""
        return self.loss_of_draw(context, state, actions, action_mask, learn_mask, *self.draw(actions, generator))

    def loss_of_draw(self, context: Context, state: Tensor, actions: Tensor, action_mask: Tensor, learn_mask: Tensor,
                     noise: Tensor, time: Tensor, visible: Tensor | None = None) -> HeadLoss:
        """Per-sample loss of clean chunks ``actions`` (B, L, 200) (Eq 1 for the flow head).

        ``state`` is (B, 200); ``action_mask`` (B, 200) marks the robot's slots, whose others' values do not matter, and
        ``learn_mask`` (B, L) the steps that count. Steps see one another whether they count or not, as when the policy
        acts: hidden where the episode is over, they would tell how long it still lasts. Only those of ``visible``
        (B, L) are seen where it is given. The mean over slots and steps replaces Eq 1's sum, so that robots with many
        joints do not count for more.
        """
        slots = slots_in_use(action_mask)  # the others would be multiplied by zero
        used = action_mask[:, slots]
        noisy, target = self.noised(actions[..., slots], noise[..., slots], time[:, None, None])
        counts = learn_mask[:, :, None] & used[:, None]
        seen = torch.ones_like(learn_mask) if visible is None else visible
        predicted, hidden = self.predict(noisy, time, state, used, slots, self.expert.remember(context),
                                         context.mask, seen)
        error = (predicted - target).square().masked_fill(~counts, 0).sum((1, 2))
        return HeadLoss(error / counts.sum((1, 2)).clamp(min=1), hidden)

    def predict(self, noisy: Tensor, time: Tensor, state: Tensor, used: Tensor, slots: Tensor, memory: Memory,
                context_mask: Tensor, step_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Estimated target (B, L, n) in ``slots`` (n,), zero where not ``used`` (B, n); hidden states (B, L, d)."""
        unused = ~used[:, None]
        noisy = noisy.masked_fill(unused, 0)
        output, hidden = self.expert(noisy, slots, time, state, memory, context_mask, step_mask)
        return self.estimate(output, noisy, time[:, None, None]).masked_fill(unused, 0), hidden


def slots_in_use(values: Tensor) -> Tensor:
    """Indices (n,) of the columns of (..., 200) that are not zero or False everywhere."""
    return values.flatten(0, -2).any(0).nonzero().squeeze(1)


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
            keys_values = [cast(ExpertLayer, layer).cross_attention.to_keys_values(context.hidden)
                           for layer in self.layers]
        return Memory(keys_values, None if self.summary is None else self.summary(context.pooled)[:, None])

    def forward(self, noisy: Tensor, slots: Tensor, time: Tensor, state: Tensor, memory: Memory,
                context_mask: Tensor, step_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B, L, n) and hidden states (B, L, d) of a noisy chunk (B, L, n) in ``slots`` (n,) at time (B,)."""
        present = functional.pad(step_mask, (0, 1), value=True)  # the state token is always there
        itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
        bias = attention_bias(present[:, None] | itself)[:, None]
        context_bias = attention_bias(context_mask)[:, None, None]
        with computing(self.precision, noisy.device):
            tokens = torch.cat([self.projector(noisy, slots), self.state(state)[:, None]], dim=1).float()
            tokens = tokens + self.time(fourier_features(time, tokens.shape[-1], 0.01, 4.0))[:, None]
            if memory.summary is not None:
                tokens = tokens + memory.summary
            for layer, keys_values in zip(self.layers, memory.keys_values, strict=True):
                tokens = layer(tokens, bias, keys_values, context_bias)
            hidden = self.norm(tokens[:, :-1])
            output = functional.linear(hidden, self.output.weight[slots], self.output.bias[slots])
            return output.float(), hidden


class ActionProjector(nn.Module):
    """The action-channel projector g_phi (Eq 4): chunks in the 200 slots to action tokens (B, L, d).

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

    def forward(self, actions: Tensor, slots: Tensor) -> Tensor:
        """For actions (B, L, n) in ``slots`` (n,); all other slots are zero."""
        risen = functional.linear(actions, self.rise.weight[:, slots], self.rise.bias)
        return self.fall(functional.gelu(risen + self.position))


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

    def forward(self, tokens: Tensor, bias: Tensor, keys_values: Tensor, context_bias: Tensor) -> Tensor:
        normed = self.self_norm(tokens)
        tokens = tokens + self.self_attention(normed, self.self_attention.to_keys_values(normed), bias)
        tokens = tokens + self.cross_attention(self.cross_norm(tokens), keys_values, context_bias)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))
