"""Small made-up episodes that look like LIBERO's, for tests."""

from __future__ import annotations

import numpy as np

from ptrlib.data.episodes import Episode

TASKS = ("pick up the bowl", "open the drawer", "turn on the stove", "push the plate")


def tiny_episode(rng: np.random.Generator, steps: int = 20, size: int = 16, task: int = 0, seed: int = 0,
                 operator: str = "precise") -> Episode:
    """Random images and a random walk: ``steps`` actions, ``steps + 1`` observations."""
    actions = rng.uniform(-1, 1, (steps, 7)).astype(np.float32)
    actions[:, 6] = np.where(np.arange(steps) < steps // 2, -1, 1)
    state = np.cumsum(rng.normal(0, 0.01, (steps + 1, 8)), axis=0).astype(np.float32)
    images = {camera: rng.integers(0, 256, (steps + 1, size, size, 3), dtype=np.uint8)
              for camera in ("agentview", "eye_in_hand")}
    name = TASKS[task]
    return Episode(images=images, state=state, actions=actions, instruction=name, embodiment="libero",
                   task=name.replace(" ", "_"), source="tiny", operator=operator, seed=seed,
                   simulator_states=rng.normal(size=(steps + 1, 11)),
                   extra={"joint_states": rng.normal(size=(steps + 1, 7)),
                          "robot_states": rng.normal(size=(steps + 1, 9))})


def tiny_episodes(count: int, steps: int = 20, size: int = 16, *, tasks: int = 2, seed: int = 0
                  ) -> list[Episode]:
    """``count`` episodes, their tasks in turn; lengths vary by a few steps around ``steps``."""
    rng = np.random.default_rng(seed)
    return [tiny_episode(rng, max(1, steps + int(rng.integers(-3, 4))), size, index % tasks, index,
                         ("precise", "slow")[index % 2]) for index in range(count)]
