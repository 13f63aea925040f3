"""Worker processes: messages, and what the parent hears when one fails."""

from __future__ import annotations

import os
import signal

import pytest

from ptrlib.data.errors import DataError
from ptrlib.simulators.workers import Workers


def echo(pipe, greeting):
    pipe.send(greeting)
    pipe.send(pipe.recv() * 2)


def complain(pipe):
    raise ValueError("no such scene")


def refuse_a_file(pipe):
    raise DataError("drawers.hdf5", "is being written by another process", "wait for it", demo="demo_1", key="actions")


def break_down(pipe):
    {}["missing"]


def die(pipe):
    os.kill(os.getpid(), signal.SIGKILL)


def test_messages_go_both_ways():
    heard = []
    with Workers(2, echo, "hello") as workers:
        for worker, message in workers.messages():
            heard.append((worker, message))
            if message == "hello":
                workers.send(worker, 10 + worker)
    assert sorted(heard, key=str) == [(0, "hello"), (0, 20), (1, "hello"), (1, 22)]


@pytest.mark.parametrize("work, error, words", [
    (complain, ValueError, "^no such scene$"),
    (refuse_a_file, DataError, r"^drawers\.hdf5: demo_1/actions is being written by another process; wait for it\.$"),
    (break_down, RuntimeError, "KeyError: 'missing'"),
    (die, RuntimeError, "ended by the system .exit status -9."),
])
def test_a_failure_reaches_the_parent_and_ends_all(work, error, words):
    with Workers(1, work) as workers, pytest.raises(error, match=words):
        list(workers.messages())
    assert not any(process.is_alive() for process in workers.processes)
