"""A trained policy as it acts: what it is given and what comes out, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ptrlib.agent import PolicyAgent
from ptrlib.config import override
from ptrlib.data.images import area_average
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.policy.instruction import hash_words
from ptrlib.simulators.protocol import Observation
from ptrlib.storage import SavedPolicy
from ptrlib.training import Trainer, prepare_data
from tests.factories import tiny_episodes
from tests.test_training import tiny_config


@pytest.fixture(scope="module")
def saved() -> SavedPolicy:
    config = tiny_config(credit="sft", **{"data.held_out_fraction": 0.0})
    trainer = Trainer(config, prepare_data(config, tiny_episodes(8, 40, 32)))
    trainer.run(12)
    learner, data = trainer.learner.eval(), trainer.data
    return SavedPolicy(learner.policy, learner.tokenizer, data.train.statistics, data.cameras, config, data.fingerprint,
                       ("libero",))


@pytest.mark.parametrize("foresight", [False, True])
@torch.no_grad()
def test_two_chunks_of_an_episode_are_what_the_formulas_give(saved, foresight):
    """State normalised, noise drawn anew, raw actions, and the belief tokens of what was executed of the first chunk in
    the second; of all of it where the policy has learned from such tokens."""
    saved = replace(saved, config=override(saved.config, {"data.belief_foresight": foresight}))
    executed = saved.config.ptr.base_policy.chunk_length if foresight else 5
    rng, robot = np.random.default_rng(0), EMBODIMENTS["libero"]
    seen = [Observation({"agentview": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
                         "eye_in_hand": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)},
                        rng.normal(0, 0.1, 8).astype(np.float32)) for _ in range(2)]
    agent = PolicyAgent(saved, 5)
    agent.begin(3, "open the drawer", 7)
    acted = [agent.act([(3, observation)])[0] for observation in seen]

    policy, base, generator = saved.policy, saved.config.ptr.base_policy, torch.Generator().manual_seed(7)
    tokens = policy.z_init[None]
    for observation, chunk in zip(seen, acted, strict=True):
        images = torch.stack([torch.from_numpy(area_average(observation.images[camera], 32))
                              for camera in ("agentview", "eye_in_hand")])[None]
        state = saved.statistics.normalise_state(robot.to_unified_state(observation.state)) * robot.state_mask
        context = policy.contextualise(policy.vision(images), torch.from_numpy(hash_words("open the drawer"))[None],
                                       tokens)
        noise = torch.randn(base.chunk_length, base.action_dim, generator=generator)[None]
        actions, hidden = policy.head.sample(context, torch.from_numpy(state)[None],
                                             torch.from_numpy(robot.action_mask)[None], noise, base.denoising_steps,
                                             executed)
        raw = robot.from_unified_action(saved.statistics.restore_actions(actions[0, :5].numpy()))
        np.testing.assert_allclose(chunk, raw, rtol=1e-5, atol=1e-6)
        over = torch.arange(base.chunk_length)[None] < executed
        tokens = saved.tokenizer(hidden, policy.action_tokens(actions), over).tokens
    agent.begin(3, "open the drawer", 7)
    again = agent.act([(3, seen[1])])[0]  # without the first chunk: other belief tokens, other noise
    assert not np.allclose(again, acted[1])


def test_belief_tokens_begin_anew_after_as_many_chunks_as_in_training(saved):
    """The third chunk sees z_{t_0} again: it is the first of an episode whose noise is drawn as far."""
    rng = np.random.default_rng(1)
    seen = [Observation({camera: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for camera in saved.cameras},
                        rng.normal(0, 0.1, 8).astype(np.float32)) for _ in range(3)]
    base = saved.config.ptr.base_policy

    def acted(restart):
        agent = PolicyAgent(saved, 5, restart)
        agent.begin(0, "open the drawer", 7)
        return [agent.act([(0, observation)])[0] for observation in seen]

    never, after_two, after_nine = acted(0), acted(2), acted(9)
    np.testing.assert_array_equal(never, after_nine)
    np.testing.assert_array_equal(never[:2], after_two[:2])
    assert not np.allclose(never[2], after_two[2])
    fresh = PolicyAgent(saved, 5)
    fresh.begin(0, "open the drawer", 7)
    for _ in range(2):
        torch.randn(base.chunk_length, base.action_dim, generator=fresh.episodes[0].generator)
    np.testing.assert_array_equal(fresh.act([(0, seen[2])])[0], after_two[2])


PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
WANTED = r'and uint8 of shape \(H, W, 3\) is wanted; make it so, of numbers in \[0, 1\] with \(image \* 255\)\.astype'


@pytest.mark.parametrize(("image", "found"), [
    ((PIXELS / 255).astype(np.float32), r"float32 of shape \(64, 64, 3\)"),
    (PIXELS[..., 0], r"uint8 of shape \(64, 64\)"),
    (np.concatenate([PIXELS, PIXELS], 2), r"uint8 of shape \(64, 64, 6\)"),
    (PIXELS.astype(np.int64), "int64 of shape"),
    (torch.from_numpy(PIXELS), r"torch\.uint8 of shape \(64, 64, 3\)")])
def test_an_image_that_is_none_is_refused(saved, image, found):
    agent = PolicyAgent(saved, 5)
    agent.begin(0, "open the drawer", 0)
    with pytest.raises(ValueError, match=f"^the image of camera 'eye_in_hand' is {found}.*{WANTED}"):
        agent.act([(0, Observation({"agentview": PIXELS, "eye_in_hand": image}, np.zeros(8, np.float32)))])


def test_an_image_whose_channels_come_first_is_refused(saved):
    agent = PolicyAgent(saved, 5)
    agent.begin(0, "open the drawer", 0)
    images = {"agentview": PIXELS.transpose(2, 0, 1), "eye_in_hand": PIXELS}
    with pytest.raises(ValueError, match=r"'agentview' is uint8 of shape \(3, .* with image\.transpose\(1, 2, 0\)$"):
        agent.act([(0, Observation(images, np.zeros(8, np.float32)))])


def test_a_state_that_is_none_is_refused(saved):
    agent, images = PolicyAgent(saved, 5), {"agentview": PIXELS, "eye_in_hand": PIXELS}
    agent.begin(0, "open the drawer", 0)
    for number in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^the state \[0\.0, (nan|inf), .* holds NaN or infinity; give finite"):
            agent.act([(0, Observation(images, np.array([0, number, *[0] * 6], np.float32)))])
    with pytest.raises(ValueError, match=r"'libero' has 8 numbers, not an array \(1, 8\); if another robot acts, name"):
        agent.act([(0, Observation(images, np.zeros((1, 8), np.float32)))])


def test_an_episode_must_begin_before_it_goes_on(saved):
    agent = PolicyAgent(saved, 5)
    agent.begin(0, "open the drawer", 0)
    observation = Observation({"agentview": PIXELS, "eye_in_hand": PIXELS}, np.zeros(8, np.float32))
    with pytest.raises(ValueError, match=r"^slot 1 has no episode yet; call begin\(1, \.\.\.\) first$"):
        agent.act([(0, observation), (1, observation)])
