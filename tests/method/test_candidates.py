"""Section 4.2, candidate pool: who is in it, who never is, and how hard it is."""

import pytest
import torch

from ptrlib.config import PTRConfig
from ptrlib.method.candidates import CandidatePool, CandidateSet, Targets
from ptrlib.method.scorer import identification_logits

DIM = 16


def targets(episodes: list[int], frames: list[int] | None = None, *, seed: int = 0,
            valid: list[bool] | None = None, **more: torch.Tensor) -> Targets:
    """Random features; every row its own."""
    size = len(episodes)
    features = torch.randn(size, DIM, generator=torch.Generator().manual_seed(seed))
    return Targets.of(features, torch.tensor(valid or [True] * size), torch.tensor(episodes),
                      frames=None if frames is None else torch.tensor(frames), **more)


def pool_of(size: int = 8, negatives: int = 4) -> CandidatePool:
    return CandidatePool(DIM, PTRConfig(queue_size=size, queue_negatives=negatives))


def drawn(candidates: CandidateSet, sample: int) -> set[int]:
    return set(candidates.drawn[sample][candidates.drawn_mask[sample]].tolist())


def test_a_batch_by_hand():
    """Window 4: frames 10 and 13 of an episode are one target, 10 and 14 are two."""
    batch = targets([1, 1, 1, 2, 3], [10, 13, 14, 10, 10], valid=[True, True, True, True, False])
    candidates = pool_of().candidates(batch)
    assert candidates.batch_mask.int().tolist() == [[0, 0, 1, 1, 0],
                                                    [0, 0, 0, 1, 0],
                                                    [1, 0, 0, 1, 0],
                                                    [1, 1, 1, 0, 0],
                                                    [0, 0, 0, 0, 0]]
    assert candidates.drawn.shape == (5, 0)
    assert candidates.mask.sum(1).tolist() == [3, 2, 3, 4, 1]
    assert torch.equal(candidates.features[:, 0], batch.features)


def test_without_frames_only_the_sample_itself_and_equal_features_are_left_out():
    batch = targets([1, 1, 2])
    batch.features[2] = batch.features[0]
    assert pool_of().candidates(batch).batch_mask.int().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_unfilled_slots_are_never_drawn():
    pool = pool_of(size=8, negatives=8)
    pool.push(targets([1, 2, 3], [0, 0, 0], seed=1))
    candidates = pool.candidates(targets([4, 5], [0, 0]))
    assert drawn(candidates, 0) == drawn(candidates, 1) == {0, 1, 2}
    assert (candidates.features[candidates.mask].norm(dim=-1) > 0.99).all()


def test_invalid_targets_never_enter():
    pool = pool_of()
    pool.push(targets([1, 2, 3], [5, 6, 7], valid=[True, False, True]))
    assert pool.filled == 2
    assert pool.queue().episodes.tolist() == [1, 3]


def test_the_oldest_leave_first():
    pool = pool_of(size=4)
    for episode in range(6):
        pool.push(targets([episode], [0], seed=episode))
    assert pool.filled == 4 and pool.pushed == 6
    assert sorted(pool.queue().episodes.tolist()) == [2, 3, 4, 5]


def test_more_than_the_queue_holds_at_once_leaves_what_one_by_one_would():
    many, singly = pool_of(size=4), pool_of(size=4)
    batch = targets(list(range(11)), [0] * 11)
    many.push(batch)
    for row in range(11):
        singly.push(batch.rows(slice(row, row + 1)))
    assert torch.equal(many.queue_features, singly.queue_features)
    assert torch.equal(many.queue_episodes, singly.queue_episodes)
    assert many.pushed == singly.pushed == 11


