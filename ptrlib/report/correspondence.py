"""Figure 5: whose consequences the scorer takes for whose, across the robots of a generalist.

Reads what :mod:`ptrlib.correspondence` kept of each run. Intervals resample runs and, within them, queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import PTRConfig
from ptrlib.correspondence import Correspondence
from ptrlib.report.charts import WORLDS
from ptrlib.report.statistics import mean_by_episode
from ptrlib.simulators.tabletop.robots import NAMES as ROBOTS

ALL = "all robots"
HEATMAPS = {"mass": "share of the mass on others", "task": "of it, on the own task", "weight": "weight among them"}


def robot_label(name: str) -> str:
    """``tabletop_two_link`` or ``two_link``, or a world with one robot, as the page writes it."""
    return WORLDS.get(name, name.removeprefix("tabletop_").replace("_", "-"))


def in_robot_order(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Rows sorted by robot, in the simulator's order and the sum of all last; by ``robot`` or these columns."""
    order = {name: place for place, name in enumerate([*map(robot_label, (*ROBOTS, "libero", "robocasa")), ALL])}
    by = list(columns or ("robot",))
    return table.sort_values(by, key=lambda names: names.map(order), kind="stable").reset_index(drop=True)


def correspondence_table(found: Mapping[str, Correspondence]) -> pd.DataFrame:
    """What the scorer takes for what, by the robot of the query and of the candidates; ``found`` is by run.

    Quantities: ``mass``, the share of a query's mismatched posterior that falls on a robot; ``task``, how much of
    that lies on its own task; ``weight``, Eq 21's weight when only that robot's chunks are mismatched candidates.
    ``chance`` is the share that equal logits would give, and 1 for the weight.
    """
    tables = pd.concat([_by_query(run, each) for run, each in found.items()], ignore_index=True)
    rows = []
    for (quantity, query, candidate), part in tables.groupby(["quantity", "query", "candidate"], sort=False):
        known = part.dropna(subset="value")
        if len(known):
            interval = mean_by_episode(known.value, known.episode, known.run)
            rows.append({"quantity": quantity, "query": query, "candidate": candidate, **asdict(interval),
                         "chance": known.chance.mean()})
    return in_robot_order(pd.DataFrame(rows), "query", "candidate")


def _by_query(run: str, found: Correspondence) -> pd.DataFrame:
    mass, count = found.mass.astype(float), found.count.astype(float)
    robot, candidates = mass.sum(2), count.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {"mass": (robot / robot.sum(1, keepdims=True), candidates / candidates.sum(1, keepdims=True)),
                  "task": (mass[:, :, 1] / robot, count[:, :, 1] / candidates),
                  "weight": (found.weight_against, np.ones_like(robot))}
    query, episode = found.queries.embodiment.map(robot_label), run + "/" + found.queries.episode.astype(str)
    return pd.concat([pd.DataFrame({"quantity": quantity, "query": query, "candidate": robot_label(name),
                                    "value": value[:, column], "chance": chance[:, column], "run": run,
                                    "episode": episode})
                      for quantity, (value, chance) in values.items()
                      for column, name in enumerate(found.embodiments)], ignore_index=True)


def score_parts(found: Mapping[str, Correspondence]) -> pd.DataFrame:
    """How much of the score is won by telling the robot, and how much by telling chunks of one robot apart.

    With P the posterior on all candidates of the query's own robot, its own consequence among them, and s their
    share of the candidates, T = log(P / s) + log(p(0) |Y_own| / P): the first part knows the robot only, and can
    reach log(1 / s).
    """
    tables = []
    for run, each in found.items():
        own = each.queries.embodiment.to_numpy()[:, None] == np.array(each.embodiments)
        robot = each.queries.matched + each.mass.sum(2)[own]
        share = (1 + each.count.sum(2)[own]) / (1 + each.count.sum((1, 2)))
        telling = np.log(robot / share)
        tables.append(pd.DataFrame({"run": run, "robot": each.queries.embodiment.map(robot_label),
                                    "episode": run + "/" + each.queries.episode.astype(str),
                                    "score": each.queries.score, "robot alone": telling,
                                    "within the robot": each.queries.score - telling, "most": np.log(1 / share)}))
    chunks, rows = pd.concat(tables, ignore_index=True), []
    for robot, part in [*chunks.groupby("robot", sort=False), (ALL, chunks)]:
        parts = {name: mean_by_episode(part[name], part.episode, part.run).text(digits=2)
                 for name in ("score", "robot alone", "within the robot")}
        rows.append({"robot": robot, "queries": len(part), **parts,
                     "most that the robot alone can give": part.most.mean()})
    return in_robot_order(pd.DataFrame(rows))


