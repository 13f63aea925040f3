"""Processes that step simulators, each talking to the parent over its own pipe.

Processes are spawned, not forked: a graphics context and a torch thread pool do not survive a fork.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Self

from ptrlib.errors import Stopped


@dataclass(frozen=True)
class _Failure:
    error: Exception


class Workers:
    """``count`` processes, each running ``work(pipe, *arguments)``, where ``pipe`` leads to the parent.

    Used in a ``with`` block, which ends them all however it is left. A worker whose parent has died gets
    EOFError or BrokenPipeError from its pipe and ends too.
    """

    def __init__(self, count: int, work: Callable[..., None], *arguments: Any) -> None:
        self._work = (work, arguments)
        started = [self._started() for _ in range(count)]
        self.pipes = [pipe for pipe, _ in started]
        self.processes = [process for _, process in started]

    def _started(self) -> tuple[Connection, BaseProcess]:
        """Our end of a new worker's pipe, and its process."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs, *self._work), daemon=True)
        process.start()
        theirs.close()  # so that a dead worker reads as the end of its pipe
        return ours, process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()

    def messages(self, replace: Callable[[int], bool] = lambda worker: False) -> Iterator[tuple[int, Any]]:
        """(worker, message) as they come, until every worker has ended.

        ``replace`` is asked whether another process is to take the place of a worker that was killed.

        Raises:
            ValueError, ImportError, OSError, Stopped: of a worker, with its own message.
            Stopped: a worker was killed and is not replaced.
            RuntimeError: a worker failed in another way; with its traceback.
        """
        running = set(range(len(self.pipes)))
        while running:
            ready = connection.wait([self.pipes[worker] for worker in running])
            for worker in [worker for worker in running if self.pipes[worker] in ready]:
                try:
                    message = self.pipes[worker].recv()
                except (EOFError, ConnectionResetError):
                    self.processes[worker].join()
                    if (self.processes[worker].exitcode or 0) < 0 and replace(worker):
                        self.pipes[worker], self.processes[worker] = self._started()
                    else:
                        running.remove(worker)
                        self._check_exit(worker)
                    continue
                if isinstance(message, _Failure):
                    raise message.error
                yield worker, message

    def send(self, worker: int, message: Any) -> None:
        """Answer ``worker``. If it was killed meanwhile, :meth:`messages` comes to it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipes[worker].send(message)

    def _check_exit(self, worker: int) -> None:
        if status := self.processes[worker].exitcode:
            raise Stopped(
                f"worker {worker} was ended by the system (exit status {status}), perhaps for lack "
                "of memory; run the same command again to continue, with fewer workers")


def _run(pipe: Connection, work: Callable[..., None], arguments: tuple) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes themselves are what runs in parallel
    try:
        work(pipe, *arguments)
    except KeyboardInterrupt:
        pass  # the parent is stopping
    except Exception as error:
        with contextlib.suppress(OSError):  # the parent is gone, which is why the work found its pipe closed
            pipe.send(_Failure(_told(error)))


def _told(error: Exception) -> Exception:
    """``error`` as the parent is to raise it: what its message alone explains as it is, anything else, the end of a
    pipe or file that the work itself opened among it, with its traceback."""
    if not isinstance(error, (ValueError, ImportError, OSError, Stopped)) or isinstance(error, ConnectionError):
        return RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # one that holds what cannot be sent, or whose class asks for more than its message
        return ValueError(str(error))
