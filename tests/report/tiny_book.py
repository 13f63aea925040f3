"""Tabletop runs of a second each, and the book's notebooks executed on them, for tests only."""

from __future__ import annotations

import fcntl
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ptrlib import experiment, runs, training
from ptrlib.report import REPOSITORY, book, figures, results

# What makes a run tiny; every Tabletop manifest gets it, on top of what it says itself.
TINY = {"initial_policy": "", "log_every": 1, "data.episodes_per_task": 4,
        "network.width": 16, "network.heads": 2, "network.vision_channels": [4, 8, 8], "network.backbone_layers": 1,
        "network.expert_layers": 1, "ptr.optimization.steps": 6, "ptr.optimization.batch_size": 32,
        "ptr.optimization.lr_warmup_steps": 1, "ptr.warmup_steps": 2,
        "evaluation.episodes_per_task": 2, "evaluation.max_steps": 8, "crossfit.steps": 5, "crossfit.every": 8}
SNAPSHOT_BATCHES = {"train": 5, "held_out": 1}


@dataclass(frozen=True)
class Page:
    """An executed notebook: its path, the text it shows, and its figures' folder."""

    notebook: Path
    figures: Path

    def text(self) -> str:
        """Everything the cells put out, as Markdown, HTML or plain text."""
        cells = json.loads(self.notebook.read_text())["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        shown = [output.get("text") or next((output["data"][kind] for kind in
                 ("text/html", "text/markdown", "text/plain") if kind in output.get("data", {})), "")
                 for output in outputs if output["output_type"] != "error"]
        return "\n".join("".join(part) for part in shown)

    def frame(self, figure: str) -> pd.DataFrame:
        """The CSV behind a figure."""
        return pd.read_csv(self.figures / f"{figure}.csv", keep_default_na=True)


@dataclass(frozen=True)
class TinyBook:
    """A folder with the manifests of the repository, Tabletop's made tiny, and the runs made in it."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / runs.RUNS

    def make(self, manifest: str, **narrowed: Any) -> list[results.StoredRun]:
        """The finished runs of a manifest, narrowed as by :func:`ptrlib.report.results.narrow`; trained if missing.

        Processes that run tests beside this one share the folder and wait for each other.
        """
        with pytest.MonkeyPatch.context() as patch, open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            patch.chdir(self.folder)
            patch.setattr(training, "SNAPSHOT_BATCHES", SNAPSHOT_BATCHES)
            patch.setattr(training, "read_episodes", _read_once)
            wanted = results.narrow(manifest, **narrowed)
            experiment.run_manifest(wanted, workers=1)
            stored = results.runs_of(wanted)
        return [results.StoredRun(run.setting, self.folder / run.folder) for run in stored]

    def execute(self, notebook: str, **parameters: Any) -> Page:
        """Run one notebook of the book in this folder, as ``ptrlib notebook`` does."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("JUPYTER_PREFER_ENV_PATH", "MPLBACKEND", figures.FOLDER_VARIABLE):
                patch.setenv(name, "")
            for name, place in {"REPOSITORY": self.folder, "PAGES": self.folder / "build/book",
                                "APART": self.folder / "build/notebooks"}.items():
                patch.setattr(book, name, place)
            executed = book.run_notebook(notebook, parameters)
        return Page(executed, executed.parent / "figures" if parameters else self.folder / "figures")


@functools.cache
def _read_once(*arguments: Any, **options: Any) -> Any:
    """Reading episodes takes longer than a tiny run; no run changes what it has read."""
    from ptrlib.data.reading import read_episodes

    return read_episodes(*arguments, **options)


def make_tiny_book(folder: Path, **tinier: Any) -> TinyBook:
    """The book's manifests below ``folder``, with ``tinier`` on top of TINY; writes the same again where they are."""
    manifests = folder / runs.EXPERIMENTS
    manifests.mkdir(parents=True, exist_ok=True)
    for path in sorted((REPOSITORY / runs.EXPERIMENTS).glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        if path.name.startswith("tabletop"):
            content["base"] = {**content.get("base", {}), **TINY, **tinier}
            content["seeds"] = [0]
        runs.write_text(manifests / path.name, yaml.safe_dump(content, sort_keys=False))
    return TinyBook(folder)
