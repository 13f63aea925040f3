"""Every page that can train is executed with ``source=fresh``: it makes the runs it is asked for, and shows these.

The book is one of this file's own, where nothing else is stored, and each page has a training seed of its own in it, so
that no page depends on another. What each is asked for is as little as it can be: one rule, one seed, few steps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ptrlib.cli import main
from ptrlib.report import book
from tests.report.tiny_book import Page, TinyBook, make_tiny_book

NOISE = "experiments/tabletop_noise.yaml"


@dataclass(frozen=True)
class Fresh:
    """The smallest part of a page, and the runs that it makes, as their folders are called without the fingerprint."""

    asked: dict[str, Any]
    made: set[str]
    stored: dict[str, Any] = field(default_factory=dict)  # made before the page is executed, which shows it too
    told: tuple[str, ...] = ()  # by the page


FRESH = {
    "results/ablations": Fresh(
        {"methods": ["ptr"], "steps": 3, "seeds": [11]}, {"easy-ptr-none-s11", "easy-ptr-combined-s11"},
        told=("PTR is not shown beside a variant of it",)),
    "results/corruption_robustness": Fresh(
        {"methods": ["sft"], "corruption": "label_noise", "label_fraction": 0.4, "seeds": 1, "noise_manifest": NOISE},
        {"easy-sft-label_noise-s0"},  # the fraction is nothing to clean data: its run is the stored one
        stored={"manifest": "tabletop_corruption", "methods": ["sft"], "changes": {"data.corruption": ["none"]}},
        told=("wrong instructions on 40%", f"`ptrlib run {NOISE}` makes them: 9 of its 10 runs are not stored yet")),
    "results/generalist": Fresh(
        {"methods": "random", "generalist_steps": 3, "seeds": [13]}, {"generalist-random-none-s13"},
        told=("nothing to conclude", "only PTR's generalists do")),
    "results/our_rule": Fresh(
        {"methods": ["crossfit"], "steps": 1, "seeds": [14]},
        {"easy-crossfit-none-s14", "easy-crossfit-combined-s14"}),
    "results/standard": Fresh(
        {"manifests": ["tabletop_corruption"], "methods": ["sft"], "evaluation_episodes": 2, "seeds": [15]},
        {"easy-sft-none-s15", "easy-sft-combined-s15"}, told=("nothing to conclude",)),
    "results/sweeps": Fresh(
        {"manifests": ["tabletop_sweep_tau"], "tau": 0.12, "steps": 3, "seeds": [16]}, {"easy-ptr-combined-s16"}),
    "results/training_dynamics": Fresh(
        {"manifests": ["tabletop_corruption", "libero_corruption"], "corruption": "none", "seeds": [17]},
        {"easy-ptr-none-s17"}),
    "results/weights": Fresh(
        {"manifests": ["tabletop_corruption"], "corruption": "none", "seeds": [18]},
        {f"easy-{rule}-none-s18" for rule in ("sft", "sft_belief", "ptr", "random")}),
    "results/when_the_claim_holds": Fresh(
        {"methods": ["ptr"], "steps": 3, "seeds": [19]}, {"easy-ptr-none-s19", "easy-ptr-combined-s19"}),
}
NOT_HERE = {"results/libero_robocasa": "all of its runs step LIBERO or RoboCasa"}


@pytest.fixture(scope="module")
def fresh_book(tmp_path_factory: pytest.TempPathFactory) -> TinyBook:
    return make_tiny_book(tmp_path_factory.mktemp("fresh_book"),
                          **{"data.episodes_per_task": 2, "evaluation.episodes_per_task": 1})


def finished(tiny_book: TinyBook) -> set[str]:
    return {path.parent.name for path in tiny_book.runs.glob("*/done")}


def drawn_from(page: Page) -> set[str]:
    """The runs that the page's figures name; each figure stands beside its data."""
    notes = [json.loads(path.read_text()) for path in page.figures.glob("*.json")]
    assert all(len(page.frame(note["figure"])) for note in notes)
    return {run for note in notes for run in note["runs"]}


def test_every_page_with_a_source_is_executed_here_or_says_why_not() -> None:
    with_source = {name for name, path in book.notebooks().items() if "source" in book.parameters_of(path)}
    assert with_source == FRESH.keys() | NOT_HERE.keys() and not FRESH.keys() & NOT_HERE.keys()


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_page_makes_its_runs_and_shows_them(fresh_book: TinyBook, name: str) -> None:
    fresh = FRESH[name]
    stored = {run.name for run in fresh_book.make(**fresh.stored)} if fresh.stored else set()
    before = finished(fresh_book)
    page = fresh_book.execute(name, source="fresh", workers=1, **fresh.asked)
    made = finished(fresh_book) - before
    assert {run.rpartition("-")[0] for run in made} == fresh.made and len(made) == len(fresh.made)
    assert drawn_from(page) == made | stored
    assert all(words in page.text() for words in fresh.told)


@pytest.mark.parametrize("wrong", ["steps=0", "evaluation_episodes=0", "workers=0", "generalist_steps=0", "methods=[]",
                                   "corruption=[]", "manifests=[]", "seeds=[]", "tau=[9]", "window=0", "steps=many"])
def test_what_no_run_can_have_is_refused_by_every_page_before_it_starts(
        wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parameter = wrong.partition("=")[0]
    monkeypatch.setattr(book, "APART", tmp_path / "notebooks")
    for name in [*FRESH, *NOT_HERE]:
        if parameter in book.parameters_of(book.notebooks()[name]):
            assert main(["notebook", name, "source=fresh", wrong]) == 2
            told = capsys.readouterr().err
            assert told.startswith("ptrlib: ") and parameter in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
