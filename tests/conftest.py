"""Shared by all tests: one thread, as the suite runs in several processes, and the longest files first, so that no
process is left alone with one at the end."""

import pytest
import torch

torch.set_num_threads(1)

LONGEST = ("test_training.py", "test_fresh_pages.py", "test_robocasa.py", "test_bench.py", "test_demonstrators.py",
           "test_recording.py", "test_overview.py", "test_generalist.py", "test_corruption_page.py",
           "test_evaluation.py", "test_standard_page.py", "test_joined.py", "test_claim_page.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))  # stable
