"""RoboCasa's 24 tasks: the demonstrators' attempts in, table, figure and verdict out; trained policies by category.

The attempts lie in ``experiments/demonstrators/robocasa``, written by ``python -m
ptrlib.simulators.demonstrators.report --world robocasa``. Scenes are drawn by seed; seeds below ``TUNED_SEEDS`` were
looked at while the demonstrators were written and are not counted here. Those in ``MET_SEEDS`` were counted once before
with an earlier version, and the plan for opening doors was changed after that; of those of ``RECORDED`` most were
recorded once before, and the last centimetres of a reach were slowed after that. Both are told apart from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import RunConfig
from ptrlib.report import REPOSITORY
from ptrlib.report.charts import CORRUPTIONS, corruption_label, in_order, method_label
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import (
    StoredRun,
    alike,
    compare,
    episodes_frame,
    span,
    steps_of,
    success_rates,
    training_seeds,
    world_of,
)
from ptrlib.report.statistics import Interval, wilson_interval
from ptrlib.report.verdicts import answer, in_points, scope
from ptrlib.runs import RUNS, Setting, read_config
from ptrlib.simulators.demonstrators.styles import STYLES
from ptrlib.simulators.robocasa import DOOR_DRAWER, OTHERS, PICK_PLACE, SUITES, TASKS, task_named

FOLDER = REPOSITORY / "experiments" / "demonstrators" / "robocasa"
COLUMNS = ("suite", "task", "seed", "style", "success", "steps", "phase", "commit")
CATEGORIES = {PICK_PLACE: ("Pick and place", "blue"), DOOR_DRAWER: ("Doors and drawers", "vermillion"),
              OTHERS: ("Others", "green")}
CATEGORY_NAMES = tuple(name for name, _ in CATEGORIES.values())
TUNED_SEEDS = 100
MET_SEEDS = range(1000, 1005)
RECORDED = "robocasa_short"  # the suite whose attempts are those of the recordings that policies learn from
SCENES = 50  # of each task, that the demonstrators are to be judged on
ENOUGH = 17  # Door/Drawer episodes of 30 that SFT must keep for a gentler comparison to be made, by the protocol
FLOOR = 0.5  # success of SFT on clean data over Door/Drawer tasks, before methods are compared
GOOD, BEST = 0.80, 0.95  # success that is asked of at least 18 and at least 12 of the tasks


def attempts(folder: str | Path = FOLDER) -> pd.DataFrame:
    """A row per attempt in a scene that nobody looked at while tuning; no rows where none is recorded.

    Raises:
        ValueError: a report lacks a column; the sentence says how to make it again.
    """
    tables = [pd.DataFrame(columns=list(COLUMNS))]
    for path in sorted(Path(folder).glob("*.csv")):
        table = pd.read_csv(path)
        missing = [column for column in COLUMNS if column not in table]
        if missing:
            raise ValueError(f"{path} has no column '{missing[0]}'; delete it and make it again with: python -m "
                             f"ptrlib.simulators.demonstrators.report --world robocasa --seeds 1000:1050 --out {path}")
        tables.append(table[list(COLUMNS)])
    together = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
    return together[together.seed >= TUNED_SEEDS].astype({"success": bool}).reset_index(drop=True)


def task_rates(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each of the 24 tasks in the paper's order: category, attempts, successes, success with its Wilson
    interval in [0, 1] (missing without attempts), median steps of the successes, and where most failures end (empty
    where that was not recorded)."""
    rows = []
    for task in TASKS:
        mine = table[table.task == task.name]
        rate = wilson_interval(int(mine.success.sum()), len(mine)) if len(mine) else None
        failed = mine[~mine.success].phase.mode()
        rows.append({"category": CATEGORIES[task.category][0], "task": task.name, "attempts": len(mine),
                     "successes": int(mine.success.sum()), "success": rate.estimate if rate else None,
                     "low": rate.low if rate else None, "high": rate.high if rate else None,
                     "steps": mine[mine.success].steps.median(), "fails in": failed.iloc[0] if len(failed) else ""})
    return pd.DataFrame(rows).astype({"success": float, "low": float, "high": float, "steps": float})


def category(task: str) -> str:
    """What the book calls the category of one of RoboCasa's tasks."""
    return CATEGORIES[task_named(task).category][0]


