"""The policy as a whole: shapes, masks, attention semantics, determinism, learning."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ptrlib.config import BasePolicyConfig, NetworkConfig
from ptrlib.policy import encoder
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.policy.backbone import Context, context_mask
from ptrlib.policy.encoder import VisionTower
from ptrlib.policy.expert import HeadLoss
from ptrlib.policy.instruction import hash_words
from ptrlib.policy.policy import HEADS, Policy

BASE = BasePolicyConfig()
SMALL = NetworkConfig(image_size=32, width=32, vision_channels=(8, 16, 16), backbone_layers=2,
                      expert_layers=2, heads=2, vocabulary=64, precision="float32")
BELIEF = 3
TASKS = ("put the bowl on the plate", "open the drawer", "push the plate to the front of the stove")
heads = pytest.mark.parametrize("head", HEADS)


def make_policy(head: str = "flow", **changes: object) -> Policy:
    torch.manual_seed(0)
    return Policy(replace(SMALL, head=head, **changes), BASE, cameras=2, belief_tokens=BELIEF)


class Inputs:
    """Three samples of random images, states and chunks; unused slots are zero."""

    def __init__(self, embodiment: str = "libero", batch: int = 3) -> None:
        generator = torch.Generator().manual_seed(1)
        robot = EMBODIMENTS[embodiment]
        self.images = torch.randint(0, 256, (batch, 2, 32, 32, 3), dtype=torch.uint8, generator=generator)
        self.words = torch.from_numpy(np.stack([hash_words(TASKS[i % 3], 12) for i in range(batch)]))
        self.belief = torch.randn(batch, BELIEF, SMALL.width, generator=generator)
        self.action_mask = torch.from_numpy(robot.action_mask).expand(batch, -1)
        self.state = torch.randn(batch, 200, generator=generator) * torch.from_numpy(robot.state_mask)
        self.actions = torch.randn(batch, 16, 200, generator=generator) * self.action_mask[:, None]
        self.steps = torch.ones(batch, 16, dtype=torch.bool)

    def repeated(self, times: int) -> Inputs:
        """The same samples many times, for many draws of noise in one pass."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.repeat(times, *[1] * (tensor.dim() - 1)))
        return self

    def context(self, policy: Policy) -> Context:
        return policy.contextualise(policy.vision(self.images), self.words, self.belief)

    def loss(self, policy: Policy, generator: torch.Generator | None = None) -> HeadLoss:
        return policy.head.loss(self.context(policy), self.state, self.actions, self.action_mask, self.steps,
                                generator or torch.Generator().manual_seed(5))

    def sample(self, policy: Policy, seed: int = 5, steps: int = 4) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self.actions.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return policy.head.sample(self.context(policy), self.state, self.action_mask, noise, steps)


@heads
def test_shapes(head: str) -> None:
    policy, inputs = make_policy(head), Inputs()
    vision = policy.vision(inputs.images)
    context = inputs.context(policy)
    loss = inputs.loss(policy)
    actions, hidden = inputs.sample(policy)
    words = 9  # of the longest of the three instructions
    assert vision.shape == (3, 2 * 4, 32)
    assert context.hidden.shape == (3, words + BELIEF + 8, 32) and context.pooled.shape == (3, 32)
    assert context.mask.sum(1).tolist() == [6 + BELIEF + 8, 3 + BELIEF + 8, 9 + BELIEF + 8]
    assert loss.per_sample.shape == (3,) and loss.hidden.shape == hidden.shape == (3, 16, 32)
    assert policy.action_tokens(inputs.actions).shape == (3, 16, 32)
    assert actions.shape == (3, 16, 200)
    torch.testing.assert_close(context.pooled, context.hidden[:, -8:].mean(1))
    assert policy.contextualise(vision, inputs.words, None).hidden.shape == (3, words + 8, 32)


