"""Shared by the tests of the pages: one set of tiny Tabletop runs, whatever number of processes run the tests."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest

from tests.report.tiny_book import TinyBook, make_tiny_book


@pytest.fixture(scope="session")
def tiny_book(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> TinyBook:
    """Each manifest's runs are made when the first test asks for them with ``tiny_book.make``."""
    base = tmp_path_factory.getbasetemp()
    return make_tiny_book((base if worker_id == "master" else base.parent) / "tiny_book")


@pytest.fixture(autouse=True)
def no_figure_is_left_open() -> Iterator[None]:
    """pyplot keeps a figure until it is closed, and warns of more than twenty."""
    yield
    plt.close("all")
