"""PTR's question answered without the action: the measurement and its chart."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from ptrlib import scene_identity
from ptrlib.config import PTRConfig, override
from ptrlib.method.candidates import CandidateSet
from ptrlib.method.overlay import PosteriorTransitionReweighting
from ptrlib.report import scene_identity as page
from tests.test_correspondence import MeanColour, toy_dataset, toy_features

TINY = {"data.held_out_fraction": 0.25, "ptr.queue_size": 16, "ptr.queue_negatives": 4}


def candidates(matched: list[list[float]], batch: list[list[float]], mask: list[list[bool]]) -> CandidateSet:
    none = torch.zeros(len(matched), 0, dtype=torch.int64)
    return CandidateSet(torch.tensor(matched), torch.tensor(batch), torch.tensor(mask), torch.zeros(0, 2), none,
                        none.bool())


def test_the_nearest_candidate_is_the_answer_and_a_tie_is_none():
    east, north = [1.0, 0.0], [0.0, 1.0]
    pool = candidates([east, north, east, east], [east, north], [[False, True]] * 3 + [[True, True]])
    own = torch.tensor([[True, False, False], [True, False, True], [True, False, True], [True, True, False]])
    query = torch.tensor([[2.0, 0.1], [3.0, 1.0], [0.1, 1.0], [1.0, 0.0]])
    correct, same_episode = scene_identity.answers(pool, own, query)
    # row 1 ties with an equal target of its own episode; row 2 takes another moment of its episode; row 3 ties
    assert correct.tolist() == [True, False, False, False]
    assert same_episode.tolist() == [True, True, True, True]
    elsewhere = torch.tensor([[True, False, False]] * 4)
    assert scene_identity.answers(pool, elsewhere, query)[1].tolist() == [True, False, False, False]


def test_lengths_are_measured_by_the_configured_eps():
    overlay = PosteriorTransitionReweighting(3, 2, 3, PTRConfig(norm_eps=2.0), vision_tower=MeanColour())
    learner = SimpleNamespace(features=lambda batch, generator: (None, toy_features(batch)))
    asked = scene_identity._asked(learner, overlay, next(toy_dataset().scoring_batches(4)))
    torch.testing.assert_close(asked.targets.features.norm(dim=1), torch.full((len(asked.targets),), 1 / 2))


def test_chunks_are_judged_once_and_alike_each_time(tiny_book):
    (start,) = tiny_book.make("tabletop_corruption", methods=["sft"], seeds=1, changes={"data.corruption": ["none"]})
    config = override(start.setting.config, TINY | {"initial_policy": start.name})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_book.folder)
        table, again = (scene_identity.measure(config, judged=3, root=tiny_book.runs) for _ in range(2))
        with pytest.raises(ValueError, match="initial_policy is empty"):
            scene_identity.measure(override(config, {"initial_policy": ""}), root=tiny_book.runs)
    assert table.equals(again) and not table.duplicated(["episode", "start"]).any()
    assert (table.candidates > 1).all() and (table.others < table.candidates).all() and (table.offset == 16).all()
    for query in scene_identity.QUERIES:
        assert (table[f"{query}_episode"] | ~table[f"{query}_correct"]).all()
        assert not table[f"{query}_correct"].all()


def answered(*, action: float) -> pd.DataFrame:
    """100 chunks of 20 episodes among 50 candidates; the scene identifies half of them, ``action`` with the action."""
    place = pd.Series(range(100))
    return pd.DataFrame({"episode": place % 20, "start": place // 20, "offset": 16, "candidates": 50, "others": 4,
                         "scene_correct": place < 50, "scene_episode": place < 80, "context_correct": place < 50,
                         "context_episode": place < 60, "action_correct": place < 100 * action,
                         "action_episode": place < 100 * action})


def test_rates_and_verdict_follow_the_answers():
    table = page.rates(answered(action=0.9)).set_index(["quantity", "query"])
    assert table.estimate["correct", "scene"] == 0.5 and table.estimate["episode", "scene"] == 0.8
    assert table.estimate["correct", "chance"] == pytest.approx(1 / 50)
    assert table.estimate["episode", "chance"] == pytest.approx(5 / 50)
    told = {action: page.verdict(answered(action=action), 16) for action in (0.1, 0.5, 0.9)}
    assert "50 candidates (5.0 of its own episode)" in told[0.9] and "80.0 [" in told[0.9]
    assert "**knowing the action helps to identify the consequence**" in told[0.9]
    assert "**it identifies more than the scene does**" in told[0.9]
    assert "**that the action helps cannot be told**" in told[0.5]
    assert "**with the action it identifies fewer**" in told[0.1]


def test_what_was_not_measured_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.parquet is missing; make it with: python -m ptrlib.scene_identity"):
        page.judged("nowhere", tmp_path)