@heads
@pytest.mark.parametrize("embodiment", EMBODIMENTS)
def test_unused_slots_are_exactly_zero(head: str, embodiment: str) -> None:
    """Sampled actions are zero there, and what a chunk holds there in training changes nothing."""
    policy, inputs = make_policy(head), Inputs(embodiment)
    actions, _ = inputs.sample(policy)
    assert (actions[:, :, ~inputs.action_mask[0]] == 0).all()
    assert (actions[:, :, inputs.action_mask[0]] != 0).all()
    clean = inputs.loss(policy)
    inputs.actions = torch.where(inputs.action_mask[:, None], inputs.actions, 7.0)
    soiled = inputs.loss(policy)
    assert torch.equal(clean.per_sample, soiled.per_sample) and torch.equal(clean.hidden, soiled.hidden)


@heads
def test_unused_slots_get_no_gradient(head: str) -> None:
    policy, inputs = make_policy(head), Inputs()
    inputs.loss(policy).per_sample.sum().backward()
    used = inputs.action_mask[0]
    entering, leaving = policy.head.expert.projector.rise.weight.grad, policy.head.expert.output.weight.grad
    assert (entering[:, ~used] == 0).all() and (entering[:, used] != 0).any(0).all()
    assert (leaving[~used] == 0).all() and (leaving[used] != 0).any(1).all()


@heads
def test_steps_that_do_not_count_are_seen_and_hidden_ones_never_matter(head: str) -> None:
    policy, inputs = make_policy(head), Inputs()
    whole = inputs.loss(policy)
    inputs.steps[:, 10:] = False
    draw = policy.head.draw(inputs.actions, torch.Generator().manual_seed(5))

    def loss(visible: Tensor | None) -> HeadLoss:
        return policy.head.loss_of_draw(inputs.context(policy), inputs.state, inputs.actions, inputs.action_mask,
                                        inputs.steps, *draw, visible)

    # what counts changes the mean alone: nothing tells the policy that the episode ends
    seen, hidden = loss(None), loss(inputs.steps)
    torch.testing.assert_close(seen.hidden, whole.hidden)
    assert not torch.allclose(seen.per_sample, whole.per_sample)
    assert not torch.allclose(seen.hidden[:, :10], hidden.hidden[:, :10])
    inputs.actions[:, 10:] = 5 * inputs.action_mask[:, None]
    after = loss(inputs.steps)
    torch.testing.assert_close(hidden.per_sample, after.per_sample)
    torch.testing.assert_close(hidden.hidden[:, :10], after.hidden[:, :10])
    assert not torch.allclose(loss(None).per_sample, seen.per_sample)
    inputs.actions[:, 9:] = 5 * inputs.action_mask[:, None]
    assert not torch.allclose(loss(inputs.steps).per_sample, after.per_sample)
    inputs.steps[0] = False
    assert loss(None).per_sample[0] == 0


@heads
def test_the_loss_of_one_sample_ignores_the_others(head: str) -> None:
    policy, inputs = make_policy(head), Inputs()
    before = inputs.loss(policy).per_sample
    inputs.actions[1] *= 3
    inputs.images[1] = 255 - inputs.images[1]
    inputs.words[1] = torch.from_numpy(hash_words("close the microwave now", 12))
    after = inputs.loss(policy).per_sample
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


@heads
def test_belief_state_words_and_images_change_the_actions(head: str) -> None:
    policy, plain = make_policy(head), Inputs()
    reference, _ = plain.sample(policy)
    for name, value in (("belief", plain.belief.flip(2)), ("state", plain.state * 2),
                        ("words", plain.words + 1), ("images", 255 - plain.images),
                        ("images", plain.images.flip(1))):
        changed = Inputs()
        setattr(changed, name, value)
        assert (changed.sample(policy)[0] - reference).abs().max() > 1e-5, name


@heads
def test_bitwise_determinism(head: str) -> None:
    """The generator is the only source of randomness: the global one neither helps nor is touched."""
    policy, inputs = make_policy(head), Inputs()
    torch.manual_seed(1)
    global_state = torch.get_rng_state()
    first, sampled = inputs.loss(policy), inputs.sample(policy)
    assert torch.equal(global_state, torch.get_rng_state())
    torch.manual_seed(2)
    second, again = inputs.loss(policy), inputs.sample(policy)
    assert torch.equal(first.per_sample, second.per_sample) and torch.equal(first.hidden, second.hidden)
    assert torch.equal(sampled[0], again[0]) and torch.equal(sampled[1], again[1])
    assert not torch.equal(inputs.loss(policy, torch.Generator().manual_seed(6)).per_sample, first.per_sample)
    assert not torch.equal(inputs.sample(policy, seed=6)[0], sampled[0])


