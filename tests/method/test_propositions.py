"""Section 4.3 and Appendix A, by computation: Propositions 1-3, and the score's chain on known densities."""

import math

import pytest
import torch

from ptrlib.method.scorer import TransitionScorer, identification_losses, ptr_score
from ptrlib.method.weights import source_shares

POSITIVE = torch.tensor([[0.50, 0.25, 0.15, 0.10], [0.05, 0.15, 0.30, 0.50]])  # p(y | h, e), two contexts
NEGATIVE = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.40, 0.30, 0.20, 0.10]])  # p_N(y | h)


def candidate_sets(batch: int, others: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts (B,) and targets (B, K+1) of the candidate-set model: column 0 from p+, the others from p-."""
    context = torch.randint(2, (batch,), generator=generator)
    matched = torch.multinomial(POSITIVE[context], 1, generator=generator)
    mismatched = torch.multinomial(NEGATIVE[context], others, replacement=True, generator=generator)
    return context, torch.cat([matched, mismatched], 1)


def train(logits_of, parameters, steps: int, rate: float) -> None:
    """Minimise Eq 31 with a falling learning rate."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        identification_losses(logits_of(*candidate_sets(2048, 3, generator))).mean().backward()
        optimizer.step()
        schedule.step()


def log_odds_error(logits: torch.Tensor) -> float:
    """Largest difference between the pairwise log-odds of logits (2, 4) and those of log r (Eq 35)."""
    ratio = (POSITIVE / NEGATIVE).log()
    return ((logits[:, :, None] - logits[:, None]) - (ratio[:, :, None] - ratio[:, None])).abs().max().item()


def test_proposition_1_for_a_table_of_logits():
    table = torch.zeros(2, 4, requires_grad=True)
    train(lambda context, targets: table[context].gather(1, targets), [table], steps=300, rate=0.1)
    assert log_odds_error(table.detach()) < 0.1


def test_proposition_1_for_the_query_head():
    """f(h, e) against one-hot targets; its inner products are free logits, without cosine and clamp."""
    torch.manual_seed(0)
    scorer, contexts = TransitionScorer(2, 2, 4), torch.eye(2)
    train(lambda context, targets: scorer(contexts[context], contexts[context]).gather(1, targets),
          list(scorer.parameters()), steps=300, rate=0.03)
    assert log_odds_error(scorer(contexts, contexts).detach()) < 0.1


def optimal_scores(positive: torch.Tensor, negative: torch.Tensor, others: int, samples: int,
                   seed: int = 0) -> torch.Tensor:
    """T* (n,) of samples drawn from the candidate-set model of two discrete densities.

    The K mismatched targets enter T* only through how often each value was drawn (a multinomial), so any K
    costs the same: the logits are those values', weighted by their counts.
    """
    generator = torch.Generator().manual_seed(seed)
    ratio = (positive / negative).log()
    matched = torch.multinomial(positive, samples, replacement=True, generator=generator)
    count = torch.zeros(samples, len(negative), dtype=torch.float64)
    left = torch.full((samples,), float(others), dtype=torch.float64)
    rest = 1.0
    for value, share in enumerate(negative.tolist()):  # one conditional binomial after the other
        probability = torch.full_like(left, min(share / rest, 1.0))
        count[:, value] = torch.binomial(left, probability, generator=generator)
        left, rest = left - count[:, value], max(rest - share, 1e-12)
    denominator = torch.cat([ratio[matched][:, None], ratio + count.log()], 1).logsumexp(1)
    return ratio[matched] - denominator + math.log(others + 1)


def test_the_counted_form_of_the_score_is_eq_14():
    positive, negative = POSITIVE[0].double(), NEGATIVE[0].double()
    generator = torch.Generator().manual_seed(1)
    matched = torch.multinomial(positive, 20_000, replacement=True, generator=generator)
    mismatched = torch.multinomial(negative.expand(20_000, 4), 10, replacement=True, generator=generator)
    direct = torch.cat([matched[:, None], mismatched], 1)
    score = ptr_score((positive / negative).log()[direct])
    counted = optimal_scores(positive, negative, 10, 20_000)
    spread = math.sqrt((score.var() + counted.var()).item() / 20_000)
    assert abs((score.mean() - counted.mean()).item()) < 4 * spread


@pytest.mark.parametrize("others", [10, 100, 1_000, 10_000, 100_000])
def test_proposition_2_within_the_standard_error(others):
    """E[T*] is KL minus a bias of order 1 / K (Jensen), which 1 / K times (chi-square) bounds."""
    positive, negative = POSITIVE[1].double(), NEGATIVE[1].double()
    kl = (positive * (positive / negative).log()).sum().item()
    score = optimal_scores(positive, negative, others, 40_000)
    error = score.std().item() / math.sqrt(len(score))
    chi_square = (positive.square() / negative).sum().item() - 1
    assert -4 * error - 2 * chi_square / others < score.mean().item() - kl < 4 * error
    if others >= 1_000:
        assert abs(score.mean().item() - kl) < 4 * error


def test_proposition_2_for_gaussian_targets():
    """p+ = N(1, 1), p- = N(0, 1): KL is 1/2, log r(y) = y - 1/2 (unbounded, yet the mean converges)."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(1_500, 2_001, generator=generator)
    targets[:, 0] += 1
    score = ptr_score(targets - 0.5)
    assert abs(score.mean().item() - 0.5) < 4 * score.std().item() / math.sqrt(len(score)) + 2 / 2_000


def test_proposition_2_stays_below_log_of_the_number_of_candidates():
    positive = torch.tensor([1 - 3e-9, 1e-9, 1e-9, 1e-9], dtype=torch.float64)
    negative = torch.tensor([1e-9, 1 - 3e-9, 1e-9, 1e-9], dtype=torch.float64)
    score = optimal_scores(positive, negative, 10, 100)
    assert (score <= math.log(11) + 1e-12).all()
    assert score.mean().item() == pytest.approx(math.log(11), abs=1e-6)


def test_proposition_3_closed_form_against_weighted_sampling():
    """Scores of source m are N(mean_m, 0.5): E[exp(J / beta)] is known, and so is q*(m) (Eq 20)."""
    generator = torch.Generator().manual_seed(0)
    prior, mean, beta, samples = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([-0.5, 0.2, 1.0]), 1.5, 200_000
    source = torch.multinomial(prior, samples, replacement=True, generator=generator)
    weight = ((mean[source] + 0.5 * torch.randn(samples, generator=generator)) / beta).exp()
    mass = prior * (mean / beta + 0.5 * (0.5 / beta) ** 2).exp()
    expected = mass / mass.sum()
    torch.testing.assert_close(source_shares(prior, weight, source), expected, rtol=0.02, atol=0)
    drawn = source[torch.multinomial(weight, samples, replacement=True, generator=generator)]
    share = torch.bincount(drawn).float() / samples
    assert ((share - expected).abs() < 5 * (2 * expected / samples).sqrt() + 0.002).all()
