"""The command line: ``ptrlib demos | train | weights | evaluate | run | notebook``.

Each command is one dataclass; tyro makes its options and help from the fields. Errors a user can mend
end in one sentence, not a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ptrlib import runs
from ptrlib.config import RunConfig, override
from ptrlib.errors import Stopped


@dataclass
class Demos:
    """Record scripted demonstrations into HDF5 files, one per task; an interrupted recording continues."""

    world: str = "libero"
    suite: str = "libero_spatial"
    episodes: int = 50
    """per task"""
    styles: tuple[str, ...] = ("precise", "slow", "hesitant", "noisy", "recovery")
    """taken in turn; recorded as the operator"""
    out: Path | None = None
    """the suite's files go into a folder below it; none means data/WORLD"""
    tasks: tuple[int, ...] = ()
    """indices within the suite; none means all"""
    workers: int = 2
    seed: int = 0
    image_size: int | None = None
    """pixels; none means the world's own (128, Tabletop 32), at which evaluation renders whatever was recorded"""
    executed_noise: float = 0.0
    """Tabletop: sigma of noise that the robot executes, its consequences recorded, in 30 % of the episodes"""

    def run(self) -> None:
        from ptrlib.simulators.protocol import world_named
        from ptrlib.simulators.recording import record

        folder = Path("data") / self.world if self.out is None else self.out
        options: dict[str, Any] = {"executed_noise": self.executed_noise} if self.executed_noise else {}
        image_size = world_named(self.world).image_size if self.image_size is None else self.image_size
        record(world=self.world, suite=self.suite, episodes=self.episodes, styles=list(self.styles),
               out=folder / self.suite, workers=self.workers, seed=self.seed, tasks=list(self.tasks) or None,
               image_size=image_size, **options)


@dataclass
class Train:
    """Train one setting, e.g. ``ptrlib train credit=ptr data.corruption=combined seed=1``.

    ``torchrun --nproc-per-node N -m ptrlib train ...`` trains it on N processes (``ranks=N``)."""

    changes: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """key=value of the configuration (ptrlib/config.py)"""
    root: Path = runs.RUNS
    """where run folders lie"""
    held: bool = False
    """the caller keeps other processes off the run, as a manifest's worker does for all ranks"""

    def run(self) -> None:
        from ptrlib import distributed
        from ptrlib.training import train

        with distributed.session():
            changes = {"ranks": distributed.world_size()} | runs.parse_changes(list(self.changes))
            config = runs.with_start_in(self.root, override(RunConfig(), changes))
            _check_start(config)
            with self._held(config) as mine:
                if not mine:
                    raise ValueError(f"{self.root / runs.folder_name(config)} is being trained by another process; "
                                     "wait for it, or stop it")
                folder = train(config, root=self.root)
            if distributed.rank() == 0:
                print(folder)

    def _held(self, config: RunConfig) -> AbstractContextManager[bool]:
        """The run against other processes; of several ranks the first holds it for all."""
        return nullcontext(True) if self.held else _shared(runs.claimed(runs.folder_name(config), self.root))


def _check_start(config: RunConfig) -> None:
    """Our rule from scratch would ask about features that nothing has been learned in."""
    if config.credit.startswith("crossfit") and not config.initial_policy:
        raise ValueError(f"credit '{config.credit}' asks about features of the policy that training starts from, and "
                         "'initial_policy' is empty; train one with credit=sft network.use_belief=false first and give "
                         "the name of its run folder")


@contextmanager
def _shared(claim: AbstractContextManager[bool]) -> Iterator[bool]:
    """What rank 0 gets of ``claim``, in every rank."""
    import torch

    from ptrlib import distributed

    with claim if distributed.rank() == 0 else nullcontext(True) as mine:
        yield bool(distributed.all_gather(torch.tensor([int(mine)])).all())


@dataclass
class Weights:
    """Write the weight of every chunk of the demonstrations that a run was trained on, or of others, under their own
    names.

    Columns: file, episode, task, start (the chunk's first action, counted from the episode's first), row (the same
    action's row in the file's own actions: start + 1 in files with LIBERO's timing), valid (was recorded what
    followed), score, weight, split, relative (to the mean weight of the training chunks).
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """of a run whose rule ranks chunks (credit=ptr, credit=crossfit)"""
    out: Path = Path("weights.csv")
    """.csv or .parquet"""
    data: tuple[Path, ...] = ()
    """where the demonstrations lie now, or others to weigh; none means where the run found its own"""
    exclude: tuple[str, ...] = ()
    """episodes of other demonstrations that are left out, such as demo_2"""
    per: str = "chunk"
    """chunk or episode"""

    def run(self) -> None:
        from ptrlib.weighting import write_weights

        write_weights(self.folder, self.out, self.data, exclude=self.exclude, per=self.per)
        print(self.out)


@dataclass
class Evaluate:
    """Roll trained runs out in their simulator and write ``episodes.parquet`` into each folder."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    workers: int = 2

    def run(self) -> None:
        from ptrlib.experiment import evaluate_runs

        _require_some(self.folders, f"run folder, such as those in {runs.RUNS}")
        evaluate_runs(list(self.folders), workers=self.workers)


@dataclass
class Run:
    """Train and evaluate what is missing of one or several manifests (experiments/NAME.yaml)."""

    manifests: Annotated[tuple[Path, ...], tyro.conf.Positional]
    changes: tuple[str, ...] = field(default=())
    """key=value overrides of every setting"""
    workers: int = 2
    stage: str = "all"
    """all, train or evaluate"""

    def run(self) -> None:
        from ptrlib.experiment import run_manifest

        _require_some(self.manifests, f"manifest, such as those in {runs.EXPERIMENTS}")
        for manifest in self.manifests:
            run_manifest(manifest, changes=runs.parse_changes(list(self.changes)), workers=self.workers,
                         stage=self.stage)


@dataclass
class Notebook:
    """Execute one notebook of the book, e.g. ``ptrlib notebook corruption_robustness source=fresh``."""

    name: Annotated[str, tyro.conf.Positional]
    parameters: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """name=value of the notebook's parameters cell"""

    def run(self) -> None:
        from ptrlib.report.book import run_notebook

        print(run_notebook(self.name, dict(map(runs.parse_word, self.parameters))))


Command = (Annotated[Demos, tyro.conf.subcommand("demos")] | Annotated[Train, tyro.conf.subcommand("train")]
           | Annotated[Weights, tyro.conf.subcommand("weights")]
           | Annotated[Evaluate, tyro.conf.subcommand("evaluate")] | Annotated[Run, tyro.conf.subcommand("run")]
           | Annotated[Notebook, tyro.conf.subcommand("notebook")])


def _require_some(given: tuple[Path, ...], kind: str) -> None:
    if not given:
        raise ValueError(f"nothing to do; give at least one {kind}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``ptrlib`` and ``python -m ptrlib``; returns the exit status."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    command = tyro.cli(Command, args=arguments, prog="ptrlib")  # type: ignore[arg-type]
    return answered(command.run)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    if (signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            or threading.current_thread() is not threading.main_thread()):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def answered(call: Callable[[], object]) -> int:
    """Exit status of ``call``: what a user can mend is one sentence on stderr, or with PTRLIB_TRACEBACK the whole.

    A scheduler's SIGTERM stops it as Ctrl-C does."""
    try:
        with _terminated_like_interrupted():
            call()
    except (ValueError, FloatingPointError, OSError, ImportError, Stopped) as error:
        if os.environ.get("PTRLIB_TRACEBACK"):
            raise
        print(f"ptrlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ptrlib: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0
