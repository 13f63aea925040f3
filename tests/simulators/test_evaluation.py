"""Evaluation: paired, independent of the number of workers, and resumable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from collections import deque

import numpy as np
import pytest
from tqdm import tqdm

from ptrlib import evaluation
from ptrlib.config import EvaluationConfig
from ptrlib.errors import Stopped
from ptrlib.evaluation import _End, _jobs, _Ledger, _serve, episode_seed, evaluate, evaluate_many, rollout
from ptrlib.simulators.protocol import TaskSpec, World
from ptrlib.simulators.workers import Workers
from tests.simulators.conftest import SUITE, TASK

CONFIG = EvaluationConfig(suite=SUITE, episodes_per_task=2, first_init_state=1, max_steps=20, workers=2)
TASKS = [TaskSpec("one", "do one", 0, 50), TaskSpec("two", "do two", 1, 50)]


def row(task_index, init_state, success=True):
    return {"suite": SUITE, "task": "t", "task_index": task_index, "init_state": init_state, "seed": 0,
            "success": success, "steps": 3, "wall": 1.0}


class Wanderer:
    """Random chunks of eight from the episode's seed; remembers all it saw, by instruction and scene."""

    def __init__(self):
        self.generators, self.episodes, self.seen = {}, {}, {}

    def begin(self, slot, instruction, seed, embodiment=None):
        self.generators[slot] = np.random.default_rng(seed)
        self.episodes[slot] = seed
        self.seen[seed] = []

    def act(self, requests):
        return [self.chunk(slot, observation) for slot, observation in requests]

    def chunk(self, slot, observation):
        pixels = b"".join(observation.images[camera].tobytes() for camera in sorted(observation.images))
        digest = hashlib.sha256(pixels + observation.state.tobytes()).hexdigest()
        self.seen[self.episodes[slot]].append(digest)
        return self.generators[slot].uniform(-1, 1, (8, 7)).astype(np.float32)


def test_workers_roll_out_what_one_process_does_and_agents_are_paired(libero, simulator, tmp_path):
    agents = {"first": Wanderer(), "second": Wanderer()}
    partial = tmp_path / "first.jsonl"
    tables = evaluate_many(agents, CONFIG, tasks=[TASK], partial={"first": partial}, progress=False)

    alone = Wanderer()
    for init_state in (2, 1):
        alone.begin(0, simulator.task.instruction, episode_seed(TASK, init_state))
        success, steps = rollout(simulator, init_state, CONFIG.max_steps,
                                 lambda observation: alone.act([(0, observation)])[0])
        assert (success, steps) == (False, 20)
    assert {len(looks) for looks in alone.seen.values()} == {3}  # 20 steps in chunks of 8
    assert agents["first"].seen == agents["second"].seen == alone.seen

    columns = ["task", "init_state", "seed", "success", "steps"]
    assert tables["first"][columns].equals(tables["second"][columns])
    assert tables["first"]["init_state"].tolist() == [1, 2] and set(tables["first"]["steps"]) == {20}
    again = evaluate(Wanderer(), CONFIG, tasks=[TASK], partial=partial, progress=False)  # nothing is left
    assert again.equals(tables["first"])
    for table in (*tables.values(), again):
        assert table.attrs["simulators"] == [simulator.provenance()]


def test_an_init_state_that_does_not_exist_is_one_sentence(libero):
    config = EvaluationConfig(suite=SUITE, episodes_per_task=10, first_init_state=45, workers=1)
    with pytest.raises(ValueError, match="^task .* has init states 0 to 49; .* asks for 45 to 54$"):
        evaluate(Wanderer(), config, tasks=[TASK], progress=False)


def test_rollout_stops_at_success_and_at_the_limit():
    class Counter:
        def reset(self, *, init_state):
            self.steps, self.looks = 0, 0

        def observe(self, images):
            assert images
            self.looks += 1

        def step(self, action):
            self.steps += 1
            return self.steps == 13

    counter = Counter()
    assert rollout(counter, 0, 100, lambda observation: np.zeros((8, 7))) == (True, 13)
    assert counter.looks == 2
    assert rollout(counter, 0, 10, lambda observation: np.zeros((8, 7))) == (False, 10)
    assert counter.steps == 10


def test_jobs_keep_a_task_together_unless_workers_would_idle():
    ledgers = {"a": _Ledger(CONFIG, None), "b": _Ledger(CONFIG, None)}
    ledgers["a"].add(row(0, 1))
    jobs = _jobs(TASKS, CONFIG, ledgers)
    assert [(job.task.index, job.episodes) for job in jobs] == [
        (0, (("b", 1), ("a", 2), ("b", 2))), (1, (("a", 1), ("b", 1), ("a", 2), ("b", 2)))]
    many = EvaluationConfig(suite=SUITE, episodes_per_task=2, first_init_state=1, max_steps=20, workers=4)
    assert len(_jobs(TASKS, many, ledgers)) == 4