def test_the_own_target_in_the_queue_is_left_out_after_wrap_around():
    pool = pool_of(size=5, negatives=5)
    for step in range(4):  # twice around
        pool.push(targets([step, 9, 9], [0, 40, 80], seed=step))
    candidates = pool.candidates(targets([9, 9], [40, 60], seed=50))
    queue = pool.queue()
    in_queue = {row for row in range(5) if queue.episodes[row] == 9 and queue.frames[row] == 40}
    assert in_queue and drawn(candidates, 0) == set(range(5)) - in_queue
    assert drawn(candidates, 1) == set(range(5))


def test_equal_features_in_the_queue_are_left_out_whatever_they_are_called():
    pool, batch = pool_of(), targets([1, 2])
    pool.push(batch)
    batch = Targets.of(3 * batch.features, batch.valid, torch.tensor([7, 8]))
    candidates = pool.candidates(batch)
    assert drawn(candidates, 0) == {1} and drawn(candidates, 1) == {0}


def test_at_most_so_many_distinct_entries_are_drawn_and_differ_between_samples():
    pool = pool_of(size=100, negatives=10)
    pool.push(targets(list(range(100)), [0] * 100))
    candidates = pool.candidates(targets([200, 201], [0, 0], seed=1))
    assert len(drawn(candidates, 0)) == len(drawn(candidates, 1)) == 10
    assert drawn(candidates, 0) != drawn(candidates, 1)


def test_draws_are_uniform_over_the_eligible():
    pool = pool_of(size=20, negatives=5)
    pool.push(targets(list(range(20)), [0] * 20))
    count = torch.zeros(20)
    batch = targets([0] + [50] * 199, [0] * 200, seed=1)
    for _ in range(20):
        candidates = pool.candidates(batch)
        count += torch.bincount(candidates.drawn[1:].flatten(), minlength=20)
        assert 0 not in drawn(candidates, 0)  # its own
    expected = 20 * 199 * 5 / 20
    assert ((count - expected).abs() < 5 * (expected * 0.75) ** 0.5).all()


@pytest.mark.parametrize("hard_ratio", [0.0, 0.25, 0.5])
def test_the_hard_share_comes_from_the_same_task(hard_ratio):
    pool = CandidatePool(DIM, PTRConfig())
    size = 1024
    task = torch.arange(size) % 32
    pool.push(targets(list(range(size)), [0] * size, tasks=task))
    batch = targets(list(range(2000, 2300)), [0] * 300, seed=1, tasks=torch.arange(300) % 32)
    candidates = pool.candidates(batch, hard_ratio=hard_ratio)
    assert candidates.drawn_mask.all() and candidates.drawn.shape == (300, 64)
    same = (task[candidates.drawn] == batch.tasks[:, None]).sum(1)
    hard = round(64 * hard_ratio)
    assert (same >= hard).all()  # 32 of each task are there
    # the others are uniform among the 1024 - hard that are left, 32 - hard of them of the same task
    expected = hard + (64 - hard) * (32 - hard) / (size - hard)
    assert abs(same.float().mean().item() - expected) < 0.5


def test_fewer_of_the_same_task_than_asked_for_are_filled_up_at_random():
    pool = pool_of(size=100, negatives=20)
    pool.push(targets(list(range(100)), [0] * 100, tasks=torch.tensor([1] * 3 + [2] * 97)))
    candidates = pool.candidates(targets([200], [0], seed=1, tasks=torch.tensor([1])), hard_ratio=0.5)
    assert {0, 1, 2} <= drawn(candidates, 0) and len(drawn(candidates, 0)) == 20


def test_without_tasks_the_hard_ones_are_nearest_in_state():
    pool = pool_of(size=100, negatives=8)
    pool.push(targets(list(range(100)), [0] * 100, state=torch.arange(100.0)[:, None]))
    candidates = pool.candidates(targets([200], [0], seed=1, state=torch.tensor([[41.2]])), hard_ratio=0.5)
    assert {40, 41, 42, 43} & drawn(candidates, 0) == {40, 41, 42, 43}
    assert len(drawn(candidates, 0)) == 8


