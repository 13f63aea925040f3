"""Two gloo processes on two uneven parts of a batch are one process on the joined batch."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from ptrlib import distributed
from ptrlib.config import PTRConfig, RunConfig, override
from ptrlib.credit.sft import SFT
from ptrlib.method.overlay import PosteriorTransitionReweighting

DIM, STEPS, SIZE = 6, 4, 12
PARTS = (slice(0, 5), slice(5, 12))
CONFIG = PTRConfig(warmup_steps=1, queue_size=20, queue_negatives=6, lambda_id=0.5, lambda_ent=0.1,
                   lambda_div=0.1)


class Learner(nn.Module):
    """A policy of three matrices with the overlay on it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(5, DIM)
        self.actions = nn.Linear(5, DIM)
        self.ptr = PosteriorTransitionReweighting(DIM, DIM, DIM, CONFIG, self.tower, belief_dim=DIM,
                                                  log_every=1)

    def forward(self, batch: dict[str, torch.Tensor]):
        context, tokens = self.tower(batch["images"]), self.actions(batch["actions"])
        out = self.ptr(context, tokens, self.ptr.encode_targets(batch["later"]), batch["valid"],
                       batch["episodes"], frames=batch["frames"], tasks=batch["tasks"], state=batch["state"],
                       belief=self.ptr.belief(tokens, tokens))
        action_loss = (context[:, None] - tokens).square().mean((1, 2))
        return out.weighted_mean(action_loss) + out.auxiliary_loss, out


def plain(learner: Learner, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SFT+Belief's auxiliary loss, the tokenizer's own, and its gradient in the tokenizer."""
    tokens = learner.actions(batch["actions"])
    features = SimpleNamespace(context=learner.tower(batch["images"]), belief=learner.ptr.belief(tokens, tokens))
    loss = SFT(override(RunConfig(), {"ptr.lambda_ent": 0.1, "ptr.lambda_div": 0.2}), None)(features).auxiliary_loss
    gradient = torch.autograd.grad(loss, list(learner.ptr.belief.parameters()), allow_unused=True)
    return {"loss": loss.detach(), "gradient": [part for part in gradient if part is not None]}


def make_batch(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"images": torch.randn(SIZE, 5, generator=generator),
            "actions": torch.randn(SIZE, STEPS, 5, generator=generator),
            "later": torch.randn(SIZE, 5, generator=generator),
            "valid": torch.rand(SIZE, generator=generator) > 0.25,
            "episodes": torch.randint(4, (SIZE,), generator=generator),  # same targets across the two parts
            "frames": torch.randint(12, (SIZE,), generator=generator),
            "tasks": torch.randint(2, (SIZE,), generator=generator),
            "state": torch.randn(SIZE, 2, generator=generator)}


def run(part: slice) -> dict:
    """Three steps on a part of the batch, wrapped as training wraps them."""
    learner = Learner()
    learner.ptr.controller.hard_ratio = 0.5
    model = distributed.wrap(learner)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    history = []
    for step in range(4):
        batch = {name: value[part] for name, value in make_batch(step).items()}
        belief = plain(learner, batch)
        loss, out = model(batch)
        optimizer.zero_grad()
        loss.backward()
        history.append({"loss": loss.detach(), "score": out.score, "weight": out.weight,
                        "statistics": out.statistics, "plain": belief,
                        "gradients": [parameter.grad.clone() for parameter in parameters]})
        optimizer.step()
        learner.ptr.after_step(learner.tower)
    return {"history": history, "state": learner.ptr.state_dict()}


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    with distributed.session():
        assert (distributed.rank(), distributed.world_size()) == (rank, 2)
        torch.save(run(PARTS[rank]), Path(folder) / f"{rank}.pt")
        rows = torch.full((2 - rank, 3), float(rank))
        assert distributed.all_gather(rows).tolist() == [[0.0] * 3] * 2 + [[1.0] * 3]
        assert distributed.global_sum(torch.tensor([rank + 1.0])).item() == 3
        distributed.barrier()
    assert not dist.is_initialized()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (port, str(folder)), nprocs=2)
    return run(slice(None)), [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("step", range(4))
def test_losses_scores_weights_statistics_and_gradients_are_the_same(results, step):
    joined, ranks = results
    one, two = joined["history"][step], [result["history"][step] for result in ranks]
    for name in ("score", "weight"):
        torch.testing.assert_close(torch.cat([part[name] for part in two]), one[name], rtol=1e-4, atol=1e-5)
    for part in two:
        torch.testing.assert_close(part["loss"], one["loss"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(part["statistics"], one["statistics"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part["gradients"], one["gradients"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(part["plain"]["loss"], one["plain"]["loss"], rtol=1e-5, atol=1e-6)
    both = [sum(parts) / 2 for parts in zip(*(part["plain"]["gradient"] for part in two), strict=True)]
    torch.testing.assert_close(both, one["plain"]["gradient"], rtol=1e-4, atol=1e-6)  # as wrapping averages them
    assert any((gradient != 0).any() for gradient in one["gradients"]) and both
    if step > CONFIG.warmup_steps:
        assert (one["weight"] != 1).any()


def test_queue_target_encoder_and_controller_are_the_same(results):
    joined, ranks = results
    for rank in ranks:
        for name, value in joined["state"].items():
            if isinstance(value, dict):
                assert value["pushed"] == rank["state"][name]["pushed"] > CONFIG.queue_size
                assert torch.equal(value["generator"], rank["state"][name]["generator"])
            else:
                torch.testing.assert_close(rank["state"][name], value, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_one_process_needs_no_group():
    rows = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(distributed.all_gather(rows), rows) and not distributed.all_gather(rows).requires_grad
    assert distributed.global_sum(rows) is rows and distributed.all_gather_with_gradient(rows, [3]) is rows
    model = nn.Linear(2, 2)
    assert distributed.wrap(model) is model
    with distributed.session():
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        distributed.barrier()
