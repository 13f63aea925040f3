"""The corruption page: success, what a corruption costs, who gets the weight, and what the score sees.

Run folders come in through :func:`read`; everything else makes frames of frames. The page asks the same of each
world and never averages over them. Proportions are in [0, 1] unless a docstring says points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ptrlib import runs
from ptrlib.config import RunConfig
from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.report import charts, kitchen, published, results, statistics, verdicts
from ptrlib.report.charts import corruption_label, method_label
from ptrlib.report.cost import WORKERS
from ptrlib.report.results import StoredRun
from ptrlib.report.statistics import Interval

KINDS = (*CORRUPTIONS, "combined")
EXECUTED = "executed_noise"  # the second reading of action noise: data and a manifest of its own
EXECUTED_MANIFEST, SHARED_MANIFEST = "tabletop_executed", "tabletop_corruption"  # the first extends the second
EXECUTED_DATA = "tabletop_executed"  # the folder whose demonstrations were executed with noise
MATTERS = {"data.noise_sigma": ("action_noise", "combined"), "data.label_fraction": ("label_noise", "combined")}
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
SFT_LOSS = "action loss of SFT"
LESS, MORE, UNKNOWN = "PTR loses less", "PTR loses more", "cannot be told"


@dataclass(frozen=True)
class Study:
    """Finished runs of one world and their tables; ``weights`` are those at the end of training.

    ``corruption`` in the tables is the kind of data: ``none``, one of ``KINDS``, or ``EXECUTED``.
    """

    stored: list[StoredRun]
    episodes: pd.DataFrame
    weights: pd.DataFrame
    provenance: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        return charts.in_order(self.episodes.method.unique())

    @property
    def corruptions(self) -> list[str]:
        """The kinds of corrupted data that are there, in the book's order."""
        present = set(self.episodes.corruption.unique())
        return [kind for kind in (*KINDS, EXECUTED) if kind in present]

    @property
    def focus(self) -> str:
        """The kind of data whose chunks are looked at closely: all corruptions together, or the first there is."""
        return next((kind for kind in ("combined", *self.corruptions) if kind in self.corruptions), "none")

    @property
    def config(self) -> RunConfig:
        return self.stored[0].setting.config

    @property
    def world(self) -> str:
        return results.world_of(self.stored)

    @property
    def names(self) -> list[str]:
        return [run.name for run in self.stored]


def wanted(manifest: str, *, corruption: str | Sequence[str] | None = None,
           methods: str | Sequence[str] | None = None, seeds: int | Sequence[int] | None = None,
           changes: Mapping[str, Any] | None = None, folder: Path = results.NARROWED) -> list[Path]:
    """Manifests for clean data and the chosen corruptions, in which a change touches only the runs it matters to.

    Args:
        corruption: one or several of ``KINDS`` and ``EXECUTED``; None for all that ``manifest`` has. Executed noise
            comes from a manifest of its own, on Tabletop only.
        changes: dotted keys, None for the manifest's own value. Those in ``MATTERS`` reach only the data that they
            change: clean runs stay the stored ones.

    Raises:
        ValueError: an unknown corruption, or a change that would reach no data.
    """
    methods, chosen = _several(methods), _several(corruption)
    for kind in chosen or []:
        if kind not in (*KINDS, EXECUTED):
            raise ValueError(f"corruption '{kind}' is unknown; choose among {', '.join((*KINDS, EXECUTED))}")
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    common = {key: value for key, value in given.items() if key not in MATTERS}
    special = {key: value for key, value in given.items() if key in MATTERS}
    for key in special:
        if chosen is not None and not set(chosen) & set(MATTERS[key]):
            raise ValueError(f"{key} changes nothing about {' and '.join(map(corruption_label, chosen))}; ask for "
                             f"corruption={MATTERS[key][0]}, or leave it out")
    if chosen is None and not special:
        return [results.narrow(manifest, seeds=seeds, methods=methods, changes=common, folder=folder)]
    known = _kinds_of(manifest)
    kinds = ["none", *(kind for kind in (chosen or known) if kind in KINDS)]
    paths = [results.narrow(manifest, seeds=seeds, methods=methods, folder=folder, changes={
        "data.corruption": [kind], **common,
        **{key: value for key, value in special.items() if kind in MATTERS[key]}}) for kind in kinds]
    return paths + (executed(methods=methods, seeds=seeds, changes=common, folder=folder)
                    if EXECUTED in (chosen or []) else [])


