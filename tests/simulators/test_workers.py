"""Worker processes: messages, and what the parent hears when one fails."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from ptrlib.data.errors import DataError
from ptrlib.errors import Stopped
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


def run_out_of_pipe(pipe, error):
    raise error("of the work's own")


def fill_the_disk(pipe):
    raise OSError(errno.ENOSPC, "No space left on device", "drawers.hdf5")


class Misfit(ValueError):
    def __init__(self, file, problem):
        super().__init__(f"{file} {problem}")


def refuse_with_a_misfit(pipe):
    raise Misfit("drawers.hdf5", "is cut off")


def give_up(pipe):
    raise Stopped("the demonstrator failed; leave out the task")


def stop_listening(pipe):
    pipe.recv()


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
    (fill_the_disk, OSError, r"No space left on device: 'drawers\.hdf5'$"),
    (give_up, Stopped, "^the demonstrator failed; leave out the task$"),
    (die, Stopped, "ended by the system .exit status -9."),
])
def test_a_failure_reaches_the_parent_and_ends_all(work, error, words):
    with Workers(1, work) as workers, pytest.raises(error, match=words):
        list(workers.messages())
    assert not any(process.is_alive() for process in workers.processes)


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError])
def test_the_end_of_a_pipe_of_the_works_own_is_no_end_of_the_work(error):
    with Workers(1, run_out_of_pipe, error) as workers, pytest.raises(RuntimeError, match=f"{error.__name__}: of the"):
        list(workers.messages())


def test_an_error_that_cannot_be_sent_is_told_in_its_words():
    with Workers(1, refuse_with_a_misfit) as workers, pytest.raises(ValueError, match="^drawers.hdf5 is cut off$"):
        list(workers.messages())


def test_a_worker_ends_when_its_parent_is_gone():
    with Workers(1, stop_listening) as workers:
        workers.pipes[0].close()
        workers.processes[0].join(60)
        assert workers.processes[0].exitcode == 0


def test_no_workers_have_nothing_to_say():
    """Where all that was asked for is there already."""
    with Workers(0, echo, "hello") as workers:
        assert list(workers.messages()) == []
