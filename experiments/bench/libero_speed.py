"""Episodes per minute: our evaluation against a plain loop over LIBERO's own environment.

Both run in one process, one after the other, in the same scenes with the same actions: chunks of eight drawn
from a seeded generator, as many steps an episode whatever happens. The plain loop is the one of LIBERO's
evaluation: ``OffScreenRenderEnv`` with its default settings, ``reset`` and ``set_init_state`` per episode,
images at every step. Ours is :func:`ptrlib.evaluation.rollout`, which the evaluation workers run. Building
the environments is timed apart. `make bench-libero` calls this; ``libero_speed.json`` beside it is written.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from ptrlib.config import EvaluationConfig, RunConfig
from ptrlib.evaluation import rollout
from ptrlib.runs import provenance
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


class Clock:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall": round(time.perf_counter() - self.wall, 3),
                "cpu": round(time.process_time() - self.cpu, 3)}


def per_minute(measured: dict[str, Any], clock: str) -> float:
    return 60 * len(measured["episodes"]) / sum(episode[clock] for episode in measured["episodes"])


def main(arguments: list[str] | None = None) -> int:
    bench = tyro.cli(Bench, args=arguments)
    started = datetime.now(UTC)
    results = {"plain loop": plain_loop(bench), "ptrlib": ours(bench)}
    rates = {name: {clock: per_minute(measured, clock) for clock in ("wall", "cpu")}
             for name, measured in results.items()}
    speedup = {clock: round(rate / rates["plain loop"][clock], 2) for clock, rate in rates["ptrlib"].items()}
    print(f"{bench.suite}, task {bench.task}: {bench.episodes} episodes of {bench.steps} steps, one process")
    print(f"{'':12}{'build s':>10}{'episodes/min':>14}{'per cpu min':>13}")
    for name, measured in results.items():
        print(f"{name:12}{measured['build']['wall']:10.1f}{rates[name]['wall']:14.2f}{rates[name]['cpu']:13.2f}")
    print(f"{'speed-up':22}{speedup['wall']:14.2f}{speedup['cpu']:13.2f}")
    record = provenance(RunConfig(), started, suite=bench.suite, task=bench.task, episodes=bench.episodes,
                        steps=bench.steps, speedup=speedup, results=results)
    record["command"] = " ".join(["python experiments/bench/libero_speed.py", *sys.argv[1:]])
    bench.out.parent.mkdir(parents=True, exist_ok=True)
    partial = bench.out.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(bench.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
