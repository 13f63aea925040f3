"""Tables 3 and 4 and source shares: one generalist against a specialist for each robot.

A method of ``experiments/tabletop_generalist.yaml`` is a rule and what it was trained on (``ptr@gantry``,
``ptr@generalist``), and a task is one task for one robot (``wipe_brown@gantry``). Here the two parts are columns:
``method`` (the rule), ``setting`` (specialist or generalist) and ``robot``. In
``experiments/libero_robocasa_precise.yaml`` a task's world is its robot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ptrlib import runs
from ptrlib.config import PTRConfig
from ptrlib.method.bounds import share_bounds, sharp_share_bounds, weight_bounds
from ptrlib.policy.action_space import EMBODIMENTS, SLOTS
from ptrlib.report import published
from ptrlib.report.charts import in_order, method_label
from ptrlib.report.correspondence import ALL, in_robot_order, robot_label
from ptrlib.report.results import StoredRun, contrast, last_snapshot, manifest_path, narrow, success_rates, world_of
from ptrlib.report.statistics import Interval, source_ratios
from ptrlib.report.verdicts import Verdict, answer, in_points

SPECIALIST, GENERALIST, EVERY = "specialist", "generalist", "all seeds"
BY = ("method", "setting")
Terms = Mapping[tuple[str, str], float]

# What Section 5.4 compares, as contrasts of success rates between (rule, setting).
CONTRASTS: dict[str, Terms] = {
    "PTR − SFT, specialists": {("ptr", SPECIALIST): 1, ("sft", SPECIALIST): -1},
    "PTR − SFT, generalists": {("ptr", GENERALIST): 1, ("sft", GENERALIST): -1},
    "what pooling adds to PTR − SFT": {("ptr", GENERALIST): 1, ("sft", GENERALIST): -1, ("ptr", SPECIALIST): -1,
                                       ("sft", SPECIALIST): 1},
    "what pooling costs SFT": {("sft", SPECIALIST): 1, ("sft", GENERALIST): -1},
    "what pooling costs PTR": {("ptr", SPECIALIST): 1, ("ptr", GENERALIST): -1},
    "PTR generalist − SFT specialists": {("ptr", GENERALIST): 1, ("sft", SPECIALIST): -1},
    "PTR − shuffled weights, generalists": {("ptr", GENERALIST): 1, ("random", GENERALIST): -1}}

# Which of them the paper counts tasks for, and how its statements are called.
COUNTED = {"PTR − SFT, specialists": "specialist", "PTR − SFT, generalists": "generalist",
           "PTR generalist − SFT specialists": "cross"}


def narrowed(manifest: str | Path, *, methods: Sequence[str] | None, seeds: int | Sequence[int] | None,
             changes: Mapping[str, Any], generalist_changes: Mapping[str, Any]) -> list[Path]:
    """:func:`ptrlib.report.results.narrow` for rules (``["sft", "ptr"]``), with changes of the generalists' own.

    Returns one manifest, or one for the specialists and one for the generalists.

    Raises:
        ValueError: a rule that the manifest does not have.
    """
    path = manifest_path(manifest)
    methods = [methods] if isinstance(methods, str) else methods
    if methods is None and not any(value is not None for value in generalist_changes.values()):
        return [narrow(path, seeds=seeds, changes=changes)]
    names = list(dict.fromkeys(setting.method for setting in runs.load_manifest(path).settings))
    known = list(dict.fromkeys(name.partition("@")[0] for name in names))
    unknown = [rule for rule in methods or () if rule not in known]
    if unknown:
        raise ValueError(f"{path} has no rule '{unknown[0]}'; it has {', '.join(known)}")
    chosen = [name for name in names if name.partition("@")[0] in (methods or known)]
    pooled = [name for name in chosen if name.endswith(f"@{GENERALIST}")]
    own = {key: value for key, value in generalist_changes.items() if value is not None}
    groups = (([name for name in chosen if name not in pooled], changes), (pooled, {**changes, **own}))
    return [narrow(path, seeds=seeds, methods=group, changes=of_group) for group, of_group in groups if group]


def by_setting(table: pd.DataFrame) -> pd.DataFrame:
    """A frame of :mod:`ptrlib.report.results` with ``method``, ``setting``, ``robot`` and ``job``, the robot's task."""
    rule = table.method.str.partition("@")
    task = table.task.str.partition("@")
    robot = task[2]
    if (robot == "").any():  # in worlds with one robot tasks do not name it
        robot = table.suite.str.partition("_")[0] if "suite" in table else table.embodiment
    return table.assign(method=rule[0], setting=np.where(rule[2] == GENERALIST, GENERALIST, SPECIALIST),
                        robot=robot.map(robot_label), job=task[0].str.replace("_", " "))


