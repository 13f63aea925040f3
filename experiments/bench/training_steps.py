"""What a training step costs under SFT, SFT+Belief and PTR: one policy, the same batches, in turn.

Every round times each rule on one batch, in an order that turns from round to round. The batch is stepped on several
times and the quickest counts: what else the machine does only ever adds to a step. Times are CPU seconds of the
process on one thread, so that other work counts little; on a GPU they are wall-clock seconds between two
synchronisations. PTR's queue is full and its controller asks for the most hard candidates, as in mid-training.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import demonstrations
import pandas as pd
import torch
from torch import Tensor, nn

from ptrlib.config import override
from ptrlib.credit.ptr import PTR
from ptrlib.method.candidates import Targets
from ptrlib.policy.precision import computing
from ptrlib.training import Trainer, prepare_data

WARM_UP = 2  # rounds that are not counted


def measure(policy: str, rounds: int, repeats: int, *, batch_size: int, device: str = "cpu", compiled: bool = False,
            precision: str = "", per_task: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Seconds of the quickest step of each rule and round (a row each) and, on a CPU, of each part of it.

    Matrix products are in ``precision``, or as the policy's manifest has it where that is ""; on a GPU in bfloat16.
    """
    torch.set_num_threads(1)
    trainers, demonstrated = {}, demonstrations.episodes(policy, per_task)
    for rule, config in demonstrations.settings(policy).items():
        changes: dict[str, Any] = {"ptr.optimization.batch_size": batch_size}
        if device != "cpu" or precision:
            changes["network.precision"] = precision if device == "cpu" else "bfloat16"
        config = override(config, changes)
        trainers[rule] = Trainer(config, prepare_data(config, demonstrated))
        _prepare(trainers[rule], device, compiled)
    steps, parts = [], []
    names = list(trainers)
    for number in range(-WARM_UP, rounds):
        turn = number % len(names)
        for rule in names[turn:] + names[:turn]:
            seconds, spent, chunks = _quickest(trainers[rule], repeats, device)
            if number >= 0:
                about = {"policy": policy, "device": device, "compiled": compiled,
                         "precision": _precision(trainers[rule], device), "rule": rule, "round": number}
                steps.append({**about, "chunks": chunks, "seconds": seconds})
                parts += [{**about, "part": part, "seconds": spent[part]} for part in spent if device == "cpu"]
    return pd.DataFrame(steps), pd.DataFrame(parts)


def _prepare(trainer: Trainer, device: str, compiled: bool) -> None:
    """Moves what is trained to ``device``; fills PTR's queue and has half of the candidates drawn hard."""
    trainer.learner.to(device)
    if device != "cpu":
        draw = trainer.sampler.next
        trainer.sampler.next = lambda: draw().to(device)  # type: ignore[method-assign]
    if compiled:
        trainer.model = torch.compile(trainer.learner, dynamic=True)  # type: ignore[assignment]
    if isinstance(trainer.learner.credit, PTR):
        overlay, generator = trainer.learner.credit.overlay, torch.Generator().manual_seed(0)
        ptr = trainer.config.ptr
        overlay.controller.accuracy, overlay.controller.hard_ratio = ptr.hard_accuracy_high, ptr.hard_ratio_max
        size, state = ptr.queue_size, ptr.base_policy.action_dim
        numbers = torch.arange(size, device=device)
        overlay.pool.push(Targets.of(
            torch.randn(size, overlay.target_dim, generator=generator).to(device), torch.ones_like(numbers) > 0,
            numbers + 10**6, frames=numbers, tasks=numbers % 10, state=torch.zeros(size, state, device=device)))


def _precision(trainer: Trainer, device: str) -> str:
    """What "auto" comes to on this device."""
    with computing(trainer.config.network.precision, torch.device(device)):
        return "bfloat16" if torch.is_autocast_enabled(device) else "float32"


def _quickest(trainer: Trainer, repeats: int, device: str) -> tuple[float, dict[str, float], int]:
    """The quickest of ``repeats`` steps on the sampler's next batch."""
    before, steps = trainer.sampler.state_dict(), []
    for _ in range(repeats):
        trainer.sampler.load_state_dict(before)
        steps.append(_step(trainer, device))
    return min(steps, key=lambda step: step[0])


def _step(trainer: Trainer, device: str) -> tuple[float, dict[str, float], int]:
    """Seconds of one step, its parts, and the chunks it learnt from."""
    clock = time.process_time
    if device != "cpu":
        def clock() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()
    watch = Watch()
    with contextlib.ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(watched(trainer, watch))
        begun = clock()
        info = trainer.train_step()
        seconds = clock() - begun
    watch.spent["all else"] = seconds - sum(watch.spent.values())
    return seconds, watch.spent, info["chunks"]


class Watch:
    """Seconds spent in named parts; what a part spends in another one counts there alone."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner = [0.0]

    def of(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)  # the scheduler looks at the optimiser's step
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begun = time.process_time()
            result = call(*args, **kwargs)
            whole = time.process_time() - begun
            self.spent[part] = self.spent.get(part, 0.0) + whole - self._inner.pop()
            self._inner[-1] += whole
            return result
        return timed


@contextlib.contextmanager
def watched(trainer: Trainer, watch: Watch) -> Iterator[None]:
    """For the length of a block, the parts of ``trainer``'s steps are timed."""
    learner, policy = trainer.learner, trainer.learner.policy
    calls: list[tuple[Any, str, str]] = [
        (trainer.sampler, "next", "loader"), (policy.vision_tower, "forward", "vision tower"),
        (policy.backbone, "read", "backbone"), (policy.backbone, "forward", "backbone"),
        (policy.head, "draw", "action head"), (policy.head, "loss_of_draw", "action head"),
        (policy.head, "action_tokens", "action head"), (Tensor, "backward", "backward pass"),
        (nn.utils, "clip_grad_norm_", "optimiser"), (trainer.optimizer, "step", "optimiser"),
        (learner.credit, "forward", "scorer and losses"), (learner, "after_step", "after the step")]
    if learner.tokenizer is not None:
        calls.append((learner.tokenizer, "forward", "belief tokenizer"))
    if isinstance(learner.credit, PTR):
        overlay = learner.credit.overlay
        calls += [(overlay, "encode_targets", "target encoder"), (overlay.pool, "candidates", "candidate pool")]
    with contextlib.ExitStack() as stack:
        for owner, name, part in calls:
            stack.enter_context(patch.object(owner, name, watch.of(part, getattr(owner, name))))
        yield
