"""How well the scripted demonstrators do: their recorded attempts in, tables and figures out.

The attempts lie in ``experiments/demonstrators``, a CSV per suite, written by
``python -m ptrlib.simulators.demonstrators.report``; ``trajectories.csv`` beside them follows the hand through
one scene in every style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptrlib.report import REPOSITORY
from ptrlib.report.figures import COLOURS
from ptrlib.report.statistics import wilson_interval

FOLDER = REPOSITORY / "experiments" / "demonstrators"
TRAJECTORIES = "trajectories.csv"
COLUMNS = ("suite", "task", "task_index", "init_state", "style", "success", "steps", "phase", "commit")
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")  # in the benchmark's order
TASKS, SCENES = 40, 50  # of the four suites, and of each task: the benchmark's fixed init states
# The demonstrators were written and tuned while looking at init states 0 to 9 and at scenes drawn from seeds
# below 100, so success on these scenes says less than success on init states 10 to 49.
TUNED_INIT_STATES = 10
CONTROL_FREQUENCY = 20  # Hz
STYLES = {"precise": "blue", "slow": "orange", "hesitant": "green", "noisy": "purple", "recovery": "vermillion"}


def attempts(folder: str | Path = FOLDER) -> pd.DataFrame:
    """A row per recorded attempt of all suites there are.

    Raises:
        ValueError: there is no report, or one without a column; the sentence says how to make it.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob("*.csv") if path.name != TRAJECTORIES)
    command = "python -m ptrlib.simulators.demonstrators.report --suite SUITE --out"
    if not files:
        raise ValueError(f"{folder} holds no report of the demonstrators; make one for each suite with: {command} "
                         f"{folder}/SUITE.csv")
    tables = []
    for path in files:
        table = pd.read_csv(path)
        missing = [column for column in COLUMNS if column not in table]
        if missing:
            raise ValueError(f"{path} has no column '{missing[0]}'; delete it and make it again with: {command} {path}")
        tables.append(table)
    together = pd.concat(tables, ignore_index=True).astype({"success": bool})
    return together.sort_values(["suite", "task_index", "init_state"], kind="stable", ignore_index=True,
                                key=lambda column: column.map(_place(SUITES)) if column.name == "suite" else column)


def trajectories(folder: str | Path = FOLDER) -> pd.DataFrame:
    """A row per control step of one scene in every style.

    Raises:
        ValueError: they were not recorded; the sentence says how to make them.
    """
    path = Path(folder) / TRAJECTORIES
    if not path.is_file():
        raise ValueError(f"{path} is missing; make it with: "
                         f"python -m ptrlib.simulators.demonstrators.trajectories --out {path}")
    return pd.read_csv(path)


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """How much of the benchmark was attempted, a column per suite: tasks, scenes, and attempts in each style."""
    columns = {}
    for suite, part in table.groupby("suite", sort=False):
        scenes = part.groupby("task_index").init_state.nunique()
        columns[suite] = {f"tasks, of {TASKS // len(SUITES)}": len(scenes),
                          f"scenes of a task, of {SCENES}: fewest": scenes.min(), "scenes in all": scenes.sum(),
                          "attempts": len(part),
                          **{f"in style {style}": int((part["style"] == style).sum()) for style in STYLES}}
    return pd.DataFrame(columns).rename_axis("recorded")


def task_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Success per task with its Wilson interval, and on the scenes that were never looked at.

    Columns suite, task_index, task, scenes, attempts, successes, success, low, high, unseen (success on init
    states that were not used while tuning; missing where none was attempted).
    """
    rows = []
    for (suite, index), part in table.groupby(["suite", "task_index"], sort=False):
        rate = wilson_interval(int(part.success.sum()), len(part))
        unseen = part[part.init_state >= TUNED_INIT_STATES]
        rows.append({"suite": suite, "task_index": index, "task": readable(part.task.iloc[0]),
                     "scenes": part.init_state.nunique(), "attempts": len(part),
                     "successes": int(part.success.sum()), "success": rate.estimate, "low": rate.low,
                     "high": rate.high, "unseen": unseen.success.mean() if len(unseen) else None})
    return pd.DataFrame(rows)


def style_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Success and steps per suite and style, with the Wilson interval of the success."""
    rows = []
    for (suite, style), part in table.groupby(["suite", "style"], sort=False):
        rate = wilson_interval(int(part.success.sum()), len(part))
        steps = part[part.success].steps.quantile([0.05, 0.25, 0.5, 0.75, 0.95]).to_numpy()
        rows.append({"suite": suite, "style": style, "attempts": len(part), "success": rate.estimate,
                     "low": rate.low, "high": rate.high,
                     **dict(zip(("whislo", "q1", "med", "q3", "whishi"), steps, strict=True))})
    return pd.DataFrame(rows).sort_values(["suite", "style"], ignore_index=True, key=lambda names: names.map(
        _place(SUITES if names.name == "suite" else STYLES)))


