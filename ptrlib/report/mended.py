"""What faults of ours that were found after the runs change: PTR as it was first run beside PTR without them.

The faults stand in the protocol ("Faults found after the runs"). Where all of a comparison's runs were made again, its
own manifest holds those without the fault and another one (``MADE_AGAIN``) the first; where few were, the other one
holds the mended. :mod:`ptrlib.report.foresight` has more of the third fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

import pandas as pd

from ptrlib.config import override, touched
from ptrlib.report import results
from ptrlib.report.charts import corruption_label, method_label
from ptrlib.report.claim import truth_auroc
from ptrlib.report.results import StoredRun
from ptrlib.report.statistics import SHARE, mean_over_runs
from ptrlib.report.verdicts import answer, in_points, scope
from ptrlib.runs import EXPERIMENTS, RUNS, Setting, is_trained, load_manifest

# Runs with faults that all have one without these, which differs in nothing else.
FIRST_THREE = ("data.shift_targets", "data.true_tasks", "data.belief_foresight")
MADE_AGAIN = {"tabletop_true_tasks": ("data.true_tasks",), "tabletop_foresight": ("data.belief_foresight",),
              "robocasa_foresight": ("data.belief_foresight",), "libero_foresight": FIRST_THREE,
              "robocasa_everybody_foresight": FIRST_THREE,
              "tabletop_padding": ("data.hide_padded_actions",)}
# A comparison that has SFT -> where its PTR and shuffled weights stand with the first two faults, and without these.
COMPARED = {"tabletop_corruption": ("tabletop_true_tasks", "tabletop_foresight"),
            "libero_corruption": ("libero_foresight", "libero_mended")}
KIND = "combined"
CHANGE, SHUFFLED = "PTR without the two minus PTR as first run", "PTR without the two minus its weights shuffled"
FAULTS = {"data.shift_targets": "a chunk's consequence was shifted like its observation, which gave it away",
          "data.true_tasks": "PTR's hard negatives knew the true task of mislabelled chunks",
          "data.belief_foresight": "belief tokens held recorded steps that the next chunk was to predict",
          "data.hide_padded_actions": "hidden padding told the policy how many steps are left"}
COLUMNS = {"data.shift_targets": "1. shifted targets", "data.true_tasks": "2. true tasks",
           "data.belief_foresight": "3. belief tokens", "data.hide_padded_actions": "4. hidden padding"}
LATE = 0.9  # of training: where accuracy is read


def note(stored: Sequence[StoredRun]) -> str:
    """Markdown: which of the runs shown have which of the faults; nothing where none has."""
    told = []
    for key, words in FAULTS.items():
        having = sum(key in touched(config) and attrgetter(key)(config) for config in (
            run.setting.config for run in stored))
        if having:
            told.append(f"in {having} of the {len(stored)} runs shown here {words} (`{key}: true`)")
    return (f"*Faults found later:* {'; '.join(told)}. What mending changes stands on [a page of its own](#our-faults)."
            if told else "")


def having() -> pd.DataFrame:
    """A row per manifest some of whose trained runs have a fault: how many of them, and how many have which."""
    rows = []
    for path in sorted(EXPERIMENTS.glob("*.yaml")):
        configs = [setting.config for setting in load_manifest(path).settings if is_trained(setting.config)]
        counts = {column: sum(key in touched(config) and attrgetter(key)(config) for config in configs)
                  for key, column in COLUMNS.items()}
        if any(counts.values()):
            rows.append({"manifest": path.stem, "runs": len(configs), **counts})
    return pd.DataFrame(rows, columns=["manifest", "runs", *COLUMNS.values()])


def has_both(manifest: str) -> bool:
    """Whether the runs of ``manifest`` (one of ``MADE_AGAIN``) are all there, and those without its faults."""
    return results.is_stored(manifest) and all((run.folder / "done").is_file() for run in _again(manifest))


def _again(manifest: str) -> list[StoredRun]:
    """The runs of ``manifest`` without its faults."""
    without = dict.fromkeys(MADE_AGAIN[manifest], False)
    settings = [Setting(run.setting.method, override(run.setting.config, without))
                for run in results.runs_of(manifest)]
    return [StoredRun(setting, RUNS / setting.folder_name) for setting in settings]


def every_setting(manifest: str) -> pd.DataFrame:
    """A row per setting of ``manifest`` (one of ``MADE_AGAIN``): success (in percent) as first run and without the
    fault, and the change in points with its interval, paired by scene and training seed."""
    first = results.runs_of(manifest)
    pairs = results.episodes_frame(first), results.episodes_frame(_again(manifest))
    rows = []
    for method in dict.fromkeys(run.setting.method for run in first):
        before, after = (episodes[episodes.method == method].assign(corruption=KIND, method=name)
                         for name, episodes in zip(("first", "mended"), pairs, strict=True))
        change = results.contrast(pd.concat([before, after], ignore_index=True),
                                  {("mended", KIND): 1.0, ("first", KIND): -1.0})
        rows.append({"method": _label(method), "n": len(after), "first": 100 * before.success.mean(),
                     "mended": 100 * after.success.mean(), "change": 100 * change.estimate, "low": 100 * change.low,
                     "high": 100 * change.high})
    return pd.DataFrame(rows)


def as_text(settings: pd.DataFrame) -> pd.DataFrame:
    """:func:`every_setting` as a page shows it."""
    change = [f"{row.change:+.1f} [{row.low:.1f}, {row.high:.1f}]" for row in settings.itertuples()]
    first, mended = (settings[column].map("{:.1f}".format) for column in ("first", "mended"))
    return pd.DataFrame({"method": settings.method, "n": settings.n, "as first run (%)": first, "mended (%)": mended,
                         "change (points)": change})


def told_apart(settings: pd.DataFrame) -> str:
    """A sentence: in how many of ``settings`` (:func:`every_setting`) the change can be told."""
    changed = settings[(settings.low > 0) | (settings.high < 0)]
    rises = int((changed.change > 0).sum())
    named = f" (a rise in {rises}, a fall in {len(changed) - rises})" if len(changed) else ""
    return (f"Of the {len(settings)} settings that were made again, success changes by an amount that can be told in "
            f"{len(changed)}{named}; the largest change is {settings.change.abs().max():.1f} points. Were every true "
            f"change zero, {0.05 * len(settings):.1f} of {len(settings)} such intervals would leave it out on average.")


def _label(method: str) -> str:
    """``ptr@beta=2`` as "PTR (beta=2)"."""
    name, _, moved = method.partition("@")
    return method_label(name) + (f" ({corruption_label(moved)})" if moved else "")


def is_stored(manifest: str) -> bool:
    """Whether a comparison's runs are all there, with the faults and without."""
    return all(results.is_stored(name) for name in {manifest, *COMPARED[manifest]})


