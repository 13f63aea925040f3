"""One table of everything that was compared: a row per world and kind of data, for the index and the README.

``python -m ptrlib.report.overview`` writes it into README.md from the stored runs; a test fails while the README
holds anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ptrlib.report import REPOSITORY, results, start
from ptrlib.report.charts import corruption_label, method_label
from ptrlib.report.statistics import Interval
from ptrlib.runs import write_text

MANIFESTS = ("tabletop_claim", "tabletop_hard", "libero_corruption", "robocasa_corruption", "robocasa_precise",
             "robocasa_passing_precise")
METHODS = {"sft": method_label("sft"), "ptr": method_label("ptr"), "random": "PTR’s weights, shuffled",
           "oracle": method_label("oracle"), "crossfit_every_wide": "our rule, w in [1/20, 20]",
           "crossfit_every_wide_random": "our rule’s weights, shuffled"}
GAIN = "PTR − SFT (points)"
ALONE = "start policy, left alone"
BEGIN, END = "<!-- written by `python -m ptrlib.report.overview` -->", "<!-- end of what it writes -->"


def table(manifests: Sequence[str] = MANIFESTS, kinds: Sequence[str] = ("none", "combined")) -> pd.DataFrame:
    """Success (%) with Wilson's 95 % interval and PTR minus SFT (points, paired by scene); a row per world and kind of
    data. The start policy is judged once in each of the scenes. Manifests whose runs are not stored are left out."""
    rows = pd.DataFrame([row for name in manifests if results.is_stored(name) for row in _rows(name, kinds)])
    columns = [*rows.columns[:2], ALONE, METHODS["sft"], METHODS["ptr"], GAIN, *list(METHODS.values())[2:]]
    return rows[[name for name in columns if name in rows]].fillna("–")


def _rows(manifest: str, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    stored = results.runs_of(manifest)
    episodes = results.episodes_frame(stored)
    episodes = episodes[episodes.method.isin(METHODS)]
    for kind in kinds:
        mine = episodes[episodes.corruption == kind]
        if mine.empty:
            continue
        rates = results.success_rates(mine, by=("method",)).set_index("method")
        seeds, counts = mine.groupby("method", observed=True).training_seed.nunique(), rates.episodes
        row: dict[str, Any] = {"world, data": f"{results.world_of(stored)}, {corruption_label(kind)}",
                               "episodes each (seeds)": f"{results.span(counts)} ({results.span(seeds)})"}
        for method in rates.index:
            rate = rates.loc[method]
            row[METHODS[method]] = _on_two_lines(Interval(rate.success, rate.low, rate.high, rate.episodes).text(100))
        if {"ptr", "sft"} <= set(rates.index):
            gain = results.compare(episodes, {("ptr", kind): 1.0, ("sft", kind): -1.0})
            row[GAIN] = _on_two_lines(gain.text(100, sign=True))
        if alone := start.rate(manifest):
            row[ALONE] = _on_two_lines(alone.text(100))
        yield row


def _on_two_lines(text: str) -> str:
    """An estimate above its interval: with both in a line the table is wider than most screens."""
    return text.replace(" [", "<br>[")


def markdown(shown: pd.DataFrame) -> str:
    """The table as GitHub reads it."""
    lines = [list(shown), ["---"] * shown.shape[1], *shown.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def in_short(text: str) -> str:
    """Markdown: the findings of README.md, the sentences in bold that begin its points, each with the pages that its
    point names. ``text`` is the README's; its tests hold the sentences to the stored runs."""
    points = text.partition("\n## What came out so far\n")[2].partition("\n## ")[0].split("\n- ")[1:]
    told = []
    for point in points:
        sentence = re.match(r"\*\*[^*]{20,}\.\*\*", point)
        if sentence:
            pages = dict.fromkeys(re.findall(r"\[[^\]\[]+\]\(book/[^)]+\)", point.replace("\n  ", " ")))
            told.append(f"- {sentence.group()} {', '.join(pages).replace('](book/', '](')}")
    return "\n".join(told)


def written_into(text: str, shown: pd.DataFrame) -> str:
    """``text`` with the table in the place of what stands between the two marks.

    Raises:
        ValueError: a mark is missing.
    """
    if not text.count(BEGIN) == text.count(END) == 1:
        raise ValueError(f"README.md must hold {BEGIN!r} once and, after the table, {END!r} once; put them back")
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{markdown(shown)}\n{END}", text,
                  flags=re.DOTALL)


if __name__ == "__main__":
    readme = REPOSITORY / "README.md"
    write_text(readme, written_into(readme.read_text(), table()))
