"""Success rates from whole episodes: policies rolled out in simulators (Section 5, experiments/protocol.md).

Worker processes step simulators; the policies live in the parent and answer one observation at a time. A
larger batch would change the last bits of a policy's matrix products with its size, and with them the
rollouts: answered one by one, an episode's outcome depends on its scene, its policy and its seed, and not on
how many workers there are or which of them was faster.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptrlib.batched_evaluation import evaluate_batched
from ptrlib.config import EvaluationConfig
from ptrlib.errors import Stopped
from ptrlib.runs import write_text
from ptrlib.simulators.protocol import Observation, Simulator, TaskSpec, choose_tasks, world_named
from ptrlib.simulators.workers import Workers

COLUMNS = ("suite", "task", "task_index", "init_state", "seed", "success", "steps", "wall")


class Agent(Protocol):
    """What acts in the simulators. A slot is one simulator with one episode at a time."""

    def begin(self, slot: int, instruction: str, seed: int, embodiment: str | None = None) -> None:
        """Start an episode of the robot ``embodiment`` in ``slot``; ``seed`` fixes all of its randomness."""
        ...

    def act(self, requests: list[tuple[int, Observation]]) -> list[NDArray[np.float32]]:
        """For each (slot, observation) the next (n, d_a) actions, executed before the next observation."""
        ...


@dataclass(frozen=True)
class _Job:
    """Episodes of one task for one worker: every init state, and in each the agents that still lack it."""

    task: TaskSpec
    episodes: tuple[tuple[str, int], ...]  # (agent, init state)


@dataclass(frozen=True)
class _Begin:
    agent: str
    instruction: str
    seed: int
    embodiment: str


@dataclass(frozen=True)
class _Look:
    agent: str
    observation: Observation


@dataclass(frozen=True)
class _End:
    agent: str
    row: dict[str, Any]
    simulator: dict[str, Any]  # its provenance


def evaluate(agent: Agent, config: EvaluationConfig, *, tasks: Sequence[int] | None = None,
             partial: Path | None = None, progress: bool = True) -> pd.DataFrame:
    """One row per episode of ``agent``: see :func:`evaluate_many`."""
    partials = None if partial is None else {"agent": partial}
    return evaluate_many({"agent": agent}, config, tasks=tasks, partial=partials, progress=progress)["agent"]


def evaluate_many(agents: Mapping[str, Agent], config: EvaluationConfig, *,
                  tasks: Sequence[int] | None = None, partial: Mapping[str, Path] | None = None,
                  progress: bool = True) -> dict[str, pd.DataFrame]:
    """Evaluate several agents in the same simulators and scenes; agent -> one row per episode.

    Columns: suite, task, task_index, init_state, seed (of the agent's noise: the same for every agent, so
    that comparisons are paired), success, steps, wall (s). Rows are sorted by task and init state.
    ``attrs["simulators"]`` of a table lists the provenance of the simulators its episodes ran in: one entry,
    unless the evaluation was continued with other versions or settings.

    ``tasks`` are indices in the suite; None means all. ``partial`` gives, for some of the agents, a file to
    which rows are added as episodes end; an evaluation that was killed goes on from there. Delete the file
    when the table is stored.

    Raises:
        ValueError: no such world, suite, task or init state, or a partial file of another evaluation.
        Stopped: a worker ended before its episodes did, without having finished one.
        SimulatorMissing: the world's packages are not installed.
    """
    world = world_named(config.world)
    chosen = choose_tasks(world, config.suite, tasks)
    _check_init_states(chosen, config)
    if world.make_batch is not None:  # takes seconds: nothing is kept of an evaluation that was killed
        return evaluate_batched(agents, world, chosen, config, columns=COLUMNS, seed_of=episode_seed,
                                progress=progress)
    ledgers = {name: _Ledger(config, (partial or {}).get(name)) for name in agents}
    jobs = _jobs(chosen, config, ledgers)
    if jobs:
        left = sum(len(job.episodes) for job in jobs)
        with (tqdm(total=left, unit="episode", desc=config.suite, disable=not progress) as bar,
              Workers(min(config.workers, len(jobs)), _work, config) as pool):
            _serve(pool, deque(jobs), agents, ledgers, bar)
    return {name: ledger.table(chosen) for name, ledger in ledgers.items()}


def episode_seed(task: int, init_state: int) -> int:
    """The agent's seed in one evaluation episode, whoever the agent is."""
    return int(np.random.SeedSequence([task, init_state]).generate_state(1)[0])


