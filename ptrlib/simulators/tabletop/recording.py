"""Record Tabletop's demonstrators, many episodes at once, into the files that every world writes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptrlib.data.episodes import Episode
from ptrlib.data.hdf5 import write_episodes
from ptrlib.errors import Stopped
from ptrlib.runs import code_version
from ptrlib.simulators.demonstrators.styles import STYLES
from ptrlib.simulators.protocol import TaskSpec, choose_tasks, world_named
from ptrlib.simulators.recording import (
    ATTEMPTS,
    COMPRESSION,
    Recording,
    each_once,
    is_recorded,
    scene_seed,
    settings_of,
)
from ptrlib.simulators.tabletop.demonstrators import Demonstrators
from ptrlib.simulators.tabletop.robots import MOTORS
from ptrlib.simulators.tabletop.world import CAMERAS, TabletopBatch, file_attributes, scene_states

ROWS = 256  # episodes stepped together
EXECUTED_NOISE = 0.5  # of a full action, where a data set is recorded with noise that is executed

# What a manifest's data.path ``data/PURPOSE/SUITE`` stands for: seeds differ, so no scene is in two of them
# but those of "tabletop_executed", which are "tabletop"'s own. Styles: all in turn, but for pretraining.
PURPOSES: dict[str, dict[str, Any]] = {
    "tabletop": {"seed": 0}, "tabletop_pretrain": {"seed": 1, "styles": ("precise",)}, "tabletop_tuning": {"seed": 2},
    "tabletop_executed": {"seed": 0, "executed_noise": EXECUTED_NOISE}, "tabletop_large": {"seed": 3}}
_NOISE = 2  # names the stream of executed noise among those of an episode's seed


@dataclass(frozen=True)
class TabletopRecording(Recording):
    """What determines a file's content."""

    executed_noise: float = 0.0  # standard deviation, of a full action, added to what the robot executes
    noisy_fraction: float = 0.0  # of each task's episodes

    def check(self) -> None:
        super().check()
        if self.executed_noise < 0:
            raise ValueError("executed_noise is a standard deviation and must be 0 or more to record, got "
                             f"{self.executed_noise}")
        if not 0 <= self.noisy_fraction <= 1:
            raise ValueError(f"noisy_fraction must lie in [0, 1], got {self.noisy_fraction}")


@dataclass(frozen=True)
class _Attempt:
    task: TaskSpec
    number: int  # of the episode in its file
    style: str
    seed: int
    noisy: bool


def record(world: str = "tabletop", suite: str = "easy", episodes: int = 50, styles: Sequence[str] = ("precise",),
           out: str | Path = "data/tabletop/easy", workers: int = 1, seed: int = 0,
           tasks: Sequence[int] | None = None, image_size: int = 32, images: bool = True, *,
           executed_noise: float = 0.0, noisy_fraction: float = 0.3) -> list[Path]:
    """:func:`ptrlib.simulators.recording.record` for Tabletop; ``workers`` are not needed.

    With ``executed_noise``, the robot executes noisy actions in ``noisy_fraction`` of each task's episodes:
    actions, images and states are recorded as they came about, success or not, and marked in
    ``truth["action_noise"]``. That is the second reading of the paper's action noise; the first, noise on the
    recorded labels alone, is ``corrupt(..., "action_noise")``.
    """
    recording = TabletopRecording(world, suite, episodes, tuple(styles), seed, image_size, images, executed_noise,
                                  noisy_fraction if executed_noise else 0.0)
    recording.check()
    chosen = choose_tasks(world_named(world), suite, each_once(tasks))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for task in chosen:
        if not is_recorded(recording, recording.file(out, task)):
            _record_task(recording, task, out)
    return [recording.file(out, task) for task in chosen]


