"""Episodes per minute: our evaluation against a plain loop over LIBERO's own environment.

Both run in one process, one after the other, in the same scenes with the same actions: chunks of eight drawn
from a seeded generator, as many steps an episode whatever happens. The plain loop is the one of LIBERO's
evaluation: ``OffScreenRenderEnv`` with its default settings, ``reset`` and ``set_init_state`` per episode,
images at every step. Ours is :func:`ptrlib.evaluation.rollout`, which the evaluation workers run. Building
the environments is timed apart. `make bench-libero` calls this; ``libero_speed.json`` beside it is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from stock_loop import Clock, report

from ptrlib.config import EvaluationConfig
from ptrlib.evaluation import rollout
from ptrlib.simulators import libero


@dataclass(frozen=True)
class Bench:
    """Episodes per minute of our evaluation and of a loop over LIBERO's own environment."""

    suite: str = "libero_spatial"
    task: int = 0
    episodes: int = 3
    steps: int = 200
    """per episode"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("experiments/bench/libero_speed.json")


def chunks(episode: int, execute_steps: int = EvaluationConfig.execute_steps) -> Callable[[Any], np.ndarray]:
    """An agent that looks at nothing: each call gives the next (execute_steps, 7) small actions."""
    generator = np.random.default_rng(episode)
    return lambda observation: generator.uniform(-0.3, 0.3, (execute_steps, 7))


def ours(bench: Bench) -> dict[str, Any]:
    build = Clock()
    simulator = libero.make(bench.suite, bench.task)
    simulator.reset(init_state=0)
    simulator.observe(images=True)
    measured = {"build": build.read(), "episodes": []}
    for episode in range(bench.episodes):
        clock = Clock()
        success, steps = rollout(simulator, episode, bench.steps, chunks(episode))
        if success:
            raise ValueError(f"random actions solved task {bench.task}; name another one")
        measured["episodes"].append(clock.read() | {"steps": steps})
    measured["simulator"] = simulator.provenance()
    simulator.close()
    return measured


def plain_loop(bench: Bench) -> dict[str, Any]:
    benchmark = libero.stock_benchmark(bench.suite)  # first: importing LIBERO by itself asks questions
    from libero.libero.envs import OffScreenRenderEnv

    states = libero.read_init_states(benchmark, bench.task)
    build = Clock()
    environment = OffScreenRenderEnv(bddl_file_name=benchmark.get_task_bddl_file_path(bench.task),
                                     camera_heights=128, camera_widths=128)
    environment.reset()
    measured = {"build": build.read(), "episodes": []}
    for episode in range(bench.episodes):
        clock = Clock()
        environment.reset()
        environment.set_init_state(states[episode])
        for _ in range(libero.SETTLE_STEPS):
            environment.step(libero.NO_OP)
        agent, steps = chunks(episode), 0
        while steps < bench.steps:
            for action in agent(None)[:bench.steps - steps]:
                environment.step(action)
                steps += 1
        measured["episodes"].append(clock.read() | {"steps": steps})
    environment.close()
    return measured


def main(arguments: list[str] | None = None) -> int:
    bench = tyro.cli(Bench, args=arguments)
    started = datetime.now(UTC)
    results = {"plain loop": plain_loop(bench), "ptrlib": ours(bench)}
    report(f"{bench.suite}, task {bench.task}: {bench.episodes} episodes of {bench.steps} steps", results, started,
           bench.out, suite=bench.suite, task=bench.task, episodes=bench.episodes, steps=bench.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