def test_an_own_target_is_never_hard():
    pool = pool_of(size=10, negatives=4)
    pool.push(targets(list(range(10)), [0] * 10, tasks=torch.zeros(10, dtype=torch.int64)))
    batch = targets([3], [2], seed=1, tasks=torch.zeros(1, dtype=torch.int64))
    for _ in range(50):
        assert 3 not in drawn(pool.candidates(batch, hard_ratio=0.5), 0)


def test_entries_without_state_beside_entries_with_state():
    pool = pool_of(size=10, negatives=4)
    pool.push(targets([1, 2], [0, 0]))
    pool.push(targets([3, 4], [0, 0], seed=1, state=torch.tensor([[0.0], [9.0]])))
    candidates = pool.candidates(targets([5], [0], seed=2, state=torch.tensor([[0.1]])), hard_ratio=0.25)
    assert drawn(candidates, 0) == {0, 1, 2, 3}


def test_the_fused_logits_are_those_of_the_explicit_candidates():
    pool = pool_of(size=30, negatives=6)
    pool.push(targets(list(range(30)), [0] * 30))
    batch = targets([100, 100, 101, 102], [5, 6, 5, 5], seed=1, valid=[True, True, True, False])
    candidates = pool.candidates(batch)
    query = torch.randn(4, DIM, requires_grad=True)
    fused = candidates.logits(query, tau=0.12, clamp=20.0)
    explicit = identification_logits(query, candidates.features, tau=0.12, mask=candidates.mask)
    torch.testing.assert_close(fused, explicit)
    present = candidates.mask
    ours, = torch.autograd.grad(fused[present].square().sum(), query)
    theirs, = torch.autograd.grad(explicit[present].square().sum(), query)
    torch.testing.assert_close(ours, theirs)


def test_a_part_of_the_batch_gets_what_the_whole_batch_gets():
    first, second = pool_of(), pool_of()
    for pool in (first, second):
        pool.push(targets(list(range(8)), [0] * 8))
    batch = targets([10, 11, 12, 13, 14], [0] * 5, seed=1)
    whole, part = first.candidates(batch), second.candidates(batch, start=2, count=3)
    assert torch.equal(whole.drawn[2:], part.drawn) and torch.equal(whole.mask[2:], part.mask)
    torch.testing.assert_close(whole.features[2:], part.features)


def test_scoring_in_eval_mode_leaves_the_draws_alone():
    pool = pool_of()
    pool.push(targets(list(range(8)), [0] * 8))
    batch = targets([10], [0], seed=1)
    pool.eval()
    before = pool.generator.get_state()
    with pool.draws():
        pool.candidates(batch)
    assert torch.equal(before, pool.generator.get_state())
    pool.train()
    with pool.draws():
        pool.candidates(batch)
    assert not torch.equal(before, pool.generator.get_state())


def test_what_an_invalid_target_holds_is_ignored():
    features = torch.full((2, DIM), torch.nan)
    features[0] = 1
    batch = Targets.of(features, torch.tensor([True, False]), torch.tensor([0, 1]))
    logits = pool_of().candidates(batch).logits(torch.randn(2, DIM), tau=0.1, clamp=20.0)
    assert not logits.isnan().any() and (logits[:, 1:] == -torch.inf).all()


def test_state_round_trip_with_state_of_any_width():
    pool = pool_of()
    pool.push(targets([1, 2], [0, 0], state=torch.rand(2, 5), tasks=torch.tensor([3, 4])))
    copy = pool_of()
    copy.load_state_dict(pool.state_dict())
    batch = targets([7], [0], seed=2, state=torch.rand(1, 5))
    ours, theirs = (each.candidates(batch, hard_ratio=0.5).drawn for each in (pool, copy))
    assert torch.equal(ours, theirs) and copy.pushed == 2
    torch.testing.assert_close(pool.queue_state, copy.queue_state, rtol=0, atol=0, equal_nan=True)
