"""Processes that step simulators, each talking to the parent over its own pipe.

Processes are spawned, not forked: a graphics context and a torch thread pool do not survive a fork.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import Any, Self

_FAILED = "worker failed"


class Workers:
    """``count`` processes, each running ``work(pipe, *arguments)``, where ``pipe`` leads to the parent.

    Used in a ``with`` block, which ends them all however it is left. A worker whose parent has died gets
    EOFError or BrokenPipeError from its pipe and ends too.
    """

    def __init__(self, count: int, work: Callable[..., None], *arguments: Any) -> None:
        context = get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, work, arguments), daemon=True)
            process.start()
            theirs.close()  # so that a dead worker reads as the end of its pipe
            self.pipes.append(ours)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()

    def messages(self) -> Iterator[tuple[int, Any]]:
        """(worker, message) as they come, until every worker has ended.

        Raises:
            RuntimeError: a worker failed (with its traceback) or was killed.
        """
        open_pipes = dict(zip(self.pipes, range(len(self.pipes)), strict=True))
        while open_pipes:
            for pipe in connection.wait(list(open_pipes)):
                worker = open_pipes[pipe]  # type: ignore[index]
                try:
                    message = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, ConnectionResetError):
                    del open_pipes[pipe]  # type: ignore[arg-type]
                    self._check_exit(worker)
                    continue
                if isinstance(message, tuple) and message[0] == _FAILED:
                    raise RuntimeError(f"worker {worker} failed:\n{message[1]}")
                yield worker, message

    def send(self, worker: int, message: Any) -> None:
        """Answer ``worker``."""
        self.pipes[worker].send(message)

    def _check_exit(self, worker: int) -> None:
        process = self.processes[worker]
        process.join()
        if process.exitcode:
            raise RuntimeError(
                f"worker {worker} was ended by the system (exit status {process.exitcode}), perhaps for lack "
                "of memory; run the same command again to continue, with fewer workers")


def _run(pipe: Connection, work: Callable[..., None], arguments: tuple) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes themselves are what runs in parallel
    try:
        work(pipe, *arguments)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the parent is gone or is stopping
    except Exception:
        pipe.send((_FAILED, traceback.format_exc()))
