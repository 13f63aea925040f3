"""What the stored runs say about the paper's claim, in words that the numbers choose.

A row states a question, the number that answers it, its interval and the answer. Nothing is answered
beyond its interval: one that holds zero (or a half, for AUROC) is answered with "cannot be told".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.report import published
from ptrlib.report.charts import corruption_label, method_label
from ptrlib.report.results import alike, compare, hit_alone, last_snapshot
from ptrlib.report.statistics import Interval, auroc

COMBINED_GAINS = {"LIBERO": ("gain_combined_libero", "four suites"),
                  "RoboCasa": ("gain_combined_robocasa", "24 tasks")}  # Section 5.3
RANKING_FLOOR = 0.6  # success of SFT on clean data below which a ranking of methods says little


@dataclass(frozen=True)
class Verdict:
    """One question and its answer; ``number`` is formatted, the rest of the fields are raw."""

    question: str
    number: str
    answer: str
    estimate: float
    low: float
    high: float


def success_verdicts(episodes: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """The questions on success that the methods present can answer, for runs on ``corruption`` data."""
    return pd.DataFrame([asdict(verdict) for verdict in _success(episodes, corruption)])


def headline(episodes: pd.DataFrame, corruption: str, *, benchmark: str | None = "LIBERO") -> str:
    """A paragraph (Markdown): PTR against SFT and, where they were run, against SFT+Belief, which has neither its
    weights nor its auxiliary losses, and against α = 0, which has the losses alone.

    ``benchmark`` is the one of ``COMBINED_GAINS`` whose printed gain stands beside it; None where these rates rank
    nothing, so that they cannot speak about the paper's gain either."""
    cells = {method: episodes[(episodes.method == method) & (episodes.corruption == corruption)]
             for method in ("ptr", "sft", "sft_belief")}
    if cells["ptr"].empty or cells["sft"].empty:
        return "PTR and SFT are not both among the methods shown, so there is nothing to conclude."
    gain, where = _compared(episodes, {("ptr", corruption): 1.0, ("sft", corruption): -1.0})
    told = answer(gain.low, gain.high, f"PTR succeeds more often{where}", f"SFT succeeds more often{where}",
                  "which of the two is better cannot be told from these runs")
    rates = {method: f"{100 * cell.success.mean():.1f} %" for method, cell in cells.items()}
    text = (f"With {corruption_label(corruption)} PTR succeeds in {rates['ptr']} and SFT in {rates['sft']} of "
            f"{len(cells['ptr'])} episodes each, a difference of {gain.text(100, sign=True)} points: **{told}**."
            + (_beside_the_paper(gain, benchmark) if benchmark else "") +
            f" These runs can only tell differences of more than about {50 * (gain.high - gain.low):.0f} points.")
    if not cells["sft_belief"].empty:
        alone, where = _compared(episodes, {("ptr", corruption): 1.0, ("sft_belief", corruption): -1.0})
        told = answer(alone.low, alone.high, f"losses and weights together help{where}",
                      f"losses and weights together hurt{where}", "what losses and weights do together cannot be told")
        paired = alike(episodes, [("ptr", corruption), ("sft_belief", corruption)])
        fewer = paired[paired.method == "ptr"].success
        there = "" if len(fewer) == len(cells["ptr"]) else \
            f", PTR {100 * fewer.mean():.1f} % in the same {len(fewer)} episodes"
        text += (f" Against SFT+Belief ({rates['sft_belief']}{there}), which has the same belief tokens and "
                 f"neither auxiliary losses nor weights, the difference is {alone.text(100, sign=True)} points: "
                 f"**{told}**.")
    return text + _weights_alone(episodes, corruption)


def _beside_the_paper(gain: Interval, benchmark: str) -> str:
    statement, average = COMBINED_GAINS[benchmark]
    printed = published.statement(statement)
    place = "holds" if 100 * gain.low <= printed <= 100 * gain.high else "excludes"
    return (f" The paper's difference of +{printed:g} points is {benchmark}'s average over {average} with combined "
            f"corruption; this interval {place} it.")


def _weights_alone(episodes: pd.DataFrame, corruption: str) -> str:
    """A sentence on PTR minus its auxiliary losses without weights; nothing where either was not run."""
    terms = {("ptr", corruption): 1.0, ("ptr_alpha0", corruption): -1.0}
    if not set(terms) <= set(zip(episodes.method, episodes.corruption, strict=True)):
        return ""
    gain, where = _compared(episodes, terms)
    told = answer(gain.low, gain.high, f"they help{where}", f"they hurt{where}", "what they do cannot be told")
    return f" The weights alone (PTR against α = 0, its losses without weights): {in_points(gain)}, **{told}**."


def floor_warning(episodes: pd.DataFrame) -> str:
    """A sentence (Markdown) where SFT on clean data stays below ``RANKING_FLOOR``; nothing where it does not."""
    clean = episodes[(episodes.method == "sft") & (episodes.corruption == "none")]
    if clean.empty or clean.success.mean() >= RANKING_FLOOR:
        return ""
    return (f"**A first look, not a ranking:** SFT on clean data reaches {100 * clean.success.mean():.1f} % of "
            f"{len(clean)} episodes, below the {RANKING_FLOOR:.0%} that this book wants to see, in any world, "
            "before it takes differences between methods for more than hints.")