def executed(*, methods: str | Sequence[str] | None = None, seeds: int | Sequence[int] | None = None,
             changes: Mapping[str, Any] | None = None, folder: Path = results.NARROWED) -> list[Path]:
    """The manifest of Tabletop's executed noise with what it has of ``methods``; none if that is nothing."""
    methods = _several(methods)
    known = runs.read_manifest(results.manifest_path(EXECUTED_MANIFEST))["methods"]
    kept = [method for method in known if methods is None or method in methods]
    return [results.narrow(EXECUTED_MANIFEST, seeds=seeds, methods=kept if methods is not None else None,
                           changes=changes, folder=folder)] if kept else []


def has_second(manifest: str, corruption: str | Sequence[str] | None) -> bool:
    """Whether the page shows executed noise without being asked for it: with all else that Tabletop has."""
    return corruption is None and manifest == SHARED_MANIFEST


def _several(names: str | Sequence[str] | None) -> list[str] | None:
    return None if names is None else [names] if isinstance(names, str) else list(names)


def _kinds_of(manifest: str) -> list[str]:
    path = results.manifest_path(manifest)
    grid = runs.read_manifest(path).get("grid", {})
    if "data.corruption" not in grid:
        raise ValueError(f"{path} has no grid over data.corruption; name a manifest that has one, such as "
                         "tabletop_corruption")
    return [kind for kind in grid["data.corruption"] if kind != "none"]


def read(manifests: Sequence[Path | str], root: Path = runs.RUNS) -> Study:
    """The finished runs of ``manifests`` and their tables.

    Raises:
        ValueError: a run is missing, or no setting is left; the sentence names it and what mends it.
    """
    stored = [run for manifest in manifests for run in results.runs_of(manifest, root)]
    if not stored:
        raise ValueError(f"no setting is left of {', '.join(map(str, manifests))}; ask for more methods or seeds")
    second = {run.name for run in stored if Path(run.setting.config.data.path).parent.name == EXECUTED_DATA}
    # an oracle filter weighs all it sees alike and has no score: its snapshots are left unread
    weighed = [run for run in stored if run.setting.config.credit != "oracle"] or stored
    return Study(stored, *(_named(table, second) for table in (
        results.episodes_frame(stored), results.last_weights_frame(weighed), results.provenance_frame(stored))))


def _named(table: pd.DataFrame, second: set[str]) -> pd.DataFrame:
    """``corruption`` tells the two readings of action noise apart."""
    return table.assign(corruption=table.corruption.astype("str").mask(table.run.isin(second), EXECUTED))


def introduction(study: Study) -> str:
    """Markdown: which runs a page shows, what they cost, how strong the corruption is, and what intervals leave out."""
    config, table = study.config, study.provenance
    kinds, seeds = table.corruption.nunique(), results.training_seeds(study.episodes)
    behind_each = results.span(study.episodes.groupby(["method", "corruption"], observed=True).size())
    limit = f"{config.evaluation.max_steps} control steps" if config.evaluation.max_steps else "the task’s time limit"
    hours = (table.training_seconds.sum() + table.evaluation_seconds.sum()) / 3600
    train, evaluate = table.training_seconds.median() / 60, table.evaluation_seconds.median() / 60
    processors = " and ".join(dict.fromkeys(table.processor))
    return (
        f"**{study.world}: {len(study.stored)} runs**, {len(study.methods)} methods on {kinds} kinds of data, "
        f"{results.span(seeds)} training seed{'s' if seeds.max() > 1 else ''}, "
        f"{results.steps_of(study.stored)} each; "
        f"**{behind_each} evaluation episodes** behind each rate, each within {limit}. Making "
        f"them took {hours:.1f} hours of wall time, summed over runs, on {processors} ({train:.1f} min to train a run, "
        f"{60 * evaluate:.0f} s to evaluate it). "
        f"{_strengths(study)}"
        + ("**With one training seed per method, no interval below says what another training run would give; it "
           "covers the choice of scenes only.**" if seeds.max() == 1 else
           f"Intervals of differences resample the {results.span(seeds)} training seeds too; with so few, that part of "
           "them is rough. Wilson intervals leave it out."
           + (" **A comparison uses the training seeds that its sides have in common; where that is one, its interval "
              "covers the choice of scenes only.**" if seeds.min() == 1 else "")))


