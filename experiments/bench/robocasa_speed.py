"""Episodes per minute: our evaluation against a plain loop over RoboCasa's own environment.

Both run in one process, one after the other, on the same task and the same kitchen with the same actions: chunks
of eight drawn from a seeded generator, as many steps an episode whatever happens. The plain loop is the one of
RoboCasa's evaluation: ``create_env`` with its default settings, ``reset`` per episode, three images at every
step. Ours is :func:`ptrlib.evaluation.rollout`, which the evaluation workers run. Building the environments is
timed apart. `make bench-robocasa` calls this; ``robocasa_speed.json`` beside it is written.
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
from ptrlib.simulators import robocasa


@dataclass(frozen=True)
class Bench:
    """Episodes per minute of our evaluation and of a loop over RoboCasa's own environment."""

    task: str = "OpenDrawer"
    """by the paper's name"""
    episodes: int = 2
    steps: int = 200
    """per episode"""
    assets: str = "auto"
    """auto, minimal or full"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("experiments/bench/robocasa_speed.json")


def chunks(episode: int, execute_steps: int = EvaluationConfig.execute_steps) -> Callable[[Any], np.ndarray]:
    """An agent that looks at nothing: each call gives the next (execute_steps, 12) small actions of the arm."""
    generator = np.random.default_rng(episode)

    def act(_: Any) -> np.ndarray:
        actions = np.zeros((execute_steps, 12))
        actions[:, :6] = generator.uniform(-0.3, 0.3, (execute_steps, 6))
        actions[:, 6] = actions[:, 11] = -1
        return actions

    return act


def ours(bench: Bench) -> dict[str, Any]:
    """Build seconds, seconds of every episode and the simulator's provenance."""
    build = Clock()
    index = [task.name for task in robocasa.TASKS].index(robocasa.task_named(bench.task).name)
    simulator = robocasa.make(robocasa.ALL, index, assets=bench.assets)
    simulator.reset(init_state=0)
    simulator.observe(images=True)
    measured: dict[str, Any] = {"build": build.read(), "episodes": []}
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
    """The same of ``create_env`` as it is, in the same kitchens."""
    task, assets = robocasa.task_named(bench.task), robocasa.find_assets(bench.assets)
    build = Clock()
    environment = robocasa.stock_environment(task, assets)
    environment.reset()
    measured: dict[str, Any] = {"build": build.read(), "episodes": []}
    for episode in range(bench.episodes):
        clock = Clock()
        environment.reset()
        agent, steps = chunks(episode), 0
        while steps < bench.steps:
            for action in agent(None)[:bench.steps - steps]:
                environment.step(action)
                steps += 1
        measured["episodes"].append(clock.read() | {"steps": steps})
    environment.close()
    return measured


def main(arguments: list[str] | None = None) -> int:
    """Measure both and write the record."""
    bench = tyro.cli(Bench, args=arguments)
    started = datetime.now(UTC)
    results = {"plain loop": plain_loop(bench), "ptrlib": ours(bench)}
    report(f"{bench.task}: {bench.episodes} episodes of {bench.steps} steps", results, started, bench.out,
           suite=robocasa.ALL, task=bench.task, episodes=bench.episodes, steps=bench.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
