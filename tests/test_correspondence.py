"""Whose consequences look alike: by hand on four chunks of two robots, and as a run keeps it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ptrlib.config import DataConfig, PTRConfig, RunConfig, override
from ptrlib.correspondence import FILE, load_correspondence, make_correspondence
from ptrlib.credit.interface import ChunkFeatures
from ptrlib.data.chunks import ChunkDataset, Statistics
from ptrlib.data.episodes import Episode
from ptrlib.method.overlay import PosteriorTransitionReweighting
from ptrlib.simulators.recording import record
from ptrlib.training import Trainer, load_data, train

ROBOTS = ("tabletop_gantry", "tabletop_gantry", "tabletop_two_link", "tabletop_two_link")
WORDS = ("go to red", "go to blue", "go to red", "go to blue")
COLOURS = np.array([[200, 50, 0], [0, 60, 200], [180, 90, 0], [20, 0, 220]])  # of an episode's images
QUERIES = np.array([[1.0, 0.4, 0.0], [0.1, 0.2, 1.0], [0.8, 0.6, 0.3], [0.0, 0.5, 1.0]])  # what the scorer expects


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2, 3))


class ContextIsQuery(nn.Module):
    def forward(self, context: Tensor, summary: Tensor) -> Tensor:
        return context


def toy_dataset() -> ChunkDataset:
    steps = 19
    episodes = [Episode({"scene": np.broadcast_to(colour.astype(np.uint8), (steps + 1, 4, 4, 3)).copy()},
                        np.zeros((steps + 1, 3), np.float32), np.zeros((steps, 3), np.float32), words, robot, words)
                for robot, words, colour in zip(ROBOTS, WORDS, COLOURS, strict=True)]
    return ChunkDataset(episodes, DataConfig(), 16, Statistics.of(episodes))


def toy_features(batch) -> ChunkFeatures:
    present = batch.present.flatten()
    episode = batch.episode_ids.repeat_interleave(batch.present.shape[1])[present]
    count = len(episode)
    return ChunkFeatures(torch.from_numpy(QUERIES[episode]).float(), torch.zeros(count, 16, 2),
                         torch.ones(count, 16, dtype=torch.bool), batch.target_images.flatten(0, 1)[present],
                         batch.valid.flatten()[present], episode, batch.frames.flatten()[present],
                         torch.zeros_like(episode), torch.zeros(count, 1), batch.offset.flatten()[present], None)


@pytest.fixture(scope="module")
def toy():
    overlay = PosteriorTransitionReweighting(3, 2, 3, vision_tower=MeanColour())
    overlay.scorer = ContextIsQuery()
    return make_correspondence(overlay, toy_dataset(), toy_features, segments=4, seed=0)


def test_the_posterior_is_split_by_robot_and_instruction(toy):
    cosine = (QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)) @ (
        COLOURS / np.linalg.norm(COLOURS, axis=1, keepdims=True)).T
    odds = np.exp(cosine / 0.12)
    assert toy.embodiments == ("tabletop_gantry", "tabletop_two_link")
    assert sorted(toy.queries.episode) == [0, 1, 2, 3]
    for row, query in toy.queries.iterrows():
        own = query.episode
        posterior = odds[own] / odds[own].sum()
        assert query.embodiment == ROBOTS[own] and query.instruction == WORDS[own]
        assert query.matched == pytest.approx(posterior[own], rel=1e-4)
        assert query.score == pytest.approx(np.log(posterior[own] * 4), abs=1e-4)
        assert query.weight == pytest.approx(np.clip((posterior[own] * 4) ** (1 / 1.5), 0.25, 4), rel=1e-3)
        for m, robot in enumerate(toy.embodiments):
            others = [e for e in range(4) if e != own and ROBOTS[e] == robot]
            for same in (False, True):
                cell = [e for e in others if (WORDS[e] == WORDS[own]) == same]
                assert toy.mass[row, m, int(same)] == pytest.approx(posterior[cell].sum(), abs=1e-5)
                assert toy.count[row, m, int(same)] == len(cell)
            among = odds[own, [own, *others]]
            assert toy.score_against[row, m] == pytest.approx(np.log(among[0] / among.mean()), abs=1e-4)


def test_lengths_are_measured_by_the_configured_eps():
    overlay = PosteriorTransitionReweighting(3, 2, 3, PTRConfig(norm_eps=2.0), vision_tower=MeanColour())
    overlay.scorer = ContextIsQuery()
    found = make_correspondence(overlay, toy_dataset(), toy_features, segments=4, seed=0)
    unit = COLOURS / np.linalg.norm(COLOURS, axis=1, keepdims=True)  # as the target encoder gives them
    odds = np.exp(QUERIES / 2 @ (unit / 2).T / 0.12)
    matched = (np.diag(odds) / odds.sum(1))[found.queries.episode]
    np.testing.assert_allclose(found.queries.matched, matched, rtol=1e-4)


def test_pairs_show_the_best_match_on_the_other_robot(toy):
    assert len(toy.pairs) == 4 and toy.images.shape == (4, 2, 1, 4, 4, 3)
    for pair, images in zip(toy.pairs.itertuples(), toy.images, strict=True):
        query, match = toy.queries.iloc[pair.query], toy.queries.iloc[pair.match]
        assert query.embodiment != match.embodiment
        assert query.instruction == match.instruction  # colours are the instructions'
        np.testing.assert_array_equal(images[0, 0, 0, 0], COLOURS[query.episode])
        np.testing.assert_array_equal(images[1, 0, 0, 0], COLOURS[match.episode])
    best = toy.pairs[toy.pairs.chosen == "most alike"].posterior.to_numpy()
    assert (best >= toy.pairs[toy.pairs.chosen == "first drawn"].posterior.to_numpy()).all()


def test_nothing_is_made_where_a_robot_has_no_recorded_consequence():
    dataset = toy_dataset()
    dataset.lengths = np.array([19, 19, 10, 10])  # the second robot's episodes end before t + Delta
    overlay = PosteriorTransitionReweighting(3, 2, 3, vision_tower=MeanColour())
    assert make_correspondence(overlay, dataset, toy_features, segments=4, seed=0) is None


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    """Three demonstrations of wiping, by two robots together and by one alone."""
    folder = tmp_path_factory.mktemp("demonstrations")
    record("tabletop", "generalist", 3, ("slow",), folder / "both", tasks=[4, 10], image_size=32)
    record("tabletop", "gantry", 3, ("slow",), folder / "alone", tasks=[4], image_size=32)
    return folder


def tiny_config(path, **changes) -> RunConfig:
    return override(RunConfig(), {
        "network.image_size": 32, "network.width": 32, "network.vision_channels": (8, 16, 16),
        "network.backbone_layers": 1, "network.expert_layers": 1, "network.precision": "float32",
        "data.path": str(path), "data.random_shift": 0, "data.held_out_fraction": 0.0, "ptr.optimization.steps": 2,
        "ptr.warmup_steps": 1, "ptr.optimization.batch_size": 16, "ptr.optimization.lr_warmup_steps": 1, **changes})


def test_a_run_on_several_robots_keeps_it_and_no_other_run_does(demonstrations, tmp_path):
    folder = train(tiny_config(demonstrations / "both"), root=tmp_path, progress=False)
    kept = load_correspondence(folder)
    assert kept.embodiments == ("tabletop_gantry", "tabletop_two_link")
    assert kept.queries.embodiment.value_counts().nunique() == 1 and kept.queries.episode.is_unique
    np.testing.assert_allclose(kept.queries.matched + kept.mass.sum((1, 2)), 1, atol=1e-5)
    assert (kept.count.sum((1, 2)) == len(kept.queries) - 1).all()
    assert kept.images.shape[2:] == (1, 32, 32, 3) and kept.images.dtype == np.uint8
    for path, changes in (("both", {"credit": "random"}), ("both", {"credit": "sft"}), ("alone", {})):
        other = train(tiny_config(demonstrations / path, **changes), root=tmp_path, progress=False)
        assert load_correspondence(other) is None
    (folder / FILE).write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"correspondence\.npz: not a readable correspondence .*restore it from git"):
        load_correspondence(folder)


def test_making_it_again_gives_the_same_and_changes_no_state(demonstrations):
    config = tiny_config(demonstrations / "both")
    trainer = Trainer(config, load_data(config))
    trainer.run(2)
    before = {key: value.clone() for key, value in trainer.learner.state_dict().items() if isinstance(value, Tensor)}
    one, again = trainer.correspondence(), trainer.correspondence()
    assert one is not None and again is not None
    pd.testing.assert_frame_equal(one.queries, again.queries)
    np.testing.assert_array_equal(one.images, again.images)
    after = trainer.learner.state_dict()
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key], err_msg=key)