def _strengths(study: Study) -> str:
    """How strong each corruption is, beside the paper's, read from the configurations of the runs."""
    data = {run.setting.config.data.corruption: run.setting.config.data for run in study.stored
            if run.setting.config.data.noise_fraction > 0}
    paper, told = published.statement, []
    if found := data.get("combined", data.get("action_noise")):
        sigma = found.noise_sigma
        told.append(f"action noise of σ = {sigma:g} of a full action on {found.noise_fraction:.0%} of the episodes "
                    f"(the paper: {paper('noise_sigma'):g}; scaled by {sigma / paper('noise_sigma'):.3g})")
        if found.noise_bias:
            told.append(f"in each such episode a constant of standard deviation {found.noise_bias:g} (the paper: none)")
    if found := data.get("combined", data.get("truncation")):
        low, high = found.truncation_keep
        told.append(f"{found.truncation_fraction:.0%} cut to {low:.0%}–{high:.0%} of their length (the paper: "
                    f"{paper('truncation_fraction'):.0%})")
    if found := data.get("combined", data.get("label_noise")):
        told.append(f"wrong instructions on {found.label_fraction:.0%} (the paper: {paper('label_fraction'):.0%})")
    return f"Corruption: {'; '.join(told)}. " if told else ""


# What the chart functions take: columns kind (a panel), group (a row of it), method, estimate, low, high.

def success_groups(study: Study) -> pd.DataFrame:
    """Success (percent) with its Wilson interval, by kind of data and method."""
    rates = results.success_rates(study.episodes).rename(columns={"success": "estimate"})
    return _groups(_percent(rates), study.world)


def difference_groups(study: Study, baseline: str = "sft") -> pd.DataFrame:
    """Paired difference of success to ``baseline`` (points), by kind of data and method, over the training seeds that
    both have."""
    cells = _cells(study.episodes)
    pairs = [(method, kind) for method, kind in cells if method != baseline and (baseline, kind) in cells]
    table = results.intervals(pairs, ("method", "corruption"),
                              lambda method, kind: results.difference(study.episodes, method, baseline, kind))
    return _groups(_percent(table), study.world) if pairs else table


def drop_groups(study: Study) -> pd.DataFrame:
    """What each kind of corrupted data costs each method (points), ours and, in panels of their own, the paper's.

    The paper prints no intervals, so its ends are missing values.
    """
    pairs = [(method, kind) for method, kind in _cells(study.episodes)
             if kind != "none" and _comparable(study, method, kind)]
    table = results.intervals(pairs, ("method", "corruption"), lambda method, kind: _drop(study, method, kind))
    ours = _groups(_percent(table), f"{study.world}: ours") if pairs else table
    return pd.concat([ours, *(_published_groups(study, benchmark) for benchmark in ("LIBERO", "RoboCasa"))],
                     ignore_index=True)


def _published_groups(study: Study, benchmark: str) -> pd.DataFrame:
    table = _published_drops().query("benchmark == @benchmark")
    names = {method_label(method): method for method in charts.METHODS}
    frame = pd.DataFrame({"method": table.method.map(names), "corruption": table.kind, "estimate": table.drop_points,
                          "low": float("nan"), "high": float("nan")})
    frame = frame[frame.corruption.isin(study.corruptions)]
    return _groups(frame, f"{benchmark}: the paper") if len(frame) else frame