def test_a_ledger_survives_a_kill_in_the_middle_of_a_line(tmp_path):
    file = tmp_path / "partial.jsonl"
    ledger = _Ledger(CONFIG, file)
    ledger.add(row(1, 2))
    ledger.add(row(0, 1, success=False))
    with file.open("a") as handle:
        handle.write(json.dumps(row(1, 1))[:20])
    found = _Ledger(CONFIG, file)
    assert found.done == {(1, 2), (0, 1)}
    found.add(row(0, 2))
    with pytest.raises(Stopped, match="^1 of 4 episodes have not been rolled out, the first of task 1 from init state 1"
                                      "; run the same command again to continue$"):
        _Ledger(CONFIG, file).table(TASKS)
    found.add(row(1, 1))
    table = _Ledger(CONFIG, file).table(TASKS)
    assert list(zip(table["task_index"], table["init_state"], strict=True)) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert table["success"].tolist() == [False, True, True, True]


def test_an_episode_that_two_processes_wrote_counts_once(tmp_path):
    file = tmp_path / "partial.jsonl"
    ledger = _Ledger(CONFIG, file)
    for success in (True, False):
        ledger.add(row(0, 1, success))
    for _ in range(2):
        assert [entry["success"] for entry in _Ledger(CONFIG, file).rows] == [True]
    assert len(file.read_text().splitlines()) == 2 and list(tmp_path.iterdir()) == [file]


def test_workers_that_end_early_leave_no_short_table(tmp_path, monkeypatch):
    class Early(contextlib.nullcontext):
        def __init__(self, *_):
            super().__init__(self)

        def messages(self, replace):
            yield 0, _End("agent", row(0, 1), {"version": 1})

    monkeypatch.setattr(evaluation, "world_named", lambda name: World(name, lambda: [SUITE], lambda suite: TASKS, None))
    monkeypatch.setattr(evaluation, "Workers", Early)
    partial = tmp_path / "partial.jsonl"
    with pytest.raises(Stopped, match="^3 of 4 episodes have not been rolled out"):
        evaluate(Wanderer(), CONFIG, partial=partial, progress=False)
    assert _Ledger(CONFIG, partial).done == {(0, 1)}


def crash_at_the_second(pipe, mark):
    """A worker that is killed in its second episode, once; always, if there is no place for a mark."""
    while True:
        pipe.send("ready")
        job = pipe.recv()
        if job is None:
            return
        for name, state in job.episodes:
            if state == 2 and not mark.exists():
                with contextlib.suppress(FileNotFoundError):
                    mark.touch()
                os.kill(os.getpid(), signal.SIGABRT)
            pipe.send(_End(name, row(job.task.index, state), {}))


@pytest.mark.parametrize("place", ["here", "nowhere"])
def test_a_crashed_worker_is_replaced_unless_it_always_crashes_there(place, tmp_path, capsys):
    (tmp_path / "here").mkdir()
    ledgers = {"agent": _Ledger(CONFIG, None)}
    jobs = _jobs(TASKS[:1], EvaluationConfig(episodes_per_task=4, workers=1), ledgers)
    heard = contextlib.nullcontext() if place == "here" else pytest.raises(Stopped, match="exit status -6")
    with Workers(1, crash_at_the_second, tmp_path / place / "mark") as pool, tqdm(disable=True) as bar, heard:
        _serve(pool, deque(jobs), {}, ledgers, bar)
    states = range(4) if place == "here" else range(2)
    assert ledgers["agent"].done == {(0, state) for state in states}
    assert "worker 0 was ended by the system; another takes over its 2 episodes of one\n" in capsys.readouterr().err


def test_a_ledger_keeps_every_simulator_its_rows_ran_in(tmp_path):
    file = tmp_path / "partial.jsonl"
    ledger = _Ledger(CONFIG, file)
    for state, version in ((1, "3.3"), (2, "3.3")):
        ledger.add(row(0, state), {"versions": {"mujoco": version}})
    later = _Ledger(CONFIG, file)  # the evaluation goes on after an upgrade
    for state in (1, 2):
        later.add(row(1, state), {"versions": {"mujoco": "3.4"}})
    found = _Ledger(CONFIG, file).table(TASKS)
    assert [entry["versions"]["mujoco"] for entry in found.attrs["simulators"]] == ["3.3", "3.4"]
    assert len(found) == 4


def test_a_ledger_of_other_settings_is_refused(tmp_path):
    file = tmp_path / "partial.jsonl"
    _Ledger(CONFIG, file)
    _Ledger(EvaluationConfig(suite=SUITE, first_init_state=1, max_steps=20, workers=7), file)  # same episodes
    with pytest.raises(ValueError, match="partial.jsonl is part of an evaluation with other settings"):
        _Ledger(EvaluationConfig(suite=SUITE, first_init_state=1, max_steps=300), file)


def test_seeds_of_episodes_differ_and_stay():
    seeds = {episode_seed(task, state) for task in range(10) for state in range(50)}
    assert len(seeds) == 500 and episode_seed(0, 0) == 2968811710
