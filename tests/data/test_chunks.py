"""Chunks: time indices, targets, padding, sampling, normalisation and resuming."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptrlib.config import DataConfig
from ptrlib.data.chunks import Batch, ChunkDataset, SegmentSampler, Statistics, hold_out
from ptrlib.data.corruption import corrupt
from ptrlib.data.episodes import Episode
from ptrlib.data.errors import DataError
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.policy.instruction import hash_words
from tests.factories import tiny_episodes

CHUNK = 16
PLAIN = DataConfig(random_shift=0)


def counting_episodes(lengths: list[int]) -> list[Episode]:
    """Episodes whose frame, state and action all show their own time step; frames also their episode."""
    episodes = []
    for number, steps in enumerate(lengths):
        time = np.arange(steps + 1)
        view = np.zeros((steps + 1, 4, 4, 3), np.uint8)
        view[..., 0], view[..., 1] = time[:, None, None], number
        episodes.append(Episode(
            images={"agentview": view, "eye_in_hand": view + np.uint8(100)},
            state=np.repeat(time[:, None], 8, 1).astype(np.float32),
            actions=np.repeat(time[:-1, None], 7, 1).astype(np.float32),
            instruction=f"task {number % 2}", embodiment="libero", task=f"task_{number % 2}", source="counted"))
    return episodes


def unit_statistics() -> Statistics:
    return Statistics(*(np.full(200, value, np.float32) for value in (0, 1, 0, 1)))


def counting_dataset(lengths: list[int], data: DataConfig = PLAIN) -> ChunkDataset:
    return ChunkDataset(counting_episodes(lengths), data, CHUNK, unit_statistics())


# ------------------------------------------------------------------------------------------- one chunk


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5), seed=st.integers(0, 1000),
       offset=st.integers(1, 20))
def test_every_field_of_a_batch_against_its_definition(lengths: list[int], seed: int, offset: int) -> None:
    data = dataclasses.replace(PLAIN, offset=offset)
    batch = SegmentSampler(counting_dataset(lengths, data), 8, seed).next()
    for s in range(8):
        number = int(batch.episode_ids[s])
        total = lengths[number]
        assert batch.present[s, 0]
        for n in range(data.segment_chunks):
            t = int(batch.starts[s, n])
            assert int(batch.frames[s, n]) == t + offset and int(batch.offset[s, n]) == offset
            if not batch.present[s, n]:
                assert not batch.valid[s, n]
                continue
            assert 0 <= t < total
            if n:
                assert t == int(batch.starts[s, n - 1]) + data.chunk_stride and batch.present[s, n - 1]
            assert bool(batch.valid[s, n]) == (t + offset <= total)
            assert batch.images[s, n, 0, 0, 0].tolist() == [t, number, 0]
            assert batch.images[s, n, 1, 0, 0].tolist() == [t + 100, number + 100, 100]
            if batch.valid[s, n]:
                assert int(batch.target_images[s, n, 0, 0, 0, 0]) == t + offset
            assert batch.state[s, n, :6].tolist() == [t] * 6 and batch.state[s, n, 6:44].abs().max() == 0
            assert batch.actions[s, n, :, 0].tolist() == [min(t + i, total - 1) for i in range(CHUNK)]
            assert batch.step_mask[s, n].tolist() == [t + i < total for i in range(CHUNK)]
            assert batch.learn_mask[s, n].all()
        assert int(batch.task_ids[s]) == number % 2
        np.testing.assert_array_equal(batch.instruction[s], hash_words(f"task {number % 2}"))
        np.testing.assert_array_equal(batch.action_mask[s], EMBODIMENTS["libero"].action_mask)


def test_padded_steps_count_or_not_as_configured() -> None:
    data = dataclasses.replace(PLAIN, mask_padded_actions=True)
    batch = SegmentSampler(counting_dataset([10], data), 8, 0).next()
    torch.testing.assert_close(batch.learn_mask, batch.step_mask)
    assert not batch.learn_mask.all()


def test_the_last_valid_target_is_the_frame_after_the_last_action() -> None:
    batch = next(counting_dataset([40]).scoring_batches(8))
    start = batch.starts[batch.valid]
    assert int(start.max()) == 40 - PLAIN.offset
    assert int(batch.target_images[batch.valid][..., 0].max()) >= 40


def test_images_stay_where_they_are() -> None:
    episodes = counting_episodes([30, 20])
    dataset = ChunkDataset(episodes, PLAIN, CHUNK, unit_statistics())
    for mine, given_ in zip(dataset.episodes, episodes, strict=True):
        assert all(mine.images[camera] is given_.images[camera] for camera in given_.images)


def test_tasks_of_a_data_set_before_keep_their_numbers() -> None:
    episodes = counting_episodes([10] * 4)
    for episode, task in zip(episodes, ("b", "a", "d", "c"), strict=True):
        episode.task = task
    first = ChunkDataset(episodes[:2], PLAIN, CHUNK, unit_statistics())
    second = ChunkDataset(episodes[1:], PLAIN, CHUNK, unit_statistics(), tasks=first.tasks)
    assert first.tasks == ("a", "b") and first.task_ids.tolist() == [1, 0]
    assert second.tasks == ("a", "b", "c", "d") and second.task_ids.tolist() == [0, 3, 2]
    assert next(second.scoring_batches(3)).task_ids.dtype == torch.int64


def test_mixed_embodiments_keep_to_their_slots() -> None:
    episodes = tiny_episodes(2, steps=20, size=4)
    rng = np.random.default_rng(0)
    episodes[1].embodiment = "fr3"
    episodes[1].actions = rng.normal(size=(len(episodes[1]), 13)).astype(np.float32)
    episodes[1].state = rng.normal(size=(len(episodes[1]) + 1, 13)).astype(np.float32)
    dataset = ChunkDataset(episodes, PLAIN, CHUNK, Statistics.of(episodes))
    for batch in dataset.scoring_batches(4):
        for s, number in enumerate(batch.episode_ids.tolist()):
            embodiment = EMBODIMENTS[episodes[number].embodiment]
            assert batch.actions[s][:, :, ~embodiment.action_mask].abs().max() == 0
            assert batch.state[s][:, ~embodiment.state_mask].abs().max() == 0


def joints(episodes: int = 4, steps: int = 53, *, moves: float = 30.0) -> list[Episode]:
    """Walks of an arm in degrees; its joint 3 stands still."""
    rng, found = np.random.default_rng(0), counting_episodes([steps] * episodes)
    for number, episode in enumerate(found):
        walk = np.cumsum(rng.normal(0, moves / 20, (steps + 1, 13)), 0).astype(np.float32)
        walk[:, 3] = 12.5
        episode.embodiment, episode.state, episode.actions = "fr3", walk, walk[1:].copy()
        episode.file, episode.name = "arm.hdf5", f"demo_{number}"
    return found


@pytest.mark.parametrize("value", [65535.0, -32768.0, 1e30])
@pytest.mark.parametrize("which", ["state", "actions"])
def test_a_value_that_no_joint_reached_is_refused(which: str, value: float) -> None:
    episodes = joints()
    clean = Statistics.of(episodes)
    episodes[2].first_row = 1
    getattr(episodes[2], which)[17, 2] = value
    row = 18 if which == "actions" else 17
    sentence = (rf"arm\.hdf5: demo_2/{which} is {value:.6g} in row {row}, column 2 \(slot 52, arm_joints\), where all "
                r"but 1 of 21\d values lie within .* of .*; correct that value, or leave .* out with data\.exclude\."
                ).replace("+", r"\+")
    for measure in (Statistics.of, clean.covering):
        with pytest.raises(DataError, match=sentence):
            measure(episodes)
    episodes[0].actions[0, 2] = value  # two are glitches too
    with pytest.raises(DataError, match=r"column 2 \(slot 52"):
        Statistics.of(episodes)


def test_what_moves_rarely_or_not_at_all_is_no_glitch() -> None:
    still = joints()
    still[1].actions[20, 3] = 400.0  # a joint that stands still but for one step, in degrees
    jittery = joints(moves=0.001)
    jittery[1].actions[30, 7] = jittery[3].actions[-1, 8] = 1000.0  # fingers that close once, per mille
    drive = joints(20)
    for episode in drive:
        episode.actions[:, 4] = np.random.default_rng(1).normal(0, 0.1, len(episode))
    drive[0].actions[30:34, 4] = 5000.0  # a drive that hardly ever runs, in encoder ticks
    small = joints(moves=0.01)
    small[0].state[9, 1] = 10.0  # radians, as wrong as it may be
    units = [*joints(60), *joints(1, 3)]
    units[-1].actions *= 1e5  # one whole episode in another unit
    for episodes in (still, jittery, drive, small, units, joints(1, 1)):
        Statistics.of(episodes)
        Statistics.of(joints()).covering(episodes)


@pytest.mark.parametrize("kind", ["action_noise", "combined"])
def test_corrupted_labels_are_no_glitches(kind: str) -> None:
    episodes = tiny_episodes(12, steps=30, size=4)
    for episode in episodes:
        episode.actions[:, :3] *= 1e-3
    Statistics.of(corrupt(episodes, kind, seed=0, noise_sigma=1.0, noise_bias=1.0))


def test_episodes_that_do_not_fit_together_are_refused() -> None:
    episodes = counting_episodes([10, 10])
    episodes[1].images = {"agentview": episodes[1].images["agentview"]}
    episodes[1].file, episodes[1].name = "drawers.hdf5", "demo_3"
    with pytest.raises(ValueError, match=r"drawers.hdf5: demo_3 has .*; read all with the same cameras \(data"):
        ChunkDataset(episodes, PLAIN, CHUNK, unit_statistics())
    episodes[1].images = {}
    with pytest.raises(ValueError, match=r"drawers.hdf5: demo_3 holds no images; name one .* low_dim .*_to_obs.py"):
        ChunkDataset(episodes, PLAIN, CHUNK, unit_statistics())
    episodes[1].embodiment = "so100"
    with pytest.raises(ValueError, match=r"demo_3 is of the robot 'so100', which is not known; set .* libero, robo"):
        Statistics.of(episodes)
    with pytest.raises(ValueError, match="no episodes"):
        ChunkDataset([], PLAIN, CHUNK, unit_statistics())


# -------------------------------------------------------------------------------------------- sampling


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 80), min_size=1, max_size=4), segments=st.integers(1, 7))
def test_scoring_visits_every_chunk_once(lengths: list[int], segments: int) -> None:
    dataset = counting_dataset(lengths)
    seen = []
    for batch in dataset.scoring_batches(segments):
        ids = batch.episode_ids[:, None].expand_as(batch.starts)
        seen += list(zip(ids[batch.present].tolist(), batch.starts[batch.present].tolist(), strict=True))
    assert sorted(seen) == [(number, t) for number, length in enumerate(lengths) for t in range(length)]
    assert len(seen) == len(dataset)


def test_scoring_a_part_starts_at_every_so_many_steps() -> None:
    starts = torch.cat([batch.starts[batch.present]
                        for batch in counting_dataset([50]).scoring_batches(3, every=4)])
    assert sorted(starts.tolist()) == list(range(0, 50, 4))


def test_scoring_in_a_drawn_order_fills_the_last_batch_up() -> None:
    dataset = counting_dataset([40] * 3)
    batches = list(dataset.scoring_batches(7, order=np.random.default_rng(0)))
    seen = [(episode, start) for batch in batches for episode, starts, here in zip(
        batch.episode_ids.tolist(), batch.starts.tolist(), batch.present.tolist(), strict=True)
        for start, present in zip(starts, here, strict=True) if present]
    assert {len(batch.starts) for batch in batches} == {7}  # of 40 steps: lanes that 7 does not divide
    assert set(seen) == {(number, t) for number in range(3) for t in range(40)} and len(seen) > len(set(seen))
    alone = list(counting_dataset([40]).scoring_batches(64, order=np.random.default_rng(0)))
    assert len(alone) == 1 and int(alone[0].present.sum()) == 40


def test_scoring_in_a_drawn_order_mixes_the_episodes_of_a_batch() -> None:
    dataset = counting_dataset([40] * 6)
    batches = list(dataset.scoring_batches(8, order=np.random.default_rng(0)))
    chunks = [chunk for batch in batches for chunk in zip(
        batch.episode_ids[:, None].expand_as(batch.starts)[batch.present].tolist(),
        batch.starts[batch.present].tolist(), strict=True)]
    assert sorted(chunks) == [(number, step) for number in range(6) for step in range(40)]
    assert min(len(batch.episode_ids.unique()) for batch in batches) > 3
    assert max(len(batch.episode_ids.unique()) for batch in dataset.scoring_batches(8)) < 3


def test_training_draws_every_chunk_equally_often() -> None:
    lengths = [3, 9, 40]
    sampler = SegmentSampler(counting_dataset(lengths), 4000, 0)
    counts = np.zeros((3, 40))
    for _ in range(10):
        episode, starts, present = sampler.draw()
        np.add.at(counts, (np.broadcast_to(episode[:, None], starts.shape)[present], starts[present]), 1)
    drawn = np.concatenate([counts[number, :length] for number, length in enumerate(lengths)])
    # chunks that share a segment are correlated, so each count is within a few Poisson deviations of the mean
    assert counts.sum() == drawn.sum()
    assert np.abs(drawn - drawn.mean()).max() < 5 * np.sqrt(drawn.mean())


def test_a_resumed_sampler_goes_on_bitwise() -> None:
    dataset = counting_dataset([30, 50], DataConfig(random_shift=1))
    sampler = SegmentSampler(dataset, 4, seed=7)
    for _ in range(3):
        sampler.next()
    state = json.loads(json.dumps(sampler.state_dict()))
    resumed = SegmentSampler(dataset, 4, seed=0)
    resumed.load_state_dict(state)
    for _ in range(3):
        one, other = sampler.next(), resumed.next()
        for field in dataclasses.fields(Batch):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_two_ranks_together_draw_what_one_process_draws() -> None:
    dataset = counting_dataset([30, 50], DataConfig(random_shift=1))
    whole = SegmentSampler(dataset, 6, seed=1)
    ranks = [SegmentSampler(dataset, 6, seed=1, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(2):
        joined, parts = whole.next(), [rank.next() for rank in ranks]
        for field in dataclasses.fields(Batch):
            together = torch.cat([getattr(part, field.name) for part in parts])
            assert torch.equal(getattr(joined, field.name), together), field.name
    with pytest.raises(ValueError, match="5 segments .* 2 ranks"):
        SegmentSampler(dataset, 5, seed=1, world_size=2)


def test_random_shift_moves_a_segment_and_leaves_its_targets_where_they_are() -> None:
    episodes = counting_episodes([60] * 3)
    pattern = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for episode in episodes:  # the same picture in every frame: only the shift can make a difference
        for images in episode.images.values():
            images[..., 2] = pattern
    dataset = ChunkDataset(episodes, DataConfig(random_shift=1), CHUNK, unit_statistics())
    batch = SegmentSampler(dataset, 32, seed=0).next()
    seen = batch.images[..., 2]  # (S, N, cameras, 4, 4)
    assert (seen == seen[:, :1]).all()
    assert (batch.target_images[..., 2] == torch.from_numpy(pattern)).all()
    shifted = {tuple(picture.flatten().tolist()) for picture in seen[:, 0].flatten(0, 1)}
    assert len(shifted) == 9  # all of (-1, 0, 1) x (-1, 0, 1)
    assert any((pair[0] != pair[1]).any() for pair in seen[:, 0])  # each camera moves by itself
    alike = ChunkDataset(episodes, DataConfig(random_shift=1, shift_targets=True), CHUNK, unit_statistics())
    batch = SegmentSampler(alike, 32, seed=0).next()  # as older runs were made
    assert torch.equal(batch.target_images[..., 2], batch.images[..., 2])


# ------------------------------------------------------------------------------------------ statistics


def test_normalising_bounds_values_and_is_inverted() -> None:
    episodes = tiny_episodes(6, steps=60, size=1)
    episodes[0].actions[3, 0] = 50.0  # one wild action
    statistics = Statistics.of(episodes)
    unified = EMBODIMENTS["libero"].to_unified_action(np.concatenate([e.actions for e in episodes]))
    normalised = statistics.normalise_actions(unified)
    np.testing.assert_allclose(statistics.restore_actions(normalised), unified, atol=1e-5)
    assert np.abs(normalised).max() <= 4 + 1e-5
    within = np.abs(normalised[:, EMBODIMENTS["libero"].action_mask]) <= 1.001
    assert (within.mean(axis=0) >= 0.97).all()
    # a gripper that takes only -1 and 1 keeps those values, and unused slots stay zero
    assert set(np.unique(normalised[:, 18])) == {-1.0, 1.0}
    assert np.abs(normalised[:, ~EMBODIMENTS["libero"].action_mask]).max() == 0


def test_a_dimension_that_never_moves_is_not_blown_up() -> None:
    episodes = tiny_episodes(3, steps=30, size=1)
    rng = np.random.default_rng(0)
    for episode in episodes:
        episode.state[:, 0], episode.state[:, 1] = 0.5, rng.normal(0, 1e-4, len(episode.state))
    state = Statistics.of(episodes).normalise_state(EMBODIMENTS["libero"].to_unified_state(episodes[0].state))
    assert np.abs(state[:, 0]).max() == 0
    assert np.abs(state[:, 1]).max() < 0.1


def test_statistics_survive_json_exactly() -> None:
    statistics = Statistics.of(tiny_episodes(3, size=1))
    again = Statistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    for field in dataclasses.fields(Statistics):
        one, other = getattr(statistics, field.name), getattr(again, field.name)
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------- hold-out


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 40), fraction=st.floats(0, 0.9), seed=st.integers(0, 100))
def test_hold_out_takes_the_same_share_of_every_task(count: int, fraction: float, seed: int) -> None:
    episodes = tiny_episodes(count, steps=4, size=1, tasks=3)
    train, held = hold_out(episodes, fraction, seed)
    assert sorted(e.seed for e in train + held) == list(range(count))
    assert [e.seed for e in train] == sorted(e.seed for e in train)
    for task in {episode.task for episode in episodes}:
        members = sum(episode.task == task for episode in episodes)
        assert sum(episode.task == task for episode in held) == round(fraction * members)
    assert [e.seed for e in hold_out(episodes, fraction, seed)[1]] == [e.seed for e in held]


def test_hold_out_refuses_to_leave_nothing() -> None:
    with pytest.raises(ValueError, match=r"held_out_fraction must lie in \[0, 1\), got 1"):
        hold_out(tiny_episodes(3, size=1), 1.0, 0)


def test_statistics_of_a_start_are_widened_only_where_new_data_move_far_more() -> None:
    episodes = tiny_episodes(3, size=1)
    still = [dataclasses.replace(episode, actions=episode.actions * np.eye(7, dtype=np.float32)[0])
             for episode in episodes]  # only the first dimension of the action moves
    before = Statistics.of(still)
    after = before.covering(episodes)
    moved, others = EMBODIMENTS["libero"].action_slots[1:], EMBODIMENTS["libero"].action_slots[:1]
    assert (before.action_scale[list(moved)] == np.float32(0.01)).all()
    assert (after.action_scale[list(moved)] > 0.1).all()
    assert (after.action_scale[list(others)] == before.action_scale[list(others)]).all()
    for field in ("state_centre", "state_scale", "action_centre"):
        assert (getattr(after, field) == getattr(before, field)).all()
    unified = EMBODIMENTS["libero"].to_unified_action(episodes[0].actions)
    assert np.abs(before.normalise_actions(unified)).max() > 4 * 1.001 >= np.abs(after.normalise_actions(unified)).max()
    same = before.covering(still)
    assert all((getattr(same, field.name) == getattr(before, field.name)).all() for field in dataclasses.fields(same))
