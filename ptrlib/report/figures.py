"""House style of the figures, and how a notebook keeps one.

A figure is kept as PDF and PNG, with the data behind it as CSV and a JSON note of the stored runs it
was drawn from. Two executions with the same data write the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from cycler import cycler
from matplotlib.figure import Figure

from ptrlib.report import REPOSITORY
from ptrlib.report.drawn import check_drawn, check_fits

FOLDER_VARIABLE = "PTRLIB_FIGURES"  # where an execution with other parameters keeps its figures

# Okabe and Ito's palette: told apart by readers with any colour vision, and in print.
COLOURS = {"black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#F0E442",
           "blue": "#0072B2", "vermillion": "#D55E00", "purple": "#CC79A7", "grey": "#7F7F7F", "wine": "#882255",
           "brown": "#6B3E26"}

STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "axes.axisbelow": True, "legend.frameon": False, "figure.constrained_layout.use": True,
    "figure.dpi": 110, "savefig.dpi": 200, "pdf.fonttype": 42,
    "axes.prop_cycle": cycler(color=[COLOURS[name] for name in (
        "blue", "vermillion", "green", "orange", "purple", "sky", "black")]),
}


def use_style() -> None:
    """Apply the house style to every figure drawn after this call."""
    matplotlib.rcParams.update(STYLE)


def figures_folder() -> Path:
    """``figures/`` of the checkout, or the folder that ``run_notebook`` chose for this execution."""
    return Path(os.environ.get(FOLDER_VARIABLE, REPOSITORY / "figures"))


def save_figure(figure: Figure, name: str, *, data: pd.DataFrame, runs: Iterable[str] = ()) -> Path:
    """Keep ``figure`` as ``name.pdf`` and ``name.png`` beside ``name.csv`` and ``name.json``.

    ``data`` is what is drawn, ``runs`` the names of the run folders it came from (empty for published
    numbers and formulas). Returns the path of the PDF. ``make figures/name.pdf`` finds the notebook by
    this call, so write the name as a plain string.

    Raises:
        ValueError: ``figure`` draws a number that is not in ``data``, or a text of the book's own is cut off at its
            edge (:mod:`ptrlib.report.drawn`); nothing is written.
    """
    check_drawn(figure, name, data)
    folder = figures_folder()
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps({"figure": name, "runs": sorted(set(runs))}, indent=1) + "\n"
    writers = {".json": lambda path: path.write_text(note),
               ".csv": lambda path: data.to_csv(path, index=False, float_format="%.6g"),
               ".png": lambda path: figure.savefig(path, format="png", metadata={"Software": None}),
               ".pdf": lambda path: figure.savefig(path, format="pdf", metadata={"CreationDate": None})}
    temporary = {suffix: folder / f".{os.getpid()}-{name}{suffix}" for suffix in writers}
    try:
        for suffix, write in writers.items():
            write(temporary[suffix])
        if folder == REPOSITORY / "figures":  # a page rerun with other parameters is worth more than its labels
            check_fits(figure, name)  # draws once more, which lays it out a little differently: only now
        for suffix, path in temporary.items():
            path.replace(folder / f"{name}{suffix}")
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return folder / f"{name}.pdf"
