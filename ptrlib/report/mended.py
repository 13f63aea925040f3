"""What faults of ours that were found after the runs change: PTR as it was stored beside PTR without them.

The faults stand in the protocol ("Faults found after the runs"); the mended runs are manifests of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

import pandas as pd

from ptrlib.config import touched
from ptrlib.report import results
from ptrlib.report.charts import corruption_label
from ptrlib.report.claim import truth_auroc
from ptrlib.report.results import StoredRun
from ptrlib.report.statistics import SHARE, mean_over_runs
from ptrlib.report.verdicts import answer, in_points, scope

MENDED = {"tabletop_corruption": "tabletop_mended", "libero_corruption": "libero_mended"}  # comparison: mended runs
KIND = "combined"
CHANGE, SHUFFLED = "PTR without the faults minus PTR as stored", "PTR without the faults minus its weights shuffled"
FAULTS = {"data.true_tasks": "PTR's hard negatives knew the true task of mislabelled chunks",
          "data.shift_targets": "a chunk's consequence was shifted like its observation, which gave it away"}
# Beginnings of questions on other pages -> the question that the mended runs answer.
ANSWERED_AGAIN = {"c. Does PTR's score, of chunks it learns from,":
                  "Does its score tell corrupted chunks, without the faults?",
                  "Is it what PTR's weights say": f"{SHUFFLED}, {corruption_label(KIND)}"}
LATE = 0.9  # of training: where accuracy is read


def note(stored: Sequence[StoredRun]) -> str:
    """Markdown: which of the runs shown have which of the faults; nothing where none has."""
    told = []
    for key, words in FAULTS.items():
        having = sum(key in touched(config) and attrgetter(key)(config) for config in (
            run.setting.config for run in stored))
        if having:
            told.append(f"in {having} of the {len(stored)} runs shown here {words} (`{key}: true`)")
    return (f"*Faults found later:* {'; '.join(told)}. What mending changes stands on the page of corruptions, the "
            "details in the protocol." if told else "")


def runs_behind(manifest: str) -> tuple[list[StoredRun], list[StoredRun]]:
    """SFT's, PTR's and its shuffled weights' runs of a comparison with corrupted data, as stored and mended."""
    older, mended = ([run for run in results.runs_of(name) if run.setting.method in methods
                      and run.setting.config.data.corruption == KIND]
                     for name, methods in ((manifest, ("sft", "ptr", "random")), (MENDED[manifest], ("ptr", "random"))))
    return older, mended


def table(manifest: str) -> pd.DataFrame:
    """A row per question: what mending changes in success, in identification and in what the score tells, as text."""
    return pd.DataFrame(list(_answers(*runs_behind(manifest))), columns=["question", "number", "answer"])


def sentence(manifest: str) -> str:
    """Markdown: which answers about PTR's score and weights stand without the faults; nothing if runs are missing."""
    if not (results.is_stored(manifest) and results.is_stored(MENDED[manifest])):
        return ""
    told = table(manifest).set_index("question")
    score = told.loc["Does its score tell corrupted chunks, without the faults?"]
    weights = told.loc[f"{SHUFFLED}, {corruption_label(KIND)}"]
    change = told.loc[f"{CHANGE}, {corruption_label(KIND)}"]
    return ("These runs of PTR have [faults of ours](results/corruption_robustness.ipynb) that were found later: its "
            "hard negatives knew the true task of mislabelled chunks. Without them, does its score tell corrupted "
            f"chunks? {score.number}: **{score.answer}**. Is it what its weights say? {weights.number}: "
            f"**{weights.answer}**. Its success changes by {change.number}: **{change.answer}**.")


def beside(answers: pd.DataFrame, manifest: str) -> pd.DataFrame:
    """``answers`` (question, number, answer) with a row more below each that the mended runs answer too; as they are
    if those runs are not stored."""
    if not (results.is_stored(manifest) and results.is_stored(MENDED[manifest])):
        return answers
    told, rows = table(manifest).set_index("question"), []
    for row in answers.to_dict("records"):
        rows.append(row)
        for begins, question in ANSWERED_AGAIN.items():
            if row["question"].startswith(begins):
                rows.append({"question": "… without the faults found later", **told.loc[question].to_dict()})
    return pd.DataFrame(rows)


def _answers(older: list[StoredRun], mended: list[StoredRun]) -> Iterator[tuple[str, str, str]]:
    episodes = pd.concat([results.episodes_frame(older), _renamed(results.episodes_frame(mended))], ignore_index=True)
    kind = KIND
    for question, method, baseline, more, less in (
            (CHANGE, "ptr, mended", "ptr", "more often", "less often"),
            ("PTR without the faults minus SFT", "ptr, mended", "sft", "more often", "less often"),
            (SHUFFLED, "ptr, mended", "random, mended", "it is what the weights say", "shuffled ones do better")):
        terms = {(method, kind): 1.0, (baseline, kind): -1.0}
        gain, where = results.compare(episodes, terms), scope(results.alike(episodes, terms))
        yield f"{question}, {corruption_label(kind)}", in_points(gain), answer(
            gain.low, gain.high, more + where, less + where)
    for words, runs in (("as stored", older), ("without the faults", mended)):
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