@heads
def test_a_saved_policy_is_the_same_policy(head: str) -> None:
    policy, inputs = make_policy(head), Inputs()
    other = Policy(replace(SMALL, head=head), BASE, cameras=2, belief_tokens=BELIEF)
    assert not torch.equal(inputs.sample(other)[0], inputs.sample(policy)[0])
    other.load_state_dict(policy.state_dict())
    assert torch.equal(inputs.sample(other)[0], inputs.sample(policy)[0])


@heads
def test_it_learns_a_handful_of_samples(head: str) -> None:
    """Overfitted to two chunks, the policy samples them back; before training it is far off."""
    policy, inputs = make_policy(head, backbone_layers=1), Inputs(batch=2).repeated(12)
    slopes = torch.tensor([1.0, -1.0]).repeat(12)[:, None, None]
    inputs.actions = torch.linspace(-1, 1, 16)[:, None] * slopes * inputs.action_mask[:, None]
    steps = 4 if head == "flow" else 10
    assert error(inputs, policy, steps) > 0.9
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        loss = inputs.loss(policy, generator).per_sample.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error(inputs, policy, steps) < 0.35


def error(inputs: Inputs, policy: Policy, steps: int) -> float:
    """Root mean square error of sampled actions in the robot's slots."""
    difference = (inputs.sample(policy, steps=steps)[0] - inputs.actions)[:, :, inputs.action_mask[0]]
    return difference.square().mean().sqrt().item()


# Attention


def test_context_mask_by_hand() -> None:
    """Two words of which the second is padding, one belief token, two vision tokens."""
    mask = context_mask(torch.tensor([[True, False, True, True, True]]), vision_tokens=2)[0]
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0],  # the first word sees itself
        [1, 1, 0, 0, 0],  # padding: what it sees is of no consequence
        [1, 0, 1, 0, 0],  # belief: words and itself, no padding
        [1, 0, 1, 1, 1],  # vision: everything present
        [1, 0, 1, 1, 1],
    ]


def test_later_words_never_change_earlier_ones() -> None:
    policy, inputs = make_policy(), Inputs()
    before = inputs.context(policy).hidden
    inputs.words[0, 4] += 1  # the fifth of six words
    after = inputs.context(policy).hidden
    torch.testing.assert_close(before[0, :4], after[0, :4], rtol=0, atol=0)
    changed = (before[0] - after[0]).abs().amax(-1) > 1e-6
    assert changed[4:6].all() and changed[9:].all()  # itself, the next word, belief, vision; 6:9 is padding


def test_belief_never_changes_words_and_follows_its_own_order() -> None:
    policy, inputs = make_policy(), Inputs()
    before = inputs.context(policy).hidden
    inputs.belief[:, 1] *= -1
    after = inputs.context(policy).hidden
    torch.testing.assert_close(before[:, :10], after[:, :10], rtol=0, atol=0)  # the words and z_1
    assert ((before - after)[:, 10:].abs().amax(-1) > 1e-6).all()


def test_vision_tokens_see_one_another() -> None:
    policy, inputs = make_policy(), Inputs()
    vision = policy.vision(inputs.images)
    before = policy.contextualise(vision, inputs.words, inputs.belief).hidden
    for token in (0, vision.shape[1] - 1):
        changed = vision.clone()
        changed[:, token] *= -1
        after = policy.contextualise(changed, inputs.words, inputs.belief).hidden
        moved = (before - after).abs().amax(-1) > 1e-6
        assert moved[:, -vision.shape[1]:].all() and not moved[:, :-vision.shape[1]].any()


