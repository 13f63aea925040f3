"""What the third fault changes: belief tokens that held what the next chunk is to predict, beside those that do not.

The fault stands in the protocol ("Belief tokens that held labels"). The rules that carry tokens are compared, with it
and without, with themselves, with SFT, which carries none, and with one another, in the same scenes with the same
training seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from ptrlib.report import results
from ptrlib.report.charts import corruption_label, difference_chart, method_label
from ptrlib.report.claim import truth_auroc
from ptrlib.report.verdicts import answer, in_points, scope

COMPARED = {"tabletop_claim": "tabletop_belief", "tabletop_hard": "tabletop_belief_hard"}  # with it -> without
KINDS = ("none", "combined")
WITHOUT = ", tokens of what is over"
RULES = ("sft_belief", "ptr_alpha0", "ptr_detached", "ptr", "random")  # that carry belief tokens
QUESTIONS = (  # method, baseline, where the method does better, where worse
    *((f"{name}{WITHOUT}", name, "more often", "less often") for name in RULES),
    (f"ptr{WITHOUT}", "sft", "more often", "less often"),
    (f"sft_belief{WITHOUT}", "sft", "tokens help", "tokens cost success"),
    (f"ptr{WITHOUT}", f"sft_belief{WITHOUT}", "losses and weights help", "losses and weights cost success"),
    (f"ptr{WITHOUT}", f"ptr_alpha0{WITHOUT}", "weights help", "weights cost success"),
    (f"ptr_detached{WITHOUT}", "sft", "more often", "less often"),
    (f"ptr_detached{WITHOUT}", f"sft_belief{WITHOUT}", "weights help", "weights cost success"),
    (f"ptr{WITHOUT}", f"ptr_detached{WITHOUT}", "the scorer's gradient helps", "the scorer's gradient costs success"),
    (f"ptr{WITHOUT}", f"random{WITHOUT}", "it is what the weights say", "shuffled ones do better"))


def is_stored(comparison: str) -> bool:
    """Whether the runs with the fault and those without are all there."""
    return results.is_stored(comparison) and results.is_stored(COMPARED[comparison])


def episodes_of(comparison: str) -> pd.DataFrame:
    """The episodes of a comparison, and those of its rules without the fault under names of their own."""
    without = results.episodes_frame(results.runs_of(COMPARED[comparison]))
    return pd.concat([results.episodes_frame(results.runs_of(comparison)),
                      without.assign(method=without.method.astype(str) + WITHOUT)], ignore_index=True)


def table(comparison: str) -> pd.DataFrame:
    """A row per kind of data and question, as text: data, question, number, answer."""
    rows = [*_contrasts(episodes_of(comparison)), *_scores(comparison)]
    return pd.DataFrame(rows, columns=["data", "question", "number", "answer"])


def _contrasts(episodes: pd.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    there = set(zip(episodes.method.astype(str), episodes.corruption.astype(str), strict=True))
    for kind in KINDS:
        for method, baseline, more, less in QUESTIONS:
            terms = {(method, kind): 1.0, (baseline, kind): -1.0}
            if set(terms) <= there:
                gain, where = results.compare(episodes, terms), scope(results.alike(episodes, terms))
                yield (corruption_label(kind), f"{_label(method)} minus {_label(baseline)}", in_points(gain),
                       answer(gain.low, gain.high, more + where, less + where))


def _scores(comparison: str) -> Iterator[tuple[str, str, str, str]]:
    for words, name in (("as first run", comparison), ("tokens of what is over", COMPARED[comparison])):
        ptr = [run for run in results.runs_of(name)
               if run.setting.method == "ptr" and run.setting.config.data.corruption == "combined"]
        told = truth_auroc(results.last_weights_frame(ptr), "ptr")
        if told is not None:
            yield (corruption_label("combined"), f"Does PTR's score tell corrupted chunks, {words}?",
                   f"AUROC {told.text(digits=3)}",
                   answer(told.low - 0.5, told.high - 0.5, "yes", "no, the other way round"))


def _label(method: str) -> str:
    name = method.removesuffix(WITHOUT)
    return method_label(name) + (WITHOUT if name != method else "")


def chart(comparison: str) -> tuple[Figure, pd.DataFrame]:
    """Success minus SFT's (points) of every rule that carries belief tokens, as first run and without the fault."""
    episodes, rows = episodes_of(comparison), []
    there = set(zip(episodes.method.astype(str), episodes.corruption.astype(str), strict=True))
    series: Mapping[str, str] = {f"{kind}{suffix}": f"{corruption_label(kind)}, {words}" for kind in KINDS
                                 for suffix, words in (("", "as first run"), (WITHOUT, "tokens of what is over"))}
    for method in RULES:
        for kind in KINDS:
            for suffix in ("", WITHOUT):
                terms = {(f"{method}{suffix}", kind): 1.0, ("sft", kind): -1.0}
                if {(f"{method}{WITHOUT}", kind), *terms} <= there:
                    gain = results.compare(episodes, terms)
                    rows.append({"method": method, "corruption": f"{kind}{suffix}", "estimate": gain.estimate,
                                 "low": gain.low, "high": gain.high})
    return difference_chart(pd.DataFrame(rows), "success minus SFT's (points), 95 % interval", series)


def sentence(comparison: str) -> str:
    """Markdown: what PTR comes to against SFT without the fault; nothing where those runs are not all stored."""
    if comparison not in COMPARED or not is_stored(comparison):
        return ""
    episodes, parts = episodes_of(comparison), []
    for kind in KINDS:
        first, without = (results.compare(episodes, {(name, kind): 1.0, ("sft", kind): -1.0})
                          for name in ("ptr", f"ptr{WITHOUT}"))
        told = answer(without.low, without.high, "PTR is ahead", "PTR is behind", "which is better cannot be told")
        parts.append(f"with {corruption_label(kind)} PTR without it is {in_points(without)} from SFT (as first run "
                     f"{first.text(100, sign=True)}): **{told}**")
    return (f"Belief tokens of the runs of `{comparison}` held recorded steps that the next chunk was to predict; "
            f"{'; '.join(parts)} (the page of corruptions has the rest).")