def policy_table(episodes: pd.DataFrame) -> pd.DataFrame:
    """Success (percent) of trained policies by category and by task as text, a column per method and, where there are
    several, kind of data."""
    tasks = episodes.task.astype("str")
    told = pd.concat([episodes.assign(task=tasks, row=tasks.map(category) + ", together"),
                      episodes.assign(task=tasks, row=tasks)])
    told["category"] = told.task.map(category)
    rates = success_rates(told, by=("category", "row", "corruption", "method"))
    uneven = rates.groupby("row").episodes.transform("nunique") > 1  # such as a method with fewer training seeds
    rates["cell"] = [f"{100 * rate.success:.0f} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
                     + (f", n = {rate.episodes}" if more else "")
                     for rate, more in zip(rates.itertuples(), uneven, strict=True)]
    alone = rates.corruption.nunique() == 1  # the kind of data is then not repeated in every column
    rates["column"] = rates.method.map(method_label) + ("" if alone else ", " + rates.corruption.map(corruption_label))
    columns = [name for kind in CORRUPTIONS for method in in_order(rates.method)
               for name in rates.column[(rates.method == method) & (rates.corruption == kind)].unique()]
    names = [f"{name}, together" for name in CATEGORY_NAMES] + [task.name for task in TASKS]
    counts = rates.groupby("row").episodes.agg(span)
    table = rates.pivot(index="row", columns="column", values="cell")[columns]
    table = table.loc[[name for name in names if name in table.index]]
    return table.rename_axis(None, axis=1).rename_axis("tasks").reset_index().assign(
        **{"n, each": lambda frame: frame.tasks.map(counts)})


def introduction(stored: Sequence[StoredRun]) -> str:
    """Markdown: what the policies of these runs, which start from a stored one, learned from and how they are judged.

    Raises:
        ValueError: they learned from scratch.
    """
    config, episodes = stored[0].setting.config, episodes_frame(stored)
    if not config.initial_policy:
        raise ValueError(f"{stored[0].name} starts from no stored policy; name a manifest with initial_policy")
    seeds = training_seeds(episodes)
    styles = "" if config.data.operators else " in five styles"
    return (f"**{world_of(stored)}.** Each policy learned {_learned(config, stored[0].folder.parent)}, then for "
            f"{steps_of(stored)} from {config.data.episodes_per_task} others of each{styles}, at a "
            f"learning rate of {config.ptr.optimization.learning_rate:g}; "
            f"{span(seeds)} training "
            f"seed{'s' if seeds.max() > 1 else ''}, {len(episodes)} evaluation episodes ({len(stored)} runs, one by "
            f"one on the provenance page).")


def _learned(config: RunConfig, root: Path) -> str:
    """What the policy that ``config`` starts from had learned from, its own start first."""
    start = read_config(root / config.initial_policy)
    before = _learned(start, root) + ", then " if start.initial_policy else ""
    return (f"{before}for {start.ptr.optimization.steps} steps from {start.data.episodes_per_task} clean "
            f"demonstrations of each of {len(SUITES[start.evaluation.suite])} tasks")


def start_episodes(config: RunConfig, root: Path = RUNS) -> pd.DataFrame:
    """The episodes that the policy ``config`` starts from was itself judged on; no rows where it was not."""
    folder = root / config.initial_policy
    if not (folder / "done").is_file():
        return pd.DataFrame()
    return episodes_frame([StoredRun(Setting("sft", read_config(folder)), folder)])


def start_note(episodes: pd.DataFrame) -> str:
    """Markdown: how often that policy succeeds, and where."""
    rate = wilson_interval(int(episodes.success.sum()), len(episodes))
    return (f"Before post-training the policy they start from, `{episodes.run.iloc[0]}`, succeeds in "
            f"{rate.text(100)} % of {len(episodes)} episodes, in other scenes of the same tasks and kitchens (init "
            f"states {episodes.init_state.min()} to {episodes.init_state.max()}):")


