"""Our own rule: what its scorers notice, what its weights are held to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ptrlib.config import CrossFitConfig, RunConfig, override
from ptrlib.credit.crossfit import (
    GROUP,
    CrossFit,
    Question,
    _among_alike,
    _judged,
    _nearest,
    answered,
    read_evidence,
)
from ptrlib.data.episodes import Episode
from ptrlib.data.reading import read_episodes
from ptrlib.simulators.tabletop import record
from ptrlib.training import Trainer, overview, prepare_data

SMALL = {"credit": "crossfit", "network.use_belief": False, "network.image_size": 32, "network.token_size": 8,
         "network.width": 16, "network.vision_channels": [4, 4, 8], "network.backbone_layers": 1,
         "network.expert_layers": 1, "data.random_shift": 0, "data.embodiment": "tabletop_gantry",
         "ptr.optimization.batch_size": 16, "ptr.optimization.steps": 2, "data.noise_sigma": 0.5,
         "crossfit.batch_size": 128,
         "crossfit.questions": ["action"], "crossfit.steps": 100}


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    folder = tmp_path_factory.mktemp("crossfit")
    record(suite="gantry", episodes=9, styles=("slow", "precise"), out=folder)
    return read_episodes(folder)


def trainer(episodes: list[Episode], **changes: object) -> Trainer:
    config = override(RunConfig(), SMALL | {key.replace("__", "."): value for key, value in changes.items()})
    return Trainer(config, prepare_data(config, episodes))


def rule(trained: Trainer) -> CrossFit:
    assert isinstance(trained.learner.credit, CrossFit)
    return trained.learner.credit


def by_episode(values: torch.Tensor, trained: Trainer) -> np.ndarray:
    lengths = trained.data.train.lengths
    return np.array([part.mean().item() for part in values[:lengths.sum()].split(lengths.tolist())])


def test_noisy_labels_do_not_belong_to_the_motion_that_followed(episodes):
    trained = trainer(episodes, credit="sft", data__corruption="action_noise", data__held_out_fraction=0.0)
    evidence = read_evidence(trained.learner.policy, [trained.data.train], CrossFitConfig())
    torch.manual_seed(0)
    answer = answered(evidence, len(trained.data.train.lengths), trained.config)["action"]
    judged = evidence.episode.unique()  # not the short ones, which have no chunk with a recorded consequence
    mean = [answer[evidence.episode == episode].mean().item() for episode in judged]
    untouched = [not trained.data.train.episodes[episode].truth["action_noise"].any() for episode in judged]
    assert roc_auc_score(untouched, mean) > 0.8


def test_weights_keep_their_bounds_and_most_chunks_their_full_weight(episodes):
    trained = trainer(episodes, data__corruption="action_noise")
    weight = rule(trained).weight
    assert weight.min() >= 0.25 and weight.max() == 4.0
    train = weight[:len(trained.data.train)]
    assert 0.6 <= (train > 4.0 - 1e-4).float().mean() < 0.95
    assert len(weight) == len(trained.data.train) + len(trained.data.held_out)


def test_a_chunk_is_given_the_weight_of_its_own_episode_in_either_split(episodes):
    trained = trainer(episodes, crossfit__pooling="chunk")
    table = trained.snapshot()
    credit = rule(trained)
    for split, dataset in (("train", trained.data.train), ("held_out", trained.data.held_out)):
        rows = table[table.split == split]
        index = credit.first[rows.episode.to_numpy() + dataset.first_id] + torch.tensor(rows.start.tolist())
        np.testing.assert_array_equal(rows.weight.to_numpy(), credit.weight[index].numpy())
    assert rows.weight.nunique() > 1


def test_the_control_gives_the_same_weights_to_other_episodes(episodes):
    ours, control = trainer(episodes), trainer(episodes, credit="crossfit_random")
    mine, other = by_episode(rule(ours).weight, ours), by_episode(rule(control).weight, control)
    assert not np.allclose(mine, other)
    everyone = [np.sort([part.mean().item() for part in rule(each).weight.split(
        [*each.data.train.lengths, *each.data.held_out.lengths])]) for each in (ours, control)]
    np.testing.assert_allclose(*everyone, rtol=1e-6)


def test_in_sample_scores_are_higher_than_cross_fitted_ones(episodes):
    """Why scorers must not judge what they learned from; the instruction question is the easiest to learn by heart."""
    trained = trainer(episodes, credit="sft")
    datasets = [trained.data.train, trained.data.held_out]
    evidence = read_evidence(trained.learner.policy, datasets, CrossFitConfig())
    inside = evidence.episode < len(datasets[0].lengths)
    means = []
    for folds in (1, 2):
        config = override(trained.config, {"crossfit.folds": folds, "crossfit.questions": ["instruction"],
                                           "crossfit.dropout": 0.0, "crossfit.steps": 150})
        torch.manual_seed(0)
        means.append(answered(evidence, len(datasets[0].lengths), config)["instruction"][inside].mean())
    assert means[0] > means[1] + 0.1


def test_the_rule_asks_what_it_is_told_to(episodes):
    with pytest.raises(ValueError, match="crossfit.questions has no 'reward'; choose from action, instruction"):
        trainer(episodes, crossfit__questions=["reward"])
    for questions in (["consequence"], ["likelihood"], ["instruction", "ending"]):
        weight = rule(trainer(episodes, crossfit__questions=questions, crossfit__steps=5)).weight
        assert 0.25 <= weight.min() < weight.max() <= 4.0


class Known(Question):
    """Every answer is as sure as the others; candidates are the batch, and the second half of the chunks is right."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, chunk: torch.Tensor) -> torch.Tensor:
        wrong = torch.full((len(chunk), len(chunk)), -4.0) + 0 * self.unused
        return torch.cat([torch.where(chunk < 5, -4.0, 4.0)[:, None], wrong], 1)