def test_padding_never_matters() -> None:
    """More padding, or a longer neighbour in the batch, leaves a sample as it was."""
    policy, inputs = make_policy(), Inputs()
    vision = policy.vision(inputs.images)
    together = policy.contextualise(vision, inputs.words, inputs.belief)
    alone = policy.contextualise(vision[1:2], inputs.words[1:2], inputs.belief[1:2])
    longer = torch.nn.functional.pad(inputs.words, (0, 5))
    padded = policy.contextualise(vision, longer, inputs.belief)
    torch.testing.assert_close(alone.pooled, together.pooled[1:2])
    torch.testing.assert_close(alone.hidden[alone.mask], together.hidden[1][together.mask[1]])
    torch.testing.assert_close(padded.pooled, together.pooled, rtol=0, atol=0)
    whole, part = inputs.loss(policy), policy.head.loss(
        Context(together.hidden.masked_fill(~together.mask[..., None], 9.0), together.mask, together.pooled),
        inputs.state, inputs.actions, inputs.action_mask, inputs.steps, torch.Generator().manual_seed(5))
    torch.testing.assert_close(whole.per_sample, part.per_sample)


def test_an_empty_instruction_is_no_trouble() -> None:
    policy, inputs = make_policy(), Inputs()
    inputs.words[:] = 0
    assert inputs.loss(policy).per_sample.isfinite().all()
    inputs.words[0, 0] = 3
    assert inputs.loss(policy).per_sample.isfinite().all()


def test_colliding_words_are_told_apart() -> None:
    """Two words that share their first bucket differ in the second."""
    policy, inputs = make_policy(), Inputs()
    inputs.words[:, 1:] = 0
    inputs.words[:, 0] = 5
    first = inputs.context(policy).pooled
    inputs.words[:, 0] = 5 + SMALL.vocabulary
    assert (inputs.context(policy).pooled - first).abs().max() > 1e-5


# The vision tower


def test_target_features_come_from_an_intermediate_layer() -> None:
    policy, inputs = make_policy(), Inputs()
    tower = policy.vision_tower
    features = tower.target_features(inputs.images)
    assert features.shape == (3, tower.target_dim(2))
    features.square().sum().backward()
    received = {name for name, parameter in tower.named_parameters() if parameter.grad is not None}
    later = ("middle_merge", "late", "projection", "norm", "position")
    assert not any(name.startswith(later) for name in received)
    assert {name.split(".")[0] for name in received} == {"stem", "camera_embedding", "early", "early_merge",
                                                         "middle"}
    assert {name.split(".")[0] for name, _ in tower.named_parameters() if name not in received} == set(later)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_target_features_are_the_same_part_by_part(count: int, monkeypatch) -> None:
    """On a CPU a batch passes in parts, so many observations at a time as fit its cache: here one."""
    tower, images = make_policy().vision_tower, Inputs().images[:count]
    whole = tower.target_features(images)
    assert whole.shape == (count, tower.target_dim(2)) and tower._at_once(images) >= 3
    monkeypatch.setattr(encoder, "CACHED", 1)
    assert tower._at_once(images) == 1
    torch.testing.assert_close(tower.target_features(images), whole)


def test_a_copy_of_the_tower_is_independent() -> None:
    policy, inputs = make_policy(), Inputs()
    copied = copy.deepcopy(policy.vision_tower)
    before = copied.target_features(inputs.images)
    assert torch.equal(before, policy.vision_tower.target_features(inputs.images))
    with torch.no_grad():
        policy.vision_tower.stem.weight.mul_(2)
    assert torch.equal(before, copied.target_features(inputs.images))


def test_smaller_targets_are_those_of_smaller_images() -> None:
    """network.target_size: what a tower of small images says of the averaged ones, in as many features; what the
    policy itself sees stays the same."""
    images = Inputs().images
    full, small = (VisionTower(replace(SMALL, target_size=size), cameras=2) for size in (0, 16))
    of_small = VisionTower(replace(SMALL, image_size=16), cameras=2)
    small.load_state_dict(full.state_dict())
    of_small.load_state_dict({**full.state_dict(), "position": of_small.position})
    averaged = images.float().unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5))
    features = small.target_features(images)
    assert features.shape == full.target_features(images).shape
    torch.testing.assert_close(features, of_small.target_features(averaged))
    assert (features - full.target_features(images)).abs().max() > 1e-3
    assert torch.equal(small(images), full(images))