def _published_drops() -> pd.DataFrame:
    """Figure 2's drops with ``kind``, the corruption as ours is named."""
    table = published.read("figure2_drops")
    return table.assign(kind=table.corruption.str.lower().str.replace(" ", "_"))


def rate_table(study: Study) -> pd.DataFrame:
    """Success (percent) as text, a row per method and a column per kind of data; the paper's rows below ours.

    The paper prints one rate for clean data and the drop of each corruption: its other cells are their difference.
    """
    kinds = [kind for kind in ("none", *study.corruptions) if kind in study.episodes.corruption.values]
    rates = results.success_rates(study.episodes).set_index(["method", "corruption"])
    rows = [{"source": study.world, "method": method_label(method), **{
        corruption_label(kind): _rate(rates.loc[(method, kind)]) if (method, kind) in rates.index else ""
        for kind in kinds}} for method in study.methods]
    drops = _published_drops().set_index(["benchmark", "method", "kind"]).drop_points
    for benchmark in ("LIBERO", "RoboCasa"):
        clean = published.success(published.SIMULATION)[benchmark].Avg
        rows += [{"source": f"paper, {benchmark}", "method": method, **{
            corruption_label(kind): _after(clean[method], drops, (benchmark, method, kind)) for kind in kinds}}
            for method in clean.index]
    return pd.DataFrame(rows)


def _rate(cell: pd.Series) -> str:
    return f"{100 * cell.success:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def _after(clean: float, drops: pd.Series, key: tuple[str, str, str]) -> str:
    if key[2] == "none":
        return f"{clean:.1f}"
    return f"{clean - drops[key]:.1f}" if key in drops.index else ""


def drop_table(study: Study) -> pd.DataFrame:
    """Does PTR lose less than SFT? A row per kind of corrupted data: both drops (points), the paper's, the answer.

    ``estimate``, ``low`` and ``high`` (proportions) are SFT's drop minus PTR's.
    """
    drops = _published_drops().pivot(index="kind", columns=["benchmark", "method"], values="drop_points")
    rows, cells = [], _cells(study.episodes)
    for kind in study.corruptions:
        if not {("sft", kind), ("ptr", kind), ("sft", "none"), ("ptr", "none")} <= set(cells):
            continue
        saved = results.compare(study.episodes, {("sft", "none"): 1.0, ("sft", kind): -1.0,
                                                  ("ptr", "none"): -1.0, ("ptr", kind): 1.0})
        lost, lost_by_ptr = _drop(study, "sft", kind), _drop(study, "ptr", kind)
        rows.append({
            "data": corruption_label(kind), "episodes each": saved.count,
            "SFT loses": lost.text(100), "PTR loses": lost_by_ptr.text(100),
            "SFT’s drop − PTR’s": saved.text(100, sign=True),
            "answer": verdicts.answer(saved.low, saved.high, LESS, MORE, UNKNOWN),
            "harms SFT": verdicts.answer(lost.low, lost.high, "yes", "no, it helps", UNKNOWN),
            **{f"paper, {benchmark}: SFT, PTR": _two(drops, kind, benchmark) for benchmark in ("LIBERO", "RoboCasa")},
            "estimate": saved.estimate, "low": saved.low, "high": saved.high})
    return pd.DataFrame(rows)


def _two(drops: pd.DataFrame, kind: str, benchmark: str) -> str:
    if kind not in drops.index or drops.loc[kind, benchmark].isna().any():
        return ""
    return f"{drops.loc[kind, (benchmark, 'SFT')]:.1f}, {drops.loc[kind, (benchmark, 'PTR')]:.1f}"