def readable(task: str) -> str:
    """``KITCHEN_SCENE3_turn_on_the_stove`` -> ``turn on the stove``."""
    return re.sub(r"^[A-Z_]+SCENE\d+_", "", task).replace("_", " ")


def success_chart(rates: pd.DataFrame, threshold: float) -> tuple[Figure, pd.DataFrame]:
    """Success (%) of every task with its interval, a panel per suite; tasks go by their number."""
    drawn = rates.assign(**{name: 100 * rates[name] for name in ("success", "low", "high")})
    suites = list(dict.fromkeys(drawn.suite))
    figure, panels = _panels(len(suites), height=2.3)
    for axes, suite in zip(panels, suites, strict=False):
        part = drawn[drawn.suite == suite]
        errors = [(part.success - part.low).clip(0), (part.high - part.success).clip(0)]
        axes.errorbar(part.success, part.task_index, xerr=errors, fmt="o", color=COLOURS["blue"], markersize=4,
                      capsize=2, linewidth=1.2)
        axes.axvline(100 * threshold, color=COLOURS["grey"], linestyle="--", linewidth=0.8)
        axes.set(title=suite, xlabel="success (%), 95 % interval", ylabel="task", yticks=range(10), ylim=(9.5, -0.5),
                 xlim=(min(50.0, part.low.min() - 3), 102))
    return figure, drawn


def steps_chart(styles: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Steps of successful attempts by style, a panel per suite: median, quartiles, and 5 % to 95 %."""
    suites = list(dict.fromkeys(styles.suite))
    figure, panels = _panels(len(suites), height=2.0)
    for axes, suite in zip(panels, suites, strict=False):
        part = styles[(styles.suite == suite) & styles["med"].notna()]
        boxes = part[["whislo", "q1", "med", "q3", "whishi"]].to_dict("records")
        drawn = axes.bxp(boxes, positions=range(len(boxes)), orientation="horizontal", showfliers=False,
                         patch_artist=True, widths=0.6, medianprops={"color": "black"})
        for box, style in zip(drawn["boxes"], part["style"], strict=True):
            box.set(facecolor=style_colour(style), alpha=0.7)
        axes.set(title=suite, xlabel="control steps", yticks=range(len(boxes)), yticklabels=part["style"])
        axes.invert_yaxis()
    return figure, styles


def trajectory_chart(steps: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The hand in one scene, a line per style: height and distance from the object over time, and its path
    from above. Marks show where the hand begins to close."""
    steps = steps.assign(seconds=steps.step / CONTROL_FREQUENCY)
    figure, (height, distance, above) = plt.subplots(3, 1, figsize=(5.2, 7.4),
                                                     gridspec_kw={"height_ratios": [1, 1, 1.5]})
    for style in (name for name in STYLES if name in set(steps["style"])):
        part = steps[steps["style"] == style].sort_values("step")
        closes = part[part.closing & ~part.closing.shift(fill_value=False)]
        for axes, x, y in ((height, part.seconds, part.z), (distance, part.seconds, part.distance),
                           (above, part.x, part.y)):
            axes.plot(x, y, color=style_colour(style), linewidth=1.2, label=style)
            axes.plot(x[closes.index], y[closes.index], "o", color=style_colour(style), markersize=4)
    height.set(xlabel="time (s)", ylabel="height of the grip (m)")
    distance.set(xlabel="time (s)", ylabel="distance to the object (m)")
    above.set(xlabel="x, away from the robot (m)", ylabel="y (m)", aspect="equal")
    figure.legend(*height.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure, steps


def style_measures(steps: pd.DataFrame) -> pd.DataFrame:
    """Each style of the scene in numbers: steps, the length of the hand's path, its pauses, and how often the
    hand begins to close."""
    rows = []
    for style, part in steps.sort_values("step").groupby("style", sort=False):
        moved = part[["x", "y", "z"]].diff().dropna().pow(2).sum(axis=1).pow(0.5)
        rows.append({"style": style, "steps": len(part), "seconds": len(part) / CONTROL_FREQUENCY,
                     "path (m)": moved.sum(), "steps that move less than 1 mm": int((moved < 0.001).sum()),
                     "closings": int((part.closing & ~part.closing.shift(fill_value=False)).sum())})
    return pd.DataFrame(rows).sort_values("style", key=lambda names: names.map(_place(STYLES)), ignore_index=True)


def _place(names: Iterable[str]) -> Callable[[str], int]:
    """The place of a name in ``names``; unknown ones come last."""
    known = list(names)
    return lambda name: known.index(name) if name in known else len(known)


def style_colour(style: str) -> str:
    return COLOURS[STYLES.get(style, "black")]


def _panels(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    """``count`` panels, two in a row."""
    rows = -(-count // 2)
    figure, panels = plt.subplots(rows, min(count, 2), figsize=(5.6, height * rows), squeeze=False)
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    return figure, list(panels.flat)
