"""The paper's other reading, in which the scorer's losses leave the policy alone, beside the one that the book follows.

Section 4.6 updates "all trainable components jointly" and lists what gradients do not pass, where the context h_t and
the action tokens E_t are not; so PTR's losses train the policy too (``ptr``). The same section says that PTR's "only
interaction with the transformer update is the gradient scaling", and Section 5.5 that α = 0 "recovers SFT+Belief"; both
hold only where the scorer reads h_t and E_t without gradient (``ptr_detached``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from ptrlib.report import results
from ptrlib.report.charts import corruption_label, method_label
from ptrlib.report.verdicts import answer, in_points, scope

DETACHED = "ptr_detached"
KINDS = ("none", "combined")
QUESTIONS = (  # method, baseline, where the method does better, where worse
    (DETACHED, "sft", "more often", "less often"),
    (DETACHED, "sft_belief", "weights help", "weights cost success"),
    ("ptr", DETACHED, "the scorer’s gradient helps", "the scorer’s gradient costs success"))
COLUMNS = ["runs on", "data", "question", "number", "answer"]


def table(manifests: Sequence[str]) -> pd.DataFrame:
    """A row per setting, kind of data and question, as text; manifests whose runs are not stored are left out."""
    return pd.DataFrame([row for name in manifests if results.is_stored(name) for row in _rows(name)], columns=COLUMNS)


def _rows(manifest: str) -> Iterator[tuple[str, str, str, str, str]]:
    stored = results.runs_of(manifest)
    episodes = results.episodes_frame([run for run in stored if run.setting.config.data.corruption in KINDS])
    there = set(zip(episodes.method.astype(str), episodes.corruption.astype(str), strict=True))
    changes = dict.fromkeys(run.setting.method.partition("@")[2] for run in stored
                            if run.setting.method.startswith(DETACHED))
    for change in changes:
        place = results.world_of(stored) + (f", {change.replace('=', ' ')}" if change else "")
        for kind in KINDS:
            for method, baseline, more, less in QUESTIONS:
                one, other = (f"{name}@{change}" if change else name for name in (method, baseline))
                terms = {(one, kind): 1.0, (other, kind): -1.0}
                if set(terms) <= there:
                    gain, where = results.compare(episodes, terms), scope(results.alike(episodes, terms))
                    yield (place, corruption_label(kind), f"{method_label(method)} minus {method_label(baseline)}",
                           in_points(gain), answer(gain.low, gain.high, more + where, less + where))
