"""Fill in what a manifest still lacks: train on local worker processes, then evaluate in one pass.

All runs of one suite are evaluated together: a simulator costs seconds to build, and every method must
face the same scenes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ptrlib import runs
from ptrlib.agent import PolicyAgent
from ptrlib.config import EvaluationConfig, RunConfig, override
from ptrlib.evaluation import evaluate_many
from ptrlib.simulators.protocol import WORLDS, SimulatorMissing, world_named
from ptrlib.storage import learned_robots, load_policy
from ptrlib.training import train

AT_ONCE = 8  # processes at most, unless more are asked for: each takes a gigabyte or more


def run_manifest(path: str | Path, *, changes: Mapping[str, Any] | None = None, workers: int | None = 2,
                 stage: str = "all", root: Path = runs.RUNS) -> list[Path]:
    """Train and evaluate every setting that has no finished run folder; returns all folders. ``workers`` are the
    processes that do so at once; None is one for each core, at most ``AT_ONCE``."""
    if stage not in ("all", "train", "evaluate"):
        raise ValueError(f"stage '{stage}' is none of all, train, evaluate")
    workers = min(os.cpu_count() or 1, AT_ONCE) if workers is None else workers
    _check_workers(workers)
    manifest = runs.load_manifest(path, changes)
    configs = [setting.config for setting in manifest.settings]
    if stage != "evaluate":
        record_missing([config for config in configs if not runs.is_trained(config, root)])
        _train_missing(Path(path), configs, changes or {}, workers, root)
    folders = [root / runs.folder_name(config) for config in configs]
    if stage != "train":
        evaluate_runs([folder for folder in folders if not (folder / "done").is_file()], workers=workers)
    return folders


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise ValueError(f"workers is the number of processes, 1 or more, not {workers}")


def record_missing(configs: list[RunConfig]) -> None:
    """Record demonstrations that are not there, in worlds where that takes seconds."""
    wanted: dict[tuple[str, str], int] = {}
    for config in configs:
        for path in (config.data.path, *config.data.further_paths):
            key = config.evaluation.world, path
            wanted[key] = max(wanted.get(key, 0), config.data.episodes_per_task)
    for (name, path), episodes in wanted.items():
        if Path(path).exists():
            continue
        with contextlib.suppress(SimulatorMissing):  # training says what is missing: the demonstrations
            world = world_named(name)
            if world.record_for is not None:
                world.record_for(path, episodes)


def _train_missing(path: Path, configs: list[RunConfig], changes: Mapping[str, Any], workers: int, root: Path) -> None:
    missing = [config for config in configs if not runs.is_trained(config, root)]
    print(f"{path.stem}: {len(configs)} settings, {len(missing)} to train", flush=True)
    if len(missing) <= 1 or workers <= 1:
        work(configs, root)
        return
    words = [runs.change_word(key, value) for key, value in changes.items()]
    command = [sys.executable, "-m", "ptrlib.experiment", str(path), str(root), *words]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    codes = _ended([subprocess.Popen([*command, f"--position={index}"], env=environment)
                    for index in range(min(workers, len(missing)))])
    if any(codes):
        raise ValueError(f"{sum(code != 0 for code in codes)} of {len(codes)} workers stopped with an error (above); "
                         "run the same command again to continue")


def _ended(processes: list[subprocess.Popen]) -> list[int]:
    """Their exit statuses. A signal that stops this process alone stops them too, each as it does when told to."""
    try:
        return [process.wait() for process in processes]
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise


def work(configs: list[RunConfig], root: Path = runs.RUNS, position: int = 0) -> None:
    """One worker: train what nobody else holds, and look again until nothing is left to take.

    The second look takes up what a worker that died in the meantime had begun.
    """
    worked = True
    while worked:
        worked = False
        for config in configs:
            if runs.is_trained(config, root):
                continue
            with runs.claimed(runs.folder_name(config), root) as mine:
                if mine and not runs.is_trained(config, root):
                    train_setting(config, root, position)
                    worked = True


def train_setting(config: RunConfig, root: Path = runs.RUNS, position: int = 0) -> None:
    """Train one setting, in this process or, where it asks for several ranks, in as many of this machine."""
    if config.ranks == 1:
        train(config, root=root, position=position)
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.ranks}",
               "-m", "ptrlib", "train", "--held", "--root", str(root), *runs.changes_of(config)]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    if any(_ended([subprocess.Popen(command, env=environment)])):
        raise ValueError(f"training {runs.folder_name(config)} on {config.ranks} processes stopped with an error "
                         "(above); run the same command again to continue")


def evaluate_runs(folders: list[Path], *, workers: int = 2) -> None:
    """Write ``episodes.parquet`` and ``done`` into run folders, all runs of one evaluation setting together.

    Raises:
        ValueError: what is no run folder or holds no policy that can be judged, or one that another process judges.
        Stopped: a worker was ended; the episodes that were rolled out are kept, and the same call continues.
    """
    _check_workers(workers)
    groups: dict[EvaluationConfig, list[Path]] = {}
    for folder in dict.fromkeys(folders):
        evaluation = _checked_evaluation(folder)
        _check_robots(folder, evaluation)
        _check_kitchen(folder, evaluation)
        _tell_other_world(folder, evaluation)
        groups.setdefault(evaluation, []).append(folder)
    with contextlib.ExitStack() as held:
        for folder in itertools.chain(*groups.values()):
            _hold(folder, held)
        _evaluate_groups(groups, workers)


def _checked_evaluation(folder: Path) -> EvaluationConfig:
    """How a run is to be judged. Raises ValueError for values that cannot work, which were not always refused."""
    config = runs.read_config(folder)
    try:
        runs.check(config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}; train it again with a value that can work") from None
    return config.evaluation


def _hold(folder: Path, held: contextlib.ExitStack) -> None:
    """Keep other evaluations off ``folder``: two would write one file of episodes between them."""
    place = folder.resolve()
    if not held.enter_context(runs.claimed(f"{place.name}.evaluation", place.parent)):
        raise ValueError(f"{folder} is being evaluated by another process; wait for it, or stop it")


def _evaluate_groups(groups: Mapping[EvaluationConfig, list[Path]], workers: int) -> None:
    for evaluation, group in groups.items():
        agents = {str(folder): PolicyAgent(load_policy(folder), evaluation.execute_steps, evaluation.restart_beliefs)
                  for folder in group}
        started, clock = datetime.now(UTC), time.perf_counter()
        partial = {str(folder): folder / ".episodes.partial" for folder in group}
        tables = evaluate_many(agents, override(evaluation, {"workers": workers}), partial=partial)
        for folder in group:
            table = tables[str(folder)]
            temporary = folder / ".episodes.parquet"
            table.to_parquet(temporary, index=False)
            temporary.replace(folder / "episodes.parquet")
            record = runs.provenance(runs.read_config(folder), started, episodes=len(table),
                                     simulators=table.attrs["simulators"], runs_in_this_pass=len(group),
                                     seconds_of_the_pass=round(time.perf_counter() - clock, 1))
            runs.write_provenance(folder, record, "evaluation.json")
            partial[str(folder)].unlink(missing_ok=True)
            runs.write_text(folder / "done", datetime.now(UTC).isoformat() + "\n")


def _check_robots(folder: Path, evaluation: EvaluationConfig) -> None:
    """Raise ValueError if a run learned none of the robots of the world that it is to be judged in. What it learned
    stands in its weights.parquet; runs made before that said so pass."""
    learned = set(learned_robots(folder))
    there = world_named(evaluation.world).embodiments
    if not learned or not learned.isdisjoint(there):
        return
    fitting = [world for world in map(world_named, WORLDS) if not learned.isdisjoint(world.embodiments)]
    mend = " or ".join(f"evaluation.world={world.name} and evaluation.suite=one of {', '.join(world.suites())}"
                       for world in fitting)
    raise ValueError(f"{folder.name} learned from demonstrations of the robot {' and '.join(sorted(learned))}, and "
                     f"its evaluation.world={evaluation.world} and evaluation.suite={evaluation.suite} are those of "
                     f"another robot ({', '.join(there)}); "
                     + (f"train it with {mend}" if fitting else "there is no world here with the robot it learned"))


def _check_kitchen(folder: Path, evaluation: EvaluationConfig) -> None:
    """Raise ValueError if a run would be judged in another kind of RoboCasa's kitchen than it learned in."""
    if "robocasa" in evaluation.world.split("+"):
        from ptrlib.simulators.robocasa import check_assets

        record = json.loads((folder / "provenance.json").read_text())
        check_assets(folder.name, record.get("demonstrated_in", []))


def _tell_other_world(folder: Path, evaluation: EvaluationConfig) -> None:
    """Say so where the demonstrations of a run were not recorded in the world that it is judged in, as far as they
    tell: of others' files nobody knows whether their tasks are that world's."""
    record, worlds = folder / "provenance.json", evaluation.world.split("+")
    told = json.loads(record.read_text()).get("demonstrated_in") if record.is_file() else None
    if told is not None and not {place.get("world") for place in told} & set(worlds):
        print(f"{folder}: its demonstrations do not say that they are of {evaluation.world}, in whose suite "
              f"{evaluation.suite} it is judged; what comes out says something only if they show that suite's tasks",
              file=sys.stderr)


def _worker(arguments: list[str]) -> None:
    position = int(arguments.pop().partition("=")[2])
    path, root, *words = arguments
    manifest = runs.load_manifest(path, runs.parse_changes(words))
    work([setting.config for setting in manifest.settings], Path(root), position)


if __name__ == "__main__":
    from ptrlib.cli import answered

    sys.exit(answered(partial(_worker, sys.argv[1:])))
