"""Training end to end on tiny data: it runs, learns, resumes to the bit and survives kill -9."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from ptrlib import experiment, runs, storage, training
from ptrlib.agent import PolicyAgent
from ptrlib.cli import answered, main
from ptrlib.config import RunConfig, override
from ptrlib.credit import CREDITS
from ptrlib.credit import storage as credit_storage
from ptrlib.data.chunks import SegmentSampler
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import write_episodes
from ptrlib.data.reading import read_episodes
from ptrlib.demonstrations import fingerprint_episodes
from ptrlib.errors import Stopped
from ptrlib.experiment import run_manifest, work
from ptrlib.gallery import load_gallery
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.policy.precision import multiplies_bfloat16
from ptrlib.simulators.protocol import Observation
from ptrlib.storage import load_policy
from ptrlib.training import Trainer, learning_rate_factor, load_data, overview, prepare_data, train
from ptrlib.weighting import weigh
from ptrlib.writing import written
from tests.data.lerobot_files import write_lerobot
from tests.factories import tiny_episodes

TINY = {"network.image_size": 32, "network.width": 32, "network.vision_channels": [8, 8, 16],
        "network.backbone_layers": 1, "network.expert_layers": 1, "network.heads": 2, "network.precision": "float32",
        "ptr.optimization.batch_size": 16, "ptr.optimization.steps": 12, "ptr.optimization.lr_warmup_steps": 2,
        "ptr.warmup_steps": 3, "ptr.queue_size": 64, "ptr.queue_negatives": 8, "log_every": 2,
        "data.held_out_fraction": 0.25, "data.offset": 8, "crossfit.steps": 50, "crossfit.batch_size": 64}


def tiny_config(**changes) -> RunConfig:
    return override(RunConfig(), TINY | changes)


@pytest.fixture(scope="module")
def episodes():
    return tiny_episodes(8, 40, 32)


def losses(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in trainer.metrics]


@pytest.mark.parametrize("credit", sorted(CREDITS))
def test_every_credit_trains_and_logs(credit, episodes):
    config = tiny_config(credit=credit, **{"data.corruption": "combined"})
    trainer = Trainer(config, prepare_data(config, episodes))
    trainer.run(12)
    assert np.isfinite(losses(trainer)).all() and len(trainer.metrics) == 6
    table = pd.concat(trainer.snapshots)
    assert set(table.split) == {"train", "held_out"}
    assert not table[table.split == "held_out"].filter(like="truth_").to_numpy().any()
    weights = table.weight
    if credit in ("ptr", "random"):
        assert weights.between(0.25, 4.0).all() and (weights[~table.valid] == 1).all() and weights.nunique() > 1
        assert table.score.notna().all()
    elif credit == "ptr_neutral":
        assert weights.between(0.25, 4.0).all() and weights.nunique() > 1 and (weights[~table.valid] != 1).any()
    elif credit.startswith("crossfit"):
        assert weights.between(0.25, 4.0).all() and weights.nunique() > 1
    elif credit == "bounded_oracle":
        touched = table.filter(like="truth_").any(axis=1)
        assert touched.any() and (weights[touched] == 0.25).all() and (weights[~touched] == 4.0).all()
    else:
        assert (weights == 1).all()


def test_a_neutral_fallback_leaves_the_mean_weight_where_it_was(episodes):
    """PTR's own weights where a consequence was recorded, and their mean where none was."""
    config = tiny_config(**{"ptr.warmup_steps": 0})
    trainer = Trainer(config, prepare_data(config, episodes))
    trainer.run(6)
    neutral = Trainer(replace(config, credit="ptr_neutral"), prepare_data(config, episodes)).learner.credit
    neutral.load_state_dict(trainer.learner.credit.state_dict())
    _, features = trainer.learner.features(trainer.sampler.next(), trainer.generator)
    plain, mine = trainer.learner.credit.eval()(features).weight, neutral.eval()(features).weight
    valid = features.valid
    assert valid.any() and not valid.all() and plain[valid].std() > 0
    torch.testing.assert_close(mine[valid], plain[valid])
    torch.testing.assert_close(mine[~valid], plain[valid].mean().expand((~valid).sum()))
    features.valid = torch.zeros_like(valid)
    assert (neutral(features).weight == 1).all()


def test_an_oracle_that_has_nothing_left_says_so(episodes):
    config = tiny_config(credit="oracle", **{"data.corruption": "action_noise", "data.noise_fraction": 1.0})
    with pytest.raises(ValueError, match="every training episode is corrupted .*action_noise.*; corrupt fewer"):
        prepare_data(config, episodes)


def test_the_oracle_never_sees_a_marked_episode(episodes):
    config = tiny_config(credit="oracle", **{"data.corruption": "combined"})
    data = prepare_data(config, episodes)
    assert not any(mask.any() for episode in data.train.episodes for mask in episode.truth.values())
    everyone = prepare_data(tiny_config(**{"data.corruption": "combined"}), episodes)
    assert len(data.train.episodes) < len(everyone.train.episodes)


def test_belief_tokens_go_from_chunk_to_chunk_of_a_segment_and_nowhere_else(episodes):
    """Algorithm 1: what chunk 0 did is seen in the loss of chunk 1, of its own segment alone."""
    config = tiny_config(credit="sft", **{"data.segment_chunks": 2, "data.held_out_fraction": 0.0})
    trainer = Trainer(config, prepare_data(config, episodes))
    while not (batch := trainer.sampler.next()).present[:2].all():
        pass
    changed = replace(batch, actions=batch.actions.clone())
    changed.actions[0, 0] += 1.0
    learner = trainer.learner
    before, after = (torch.zeros(batch.present.shape).masked_scatter_(
        batch.present, learner.features(part, torch.Generator().manual_seed(0))[0].detach())
        for part in (batch, changed))
    moved = before != after
    assert moved[0].all() and not moved[1:].any()


@pytest.mark.parametrize("foresight", [False, True])
def test_belief_tokens_hold_nothing_that_the_next_chunk_is_to_predict(episodes, foresight):
    """Section 4.1: they "summarize pre-action interaction history"; the fault that older runs had is the other case."""
    config = tiny_config(credit="sft", **{"data.segment_chunks": 2, "data.held_out_fraction": 0.0,
                                          "data.belief_foresight": foresight})
    trainer = Trainer(config, prepare_data(config, episodes))
    while not (batch := trainer.sampler.next()).present[:2].all():
        pass
    stride = config.data.chunk_stride
    assert (batch.starts[:, 1] - batch.starts[:, 0])[0] == stride < batch.actions.shape[2]
    changed = replace(batch, actions=batch.actions.clone())
    changed.actions[0, 0, stride:] += 1.0  # what chunk 1 predicts, and what follows
    learner = trainer.learner
    losses = [torch.zeros(batch.present.shape).masked_scatter_(
        batch.present, learner.features(part, torch.Generator().manual_seed(0))[0].detach())
        for part in (batch, changed)]
    moved = losses[0] != losses[1]
    assert moved[0].tolist() == [True, foresight] and not moved[1:].any()


