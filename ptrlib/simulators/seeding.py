"""NumPy's global generator, which the benchmarks' libraries draw from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed it for the block, and put back what the caller had."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