def runs_behind(manifest: str) -> tuple[list[StoredRun], list[StoredRun]]:
    """PTR's and its shuffled weights' runs of a comparison with corrupted data, first with the faults (and SFT's
    beside them), then without."""
    first, mended = COMPARED[manifest]
    return ([*_of(manifest, ("sft",)), *_of(first, ("ptr", "random"))], _of(mended, ("ptr", "random")))


def _of(manifest: str, methods: Sequence[str]) -> list[StoredRun]:
    return [run for run in results.runs_of(manifest)
            if run.setting.method in methods and run.setting.config.data.corruption == KIND]


def table(manifest: str) -> pd.DataFrame:
    """A row per question: what mending changes in success, in identification and in what the score tells, as text."""
    return pd.DataFrame(list(_answers(*runs_behind(manifest))), columns=["question", "number", "answer"])


def _answers(older: list[StoredRun], mended: list[StoredRun]) -> Iterator[tuple[str, str, str]]:
    episodes = pd.concat([results.episodes_frame(older), _renamed(results.episodes_frame(mended))], ignore_index=True)
    kind = KIND
    for question, method, baseline, more, less in (
            (CHANGE, "ptr, mended", "ptr", "more often", "less often"),
            ("PTR without the two minus SFT", "ptr, mended", "sft", "more often", "less often"),
            ("PTR as first run minus its weights shuffled", "ptr", "random", "it is what the weights say",
             "shuffled ones do better"),
            (SHUFFLED, "ptr, mended", "random, mended", "it is what the weights say", "shuffled ones do better")):
        terms = {(method, kind): 1.0, (baseline, kind): -1.0}
        gain, where = results.compare(episodes, terms), scope(results.alike(episodes, terms))
        yield f"{question}, {corruption_label(kind)}", in_points(gain), answer(
            gain.low, gain.high, more + where, less + where)
    for words, runs in (("as first run", older), ("without the two", mended)):
        ptr = [run for run in runs if run.setting.method == "ptr"]
        metrics = results.metrics_frame(ptr)
        late = metrics[metrics.step >= LATE * metrics.groupby("run").step.transform("max")]
        found = mean_over_runs(late.groupby("run", observed=True).nce_acc.mean(), within=SHARE)
        yield f"Chunks identified late in training, {words}", f"{found.text(100)} %, {found.count} runs", ""
        told = truth_auroc(results.last_weights_frame(ptr), "ptr")
        if told is not None:
            yield (f"Does its score tell corrupted chunks, {words}?", f"AUROC {told.text(digits=3)}",
                   answer(told.low - 0.5, told.high - 0.5, "yes", "no, the other way round"))


def _renamed(episodes: pd.DataFrame) -> pd.DataFrame:
    return episodes.assign(method=episodes.method.astype(str) + ", mended")
