"""Where does the paper's rule begin to work? PTR against SFT with one thing moved at a time.

A manifest of this page has the methods ``ptr`` and ``sft``, which stand for the defaults, and methods named
``ptr@KEY=VALUE`` and ``sft@KEY=VALUE``, with KEY one of ``MOVED``. The value is read off the configuration.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import RunConfig
from ptrlib.report.charts import grouped_chart
from ptrlib.report.claim import truth_auroc
from ptrlib.report.dynamics import END, sharpened
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import (
    StoredRun,
    alike,
    compare,
    episodes_frame,
    last_weights_frame,
    metrics_frame,
    provenance_frame,
)
from ptrlib.report.statistics import SHARE, Interval, mean_over_runs, wilson_interval
from ptrlib.report.verdicts import answer, in_points, scope

# What is moved, in the manifest's words: where the configuration has it, and a value in words.
MOVED = {"demonstrations": ("data.episodes_per_task", "{:g} demonstrations a task"),
         "steps": ("ptr.optimization.steps", "{:g} steps"),
         "negatives": ("ptr.queue_negatives", "{:g} negatives from the queue"),
         "offset": ("data.offset", "Δ = {:g}"),
         "clip": ("gradient_clip", "gradients clipped at {:g}"),
         "width": ("network.width", "width {:g}"),
         "targets": ("network.target_pixels", "targets of {:g} pixels"),
         "everything": ("data.episodes_per_task", "everything larger at once")}
DEFAULTS = "the defaults"
RULE, BASELINE = "ptr", "sft"
CONTROLLED = (  # method, baseline, question, the answers where the method does better and worse
    ("ptr", "sft", "PTR minus SFT", "PTR is ahead", "PTR is behind"),
    ("sft_belief", "sft", "SFT+Belief minus SFT", "tokens help", "tokens cost success"),
    ("ptr", "sft_belief", "PTR minus SFT+Belief", "losses and weights help", "losses and weights cost success"),
    ("ptr", "random", "PTR minus its weights shuffled", "it is what the weights say", "shuffled ones do better"))
DRAWN = {"difference": ("PTR minus SFT (points)", 0.0, 100.0), "auroc": ("AUROC of PTR's score", 0.5, 1.0)}


@dataclass(frozen=True)
class Place:
    """One setting: what was moved, to where, and the methods that are compared there."""

    moved: str
    value: float
    method: str
    baseline: str

    @property
    def words(self) -> str:
        """``400 demonstrations a task``, or DEFAULTS."""
        return DEFAULTS if self.method == RULE else MOVED[self.moved][1].format(self.value)


def places(stored: Sequence[StoredRun]) -> list[Place]:
    """Every setting in the order of ``MOVED`` and of its value; the defaults stand among each thing's values.

    SFT with the same change is the baseline where there is one, else SFT with the defaults.

    Raises:
        ValueError: a method whose name moves nothing of ``MOVED``, or no SFT to compare with.
    """
    configs = {run.setting.method: run.setting.config for run in stored}
    moved = {name: _moved(name) for name in configs if "@" in name}
    found = []
    for key in MOVED:
        changed = [name for name, of_name in moved.items() if of_name == key and name.startswith(f"{RULE}@")]
        for name in [*changed, *([RULE] if changed and RULE in configs else [])]:
            own = name.replace(RULE, BASELINE, 1)
            baseline = own if own in configs else BASELINE
            if baseline not in configs:
                raise ValueError(f"there is no '{own}' and no '{BASELINE}' to compare '{name}' with; add one to the "
                                 "manifest's methods")
            found.append(Place(key, float(attrgetter(MOVED[key][0])(configs[name])), name, baseline))
    return sorted(found, key=lambda place: (list(MOVED).index(place.moved), place.value))


def _moved(name: str) -> str:
    key = name.partition("@")[2].partition("=")[0]
    if key not in MOVED:
        raise ValueError(f"method '{name}' moves '{key}'; name it {RULE}@KEY=VALUE or {BASELINE}@KEY=VALUE with KEY "
                         f"one of {', '.join(MOVED)}")
    return key


def measure(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """A row per setting and ``quantity``: moved, value, method, baseline, words, estimate, low, high, count.

    ``sft`` is SFT's success, ``difference`` PTR's minus SFT's on the same scenes (a proportion), ``change`` how much
    more that is than with the defaults, each over the training seeds that all it compares have; ``auroc`` the chance
    that PTR's score puts an untouched training chunk above a corrupted one, of those with a consequence; ``accuracy``
    the share of chunks identified over the last tenth of training, ``candidates`` |Y| there (from T = log p(0) +
    log|Y|), ``confident`` the share of runs whose controller ever found the scorer so (Section 4.5) and lowered tau.
    """
    episodes, weights, metrics = episodes_frame(stored), last_weights_frame(stored), metrics_frame(stored)
    rows = []
    for place in places(stored):
        measured = dict(_measured(place, episodes, weights, metrics))
        rows += [{**vars(place), "words": place.words, "quantity": name, **vars(interval)}
                 for name, interval in measured.items()]
    return pd.DataFrame(rows)


def _measured(place: Place, episodes: pd.DataFrame, weights: pd.DataFrame, metrics: pd.DataFrame
              ) -> Iterator[tuple[str, Interval]]:
    (corruption,) = episodes[episodes.method == place.method].corruption.unique()
    of_sft = episodes[episodes.method == place.baseline].success
    yield "sft", wilson_interval(int(of_sft.sum()), len(of_sft))
    terms = Counter({(place.method, corruption): 1.0, (place.baseline, corruption): -1.0})
    yield "difference", compare(episodes, terms)
    if place.method != RULE and {RULE, BASELINE} <= set(episodes.method):
        terms.subtract({(RULE, corruption): 1.0, (BASELINE, corruption): -1.0})
        yield "change", compare(episodes, {cell: sign for cell, sign in terms.items() if sign})
    told = truth_auroc(weights, place.method)
    if told is not None:
        yield "auroc", told
    mine = metrics[metrics.method == place.method]
    late = mine[mine.step >= END * mine.groupby("run").step.transform("max")].groupby("run")
    yield "accuracy", mean_over_runs(late.nce_acc.mean(), within=SHARE)
    confident = sharpened(mine)
    yield "confident", Interval(float(confident.mean()), math.nan, math.nan, len(confident))
    yield "candidates", mean_over_runs((late.nce_adv.mean() + late.loss_id.mean()).map(np.exp))


def chart(measured: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A row per setting, the defaults first and black: PTR minus SFT and, where there is a truth to tell, the AUROC of
    PTR's score (0.5 is guessing)."""
    settings = pd.concat([part for _, part in _settings(measured)])
    drawn = settings[settings.quantity.isin(DRAWN)].reset_index(drop=True)
    scale = drawn.quantity.map({name: factor for name, (_, _, factor) in DRAWN.items()})
    drawn = drawn.assign(row=drawn.words.map({words: row for row, words in enumerate(drawn.words.unique())}),
                         **{name: scale * drawn[name] for name in ("estimate", "low", "high")})
    rows = drawn.drop_duplicates("row")
    quantities = [name for name in DRAWN if name in set(drawn.quantity)]
    figure, panels = plt.subplots(1, len(quantities), figsize=(5.8, 0.24 * len(rows) + 0.8), squeeze=False, sharey=True)
    for axes, quantity in zip(panels[0], quantities, strict=True):
        label, reference, _ = DRAWN[quantity]
        part = drawn[drawn.quantity == quantity]
        for line, colour in ((part[part.method == RULE], "black"), (part[part.method != RULE], "blue")):
            errors = np.stack([line.estimate - line.low, line.high - line.estimate]).clip(0)
            axes.errorbar(line.estimate, line.row, xerr=errors, fmt="o", color=COLOURS[colour], markersize=4, capsize=2,
                          linewidth=1.2)
        axes.axvline(reference, color=COLOURS["grey"], linewidth=0.8)
        for above, below in zip(rows.itertuples(), rows[1:].itertuples(), strict=False):
            if above.moved != below.moved or above.method == RULE:
                axes.axhline(below.row - 0.5, color=COLOURS["grey"], linewidth=0.4, alpha=0.6)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=label, yticks=rows.row, yticklabels=rows.words, ylim=(len(rows) - 0.5, -0.5))
    return figure, drawn


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """:func:`measure` as text, a row per setting; the defaults once, first."""
    rows = []
    for words, part in _settings(measured):
        cells = {row.quantity: Interval(row.estimate, row.low, row.high, int(row.count)) for row in part.itertuples()}
        told = cells.get("auroc")
        rows.append({
            "setting": words, "against": "SFT, the same" if part.baseline.iloc[0] != BASELINE or words == DEFAULTS
            else "SFT, the defaults",
            "runs": cells["accuracy"].count, "pairs of scene and seed": cells["difference"].count,
            "SFT (%)": cells["sft"].text(100), "PTR − SFT (points)": cells["difference"].text(100, sign=True),
            "more than with the defaults": cells["change"].text(100, sign=True) if "change" in cells else "–",
            "chunks": told.count if told else "–", "AUROC": told.text(digits=2) if told else "–",
            "identified (%)": cells["accuracy"].text(100), "of candidates": f"{cells['candidates'].estimate:.0f}",
            "scorer ever confident": _runs_confident(part)})
    return pd.DataFrame(rows)


