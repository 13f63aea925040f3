"""Tabletop from recording to rollout: files, executed noise, batched evaluation, a manifest from nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ptrlib.agent import PolicyAgent
from ptrlib.batched_evaluation import rollout_batch
from ptrlib.config import EvaluationConfig, RunConfig, override
from ptrlib.data.corruption import corrupt
from ptrlib.data.hdf5 import EpisodeWriter
from ptrlib.data.reading import read_episodes
from ptrlib.evaluation import COLUMNS, episode_seed, evaluate, evaluate_many
from ptrlib.experiment import run_manifest
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.simulators.recording import record
from ptrlib.simulators.tabletop import SUITES, TabletopBatch, recording
from ptrlib.training import Trainer, prepare_data
from tests.factories import tiny_episodes

CONFIG = EvaluationConfig(world="tabletop", suite="generalist", episodes_per_task=2, first_init_state=3, max_steps=21)
TINY = {"network.image_size": 32, "network.width": 32, "network.vision_channels": (8, 16, 16),
        "network.backbone_layers": 1, "network.expert_layers": 1, "network.precision": "float32",
        "data.random_shift": 0, "ptr.optimization.steps": 3, "ptr.optimization.batch_size": 16,
        "ptr.optimization.lr_warmup_steps": 1, "ptr.warmup_steps": 1, "data.held_out_fraction": 0.0}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Four demonstrations of two tasks for each of two robots."""
    folder = tmp_path_factory.mktemp("tabletop")
    record("tabletop", "generalist", 4, ("precise", "recovery"), folder, tasks=[2, 4, 14, 16], image_size=32)
    return folder


class Wanderer:
    """Random chunks from the episode's seed, in the dimensions of the episode's robot."""

    def __init__(self):
        self.slots = {}

    def begin(self, slot, instruction, seed, embodiment=None):
        self.slots[slot] = np.random.default_rng(seed), len(EMBODIMENTS[embodiment].action_slots)

    def act(self, requests):
        return [generator.uniform(-1, 1, (8, size)).astype(np.float32)
                for generator, size in (self.slots[slot] for slot, _ in requests)]


def test_recorded_files_hold_what_the_robot_saw_and_replay_to_success(recorded):
    episodes = read_episodes(recorded)
    assert len(episodes) == 16 and {episode.embodiment for episode in episodes} == {
        "tabletop_gantry", "tabletop_three_link"}
    for episode in episodes:
        motors = 2 if episode.embodiment == "tabletop_gantry" else 3
        assert episode.actions.shape[1] == episode.state.shape[1] == motors + 1
        assert episode.images["scene"].shape == (len(episode) + 1, 32, 32, 3)
        assert episode.success and episode.seed >= 0 and episode.operator in ("precise", "recovery")
        index = [task.name for task in SUITES["generalist"]].index(episode.task)
        batch = TabletopBatch("generalist", [index])
        batch.reset(seeds=[episode.seed])
        for step, action in enumerate(episode.actions):
            seen = batch.observe(np.array([0]))[0]
            np.testing.assert_array_equal(seen.images["scene"], episode.images["scene"][step])
            np.testing.assert_array_equal(seen.state, episode.state[step])
            solved = batch.step([action])[0]
        assert solved


def test_recording_again_changes_nothing_and_other_settings_are_refused(recorded):
    before = {file: file.stat().st_mtime_ns for file in recorded.glob("*.hdf5")}
    arguments = ("tabletop", "generalist", 4, ("precise", "recovery"), recorded)
    record(*arguments, tasks=[2, 4, 14, 16], image_size=32)
    assert {file: file.stat().st_mtime_ns for file in recorded.glob("*.hdf5")} == before
    with pytest.raises(ValueError, match="was recorded with seed 0 instead of 1"):
        record(*arguments, tasks=[2], image_size=32, seed=1)
    with pytest.raises(ValueError, match="'libero' has no executed_noise; leave it out"):
        record("libero", executed_noise=0.5)


def test_what_an_interrupted_recording_left_is_not_taken_for_a_later_one_s(tmp_path):
    arguments = {"world": "tabletop", "suite": "slider", "styles": ("precise",), "tasks": [0], "images": False}
    [file] = record(episodes=2, seed=1, out=tmp_path, **arguments)
    wanted = read_episodes(file)
    file.unlink()
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(file, {}) as writer:  # as if it was killed with seed 0
        writer.append(tiny_episodes(1)[0])
        raise KeyboardInterrupt
    record(episodes=2, seed=1, out=tmp_path, **arguments)
    assert [episode.seed for episode in read_episodes(file)] == [episode.seed for episode in wanted]
    assert not list(tmp_path.glob("*.partial"))


def test_executed_noise_is_in_actions_and_states_and_marked_whatever_comes_of_it(tmp_path):
    record("tabletop", "slider", 10, ("precise",), tmp_path / "clean", tasks=[0], image_size=32)
    record("tabletop", "slider", 10, ("precise",), tmp_path / "noisy", tasks=[0], image_size=32, executed_noise=0.8)
    clean, noisy = read_episodes(tmp_path / "clean"), read_episodes(tmp_path / "noisy")
    hit = [bool(episode.truth["action_noise"].all()) for episode in noisy]
    assert sum(hit) == 3
    for before, after, touched in zip(clean, noisy, hit, strict=True):
        assert before.seed == after.seed or not touched
        if touched:
            free = np.abs(after.actions[:-1, :2]).max(axis=1) < 0.9  # unclipped motion is what the action says
            moved = np.diff(after.state[:, :2], axis=0)[:-1][free]
            assert np.abs(moved / 0.06 - after.actions[:-1, :2][free]).max() < 0.12  # control noise is 0.02
            assert np.abs(np.diff(after.actions[:, :2], axis=0)).mean() > 2 * np.abs(
                np.diff(before.actions[:, :2], axis=0)).mean()
        else:
            np.testing.assert_array_equal(before.actions, after.actions)
    kept = corrupt(noisy, "action_noise", seed=0, noise_fraction=0.0)
    assert [bool(episode.truth["action_noise"].all()) for episode in kept] == hit