def record_for(path: str | Path, episodes: int) -> None:
    """Record the demonstrations that a manifest calls ``path``, ``.../PURPOSE/SUITE``.

    The folder appears when it is complete; where two processes record it, the first one's stays.

    Raises:
        ValueError: no such purpose or suite.
    """
    path = Path(path)
    purpose = path.parent.name
    if purpose not in PURPOSES:
        raise ValueError(f"{path}: no demonstrations there, and {purpose!r} names none that can be recorded; name the "
                         f"folder of a suite in {', '.join(PURPOSES)}, or record some with `ptrlib demos`")
    settings: dict[str, Any] = {"styles": tuple(STYLES), **PURPOSES[purpose]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as unfinished:
        out = Path(unfinished) / path.name
        record(suite=path.name, episodes=episodes, out=out, **settings)
        try:
            out.rename(path)
        except OSError:
            if not path.is_dir():  # else another process was sooner, and its recording is the same
                raise


def _record_task(recording: TabletopRecording, task: TaskSpec, out: Path) -> None:
    """All episodes of one task; a failed one is tried again in another scene, and kept apart without images."""
    noisy = _noisy_episodes(recording, task)
    missing = [_Attempt(task, number, recording.style(number),
                        scene_seed(recording.seed, 0, number, 0), number in noisy)
               for number in range(recording.episodes)]
    found: dict[int, Episode] = {}
    failed: list[Episode] = []
    for attempt in range(1, ATTEMPTS + 1):
        for first in range(0, len(missing), ROWS):
            part = missing[first:first + ROWS]
            for wanted, episode in zip(part, _roll_out(recording, part), strict=True):
                if episode.success or wanted.noisy:
                    found[wanted.number] = episode
                else:
                    failed.append(replace(episode, images={}))
        missing = [replace(wanted, seed=scene_seed(recording.seed, 0, wanted.number, attempt))
                   for wanted in missing if wanted.number not in found]
        if not missing:
            break
    else:
        raise Stopped(f"task {task.name!r}: the {missing[0].style!r} demonstrator failed in {ATTEMPTS} scenes "
                      f"for episode {missing[0].number}; leave out the task or the style")
    attributes = (file_attributes(recording.suite, task)
                  | {"recording": settings_of(recording), "code": code_version()})
    if failed:
        (out / "failed").mkdir(exist_ok=True)
        write_episodes(recording.failures(out, task), failed, attributes, compression=COMPRESSION)
    write_episodes(recording.file(out, task), [found[number] for number in range(recording.episodes)], attributes,
                   compression=COMPRESSION)


def _noisy_episodes(recording: TabletopRecording, task: TaskSpec) -> set[int]:
    """Numbers of the episodes that are executed with noise: exactly the fraction of the file."""
    generator = np.random.default_rng([recording.seed, task.index, _NOISE])
    count = round(recording.noisy_fraction * recording.episodes)
    return set(generator.permutation(recording.episodes)[:count].tolist())


def _roll_out(recording: TabletopRecording, attempts: Sequence[_Attempt]) -> list[Episode]:
    """One episode per attempt, up to its first success or its time limit."""
    batch = TabletopBatch(recording.suite, [attempt.task.index for attempt in attempts],
                                image_size=recording.image_size)
    batch.reset(seeds=[attempt.seed for attempt in attempts])
    demonstrators = Demonstrators(batch.tables, [attempt.style for attempt in attempts],
                                  [attempt.seed for attempt in attempts])
    noise = _executed_noise(recording, attempts, batch.tables.time_limit)
    states, simulator_states, actions, images = [batch.states()], [scene_states(batch.tables)], [], []
    if recording.images:
        images.append(batch.images().numpy())
    ended = np.zeros(len(attempts), np.int64)
    success = np.zeros(len(attempts), bool)
    for step in range(1, batch.tables.time_limit + 1):
        action = demonstrators.act()
        action[:, :MOTORS] = (action[:, :MOTORS] + noise[step - 1]).clamp(-1, 1)
        solved = batch.tables.step(action).numpy()
        actions.append(action.numpy())
        states.append(batch.states())
        simulator_states.append(scene_states(batch.tables))
        if recording.images:
            images.append(batch.images().numpy())
        ends = (ended == 0) & (solved | (step >= batch.time_limits))
        ended[ends], success[ends] = step, solved[ends]
        if ended.all():
            break
    episodes = []
    for row, (attempt, steps) in enumerate(zip(attempts, ended.tolist(), strict=True)):
        motors = len(states[0][row]) - 1
        columns = [*range(motors), MOTORS]
        episodes.append(Episode(
            images={CAMERAS[0]: np.stack([frame[row] for frame in images[:steps + 1]])} if images else {},
            state=np.stack([state[row] for state in states[:steps + 1]]),
            actions=np.stack([action[row, columns] for action in actions[:steps]]),
            instruction=attempt.task.instruction, embodiment=batch.embodiments[row], task=attempt.task.name,
            source=recording.suite, operator=attempt.style, success=bool(success[row]), seed=attempt.seed,
            simulator_states=np.stack([state[row] for state in simulator_states[:steps + 1]]),
            truth={"action_noise": np.full(steps, attempt.noisy)} if recording.executed_noise else {}))
    return episodes


def _executed_noise(recording: TabletopRecording, attempts: Sequence[_Attempt], steps: int) -> torch.Tensor:
    """(steps, rows, 3) what is added to the motors' actions; zero where an attempt is not noisy."""
    noise: list[NDArray] = []
    for attempt in attempts:
        generator = np.random.default_rng([attempt.seed, _NOISE])
        drawn = generator.standard_normal((steps, MOTORS), dtype=np.float32)
        noise.append(recording.executed_noise * attempt.noisy * drawn)
    return torch.from_numpy(np.stack(noise, axis=1).astype(np.float32))
