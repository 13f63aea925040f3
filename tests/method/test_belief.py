"""Section 4.1: shares over time, tokens, regularisers, and the recursion's stop-gradient."""

import math

import pytest
import torch

from ptrlib.config import PTRConfig
from ptrlib.method.belief import BeliefTokenizer, reconstruction, slot_entropy, slot_log_shares, slot_overlap


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_shares_sum_to_one_over_the_steps_that_exist():
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    share = slot_log_shares(features(2, 5, 3), mask, 0.7).exp() * mask[..., None]
    torch.testing.assert_close(share.sum(1), torch.ones(2, 3))
    assert (share[1, [2, 4]] == 0).all()


def test_shares_are_a_softmax_over_time_at_the_temperature():
    logits = features(2, 5, 3)
    share = slot_log_shares(logits, torch.ones(2, 5, dtype=torch.bool), 0.5).exp()
    torch.testing.assert_close(share, (logits / 0.5).softmax(1))


def test_one_slot_at_infinite_temperature_is_the_mean_of_the_steps_that_exist():
    tokenizer = BeliefTokenizer(6, PTRConfig(belief_tokens=1, tau_tok=1e9))
    context, action = features(2, 4, 6), features(2, 4, 6, seed=1)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    out = tokenizer(context, action, mask)
    fused = torch.tanh(torch.cat([context, action], -1) @ tokenizer.fuse.weight.T)
    torch.testing.assert_close(out.tokens[0, 0], fused[0, :3].mean(0).detach())
    torch.testing.assert_close(out.tokens[1, 0], fused[1, 0].detach())
    torch.testing.assert_close(out.entropy, torch.tensor([math.log(3), 0.0]))


def test_tokens_and_reconstruction_follow_the_equations_step_by_step():
    tokenizer = BeliefTokenizer(4, PTRConfig(belief_tokens=2, tau_tok=0.8))
    context, action = features(1, 3, 4), features(1, 3, 4, seed=1)
    out = tokenizer(context, action)
    fused = [torch.tanh(tokenizer.fuse.weight @ torch.cat([context[0, i], action[0, i]])) for i in range(3)]
    logits = torch.stack([tokenizer.assign.weight @ step for step in fused])
    share = torch.stack([(logits[:, m] / 0.8).softmax(0) for m in range(2)], 1)
    tokens = [sum(share[i, m] * fused[i] for i in range(3)) for m in range(2)]
    torch.testing.assert_close(out.tokens[0], torch.stack(tokens).detach())
    rebuilt = torch.stack([sum(share[i, m] * tokens[m] for m in range(2)) for i in range(3)])
    torch.testing.assert_close(reconstruction(out.share, out.tokens)[0], rebuilt)


def test_padded_steps_change_neither_values_nor_gradients():
    tokenizer = BeliefTokenizer(4, PTRConfig(belief_tokens=2))
    context, mask = features(1, 5, 4).requires_grad_(), torch.tensor([[True, True, True, False, False]])
    out = tokenizer(context, features(1, 5, 4, seed=1), mask)
    short = tokenizer(context[:, :3], features(1, 5, 4, seed=1)[:, :3])
    for padded, alone in zip(out[:3], short[:3], strict=True):
        torch.testing.assert_close(padded, alone)
    (gradient,) = torch.autograd.grad(out.entropy.sum() + out.diversity.sum(), context)
    assert (gradient[:, 3:] == 0).all() and (gradient[:, :3] != 0).any()


def test_a_chunk_without_steps_gives_zeros_and_finite_gradients():
    tokenizer = BeliefTokenizer(4)
    context = features(1, 5, 4).requires_grad_()
    out = tokenizer(context, context, torch.zeros(1, 5, dtype=torch.bool))
    (out.entropy + out.diversity).sum().backward()
    assert all((value == 0).all() for value in out)
    assert (context.grad == 0).all()


def test_one_hot_distinct_slots_have_no_entropy_and_no_overlap():
    share = torch.eye(6)[:, :4][None]
    log_share = torch.where(share > 0, 0.0, -1e9)
    assert slot_entropy(share, log_share).item() == 0
    assert slot_overlap(share).item() == 0


def test_uniform_slots_have_the_largest_entropy_and_equal_slots_overlap():
    share = torch.full((1, 8, 4), 1 / 8)
    assert slot_entropy(share, share.log()).item() == pytest.approx(math.log(8))
    # Gram is 1/8 everywhere: 4 diagonal entries off by 7/8, 12 others by 1/8
    assert slot_overlap(share).item() == pytest.approx(4 * (7 / 8) ** 2 + 12 / 64)


def test_minimising_the_entropy_makes_slots_decisive():
    tokenizer = BeliefTokenizer(8)
    context, action = features(4, 16, 8), features(4, 16, 8, seed=1)
    before = tokenizer(context, action).entropy.mean()
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        tokenizer(context, action).entropy.mean().backward()
        optimizer.step()
    assert tokenizer(context, action).entropy.mean() < 0.5 * before


def test_a_later_chunk_gives_no_gradient_to_an_earlier_chunk():
    tokenizer = BeliefTokenizer(4, PTRConfig(belief_tokens=2))
    earlier = features(2, 5, 4).requires_grad_()
    first = tokenizer(earlier, earlier)
    assert not first.tokens.requires_grad
    later = features(2, 5, 4, seed=2).requires_grad_()
    second = tokenizer(later + first.tokens.mean(1, keepdim=True), later)
    (second.entropy.sum() + second.diversity.sum()).backward()
    assert earlier.grad is None and (later.grad != 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_features_give_no_nan(dtype):
    tokenizer = BeliefTokenizer(4).to(dtype)
    context = (features(2, 5, 4) * 1e30).to(dtype).requires_grad_()
    out = tokenizer(context, context)
    (out.entropy.sum() + out.diversity.sum()).backward()
    assert all(value.isfinite().all() for value in out) and not context.grad.isnan().any()
    assert out.tokens.dtype == dtype
