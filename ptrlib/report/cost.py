"""What it costs to make a page afresh, computed from the runs it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ptrlib.config import DataConfig, PTRConfig, RunConfig, fingerprint, override
from ptrlib.report.results import StoredRun, provenance_frame

MINUTES = 10.0  # what a page may take at one training seed
WORKERS = 2


def cost(stored: Sequence[StoredRun], page: str, *, arguments: str = "", minutes: float = MINUTES,
         workers: int = WORKERS) -> str:
    """Sentences of Markdown: what a whole training seed of ``page`` takes afresh on ``workers`` cores, the command that
    stays within ``minutes``, with fewer steps where it must, and how many cores would do the whole in that time.

    Args:
        arguments: parameters of the page that the command must repeat.

    A setting takes as long as the quickest stored run of its kind, whatever it learned from: many were made beside
    other work. Training is taken as proportional to its steps; evaluation keeps its time. A setting of several ranks
    occupies as many cores.
    """
    frame = provenance_frame(stored)
    frame["kind"] = [_kind(run.setting.config) for run in stored]
    frame["training_seconds"] = frame.groupby("kind").training_seconds.transform("min") * frame.ranks
    frame["setting"] = [fingerprint(override(run.setting.config, {"seed": 0})) for run in stored]
    of_setting = frame.groupby("setting")[["training_seconds", "evaluation_seconds"]].min()  # over its seeds
    training, evaluation = of_setting.sum() / 60 / workers
    steps = stored[0].setting.config.ptr.optimization.steps
    share = min(1.0, (minutes - evaluation) / training)
    command = " ".join(part for part in (f"ptrlib notebook {page} source=fresh seeds=1", arguments) if part)
    whole = (f"One training seed of this page is {len(of_setting)} runs: {training + evaluation:.0f} min on {workers} "
             f"cores at the pace of the quickest stored run of each kind ({_minutes(training)} to train, "
             f"{_minutes(evaluation)} to evaluate).")
    if share <= 0:
        return f"{whole} Evaluation alone takes more than {minutes:.0f} minutes; ask for fewer methods."
    fewer = max(1, int(share * steps) // 10 * 10)
    within = f"makes all that is not stored yet in about {minutes:.0f} minutes or less on cores as free"
    if share == 1.0:
        return f"{whole} `{command}` {within}."
    cores = math.ceil((training + evaluation) * workers / minutes)
    return (f"{whole} `{command} steps={fewer}` {within} ({fewer} of the {steps} steps, so other numbers than above); "
            f"`{command}` does so with all steps, on {cores} such cores or more.")


def _kind(config: RunConfig) -> str:
    """The same for runs that do the same work a step: data and numbers that only scale something do not count."""
    ptr = PTRConfig(**{name: getattr(config.ptr, name) for name in ("optimization", "base_policy", "queue_size",
                                                                    "queue_negatives", "cross_rank_gather",
                                                                    "belief_tokens")})
    return fingerprint(replace(config, seed=0, data=DataConfig(), ptr=ptr))


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"
