"""A trained policy acting in several simulators at once (Algorithm 1 without the scorer)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptrlib.config import touched
from ptrlib.data.images import area_average, camera_of
from ptrlib.policy.action_space import EMBODIMENTS, Embodiment
from ptrlib.policy.instruction import hash_words
from ptrlib.simulators.protocol import Observation
from ptrlib.storage import SavedPolicy


@dataclass
class _Episode:
    instruction: Tensor  # (W,)
    generator: torch.Generator  # of this episode's flow noise, so that batching changes nothing
    belief: Tensor | None  # (M, d) z_t
    embodiment: Embodiment
    chunks: int = 0  # that were predicted since its tokens began


class PolicyAgent:
    """Predicts chunks and hands out their first ``execute_steps`` actions.

    A *slot* is one simulator. Belief tokens recur from chunk to chunk within an episode: z_{t+1} is made
    from what is executed of the predicted chunk, as no recorded one exists at inference. Training lets them recur over
    ``data.segment_chunks`` chunks; with ``restart_beliefs`` they begin anew, at z_{t_0}, after so many (0: never).

    Tokens learned to be made ``data.chunk_stride`` steps apart, which is what ``execute_steps`` should be where there
    are any; a configuration that says otherwise is refused.

    Raises:
        ValueError: ``execute_steps`` is not 1 or more, or more than the policy predicts at a time.
    """

    def __init__(self, saved: SavedPolicy, execute_steps: int, restart_beliefs: int = 0) -> None:
        predicted = saved.config.ptr.base_policy.chunk_length
        if not 1 <= execute_steps <= predicted:
            raise ValueError(f"execute_steps must lie in 1 to {predicted}, the steps that this policy predicts at a "
                             f"time, got {execute_steps}")
        self.saved = saved
        self.execute_steps = execute_steps
        self.restart_beliefs = restart_beliefs
        whole = saved.tokenizer is None or ("data.belief_foresight" in touched(saved.config)
                                            and saved.config.data.belief_foresight)
        self.remembered = predicted if whole else execute_steps  # steps of a chunk that its belief tokens hold
        self.episodes: dict[int, _Episode] = {}

    def begin(self, slot: int, instruction: str, seed: int, embodiment: str | None = None) -> None:
        """Forget ``slot``'s episode and start one; ``seed`` fixes all of its randomness.

        ``embodiment`` is the robot's, by default the one whose demonstrations the policy learned from.

        Raises:
            ValueError: there is no such robot, or it must be named as the policy learned from several.
        """
        saved, robot = self.saved, embodiment or self._robot()
        if robot not in EMBODIMENTS:
            raise ValueError(f"there is no robot {robot!r}; give begin() an embodiment of {', '.join(EMBODIMENTS)}")
        belief = saved.policy.z_init.detach() if saved.tokenizer is not None else None
        words = hash_words(instruction, saved.config.network.instruction_length)
        self.episodes[slot] = _Episode(torch.from_numpy(words), torch.Generator().manual_seed(seed), belief,
                                       EMBODIMENTS[robot])

    def _robot(self) -> str:
        """The robot that the policy learned from; what data.embodiment says where its run does not know."""
        learned = self.saved.embodiments or (self.saved.config.data.embodiment,)
        if len(learned) > 1:
            raise ValueError(f"this policy learned from the robots {' and '.join(learned)}; say which one is to act: "
                             f"begin(..., embodiment={learned[0]!r})")
        return learned[0]

    @torch.no_grad()
    def act(self, requests: list[tuple[int, Observation]]) -> list[NDArray[np.float32]]:
        """One (execute_steps, d_a) array of raw actions for every (slot, observation).

        Raises:
            ValueError: a slot without an episode, or an observation that lacks a camera, or with an image that is not
                uint8 (H, W, 3), or with a state that its robot does not have or that holds NaN or infinity.
        """
        saved, slots = self.saved, [self._episode(slot) for slot, _ in requests]
        images = torch.from_numpy(np.stack([self._images(observation) for _, observation in requests]))
        state = torch.from_numpy(np.stack([self._state(slot, observation) for slot, (_, observation)
                                           in zip(slots, requests, strict=True)]))
        words = torch.stack([slot.instruction for slot in slots])
        beliefs = [slot.belief for slot in slots if slot.belief is not None]
        context = saved.policy.contextualise(saved.policy.vision(images), words,
                                             torch.stack(beliefs) if beliefs else None)
        base = saved.config.ptr.base_policy
        noise = torch.stack([torch.randn(base.chunk_length, base.action_dim, generator=slot.generator)
                             for slot in slots])
        mask = torch.from_numpy(np.stack([slot.embodiment.action_mask for slot in slots]))
        actions, hidden = saved.policy.head.sample(context, state, mask, noise, base.denoising_steps, self.remembered)
        self._recur(slots, actions, hidden)
        unified = saved.statistics.restore_actions(actions[:, :self.execute_steps].numpy())
        return [slot.embodiment.from_unified_action(chunk) for slot, chunk in zip(slots, unified, strict=True)]

    def _episode(self, slot: int) -> _Episode:
        if slot not in self.episodes:
            raise ValueError(f"slot {slot} has no episode yet; call begin({slot}, ...) first")
        return self.episodes[slot]

    def _recur(self, slots: list[_Episode], actions: Tensor, hidden: Tensor) -> None:
        if self.saved.tokenizer is None:
            return
        steps = (torch.arange(actions.shape[1]) < self.remembered).expand(actions.shape[:2])
        tokens = self.saved.tokenizer(hidden, self.saved.policy.action_tokens(actions), steps).tokens
        for slot, belief in zip(slots, tokens, strict=True):
            slot.belief, slot.chunks = belief, slot.chunks + 1
            if slot.chunks == self.restart_beliefs:
                slot.belief, slot.chunks = self.saved.policy.z_init.detach(), 0

    def _images(self, observation: Observation) -> NDArray[np.uint8]:
        size, seen = self.saved.config.network.image_size, []
        for view in self.saved.cameras:
            camera = camera_of(view, observation.images)
            if camera is None:
                raise ValueError(f"the policy sees through the camera {view!r} and the observation has "
                                 f"{', '.join(observation.images)}; call its images as ptrlib.read_episodes does "
                                 "those of the demonstrations, or train with data.cameras among these")
            seen.append(area_average(_pixels(camera, observation.images[camera]), size))
        return np.stack(seen)

    def _state(self, slot: _Episode, observation: Observation) -> NDArray[np.float32]:
        robot, state = slot.embodiment, np.asarray(observation.state)
        numbers, expected = state.shape[0] if state.ndim == 1 else f"an array {state.shape}", len(robot.state_slots)
        if numbers != expected:
            raise ValueError(f"a state of the robot {robot.name!r} has {expected} numbers, not {numbers}; if another "
                             "robot acts, name it: begin(..., embodiment=...)")
        if not np.isfinite(state).all():
            raise ValueError(f"the state {state.tolist()} holds NaN or infinity; give finite numbers, such as those of "
                             "the last observation that had them")
        unified = robot.to_unified_state(state)
        return self.saved.statistics.normalise_state(unified) * slot.embodiment.state_mask


def _pixels(camera: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``image`` as it is, if it is one: what is not would be seen as black, or end far from here."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        dtype, shape = getattr(image, "dtype", type(image).__name__), tuple(np.shape(image))
        turned = dtype == np.uint8 and len(shape) == 3 and shape[0] == 3
        mend = "with image.transpose(1, 2, 0)" if turned else \
            "of numbers in [0, 1] with (image * 255).astype(\"uint8\")"
        raise ValueError(f"the image of camera {camera!r} is {dtype} of shape {shape}, and uint8 of shape (H, W, 3) is "
                         f"wanted; make it so, {mend}")
    return image