def test_batched_evaluation_has_the_same_rows_as_any_and_pairs_the_agents():
    tables = evaluate_many({"one": Wanderer(), "other": Wanderer()}, CONFIG, tasks=[0, 7, 12], progress=False)
    one, other = tables["one"], tables["other"]
    assert list(one.columns) == list(COLUMNS) and len(one) == 6
    assert one["task_index"].tolist() == [0, 0, 7, 7, 12, 12] and one["init_state"].tolist() == [3, 4] * 3
    assert one["seed"].tolist() == [episode_seed(*pair) for pair in
                                    zip(one["task_index"], one["init_state"], strict=True)]
    pd.testing.assert_frame_equal(one.drop(columns="wall"), other.drop(columns="wall"))
    assert (one["steps"] == 21).all() and one.attrs["simulators"][0]["world"] == "tabletop"


def test_rows_end_at_their_success_or_their_own_limit():
    class Wiper:
        """Wipes where the hand is: solves the table whose spots lie there."""

        def begin(self, slot, instruction, seed, embodiment=None):
            self.looks = 0

        def act(self, requests):
            self.looks += len(requests)
            return [np.tile(np.float32([0, 0, 1]), (8, 1)) for _ in requests]

    batch = TabletopBatch("easy", [6, 6, 0])
    batch.reset(init_states=[0, 1, 2])
    batch.tables.spots_x[0], batch.tables.spots_y[0] = batch.tables.hand_x[0], batch.tables.hand_y[0]
    batch.tables.things_x[0] += 3  # nothing to grasp there
    agent = Wiper()
    success, steps = rollout_batch(agent, batch, [0, 1, 2])
    assert success.tolist() == [True, False, False]
    assert steps.tolist() == [2, batch.time_limits[1], batch.time_limits[2]]
    assert agent.looks == 1 + -(-90 // 8) + -(-100 // 8)  # who has ended is not looked at


def test_a_policy_of_two_robots_is_trained_and_acts_on_both(recorded, tmp_path):
    config = override(RunConfig(), {**TINY, "credit": "ptr"})
    data = prepare_data(config, read_episodes(recorded))
    trainer = Trainer(config, data)
    for _ in range(3):
        assert np.isfinite(trainer.train_step()["loss"])

    from ptrlib.storage import load_policy, save_policy

    learner = trainer.learner
    save_policy(tmp_path, learner.policy, learner.tokenizer, data.statistics, data.cameras, config)
    agent = PolicyAgent(load_policy(tmp_path), execute_steps=8)
    once = evaluate(agent, CONFIG, tasks=[2, 16], progress=False)
    again = evaluate(agent, CONFIG, tasks=[2, 16], progress=False)
    assert once["steps"].tolist() == again["steps"].tolist() and len(once) == 4

    batch = TabletopBatch("generalist", [2, 16])
    batch.reset(init_states=[0, 0])
    for row, (spec, robot) in enumerate(zip(batch.specs, batch.embodiments, strict=True)):
        agent.begin(row, spec.instruction, 0, embodiment=robot)
    observations = batch.observe(np.array([0, 1]))
    chunks = agent.act([(0, observations[0]), (1, observations[1])])
    assert [chunk.shape for chunk in chunks] == [(8, 3), (8, 4)]


def test_a_manifest_records_trains_and_evaluates_from_nothing(tmp_path):
    manifest = tmp_path / "small.yaml"
    manifest.write_text(yaml.safe_dump({
        "name": "small", "methods": {"sft": {"credit": "sft"}}, "seeds": [0],
        "base": {**{key: list(value) if isinstance(value, tuple) else value for key, value in TINY.items()},
                 "data.path": str(tmp_path / "data" / "tabletop_tuning" / "wipe"), "data.episodes_per_task": 2,
                 "data.embodiment": "tabletop_gantry", "evaluation.world": "tabletop", "evaluation.suite": "wipe",
                 "evaluation.episodes_per_task": 2, "evaluation.max_steps": 9}}))
    threads = torch.get_num_threads()
    [folder] = run_manifest(manifest, workers=1, root=tmp_path / "runs")
    torch.set_num_threads(threads)
    table = pd.read_parquet(folder / "episodes.parquet")
    assert len(table) == 6 and (folder / "done").is_file() and set(table["suite"]) == {"wipe"}


def test_the_folder_of_a_manifests_demonstrations_appears_when_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "data" / "tabletop" / "gantry"
    unfinished = recording._record_task

    def stopped(*arguments):
        unfinished(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "_record_task", stopped)
    with pytest.raises(KeyboardInterrupt):
        recording.record_for(path, 1)
    assert list(path.parent.iterdir()) == []

    def overtaken(*arguments):  # by another process, while the first task is recorded
        unfinished(*arguments)
        path.mkdir(exist_ok=True)
        (path / "theirs").touch()

    monkeypatch.setattr(recording, "_record_task", overtaken)
    recording.record_for(path, 1)
    assert [file.name for file in path.iterdir()] == ["theirs"]
    assert list(path.parent.iterdir()) == [path]
    (path / "theirs").unlink()
    monkeypatch.undo()
    recording.record_for(path, 1)
    assert {episode.task for episode in read_episodes(path)} == {task.name for task in recording.choose_tasks(
        recording.world_named("tabletop"), "gantry", None)}
