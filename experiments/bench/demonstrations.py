"""What the benchmarks train on: a few recorded Tabletop episodes, and made-up ones in LIBERO's shapes."""

from __future__ import annotations

import tempfile

import numpy as np

from ptrlib import runs
from ptrlib.config import RunConfig, override
from ptrlib.data.episodes import Episode
from ptrlib.data.reading import read_episodes
from ptrlib.simulators.demonstrators.styles import STYLES
from ptrlib.simulators.tabletop.recording import record

POLICIES = {"tabletop": "tabletop_corruption", "libero": "libero_corruption"}  # the manifest of each policy's size
TARGETS = {"full": 1, "half": 2, "quarter": 4}  # sizes of the target encoder's images, the policy's over so much
RULES = ("sft", "sft_belief", "ptr", *(f"ptr_{name}_targets" for name in TARGETS))
LIBERO_IMAGES = 128  # pixels


def settings(policy: str, rules: tuple[str, ...] = RULES) -> dict[str, RunConfig]:
    """The configuration of each rule, on clean data and past the warm-up of the weights; without the size of targets
    that PTR has by default, which is "ptr" itself."""
    manifest = runs.load_manifest(runs.EXPERIMENTS / f"{POLICIES[policy]}.yaml")
    found = {setting.method: setting.config for setting in manifest.settings
             if setting.config.data.corruption == "none" and setting.config.seed == 0}
    changes: dict = {"initial_policy": "", "ptr.warmup_steps": 0}
    if policy == "libero":
        changes["network.image_size"] = LIBERO_IMAGES
    chosen = {name: override(config, changes) for name, config in found.items()}
    network = chosen["ptr"].network
    for name, share in TARGETS.items():
        if (size := network.image_size // share) != network.target_pixels:
            chosen[f"ptr_{name}_targets"] = override(chosen["ptr"], {"network.target_size": size})
    return {rule: chosen[rule] for rule in rules if rule in chosen}


def episodes(policy: str, per_task: int) -> list[Episode]:
    """Tabletop: ``per_task`` recorded episodes of every easy task. LIBERO: random images, states and actions with
    the lengths of demonstrations, since what a step costs does not depend on what the pictures show."""
    if policy == "tabletop":
        with tempfile.TemporaryDirectory() as folder:
            record(suite="easy", episodes=per_task, styles=tuple(STYLES), out=folder)
            return read_episodes(folder)
    rng = np.random.default_rng(0)
    return [_made_up(rng, task, LIBERO_IMAGES) for task in range(10) for _ in range(per_task)]


def _made_up(rng: np.random.Generator, task: int, size: int) -> Episode:
    steps = int(rng.integers(90, 170))
    images = {camera: rng.integers(0, 256, (steps + 1, size, size, 3), dtype=np.uint8)
              for camera in ("agentview", "eye_in_hand")}
    instruction = f"pick up the black bowl next to thing {task} and place it on the plate"
    return Episode(images=images, state=rng.normal(size=(steps + 1, 8)).astype(np.float32),
                   actions=rng.uniform(-1, 1, (steps, 7)).astype(np.float32), instruction=instruction,
                   embodiment="libero", task=f"task {task}")
