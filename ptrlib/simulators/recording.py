"""Record scripted demonstrations into one HDF5 file per task.

One process records a task from its first episode to its last, so a file's content depends on the settings
and not on the number of processes. An interrupted recording goes on where it stopped, and so does one that
more episodes are asked of: they are the same as if all had been asked for at once.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ptrlib.data.episodes import Episode
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import EpisodeWriter, data_of, opened
from ptrlib.errors import Stopped
from ptrlib.runs import code_version
from ptrlib.simulators.demonstrators import demonstrate
from ptrlib.simulators.demonstrators.styles import style_named
from ptrlib.simulators.protocol import Simulator, TaskSpec, choose_tasks, world_named
from ptrlib.simulators.workers import Workers

ATTEMPTS = 10  # scenes tried for one episode before the task is given up
COMPRESSION = "lzf"  # of images and arrays: halves the files at memory speed


@dataclass(frozen=True)
class Recording:
    """What determines a file's content, beside the task and the versions in its provenance."""

    world: str
    suite: str
    episodes: int
    styles: tuple[str, ...]
    seed: int
    image_size: int
    images: bool

    def check(self) -> None:
        """Raise ValueError for values that nothing can be recorded with."""
        for key, lowest in (("episodes", 1), ("seed", 0), ("image_size", 1)):
            if getattr(self, key) < lowest:
                raise ValueError(f"{key} must be {lowest} or more to record, got {getattr(self, key)}")
        if not self.styles:
            raise ValueError("record needs at least one style")
        for style in self.styles:
            style_named(style)

    def style(self, number: int) -> str:
        """Of the episode ``number`` of a file."""
        return self.styles[number % len(self.styles)]

    def file(self, out: Path, task: TaskSpec) -> Path:
        """LIBERO's name for the demonstrations of ``task``."""
        return out / f"{task.name}_demo.hdf5"

    def failures(self, out: Path, task: TaskSpec) -> Path:
        """Where failed attempts go: beside the demonstrations they would be read with them."""
        return out / "failed" / f"{task.name}_failed.hdf5"


def record(world: str = "libero", suite: str = "libero_spatial", episodes: int = 50,
           styles: Sequence[str] = ("precise",), out: str | Path = "data/libero/libero_spatial",
           workers: int = 2, seed: int = 0, tasks: Sequence[int] | None = None, image_size: int = 128,
           images: bool = True, **options: Any) -> list[Path]:
    """Record ``episodes`` successful demonstrations of each task and return the files, in task order.

    Styles are taken in turn. The scene of each episode is drawn from ``seed``, the task and the episode's
    number; after a failure another one is drawn, and the failed attempt is kept in ``<out>/failed`` without
    images. A task that is named twice is recorded once. Files that are there already with the same settings are left
    alone, or continued if they have fewer episodes. ``options`` are for worlds that have a recorder, and options, of
    their own.

    Raises:
        ValueError: no such world, suite, task or style, a number out of its range, or a file with other settings is
            in the way.
        Stopped: a task failed ten times over for one episode, or a worker was killed.
    """
    recorder = world_named(world).record
    if recorder is not None:
        return recorder(world, suite, episodes, styles, out, workers, seed, tasks, image_size, images, **options)
    if options:
        raise ValueError(f"world {world!r} has no {', '.join(options)}; leave it out")
    recording = Recording(world, suite, episodes, tuple(styles), seed, image_size, images)
    recording.check()
    if workers < 1:
        raise ValueError(f"workers must be 1 or more to record, got {workers}")
    chosen = choose_tasks(world_named(world), suite, each_once(tasks))
    missing = deque(task for task in chosen if not is_recorded(recording, recording.file(Path(out), task)))
    if missing:
        (Path(out) / "failed").mkdir(parents=True, exist_ok=True)
        with Workers(min(workers, len(missing)), _work, recording, Path(out)) as pool:
            _hand_out(pool, missing, episodes)
    return [recording.file(Path(out), task) for task in chosen]


def record_task(simulator: Simulator, recording: Recording, out: Path,
                report: Callable[[bool], None] = lambda success: None) -> None:
    """Record every episode of the simulator's task, going on with what an interrupted recording left.

    ``report`` hears of each episode that is in the file (True) and of each failed attempt (False).

    Raises:
        DataError: what is there was recorded with other settings than ``recording``, the number of episodes apart.
        Stopped: the demonstrator failed in every scene that was tried for an episode.
    """
    task = simulator.task
    attributes = simulator.file_attributes() | {"recording": settings_of(recording), "code": code_version()}
    begin = partial(EpisodeWriter, attrs=attributes, compression=COMPRESSION, settings=_of_an_episode(recording))
    with begin(recording.file(out, task)) as demonstrations, begin(recording.failures(out, task)) as failures:
        wanted = _attempts(recording, task)
        for writer in (demonstrations, failures):
            writer.take_up()
            writer.keep(wanted)  # an interrupted recording may have been asked for more
        done, failed = set(demonstrations.recorded), set(failures.recorded)
        for number in range(recording.episodes):
            style = recording.style(number)
            for attempt in range(ATTEMPTS):
                scene = scene_seed(recording.seed, task.index, number, attempt)
                if (scene, style) in done:
                    report(True)
                    break
                if (scene, style) in failed:
                    continue
                episode = record_episode(simulator, style, scene, recording.images)
                if episode.success:
                    demonstrations.append(episode)
                    report(True)
                    break
                failures.append(replace(episode, images={}))
                report(False)
            else:
                raise Stopped(f"task {task.name!r}: the {style!r} demonstrator failed in {ATTEMPTS} "
                              f"scenes for episode {number}; leave out the task or the style")


