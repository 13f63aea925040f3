"""Section 5.1's corruptions: exact fractions, seeds, truth masks, and nothing copied that does not change."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptrlib.config import DataConfig
from ptrlib.data.chunks import ChunkDataset, Statistics
from ptrlib.data.corruption import CORRUPTIONS, corrupt
from ptrlib.data.episodes import Episode
from tests.factories import tiny_episodes

DEFAULTS = DataConfig()
FRACTIONS = {"action_noise": DEFAULTS.noise_fraction, "truncation": DEFAULTS.truncation_fraction,
             "label_noise": DEFAULTS.label_fraction}


def changed(before: Episode, after: Episode, kind: str) -> bool:
    if kind == "truncation":
        return len(after) != len(before)
    if kind == "label_noise":
        return after.instruction != before.instruction
    return not np.array_equal(after.actions, before.actions[:len(after)])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 10**6), kind=st.sampled_from([*CORRUPTIONS, "combined"]))
def test_fractions_are_exact_and_truth_marks_what_changed(count: int, seed: int, kind: str) -> None:
    episodes = tiny_episodes(count, steps=20, size=2, tasks=2, seed=seed)
    clean = copy.deepcopy(episodes)
    corrupted = corrupt(episodes, kind, seed=seed)
    for name in CORRUPTIONS if kind == "combined" else (kind,):
        hit = [changed(before, after, name) for before, after in zip(episodes, corrupted, strict=True)]
        assert sum(hit) == round(FRACTIONS[name] * count)
        for after, expected in zip(corrupted, hit, strict=True):
            np.testing.assert_array_equal(after.truth[name], np.full(len(after), expected))
    for before, original in zip(episodes, clean, strict=True):  # the input is left alone
        np.testing.assert_array_equal(before.actions, original.actions)
        assert before.truth == {} and before.instruction == original.instruction


@pytest.mark.parametrize("kind", [*CORRUPTIONS, "combined"])
def test_same_seed_same_result_other_seed_another(kind: str) -> None:
    episodes = tiny_episodes(20, size=2)

    def content(seed: int) -> list[tuple[str, bytes]]:
        return [(e.instruction, e.actions.tobytes()) for e in corrupt(episodes, kind, seed=seed)]

    assert content(3) == content(3)
    assert content(3) != content(4)


@pytest.mark.parametrize("kind", ["none", *CORRUPTIONS, "combined"])
def test_images_are_never_copied(kind: str) -> None:
    episodes = tiny_episodes(10, size=2)
    for before, after in zip(episodes, corrupt(episodes, kind, seed=0), strict=True):
        for camera, images in before.images.items():
            assert np.shares_memory(images, after.images[camera])
        assert np.shares_memory(before.state, after.state)
        if not after.truth.get("action_noise", np.zeros(1)).any():
            assert np.shares_memory(before.actions, after.actions)


def test_combined_hits_the_episodes_that_each_corruption_alone_would() -> None:
    episodes = tiny_episodes(30, size=2, tasks=3)
    together = corrupt(episodes, "combined", seed=5)
    for kind in CORRUPTIONS:
        alone = corrupt(episodes, kind, seed=5)
        assert ([bool(e.truth[kind].any()) for e in together] == [bool(e.truth[kind].any()) for e in alone])


def test_noise_is_gaussian_on_continuous_dimensions_only() -> None:
    episodes = tiny_episodes(60, steps=200, size=1)
    corrupted = corrupt(episodes, "action_noise", seed=0, noise_sigma=0.1, noise_fraction=1.0)
    difference = np.concatenate([after.actions - before.actions
                                 for before, after in zip(episodes, corrupted, strict=True)])
    assert (difference[:, 6] == 0).all()  # gripper
    steps = len(difference)
    assert np.abs(difference[:, :6].mean(0)).max() < 5 * 0.1 / np.sqrt(steps)
    assert np.abs(difference[:, :6].std(0) - 0.1).max() < 5 * 0.1 / np.sqrt(2 * steps)


def test_an_axis_that_is_held_and_a_switch_with_a_rest_get_no_noise() -> None:
    generator = np.random.default_rng(0)
    held = generator.uniform(-0.005, 0.005, (40, 1))  # a torso that corrects itself by thousandths
    switch = generator.choice([-1.0, 0.0, 1.0], (40, 1))
    moved = generator.uniform(-1, 1, (40, 1))
    [episode] = tiny_episodes(1, steps=40, size=1)
    episode = dataclasses.replace(episode, actions=np.hstack([held, switch, moved]).astype(np.float32))
    [noisy] = corrupt([episode], "action_noise", seed=0, noise_fraction=1.0)
    assert ((noisy.actions != episode.actions).any(axis=0) == [False, False, True]).all()


def test_the_bias_is_one_constant_per_episode_and_dimension_and_leaves_the_noise_as_it_is() -> None:
    episodes = tiny_episodes(200, steps=20, size=1)

    def added(kind: str, **strength: float) -> list[np.ndarray]:
        corrupted = corrupt(episodes, kind, seed=3, noise_fraction=0.75, truncation_fraction=0.0, **strength)
        return [after.actions.astype(float) - before.actions for before, after in zip(episodes, corrupted, strict=True)]

    white, bias, both = (added("action_noise", noise_sigma=sigma, noise_bias=bias)
                         for sigma, bias in ((0.1, 0.0), (0.0, 0.5), (0.1, 0.5)))
    for w, b, sum_of_both in zip(white, bias, both, strict=True):
        assert (np.ptp(b, axis=0) < 1e-6).all()  # the same at every step
        assert (b[:, 6] == 0).all()  # gripper
        np.testing.assert_allclose(sum_of_both, w + b, atol=1e-6)
    constants = np.stack([b[0, :6] for b in bias if b.any()])
    assert len(constants) == 150 and len(np.unique(constants.round(6))) == constants.size  # all differ
    assert np.abs(constants.std(0) - 0.5).max() < 5 * 0.5 / np.sqrt(2 * len(constants))
    for alone, with_others in zip(bias, added("combined", noise_sigma=0.0, noise_bias=0.5), strict=True):
        np.testing.assert_array_equal(alone, with_others)


def test_without_bias_the_noise_is_the_one_that_stored_runs_were_trained_on() -> None:
    generator = np.random.default_rng((7, 0))  # what the corruption drew before it had a bias
    episodes = tiny_episodes(10, size=1)
    hit = generator.permutation(10)[:3]
    for index, after in enumerate(corrupt(episodes, "action_noise", seed=7)):
        noise = 0.1 * generator.standard_normal(after.actions.shape) if index in hit else np.zeros(7)
        expected = (episodes[index].actions + noise * np.array([1] * 6 + [0])).astype(np.float32)
        np.testing.assert_array_equal(after.actions, expected)


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(1, 60), seed=st.integers(0, 1000))
def test_truncation_keeps_forty_to_seventy_percent_from_the_start(steps: int, seed: int) -> None:
    episodes = tiny_episodes(6, steps=steps, size=1, seed=seed)
    for before, after in zip(episodes, corrupt(episodes, "truncation", seed=seed, truncation_fraction=1.0),
                             strict=True):
        whole, kept = len(before), len(after)
        assert kept == 1 or 0.4 * whole <= kept <= 0.7 * whole
        np.testing.assert_array_equal(after.actions, before.actions[:kept])
        assert after.simulator_states is not None
        arrays = (after.state, after.simulator_states, *after.images.values(), *after.extra.values())
        assert {len(array) for array in arrays} == {kept + 1}


def test_truncation_also_cuts_the_marks_of_other_corruptions() -> None:
    for episode in corrupt(tiny_episodes(10, size=1), "combined", seed=0, truncation_fraction=1.0):
        assert {len(mask) for mask in episode.truth.values()} == {len(episode)}


def test_label_noise_gives_the_instruction_of_another_task_and_keeps_the_true_task() -> None:
    episodes = tiny_episodes(40, size=1, tasks=4)
    of_task = {episode.task: episode.instruction for episode in episodes}
    given_to = set()
    relabelled = corrupt(episodes, "label_noise", seed=0, label_fraction=1.0)
    for before, after in zip(episodes, relabelled, strict=True):
        assert after.task == before.task
        assert after.instruction in of_task.values() and after.instruction != of_task[after.task]
        assert after.instruction == of_task[after.claimed_task]
        given_to.add((after.task, after.instruction))
    assert len(given_to) == 12  # all 4 x 3 confusions occur


def test_a_mislabelled_chunk_counts_to_the_task_it_claims() -> None:
    config = DataConfig(random_shift=0)
    relabelled = corrupt(tiny_episodes(8, size=1, tasks=4), "label_noise", seed=0, label_fraction=1.0)
    for data, name in ((config, "claimed_task"), (dataclasses.replace(config, true_tasks=True), "task")):
        dataset = ChunkDataset(relabelled, data, 16, Statistics.of(relabelled))
        counted_to = [dataset.tasks[index] for index in dataset.task_ids]
        assert counted_to == [getattr(episode, name) for episode in relabelled]


def test_learners_see_nothing_of_the_truth_but_the_corruption_itself() -> None:
    episodes = tiny_episodes(10, size=1)
    for before, after in zip(episodes, corrupt(episodes, "combined", seed=0), strict=True):
        for key in ("success", "operator", "source", "seed", "task", "embodiment"):
            assert getattr(before, key) == getattr(after, key)


def test_bad_requests_are_answered_in_one_sentence() -> None:
    episodes = tiny_episodes(4, size=1)
    with pytest.raises(ValueError, match="'blur' is unknown; choose among action_noise"):
        corrupt(episodes, "blur", seed=0)
    with pytest.raises(ValueError, match="at least two tasks"):
        corrupt(tiny_episodes(10, size=1, tasks=1), "label_noise", seed=0)
    with pytest.raises(ValueError, match=r"truncation_keep must satisfy .*\(0.7, 0.4\)"):
        corrupt(episodes, "truncation", seed=0, truncation_keep=(0.7, 0.4))
    with pytest.raises(ValueError, match=r"with action_noise must lie in \[0, 1\], got 30"):
        corrupt(episodes, "action_noise", seed=0, noise_fraction=30)
    with pytest.raises(ValueError, match="noise_bias .* must be 0 or more, got 0.1 and -1"):
        corrupt(episodes, "action_noise", seed=0, noise_bias=-1)
