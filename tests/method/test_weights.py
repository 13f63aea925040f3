"""Section 4.4: the weight's closed forms and bounds, Eq 27, both KL bounds, source shares."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ptrlib.method.bounds import kl_bound, share_bounds, sharp_kl_bound, sharp_share_bounds, weight_bounds
from ptrlib.method.weights import conservative_weights, self_normalised_mean, source_shares

finite = st.floats(-1e30, 1e30)
scores = st.lists(finite, min_size=1, max_size=16)
clips = st.tuples(st.floats(0.01, 1.0), st.floats(1.0, 100.0))
unit_interval = st.floats(0, 1)
betas = st.floats(1e-3, 1e3)


def induced(weight: np.ndarray, prior: np.ndarray) -> float:
    """KL(q || p) of q proportional to p w, in nats."""
    q = prior * weight / (prior * weight).sum()
    return float((q * np.log(q / prior))[q > 0].sum())


def test_zero_score_is_weight_one_exactly():
    for beta in (0.1, 1.5, 40.0):
        for alpha in (0.0, 0.3, 1.0):
            assert (conservative_weights(torch.zeros(3), beta=beta, alpha=alpha) == 1).all()


def test_formula_inside_the_clip_and_at_its_ends():
    score = torch.tensor([-100.0, -1.0, 0.5, 1.0, 100.0])
    expected = torch.tensor([0.25, math.exp(-1 / 1.5), math.exp(0.5 / 1.5), math.exp(1 / 1.5), 4.0])
    torch.testing.assert_close(conservative_weights(score, beta=1.5), expected)


def test_alpha_mixes_outside_the_clip():
    weight = conservative_weights(torch.tensor([50.0, -50.0]), beta=1.0, alpha=0.5)
    torch.testing.assert_close(weight, torch.tensor([1 + 0.5 * 3, 1 - 0.5 * 0.75]))
    # inside the clip, 1 + 0.5 (e^10 - 1) would have been cut to 4
    assert weight[0] < 4


@given(scores, betas, unit_interval, clips)
@settings(max_examples=60, deadline=None)
def test_bounds_and_order_for_any_score(values, beta, alpha, clip):
    for dtype in (torch.float32, torch.bfloat16):
        score = torch.tensor(values).to(dtype)
        weight = conservative_weights(score, beta=beta, alpha=alpha, w_min=clip[0], w_max=clip[1])
        low, high = weight_bounds(*clip, alpha)
        assert weight.isfinite().all() and weight.dtype == torch.float32
        assert (weight >= low - 1e-6 * abs(low)).all() and (weight <= high * (1 + 1e-6)).all()
        assert (weight[score.argsort()].diff() >= -1e-6 * high).all()


def test_infinite_scores_reach_the_ends():
    weight = conservative_weights(torch.tensor([torch.inf, -torch.inf]), beta=1e-3)
    assert weight.tolist() == [4.0, 0.25]


def test_weights_carry_no_gradient():
    score = torch.zeros(2, requires_grad=True)
    assert not conservative_weights(score, beta=1.0).requires_grad


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"beta": 1.0, "alpha": 1.5}, {"beta": 1.0, "w_min": 0.0},
                                   {"beta": 1.0, "w_min": 2.0}, {"beta": 1.0, "w_max": 0.5},
                                   {"beta": math.nan}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        conservative_weights(torch.zeros(1), **wrong)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=16), st.floats(0.125, 8, width=32))
@settings(max_examples=40, deadline=None)
def test_equal_weights_give_the_plain_mean(losses, weight):
    loss = torch.tensor(losses)
    torch.testing.assert_close(self_normalised_mean(loss, torch.full_like(loss, weight)), loss.mean(),
                               rtol=1e-4, atol=1e-4)


def test_self_normalised_mean_and_its_gradient():
    loss = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    weight = torch.tensor([0.25, 1.0, 4.0], requires_grad=True)
    mean = self_normalised_mean(loss, weight)
    mean.backward()
    assert mean.item() == pytest.approx((0.25 + 2 + 16) / 5.25)
    torch.testing.assert_close(loss.grad, weight.detach() / 5.25)  # Eq 33
    assert weight.grad is None


def test_self_normalised_mean_does_not_see_the_scale_of_the_weights():
    loss, weight = torch.rand(9), torch.rand(9) + 0.1
    torch.testing.assert_close(self_normalised_mean(loss, 7 * weight), self_normalised_mean(loss, weight))


def test_self_normalised_mean_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="one loss and one weight per sample"):
        self_normalised_mean(torch.zeros(3, 1), torch.ones(3))


def test_no_weight_at_all_is_zero():
    assert self_normalised_mean(torch.ones(3), torch.zeros(3)).item() == 0


def test_the_papers_bound_at_the_defaults():
    assert kl_bound(0.25, 4.0) == pytest.approx(math.log(16))
    assert kl_bound(0.25, 4.0) == pytest.approx(2.7726, abs=1e-4)
    assert kl_bound(0.25, 4.0, alpha=0.0) == 0
    assert kl_bound(0.25, 4.0, alpha=0.5) == pytest.approx(math.log(2.5 / 0.625))


@given(clips, unit_interval)
@settings(max_examples=60, deadline=None)
def test_sharp_bound_is_the_maximum_over_the_mass_on_the_highest_weight(clip, alpha):
    low, high = weight_bounds(*clip, alpha)

    def minus_kl(mass: float) -> float:
        return -induced(np.array([low, high]), np.array([1 - mass, mass]))

    best = minimize_scalar(minus_kl, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-10})
    assert sharp_kl_bound(*clip, alpha) == pytest.approx(-best.fun, abs=1e-8)


def test_sharp_bound_at_the_defaults_and_without_room():
    assert sharp_kl_bound(0.25, 4.0) == pytest.approx(0.8731, abs=1e-4)
    assert sharp_kl_bound(1.0, 1.0) == 0
    assert sharp_kl_bound(0.25, 4.0, alpha=0.0) == 0
    assert 0 < sharp_kl_bound(1 - 1e-5, 1 + 1e-5) == pytest.approx((2e-5) ** 2 / 8, rel=1e-2)


@given(st.integers(0, 2**32 - 1), clips, unit_interval)
@settings(max_examples=100, deadline=None)
def test_no_distribution_of_weights_exceeds_the_sharp_bound(seed, clip, alpha):
    random = np.random.default_rng(seed)
    low, high = weight_bounds(*clip, alpha)
    shape = random.uniform(0.05, 2)
    weight = low + (high - low) * random.beta(shape, random.uniform(0.05, 2), size=random.integers(2, 30))
    prior = random.dirichlet(np.full(len(weight), random.uniform(0.1, 3))) + 1e-12
    kl = induced(weight, prior / prior.sum())
    assert kl <= sharp_kl_bound(*clip, alpha) + 1e-9
    assert sharp_kl_bound(*clip, alpha) <= kl_bound(*clip, alpha) + 1e-12


@given(st.integers(0, 2**32 - 1), unit_interval, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_source_shares_are_a_distribution_within_the_bounds(seed, alpha, sources):
    generator = torch.Generator().manual_seed(seed)
    score = 8 * torch.randn(40, generator=generator, dtype=torch.float64)
    source = torch.cat([torch.arange(sources), torch.randint(sources, (40 - sources,), generator=generator)])
    prior = torch.rand(sources, generator=generator, dtype=torch.float64) + 0.01
    share = source_shares(prior / prior.sum(), conservative_weights(score, beta=1.5, alpha=alpha), source)
    ratio = share / (prior / prior.sum())
    low, high = weight_bounds(0.25, 4.0, alpha)
    assert share.sum().item() == pytest.approx(1)
    assert share_bounds(0.25, 4.0, alpha) == pytest.approx((low / high, high / low))
    for value, proportion in zip(ratio.tolist(), (prior / prior.sum()).tolist(), strict=True):
        lowest, highest = sharp_share_bounds(proportion, 0.25, 4.0, alpha)
        assert low / high - 1e-9 <= lowest - 1e-9 <= value <= highest + 1e-9 <= high / low + 1e-9


def test_source_shares_by_hand():
    share = source_shares(torch.tensor([0.5, 0.5]), torch.tensor([4.0, 4.0, 0.25, 0.25, 0.25]),
                          torch.tensor([0, 0, 1, 1, 1]))
    torch.testing.assert_close(share, torch.tensor([16 / 17, 1 / 17]))


def test_sharp_share_bounds_are_reached_and_a_rare_source_has_the_papers():
    assert sharp_share_bounds(0.5, 0.25, 4.0)[1] == pytest.approx(2 * 16 / 17)  # the case by hand above
    assert sharp_share_bounds(1 / 3, 0.25, 4.0) == pytest.approx((1 / 11, 8 / 3))
    assert sharp_share_bounds(1e-9, 0.25, 4.0) == pytest.approx(share_bounds(0.25, 4.0), rel=1e-6)
    assert sharp_share_bounds(1.0, 0.25, 4.0) == (1, 1)
    with pytest.raises(ValueError, match="prior must lie in"):
        sharp_share_bounds(0.0, 0.25, 4.0)


def test_a_source_without_samples():
    weight, source = torch.ones(2), torch.tensor([0, 0])
    with pytest.raises(ValueError, match="source 1 has a prior but no samples"):
        source_shares(torch.tensor([0.5, 0.5]), weight, source)
    assert source_shares(torch.tensor([1.0, 0.0]), weight, source).tolist() == [1, 0]
