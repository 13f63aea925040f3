"""What the candidate pool costs against the size of its queue: drawing, comparing and filling, for one batch."""

from __future__ import annotations

import time

import pandas as pd
import torch

from ptrlib.config import PTRConfig
from ptrlib.method.candidates import CandidatePool, Targets

TARGET_DIM, BATCH = 128, 64  # D of one 32-pixel camera; chunks of a batch


def measure(sizes: tuple[int, ...], rounds: int) -> pd.DataFrame:
    """CPU seconds, a row per queue size, operation and round."""
    torch.set_num_threads(1)
    rows = []
    for size in sizes:
        pool = filled(size)
        generator = torch.Generator().manual_seed(1)
        batch = targets(BATCH, generator, first=10**7)
        query = torch.randn(BATCH, TARGET_DIM, generator=generator, requires_grad=True)
        for number in range(-1, rounds):
            for operation, seconds in _round(pool, batch, query).items():
                if number >= 0:
                    rows.append({"size": size, "operation": operation, "round": number, "seconds": seconds})
    return pd.DataFrame(rows)


def _round(pool: CandidatePool, batch: Targets, query: torch.Tensor) -> dict[str, float]:
    spent = {}
    for ratio, name in ((0.0, "candidates"), (0.5, "candidates, half of them hard")):
        begun = time.process_time()
        candidates = pool.candidates(batch, hard_ratio=ratio)
        spent[name] = time.process_time() - begun
    begun = time.process_time()
    candidates.logits(query, tau=0.1, clamp=20.0).logsumexp(1).sum().backward()
    spent["logits and their gradient"] = time.process_time() - begun
    begun = time.process_time()
    pool.push(batch)
    spent["queue"] = time.process_time() - begun
    return spent


def filled(size: int) -> CandidatePool:
    """A pool whose queue of ``size`` is full."""
    pool = CandidatePool(TARGET_DIM, PTRConfig(queue_size=size))
    pool.push(targets(size, torch.Generator().manual_seed(0)))
    return pool


def targets(count: int, generator: torch.Generator, first: int = 0) -> Targets:
    """Random targets of ten tasks, each of an episode of its own."""
    numbers = torch.arange(count)
    return Targets.of(torch.randn(count, TARGET_DIM, generator=generator), torch.ones(count, dtype=torch.bool),
                      numbers + first, frames=numbers, tasks=numbers % 10)