def test_by_default_large_images_are_averaged_for_the_targets_alone() -> None:
    """Of 64 pixels or the largest part below it that fits; a policy that sees no more keeps its own size."""
    assert [NetworkConfig(image_size=size).target_pixels for size in (16, 64, 96, 112, 128, 256)] == [
        16, 64, 48, 56, 64, 64]
    large, chosen, whole = (VisionTower(replace(SMALL, image_size=128, target_size=size), cameras=1)
                            for size in (0, 64, 128))
    chosen.load_state_dict(large.state_dict())
    whole.load_state_dict(large.state_dict())
    images = torch.randint(0, 256, (2, 1, 128, 128, 3), dtype=torch.uint8)
    assert torch.equal(large.target_features(images), chosen.target_features(images))
    assert not torch.allclose(large.target_features(images), whole.target_features(images))
    assert torch.equal(large(images), whole(images))


@pytest.mark.parametrize("size", [8, 24, 64])
def test_targets_of_a_size_that_does_not_fit_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"network.target_size must divide network.image_size \(32\).*got {size}"):
        VisionTower(replace(SMALL, target_size=size), cameras=1)


def test_target_features_keep_the_cameras_apart() -> None:
    tower, images = make_policy().vision_tower, Inputs().images
    before = tower.target_features(images)
    images[:, 1] = 0
    after = tower.target_features(images)
    half = tower.target_dim(1)
    torch.testing.assert_close(before[:, :half], after[:, :half])
    assert ((before - after)[:, half:].abs().max(1).values > 1e-3).all()


def test_cameras_are_told_apart() -> None:
    """The same picture from two cameras gives different tokens, by more than their positions."""
    tower, images = make_policy().vision_tower, Inputs().images
    images[:, 1] = images[:, 0]
    tokens = tower(images).unflatten(1, (2, -1)) - tower.position
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-3


def test_float_images_are_bytes() -> None:
    tower, images = make_policy().vision_tower, Inputs().images
    assert torch.equal(tower(images), tower(images.float()))


def test_wrong_images_are_refused() -> None:
    tower = make_policy().vision_tower
    with pytest.raises(ValueError, match=r"shape \(batch, 2, 32, 32, 3\), got \(3, 1, 32, 32, 3\)"):
        tower(Inputs().images[:, :1])
    with pytest.raises(ValueError, match="multiple of 16"):
        VisionTower(replace(SMALL, image_size=40), cameras=1)


def test_unknown_head_and_precision_are_refused() -> None:
    with pytest.raises(ValueError, match="flow, diffusion, got 'gan'"):
        make_policy("gan")
    with pytest.raises(ValueError, match="network.precision"):
        Inputs().context(make_policy(precision="half"))
    with pytest.raises(ValueError, match=r"network.width \(32\) must be a multiple of network.heads \(5\)"):
        make_policy(heads=5)


# Precision and cost


def test_bfloat16_is_float32_within_its_rounding() -> None:
    exact, rounded, inputs = make_policy(), make_policy(precision="bfloat16"), Inputs()
    reference, reduced = inputs.loss(exact).per_sample, inputs.loss(rounded).per_sample
    assert reduced.dtype == torch.float32 and not torch.equal(reference, reduced)
    torch.testing.assert_close(reference, reduced, rtol=0.03, atol=0)
    reduced.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in rounded.parameters()
               if parameter.grad is not None)


def test_targets_first_do_not_cost_the_policy_its_gradient() -> None:
    """Autocast's cache must not hand weights cast under no_grad to a pass that needs gradients."""
    policy, inputs = make_policy(precision="bfloat16"), Inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            policy.vision_tower.target_features(inputs.images)
        inputs.loss(policy).per_sample.sum().backward()
    assert policy.vision_tower.stem.weight.grad is not None


def test_every_parameter_is_used() -> None:
    policy, inputs = make_policy(), Inputs()
    inputs.belief = policy.z_init.expand(3, -1, -1)
    inputs.loss(policy).per_sample.sum().backward()
    assert not [name for name, parameter in policy.named_parameters() if parameter.grad is None]


def test_the_policy_is_small() -> None:
    policy = Policy(NetworkConfig(), BASE, cameras=2, belief_tokens=4)
    assert 1e6 < sum(parameter.numel() for parameter in policy.parameters()) < 2.5e6  # as README.md says