@pytest.mark.parametrize("hidden", [False, True])
def test_padded_actions_that_are_not_learned_are_seen_as_when_acting(episodes, hidden, monkeypatch):
    config = override(tiny_config(), {"data.mask_padded_actions": True, "data.hide_padded_actions": hidden})
    trainer = Trainer(config, prepare_data(config, episodes))
    learner, batch = trainer.learner, trainer.sampler.next()
    seen = []

    def loss_of_draw(*arguments):
        seen.append((arguments[4], arguments[7]))
        return loss(*arguments)

    loss = learner.policy.head.loss_of_draw
    monkeypatch.setattr(learner.policy.head, "loss_of_draw", loss_of_draw)
    learner.features(batch, torch.Generator().manual_seed(0))
    counts, visible = seen[-1]
    assert not counts.all() and torch.equal(counts, batch.learn_mask.flatten(0, 1)[batch.present.flatten()])
    assert torch.equal(visible, counts) if hidden else visible.all()


def test_a_task_has_the_same_number_in_both_splits():
    """Hard negatives of held-out chunks come from the queue that training filled, by the number of their task."""
    alone = "adjust_the_lamp"  # numbered first, and of no held-out episode
    episodes = tiny_episodes(9, 20, 32)
    episodes[4].task = alone
    data = prepare_data(tiny_config(), episodes)
    held_out = {episode.task for episode in data.held_out.episodes}
    assert held_out and alone not in held_out and alone in data.train.tasks
    for dataset in (data.train, data.held_out):
        assert [data.train.tasks[number] for number in dataset.task_ids] == [e.task for e in dataset.episodes]


def test_the_gradient_of_a_step_is_as_long_as_the_configuration_allows(episodes):
    for limit in (0.01, math.inf):
        config = tiny_config(credit="sft", gradient_clip=limit)
        trainer = Trainer(config, prepare_data(config, episodes))
        logged = trainer.train_step()["gradient_norm"]
        left = [parameter.grad for parameter in trainer.learner.parameters() if parameter.grad is not None]
        assert logged > 0.02
        assert torch.nn.utils.get_total_norm(left).item() == pytest.approx(min(limit, logged), rel=1e-3)


def test_our_rule_is_not_trained_from_nothing(capsys, tmp_path):
    assert main(["train", "credit=crossfit", f"data.path={tmp_path}", "--root", str(tmp_path / "runs")]) == 2
    assert "'initial_policy' is empty; train one with credit=sft" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_ptr_is_given_all_that_tells_candidates_apart(episodes, monkeypatch):
    config = tiny_config(credit="ptr")
    trainer = Trainer(config, prepare_data(config, episodes))
    given, overlay = {}, trainer.learner.credit.overlay
    forward = overlay.forward

    def spy(*inputs, **named):
        given.update(named)
        return forward(*inputs, **named)

    monkeypatch.setattr(overlay, "forward", spy)
    features = trainer.learner.features(trainer.sampler.next(), torch.Generator().manual_seed(0))[1]
    trainer.learner.credit(features)
    for name, value in {"frames": features.frames, "tasks": features.task_ids, "state": features.state,
                        "offset": features.offset, "step_mask": features.step_mask}.items():
        assert torch.equal(given[name], value), name
    assert given["belief"] is features.belief


def test_without_weights_and_auxiliary_losses_ptr_is_sft_with_belief(episodes):
    """alpha = 0 and all lambdas 0 leave the plain action loss: same losses as SFT+Belief, step by step."""
    off = {"ptr.alpha": 0.0, "ptr.lambda_id": 0.0, "ptr.lambda_rank": 0.0, "ptr.lambda_ent": 0.0, "ptr.lambda_div": 0.0}
    tracks = []
    for credit in ("sft", "ptr"):
        config = tiny_config(credit=credit, **off)
        trainer = Trainer(config, prepare_data(config, episodes))
        trainer.run(6)
        tracks.append([row["loss_action"] for row in trainer.metrics])
    assert tracks[0] == pytest.approx(tracks[1], rel=1e-5)


@pytest.mark.parametrize("chosen_by", ["task", "state"])
def test_hard_negatives_follow_the_instruction_only_where_tasks_choose_them(episodes, chosen_by):
    config = tiny_config(credit="ptr", hard_negatives=chosen_by, **{"ptr.hard_ratio_min": 0.5})
    trainer = Trainer(config, prepare_data(config, episodes))
    for _ in range(3):
        trainer.train_step()
    learner = trainer.learner.eval()
    _, features = learner.features(trainer.sampler.next(), torch.Generator().manual_seed(0))
    other = replace(features, task_ids=features.task_ids.flip(0))
    assert not torch.equal(other.task_ids, features.task_ids)
    scores = [learner.credit(given).score for given in (features, other)]
    assert torch.equal(*scores) is (chosen_by == "state")


