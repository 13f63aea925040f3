"""What no post-training at all is worth: the start policy, left as it is, in the scenes that the methods are judged in.

Its runs have no steps (``experiments/*_start.yaml``). Whether a method beats another and whether it beats leaving the
policy alone are two questions; this module answers the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ptrlib.report import results
from ptrlib.report.charts import corruption_label, method_label
from ptrlib.report.results import training_seeds
from ptrlib.report.statistics import Interval, crossed_bootstrap, wilson_interval
from ptrlib.report.verdicts import answer

# Comparison -> its start policy.
STARTS = {"tabletop_claim": "tabletop_start", "tabletop_corruption": "tabletop_start",
          "tabletop_hard": "tabletop_hard_start", "libero_corruption": "libero_start",
          "robocasa_corruption": "robocasa_start", "robocasa_precise": "robocasa_start",
          "robocasa_passing_precise": "robocasa_passing_precise_start"}
METHODS = ("sft", "ptr", "oracle", "crossfit_every_wide")


def episodes_of(manifest: str) -> pd.DataFrame:
    """The episodes of the policy that a manifest's methods start from, in the scenes of its methods; none where that
    policy was not run there (or the manifest is not one of STARTS, such as a narrowed one)."""
    name = STARTS.get(str(manifest))
    return results.episodes_frame(results.runs_of(name)) if name and results.is_stored(name) else pd.DataFrame()


def rate(manifest: str) -> Interval | None:
    """Success of that policy, with Wilson's interval."""
    episodes = episodes_of(manifest)
    return wilson_interval(int(episodes.success.sum()), len(episodes)) if len(episodes) else None


def gain(episodes: pd.DataFrame, start: pd.DataFrame, method: str, corruption: str) -> Interval:
    """Success of ``method`` minus the start policy's, paired by scene; every training seed is set against the same
    episodes of the start, so that seeds and scenes are drawn crosswise."""
    mine = episodes[(episodes.method == method) & (episodes.corruption == corruption)]
    left = [start.assign(method="start", corruption=corruption, training_seed=seed)
            for seed in mine.training_seed.unique()]
    both = pd.concat([mine.astype({"method": str, "corruption": str, "task": str}),
                      *(part.astype({"task": str}) for part in left)], ignore_index=True)
    return crossed_bootstrap(results.paired_values(both, {(method, corruption): 1.0, ("start", corruption): -1.0}))


def in_words(gain: Interval, seeds: int) -> str:
    """:func:`gain` in points, with the numbers of scenes and of training runs behind it."""
    return (f"{gain.text(100, sign=True)} points over {gain.count // seeds} scenes and {seeds} training "
            f"run{'s' if seeds > 1 else ''}")


def table(manifest: str, episodes: pd.DataFrame, methods: Sequence[str] = METHODS) -> pd.DataFrame:
    """A row per kind of data and method of ``episodes``: what post-training adds to the start policy, as text."""
    start, rows = episodes_of(manifest), []
    if start.empty:
        return pd.DataFrame()
    for corruption in ("none", "combined"):
        for method in methods:
            if ((episodes.method == method) & (episodes.corruption == corruption)).any():
                added, seeds = gain(episodes, start, method, corruption), training_seeds(episodes)[method, corruption]
                rows.append({"data": corruption_label(corruption), "post-trained by": method_label(method),
                             "minus the start policy’s success": in_words(added, seeds),
                             "does post-training help?": answer(added.low, added.high, "yes", "no, it costs success")})
    return pd.DataFrame(rows)


def sentence(manifest: str, episodes: pd.DataFrame) -> str:
    """Markdown: how often the start policy succeeds, and what plain training on clean data does to that; nothing where
    it was not run."""
    start, alone = episodes_of(manifest), rate(manifest)
    if alone is None:
        return ""
    text = (f"**Left as it is, without any post-training, the start policy succeeds in {alone.text(100)} % of these "
            f"{alone.count} scenes.**")
    if ((episodes.method == "sft") & (episodes.corruption == "none")).any():
        added = gain(episodes, start, "sft", "none")
        told = answer(added.low, added.high, "post-training helps here, and methods differ in how much",
                      "post-training on these demonstrations costs success, and methods differ in how much",
                      "whether post-training helps at all cannot be told")
        seeds = training_seeds(episodes)["sft", "none"]
        text += f" SFT on clean data differs from that by {in_words(added, seeds)}: {told}."
    return text
