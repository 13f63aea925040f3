"""What the comparisons with a simulator's own environment share: clocks, rates and the record."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ptrlib.config import RunConfig
from ptrlib.runs import provenance, write_text


class Clock:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """So far."""
        return {"wall": round(time.perf_counter() - self.wall, 3),
                "cpu": round(time.process_time() - self.cpu, 3)}


def per_minute(measured: dict[str, Any], clock: str) -> float:
    """Episodes per minute of "wall" or "cpu"."""
    return 60 * len(measured["episodes"]) / sum(episode[clock] for episode in measured["episodes"])


def report(title: str, results: dict[str, dict[str, Any]], started: datetime, out: Path, **about: Any) -> None:
    """Print the rates of "plain loop" and "ptrlib" and write them, with ``about``, to ``out``."""
    rates = {name: {clock: per_minute(measured, clock) for clock in ("wall", "cpu")}
             for name, measured in results.items()}
    speedup = {clock: round(rate / rates["plain loop"][clock], 2) for clock, rate in rates["ptrlib"].items()}
    print(f"{title}, one process")
    print(f"{'':12}{'build s':>10}{'episodes/min':>14}{'per cpu min':>13}")
    for name, measured in results.items():
        print(f"{name:12}{measured['build']['wall']:10.1f}{rates[name]['wall']:14.2f}{rates[name]['cpu']:13.2f}")
    print(f"{'speed-up':22}{speedup['wall']:14.2f}{speedup['cpu']:13.2f}")
    record = provenance(RunConfig(), started, **about, speedup=speedup, results=results)
    record["command"] = " ".join(["python", *sys.argv])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(record, indent=1) + "\n")