def rates(episodes: pd.DataFrame, by: Sequence[str] = ("robot",)) -> pd.DataFrame:
    """Success with its Wilson interval per setting, rule and ``by``, and of all robots together."""
    everything = pd.concat([episodes, episodes.assign(robot=ALL)], ignore_index=True) if "robot" in by else episodes
    return success_rates(everything, by=("setting", "method", *by))


def contrasts(episodes: pd.DataFrame) -> pd.DataFrame:
    """Every contrast that the runs allow, of each robot and of all, paired by scene; and the paper's, in points."""
    rows = []
    for name, terms in CONTRASTS.items():
        for robot, part in [*episodes.groupby("robot", sort=False), (ALL, episodes)]:
            if set(terms) <= set(zip(part.method, part.setting, strict=True)):
                rows.append({"contrast": name, "robot": robot, **asdict(contrast(part, terms, BY)),
                             "paper": published_contrast(terms)})
    return pd.DataFrame(rows)


def world_contrasts(episodes: pd.DataFrame) -> pd.DataFrame:
    """:func:`contrasts` of each world alone, beside the paper's of that benchmark: two simulators are not averaged."""
    found = contrasts(episodes)
    found = found[found.robot != ALL] if len(found) else found
    return found.assign(paper=[published_contrast(CONTRASTS[row.contrast], row.robot) for row in found.itertuples()])


def published_contrast(terms: Terms, benchmark: str = "") -> float:
    """The paper's number in points: on its real robots, twelve tasks, or in a column of Table 3 that is a simulator.

    nan for a rule that the paper did not run.
    """
    if not {rule for rule, _ in terms} <= {"sft", "ptr"}:
        return float("nan")
    table, column = ((published.GENERALIST, f"Simulation | {benchmark}") if benchmark else
                     (published.REAL_ROBOT, "Overall | Overall average"))
    return sum(factor * published.cell(f"{table} | {rule.upper()}-{setting.capitalize()} | {column}")
               for (rule, setting), factor in terms.items())


def places(stored: Sequence[StoredRun]) -> dict[str, str]:
    """What the world of each robot is called in full, with the assets that its evaluation recorded, by the robot.

    Raises:
        ValueError: none of the runs is a generalist, which alone was in every world.
    """
    pooled = [run for run in stored if run.setting.method.endswith(f"@{GENERALIST}")]
    if not pooled:
        raise ValueError("no generalist is among these runs; choose methods of the manifest that have one")
    return {label.partition(" ")[0]: label for label in world_of(pooled).split(" and ")}


