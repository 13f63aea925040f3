"""What PTR costs per training step: the same policy and the same batches under three rules, in turn.

    python experiments/bench/training_overhead.py

Prints a table and writes ``training_overhead.json`` beside this file. Times are process CPU seconds on one
thread, so that other work on the machine does not count; ratios are taken step by step.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from ptrlib import runs
from ptrlib.config import RunConfig, override
from ptrlib.data.episodes import Episode
from ptrlib.training import Trainer, prepare_data

STEPS, WARM_UP = 40, 5
RULES = {"sft": {"credit": "sft", "network.use_belief": False}, "sft_belief": {"credit": "sft"},
         "ptr": {"credit": "ptr"}}


def episodes(count: int = 20, steps: int = 130, size: int = 64) -> list[Episode]:
    """Random episodes in LIBERO's shapes: the content does not change the cost."""
    rng = np.random.default_rng(0)
    return [Episode(images={camera: rng.integers(0, 256, (steps + 1, size, size, 3), dtype=np.uint8)
                            for camera in ("agentview", "eye_in_hand")},
                    state=rng.normal(size=(steps + 1, 8)).astype(np.float32),
                    actions=rng.uniform(-1, 1, (steps, 7)).astype(np.float32), instruction=f"task {index % 10}",
                    embodiment="libero", task=f"task {index % 10}") for index in range(count)]


def main() -> None:
    torch.set_num_threads(1)
    started, demonstrations = datetime.now(UTC), episodes()
    base = override(RunConfig(), {"ptr.optimization.batch_size": 64, "ptr.warmup_steps": 0})
    trainers = {}
    for name, rule in RULES.items():
        config = override(base, rule)
        trainers[name] = Trainer(config, prepare_data(config, demonstrations))
    seconds: dict[str, list[float]] = {name: [] for name in RULES}
    for step in range(WARM_UP + STEPS):
        for name, trainer in trainers.items():
            clock = time.process_time()
            trainer.train_step()
            if step >= WARM_UP:
                seconds[name].append(time.process_time() - clock)
    table = {name: {"median_seconds": float(np.median(values))} for name, values in seconds.items()}
    for name in ("sft_belief", "ptr"):
        for other in ("sft", "sft_belief"):
            if name != other:
                ratio = np.array(seconds[name]) / np.array(seconds[other])
                low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75])
                table[name][f"ratio_to_{other}"] = {"median": float(middle), "quartiles": [float(low), float(high)]}
                print(f"{name:10} / {other:10} {middle:.3f} ({low:.3f} to {high:.3f} in the middle half of "
                      f"{STEPS} paired steps)")
    for name, row in table.items():
        print(f"{name:10} {1000 * row['median_seconds']:.0f} ms of CPU a step of 64 chunks")
    record = runs.provenance(base, started, steps=STEPS, precision=base.network.precision, results=table)
    runs.write_text(Path(__file__).with_suffix(".json"), json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
