"""What the third fault changed: runs whose belief tokens held what the next chunk is to predict, beside those without.

The fault stands in the protocol ("Belief tokens that held labels"). The rules that carry tokens are compared, as first
run and without it, with themselves, with SFT, which carries none, and with one another, in the same scenes with the
same training seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from ptrlib import runs
from ptrlib.config import override, touched
from ptrlib.report import results
from ptrlib.report.charts import corruption_label, difference_chart, method_label
from ptrlib.report.claim import truth_auroc
from ptrlib.report.mended import MADE_AGAIN
from ptrlib.report.results import StoredRun
from ptrlib.report.verdicts import answer, asked, in_points
from ptrlib.runs import Setting

FAULT = "data.belief_foresight"
# A comparison -> the manifest (one of MADE_AGAIN) of its first runs. On LIBERO and with everybody's demonstrations of
# RoboCasa's tasks three faults were mended at once.
COMPARED = {"tabletop_claim": "tabletop_foresight", "tabletop_hard": "tabletop_foresight",
            "libero_corruption": "libero_foresight", "robocasa_precise": "robocasa_foresight",
            "robocasa_corruption": "robocasa_everybody_foresight"}
KINDS = ("none", "combined")
FIRST = ", as first run"
RULES = ("sft_belief", "ptr_alpha0", "ptr_detached", "ptr", "random")  # that carry belief tokens
QUESTIONS = (  # method, baseline, where the method does better, where worse
    ("ptr", "sft", "more often", "less often"),
    ("sft_belief", "sft", "tokens help", "tokens cost success"),
    ("ptr", "sft_belief", "losses and weights help", "losses and weights cost success"),
    ("ptr", "ptr_alpha0", "weights help", "weights cost success"),
    ("ptr_detached", "sft", "more often", "less often"),
    ("ptr_detached", "sft_belief", "weights help", "weights cost success"),
    ("ptr", "ptr_detached", "the scorer's gradient helps", "the scorer's gradient costs success"),
    ("ptr", "random", "it is what the weights say", "shuffled ones do better"))


def is_stored(comparison: str) -> bool:
    """Whether the runs of a comparison, which have not the fault, and those first made are all there."""
    return results.is_stored(comparison) and all((run.folder / "done").is_file() for run in first_runs(comparison))


def first_runs(comparison: str) -> list[StoredRun]:
    """The runs of a comparison's rules with belief tokens as they were first made, with the fault; training seeds that
    came later have none."""
    first = COMPARED[comparison]
    made = {setting.folder_name for setting in runs.load_manifest(results.manifest_path(first)).settings}
    again = [_as_first_run(setting, MADE_AGAIN[first])
             for setting in runs.load_manifest(results.manifest_path(comparison)).settings
             if FAULT in touched(setting.config) and not setting.config.data.belief_foresight]
    return [run for run in again if run.name in made]


def _as_first_run(setting: Setting, faults: Sequence[str]) -> StoredRun:
    first = Setting(setting.method + FIRST, override(setting.config, dict.fromkeys(faults, True)))
    return StoredRun(first, runs.RUNS / first.folder_name)


def runs_behind(comparison: str) -> list[StoredRun]:
    """Every run of a comparison, and the first ones of its rules with belief tokens."""
    return [*results.runs_of(comparison), *first_runs(comparison)]


def table(comparison: str) -> pd.DataFrame:
    """A row per kind of data and question, as text: data, question, number, answer."""
    stored = runs_behind(comparison)
    rows = [*asked(results.episodes_frame(stored), QUESTIONS, KINDS, _label), *_scores(stored)]
    return pd.DataFrame(rows, columns=["data", "question", "number", "answer"])


def _cells(episodes: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(episodes.method.astype(str), episodes.corruption.astype(str), strict=True))


def _scores(stored: list[StoredRun]) -> Iterator[tuple[str, str, str, str]]:
    for name, words in ((f"ptr{FIRST}", "as first run"), ("ptr", "without the fault")):
        told = truth_auroc(results.last_weights_frame([run for run in stored if run.setting.method == name and
                                                       run.setting.config.data.corruption == "combined"]), name)
        if told is not None:
            yield (corruption_label("combined"), f"Does PTR's score tell corrupted chunks, {words}?",
                   f"AUROC {told.text(digits=3)}",
                   answer(told.low - 0.5, told.high - 0.5, "yes", "no, the other way round"))


def _label(method: str) -> str:
    name = method.removesuffix(FIRST)
    return method_label(name) + (FIRST if name != method else "")


def chart(comparison: str) -> tuple[Figure, pd.DataFrame]:
    """Success minus SFT's (points) of every rule that carries belief tokens, as first run and without the fault."""
    episodes, rows = results.episodes_frame(runs_behind(comparison)), []
    there = _cells(episodes)
    series: Mapping[str, str] = {f"{kind}{suffix}": f"{corruption_label(kind)}{words}" for kind in KINDS
                                 for suffix, words in ((FIRST, FIRST), ("", ", without the fault"))}
    for method in RULES:
        for kind in KINDS:
            for suffix in (FIRST, ""):
                terms = {(f"{method}{suffix}", kind): 1.0, ("sft", kind): -1.0}
                if set(terms) <= there:
                    gain = results.compare(episodes, terms)
                    rows.append({"method": method, "corruption": f"{kind}{suffix}", "estimate": gain.estimate,
                                 "low": gain.low, "high": gain.high})
    return difference_chart(pd.DataFrame(rows), "success minus SFT's (points), 95 % interval", series)


def sentence(comparison: str) -> str:
    """Markdown: what PTR came to against SFT with the fault, and comes to without."""
    episodes, parts = results.episodes_frame(runs_behind(comparison)), []
    for kind in KINDS:
        first, without = (results.compare(episodes, {(name, kind): 1.0, ("sft", kind): -1.0})
                          for name in (f"ptr{FIRST}", "ptr"))
        told = answer(without.low, without.high, "PTR is ahead", "PTR is behind", "which is better cannot be told")
        parts.append(f"with {corruption_label(kind)} PTR is {in_points(without)}, from SFT (as first run "
                     f"{first.text(100, sign=True)}): **{told}**")
    return f"Without the fault, {'; '.join(parts)}."