def record_episode(simulator: Simulator, style: str, seed: int, images: bool = True) -> Episode:
    """One demonstration in the scene drawn from ``seed``, up to its first success or the time limit."""
    simulator.reset(seed=seed)
    observations, actions, states, extras = [simulator.observe(images)], [], [], []
    states.append(simulator.simulator_state())
    extras.append(simulator.recorded_extras())
    success = False
    for action in demonstrate(simulator, style, seed):
        action = np.asarray(action, np.float32)
        success = simulator.step(action)
        actions.append(action)
        observations.append(simulator.observe(images))
        states.append(simulator.simulator_state())
        extras.append(simulator.recorded_extras())
        if success:
            break
    return Episode(
        images={camera: np.stack([observation.images[camera] for observation in observations])
                for camera in observations[0].images},
        state=np.stack([observation.state for observation in observations]),
        actions=np.stack(actions), instruction=simulator.task.instruction,
        embodiment=simulator.embodiment, task=simulator.task.name, source=simulator.suite, operator=style,
        success=success, seed=seed, simulator_states=np.stack(states),
        extra={key: np.stack([extra[key] for extra in extras]) for key in extras[0]})


def scene_seed(seed: int, task: int, number: int, attempt: int) -> int:
    """An unsigned 32-bit seed of its own for every attempt at every episode."""
    return int(np.random.SeedSequence([seed, task, number, attempt]).generate_state(1)[0])


def each_once(tasks: Sequence[int] | None) -> list[int] | None:
    """The tasks in their order: two processes must not record one."""
    return None if tasks is None else list(dict.fromkeys(tasks))


def settings_of(recording: Recording) -> dict:
    """As a file's attribute ``recording`` holds them."""
    return json.loads(json.dumps(asdict(recording)))


def _of_an_episode(recording: Recording) -> dict:
    """The settings that one episode depends on: all but how many there are."""
    return {key: value for key, value in settings_of(recording).items() if key != "episodes"}


def _attempts(recording: Recording, task: TaskSpec) -> set[tuple[int, str]]:
    """(scene, style) of every attempt that may be made for the episodes asked for."""
    return {(scene_seed(recording.seed, task.index, number, attempt), recording.style(number))
            for number in range(recording.episodes) for attempt in range(ATTEMPTS)}


def is_recorded(recording: Recording, file: Path) -> bool:
    """True if ``file`` is there with these settings, False if it is not there or has fewer episodes.

    Raises:
        ValueError: it was recorded with others.
        DataError: it cannot be read.
    """
    if not file.exists():
        return False
    found = _settings_in(file)
    wanted = settings_of(recording)
    if found.get("episodes", 0) < recording.episodes and found | {"episodes": recording.episodes} == wanted:
        return False
    differing = [f"{key} {found.get(key)} instead of {value}" for key, value in wanted.items()
                 if found.get(key) != value]
    if differing:
        raise ValueError(f"{file} was recorded with {', '.join(differing)}; "
                         "choose another folder or delete it")
    return True


def _settings_in(file: Path) -> dict[str, Any]:
    """What the attribute ``recording`` of ``file`` says; nothing if there is none, as in files of others."""
    with opened(file) as handle:
        told = data_of(file, handle).attrs.get("recording", "{}")
    try:
        return dict(json.loads(told))
    except (ValueError, TypeError):
        raise DataError(file, "does not say with which settings it was recorded", "choose another folder or delete it",
                        key="data.attrs[recording]") from None


def _hand_out(pool: Workers, missing: deque[TaskSpec], episodes: int) -> None:
    """Give each worker a task whenever it asks, and show how far they are."""
    failures = 0
    with tqdm(total=len(missing) * episodes, unit="episode", desc="demonstrations") as progress:
        for worker, message in pool.messages():
            if message == "ready":
                pool.send(worker, missing.popleft() if missing else None)
            elif message:
                progress.update()
            else:
                failures += 1
                progress.set_postfix(failed=failures)


def _work(pipe: Connection, recording: Recording, out: Path) -> None:
    """A worker: ask for a task, record it, until there is none."""
    world = world_named(recording.world)
    while True:
        pipe.send("ready")
        task = pipe.recv()
        if task is None:
            return
        simulator = world.make(recording.suite, task.index, image_size=recording.image_size,
                               render=recording.images)
        try:
            record_task(simulator, recording, out, pipe.send)
        finally:
            simulator.close()