@pytest.mark.parametrize("detached", [True, False])
def test_the_detached_scorer_leaves_the_policy_alone(detached, episodes):
    config = tiny_config(credit="ptr", detach_scorer=detached, **{"ptr.lambda_ent": 0.0, "ptr.lambda_div": 0.0})
    trainer = Trainer(config, prepare_data(config, episodes))
    _, features = trainer.learner.features(trainer.sampler.next(), trainer.generator)
    trainer.learner.credit(features).auxiliary_loss.backward()
    reached = {name for name, p in trainer.learner.policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(p.grad is not None and p.grad.any() for p in trainer.learner.credit.parameters())
    if detached:
        assert not reached
    else:  # through the context and through the action tokens
        assert any(name.startswith("vision_tower.") for name in reached)
        assert any(name.startswith("head.expert.projector.") for name in reached)


def test_random_weights_are_the_rules_own_dealt_to_other_chunks(episodes):
    outs = []
    for credit in ("ptr", "random"):
        config = tiny_config(credit=credit, **{"ptr.warmup_steps": 0, "data.offset": 16})
        trainer = Trainer(config, prepare_data(config, episodes))
        trainer.run(6)
        _, features = trainer.learner.features(trainer.sampler.next(), torch.Generator().manual_seed(0))
        outs.append((trainer, features))
    (own, features), (dealt, _) = outs
    dealt.learner.credit.load_state_dict({**own.learner.credit.state_dict(),
                                          "_extra_state": dealt.learner.credit.get_extra_state()})
    weight, shuffled = own.learner.credit.eval()(features).weight, dealt.learner.credit.eval()(features).weight
    valid = features.valid
    assert valid.any() and not valid.all()
    assert torch.equal(weight[valid].sort().values, shuffled[valid].sort().values)
    assert not torch.equal(weight[valid], shuffled[valid]) and (shuffled[~valid] == 1).all()


def test_training_resumed_from_a_checkpoint_is_bitwise_the_same(episodes):
    config = tiny_config(credit="ptr")
    whole = Trainer(config, prepare_data(config, episodes))
    whole.run(12)
    first = Trainer(config, prepare_data(config, episodes))
    first.run(12 // 2)
    state = torch.load(_saved(first), weights_only=False)
    second = Trainer(config, prepare_data(config, episodes))
    second.load_state_dict(state)
    second.run(12)
    assert losses(second) == losses(whole)
    torch.testing.assert_close(second.learner.state_dict(), whole.learner.state_dict(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("credit", ["ptr", "random"])
def test_a_snapshot_leaves_training_as_it_was(credit, episodes):
    """Its chunks, held-out ones among them, are scored and forgotten: none of their targets enters the queue."""
    config = tiny_config(credit=credit)
    looked, undisturbed = (Trainer(config, prepare_data(config, episodes)) for _ in range(2))
    for step in range(7):
        if step == 4:
            assert set(looked.snapshot().split) == {"train", "held_out"}
        assert looked.train_step()["loss"] == undisturbed.train_step()["loss"]
    torch.testing.assert_close(looked.learner.state_dict(), undisturbed.learner.state_dict(), rtol=0, atol=0,
                               equal_nan=True)


def _saved(trainer: Trainer):
    import io

    buffer = io.BytesIO()
    torch.save(trainer.state_dict(), buffer)
    buffer.seek(0)
    return buffer


def test_training_learns(episodes):
    config = tiny_config(credit="sft", **{"ptr.optimization.steps": 150, "ptr.optimization.learning_rate": 3e-3,
                                          "log_every": 1, "data.held_out_fraction": 0.0})
    trainer = Trainer(config, prepare_data(config, episodes))
    trainer.run(150)
    assert np.mean(losses(trainer)[-20:]) < 0.8 * np.mean(losses(trainer)[:10])


def test_learning_rate_warms_up_and_falls_to_zero():
    factors = [learning_rate_factor(step, 10, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1 and max(factors) == 1
    assert factors[55] == pytest.approx(0.5) and factors[100] == pytest.approx(0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, episodes) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for task in {episode.task for episode in episodes}:
        write_episodes(folder / f"{task}_demo.hdf5", [episode for episode in episodes if episode.task == task])
    return folder


def test_a_run_folder_holds_what_the_book_needs(dataset, tmp_path):
    config = tiny_config(credit="ptr", **{"data.path": str(dataset)})
    folder = train(config, root=tmp_path, progress=False)
    assert {"config.yaml", "provenance.json", "metrics.parquet", "weights.parquet", "policy.safetensors"} <= {
        path.name for path in folder.iterdir()}
    assert not list(tmp_path.glob(".partial-*")) and not list(folder.glob(".*"))
    assert {"step", "loss", "nce_acc", "tau", "beta", "hard_ratio", "weight_mean"} <= set(
        pd.read_parquet(folder / "metrics.parquet").columns)
    saved = load_policy(folder)
    assert saved.config == config and saved.tokenizer is not None
    assert train(config, root=tmp_path, progress=False) == folder


@pytest.mark.parametrize("credit", ["ptr", "random", "sft"])
def test_the_gallery_shows_both_ends_of_the_score(credit, dataset, tmp_path):
    config = tiny_config(credit=credit, **{"data.path": str(dataset), "data.corruption": "combined"})
    folder = train(config, root=tmp_path, progress=False)
    gallery = load_gallery(folder)
    if credit != "ptr":  # shuffled weights and no weights have no ends to show
        assert gallery is None
        return
    chunks, snapshots = gallery.chunks, pd.read_parquet(folder / "weights.parquet")
    last = snapshots[(snapshots.step == 12) & (snapshots.split == "train") & snapshots.valid]
    ends = chunks.groupby("group").score
    assert ends.max()["highest"] == last.score.max() and ends.min()["lowest"] == last.score.min()
    assert ends.apply(lambda s: s.is_monotonic_decreasing)["highest"] and len(last) > len(chunks) > 4
    assert not chunks.duplicated(["episode", "start"]).any()
    assert chunks.groupby(["group", "episode"]).size().max() <= 2
    source = load_data(config).train  # the same split and corruption, read again
    for row, images in zip(chunks.to_dict("records"), gallery.images, strict=True):
        episode, start = source.episodes[row["episode"]], row["start"]
        assert row["instruction"] == episode.instruction and row["task"] == episode.task
        for camera, (now, after) in zip(gallery.cameras, images.swapaxes(0, 1), strict=True):
            assert np.array_equal(now, episode.images[camera][start])
            assert np.array_equal(after, episode.images[camera][start + config.data.offset])
    (folder / "gallery.npz").write_bytes(b"PK cut")
    with pytest.raises(ValueError, match=r"gallery\.npz: not a readable gallery"):
        load_gallery(folder)


def test_every_method_can_start_from_one_policy(dataset, tmp_path):
    first = train(tiny_config(credit="sft", **{"data.path": str(dataset), "network.use_belief": False}),
                  root=tmp_path, progress=False)
    config = tiny_config(credit="ptr", initial_policy=first.name,
                         **{"data.path": str(dataset), "ptr.optimization.learning_rate": 0.0,
                            "network.target_size": 16})
    second = train(config, root=tmp_path, progress=False)
    before, after = load_policy(first).policy.state_dict(), load_policy(second).policy.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    other = tiny_config(credit="ptr", initial_policy=first.name, **{"data.path": str(dataset), "network.width": 64})
    with pytest.raises(ValueError, match=r"another network \(network.width is 32 there and 64 here\); give the run"):
        train(other, root=tmp_path, progress=False)


@pytest.mark.parametrize(("key", "theirs", "ours"), [("ptr.belief_tokens", 4, 8),
                                                     ("ptr.base_policy.chunk_length", 16, 12)])
def test_a_start_of_other_shapes_is_refused(key, theirs, ours, dataset, tmp_path):
    here = {"data.path": str(dataset), "ptr.optimization.steps": 0}
    first = train(tiny_config(credit="sft", **here), root=tmp_path, progress=False)
    other = tiny_config(credit="sft", initial_policy=first.name, **here, **{key: ours})
    with pytest.raises(ValueError, match=rf"another network \({key} is {theirs} there and {ours} here\); give the run "
                                         f"the values of {first}/config.yaml$"):
        train(other, root=tmp_path, progress=False)


def test_a_start_that_is_no_folder_is_told_from_one_without_a_policy(dataset, tmp_path):
    here = {"data.path": str(dataset), "ptr.optimization.steps": 0}
    first = train(tiny_config(credit="sft", **here), root=tmp_path / "runs", progress=False)
    (tmp_path / "runs" / "empty").mkdir()
    for start, sentence in ((f"runs/{first.name}", f"^initial_policy 'runs/{first.name}' is no folder under {tmp_path}"
                             "/runs; train that run first, or give the name alone of a folder under --root$"),
                            ("empty", "empty: no trained policy here, nor any run")):
        with pytest.raises(ValueError, match=sentence):
            train(tiny_config(credit="sft", initial_policy=start, **here), root=tmp_path / "runs", progress=False)
    with pytest.raises(ValueError, match="^nowhere: there is no such folder; give one that training made$"):
        load_policy("nowhere")


@pytest.mark.parametrize("length", [4, 32])
def test_instructions_are_as_long_as_they_are_configured(length, tmp_path):
    long = [replace(episode, instruction=" ".join(f"{episode.task}{n}" for n in range(40)))
            for episode in tiny_episodes(4, 20, 32)]
    write_episodes(tmp_path / "a.hdf5", long)
    config = tiny_config(**{"data.path": str(tmp_path), "network.instruction_length": length, "ptr.warmup_steps": 0,
                            "data.held_out_fraction": 0.5, "ptr.optimization.steps": 1})
    data = load_data(config)
    assert data.held_out is not None
    for dataset in (data.train, data.held_out):
        assert dataset.instructions.shape[1] == length and dataset.instructions.all()
    folder = train(config, root=tmp_path, progress=False)
    agent = PolicyAgent(load_policy(folder), 4)
    agent.begin(0, long[0].instruction, 0)
    images = {camera: frames[0] for camera, frames in long[0].images.items()}
    assert agent.act([(0, Observation(images, long[0].state[0]))])[0].shape == (4, 7)
    assert len(weigh(folder)) == sum(map(len, long))


def test_what_is_in_the_way_of_a_run_is_said_before_it_is_trained(dataset, tmp_path):
    config = tiny_config(credit="sft", **{"data.path": str(dataset)})
    final = tmp_path / runs.folder_name(config)
    final.mkdir()
    with pytest.raises(ValueError, match=f"^{final} is in the way: it holds no finished training .*; delete it, or"):
        train(config, root=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == [final]


def test_checkpoints_outlast_a_run_that_cannot_take_its_name(dataset, tmp_path, monkeypatch):
    config = tiny_config(credit="sft", **{"data.path": str(dataset)})
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 6)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        train(config, root=tmp_path, progress=False)
    assert (tmp_path / f".partial-{runs.folder_name(config)}" / "checkpoint-0.pt").is_file()
    folder = train(config, root=tmp_path, progress=False)
    assert not list(folder.glob("checkpoint-*")) and json.loads((folder / "provenance.json").read_text())["resumed"]


def test_a_run_of_no_steps_is_the_policy_it_starts_from(dataset, tmp_path):
    first = train(tiny_config(credit="sft", **{"data.path": str(dataset), "network.use_belief": False}),
                  root=tmp_path, progress=False)
    config = tiny_config(credit="sft", initial_policy=first.name,
                         **{"data.path": str(dataset), "network.use_belief": False, "ptr.optimization.steps": 0})
    folder = train(config, root=tmp_path, progress=False)
    before, after = load_policy(first).policy.state_dict(), load_policy(folder).policy.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert runs.is_trained(config, tmp_path) and set(pd.read_parquet(folder / "weights.parquet").step) == {0}


def test_a_setting_of_two_ranks_is_trained_by_two_processes(dataset, tmp_path):
    config = tiny_config(credit="ptr", ranks=2, **{"ptr.cross_rank_gather": False, "data.path": str(dataset)})
    with pytest.raises(ValueError, match="ranks is 2 and this is a launch of 1 processes; .*--nproc-per-node 2"):
        train(config, root=tmp_path, progress=False)
    work([config], tmp_path)
    assert runs.is_trained(config, tmp_path) and not list(tmp_path.glob(".partial-*"))
    folder = tmp_path / runs.folder_name(config)
    assert runs.read_config(folder) == config
    record, metrics = json.loads((folder / "provenance.json").read_text()), pd.read_parquet(folder / "metrics.parquet")
    assert record["machine"]["multiplies_bfloat16"] == multiplies_bfloat16(torch.device("cpu"))
    assert record["ranks"] == 2 and "ranks=2" in record["command"]
    alone = train(override(config, {"ranks": 1}), root=tmp_path, progress=False)
    whole = pd.read_parquet(alone / "metrics.parquet")
    assert metrics.step.tolist() == whole.step.tolist()
    assert metrics.chunks.tolist() == whole.chunks.tolist()  # both ranks' shares of the same batches
    assert metrics.chunks_with_target.tolist() == whole.chunks_with_target.tolist()
    assert json.loads((alone / "provenance.json").read_text())["ranks"] == 1


def test_each_rank_scores_its_part_of_a_snapshot_among_its_own_candidates(dataset, tmp_path, monkeypatch):
    config = tiny_config(credit="ptr", ranks=2, **{"ptr.cross_rank_gather": False, "data.path": str(dataset),
                                                   "ptr.optimization.steps": 0})
    work([config], tmp_path)
    stored, parts = pd.read_parquet(tmp_path / runs.folder_name(config) / "weights.parquet"), []
    whole = Trainer(config, load_data(config)).snapshot()  # one process on the whole batches
    for rank in range(2):
        monkeypatch.setattr(Trainer, "_batches", lambda self, chunks, rank=rank: SegmentSampler(
            chunks, 4, config.seed, rank=rank, world_size=2))
        monkeypatch.setattr(Trainer, "_of_rank", lambda self, rank=rank: torch.Generator().manual_seed(1000 * rank))
        parts.append(Trainer(config, load_data(config)).snapshot())
    keys = ["split", "episode", "start"]
    expected = pd.concat(parts).drop_duplicates(keys).set_index(keys)
    assert set(map(tuple, stored[keys].to_numpy())) == set(expected.index) and len(stored) > len(parts[0])
    mine = expected.score.loc[map(tuple, stored[keys].to_numpy())]
    np.testing.assert_allclose(stored.score, mine, atol=1e-5)
    assert abs(mine - whole.set_index(keys).score.reindex(mine.index)).max() > 0.01


def test_two_launches_of_several_ranks_do_not_train_one_run(dataset, tmp_path):
    changes = {"credit": "sft", "ranks": 2, "data.path": str(dataset)}
    name = runs.folder_name(tiny_config(**changes))
    with runs.claimed(name, tmp_path):
        done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
                               "-m", "ptrlib", *words(root=tmp_path, **changes)], capture_output=True, text=True)
    assert done.returncode != 0 and not list(tmp_path.glob(".partial-*"))
    assert f"ptrlib: {tmp_path / name} is being trained by another process; wait for it" in done.stderr


def test_the_gathering_switch_changes_nothing_on_one_process(episodes):
    """So its row of Table 5 needs two ranks."""
    tracks = []
    for gather in (True, False):
        config = tiny_config(credit="ptr", **{"ptr.cross_rank_gather": gather})
        trainer = Trainer(config, prepare_data(config, episodes))
        trainer.run(6)
        tracks.append(losses(trainer))
    assert tracks[0] == tracks[1]


def test_a_killed_run_is_taken_up_again(dataset, tmp_path, monkeypatch):
    """kill -9 after the first checkpoint; the second worker continues and ends as an undisturbed one."""
    steps, every = 220, 100
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", every)
    config = tiny_config(credit="ptr", **{"data.path": str(dataset), "ptr.optimization.steps": steps, "log_every": 20})
    code = f"""
from pathlib import Path
from ptrlib import training
from tests.test_training import tiny_config
training.CHECKPOINT_EVERY = {every}
changes = {{"data.path": {str(dataset)!r}, "ptr.optimization.steps": {steps}, "log_every": 20}}
training.train(tiny_config(credit="ptr", **changes),
               root=Path({str(tmp_path / "killed")!r}), progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    checkpoint = tmp_path / "killed" / f".partial-{runs.folder_name(config)}" / "checkpoint-0.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not runs.is_trained(config, tmp_path / "killed")
    resumed = train(config, root=tmp_path / "killed", progress=False)
    undisturbed = train(config, root=tmp_path / "whole", progress=False)
    columns = ["step", "loss", "tau", "beta", "nce_acc"]
    pd.testing.assert_frame_equal(pd.read_parquet(resumed / "metrics.parquet")[columns],
                                  pd.read_parquet(undisturbed / "metrics.parquet")[columns])


def words(*, root: Path, **changes) -> list[str]:
    """The command line that trains :func:`tiny_config`."""
    return ["train", "--root", str(root), *runs.changes_of(tiny_config(**changes))]


@pytest.fixture
def heard():
    """Ctrl-C reaches the process, also where whoever started the tests had it ignored, as in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(monkeypatch, step: int, number: int = signal.SIGINT) -> None:
    """Ctrl-C, or another signal, in the middle of that step."""
    whole = Trainer.train_step

    def interrupted(self: Trainer):
        if self.step == step - 1:
            os.kill(os.getpid(), number)
        return whole(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_that_was_interrupted_continues(number, dataset, tmp_path, monkeypatch, capsys, heard):
    changes = {"credit": "ptr", "data.path": str(dataset)}
    undisturbed = train(tiny_config(**changes), root=tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, number)
        assert main(words(root=tmp_path, **changes)) == 130
    assert "interrupted; run the same command again to continue" in capsys.readouterr().err
    partial = tmp_path / f".partial-{undisturbed.name}"
    assert torch.load(partial / "checkpoint-0.pt", weights_only=False)["step"] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert main(words(root=tmp_path, **changes)) == 0
    folder = tmp_path / undisturbed.name
    assert not partial.exists() and json.loads((folder / "provenance.json").read_text())["resumed"]
    assert pd.read_parquet(folder / "metrics.parquet").loss.tolist() == pd.read_parquet(
        undisturbed / "metrics.parquet").loss.tolist()


@pytest.mark.parametrize(("content", "reason"), [(b"", "Ran out of input"), (b"text", ""), (None, "central directory")])
def test_a_damaged_checkpoint_is_one_sentence(content, reason, dataset, tmp_path, capsys):
    changes = {"credit": "sft", "data.path": str(dataset)}
    checkpoint = runs.partial_folder(tiny_config(**changes), tmp_path) / "checkpoint-0.pt"
    torch.save({"step": 5, "more": torch.zeros(1000)}, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000] if content is None else content)
    assert main(words(root=tmp_path, **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ptrlib: {checkpoint}: not a readable checkpoint (") and reason in error
    assert error.endswith("); delete this checkpoint to begin anew\n") and error.count("\n") == 1
    checkpoint.unlink()
    assert main(words(root=tmp_path, **changes)) == 0


def full(error: Exception) -> Callable:
    """A writer that fills the disk half way."""
    def write(*arguments, **options):
        next(Path(value) for value in (*arguments, *options.values()) if isinstance(value, Path)).write_bytes(b"half")
        raise error

    return write


FULL = OSError(errno.ENOSPC, "No space left on device")
WRITERS = {  # file -> who writes it, and what that raises of a full disk
    "checkpoint-0.pt": (torch, "save", RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704")),
    "policy.safetensors": (storage, "save_file", SafetensorError("IoError(Os { code: 28, kind: StorageFull })")),
    "credit.safetensors": (credit_storage, "save_file", SafetensorError("IoError(Os { code: 28, kind: StorageFull })")),
    "weights.parquet": (pd.DataFrame, "to_parquet", FULL), "config.yaml": (Path, "write_text", FULL)}


@pytest.mark.parametrize("file", WRITERS)
def test_a_full_disk_is_one_sentence_and_the_same_command_continues(file, dataset, tmp_path, monkeypatch, capsys):
    owner, name, error = WRITERS[file]
    changes = {"credit": "ptr", "data.path": str(dataset)}
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 6)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full(error))
        assert main(words(root=tmp_path, **changes)) == 2
    partial = tmp_path / f".partial-{runs.folder_name(tiny_config(**changes))}"
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ptrlib: ")]
    reason = "No space left on device" if error is FULL else str(error)
    assert said == [f"ptrlib: {partial / file} could not be written ({reason}); if the disk is full make room, and run "
                    "the same command again"]
    assert not list(partial.glob(".*")) and not (partial / file).exists()
    assert main(words(root=tmp_path, **changes)) == 0
    record = json.loads((tmp_path / runs.folder_name(tiny_config(**changes)) / "provenance.json").read_text())
    assert record["resumed"] == (file not in ("checkpoint-0.pt", "config.yaml"))


def test_what_a_full_disk_does_not_explain_keeps_its_own_words(tmp_path):
    with pytest.raises(PermissionError, match="mine"), written(tmp_path / "file") as temporary:
        temporary.touch()
        raise PermissionError(errno.EACCES, "mine")
    assert not list(tmp_path.iterdir())


def test_the_path_that_training_prints_is_a_start(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    here = {"credit": "sft", "data.path": str(dataset), "ptr.optimization.steps": 0}
    assert main(words(root=Path("runs"), **here)) == 0
    first = capsys.readouterr().out.strip()
    second = runs.folder_name(tiny_config(**here, initial_policy=Path(first).name))
    for given in (first, f"{first}/", str(tmp_path / first), Path(first).name):
        assert main(words(root=Path("runs"), **here, initial_policy=given)) == 0
        assert capsys.readouterr().out == f"runs/{second}\n"
    assert len([path for path in Path("runs").iterdir() if not path.name.startswith(".")]) == 2
    other = Path("other") / Path(first).name  # of the same name, and another run
    other.mkdir(parents=True)
    assert main(words(root=Path("runs"), **here, initial_policy=str(other))) == 2
    assert "or give the name alone of a folder under --root" in capsys.readouterr().err


def rewritten(dataset: Path, seed: int = 0) -> None:
    """Put other demonstrations where the data set was."""
    write_episodes(dataset / "pick_up_the_bowl_demo.hdf5", tiny_episodes(8, 40, 32, tasks=1, seed=seed))


def test_a_run_of_other_demonstrations_is_not_taken_for_one_of_these(tmp_path):
    data, root = tmp_path / "data", tmp_path / "runs"
    rewritten(data)
    config = tiny_config(credit="sft", **{"data.path": str(data)})
    folder = train(config, root=root, progress=False)
    assert train(config, root=root, progress=False) == folder
    rewritten(data, seed=1)
    with pytest.raises(ValueError, match=f"^{folder} was trained on other demonstrations than {data} holds now .other "
                                         "actions, lengths, states.; delete it, or give another --root$"):
        train(config, root=root, progress=False)
    work([config], root)  # a manifest asks for no demonstrations of a run that is finished
    data.rename(tmp_path / "elsewhere")
    assert train(config, root=root, progress=False) == folder  # nor does anybody where there are none


def test_a_checkpoint_of_other_demonstrations_is_not_continued(tmp_path, monkeypatch, heard):
    data, root = tmp_path / "data", tmp_path / "runs"
    rewritten(data)
    config = tiny_config(credit="sft", **{"data.path": str(data)})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 5)
        train(config, root=root, progress=False)
    rewritten(data, seed=1)
    with pytest.raises(ValueError, match=rf"\.partial-{runs.folder_name(config)} was trained on other demonstrations"):
        train(config, root=root, progress=False)
    rewritten(data)
    assert train(config, root=root, progress=False).is_dir()


CHANGED = {  # what is said to be other -> demonstrations with the same actions that are so
    "states": lambda episodes: [replace(episode, state=episode.state + 1) for episode in episodes],
    "instructions": lambda episodes: [replace(episode, instruction="something else") for episode in episodes],
    "tasks": lambda episodes: [replace(episode, task=f"other_{episode.task}") for episode in episodes],
    "robots": lambda episodes: [replace(episode, embodiment="so100") for episode in episodes],
    "images": lambda episodes: [replace(episode, images={camera: images[:, ::-1] for camera, images
                                                         in episode.images.items()}) for episode in episodes],
    "lengths, states, instructions, tasks, robots": lambda episodes: [replace(
        episodes[0], actions=np.concatenate([episode.actions for episode in episodes]),
        state=np.concatenate([episodes[0].state[:1], *(episode.state[1:] for episode in episodes)]),
        extra={}, simulator_states=None, images={camera: np.concatenate([episodes[0].images[camera][:1], *(
            episode.images[camera][1:] for episode in episodes)]) for camera in episodes[0].images})]}


def test_demonstrations_of_the_same_actions_are_told_apart(tmp_path, monkeypatch, heard):
    """By a finished run, which reads no images; by one that was interrupted; and by ``ptrlib weights``."""
    robot = EMBODIMENTS["libero"]
    monkeypatch.setitem(EMBODIMENTS, "so100", replace(robot, name="so100", state_slots=robot.state_slots[::-1]))
    data, finished, cut = tmp_path / "a.hdf5", tmp_path / "finished", tmp_path / "cut"
    before = tiny_episodes(4, 20, 32, tasks=1)
    write_episodes(data, before)
    config = tiny_config(credit="ptr", **{"data.path": str(data), "data.held_out_fraction": 0.0})
    folder = train(config, root=finished, progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 5)
        train(config, root=cut, progress=False)
    for other, change in CHANGED.items():
        write_episodes(data, change(before))
        assert fingerprint_episodes(read_episodes(data)) == fingerprint_episodes(before)
        if other != "images":
            with pytest.raises(ValueError, match=rf"was trained on other demonstrations .*\(other {other}\); del"):
                train(config, root=finished, progress=False)
        with pytest.raises(ValueError, match=r"\.partial-.* was trained on other demonstrations .*\(other " + other):
            train(config, root=cut, progress=False)
        with pytest.raises(ValueError, match=rf"these are not the demonstrations .* trained on \(other {other}"):
            weigh(folder)
    write_episodes(data, before)
    assert train(config, root=finished, progress=False) == folder and len(weigh(folder)) == sum(map(len, before))
    assert train(config, root=cut, progress=False).is_dir()


def test_runs_that_know_of_their_demonstrations_only_the_actions_are_kept(tmp_path):
    data = tmp_path / "a.hdf5"
    write_episodes(data, tiny_episodes(4, 40, 32))
    config = tiny_config(credit="sft", **{"data.path": str(data)})
    folder = train(config, root=tmp_path, progress=False)
    record = json.loads((folder / "provenance.json").read_text())
    assert set(record.pop("data_parts")) == {"lengths", "states", "instructions", "tasks", "robots", "images"}
    runs.write_provenance(folder, record)
    write_episodes(data, CHANGED["states"](tiny_episodes(4, 40, 32)))
    assert train(config, root=tmp_path, progress=False) == folder


@pytest.mark.parametrize("credit", sorted(CREDITS))
def test_a_rule_that_needs_consequences_says_that_none_was_recorded(credit, episodes):
    config = tiny_config(credit=credit, **{"data.path": "here", "data.offset": 44})
    if credit in ("sft", "oracle", "bounded_oracle"):
        assert prepare_data(config, episodes).train
        return
    with pytest.raises(ValueError, match=r"^no training episode of here has data.offset = 44 steps \(the longest has "
                                         r"4\d\): nothing was recorded after any chunk; lower data.offset$"):
        prepare_data(config, episodes)
    asks_less = {"data.offset": 44, "crossfit.recorded_steps": 4}
    if credit.startswith("crossfit"):
        assert prepare_data(tiny_config(credit=credit, **asks_less), episodes).train


def test_weights_that_would_stay_one_are_refused(dataset, tmp_path):
    never = {"data.path": str(dataset), "ptr.warmup_steps": 12}
    for credit in ("ptr", "random"):
        with pytest.raises(ValueError, match=r"^ptr.warmup_steps \(12\) must be below ptr.optimization.steps \(12, "):
            train(tiny_config(credit=credit, **never), root=tmp_path, progress=False)
    assert train(tiny_config(credit="ptr", **never | {"ptr.alpha": 0.0}), root=tmp_path, progress=False).is_dir()


def test_what_is_refused_leaves_nothing_behind(tmp_path, capsys):
    changes = {"credit": "sft", "data.path": str(tmp_path / "absent")}
    assert main(words(root=tmp_path / "runs", **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith("ptrlib: ") and str(tmp_path / "absent") in error and error.count("\n") == 1
    assert not list((tmp_path / "runs").glob(".partial-*"))


def test_a_root_that_is_a_file_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(words(root=tmp_path / "file", credit="sft")) == 2
    error = capsys.readouterr().err
    assert error.startswith("ptrlib: ") and str(tmp_path / "file") in error and error.count("\n") == 1


def test_a_loss_that_is_no_number_is_one_sentence(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training.Learner, "forward", lambda *_: (torch.tensor(torch.nan), {}))
    assert main(words(root=tmp_path, credit="sft", **{"data.path": str(dataset)})) == 2
    assert "ptrlib: the loss is nan at step 0; lower ptr.optimization.learning_rate\n" in capsys.readouterr().err


def test_errors_of_a_program_keep_their_traceback(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Learner, "forward", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        main(words(root=tmp_path, credit="sft", **{"data.path": str(dataset)}))


def test_work_that_stopped_for_a_reason_outside_is_one_sentence(capsys):
    def stop() -> None:
        raise Stopped("worker 0 was ended by the system; run the same command again")

    assert answered(stop) == 2
    assert capsys.readouterr().err == "ptrlib: worker 0 was ended by the system; run the same command again\n"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["evaluate", "nope"], "nope is no run folder: it has no config.yaml"),
    (["evaluate"], "ptrlib: nothing to do; give at least one run folder, such as those in experiments/runs\n"),
    (["run"], "ptrlib: nothing to do; give at least one manifest, such as those in experiments\n"),
    (["train", "data.cameras=top"], "'data.cameras' must be a list such as [top], got 'top'\n"),
    (["train", "data.cameras=[3]"], "'data.cameras' must be str, got 3\n"),
    (["train", "data.cameras="], "'data.cameras' must be a list of str values and was given nothing; leave it out for "
     "its default\n"),
    (["train", "data.truncation_keep=0.5"], "'data.truncation_keep' must be a list of 2 float values, got 0.5\n"),
    (["train", "data.path="], "'data.path' must be str and was given nothing; leave it out for its default, or write "
     "\"\" with the quotes for an empty one\n"),
    (["train", "seed=a"], "'seed' must be int, got 'a'\n"),
    (["train", "data.cameras=[top, wrist"], "is not valid YAML"),
    (["notebook", "score", "seeds=[1,2"], "is not valid YAML"),
    (["notebook", "score", "fresh"], "'fresh' is not of the form key=value")])
def test_a_wrong_word_on_the_command_line_is_one_sentence(capsys, arguments, sentence):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("ptrlib: ") and sentence in error and error.count("\n") == 1


def test_a_run_that_another_process_trains_is_left_to_it(dataset, tmp_path, capsys):
    changes = {"credit": "sft", "data.path": str(dataset)}
    name = runs.folder_name(tiny_config(**changes))
    with runs.claimed(name, tmp_path):
        assert main(words(root=tmp_path, **changes)) == 2
    assert f"{tmp_path / name} is being trained by another process; wait" in capsys.readouterr().err
    assert main(words(root=tmp_path, **changes)) == 0


def test_a_run_says_first_what_it_learns_from(dataset, tmp_path, episodes, capsys):
    changes = {"credit": "sft", "data.path": str(dataset)}
    assert main(words(root=tmp_path, **changes)) == 0
    config = tiny_config(**changes)
    data = load_data(config)
    chunks = sum(map(len, data.train.episodes))
    recorded = sum(len(episode) - 8 + 1 for episode in data.train.episodes) / chunks  # data.offset is 8
    said = (f"6 episodes ({chunks} chunks, {recorded:.0%} with a recorded consequence) to learn from, 2 held out; "
            "robot libero; cameras agentview, eye_in_hand")
    shown = capsys.readouterr()
    assert f"{runs.folder_name(config)}: {said}\n" in shown.err
    assert shown.out == f"{tmp_path / runs.folder_name(config)}\n"
    told = json.loads((tmp_path / runs.folder_name(config) / "provenance.json").read_text())
    assert told["demonstrated_in"] == []  # files of others do not say
    limited = tiny_config(**changes, **{"data.episodes_per_task": 2})
    assert overview(limited, load_data(limited)).endswith(
        "data.episodes_per_task = 2 was reached: raise it to read more, if there is more")
    rising = override(limited, {"ptr.optimization.lr_warmup_steps": 40})
    assert overview(rising, load_data(rising)).endswith(
        "; the learning rate only rises, to 12/40 of ptr.optimization.learning_rate (ptr.optimization.lr_warmup_steps)")


def test_a_lerobot_dataset_trains(tmp_path):
    write_lerobot(tmp_path / "data", lengths=(40,) * 6, size=32)
    config = tiny_config(**{"data.path": str(tmp_path / "data"), "data.episodes_per_task": 2,
                            "ptr.optimization.steps": 2, "ptr.warmup_steps": 0})
    folder = train(config, root=tmp_path / "runs", progress=False)
    metrics = pd.read_parquet(folder / "metrics.parquet")
    assert metrics.step.max() == 2 and np.isfinite(metrics.loss).all()
    assert load_policy(folder).cameras == ("top", "wrist")
    assert len(load_data(config).train.episodes) == 4  # two of each of the two tasks


def test_some_demonstrators_alone_are_learned_from(tmp_path, episodes):
    for number, episode in enumerate(episodes):
        write_episodes(tmp_path / f"{number}.hdf5", [replace(episode, operator=("precise", "slow")[number % 2])])
    here = {"data.path": str(tmp_path), "data.held_out_fraction": 0.0}
    read = load_data(tiny_config(**here, **{"data.operators": ["slow"]})).train.episodes
    assert [episode.operator for episode in read] == ["slow"] * 4
    assert len(load_data(tiny_config(**here)).train.episodes) == 8
    with pytest.raises(ValueError, match="names 'quick' and the demonstrators in .* are 'precise', 'slow'; choose"):
        load_data(tiny_config(**here, **{"data.operators": ["slow", "quick"]}))


def test_an_episode_with_other_cameras_is_named_before_training_whether_it_is_held_out_or_not(episodes):
    config = tiny_config(credit="sft", **{"data.held_out_fraction": 0.25})
    held_out = prepare_data(config, episodes).held_out.episodes
    for odd in episodes:
        lacking = replace(odd, file="odd.hdf5", name="demo_3", images={"agentview": odd.images["agentview"]})
        with pytest.raises(DataError, match=r"has images .* where the first episode has .* \(data\.cameras\)") as said:
            prepare_data(config, [lacking if episode is odd else episode for episode in episodes])
        assert odd is episodes[0] or str(said.value).startswith("odd.hdf5: demo_3 has images")
    assert any(odd is episode for odd in episodes for episode in held_out)


def test_data_of_which_everything_is_held_out_are_one_sentence(episodes):
    config = tiny_config(**{"data.path": "mine", "data.held_out_fraction": 0.6})
    with pytest.raises(ValueError, match=r"^data\.held_out_fraction = 0\.6 leaves no episode of mine to learn from "
                                         r"\(of 1\); lower it"):
        prepare_data(config, episodes[:1])


def test_two_robots_with_cameras_of_their_own_train_one_policy(tmp_path):
    """What each sees is looked for under all names of a view, in training and when the policy acts."""
    write_episodes(tmp_path / "first.hdf5", tiny_episodes(4, 30, 32))
    second = tiny_episodes(4, 30, 32, seed=1)
    for episode in second:
        left, hand = episode.images.values()
        episode.images = {"agentview_left": left, "agentview_right": hand, "eye_in_hand": hand}
        episode.embodiment, episode.actions = "robocasa", np.pad(episode.actions, ((0, 0), (0, 5)))
        episode.state = np.pad(episode.state, ((0, 0), (0, 3)))
    write_episodes(tmp_path / "second.hdf5", second)
    with pytest.raises(ValueError, match=r"read all with the same cameras \(data.cameras\)"):
        load_data(tiny_config(**{"data.path": str(tmp_path)}))
    config = tiny_config(**{"data.path": str(tmp_path / "first.hdf5"),
                            "data.further_paths": [str(tmp_path / "second.hdf5")],
                            "data.cameras": ["agentview|agentview_left", "eye_in_hand"],
                            "data.held_out_fraction": 0.0, "ptr.optimization.steps": 2, "ptr.warmup_steps": 0})
    folder = train(config, root=tmp_path / "runs", progress=False)
    assert set(pd.read_parquet(folder / "weights.parquet").embodiment) == {"libero", "robocasa"}
    read = json.loads((folder / "provenance.json").read_text())["data"]
    assert read == f"{tmp_path}/first.hdf5, {tmp_path}/second.hdf5"
    for cameras in (["eye_in_hand"], ["eye_in_hand", "agentview|agentview_left"]):
        with pytest.raises(ValueError, match=r"sees through agentview\|agentview_left, eye_in_hand and the data"):
            train(override(config, {"initial_policy": folder.name, "data.cameras": cameras}), root=tmp_path / "runs")
    saved = load_policy(folder)
    agent = PolicyAgent(saved, 4)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for robot, views, dims in (("libero", ("agentview", "eye_in_hand"), (8, 7)),
                               ("robocasa", ("agentview_left", "agentview_right", "eye_in_hand"), (11, 12))):
        with pytest.raises(ValueError, match="from the robots libero and robocasa; say which one is to act: begin"):
            agent.begin(0, "open the drawer", 0)
        agent.begin(0, "open the drawer", 0, robot)
        seen = Observation(dict(zip(views, pixels, strict=False)), np.zeros(dims[0], np.float32))
        assert agent.act([(0, seen)])[0].shape == (4, dims[1])
    with pytest.raises(ValueError, match=r"'agentview\|agentview_left' and the observation has top; call its ima"):
        agent.act([(0, Observation({"top": pixels[0]}, np.zeros(11, np.float32)))])
    with pytest.raises(ValueError, match="there is no robot 'robocsa'; give begin.. an embodiment of libero, robocasa"):
        agent.begin(0, "open the drawer", 0, "robocsa")
    second_alone = override(config, {"data.path": str(tmp_path / "second.hdf5"), "data.further_paths": []})
    agent = PolicyAgent(load_policy(train(second_alone, root=tmp_path / "runs", progress=False)), 4)
    agent.begin(0, "open the drawer", 0)  # of the robot that the file named; data.embodiment says libero
    views = dict(zip(("agentview_left", "eye_in_hand"), pixels, strict=False))
    assert agent.act([(0, Observation(views, np.zeros(11, np.float32)))])[0].shape == (4, 12)
    with pytest.raises(ValueError, match="a state of the robot 'robocasa' has 11 numbers, not 8; if another"):
        agent.act([(0, Observation(views, np.zeros(8, np.float32)))])


@pytest.mark.parametrize("steps", [0, 17])
def test_an_agent_executes_what_was_predicted_or_less(steps, dataset, tmp_path):
    folder = train(tiny_config(credit="sft", **{"data.path": str(dataset), "ptr.optimization.steps": 0}),
                   root=tmp_path, progress=False)
    with pytest.raises(ValueError, match=f"^execute_steps must lie in 1 to 16, .* at a time, got {steps}$"):
        PolicyAgent(load_policy(folder), steps)


def test_a_start_from_another_robot_or_other_cameras_is_said(dataset, tmp_path, capfd):
    """It may be meant: what the two share in the unified action space is learned on."""
    config = tiny_config(credit="sft", **{"data.path": str(dataset), "ptr.optimization.steps": 1})
    start = train(config, root=tmp_path, progress=False)
    write_lerobot(tmp_path / "own", lengths=(20, 20), size=32, state=np.zeros((40, 13)), actions=np.zeros((40, 13)))
    other = {"data.path": str(tmp_path / "own"), "data.embodiment": "fr3"}
    for changes, noted in (({"seed": 1}, False), (other, True)):
        capfd.readouterr()
        train(override(config, {"initial_policy": start.name} | changes), root=tmp_path)
        said = "; note that initial_policy has learned from the robot libero through agentview, eye_in_hand"
        assert (said in capfd.readouterr().err) == noted


@pytest.mark.parametrize("robot", ["libero", "so100"])
def test_a_robot_that_the_data_do_not_fit_is_named_with_those_they_fit(tmp_path, robot):
    write_lerobot(tmp_path, size=32, state=np.zeros((11, 13)), actions=np.zeros((11, 13)))
    with pytest.raises(DataError, match=rf"episode_000000 holds states of 13 .* '{robot}' does not .*\(fr3\)"):
        load_data(tiny_config(**{"data.path": str(tmp_path), "data.embodiment": robot}))
    data = load_data(tiny_config(**{"data.path": str(tmp_path), "data.embodiment": "fr3", "data.offset": 4}))
    assert data.train.episodes[0].embodiment == "fr3"


@pytest.mark.parametrize("command", ["run experiments/tabletop_start.yaml", "evaluate experiments/runs"])
def test_at_least_one_worker_is_asked_for(command, capsys):
    assert main([*command.split(), "--workers", "0"]) == 2
    assert capsys.readouterr().err == "ptrlib: workers is the number of processes, 1 or more, not 0\n"


@pytest.mark.parametrize(("asked", "cores", "at_once"), [(None, 4, 4), (None, 64, 8), (None, None, 1), (3, 4, 3)])
def test_without_a_number_there_is_a_process_for_each_core(asked, cores, at_once, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(experiment.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(experiment, "_train_missing", lambda *asked: told.append(asked[3]))
    run_manifest("experiments/tabletop_pretrain.yaml", workers=asked, stage="train", root=tmp_path)
    assert told == [at_once]


def test_workers_that_lack_demonstrations_say_so_in_a_sentence_each(tmp_path, capfd):
    manifest = tmp_path / "two.yaml"
    manifest.write_text(f"base: {{credit: sft, data.path: {tmp_path / 'nowhere'}}}\nseeds: [0, 1]\n")
    with pytest.raises(ValueError, match="2 of 2 workers stopped with an error"):
        run_manifest(manifest, workers=2, stage="train", root=tmp_path / "runs")
    said = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(said) == 2 and all(line.startswith("ptrlib: ") and "does not exist; check" in line for line in said)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_manifest_whose_process_is_terminated_leaves_checkpoints_and_no_worker(ranks, dataset, tmp_path):
    """As a cluster's scheduler ends a job: the signal reaches the first process alone."""
    manifest, root = tmp_path / "two.yaml", tmp_path / "runs"
    base = TINY | {"credit": "sft", "network.use_belief": False, "data.path": str(dataset),
                   "ptr.optimization.steps": 60000, "ranks": ranks}
    manifest.write_text(f"base: {json.dumps(base)}\nseeds: {[0, 1] if ranks == 1 else [0]}\n")
    code = f"""
import sys
from pathlib import Path
from ptrlib.cli import answered
from ptrlib.experiment import run_manifest
sys.exit(answered(lambda: run_manifest({str(manifest)!r}, stage="train", root=Path({str(root)!r}))))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while len(list(root.glob(".partial-*/checkpoint-*.pt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    said, _ = process.communicate(timeout=60)  # not before its workers, which hold the same pipe, have ended
    assert process.returncode == 130, said
    kept = [torch.load(file, weights_only=False)["step"] for file in root.glob(".partial-*/checkpoint-*.pt")]
    assert len(kept) == 2  # of two ranks each keeps its last one
    assert ranks > 1 or any(step % training.CHECKPOINT_EVERY for step in kept)


def test_demonstrations_named_twice_are_one_sentence(dataset, tmp_path, capsys):
    again = f"{dataset.parent}/./{dataset.name}"
    assert main(words(root=tmp_path, credit="sft", **{"data.path": str(dataset), "data.further_paths": [again]})) == 2
    assert capsys.readouterr().err == (
        f"ptrlib: {again} is named twice among the demonstrations, whose episodes would count twice; name it once "
        "(data.path and data.further_paths, or --data)\n")


def test_workers_are_given_the_changes_as_they_are(tmp_path, capfd):
    manifest, path = tmp_path / "two.yaml", str(tmp_path / "no #where")
    manifest.write_text("base: {credit: sft, initial_policy: a-run}\nseeds: [0, 1]\n")
    changes = {"data.path": path, "initial_policy": "", "data.cameras": ["top", "a|b"], "ptr.w_min": 1e-6}
    with pytest.raises(ValueError, match="2 of 2 workers stopped with an error"):
        run_manifest(manifest, changes=changes, workers=2, stage="train", root=tmp_path / "runs")
    said = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(said) == 2 and all(line.startswith(f"ptrlib: {path} ") for line in said)
