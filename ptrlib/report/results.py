"""Run folders in, tidy data frames out.

:func:`runs_of` is the only door: it returns the finished runs of a manifest or says in one sentence which is
missing and what makes it, so that no figure can be drawn without its runs. Every frame carries the columns
``run``, ``method``, ``corruption`` and ``training_seed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq
import yaml

from ptrlib import runs
from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.report.charts import world_label
from ptrlib.report.statistics import Interval, paired_bootstrap, wilson_interval
from ptrlib.runs import Setting

NARROWED = Path("build/manifests")
WEIGHTS = "weights.parquet"
SCENE = ["training_seed", "task", "init_state"]  # what two methods must share to be compared


@dataclass(frozen=True)
class StoredRun:
    """A finished run: its cell of the manifest and its folder."""

    setting: Setting
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name


def runs_of(manifest: str | Path, root: Path = runs.RUNS, *, evaluated: bool = True) -> list[StoredRun]:
    """The finished runs of every setting of a manifest (``libero_corruption`` or a path).

    With ``evaluated`` off, runs that were trained and not yet evaluated pass too.

    Raises:
        ValueError: a run is missing; the sentence names its folder and the command that makes it.
    """
    path = manifest_path(manifest)
    settings = runs.load_manifest(path).settings
    finished = runs.is_done if evaluated else runs.is_trained
    missing = [setting for setting in settings if not finished(setting.config, root)]
    if missing:
        raise ValueError(f"{root / missing[0].folder_name} is missing or unfinished ({len(missing)} of the "
                         f"{len(settings)} runs of {path} are); make them with: ptrlib run {path}")
    return [StoredRun(setting, root / setting.folder_name) for setting in settings]


def is_stored(manifest: str | Path, root: Path = runs.RUNS) -> bool:
    """Whether every run of a manifest is there, trained and evaluated."""
    return all(runs.is_done(setting.config, root) for setting in runs.load_manifest(manifest_path(manifest)).settings)


def manifest_path(manifest: str | Path) -> Path:
    """``experiments/NAME.yaml`` for a bare name, the path itself otherwise."""
    path = Path(manifest)
    return path if path.suffix == ".yaml" else runs.EXPERIMENTS / f"{manifest}.yaml"


def narrow(manifest: str | Path, *, seeds: int | Sequence[int] | None = None,
           methods: Sequence[str] | None = None, changes: Mapping[str, Any] | None = None,
           folder: Path = NARROWED) -> Path:
    """A manifest with fewer or other settings, written below ``build``; the manifest itself without any.

    Args:
        seeds: training seeds instead of the manifest's; a number n stands for 0 .. n - 1.
        methods: the methods to keep, by their name in the manifest; one name may stand alone.
        changes: dotted configuration keys, set in every method; None values are left out, and a list for a
            key of the grid replaces the grid's.

    A setting that the narrowed manifest shares with the stored runs has the same folder name, so only what is
    new gets trained.

    Raises:
        ValueError: seeds, methods or changes that no run can have; nothing is written then.
    """
    path = manifest_path(manifest)
    changes = {key: value for key, value in (changes or {}).items() if value is not None}
    if seeds is None and methods is None and not changes:
        return path
    runs.load_manifest(path)  # says what is wrong with it, if anything
    content = runs.read_manifest(path)
    if seeds is not None:
        content["seeds"] = _chosen_seeds(seeds)
    methods = [methods] if isinstance(methods, str) else methods
    known = content.get("methods", {"run": {}})
    unknown = [method for method in methods or () if method not in known]
    if unknown:
        raise ValueError(f"{path} has no method '{unknown[0]}'; it has {', '.join(known)}")
    grid = content.get("grid", {})
    fixed = {key: value for key, value in changes.items() if key not in grid}
    grid |= {key: _distinct(key, value if isinstance(value, list) else [value])
             for key, value in changes.items() if key in grid}
    content["methods"] = {method: (known[method] or {}) | fixed for method in (methods or known)}
    text = yaml.safe_dump(content, sort_keys=False)
    folder.mkdir(parents=True, exist_ok=True)
    narrowed = folder / f"{path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
    runs.write_text(narrowed, text)
    try:
        runs.load_manifest(narrowed)
    except ValueError as error:
        narrowed.unlink(missing_ok=True)  # nobody could run it
        raise ValueError(str(error).replace(str(narrowed), f"{path} with what was asked for")) from None
    return narrowed


def _chosen_seeds(seeds: int | Sequence[int]) -> list[int]:
    """0 .. n - 1 for a number n; ValueError for what is no number of seeds and no list of them."""
    if isinstance(seeds, int):
        chosen = [] if isinstance(seeds, bool) else list(range(seeds))
    else:
        chosen = list(seeds) if isinstance(seeds, list | tuple | range) else []
    if not chosen or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in chosen):
        raise ValueError(f"seeds={seeds!r} names no training seeds; give how many, 1 or more, or a list of whole "
                         "numbers from 0 on, such as [0, 1]")
    return _distinct("seeds", chosen)


def _distinct(key: str, values: list[Any]) -> list[Any]:
    """``values``; ValueError if one is there twice, as clean data is where it is to be compared with itself."""
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"{key.rpartition('.')[2]} has {twice} twice; ask for another value beside it")
    return values


def episodes_frame(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per evaluation episode: suite, task, task_index, init_state, success, steps ..."""
    return _tables(stored, "episodes.parquet")


