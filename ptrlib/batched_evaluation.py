"""Evaluation in worlds that step many episodes at once: one forward pass of the policy for all of them.

Episodes are ordered by task and init state. Each has its own scene and its own noise, but a policy's matrix
products may differ in their last bits with the size of the batch: an episode's outcome is reproduced by the
same evaluation (policy, tasks, init states), not necessarily by a larger or smaller one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptrlib.config import EvaluationConfig
from ptrlib.simulators.protocol import BatchSimulator, TaskSpec, World

BATCH = 512  # episodes stepped together


def evaluate_batched(agents: Mapping[str, Any], world: World, tasks: Sequence[TaskSpec], config: EvaluationConfig,
                     *, columns: Sequence[str], seed_of: Any, progress: bool = True) -> dict[str, pd.DataFrame]:
    """agent -> one row per episode, as :func:`ptrlib.evaluation.evaluate_many` describes them.

    ``seed_of(task index, init state)`` is the agent's seed in an episode; ``wall`` is its share of the batch's.
    """
    assert world.make_batch is not None
    states = range(config.first_init_state, config.first_init_state + config.episodes_per_task)
    episodes = [(task.index, state) for task in tasks for state in states]
    tables = {}
    for name, agent in tqdm(agents.items(), unit="policy", desc=config.suite, disable=not progress):
        rows: list[dict[str, Any]] = []
        for first in range(0, len(episodes), BATCH):
            indices, scenes = zip(*episodes[first:first + BATCH], strict=True)
            simulator = world.make_batch(config.suite, list(indices))
            simulator.reset(init_states=list(scenes))
            seeds = [seed_of(*episode) for episode in zip(indices, scenes, strict=True)]
            clock = time.perf_counter()
            success, steps = rollout_batch(agent, simulator, seeds, config.max_steps)
            wall = round((time.perf_counter() - clock) / len(seeds), 5)
            rows += [{"suite": config.suite, "task": spec.name, "task_index": spec.index, "init_state": scenes[row],
                      "seed": seeds[row], "success": bool(success[row]), "steps": int(steps[row]), "wall": wall}
                     for row, spec in enumerate(simulator.specs)]
            provenance = simulator.provenance()
            simulator.close()
        tables[name] = pd.DataFrame(rows, columns=list(columns))
        tables[name].attrs["simulators"] = [provenance]
    return tables


def rollout_batch(agent: Any, simulator: BatchSimulator, seeds: Sequence[int], max_steps: int = 0
                  ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(success, steps) of every row of a freshly reset simulator, up to their own limits or a shorter ``max_steps``.

    Rows that have ended leave the policy's batch. Images are rendered only when the policy looks.
    """
    limits = np.minimum(simulator.time_limits, max_steps or simulator.time_limits)
    success, steps = np.zeros(len(seeds), bool), np.zeros(len(seeds), np.int64)
    for row, (spec, seed) in enumerate(zip(simulator.specs, seeds, strict=True)):
        agent.begin(row, spec.instruction, seed, embodiment=simulator.embodiments[row])
    while (running := np.flatnonzero(~success & (steps < limits))).size:
        chunks = agent.act(list(zip(running.tolist(), simulator.observe(running), strict=True)))
        for step in range(min(len(chunk) for chunk in chunks)):
            actions: list[NDArray[np.float32] | None] = [None] * len(seeds)
            for row, chunk in zip(running, chunks, strict=True):
                actions[row] = chunk[step]
            solved = simulator.step(actions)
            moving = running[~success[running] & (steps[running] < limits[running])]
            steps[moving] += 1
            success[moving] |= solved[moving]
    return success, steps