def rollout(simulator: Simulator, init_state: int, max_steps: int, act: Any) -> tuple[bool, int]:
    """(success, steps) of one episode; ``act(observation)`` gives (n, d_a) actions.

    Images are rendered only for ``act``: once per executed chunk.
    """
    simulator.reset(init_state=init_state)
    steps = 0
    while steps < max_steps:
        for action in act(simulator.observe(images=True))[:max_steps - steps]:
            steps += 1
            if simulator.step(action):
                return True, steps
    return False, steps


def _check_init_states(tasks: list[TaskSpec], config: EvaluationConfig) -> None:
    last = config.first_init_state + config.episodes_per_task - 1
    for task in tasks:
        if not 0 <= config.first_init_state <= last < task.init_states:
            raise ValueError(f"task {task.name!r} has init states 0 to {task.init_states - 1}; the "
                             f"configuration asks for {config.first_init_state} to {last}")


def _jobs(tasks: list[TaskSpec], config: EvaluationConfig, ledgers: Mapping[str, _Ledger]) -> list[_Job]:
    """The episodes still to do, cut so that a worker keeps its simulator as long as possible.

    Building a simulator takes seconds: a task is split only when there are more workers than tasks.
    """
    parts = -(-config.workers // len(tasks))
    jobs = []
    for task in tasks:
        states = range(config.first_init_state, config.first_init_state + config.episodes_per_task)
        for part in np.array_split(np.asarray(states), min(parts, len(states))):
            episodes = tuple((name, int(state)) for state in part for name, ledger in ledgers.items()
                             if (task.index, int(state)) not in ledger.done)
            if episodes:
                jobs.append(_Job(task, episodes))
    return jobs


def _serve(pool: Workers, jobs: deque[_Job], agents: Mapping[str, Agent], ledgers: Mapping[str, _Ledger],
           bar: tqdm) -> None:
    """Answer the workers until the jobs are done. A worker that was killed is replaced if it had finished an episode
    of its job: simulators crash now and then, and one that always does must not begin forever."""
    given: dict[int, _Job] = {}

    def go_on(worker: int) -> bool:
        if worker not in given:
            return False
        job = given.pop(worker)
        left = tuple((name, state) for name, state in job.episodes
                     if (job.task.index, state) not in ledgers[name].done)
        if len(left) < len(job.episodes):
            jobs.appendleft(replace(job, episodes=left))
            tqdm.write(f"worker {worker} was ended by the system; another takes over its {len(left)} episodes of "
                       f"{job.task.name}", file=sys.stderr)
        return len(left) < len(job.episodes)

    for worker, message in pool.messages(go_on):
        match message:
            case _Look(name, observation):
                pool.send(worker, agents[name].act([(worker, observation)])[0])
            case _Begin(name, instruction, seed, embodiment):
                agents[name].begin(worker, instruction, seed, embodiment=embodiment)
            case _End(name, row, simulator):
                ledgers[name].add(row, simulator)
                bar.update()
            case _:
                given.pop(worker, None)
                if jobs:
                    given[worker] = jobs.popleft()
                pool.send(worker, given.get(worker))


def _work(pipe: Connection, config: EvaluationConfig) -> None:
    """A worker: ask for a job, roll its episodes out, until there is none."""
    world = world_named(config.world)
    while True:
        pipe.send("ready")
        job = pipe.recv()
        if job is None:
            return
        simulator = world.make(config.suite, job.task.index)
        try:
            for name, init_state in job.episodes:
                row = _episode(pipe, simulator, name, init_state, config) | {"task_index": job.task.index}
                pipe.send(_End(name, row, simulator.provenance()))
        finally:
            simulator.close()


def _episode(pipe: Connection, simulator: Simulator, name: str, init_state: int,
             config: EvaluationConfig) -> dict[str, Any]:
    """One row: an episode whose actions come through the pipe."""
    begun = False

    def ask(observation: Observation) -> NDArray[np.float32]:
        nonlocal begun
        if not begun:  # by now the simulator was reset, and its task has this scene's instruction
            pipe.send(_Begin(name, simulator.task.instruction, seed, simulator.embodiment))
            begun = True
        pipe.send(_Look(name, observation))
        return pipe.recv()

    task, seed, clock = simulator.task, episode_seed(simulator.task.index, init_state), time.perf_counter()
    limit = min(config.max_steps or simulator.time_limit, simulator.time_limit)
    success, steps = rollout(simulator, init_state, limit, ask)
    return {"suite": simulator.suite, "task": task.name, "task_index": task.index, "init_state": init_state,
            "seed": seed, "success": success, "steps": steps,
            "wall": round(time.perf_counter() - clock, 3)}


class _Ledger:
    """An agent's rows, in memory and, if it has a file, on disk as they come: one JSON object a line.

    The first line holds the settings, and a line ``{"simulator": ...}`` stands before the first row that was
    rolled out in such a simulator.
    """

    def __init__(self, config: EvaluationConfig, file: Path | None) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []
        self.simulators: list[dict[str, Any]] = []  # their provenance, each once
        self.states = range(config.first_init_state, config.first_init_state + config.episodes_per_task)
        header = asdict(config)
        del header["workers"], header["episodes_per_task"]  # they do not change what an episode comes to
        if file is not None and file.exists():
            self._read(file, header)
        elif file is not None:
            write_text(file, json.dumps(header) + "\n")

    @property
    def done(self) -> set[tuple[int, int]]:
        """(task index, init state) of every episode there is a row for."""
        return {(row["task_index"], row["init_state"]) for row in self.rows}

    def add(self, row: dict[str, Any], simulator: dict[str, Any] | None = None) -> None:
        """Take an episode's ``row`` and the provenance of the simulator it ran in."""
        if simulator is not None and simulator not in self.simulators:
            self.simulators.append(simulator)
            self._write({"simulator": simulator})
        self.rows.append(row)
        self._write(row)

    def table(self, tasks: list[TaskSpec]) -> pd.DataFrame:
        """The rows that were asked for, in order. Stopped if some of them are missing."""
        wanted = {(task.index, state) for task in tasks for state in self.states}
        if missing := sorted(wanted - self.done):
            raise Stopped(f"{len(missing)} of {len(wanted)} episodes have not been rolled out, the first of task "
                          f"{missing[0][0]} from init state {missing[0][1]}; run the same command again to continue")
        rows = [row for row in self.rows if (row["task_index"], row["init_state"]) in wanted]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table.attrs["simulators"] = self.simulators
        return table.sort_values(["task_index", "init_state"], ignore_index=True)

    def _write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            with self.file.open("a") as handle:
                handle.write(json.dumps(line) + "\n")

    def _read(self, file: Path, header: dict[str, Any]) -> None:
        """Take over whole lines, of an episode the first; the last one may have been cut off when the evaluation was
        killed."""
        whole = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if not whole or json.loads(whole[0]) != header:
            raise ValueError(f"{file} is part of an evaluation with other settings; delete it to start anew")
        kept = whole[:1]
        for text in whole[1:]:
            line = json.loads(text)
            if "simulator" in line:
                self.simulators.append(line["simulator"])
            elif (line["task_index"], line["init_state"]) not in self.done:
                self.rows.append(line)
            else:  # two processes wrote here, when nothing kept them apart
                continue
            kept.append(text)
        write_text(file, "".join(kept))