@pytest.mark.parametrize("judged", [3, 8, 9, 15, 16])
def test_answers_do_not_depend_on_how_full_the_last_batch_is(judged):
    every = torch.ones(judged, dtype=torch.bool)
    score = _judged(Known(), every, every, CrossFitConfig(steps=1, batch_size=8))
    sure = score[5:]
    assert (score[:5] == 0).all() and torch.equal(sure, sure[:1].expand(len(sure)))


def test_a_scorer_that_diverged_is_an_error_and_not_a_weight():
    class Lost(Known):
        def forward(self, chunk: torch.Tensor) -> torch.Tensor:
            return super().forward(chunk) * torch.nan

    every = torch.ones(9, dtype=torch.bool)
    with pytest.raises(ValueError, match="crossfit's Lost diverged; lower crossfit.learning_rate"):
        _judged(Lost(), every, every, CrossFitConfig(steps=1, batch_size=8))


def test_candidates_are_never_of_the_chunks_own_episode():
    nearest = _nearest(torch.arange(5.0)[:, None], torch.tensor([0, 0, 0, 1, 1]), 16)
    assert nearest.shape == (5, 2) and set(nearest[:3].flatten().tolist()) == {3, 4}
    assert not set(nearest[3:].flatten().tolist()) & {3, 4}


def test_folds_that_leave_a_scorer_nothing_are_refused(episodes):
    with pytest.raises(ValueError, match="crossfit.folds=2 leaves a scorer none of the 1 episodes to learn from"):
        trainer(episodes[:1], data__held_out_fraction=0.0)


def test_of_fewer_episodes_than_folds_each_is_judged_once(episodes):
    trained = trainer(episodes[:4], data__held_out_fraction=0.0, crossfit__folds=6, crossfit__steps=2,
                      crossfit__questions=["action", "instruction", "ending"])
    assert (rule(trained).weight != 1).any()


