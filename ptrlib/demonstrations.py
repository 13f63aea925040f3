"""Which demonstrations a run has learned from: short hashes, to be compared when they are asked for again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ptrlib.data.episodes import Episode
from ptrlib.policy.action_space import EMBODIMENTS


def fingerprint_episodes(episodes: Sequence[Episode]) -> str:
    """A hash of all actions, in order: which demonstrations a run has seen."""
    digest = hashlib.sha256()
    for episode in episodes:
        digest.update(np.ascontiguousarray(episode.actions).tobytes())
    return digest.hexdigest()[:16]


def fingerprint_parts(episodes: Sequence[Episode]) -> dict[str, str]:
    """Hashes of what else is learned from, in order, by what it is called: which of them differs can be said.

    "images" are the first and the last of every episode and camera (to hash all would take long), and are left out
    where an episode was read without.
    """
    robots = [EMBODIMENTS[episode.embodiment] for episode in episodes]
    parts: dict[str, Iterable[Any]] = {
        "lengths": map(len, episodes), "states": (episode.state for episode in episodes),
        "instructions": (episode.instruction for episode in episodes), "tasks": (episode.task for episode in episodes),
        "robots": ((robot.state_slots, robot.action_slots) for robot in robots)}  # a slot that moves is another robot
    if all(episode.images for episode in episodes):
        parts["images"] = (piece for episode in episodes for camera, images in episode.images.items()
                           for piece in (camera, images[0], images[-1]))
    return {name: _hash(pieces) for name, pieces in parts.items()}


def differing(record: Mapping[str, Any], fingerprint: str, parts: Mapping[str, str]) -> str:
    """What of the demonstrations is not as a provenance or a checkpoint says, such as "actions, states"; "" if all is.
    What one of the two does not know (older ones knew actions alone, or nothing) is not compared."""
    stored, found = ({"actions": actions} | dict(others) for actions, others in (
        (record.get("data_fingerprint", fingerprint), record.get("data_parts", {})), (fingerprint, parts)))
    return ", ".join(name for name in found if name in stored and stored[name] != found[name])


def _hash(pieces: Iterable[Any]) -> str:
    """Of arrays, texts and numbers; each with its length before it, so that two do not pass for one."""
    digest = hashlib.sha256()
    for piece in pieces:
        content = np.ascontiguousarray(piece).tobytes() if isinstance(piece, np.ndarray) else repr(piece).encode()
        digest.update(f"{len(content)} ".encode() + content)
    return digest.hexdigest()[:16]
