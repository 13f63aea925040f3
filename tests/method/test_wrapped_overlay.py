"""The README's advice for several processes: policy and overlay each in DistributedDataParallel, the wrapper called."""

import os
import socket
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ptrlib import distributed
from ptrlib.method.overlay import PosteriorTransitionReweighting
from tests.method.test_distributed import CONFIG, DIM, PARTS, make_batch


def scorer_after(part: slice, *, wrapped: bool) -> torch.Tensor:
    """All parameters of the scorer after three steps on a part of the batch."""
    torch.manual_seed(0)
    tower, actions = nn.Linear(5, DIM), nn.Linear(5, DIM)
    ptr = PosteriorTransitionReweighting(DIM, DIM, DIM, CONFIG, tower, log_every=1)
    policy = nn.ModuleList([tower, actions])
    call = DistributedDataParallel(ptr, broadcast_buffers=False) if wrapped else ptr
    optimizer = torch.optim.SGD([*policy.parameters(), *ptr.scorer.parameters()], lr=0.1)
    for step in range(3):
        batch = {name: value[part] for name, value in make_batch(step).items()}
        context, tokens = tower(batch["images"]), actions(batch["actions"])
        out = call(context, tokens, ptr.encode_targets(batch["later"]), batch["valid"], batch["episodes"],
                   frames=batch["frames"])
        loss = out.weighted_mean((context[:, None] - tokens).square().mean((1, 2))) + out.auxiliary_loss
        optimizer.zero_grad()
        loss.backward()
        for parameter in policy.parameters():  # what DistributedDataParallel around the policy does
            parameter.grad = distributed.global_sum(parameter.grad) / distributed.world_size()
        optimizer.step()
        ptr.after_step(tower)
    return torch.cat([parameter.detach().flatten() for parameter in ptr.scorer.parameters()])


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    with distributed.session():
        torch.save([scorer_after(PARTS[rank], wrapped=wrapped) for wrapped in (True, False)],
                   Path(folder) / f"{rank}.pt")
        distributed.barrier()


def test_scorers_stay_equal_if_the_wrapper_is_called_and_drift_apart_if_not(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (port, str(tmp_path)), nprocs=2)
    (wrapped, bare), (wrapped_too, bare_too) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(wrapped, wrapped_too) and not torch.allclose(bare, bare_too)
    torch.testing.assert_close(wrapped, scorer_after(slice(None), wrapped=False), rtol=1e-4, atol=1e-5)
