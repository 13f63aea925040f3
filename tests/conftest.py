"""Shared by all tests: one thread, as the suite runs in several processes."""

import torch

torch.set_num_threads(1)