def verdict_line(study: Study) -> str:
    """The page's verdict for one world in one line of Markdown: where does PTR lose less than SFT?"""
    table = drop_table(study)
    if table.empty:
        return (f"**{study.world}:** there are no runs of both SFT and PTR on clean and on corrupted data, so nothing "
                "can be said about what each loses.")
    told = {"holds": LESS, "does not hold (PTR loses more)": MORE, "cannot be told": UNKNOWN}
    parts = [f"**{words}** with {_listed(table.data[table.answer == answer])}"
             for words, answer in told.items() if (table.answer == answer).any()]
    harmless = table.data[table["harms SFT"] != "yes"]
    note = (f" That the corruption costs SFT anything at all cannot be told with {_listed(harmless)}."
            if len(harmless) else "")
    compared = [cell for cell in _cells(study.episodes) if cell[0] in ("sft", "ptr")]
    return (f"**{study.world}:** “PTR loses less to corruption than SFT” {', '.join(parts)}"
            f"{verdicts.scope(results.alike(study.episodes, compared))}.{note}")


def answers(study: Study) -> pd.DataFrame:
    """Every question on success that the runs can answer: a row per question and kind of data, question by question."""
    tables = [table.assign(data=corruption_label(kind)) for kind in study.corruptions
              if len(table := verdicts.success_verdicts(study.episodes, kind))]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    order = {question: place for place, question in enumerate(dict.fromkeys(table.question))}
    return table.sort_values("question", key=lambda names: names.map(order), kind="stable", ignore_index=True)[
        ["question", "data", "number", "answer"]]


def weighting(study: Study) -> list[str]:
    """The methods whose chunks do not all weigh the same at the end of training."""
    spread = study.weights.groupby("method").weight.nunique()
    return charts.in_order(spread[spread > 1].index)


def scoring(study: Study) -> list[str]:
    """The methods that score chunks by what they are; a shuffled control scores and then forgets."""
    scored = study.weights.groupby("method").score.count()
    return [method for method in charts.in_order(scored[scored > 0].index) if not method.endswith(("random", "alike"))]


def weight_groups(study: Study, kind: str) -> pd.DataFrame:
    """Weights of training chunks relative to their run's mean (Eq 27 divides by the sum), with intervals.

    Panels: whether a consequence was recorded, which corruption alone hit the chunk, the demonstrator's style and the
    phase of the episode, the last two on chunks that no corruption touched.
    """
    chunks = study.weights.query("corruption == @kind and split == 'train'").copy()
    chunks["relative"] = chunks.weight / chunks.groupby("run").weight.transform("mean")
    chunks["quarter"] = (4 * chunks.phase).astype(int).clip(0, 3)
    rows = []
    for method in weighting(study):
        for panel, group, part in _parts(chunks[chunks.method == method]):
            if len(part):
                rows.append({"kind": panel, "group": group, "method": method,
                             **vars(statistics.mean_by_episode(part.relative, part.episode, part.run))})
    table = pd.DataFrame(rows)
    return table.sort_values(["kind", "group"], key=_position, kind="stable") if rows else table


