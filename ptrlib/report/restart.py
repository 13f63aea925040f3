"""Belief tokens that begin anew when the policy acts, as often as in training, beside tokens that recur all episode.

Training lets tokens recur over a segment of a few chunks, acting over the whole episode ("Belief tokens older than
training knows" in the protocol). Both versions are judged in the same scenes with the same training seeds.
"""

from __future__ import annotations

import pandas as pd

from ptrlib.report import results
from ptrlib.report.charts import method_label
from ptrlib.report.results import StoredRun
from ptrlib.report.verdicts import asked

ANEW = ", begun anew"
QUESTIONS = (  # method, baseline, where the method does better, where worse
    ("sft_belief" + ANEW, "sft_belief", "beginning anew helps", "beginning anew costs success"),
    ("ptr" + ANEW, "ptr", "beginning anew helps", "beginning anew costs success"),
    ("sft_belief" + ANEW, "sft", "tokens help", "tokens cost success"),
    ("ptr" + ANEW, "sft", "more often", "less often"),
    ("ptr" + ANEW, "sft_belief" + ANEW, "losses and weights help", "losses and weights cost success"))


def runs_behind(manifest: str, beside: str) -> list[StoredRun]:
    """The runs of ``manifest``, whose tokens begin anew, and those of the same rules and of SFT in ``beside``."""
    rules = {run.setting.method for run in results.runs_of(manifest)}
    return [*results.runs_of(manifest),
            *(run for run in results.runs_of(beside) if run.setting.method in rules | {"sft"})]


def table(manifest: str, beside: str) -> pd.DataFrame:
    """A row per kind of data and question, as text: data, question, number, answer."""
    anew = {run.name for run in results.runs_of(manifest)}
    episodes = results.episodes_frame(runs_behind(manifest, beside))
    method = episodes.method.astype(str)
    episodes = episodes.assign(method=method + episodes.run.isin(anew).map({True: ANEW, False: ""}))
    return pd.DataFrame(asked(episodes, QUESTIONS, ("none", "combined"), _label),
                        columns=["data", "question", "number", "answer"])


def _label(method: str) -> str:
    return method_label(method.removesuffix(ANEW)) + (ANEW if method.endswith(ANEW) else "")