def score_verdicts(weights: pd.DataFrame, method: str) -> pd.DataFrame:
    """Does the score of ``method`` put clean chunks above chunks of each corruption?"""
    verdicts = []
    for row in score_auroc(weights, method).to_dict("records"):
        interval = Interval(row["estimate"], row["low"], row["high"], row["count"])
        verdicts.append(Verdict(
            f"{method_label(method)}: do clean chunks score above those with "
            f"{corruption_label(row['corruption'])}?",
            f"AUROC {interval.text(digits=3)}",
            answer(interval.low - 0.5, interval.high - 0.5, "yes", "no, below"),
            interval.estimate, interval.low, interval.high))
    return pd.DataFrame([asdict(verdict) for verdict in verdicts])


def score_auroc(weights: pd.DataFrame, method: str, score: str = "score", *, within_task: bool = False) -> pd.DataFrame:
    """AUROC of ``score`` (higher: cleaner) of the last snapshot, training chunks that have a target.

    A row per corruption present: the chunks that it alone hit against those that none touched; ``within_task`` compares
    only chunks of the same true task, as corruption leaves short tasks fewer chunks that have a target.
    """
    chunks = last_snapshot(weights).dropna(subset=[score])
    chunks = chunks[(chunks.method == method) & (chunks.split == "train") & chunks.valid]
    rows = []
    for corruption in CORRUPTIONS:
        part = chunks[~chunks.corrupted | hit_alone(chunks, corruption)]
        part = part[part.groupby("run").corrupted.transform("nunique") == 2]
        if len(part):
            interval = auroc(part[score], ~part.corrupted, part.episode, part.run,
                             stratum=part.task if within_task else None)
            rows.append({"corruption": corruption, "method": method, **vars(interval)})
    return pd.DataFrame(rows)


def _success(episodes: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    present = set(zip(episodes.method, episodes.corruption, strict=True))

    def pair(method: str, baseline: str) -> Mapping[tuple[str, str], float]:
        return {(method, corruption): 1.0, (baseline, corruption): -1.0}

    drop = {("ptr", corruption): 1.0, ("ptr", "none"): -1.0, ("sft", corruption): -1.0, ("sft", "none"): 1.0}
    questions = (
        ("Does PTR succeed more often than SFT?", pair("ptr", "sft"), "yes", "no, less often"),
        ("Does it with the same belief tokens in both? (PTR against SFT+Belief)",
         pair("ptr", "sft_belief"), "yes", "no, less often"),
        ("Do belief tokens alone help? (SFT+Belief against SFT)", pair("sft_belief", "sft"), "yes", "no, they hurt"),
        ("Does PTR lose less to the corruption than SFT does?", drop, "yes", "no, it loses more"),
        ("Is it what the weights say, and not merely that there are weights? (PTR against shuffled weights)",
         pair("ptr", "random"), "yes", "no, shuffled weights do better"),
        ("Is it the weights, and not the auxiliary losses? (PTR against PTR with α = 0)",
         pair("ptr", "ptr_alpha0"), "yes", "no, without weights it does better"),
        ("Do the scorer's gradients into the policy help? (PTR against the detached scorer)",
         pair("ptr", "ptr_detached"), "yes", "no, they hurt"),
        ("Is there anything to gain by filtering at all? (oracle filter against SFT)",
         pair("oracle", "sft"), "yes", "no, filtering hurts"))
    for question, terms, more, less in questions:
        if set(terms) <= present:
            interval, where = _compared(episodes, terms)
            yield Verdict(question, in_points(interval),
                          answer(interval.low, interval.high, more + where, less + where),
                          interval.estimate, interval.low, interval.high)


def _compared(episodes: pd.DataFrame, terms: Mapping[tuple[str, str], float]) -> tuple[Interval, str]:
    """The contrast over the training seeds that all its cells have, and what an answer on it holds for."""
    return compare(episodes, terms), scope(alike(episodes, terms))


def asked(episodes: pd.DataFrame, questions: Sequence[tuple[str, str, str, str]], kinds: Sequence[str],
          label: Callable[[str], str]) -> Iterator[tuple[str, str, str, str]]:
    """The kind of data, the question, the number and the answer, as text, of each of ``questions`` that ``episodes``
    can answer: a method, what it is taken against, and what is said where it does better and where worse."""
    there = set(zip(episodes.method.astype(str), episodes.corruption.astype(str), strict=True))
    for kind in kinds:
        for method, baseline, more, less in questions:
            terms = {(method, kind): 1.0, (baseline, kind): -1.0}
            if set(terms) <= there:
                gain, where = _compared(episodes, terms)
                yield (corruption_label(kind), f"{label(method)} minus {label(baseline)}", in_points(gain),
                       answer(gain.low, gain.high, more + where, less + where))


def in_points(interval: Interval) -> str:
    """``+2.0 [-12.5, +15.0] points, n = 200``: a paired difference of success and how many episodes each side has."""
    return f"{interval.text(100, sign=True)} points, n = {interval.count:.0f}"


def scope(episodes: pd.DataFrame) -> str:
    """What an answer on success holds for: with one seed an interval covers scenes and not training, and with two
    hardly training."""
    return {1: ", in this one training run of each", 2: ", in these two training runs of each"}.get(
        episodes.training_seed.nunique(), "")


def answer(low: float, high: float, more: str, less: str, neither: str = "cannot be told") -> str:
    """``more`` for an interval above zero, ``less`` for one below; an interval without ends (nan) tells nothing."""
    if low > 0:
        return more
    return less if high < 0 else neither
