"""Closed forms of the flow-matching and the diffusion head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta

from ptrlib.config import BasePolicyConfig, NetworkConfig
from ptrlib.policy.backbone import Context
from ptrlib.policy.diffusion import DiffusionHead
from ptrlib.policy.flow import FlowMatchingHead

NETWORK = NetworkConfig(width=16, heads=2, expert_layers=1, precision="float32")
BASE = BasePolicyConfig()
CONTEXT = Context(torch.zeros(4, 3, 16), torch.ones(4, 3, dtype=torch.bool), torch.zeros(4, 16))
STATE = torch.zeros(4, 200)
USED = (torch.arange(200) < 7).expand(4, -1)
STEPS = torch.ones(4, 16, dtype=torch.bool)


def chunk() -> Tensor:
    return torch.randn(4, 16, 200, generator=torch.Generator().manual_seed(3)) * USED[:, None]


def start() -> Tensor:
    return torch.randn(4, 16, 200, generator=torch.Generator().manual_seed(0))


def answer(prediction: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A stand-in for ``head.predict`` that answers from the noisy chunk in all slots and the time (B, 1, 1)."""
    def predict(noisy: Tensor, time: Tensor, state: Tensor, used: Tensor, slots: Tensor, *rest: object):
        noisy = torch.zeros(4, 16, 200).index_copy_(2, slots, noisy)
        return prediction(noisy, time[:, None, None])[..., slots] * used[:, None], torch.zeros(4, 16, 16)
    return predict


def loss(head: FlowMatchingHead | DiffusionHead) -> Tensor:
    return head.loss(CONTEXT, STATE, chunk(), USED, STEPS, torch.Generator().manual_seed(0)).per_sample


def test_the_perfect_velocity_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """x = sigma a + (1 - sigma) eps gives a - eps = (a - x) / (1 - sigma)."""
    head = FlowMatchingHead(NETWORK, BASE)
    monkeypatch.setattr(head, "predict", answer(lambda x, sigma: (chunk() - x) / (1 - sigma)))
    torch.testing.assert_close(loss(head), torch.zeros(4), rtol=0, atol=1e-9)


def test_a_constant_error_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by 0.5 in every active slot costs 0.25, whatever the number of slots."""
    head = FlowMatchingHead(NETWORK, BASE)
    monkeypatch.setattr(head, "predict", answer(lambda x, sigma: (chunk() - x) / (1 - sigma) + 0.5))
    torch.testing.assert_close(loss(head), torch.full((4,), 0.25), rtol=1e-4, atol=0)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_euler_steps_along_the_perfect_velocity_reach_the_chunk(steps: int,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    head = FlowMatchingHead(NETWORK, BASE)
    times: list[float] = []

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        times.append(sigma[0].item())
        return (chunk() - x) / (1 - sigma)

    monkeypatch.setattr(head, "predict", answer(velocity))
    actions, _ = head.sample(CONTEXT, STATE, USED, start(), steps)
    torch.testing.assert_close(actions, chunk(), rtol=0, atol=1e-5)
    assert times == pytest.approx([step / steps for step in range(steps)])


def test_euler_steps_sum_a_constant_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample moves from the given noise by the velocity times one unit of time."""
    head = FlowMatchingHead(NETWORK, BASE)
    monkeypatch.setattr(head, "predict", answer(lambda x, sigma: torch.full_like(x, 2.0)))
    noise = start() * USED[:, None]
    actions, _ = head.sample(CONTEXT, STATE, USED, start(), 4)
    torch.testing.assert_close(actions, noise + 2 * USED[:, None])


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 1.0), (1.0, 1.5), (2.0, 3.0)])
def test_flow_times_follow_the_beta_distribution(alpha: float, beta: float) -> None:
    head = FlowMatchingHead(NETWORK, BasePolicyConfig(flow_time_alpha=alpha, flow_time_beta=beta))
    times = head.sample_time(20_000, torch.Generator().manual_seed(0))
    law = Beta(alpha, beta)
    standard_error = (law.variance / len(times)).sqrt().item()
    assert times.mean().item() == pytest.approx(alpha / (alpha + beta), abs=4 * standard_error)
    assert times.var().item() == pytest.approx(law.variance.item(), rel=0.04)
    assert ((times > 0) & (times < 1)).all()


def test_the_paper_s_flow_times_lean_toward_the_actions() -> None:
    """Beta(1.5, 1) has the distribution function sigma^1.5 and the mean 0.6."""
    times = FlowMatchingHead(NETWORK, BASE).sample_time(20_000, torch.Generator().manual_seed(0))
    for sigma in (0.25, 0.5, 0.75):
        assert (times < sigma).float().mean().item() == pytest.approx(sigma**1.5, abs=0.015)


def test_the_perfect_noise_estimate_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    head = DiffusionHead(NETWORK, BASE)
    monkeypatch.setattr(head, "predict", answer(
        lambda x, time: (x - head.signal(time).sqrt() * chunk()) / (1 - head.signal(time)).sqrt()))
    torch.testing.assert_close(loss(head), torch.zeros(4), rtol=0, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_ddim_with_the_perfect_noise_estimate_reaches_the_chunk(steps: int,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    head = DiffusionHead(NETWORK, BASE)
    monkeypatch.setattr(head, "predict", answer(
        lambda x, time: (x - head.signal(time).sqrt() * chunk()) / (1 - head.signal(time)).sqrt()))
    actions, _ = head.sample(CONTEXT, STATE, USED, start(), steps)
    torch.testing.assert_close(actions, chunk(), rtol=0, atol=1e-4)


def test_diffusion_levels() -> None:
    """The signal falls along a cosine, never reaching its ends; every level is drawn, equally often."""
    head = DiffusionHead(NETWORK, BASE)
    levels = torch.arange(head.levels) / head.levels
    signal = head.signal(levels)
    assert (signal.diff() < 0).all() and signal[0] < 1 and signal[-1] > 0
    middle = head.signal(torch.tensor((head.levels - 1) / 2 / head.levels))
    assert middle.item() == pytest.approx(0.5, abs=1e-6)
    drawn = (head.sample_time(50_000, torch.Generator().manual_seed(0)) * head.levels).round().long()
    counts = drawn.bincount(minlength=head.levels)
    assert counts.min() > 400 and counts.max() < 600 and len(counts) == head.levels


def test_diffusion_samples_stay_within_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    head = DiffusionHead(NETWORK, BASE)
    monkeypatch.setattr(head, "predict", answer(lambda x, time: torch.full_like(x, 100.0)))
    actions, _ = head.sample(CONTEXT, STATE, USED, start(), 4)
    assert actions.abs().max() <= head.clip
