"""One LIBERO simulator for the whole session: building one takes seconds."""

from __future__ import annotations

import importlib.util

import pytest

SUITE, TASK = "libero_spatial", 0


@pytest.fixture(scope="session")
def libero():
    """ptrlib's LIBERO module; skips where LIBERO is not installed."""
    if importlib.util.find_spec("libero") is None:
        pytest.skip("LIBERO is not installed; run `make simulators`")
    from ptrlib.simulators import libero

    return libero


@pytest.fixture(scope="session")
def simulator(libero):
    simulator = libero.make(SUITE, TASK)
    yield simulator
    simulator.close()