def metrics_frame(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per logging step of training; columns a rule does not log are missing values."""
    return _tables(stored, "metrics.parquet")


def weights_frame(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per scored chunk and snapshot, with ``corrupted``: which corruptions hit its episode.

    Episodes of different runs are different episodes; ``episode`` is made unique by run and split.
    """
    return _weights([_table(run, WEIGHTS) for run in stored])


def last_weights_frame(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """:func:`weights_frame` of each run's last snapshot alone."""
    tables = [_table(run, WEIGHTS) for run in stored]
    return _weights([table.filter(compute.equal(table["step"], compute.max(table["step"]))) for table in tables])


def _weights(tables: list[pa.Table]) -> pd.DataFrame:
    table = pa.concat_tables(tables, promote_options="default")
    parts = [table[name].cast(pa.string()) for name in ("run", "split", "episode")]
    episode = compute.binary_join_element_wise(*parts, "/")
    weights = _in_categories(table.set_column(table.column_names.index("episode"), "episode", episode))
    weights["corrupted"] = weights.filter(like="truth_").any(axis=1)
    return weights


def hit_alone(chunks: pd.DataFrame, corruption: str) -> pd.Series:
    """Which chunks were hit by that corruption and by no other: in data with all three many were hit by
    another too, and what a score says of those it may say of the other."""
    others = [f"truth_{kind}" for kind in CORRUPTIONS if kind != corruption and f"truth_{kind}" in chunks]
    return chunks[f"truth_{corruption}"] & ~chunks[others].any(axis=1)


def last_snapshot(weights: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last snapshot."""
    return weights[weights.step == weights.groupby("run").step.transform("max")]


def provenance_frame(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per run: where, when and with what it was trained, and how long its evaluation took (0 for a
    run that was not evaluated). ``multiplies_bfloat16`` is None where runs are older than its recording."""
    rows = []
    for run in stored:
        training = _record(run.folder / "provenance.json")
        row = {**_identity(run), "commit": training["commit"], "dirty": training["dirty"],
               "started": training["started"], "training_seconds": training["wall_seconds"],
               "data": training["data"], "data_fingerprint": training["data_fingerprint"],
               "initial_policy": training["initial_policy"], "ranks": training.get("ranks", 1),
               "python": training["python"], "precision": run.setting.config.network.precision,
               "evaluation_episodes": 0, "evaluation_seconds": 0.0, "evaluation_commit": None,
               "multiplies_bfloat16": None, **training["packages"], **training["machine"]}
        if (run.folder / "done").is_file():
            evaluation = _record(run.folder / "evaluation.json")
            shared = evaluation["seconds_of_the_pass"] / evaluation["runs_in_this_pass"]
            row |= {"evaluation_episodes": evaluation["episodes"], "evaluation_seconds": shared,
                    "evaluation_commit": evaluation["commit"]}
        rows.append(row)
    return pd.DataFrame(rows)


def steps_of(stored: Sequence[StoredRun]) -> str:
    """``1000 steps of 64 places for chunks (36 filled on average)``: what each of these runs learned from. The end of
    an episode cuts a segment short, so that some places stay empty."""
    optimization = stored[0].setting.config.ptr.optimization
    logs = [pq.ParquetFile(run.folder / "metrics.parquet") for run in stored]
    filled = [log.read(["chunks"])["chunks"].to_numpy().mean() for log in logs if "chunks" in log.schema.names]
    told = f"{optimization.steps} steps of {optimization.batch_size}"
    if not filled or min(filled) == optimization.batch_size:
        return f"{told} chunks"
    return f"{told} places for chunks ({np.mean(filled):.0f} filled on average)"


def world_of(stored: Sequence[StoredRun]) -> str:
    """:func:`ptrlib.report.charts.world_label` of runs in one world, as their evaluation recorded it, and whose
    demonstrations all of them learned from if not everybody's.

    Raises:
        ValueError: some were evaluated with other assets than the rest, so that no one name is true of them.
    """
    found = {tuple(sorted({simulator["assets"] for simulator in _record(run.folder / "evaluation.json").get(
             "simulators", []) if "assets" in simulator})) or ("no",)
             for run in stored if (run.folder / "evaluation.json").is_file()}
    kinds = sorted({kind for of_run in found for kind in of_run})
    if len(kinds) > 1:
        raise ValueError(f"{stored[0].name} and the runs beside it were evaluated with {' and '.join(kinds)} "
                         "assets; evaluate all of them with the same")
    evaluation = stored[0].setting.config.evaluation
    return world_label(evaluation.world, evaluation.suite, kinds[0] if kinds else "") + _operators_of(stored)


def _operators_of(stored: Sequence[StoredRun]) -> str:
    """``, the precise demonstrator alone`` where all of these runs learned from some demonstrators only."""
    operators = {run.setting.config.data.operators for run in stored}
    names = operators.pop() if len(operators) == 1 else ()
    return f", the {' and '.join(names)} demonstrator{'s' if len(names) > 1 else ''} alone" if names else ""


def success_rates(episodes: pd.DataFrame, by: Sequence[str] = ("corruption", "method")) -> pd.DataFrame:
    """Success per group: ``successes``, ``episodes``, ``success`` and its Wilson ``low`` and ``high``."""
    rows = []
    for group, cell in episodes.groupby(list(by), sort=False):
        rate = wilson_interval(int(cell.success.sum()), len(cell))
        rows.append({**dict(zip(by, group, strict=True)), "successes": int(cell.success.sum()),
                     "episodes": len(cell), "success": rate.estimate, "low": rate.low, "high": rate.high})
    return pd.DataFrame(rows)


def contrast(episodes: pd.DataFrame, terms: Mapping[tuple[str, str], float],
             by: tuple[str, str] = ("method", "corruption")) -> Interval:
    """Paired contrast of success rates, e.g. ``{("ptr", "combined"): 1, ("sft", "combined"): -1}``.

    Args:
        terms: a coefficient for each cell.
        by: the two columns whose values name a cell.

    Raises:
        ValueError: a term has no episodes, or not the scenes and seeds of the others.
    """
    return paired_bootstrap(paired_values(episodes, terms, by))


def compare(episodes: pd.DataFrame, terms: Mapping[tuple[str, str], float]) -> Interval:
    """:func:`contrast` of (method, corruption) over the training seeds that all of its cells have."""
    return contrast(alike(episodes, terms), terms)


def alike(episodes: pd.DataFrame, cells: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """The episodes of those (method, corruption), with the training seeds that all of them have.

    Raises:
        ValueError: one of them has no episodes, or they have no seed in common.
    """
    cells = list(cells)
    parts = [_cell(episodes, method, kind) for method, kind in cells]
    seeds = set.intersection(*(set(part.training_seed) for part in parts))
    if not seeds:
        names = " and ".join(f"{method} on {kind} data" for method, kind in cells)
        raise ValueError(f"{names} have no training seed in common; a paired comparison needs one")
    return pd.concat([part[part.training_seed.isin(seeds)] for part in parts])


def paired_values(episodes: pd.DataFrame, terms: Mapping[tuple[str, str], float],
                  by: tuple[str, str] = ("method", "corruption")) -> pd.Series:
    """What :func:`contrast` is the mean of: one value per (training seed, task, init state)."""
    scenes = {}
    for one, other in terms:
        cell = _cell(episodes, one, other, by)[[*SCENE, "success"]]
        scenes[one, other] = cell.set_index(SCENE).success.astype(float).sort_index()
    first = next(iter(scenes.values()))
    if not all(cell.index.equals(first.index) for cell in scenes.values()):
        raise ValueError("the methods were not evaluated on the same scenes with the same training seeds; "
                         "a paired comparison needs both")
    return pd.Series(sum(terms[name] * cell.to_numpy() for name, cell in scenes.items()), index=first.index)


def _cell(episodes: pd.DataFrame, one: str, other: str, by: tuple[str, str] = ("method", "corruption")) -> pd.DataFrame:
    cell = episodes[(episodes[by[0]] == one) & (episodes[by[1]] == other)]
    if cell.empty:
        raise ValueError(f"there are no episodes of '{one}' on '{other}' data to compare; "
                         "keep its runs in the manifest")
    return cell


def difference(episodes: pd.DataFrame, method: str, baseline: str, corruption: str) -> Interval:
    """Paired difference of success, ``method`` minus ``baseline``, over the training seeds that both have."""
    return compare(episodes, {(method, corruption): 1.0, (baseline, corruption): -1.0})


def made_alike(provenance: pd.DataFrame, method: str, baseline: str, corruption: str) -> list[int]:
    """The training seeds whose runs of both methods were made on one kind of processor from one recording of the
    demonstrations, in one arithmetic (where the processor chose it, "auto", older runs did not record which); none
    where that holds of every seed that both have."""
    made = provenance[(provenance.corruption == corruption) & provenance.method.isin([method, baseline])]
    of_seed = made.assign(known=(made.precision != "auto") | made.multiplies_bfloat16.notna()).groupby("training_seed")
    both = of_seed.method.nunique() == 2
    ways = of_seed[["processor", "data_fingerprint", "precision", "multiplies_bfloat16"]].nunique().max(axis=1)
    seeds = both[both & (ways == 1) & of_seed.known.all()].index
    return seeds.tolist() if len(seeds) < both.sum() else []


def training_seeds(episodes: pd.DataFrame) -> pd.Series:
    """How many training seeds every method has on every kind of data."""
    return episodes.groupby(["method", "corruption"], observed=True).training_seed.nunique()


def span(counts: pd.Series) -> str:
    """``60``, or ``60 to 120`` where counts differ."""
    return f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"


def intervals(items: Iterable[Any], columns: Sequence[str],
              measure: Callable[..., Interval]) -> pd.DataFrame:
    """A row per item: the item under ``columns``, then what ``measure(*item)`` gives. Without items: only columns."""
    rows = []
    for item in items:
        item = item if isinstance(item, tuple) else (item,)
        rows.append({**dict(zip(columns, item, strict=True)), **vars(measure(*item))})
    return pd.DataFrame(rows, columns=[*columns, *(entry.name for entry in fields(Interval))])


def _tables(stored: Sequence[StoredRun], name: str) -> pd.DataFrame:
    """That file of every run, one below the other."""
    return _in_categories(pa.concat_tables([_table(run, name) for run in stored], promote_options="default"))


def _in_categories(table: pa.Table) -> pd.DataFrame:
    """Names as sorted categories: a page selects by them hundreds of times, and numbers are compared sooner."""
    frame = table.to_pandas(strings_to_categorical=True)
    for name in frame.select_dtypes("category"):
        frame[name] = frame[name].cat.reorder_categories(sorted(frame[name].cat.categories))
    return frame


def _table(run: StoredRun, name: str) -> pa.Table:
    path = run.folder / name
    if not path.is_file():
        raise ValueError(f"{path} is missing although the run is marked done; restore it from git, or "
                         f"delete {run.folder} and run its manifest again")
    table = pq.ParquetFile(path).read()
    for column, value in _identity(run).items():
        table = table.append_column(column, pa.repeat(pa.scalar(value), len(table)))
    return table


def _identity(run: StoredRun) -> dict[str, Any]:
    config = run.setting.config
    return {"run": run.name, "method": run.setting.method, "corruption": config.data.corruption,
            "training_seed": config.seed}


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing, so nobody can tell where this run comes from; delete "
                         f"{path.parent} and run its manifest again")
    return json.loads(path.read_text())
