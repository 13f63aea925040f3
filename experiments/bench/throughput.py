"""How much goes through each stage in a second: loader, scoring, acting and rollouts of Tabletop's policy, and the
simulator alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import demonstrations
import numpy as np
import pandas as pd
import torch

from ptrlib.agent import PolicyAgent
from ptrlib.batched_evaluation import rollout_batch
from ptrlib.simulators.tabletop.robots import MOTORS
from ptrlib.simulators.tabletop.tasks import suite_named
from ptrlib.simulators.tabletop.world import TabletopBatch
from ptrlib.storage import SavedPolicy
from ptrlib.training import Trainer, prepare_data

TABLES = 400  # stepped together
CONTROL_STEPS = 24  # of a rollout
REPEATED = 10  # times in a round, where once takes milliseconds


def measure(rounds: int, repeats: int, *, tables: int = TABLES, per_task: int = 5) -> pd.DataFrame:
    """A row per stage and round: what was counted, how many of them, and the CPU seconds they took. A stage is gone
    through ``repeats`` times and the quickest counts, as with training steps."""
    torch.set_num_threads(1)
    config = demonstrations.settings("tabletop", ("ptr",))["ptr"]
    trainer = Trainer(config, prepare_data(config, demonstrations.episodes("tabletop", per_task)))
    learner, dataset = trainer.learner.eval(), trainer.data.train
    data = trainer.data
    saved = SavedPolicy(learner.policy, learner.tokenizer, data.statistics, data.cameras, config, "", ())
    simulator = TabletopBatch("easy", [row % len(suite_named("easy")) for row in range(tables)])
    simulator.reset(init_states=[0] * tables)
    seeds, agent = list(range(tables)), PolicyAgent(saved, config.evaluation.execute_steps)
    actions = torch.rand(tables, MOTORS + 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    single = list(np.asarray(actions[:, :3]))  # the gantry's two motors and its gripper
    batches = dataset.scoring_batches(trainer.sampler.segments)

    def score() -> int:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = dataset.scoring_batches(trainer.sampler.segments)
            batch = next(batches)
        with torch.no_grad():
            _, features = learner.features(batch, trainer.generator)
            return len(learner.credit(features).weight)

    def act() -> int:
        for row, (spec, seed) in enumerate(zip(simulator.specs, seeds, strict=True)):
            agent.begin(row, spec.instruction, seed, embodiment=simulator.embodiments[row])
        return len(agent.act(list(enumerate(simulator.observe(np.arange(tables))))))

    def roll_out() -> int:
        simulator.reset(init_states=[0] * tables)
        return int(rollout_batch(agent, simulator, seeds, CONTROL_STEPS)[1].sum())

    def dynamics(images: bool) -> int:
        for _ in range(REPEATED):
            simulator.tables.step(actions)
            if images:
                simulator.images()
        return REPEATED * tables

    def arrays() -> int:
        for _ in range(REPEATED):
            simulator.step(single)
            simulator.observe(np.arange(tables))
        return REPEATED * tables

    stages: dict[tuple[str, str], Callable[[], int]] = {
        ("loader", "chunks"): lambda: sum(int(trainer.sampler.next().present.sum()) for _ in range(REPEATED)),
        ("scoring", "chunks"): score,
        ("acting", "action chunks"): act,
        ("rollout with the policy", "control steps"): roll_out,
        ("simulator", "control steps"): lambda: dynamics(images=False),
        ("simulator with images", "control steps"): lambda: dynamics(images=True),
        ("simulator with images, as NumPy arrays", "control steps"): arrays}
    rows = []
    for number in range(-1, rounds):
        for (stage, unit), call in stages.items():
            count, seconds = max((_timed(call) for _ in range(repeats)), key=lambda found: found[0] / found[1])
            if number >= 0:
                rows.append({"stage": stage, "unit": unit, "round": number, "count": count, "seconds": seconds})
    return pd.DataFrame(rows)


def _timed(call: Callable[[], int]) -> tuple[int, float]:
    """What ``call`` counts and the CPU seconds it takes."""
    begun = time.process_time()
    count = call()
    return count, time.process_time() - begun