def correspondence_chart(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A matrix for each quantity of :func:`correspondence_table`: a row per robot of the query."""
    robots = list(dict.fromkeys(table["query"]))
    figure, panels = plt.subplots(1, len(HEATMAPS), figsize=(6.4, 2.9))
    for axes, (quantity, title) in zip(panels, HEATMAPS.items(), strict=True):
        part = table[table.quantity == quantity]
        cells = part.pivot(index="query", columns="candidate", values="estimate").reindex(index=robots, columns=robots)
        highest = 1.0 if quantity != "weight" else max(PTRConfig.w_max, cells.max(axis=None))
        axes.imshow(cells, cmap="cividis", vmin=0, vmax=highest)
        middle = highest / 2
        for row in range(len(robots)):
            for column in range(len(robots)):
                value = cells.iloc[row, column]
                axes.text(column, row, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=9,
                          color="black" if value > middle else "white")
        chance = part.chance.mean()
        told = "neutral: 1" if quantity == "weight" else f"chance: {chance:.2f}"
        axes.set_title(f"{title}\n({told})", fontsize=9)
        axes.set(xticks=range(len(robots)), xticklabels=robots, yticks=range(len(robots)),
                 yticklabels=robots if axes is panels[0] else [])
        axes.tick_params(axis="x", rotation=30)
        axes.grid(visible=False)
    panels[0].set_ylabel("robot of the query")
    panels[1].set_xlabel("robot of the candidates")
    return figure, table


def pairs_chart(found: Correspondence) -> tuple[Figure, pd.DataFrame]:
    """The pairs of one run as the policy saw them: a query's consequence above that of its best match."""
    drawn = pd.DataFrame({
        "query": found.queries.embodiment.iloc[found.pairs["query"]].map(robot_label).to_numpy(),
        "candidate": found.queries.embodiment.iloc[found.pairs["match"]].map(robot_label).to_numpy(),
        "chosen": found.pairs.chosen, "posterior": found.pairs.posterior,
        "query_instruction": found.queries.instruction.iloc[found.pairs["query"]].to_numpy(),
        "match_instruction": found.queries.instruction.iloc[found.pairs["match"]].to_numpy()})
    groups = list(dict.fromkeys(found.pairs.chosen))
    columns = -(-len(drawn) // len(groups))
    figure, panels = plt.subplots(2 * len(groups), columns, figsize=(6.4, 2.5 * len(groups)), squeeze=False)
    for group, chosen in enumerate(groups):
        for column, index in enumerate(np.flatnonzero(found.pairs.chosen == chosen)):
            for line in range(2):
                axes = panels[2 * group + line, column]
                axes.imshow(found.images[index, line, 0])
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
            pair = drawn.iloc[index]
            same = "same task" if pair.query_instruction == pair.match_instruction else "other task"
            panels[2 * group, column].set_title(f"{pair['query']}\n→ {pair.candidate}", fontsize=8)
            panels[2 * group + 1, column].set_xlabel(f"{same}\np = {pair.posterior:.2g}", fontsize=8)
        panels[2 * group, 0].set_ylabel(f"{chosen}:\nquery", fontsize=8)
        panels[2 * group + 1, 0].set_ylabel("best match", fontsize=8)
    return figure, drawn
