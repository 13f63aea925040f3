"""The four corruptions of the training data (Section 5.1), seeded and with a record of what they changed.

Action noise adds N(0, sigma^2) to the actions of 30 % of the episodes, and where asked a constant of each such
episode; truncation keeps the first 40-70 % of 25 %; label noise gives 20 % the instruction of another task;
*combined* does all three, each on its own draw of episodes. Only the arrays that change are new; the others, images
above all, are views.

``Episode.truth`` records for each corruption the steps of the episodes it hit, (T,) bool. Only analysis may
read it: neither ``success`` nor any other field that a learner sees is adjusted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ptrlib.config import DataConfig
from ptrlib.data.episodes import Episode

CORRUPTIONS = ("action_noise", "truncation", "label_noise")  # keys of Episode.truth, in the order applied
FEW_VALUES = 3  # open, closed and at rest
STILL = 0.02  # the corrections of an axis that is held: normalised to unit size, noise would be many times its range
_DEFAULTS = DataConfig()

_Change = Callable[[Episode, np.random.Generator], Episode]  # an episode that is hit -> what becomes of it


def corrupt(episodes: Sequence[Episode], kind: str, *, seed: int, noise_sigma: float = _DEFAULTS.noise_sigma,
            noise_bias: float = _DEFAULTS.noise_bias, noise_fraction: float = _DEFAULTS.noise_fraction,
            truncation_fraction: float = _DEFAULTS.truncation_fraction,
            truncation_keep: tuple[float, float] = _DEFAULTS.truncation_keep,
            label_fraction: float = _DEFAULTS.label_fraction) -> list[Episode]:
    """``episodes`` with the corruption ``kind``, one of ``CORRUPTIONS``, with all three
    (``"combined"``) or with none (``"none"``).

    Exactly ``round(fraction * len(episodes))`` episodes are hit. Each corruption draws from its own stream
    of ``seed``, so *combined* hits the episodes that each alone would.

    ``noise_sigma`` and ``noise_bias`` are in the units of the raw action, which LIBERO and RoboCasa normalise to
    [-1, 1]: every step of a noisy episode gets its own draw of N(0, noise_sigma^2) and all of them one draw of
    N(0, noise_bias^2), per action dimension. The bias has a stream of its own, so that the noise is the same with
    and without it. Dimensions that take at most ``FEW_VALUES`` values in the whole data set (a gripper command, a mode
    switch) or never leave a range of ``STILL`` (an unused axis) get no noise, and noisy actions are not clipped (the
    controller does that).
    """
    _check(kind, noise_sigma, noise_bias, truncation_keep)
    changes: dict[str, tuple[float, _Change]] = {
        "action_noise": (noise_fraction, partial(_add_noise, sigma=noise_sigma, bias_sigma=noise_bias,
                                                 continuous=_continuous_dimensions(episodes))),
        "truncation": (truncation_fraction, partial(_truncate, keep=truncation_keep)),
        "label_noise": (label_fraction, partial(_relabel, instructions=_instructions_of(episodes)))}
    corrupted = list(episodes)
    for number, (name, (fraction, change)) in enumerate(changes.items()):
        if kind in (name, "combined"):
            generator = np.random.default_rng((seed, number))
            corrupted = _apply(corrupted, name, fraction, change, generator)
    return corrupted


def _check(kind: str, noise_sigma: float, noise_bias: float, truncation_keep: tuple[float, float]) -> None:
    known = (*CORRUPTIONS, "combined", "none")
    if kind not in known:
        raise ValueError(f"corruption {kind!r} is unknown; choose among {', '.join(known)}")
    low, high = truncation_keep
    if not 0 < low <= high <= 1:
        raise ValueError(f"truncation_keep must satisfy 0 < low <= high <= 1, got {truncation_keep}")
    if noise_sigma < 0 or noise_bias < 0:
        raise ValueError(f"noise_sigma and noise_bias are standard deviations and must be 0 or more, got {noise_sigma} "
                         f"and {noise_bias}")


def _apply(episodes: list[Episode], name: str, fraction: float, change: _Change, generator: np.random.Generator
           ) -> list[Episode]:
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of episodes with {name} must lie in [0, 1], got {fraction}")
    hit = np.zeros(len(episodes), bool)
    hit[generator.permutation(len(episodes))[:round(fraction * len(episodes))]] = True
    changed = [change(episode, generator) if chosen else episode
               for episode, chosen in zip(episodes, hit, strict=True)]
    # a recording may have been marked already: Tabletop can execute noise while it records
    return [dataclasses.replace(episode, truth={**episode.truth, name: chosen | episode.truth.get(
        name, np.zeros(len(episode), bool))}) for episode, chosen in zip(changed, hit, strict=True)]


def _add_noise(episode: Episode, generator: np.random.Generator, *, sigma: float, bias_sigma: float,
               continuous: Mapping[str, NDArray[np.bool_]]) -> Episode:
    bias = bias_sigma * generator.spawn(1)[0].standard_normal(episode.actions.shape[1])
    noise = sigma * generator.standard_normal(episode.actions.shape) + bias
    noisy = episode.actions + noise * continuous[episode.embodiment]
    return dataclasses.replace(episode, actions=noisy.astype(np.float32))


def _truncate(episode: Episode, generator: np.random.Generator, *, keep: tuple[float, float]) -> Episode:
    (low, high), steps = keep, len(episode)
    kept = round(generator.uniform(low, high) * steps)
    # rounding must not leave the range; an episode always keeps one action
    return _first_steps(episode, max(1, min(max(kept, int(np.ceil(low * steps))), int(high * steps))))


def _relabel(episode: Episode, generator: np.random.Generator, *, instructions: Mapping[str, set[str]]) -> Episode:
    own = {text for text, tasks in instructions.items() if episode.task in tasks} | {episode.instruction}
    others = [text for text in instructions if text not in own]
    if not others:
        raise ValueError(f"label noise needs the instruction of another task than {episode.task!r}; "
                         "give episodes of at least two tasks")
    text = others[generator.integers(len(others))]
    return dataclasses.replace(episode, instruction=text, claimed_task=min(instructions[text]))


def _first_steps(episode: Episode, steps: int) -> Episode:
    """The episode's first ``steps`` actions and ``steps + 1`` observations, as views."""
    states = episode.simulator_states
    return dataclasses.replace(
        episode, actions=episode.actions[:steps], state=episode.state[:steps + 1],
        images={camera: images[:steps + 1] for camera, images in episode.images.items()},
        extra={key: values[:steps + 1] for key, values in episode.extra.items()},
        truth={key: mask[:steps] for key, mask in episode.truth.items()},
        simulator_states=None if states is None else states[:steps + 1])


def _continuous_dimensions(episodes: Sequence[Episode]) -> dict[str, NDArray[np.bool_]]:
    """embodiment -> (action dimension,) bool: more than a few values occur, and not all of them nearly the same."""
    found = {}
    for embodiment in {episode.embodiment for episode in episodes}:
        actions = np.concatenate([episode.actions for episode in episodes
                                  if episode.embodiment == embodiment])
        found[embodiment] = np.array([len(np.unique(column)) > FEW_VALUES and np.ptp(column) > STILL
                                      for column in actions.T])
    return found


def _instructions_of(episodes: Sequence[Episode]) -> dict[str, set[str]]:
    """instruction -> the tasks it is given for, sorted by instruction."""
    tasks: dict[str, set[str]] = {}
    for episode in sorted(episodes, key=lambda episode: episode.instruction):
        tasks.setdefault(episode.instruction, set()).add(episode.task)
    return tasks
