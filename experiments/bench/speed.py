"""All the benchmarks of the speed page: `make bench` calls this.

Writes a CSV per benchmark and ``speed.json`` (commit, machine, packages, load) into ``experiments/bench/results``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import candidate_pool
import pandas as pd
import throughput
import torch
import training_steps
import tyro

from ptrlib import runs
from ptrlib.config import RunConfig

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Bench:
    """How often each thing is measured, and where the results go."""

    rounds: int = 40
    """batches that each rule steps on with Tabletop's policy"""
    libero_rounds: int = 15
    """batches that each rule steps on with the LIBERO policy"""
    repeats: int = 3
    """times that each rule steps on a batch, or a stage is gone through, in a round, of which the quickest counts"""
    batch: int = 64
    """chunks of a batch, those past an episode's end included"""
    stage_rounds: int = 10
    """how often the other stages are timed: loader, scoring, acting, simulator"""
    pool_rounds: int = 6
    pool_sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    tables: int = throughput.TABLES
    precision: Literal["", "float32", "bfloat16"] = ""
    """of the matrix products on a CPU; without it as each policy's manifest has it"""
    per_task: int = 5
    """demonstrations of each task"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("experiments/bench/results")


def apart(measure: Callable[..., Measured], *arguments: Any, **settings: Any) -> Measured:
    """``measure(...)`` in a process of its own: what a process did before can slow the simulator in it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, *arguments, **settings).result()


def main(bench: Bench) -> None:
    started, load = datetime.now(UTC), os.getloadavg()
    measured = [apart(training_steps.measure, policy, rounds, bench.repeats, batch_size=bench.batch,
                      precision=bench.precision, per_task=bench.per_task)
                for policy, rounds in (("tabletop", bench.rounds), ("libero", bench.libero_rounds))]
    if torch.cuda.is_available():
        measured += [apart(training_steps.measure, policy, bench.rounds, bench.repeats, batch_size=bench.batch,
                           device="cuda", compiled=compiled)
                     for policy in ("tabletop", "libero") for compiled in (False, True)]
    tables = {"steps": pd.concat([steps for steps, _ in measured]),
              "parts": pd.concat([parts for _, parts in measured]),
              "pool": apart(candidate_pool.measure, bench.pool_sizes, bench.pool_rounds),
              "throughput": apart(throughput.measure, bench.stage_rounds, bench.repeats, tables=bench.tables,
                                  per_task=bench.per_task)}
    bench.out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        runs.write_text(bench.out / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    record = runs.provenance(RunConfig(), started, command=" ".join(["python", *sys.argv]), load_average=load,
                             bench={name: str(value) for name, value in asdict(bench).items()},
                             gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    runs.write_provenance(bench.out, record, "speed.json")
    print(f"Measured in {record['wall_seconds']:.0f} s; the results are in {bench.out}.")


if __name__ == "__main__":
    main(tyro.cli(Bench))
