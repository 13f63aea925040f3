"""Section 4.2, posterior and score: Eq 12-14 and 31."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptrlib.method.scorer import (
    TransitionScorer,
    identification_logits,
    identification_losses,
    pool_actions,
    ptr_score,
    ranking_loss,
    shift_in_random_order,
)

seeds = st.integers(0, 2**32 - 1)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_logits_are_cosines_over_tau_whatever_the_lengths():
    query = torch.tensor([[3.0, 0.0]])
    candidates = torch.tensor([[[0.1, 0.0], [0.0, 5.0], [-2.0, 0.0], [1.0, 1.0]]])
    logits = identification_logits(query, candidates, tau=0.1)
    torch.testing.assert_close(logits, torch.tensor([[10.0, 0.0, -10.0, 10 / math.sqrt(2)]]))


def test_what_is_shorter_than_eps_is_divided_by_it():
    query, candidates = torch.tensor([[3.0, 0.0]]), torch.tensor([[[2.0, 0.0], [8.0, 0.0]]])
    logits = identification_logits(query, candidates, tau=1.0, eps=4.0)
    torch.testing.assert_close(logits, torch.tensor([[3 / 4 * 2 / 4, 3 / 4]]))


def test_the_clamp_comes_before_the_softmax():
    query = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    logits = identification_logits(query, candidates, tau=0.03, clamp=2.0)
    assert logits.tolist() == [[2.0, -2.0]]
    expected = -math.log(1 + math.exp(-4)) + math.log(2)
    assert ptr_score(logits).item() == pytest.approx(expected, abs=1e-6)


def test_equal_logits_give_score_zero_and_loss_log_of_the_number():
    for present in (1, 2, 7):
        mask = torch.arange(7)[None] < present
        logits = torch.full((1, 7), 3.0)
        assert ptr_score(logits, mask).item() == pytest.approx(0, abs=1e-6)
        masked = logits.masked_fill(~mask, -torch.inf)
        assert ptr_score(masked).item() == pytest.approx(0, abs=1e-6)
        assert identification_losses(masked).item() == pytest.approx(math.log(present), abs=1e-6)


def test_a_row_counts_its_own_candidates():
    logits = torch.zeros(2, 5)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    logits[:, 0] = 30.0
    torch.testing.assert_close(ptr_score(logits, mask), torch.tensor([5.0, 2.0]).log())


@given(seeds, st.integers(1, 12), st.floats(0.01, 1e4))
@settings(max_examples=60, deadline=None)
def test_the_score_never_exceeds_the_log_of_the_number(seed, others, scale):
    logits = scale * random(4, others + 1, seed=seed)
    mask = random(4, others + 1, seed=seed + 1) > 0
    mask[:, 0] = True
    score = ptr_score(logits, mask)
    assert score.isfinite().all() and (score <= mask.sum(1).log()).all()


@given(seeds, st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_the_order_of_mismatched_candidates_does_not_matter(seed, tau):
    query, candidates = random(3, 6, seed=seed), random(3, 9, 6, seed=seed + 1)
    mask = random(3, 9, seed=seed + 2) > 0
    mask[:, 0] = True
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed)) + 1
    order = torch.cat([torch.tensor([0]), order])
    plain = ptr_score(identification_logits(query, candidates, tau=tau, mask=mask))
    shuffled = ptr_score(identification_logits(query, candidates[:, order], tau=tau, mask=mask[:, order]))
    torch.testing.assert_close(plain, shuffled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rubbish", [0.0, 1e30, math.nan, math.inf])
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_masked_candidates_never_matter(rubbish, seed):
    query = random(2, 5, seed=seed).requires_grad_()
    candidates = random(2, 6, 5, seed=seed + 1)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 3:5] = False
    spoiled = candidates.clone()
    spoiled[:, 3:5] = rubbish
    spoiled.requires_grad_()
    kept = candidates[:, [0, 1, 2, 5]]
    score = ptr_score(identification_logits(query, spoiled, tau=0.2, mask=mask))
    expected = ptr_score(identification_logits(query, kept, tau=0.2))
    torch.testing.assert_close(score, expected)
    ours = torch.autograd.grad(score.sum(), [query, spoiled])
    theirs = torch.autograd.grad(expected.sum(), query)
    torch.testing.assert_close(ours[0], theirs[0])
    assert (ours[1][:, 3:5] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 1e8, 1e18])
def test_extreme_features_give_no_nan(dtype, scale):
    query = (scale * random(3, 4, seed=0)).to(dtype).requires_grad_()
    candidates = (scale * random(3, 5, 4, seed=1)).to(dtype)
    logits = identification_logits(query, candidates, tau=1e-3)
    score = ptr_score(logits)
    identification_losses(logits).sum().backward()
    assert logits.dtype == score.dtype == torch.float32 and logits.abs().max() <= 20
    assert score.isfinite().all() and query.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_give_no_nan(dtype):
    big = torch.finfo(dtype).max
    logits = torch.tensor([[big, -big, 0.0], [-big, big, big], [0.0, -torch.inf, -torch.inf]], dtype=dtype)
    logits.requires_grad_()
    score = ptr_score(logits)
    score.sum().backward()
    assert not score.isnan().any() and not logits.grad.isnan().any()
    assert score[2] == 0


def test_a_blind_scorer_ranks_at_log_two():
    logit = torch.randn(7)
    assert ranking_loss(logit, logit).item() == pytest.approx(math.log(2))
    assert ranking_loss(logit + 1, logit).item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)
    assert ranking_loss(torch.tensor([1e30]), torch.tensor([-1e30])).item() == 0


@given(seeds, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_the_permutation_has_no_fixed_point_among_the_present(seed, size):
    present = random(size, seed=seed) > 0
    partner = shift_in_random_order(present, torch.rand(size, generator=torch.Generator().manual_seed(seed)))
    assert sorted(partner.tolist()) == list(range(size))
    fixed = partner == torch.arange(size)
    if present.sum() > 1:
        assert not fixed[present].any() and present[partner][present].all()
    assert fixed[~present].all()


def test_the_scorer_is_two_xavier_layers_on_context_and_action():
    torch.manual_seed(0)
    scorer = TransitionScorer(6, 10, 32)
    layers = [scorer.hidden, scorer.project]
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.9 * bound < layer.weight.abs().max() <= bound and (layer.bias == 0).all()
    assert len(list(scorer.parameters())) == 4
    context, action = torch.randn(3, 6, requires_grad=True), torch.randn(3, 10, requires_grad=True)
    query = scorer(context, action)
    query.square().sum().backward()
    assert query.shape == (3, 32) and (context.grad != 0).any() and (action.grad != 0).any()


def test_actions_are_averaged_over_the_steps_that_exist():
    tokens = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert pool_actions(tokens, mask).tolist() == [[1.0, 2.0], [0.0, 0.0]]
    torch.testing.assert_close(pool_actions(tokens), tokens.mean(1))
