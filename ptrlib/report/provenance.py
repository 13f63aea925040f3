"""Where every stored run comes from: all manifests, the machines, the figures, and each manifest's runs one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ptrlib import runs
from ptrlib.report import results
from ptrlib.report.charts import corruption_label, method_label

MINUTES, HOURS = 60.0, 3600.0  # seconds


def every_run(manifests: Sequence[str] = (), root: Path = runs.RUNS) -> pd.DataFrame:
    """:func:`ptrlib.report.results.provenance_frame` of all trained runs, with a column ``manifest``.

    A run that several manifests share has a row for each of them.

    Args:
        manifests: files of ``experiments/`` without suffix; all of them where none is named.

    Raises:
        ValueError: no such manifest, or none has a trained run.
    """
    tables = []
    for path in [results.manifest_path(name) for name in manifests] or sorted(runs.EXPERIMENTS.glob("*.yaml")):
        stored = [results.StoredRun(setting, root / setting.folder_name)
                  for setting in runs.load_manifest(path).settings if runs.is_trained(setting.config, root)]
        if stored:
            tables.append(results.provenance_frame(stored).assign(manifest=path.stem))
    if not tables:
        raise ValueError(f"{root} has no trained run of {', '.join(manifests) or 'any manifest'}; make some with: "
                         "ptrlib run experiments/NAME.yaml")
    return pd.concat(tables, ignore_index=True)


def manifest_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per manifest: its runs, when and from which commits they were made, what they took."""
    rows = [{"manifest": name, "runs": len(part), "training seeds": part.training_seed.nunique(),
             "first": part.started.min()[:10], "last": part.started.max()[:10],
             "commits": ", ".join(sorted({commit[:8] for commit in part.commit})),
             "uncommitted changes": int(part.dirty.sum()), "training, h": part.training_seconds.sum() / HOURS,
             "evaluation, h": part.evaluation_seconds.sum() / HOURS, "episodes": int(part.evaluation_episodes.sum()),
             "demonstrations": ", ".join(sorted(set(part.data_fingerprint)))}
            for name, part in frame.groupby("manifest")]
    return pd.DataFrame(rows)


def machine_table(frame: pd.DataFrame, packages: Sequence[str]) -> pd.DataFrame:
    """A row per processor and versions of ``packages``: how many runs were trained there, and for how long."""
    frame = each_once(frame)
    chosen = frame.multiplies_bfloat16.map({True: "bfloat16", False: "float32"}).fillna("not recorded")  # by older runs
    frame = frame.assign(arithmetic=frame.precision.where(frame.precision != "auto", chosen))
    kinds = ["processor", "cores", "arithmetic", "python", *[name for name in packages if name in frame]]
    return frame.groupby(kinds, dropna=False).agg(
        runs=("run", "count"), hours=("training_seconds", lambda seconds: seconds.sum() / HOURS)).reset_index()


def figure_table(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """A row per stored figure: how many runs it is drawn from, their commits, and which of them ``frame`` lacks."""
    rows = []
    for note in (json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))):
        mine = frame[frame.run.isin(note["runs"])]
        rows.append({"figure": note["figure"], "runs": len(note["runs"]),
                     "commits of these runs": ", ".join(sorted({commit[:8] for commit in mine.commit})),
                     "not listed here": ", ".join(sorted(set(note["runs"]) - set(mine.run)))})
    return pd.DataFrame(rows)


def totals(frame: pd.DataFrame) -> str:
    """Markdown: how many runs there are, what they took, and how many were not made from a clean commit."""
    frame = each_once(frame)
    evaluated = frame.dropna(subset="evaluation_commit")
    hours = (frame.training_seconds.sum() + frame.evaluation_seconds.sum()) / HOURS
    return (f"{len(frame)} runs, {hours:.1f} hours of wall time, {frame.evaluation_episodes.sum():.0f} evaluation "
            f"episodes. {frame.dirty.sum()} were made with uncommitted changes to the package; "
            f"{(evaluated.commit != evaluated.evaluation_commit).sum()} were evaluated at another commit than they "
            "were trained at. Runs on the same demonstrations share a fingerprint "
            f"({frame.data_fingerprint.nunique()} in all).{_of_tabletop(frame)}")


def _of_tabletop(frame: pd.DataFrame) -> str:
    """What all runs took that need no simulator but ours, on the machines that made them; "" where there is none."""
    mine = frame[frame.manifest.str.startswith("tabletop")]
    hours = (mine.training_seconds * mine.ranks + mine.evaluation_seconds.fillna(0.0)).sum() / HOURS
    return (f" Tabletop's whole set, {len(mine)} of these runs, took {hours:.1f} core-hours, so {hours / 2:.1f} hours "
            "on two cores like those that made it." if len(mine) else "")


def run_lists(frame: pd.DataFrame) -> str:
    """HTML: a list to fold out for every manifest, with a row per run."""
    return "\n".join(f"<details><summary><code>{name}</code>: {len(part)} runs</summary>\n"
                     f"{_run_table(part).to_html(index=False, border=0, float_format='{:.1f}'.format)}\n</details>"
                     for name, part in frame.groupby("manifest"))


def _run_table(part: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "run": part.run, "method": part.method.map(method_label), "data": part.corruption.map(corruption_label),
        "seed": part.training_seed, "commit": part.commit.str[:8], "uncommitted changes": part.dirty,
        "started": part.started.str[:16], "training, min": part.training_seconds / MINUTES,
        "evaluation, min": part.evaluation_seconds / MINUTES, "episodes": part.evaluation_episodes,
        "demonstrations": part.data_fingerprint, "starts from": part.initial_policy.replace("", "scratch")})


def each_once(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run, also of those that several manifests share."""
    return frame.drop_duplicates("run")