def gentler(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """Success, as text, of the policy that these runs of SFT on clean data start from and after each of them, in the
    same scenes; a row for all tasks and one for Door/Drawer.

    Raises:
        ValueError: the start policy was not judged in these scenes.
    """
    config = stored[0].setting.config
    parts = {("none: the start policy", "–", "–", "–"): start_episodes(config, stored[0].folder.parent)}
    parts |= {_trained_with(run.setting.config): episodes_frame([run]) for run in stored}
    scenes = {tuple(sorted(zip(part.task.astype(str), part.init_state, strict=True))) for part in parts.values()}
    if len(scenes) != 1:
        raise ValueError(f"{config.initial_policy} and the runs that start from it were not judged in the same scenes; "
                         "evaluate them with the same tasks and init states")
    rows = []
    for (rate, steps, demonstrations, drawn), part in parts.items():
        for words, episodes in (("all", part), ("Door/Drawer", _doors(part))):
            successes, count = int(episodes.success.sum()), len(episodes)
            rows.append({"learning rate": rate, "steps": steps, "demonstrations a task": demonstrations,
                         "chunks": drawn, "tasks": words, "succeeds in": f"{successes} of {count}",
                         "success (%)": wilson_interval(successes, count).text(100)})
    return pd.DataFrame(rows)


def gentler_note(stored: Sequence[StoredRun]) -> str:
    """Markdown: how many Door/Drawer episodes the best of these runs keeps, and how many the protocol asks for, of the
    runs on more than one demonstrator: a weighting needs something to choose from."""
    kept = {_trained_with(run.setting.config): int(_doors(episodes_frame([run])).success.sum()) for run in stored
            if len(run.setting.config.data.operators) != 1 and run.setting.config.ptr.optimization.steps > 0}
    (rate, steps, demonstrations, drawn), most = max(kept.items(), key=lambda item: item[1])
    told = "which is enough" if most >= ENOUGH else "**which is not enough**"
    return (f"Of these runs on several demonstrators the one at {rate} for {steps} steps on demonstrations "
            f"({demonstrations} a task), {drawn}, keeps the most Door/Drawer episodes, {most}; the protocol asks for "
            f"{ENOUGH} of 30 in these scenes, {told}.")


def of_demonstrators(stored: Sequence[StoredRun]) -> str:
    """Markdown: each run on part of the demonstrations minus the one on most of all demonstrators' with the same rate
    and steps, and one demonstrator's alone minus fewer of all, paired by scene; nothing where no run is such."""
    mixed = [run for run in stored if not run.setting.config.data.operators]
    whole = {_schedule(run.setting.config): run for run in
             sorted(mixed, key=lambda run: run.setting.config.data.episodes_per_task)}
    told, few = [], []
    for run in stored:
        everybody = whole.get(_schedule(run.setting.config))
        if everybody is None or everybody.name == run.name:
            continue
        told.append(f"{_part(run)}: {_minus(run, everybody)}")
        few += [f"{_part(run)} minus {_part(other)}: {_minus(run, other)}" for other in mixed
                if len(run.setting.config.data.operators) == 1 and other.name != everybody.name
                and _schedule(other.setting.config) == _schedule(run.setting.config)]
    return (f"Minus SFT on all demonstrations of all demonstrators with the same rate and steps: {'; '.join(told)}."
            + (f" And {'; '.join(few)}." if few else "") if told else "")


def _part(run: StoredRun) -> str:
    data = run.setting.config.data
    drawn = "" if data.segment_chunks > 1 else " drawn one by one, which also makes batches fuller"
    return (f"{', '.join(data.operators)} alone" if data.operators
            else f"{data.episodes_per_task} demonstrations a task of all") + drawn


def _minus(run: StoredRun, other: StoredRun) -> str:
    parts = [episodes_frame([one]).astype({"method": str}).assign(method=name)
             for name, one in (("part", run), ("all", other))]
    gain = compare(both := pd.concat(parts, ignore_index=True), {("part", "none"): 1.0, ("all", "none"): -1.0})
    where = scope(both)
    return f"{in_points(gain)}, **{answer(gain.low, gain.high, f'more often{where}', f'less often{where}')}**"


def _schedule(config: RunConfig) -> tuple[float, int, str]:
    return config.ptr.optimization.learning_rate, config.ptr.optimization.steps, config.data.path


def _trained_with(config: RunConfig) -> tuple[str, str, str, str]:
    optimization, data = config.ptr.optimization, config.data
    if optimization.steps == 0:
        return "none: the start policy, rolled out anew", "–", "–", "–"
    demonstrations = f"those of {', '.join(data.operators)} among " if data.operators else ""
    drawn = f"in segments of {data.segment_chunks}" if data.segment_chunks > 1 else "one by one"
    demonstrations += str(data.episodes_per_task)
    return f"{optimization.learning_rate:g}", str(optimization.steps), demonstrations, drawn


def floor_rate(episodes: pd.DataFrame) -> Interval | None:
    """Success of SFT on clean data over Door/Drawer tasks; None where it was not run."""
    plain = _plain(episodes)
    return wilson_interval(int(plain.success.sum()), len(plain)) if len(plain) else None


def benchmark_of(episodes: pd.DataFrame) -> str | None:
    """RoboCasa, whose printed gains may stand beside these rates; None where they miss the floor."""
    rate = floor_rate(episodes)
    return "RoboCasa" if rate and rate.estimate >= FLOOR else None


def floor(episodes: pd.DataFrame) -> str:
    """A sentence of Markdown: does SFT on clean data open and close often enough for methods to be compared?"""
    rate = floor_rate(episodes)
    if rate is None:
        return "No run of SFT on clean data says whether methods can be compared."
    told = ("which reaches the half that the protocol asks for before methods are compared" if rate.estimate >= FLOOR
            else "**which misses the half that the protocol asks for, so these rates rank nothing**")
    return (f"Trained plainly on clean data, the policy succeeds in {rate.text(100)} % of {rate.count} episodes of "
            f"{_plain(episodes).task.nunique()} Door/Drawer tasks, {told}.")


def _plain(episodes: pd.DataFrame) -> pd.DataFrame:
    return _doors(episodes[(episodes.method == "sft") & (episodes.corruption == "none")])


def _doors(episodes: pd.DataFrame) -> pd.DataFrame:
    """Those of Door/Drawer tasks; episodes of other worlds are none."""
    return episodes[episodes.task.isin([task.name for task in TASKS if task.category == DOOR_DRAWER])]


def comparison(episodes: pd.DataFrame) -> str:
    """Markdown: PTR minus SFT, paired by scene and seed, a sentence for each kind of data that both learned from."""
    told = []
    for kind in CORRUPTIONS:
        if {"ptr", "sft"} <= set(episodes[episodes.corruption == kind].method):
            terms = {("ptr", kind): 1.0, ("sft", kind): -1.0}
            gain = compare(episodes, terms)
            words = answer(gain.low, gain.high, "PTR succeeds more often", "SFT succeeds more often",
                           "which of the two is better cannot be told")
            told.append(f"With {corruption_label(kind)} PTR minus SFT is {gain.text(100, sign=True)} points over "
                        f"{gain.count} pairs of scene and training seed: **{words}**{scope(alike(episodes, terms))}.")
    return " ".join(told)


def chart(rates: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Success (%) of every task with its interval, coloured by category; tasks without attempts stay empty."""
    drawn = rates.assign(**{name: 100 * rates[name] for name in ("success", "low", "high")})
    figure, axes = plt.subplots(figsize=(5.2, 0.19 * len(drawn) + 0.9))
    for threshold, dashes in ((GOOD, "--"), (BEST, ":")):
        axes.axvline(100 * threshold, color=COLOURS["grey"], linestyle=dashes, linewidth=1, label=f"{threshold:.0%}")
    for label, colour in CATEGORIES.values():
        part = drawn[(drawn.category == label) & drawn.success.notna()]
        errors = [(part.success - part.low).clip(0), (part.high - part.success).clip(0)]
        axes.errorbar(part.success, part.index, xerr=errors, fmt="o", color=COLOURS[colour], markersize=4, capsize=2,
                      linewidth=1.2, label=label)
    axes.set(yticks=range(len(drawn)), yticklabels=drawn.task, ylim=(len(drawn) - 0.5, -0.5), xlim=(-3, 103),
             xlabel="success of the demonstrator (%), 95 % interval")
    axes.tick_params(axis="y", labelsize=7)
    figure.legend(loc="outside upper center", ncols=5, columnspacing=1.0, handlelength=1.2)
    return figure, drawn


def verdict(rates: pd.DataFrame) -> str:
    """Markdown: how many tasks reach the two marks, and which do not or have no demonstrator."""
    tried = rates[rates.attempts > 0]
    if tried.empty:
        return "No attempt is recorded yet."
    good, best = (int((tried.success >= mark).sum()) for mark in (GOOD, BEST))
    poor = tried[tried.success < GOOD].task.tolist()
    none = rates[rates.attempts == 0].task.tolist()
    whole = wilson_interval(int(tried.successes.sum()), int(tried.attempts.sum()))
    known, few = tried[tried.attempts >= SCENES], tried[tried.attempts < SCENES]
    sure = (f" Of the {len(known)} tasks with at least {SCENES} scenes, {(known.success >= GOOD).sum()} reach "
            f"{GOOD:.0%} and {(known.success >= BEST).sum()} reach {BEST:.0%}." if 0 < len(known) < len(tried) else
            f" Each was tried in at least {SCENES} scenes." if len(known) else "")
    return (f"**{good} of {len(rates)} tasks reach {GOOD:.0%}, {best} reach {BEST:.0%}** by their observed rates; of "
            f"all {tried.attempts.sum()} attempts {whole.text(100)} % succeed."
            + sure
            + (f" **{len(few)} tasks have fewer than {SCENES} scenes** (from {few.attempts.min()} on): their own rates "
               "are not known well, see the intervals." if len(few) else "")
            + (f" Below {GOOD:.0%}: {', '.join(poor)}." if poor else "")
            + (f" Without a recorded attempt: {', '.join(none)}." if none else ""))


def still_open(attempts: pd.DataFrame) -> str:
    """Markdown: a line per task that stays below GOOD, with what its failures were."""
    rates = task_rates(attempts)
    lines = []
    for task in rates.task[rates.success < GOOD]:
        mine = attempts[attempts.task == task]
        failed = mine[~mine.success]
        late, phases = int((failed.steps == mine.steps.max()).sum()), failed.phase.value_counts()
        by_style = failed["style"].value_counts()
        whose = "all" if late == len(failed) else f"{late} of them"
        lines.append(
            f"- {task}: {len(failed)} of {len(mine)} attempts fail, {whose} because the library's time ran out "
            f"({mine.steps.max():.0f} steps). By style: {_counted(by_style)}. What the demonstrator was at: "
            f"{_counted(phases)}.")
    return "\n".join(lines)


def style_table(attempts: pd.DataFrame) -> pd.DataFrame:
    """Successes of attempts per task, in the paper's order, and style."""
    counts = attempts.groupby(["task", "style"]).success.agg(["sum", "count"])
    cells = (counts["sum"].astype(str) + " of " + counts["count"].astype(str)).unstack("style").fillna("–")
    cells = cells[[style for style in STYLES if style in cells]]
    return cells.loc[[task.name for task in TASKS if task.name in cells.index]].rename_axis(
        None, axis=1).reset_index()


def style_note(attempts: pd.DataFrame) -> str:
    """Markdown: how many tasks reach GOOD in every one of the styles, and the rate of each style."""
    by_cell = attempts.groupby(["task", "style"]).success.mean().unstack("style")
    every = int((by_cell >= GOOD).all(axis=1).sum())
    by_style = attempts.groupby("style").success.agg(["sum", "count"])
    told = ", ".join(f"{style} {wilson_interval(int(row['sum']), int(row['count'])).text(100)}"
                     for style, row in by_style.loc[[style for style in STYLES if style in by_style.index]].iterrows())
    return (f"Style by style, with some ten scenes each, **{every} of {len(by_cell)} tasks reach {GOOD:.0%} in every "
            f"style**. Over all tasks, in percent: {told}.")


def _counted(counts: pd.Series) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def told_apart(attempts: pd.DataFrame) -> str:
    """Markdown: success in scenes that were recorded, that an earlier version had met, and that no version had."""
    parts, recorded, met = [], attempts.suite == RECORDED, attempts.seed.isin(MET_SEEDS)
    for words, part in (("were recorded, most of them for the second time", attempts[recorded]),
                        ("an earlier version had met once", attempts[met & ~recorded]),
                        ("no version had met", attempts[~met & ~recorded])):
        if len(part):
            rate = wilson_interval(int(part.success.sum()), len(part))
            parts.append(f"in scenes that {words} {rate.text(100)} % of {len(part)} attempts succeed")
    return ("; ".join(parts) + ".").capitalize() if parts else ""


def table(rates: pd.DataFrame) -> pd.DataFrame:
    """:func:`task_rates` as text."""
    success = [f"{100 * row.success:.0f} [{100 * row.low:.0f}, {100 * row.high:.0f}]" if row.attempts else "–"
               for row in rates.itertuples()]
    return pd.DataFrame({"category": rates.category, "task": rates.task, "n": rates.attempts, "success (%)": success,
                         "median steps": rates.steps, "most failures in": rates["fails in"].replace("", "–")})