def _parts(everything: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    mine = everything[everything.valid]
    clean = mine[~mine.corrupted]
    yield "consequence", "recorded", mine
    yield "consequence", "not recorded", everything[~everything.valid]
    yield "corruption", "untouched", clean
    for hit in CORRUPTIONS:
        yield "corruption", corruption_label(hit), mine[results.hit_alone(mine, hit)]
    for name, part in clean.groupby("operator"):
        yield "operator style", str(name), part
    for quarter, part in clean.groupby("quarter"):
        yield "phase of the episode", QUARTERS[int(quarter)], part


def _position(names: pd.Series) -> pd.Series:
    """Panels and their rows in reading order; styles keep the alphabet's."""
    order = ["consequence", "corruption", "operator style", "phase of the episode", "recorded", "not recorded",
             "untouched", *(corruption_label(kind) for kind in CORRUPTIONS), *QUARTERS]
    places = {name: place for place, name in enumerate(order)}
    return names.map(lambda name: (places.get(name, len(order)), name))


def weight_lines(study: Study, kind: str) -> str:
    """Markdown: how far each weighting is from plain training, and what share of it corrupted chunks get."""
    chunks = study.weights.query("corruption == @kind and split == 'train'")
    lines = []
    for method in weighting(study):
        mine = [part for _, part in chunks[chunks.method == method].groupby("run")]
        if not mine:
            continue
        kl = statistics.mean_over_runs([statistics.divergence(part.weight) for part in mine],
                                       within=statistics.POSITIVE)
        share, touched, weighed = (
            statistics.mean_over_runs([measure(part) for part in mine], within=statistics.SHARE) for measure in (
                lambda part: statistics.effective_sample_size(part.weight) / len(part),
                _corrupted, _weight_of_corrupted))
        scored = [part[part.valid] for part in mine]
        among, given = (statistics.mean_over_runs([measure(part) for part in scored], within=statistics.SHARE)
                        for measure in (_corrupted, _weight_of_corrupted))
        lines.append(f"- **{method_label(method)}**: effective sample size {share.text(100)} % of the chunks, KL(q‖p) "
                     f"{kl.text(digits=3)} nats; corrupted chunks are {touched.text(100)} % of the data and get "
                     f"{weighed.text(100)} % of the weight; of those with a recorded consequence alone they are "
                     f"{among.text(100)} % and get {given.text(100)} %.")
    return "\n".join(lines) if lines else "None of the methods shown weights its chunks."


def _corrupted(chunks: pd.DataFrame) -> float:
    return float(chunks.corrupted.mean())


def _weight_of_corrupted(chunks: pd.DataFrame) -> float:
    return statistics.share_of_weight(chunks.weight, chunks.corrupted)


def auroc_groups(study: Study) -> pd.DataFrame:
    """AUROC of each score, and of SFT's action loss turned round, for untouched chunks above corrupted ones.

    A panel for runs that met one corruption and one for runs that met all three.
    """
    tables = []
    for kind in study.corruptions:
        chunks = study.weights[study.weights.corruption == kind]
        found = [verdicts.score_auroc(chunks, method) for method in scoring(study)]
        found.append(verdicts.score_auroc(chunks.assign(minus_loss=-chunks.loss), "sft", "minus_loss")
                     .assign(method=SFT_LOSS))
        panel = "trained on all three at once" if kind == "combined" else "trained on one kind of corrupted data"
        for table in found:
            if len(table):
                hit = table.corruption.map(corruption_label)
                group = hit if kind == "combined" else corruption_label(kind)
                tables.append(table.assign(kind=panel, group=group, data=kind))
    return pd.concat(tables, ignore_index=True).sort_values("kind", ascending=False, kind="stable") if tables else \
        pd.DataFrame()


def auroc_table(groups: pd.DataFrame) -> pd.DataFrame:
    """:func:`auroc_groups` as text, a row per panel, kind of data and corruption, a column per score."""
    cells = groups.assign(cell=[f"{row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in groups.itertuples()],
                          score=groups.method.map(method_label), hit=groups.corruption.map(corruption_label),
                          data=groups.data.map(corruption_label))
    table = cells.pivot(index=["kind", "data", "hit"], columns="score", values="cell").fillna("–")
    rows = list(dict.fromkeys(zip(cells.kind, cells.data, cells.hit, strict=True)))
    return table.loc[rows, list(dict.fromkeys(cells.score))].rename_axis(None, axis=1).rename_axis(
        ["trained", "data", "chunks with, alone"]).reset_index().drop(columns="trained")


def auroc_note(groups: pd.DataFrame, method: str = "ptr") -> str:
    """Markdown: for which corruptions the score of ``method`` puts untouched chunks above corrupted ones, for which it
    has them the wrong way round, and for which that cannot be told; empty where it was not judged."""
    places: dict[str, list[str]] = {"yes": [], "no, the wrong way round": [], "cannot be told": []}
    for row in groups[groups.method == method].itertuples() if len(groups) else ():
        trained = "" if row.data == row.corruption else f" in {corruption_label(row.data)}"
        found = verdicts.answer(row.low - 0.5, row.high - 0.5, "yes", "no, the wrong way round")
        places[found].append(f"{corruption_label(row.corruption)}{trained} "
                             f"({row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}])")
    told = [f"**{found}** with {', '.join(where)}" for found, where in places.items() if where]
    return (f"Does {method_label(method)}’s score put untouched chunks above corrupted ones? {'; '.join(told)}."
            if told else "")


def truncation_note(study: Study, method: str = "ptr") -> str:
    """Markdown: the AUROC of truncated chunks against those untouched ones that the same cuts would leave; empty where
    ``method`` scored no truncated ones.

    What a truncated episode still holds is what its recording holds, so that only the choice of chunks differs.
    """
    data, told = study.config.data, []
    for kind in study.corruptions:
        mine = study.weights[(study.weights.method == method) & (study.weights.corruption == kind)
                             & (study.weights.split == "train")]
        alone = mine.valid & results.hit_alone(mine, "truncation")
        both = pd.concat([mine[alone], as_if_cut(mine[~mine.corrupted], data.truncation_keep, data.offset)])
        both = both.dropna(subset=["score"])
        both = both[both.groupby("run", observed=True).corrupted.transform("nunique") == 2]
        if len(both):
            found = statistics.auroc(both.score, ~both.corrupted, both.episode, both.run)
            words = verdicts.answer(found.low - 0.5, found.high - 0.5, "told apart", "the wrong way round")
            told.append(f"in {corruption_label(kind)} data {found.text(digits=3)} (**{words}**)")
    return ("A chunk of a truncated episode that still has a recorded consequence is, up to that consequence, what the "
            "untouched recording holds, so a score of consequences has nothing to tell it by, and its AUROC above "
            "shows which chunks a cut leaves: early ones, and more of long episodes. Those hit by truncation alone, "
            f"against untouched chunks that such a cut would leave: {'; '.join(told)}." if told else "")


def as_if_cut(chunks: pd.DataFrame, keep: tuple[float, float], offset: int, seed: int = 0) -> pd.DataFrame:
    """Those of ``chunks`` of untouched episodes that would have a recorded consequence, ``offset`` steps on, had each
    episode been cut where truncation cuts: after a share of it drawn from ``keep``. Episodes whose length their chunks
    do not tell, because all begin at its first step, are left out."""
    steps = (chunks.start / chunks.phase.where(chunks.phase > 0)).groupby(chunks.episode, observed=True).max().dropna()
    kept = (steps.sort_index() * np.random.default_rng(seed).uniform(*keep, len(steps))).round()
    left = chunks.episode.astype(str).map(kept.rename(index=str)).astype(float)
    return chunks[chunks.start + offset <= left.fillna(-1)]


def held_out_groups(study: Study) -> pd.DataFrame:
    """Mean score (nats) of untouched chunks: of episodes trained on, and of held-out ones; a panel per kind of data."""
    chunks = study.weights.query("valid and not corrupted")
    rows = []
    for kind in ("none", *study.corruptions):
        for method in scoring(study):
            for split, group in (("train", "training episodes"), ("held_out", "held-out episodes")):
                part = chunks[(chunks.corruption == kind) & (chunks.method == method) & (chunks.split == split)]
                if len(part):
                    rows.append({"kind": corruption_label(kind), "group": group, "method": method,
                                 **vars(statistics.mean_by_episode(part.score, part.episode, part.run))})
    return pd.DataFrame(rows)


def reading_text(study: Study) -> str:
    """Markdown: how strong the noise is and how the two readings of action noise compare, scene by scene."""
    cells, lines = set(_cells(study.episodes)), []
    for method in study.methods:
        if {(method, "action_noise"), (method, EXECUTED)} <= cells:
            gap = results.compare(study.episodes, {(method, EXECUTED): 1.0, (method, "action_noise"): -1.0})
            told = verdicts.answer(gap.low, gap.high, "noise on the labels does more harm",
                                   "executed noise does more harm", "which does more harm cannot be told")
            lines.append(f"- **{method_label(method)}**: success after executed noise minus success after noise on the "
                         f"labels {gap.text(100, sign=True)} points: {told}{verdicts.scope(study.episodes)}.")
    if EXECUTED not in study.corruptions:
        return (f"Runs with executed noise are not shown here; `ptrlib run experiments/{EXECUTED_MANIFEST}.yaml` makes "
                "them, and this page then shows them as a further row of every figure.")
    return "\n".join(lines) if lines else "No method shown was trained on both."


def verdict(study: Study) -> str:
    """Markdown: the verdict line of one world, PTR against SFT under combined corruption, a warning if one is due."""
    in_kitchen = study.config.evaluation.world == "robocasa"
    benchmark = kitchen.benchmark_of(study.episodes) if in_kitchen else "LIBERO"
    parts = [verdict_line(study)]
    if "combined" in study.corruptions:
        parts.append(verdicts.headline(study.episodes, "combined", benchmark=benchmark))
    parts.append(made_alike(study))
    return "\n\n".join(filter(None, [*parts, verdicts.floor_warning(study.episodes)]))


def made_alike(study: Study, method: str = "ptr", baseline: str = "sft") -> str:
    """Markdown: how far ``method`` is from ``baseline`` over the training seeds whose runs of both were made on one
    kind of processor from one recording of the demonstrations; empty where those are all seeds or none."""
    told = []
    for kind in ("none", *study.corruptions):
        seeds = results.made_alike(study.provenance, method, baseline, kind)
        if seeds:
            part = study.episodes[study.episodes.training_seed.isin(seeds)]
            gain = results.difference(part, method, baseline, kind)
            words = verdicts.answer(gain.low, gain.high, f"{method_label(method)} is ahead",
                                    f"{method_label(method)} is behind", "which is better cannot be told")
            told.append(f"with {corruption_label(kind)} (seed{'s' if len(seeds) > 1 else ''} "
                        f"{_listed(pd.Series(seeds).astype(str))}) {verdicts.in_points(gain)}: **{words}**")
    return (f"{method_label(method)} minus {method_label(baseline)} over those training seeds alone whose runs of both "
            "were made on one kind of processor from one recording of the demonstrations, so that nothing differs but "
            f"the rule: {'; '.join(told)}." if told else "")


def ranked(study: Study) -> list[StoredRun]:
    """PTR's runs on the data that the page looks at closely."""
    names = set(study.episodes.run[study.episodes.corruption == study.focus])
    return [run for run in study.stored if run.setting.method == "ptr" and run.name in names]


def missing_cost(manifests: Sequence[Path], study: Study, root: Path = runs.RUNS) -> str:
    """Markdown: how many runs ``manifests`` lack and how long on two cores, going by the runs of ``study``."""
    settings = [setting for path in manifests for setting in runs.load_manifest(path).settings]
    absent = sum(not runs.is_done(setting.config, root) for setting in settings)
    minutes = (study.provenance.training_seconds.median() + study.provenance.evaluation_seconds.median()) / 60
    return (f"{absent} of its {len(settings)} runs are not stored yet: about {absent * minutes / WORKERS:.0f} minutes "
            f"with {WORKERS} processes on a machine like that of the runs above ({minutes:.1f} minutes a run)")


def _cells(episodes: pd.DataFrame) -> list[tuple[str, str]]:
    """(method, kind of data) for which there are episodes, in the order they come."""
    return list(episodes[["method", "corruption"]].drop_duplicates().itertuples(index=False, name=None))


def _baseline(study: Study, method: str) -> str:
    """Whose clean runs a drop is taken from: an oracle filter on clean data is SFT."""
    return "sft" if method == "oracle" else method


def _comparable(study: Study, method: str, kind: str) -> bool:
    return {(method, kind), (_baseline(study, method), "none")} <= set(_cells(study.episodes))


def _drop(study: Study, method: str, kind: str) -> Interval:
    return results.compare(study.episodes, {(_baseline(study, method), "none"): 1.0, (method, kind): -1.0})


def _percent(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{name: 100 * table[name] for name in ("estimate", "low", "high")})


def _groups(table: pd.DataFrame, panel: str) -> pd.DataFrame:
    """``table`` for a chart: one panel, a row per kind of data in the book's order."""
    places = {kind: place for place, kind in enumerate(charts.CORRUPTIONS)}
    table = table.sort_values("corruption", key=lambda kinds: kinds.map(places), kind="stable")
    return table.assign(kind=panel, group=table.corruption.map(corruption_label))


def _listed(names: pd.Series) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else str(last)