def verdict(measured: pd.DataFrame, episodes: pd.DataFrame) -> str:
    """Markdown: where PTR is ahead of SFT and where behind, then where its score tells corrupted chunks."""
    settings = dict(_settings(measured))
    success = _told(settings, "difference", 0.0)
    lines = [(f"PTR is **ahead of SFT at {_listed(success['above'])}**" if success["above"] else
              f"**In none of the {len(settings)} settings tried is PTR ahead of SFT**") + scope(episodes)
             + (f"; it is behind {_where(success['below'], settings)}" if success["below"] else "")
             + (f"; it cannot be told at {_listed(success['neither'])}" if success["neither"] else "") + "."]
    change = _told(settings, "change", 0.0)
    if change["above"] or change["below"]:
        lines.append("Against SFT it does " + " and ".join(
            f"**{word} than with the defaults at {_listed(change[side])}**"
            for side, word in (("above", "better"), ("below", "worse")) if change[side]) + ".")
    score = _told(settings, "auroc", 0.5)
    if any(score.values()):
        lines.append((f"Its score **tells corrupted chunks at {_listed(score['above'])}**" if score["above"] else
                      "**In no setting does its score tell corrupted chunks**")
                     + (f"; it is the other way round at {_listed(score['below'])}" if score["below"] else "")
                     + (f"; it cannot be told {_where(score['neither'], settings)}" if score["neither"] else "") + ".")
    return " ".join(lines)