def world_rates_table(episodes: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Success as text, with its interval and n: a row per policy, a column per world, named by :func:`places`."""
    found = rates(episodes)
    found = found[found.robot.isin(names)]
    found = found.assign(policy=found.method.map(method_label) + ", " + found.setting, cell=[
        f"{Interval(row.success, row.low, row.high, row.episodes).text(100)}, n = {row.episodes}"
        for row in found.itertuples()])
    table = found.pivot(index="policy", columns="robot", values="cell")
    return table.loc[list(dict.fromkeys(found.policy)), list(names)].rename(columns=names).fillna("").rename_axis(
        index="ours", columns=None)


def world_contrasts_table(found: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """:func:`world_contrasts` as text: a row per contrast, a column per world, and the paper's of that benchmark."""
    cells = found.assign(cell=[
        f"{Interval(row.estimate, row.low, row.high, row.count).text(100, sign=True)}, n = {row.count:.0f}"
        for row in found.itertuples()])
    table = cells.pivot(index="contrast", columns="robot", values="cell")
    table = table.loc[list(dict.fromkeys(cells.contrast)), list(names)].rename(columns=names).fillna("")
    for robot in names:
        table[f"paper, {robot}"] = cells[cells.robot == robot].set_index("contrast").paper
    return table.rename_axis(index="points of success", columns=None)


def task_contrasts(episodes: pd.DataFrame) -> pd.DataFrame:
    """The contrasts of Table 4 for every task and robot: columns contrast, robot, job, estimate, low, high, count."""
    rows = []
    for name in COUNTED:
        for (robot, job), part in episodes.groupby(["robot", "job"], sort=False):
            if set(CONTRASTS[name]) <= set(zip(part.method, part.setting, strict=True)):
                found = contrast(part, CONTRASTS[name], BY)
                rows.append({"contrast": name, "robot": robot, "job": job, **asdict(found)})
    return pd.DataFrame(rows)


def task_counts(of_tasks: pd.DataFrame) -> pd.DataFrame:
    """Tasks of :func:`task_contrasts` on which the first policy is ahead, level or behind, and beyond the interval.

    The paper's counts over its twelve tasks stand beside ours.
    """
    stated, rows = published.read("statements").set_index("id").value.astype(float), []
    for name, found in of_tasks.groupby("contrast", sort=False) if len(of_tasks) else ():
        rows.append({
            "comparison": name, "tasks": len(found), "ahead": (found.estimate > 0).sum(),
            "level": (found.estimate == 0).sum(), "behind": (found.estimate < 0).sum(),
            "ahead beyond the interval": (found.low > 0).sum(), "behind beyond the interval": (found.high < 0).sum(),
            "paper: ahead of 12": stated[f"{COUNTED[str(name)]}_wins"],
            "paper: level": stated.get(f"{COUNTED[str(name)]}_ties", float("nan"))})
    return pd.DataFrame(rows)


def shared_slots(robots: Sequence[str]) -> pd.DataFrame:
    """Which robots use which part of the unified action space, a row per slot that any of them uses."""
    chosen = {name: EMBODIMENTS[name] for name in robots}
    rows = []
    for part, (first, end) in SLOTS.items():
        for slot in range(first, end):
            uses = {robot_label(name): " and ".join(
                what for what, slots in (("state", robot.state_slots), ("action", robot.action_slots)) if slot in slots)
                for name, robot in chosen.items()}
            if any(uses.values()):
                rows.append({"slot": slot, "meaning": f"{part}, {slot - first + 1} of {end - first}", **uses})
    return pd.DataFrame(rows).drop_duplicates("slot")


def generalist_chunks(weights: pd.DataFrame) -> pd.DataFrame:
    """The training chunks of each generalist's last snapshot, ``robot`` taken from their embodiment.

    Raises:
        ValueError: the runs were stored before snapshots named the embodiment.
    """
    chunks = last_snapshot(weights[weights.setting == GENERALIST]).query("split == 'train'")
    unknown = chunks.run if "embodiment" not in chunks else chunks.run[chunks.embodiment.isna()]
    if len(unknown):
        raise ValueError(f"weights.parquet of {unknown.iloc[0]} does not say which robot a chunk is from: it was "
                         "stored before chunks named their embodiment; delete the run and run its manifest again")
    return chunks.assign(robot=chunks.embodiment.map(robot_label))


def tilted(chunks: pd.DataFrame, beta: Mapping[str, float]) -> pd.Series:
    """exp(T / beta) of every chunk, Proposition 3's weight without clip; T = 0 where no consequence was recorded.

    ``beta`` is each run's, by its name.
    """
    return np.exp(chunks.score.where(chunks.valid, 0.0) / chunks.run.map(beta))


def source_table(chunks: pd.DataFrame, beta: Mapping[str, float]) -> pd.DataFrame:
    """q(m) / pi_m of every robot, of each training seed and of all (Eq 29), with intervals.

    Columns ``method``, ``seed`` (EVERY or the training seed), ``robot``, ``quantity`` ("measured", or "Proposition 3"
    for the rules whose weights follow the chunk's score), ``prior`` (pi_m), and the interval's.
    """
    tables, seed_of = [], chunks.drop_duplicates("run").set_index("run").training_seed.astype(str)
    for method in in_order(chunks.method):
        mine = chunks[chunks.method == method]
        values = {"measured": mine.weight} | ({"Proposition 3": tilted(mine, beta)} if method == "ptr" else {})
        for quantity, value in values.items():
            ratios = source_ratios(value, mine.robot, mine.episode, mine.run).rename(columns={"source": "robot"})
            tables.append(ratios.assign(method=method, quantity=quantity, seed=ratios.run.map(seed_of).fillna(EVERY)))
    return in_robot_order(pd.concat(tables, ignore_index=True).drop(columns="run"))


def bound_table(measured: pd.DataFrame, rule: PTRConfig) -> pd.DataFrame:
    """Measured rows of :func:`source_table` beside Eq 30's bound and the sharper one for a source of that size."""
    low, high = share_bounds(rule.w_min, rule.w_max, rule.alpha)
    sharp = [sharp_share_bounds(prior, rule.w_min, rule.w_max, rule.alpha) for prior in measured.prior]
    return pd.DataFrame({
        "method": measured.method.map(method_label), "robot": measured.robot, "π": measured.prior,
        "q": measured.prior * measured.estimate, "q/π": measured.estimate, "Eq 30 allows": f"{low:.4g} to {high:.4g}",
        "this π allows": [f"{lowest:.3f} to {highest:.3f}" for lowest, highest in sharp]})


def chunk_table(chunks: pd.DataFrame, rule: PTRConfig) -> pd.DataFrame:
    """What the scores and weights of each robot's chunks look like, a row per method and robot."""
    rows, top = [], weight_bounds(rule.w_min, rule.w_max, rule.alpha)[1]
    for (method, robot), part in in_robot_order(chunks).groupby(["method", "robot"], sort=False, observed=True):
        valid = part[part.valid]
        rows.append({"method": method_label(method), "robot": robot, "chunks": len(part),
                     "share π": len(part) / (chunks.method == method).sum(),
                     "with a consequence": part.valid.mean(), "mean score T": valid.score.mean(),
                     "mean weight": valid.weight.mean(),
                     "at the upper end": (valid.weight >= top - 1e-4).mean()})
    return pd.DataFrame(rows)


QUESTIONS = {
    "PTR − SFT, specialists": ("Does PTR succeed more often than SFT when each robot trains alone?", "yes",
                               "no, less often"),
    "PTR − SFT, generalists": ("Does it when one checkpoint learns all robots?", "yes", "no, less often"),
    "what pooling costs SFT": ("Does pooling the robots cost SFT?", "yes", "no, SFT gains by it"),
    "what pooling costs PTR": ("Does pooling the robots cost PTR?", "yes", "no, PTR gains by it"),
    "what pooling adds to PTR − SFT": ("Does pooling cost PTR less than SFT, and so widen the gap?", "yes",
                                       "no, it costs PTR more"),
    "PTR generalist − SFT specialists": ("Is the PTR generalist better than SFT's specialists?", "yes", "no, worse"),
    "PTR − shuffled weights, generalists": ("Is it what the weights say? (PTR against shuffled weights, generalists)",
                                          "yes", "no, shuffled weights do better")}


def success_verdicts(found: pd.DataFrame, where: str = "", robot: str = ALL) -> pd.DataFrame:
    """The paper's questions on success that :func:`contrasts` can answer, all robots together or one of them.

    ``where`` is :func:`ptrlib.report.verdicts.scope`'s.
    """
    rows = []
    for name, (question, more, less) in QUESTIONS.items():
        if interval := _of_robot(found, name, robot):
            rows.append(asdict(Verdict(question if robot == ALL else f"{robot}: {question}",
                                       in_points(interval),
                                       answer(interval.low, interval.high, more + where, less + where),
                                       interval.estimate, interval.low, interval.high)))
    return pd.DataFrame(rows)


def _of_robot(found: pd.DataFrame, name: str, robot: str) -> Interval | None:
    """The contrast of that name for a robot, or for all of them, if the runs allow it."""
    if found.empty:
        return None
    row = found[(found.contrast == name) & (found.robot == robot)]
    return Interval(*row[["estimate", "low", "high", "count"]].iloc[0]) if len(row) else None


def source_verdicts(shares: pd.DataFrame) -> pd.DataFrame:
    """Which robots gain or lose weight as a source, by the intervals over all seeds."""
    return pd.DataFrame([asdict(verdict) for verdict in _source_verdicts(shares)])


def _source_verdicts(shares: pd.DataFrame) -> Iterator[Verdict]:
    measured = shares[(shares.seed == EVERY) & (shares.quantity == "measured")]
    for row in measured.itertuples():
        ratio = Interval(row.estimate, row.low, row.high, row.count)
        question = f"{method_label(row.method)}: does the {row.robot} robot get more weight than its share of the data?"
        yield Verdict(question, f"q(m)/π = {ratio.text(digits=3)}",
                      answer(ratio.low - 1, ratio.high - 1, "yes, more", "no, less"), ratio.estimate, ratio.low,
                      ratio.high)


def headline(found: pd.DataFrame, where: str = "", robot: str = ALL) -> str:
    """A paragraph (Markdown): what pooling the robots does to the gap between PTR and SFT, ours and the paper's.

    Of all robots together, or of one that is a benchmark of the paper's.
    """
    names = ("PTR − SFT, specialists", "PTR − SFT, generalists", "what pooling adds to PTR − SFT")
    alone, pooled, added = (_of_robot(found, name, robot) for name in names)
    if alone is None or pooled is None or added is None:
        return "PTR and SFT are not both shown as specialists and as generalists, so there is nothing to conclude."
    widened = ("the claim holds here: pooling the robots widens PTR's lead" if pooled.low > 0 else
               "pooling the robots moves the gap in PTR's favour, but does not put PTR ahead of SFT")
    told = answer(added.low, added.high, widened, "the claim does not hold here: pooling the robots favours SFT",
                  "whether pooling the robots changes the gap cannot be told from these runs")
    paper = [published_contrast(CONTRASTS[name], "" if robot == ALL else robot) for name in names]
    return (f"{'' if robot == ALL else f'{robot}: '}PTR minus SFT is {alone.text(100, sign=True)} points with "
            f"specialists and {pooled.text(100, sign=True)} with one generalist, a change of "
            f"{added.text(100, sign=True)} points over {added.count:.0f} pairs of scene and training seed: "
            f"**{told}**{where}. The paper prints {paper[0]:+.1f} and {paper[1]:+.1f} on "
            f"{'its real robots' if robot == ALL else 'this benchmark'}, a change of {paper[2]:+.1f}; it gives no "
            "interval.")
