"""What several processes share: sums and candidates over the global batch.

Every function works without a process group too, where it costs nothing. All of them are collective:
every rank must call them in the same order. The number of samples may differ between ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def session() -> Iterator[None]:
    """The process group of a ``torchrun`` launch for the length of a block; nothing otherwise."""
    if "WORLD_SIZE" not in os.environ or world_size() > 1:
        yield
        return
    dist.init_process_group("gloo")  # the training loop's tensors are on the CPU
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrap(model: nn.Module) -> nn.Module:
    """``model`` in DistributedDataParallel when there are several processes, else ``model`` itself.

    Buffers are not broadcast: queue, target encoder and controller follow global quantities, so every
    rank arrives at the same values by itself. A credit rule may leave some parameters without a loss.
    """
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=True)


def batch_sizes(count: int, device: torch.device | None = None) -> list[int]:
    """How many samples each rank holds, given that this one holds ``count``."""
    if world_size() == 1:
        return [count]
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([count], device=device))
    return [int(size) for size in sizes]


def all_gather(tensor: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Rows of all ranks (n_0 + n_1 + ..., *), in rank order and without gradient.

    ``sizes`` is what :func:`batch_sizes` returned, to ask for it once only; a single size keeps the rows of
    this rank to itself.
    """
    tensor = tensor.detach()
    sizes = batch_sizes(len(tensor), tensor.device) if sizes is None else sizes
    if len(sizes) == 1:
        return tensor
    padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[:size] for rows, size in zip(gathered, sizes, strict=True)])


def all_gather_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order."""
    gathered = [value] * world_size()
    if len(gathered) > 1:
        dist.all_gather_object(gathered, value)
    return gathered


def all_gather_with_gradient(tensor: Tensor, sizes: list[int]) -> Tensor:
    """As :func:`all_gather`; a gradient reaches the rank that a row came from."""
    return tensor if len(sizes) == 1 else _GatherRows.apply(tensor, sizes)


def global_sum(tensor: Tensor) -> Tensor:
    """Element-wise sum over ranks, with gradient.

    Every rank computes the same loss from it, so the gradient that comes back is multiplied by the
    number of ranks; DistributedDataParallel divides by it again. The mean of the ranks' gradients is
    then the gradient of one process that holds the joined batch.
    """
    return tensor if world_size() == 1 else _SumOverRanks.apply(tensor)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * world_size()


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return all_gather(tensor, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)  # every rank's loss may have read this rank's rows
        start = sum(ctx.sizes[: rank()])
        return gradient[start: start + ctx.sizes[rank()]], None