def where_confident(measured: pd.DataFrame) -> str:
    """Markdown: the settings in which the controller ever found the scorer confident, and in how many runs."""
    sure = [f"{words} (in {_runs_confident(part)})" for words, part in _settings(measured)
            if not _runs_confident(part).startswith("0 ")]
    return ("By the controller’s own thresholds (Section 4.5) PTR’s scorer is ever confident "
            + (f"only at {_listed(sure)}." if sure else "in no run."))


def _settings(measured: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each setting's words and rows: the defaults first and once, then as in ``MOVED``."""
    order = sorted(dict.fromkeys(measured.words), key=lambda words: words != DEFAULTS)
    for words in order:
        yield words, measured[measured.words == words].drop_duplicates("quantity")


def _told(settings: dict[str, pd.DataFrame], quantity: str, reference: float) -> dict[str, list[str]]:
    """The settings whose interval of ``quantity`` lies above, below or on both sides of ``reference``; those with one
    training run say so where others have more."""
    told: dict[str, list[str]] = {"above": [], "below": [], "neither": []}
    runs = {words: part[part.quantity == "accuracy"]["count"].max() for words, part in settings.items()}
    for words, part in settings.items():
        alone = " (one training run)" if runs[words] == 1 < max(runs.values()) else ""
        for row in part[part.quantity == quantity].itertuples():
            side = answer(row.low - reference, row.high - reference, "above", "below", "neither")
            told[side].append(words + alone)
    return told


def _runs_confident(part: pd.DataFrame) -> str:
    """``4 of 5 runs``: in how many of a setting's the scorer was ever confident."""
    row = part[part.quantity == "confident"].iloc[0]
    return f"{row['estimate'] * row['count']:.0f} of {row['count']} runs"


def _where(words: Sequence[str], settings: Mapping[str, pd.DataFrame]) -> str:
    """``at A and B``, or how many of ``settings`` where they are most of them."""
    alone = any("(one training run)" in word for word in words)
    few = alone or len(words) <= len(settings) / 2
    return f"at {_listed(words)}" if few else f"in {len(words)} of {len(settings)}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def controls(stored: Sequence[StoredRun]) -> pd.DataFrame:
    """CONTROLLED in every setting of ``stored``, whose methods are named like those of :func:`places`, controls too: a
    row per setting and question with ``words``, ``question``, ``number``, ``answer``, the difference as a proportion
    and ``method`` and ``baseline`` without their setting."""
    episodes, rows = episodes_frame(stored), []
    there = set(episodes.method.astype(str))
    (corruption,) = episodes.corruption.unique()
    for suffix, words in _suffixes(stored).items():
        for method, baseline, question, more, less in CONTROLLED:
            if {method + suffix, baseline + suffix} <= there:
                terms = {(method + suffix, corruption): 1.0, (baseline + suffix, corruption): -1.0}
                gain, where = compare(episodes, terms), scope(alike(episodes, terms))
                rows.append({"words": words, "question": question, "number": in_points(gain),
                             "answer": answer(gain.low, gain.high, more + where, less + where),
                             "method": method, "baseline": baseline, **vars(gain)})
    return pd.DataFrame(rows)


def _suffixes(stored: Sequence[StoredRun]) -> dict[str, str]:
    """What follows a method's name in each setting, and the setting in words; the defaults first."""
    found = {"": DEFAULTS}
    for run in stored:
        name = run.setting.method
        if "@" in name:
            key, form = MOVED[_moved(name)]
            found["@" + name.partition("@")[2]] = form.format(attrgetter(key)(run.setting.config))
    return found


def controls_chart(measured: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """:func:`controls` as points with intervals: a panel per question, a row per setting."""
    drawn = measured.assign(kind=measured.question, group=measured.words,
                            **{name: 100 * measured[name] for name in ("estimate", "low", "high")})
    return grouped_chart(drawn[["kind", "group", "method", "estimate", "low", "high"]],
                         "difference of success (points), 95 % interval", reference=0.0)


def introduction(stored: Sequence[StoredRun]) -> str:
    """Markdown: how many runs the section shows, what they cost and what the defaults are."""
    config: RunConfig = next((run for run in stored if run.setting.method == RULE), stored[0]).setting.config
    defaults = ", ".join(MOVED[moved][1].format(attrgetter(MOVED[moved][0])(config))
                         for moved in dict.fromkeys(place.moved for place in places(stored)) if moved != "everything")
    seeds = {len({run.setting.config.seed for run in stored if run.setting.method == method})
             for method in {run.setting.method for run in stored}}
    number = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(max(seeds))
    minutes = provenance_frame(stored).training_seconds / 60
    words = (f"{len(stored)} runs, {number} training seed{'s' if max(seeds) > 1 else ''}, {minutes.min():.0f} to "
             f"{minutes.max():.0f} min of training each. The defaults: {defaults}.")
    return words + (" **With one training seed, intervals cover the choice of scenes only.**" if 1 in seeds else "")


def as_first_run(first: Sequence[StoredRun], again: Sequence[StoredRun], method: str) -> str:
    """A sentence of Markdown: PTR minus SFT in a setting whose ``first`` runs had another start policy and two faults
    of ours, beside the runs made ``again``, of which ``method`` is PTR's."""
    before, after = _gain(first, RULE), _gain(again, method)
    words = next(place.words for place in places(again) if place.method == method)
    return (f"{words[0].upper()}{words[1:]} was first run from another start policy, whose weights were not kept, and "
            f"with the second and third of [our faults](#our-faults): PTR was {before.text(100, sign=True)} points "
            f"from SFT there and is {after.text(100, sign=True)} here.")


def _gain(stored: Sequence[StoredRun], method: str) -> Interval:
    episodes, baseline = episodes_frame(stored), method.replace(RULE, BASELINE, 1)
    (corruption,) = episodes[episodes.method == method].corruption.unique()
    return compare(episodes, {(method, corruption): 1.0, (baseline, corruption): -1.0})