def test_instructions_that_no_other_episode_has_are_refused_or_told(episodes):
    episodes = episodes[:9]  # of one task
    own = [dataclasses.replace(episode, instruction=f"{episode.instruction} {number}")
           for number, episode in enumerate(episodes)]
    with pytest.raises(ValueError, match=f"each of the {len(own)} training episodes has an instruction of its own"):
        trainer(own, data__held_out_fraction=0.0)
    some = trainer([own[0], *episodes[1:]], data__held_out_fraction=0.0, crossfit__steps=1)
    assert "; alone under their instruction, compared with themselves: 1" in overview(some.config, some.data)
    short = trainer(with_short_ones(episodes), data__held_out_fraction=0.0, crossfit__steps=1)
    count = int((short.data.train.lengths < 16).sum())
    words = f"; too short to be asked anything (16 steps, crossfit.recorded_steps), of full weight: {count}"
    assert count >= 4 and words in overview(short.config, short.data)


def with_short_ones(episodes: list[Episode]) -> list[Episode]:
    short = [dataclasses.replace(e, actions=e.actions[:8], state=e.state[:9], simulator_states=None,
                                 images={camera: images[:9] for camera, images in e.images.items()})
             for e in episodes[:4]]
    return short + episodes[4:]


def test_every_fourth_chunk_is_evidence_if_one_recorded_step_is_enough(episodes):
    trained = trainer(with_short_ones(episodes), credit="sft", data__held_out_fraction=0.0)
    lengths = trained.data.train.lengths
    evidence = read_evidence(trained.learner.policy, [trained.data.train], CrossFitConfig(recorded_steps=1))
    found = sorted(zip(evidence.episode.tolist(), evidence.start.tolist(), strict=True))
    assert found == [(episode, start) for episode, length in enumerate(lengths) for start in range(0, length, 4)]
    whole = read_evidence(trained.learner.policy, [trained.data.train], CrossFitConfig())
    assert (whole.start + 16 <= torch.tensor(lengths)[whole.episode]).all()
    assert len(whole) == sum(len(range(0, length - 15, 4)) for length in lengths)


def test_short_episodes_that_nothing_is_known_about_keep_the_full_weight(episodes):
    trained = trainer(with_short_ones(episodes), data__held_out_fraction=0.0)
    weight = by_episode(rule(trained).weight, trained)
    np.testing.assert_allclose(weight[trained.data.train.lengths == 8], 4.0, rtol=1e-5)


def test_the_closer_control_gives_weights_to_episodes_of_like_length_under_the_same_instruction(episodes):
    """Nobody keeps a weight where there is another to give it to, and no training episode takes a held-out one's."""
    ours, control = trainer(episodes), trainer(episodes, credit="crossfit_alike")
    first, moved = 0, 0
    for dataset in (ours.data.train, ours.data.held_out):
        lengths = torch.as_tensor(dataset.lengths)
        mine, other = ([part.mean().item() for part in rule(each).weight[first:first + len(dataset)].split(
            lengths.tolist())] for each in (ours, control))
        first += len(dataset)
        words = [tuple(row) for row in dataset.instructions]
        for instruction in set(words):
            same = [number for number, row in enumerate(words) if row == instruction]
            np.testing.assert_allclose(sorted(mine[number] for number in same),
                                       sorted(other[number] for number in same), rtol=1e-5)
        moved += (~np.isclose(mine, other)).sum()
    assert moved > 0


def test_groups_are_of_like_length_and_nobody_keeps_its_own():
    generator = torch.Generator().manual_seed(0)
    lengths, kind = torch.randint(10, 200, (205,), generator=generator), torch.arange(205) % 2
    giver = _among_alike(lengths, kind, torch.rand(205, generator=generator))
    assert giver.sort().values.equal(torch.arange(205)) and (giver != torch.arange(205)).all()
    assert kind[giver].equal(kind)
    for number in (0, 1):
        mine = kind == number
        longer = (lengths[mine, None] > lengths[mine]).sum(1)  # than how many of its kind an episode is
        longer_giver = (lengths[giver[mine], None] > lengths[mine]).sum(1)
        assert (longer - longer_giver).abs().max() < 2 * GROUP
    assert _among_alike(torch.tensor([5]), torch.tensor([0]), torch.rand(1)).tolist() == [0]
