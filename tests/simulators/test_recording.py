"""Recording the real LIBERO: the same settings give the same file, however it comes about."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from ptrlib.cli import main
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import EpisodeWriter, write_episodes
from ptrlib.data.reading import read_episodes
from ptrlib.errors import Stopped
from ptrlib.simulators import demonstrators
from ptrlib.simulators import recording as module
from ptrlib.simulators.demonstrators.controller import PoseTracker
from ptrlib.simulators.demonstrators.scripted import ScriptedDemonstrator
from ptrlib.simulators.demonstrators.styles import STYLES
from ptrlib.simulators.protocol import Observation, TaskSpec
from ptrlib.simulators.recording import Recording, is_recorded, record_task
from tests.factories import tiny_episode, tiny_episodes
from tests.simulators.conftest import SUITE, TASK

TWO = ("precise", "recovery")


@pytest.fixture(scope="module")
def recording(libero):
    return Recording("libero", SUITE, episodes=2, styles=TWO, seed=0, image_size=64, images=False)


@pytest.fixture(scope="module")
def recorded(simulator, recording, tmp_path_factory):
    from ptrlib.simulators.recording import record_task

    out = tmp_path_factory.mktemp("recorded")
    reports: list[bool] = []
    record_task(simulator, recording, out, reports.append)
    return recording.file(out, simulator.task), reports


def contents(file):
    """Every array of the file, by name, as bytes."""
    found = {}
    with h5py.File(file, "r") as handle:
        handle.visititems(lambda name, item: found.update({name: item[()].tobytes()})
                          if isinstance(item, h5py.Dataset) else None)
    return found


def test_a_file_holds_successful_episodes_in_the_styles_asked_for(simulator, recorded):
    file, reports = recorded
    episodes = read_episodes(file)
    assert file.name == f"{simulator.task.name}_demo.hdf5"
    assert [episode.operator for episode in episodes] == list(TWO)
    assert sum(reports) == 2 and all(episode.success for episode in episodes)
    for episode in episodes:
        assert episode.instruction == simulator.task.instruction and episode.embodiment == "libero"
        assert episode.state.shape == (len(episode) + 1, 8) and len(episode) > 20
        assert episode.extra["joint_states"].shape == (len(episode) + 1, 7)
    assert episodes[0].seed != episodes[1].seed


def test_replaying_the_recorded_actions_gives_the_recorded_states(simulator, recorded):
    episode = read_episodes(recorded[0])[0]
    simulator.reset(seed=episode.seed)
    for action, state in zip(episode.actions, episode.simulator_states, strict=False):
        assert np.array_equal(simulator.simulator_state(), state)
        solved = simulator.step(action)
    assert solved and np.array_equal(simulator.simulator_state(), episode.simulator_states[-1])


def test_an_interrupted_recording_goes_on_to_the_same_file(simulator, recording, recorded, tmp_path):
    from ptrlib.simulators.recording import record_task

    class Killed(Exception):
        pass

    def kill(success):
        raise Killed

    with pytest.raises(Killed):
        record_task(simulator, recording, tmp_path, kill)
    file = recording.file(tmp_path, simulator.task)
    assert not file.exists()
    reports: list[bool] = []
    record_task(simulator, recording, tmp_path, reports.append)
    assert contents(file) == contents(recorded[0])


def test_asked_for_more_episodes_a_recording_goes_on_to_the_same_file(simulator, recording, recorded, tmp_path):
    from ptrlib.simulators.recording import record_task, settings_of

    fewer = replace(recording, episodes=1)
    record_task(simulator, fewer, tmp_path)
    file = recording.file(tmp_path, simulator.task)
    assert is_recorded(fewer, file) and not is_recorded(recording, file)
    record_task(simulator, recording, tmp_path)
    assert contents(file) == contents(recorded[0]) and is_recorded(recording, file)
    with h5py.File(file) as handle:
        assert json.loads(handle["data"].attrs["recording"]) == settings_of(recording)
    with pytest.raises(ValueError, match="was recorded with episodes 2 instead of 1"):
        is_recorded(fewer, file)
    with pytest.raises(ValueError, match="episodes 2 instead of 3, seed 0 instead of 1"):
        is_recorded(replace(recording, episodes=3, seed=1), file)


def test_images_are_recorded_as_the_simulator_showed_them(simulator, monkeypatch):
    from ptrlib.simulators import recording

    push = [np.array([0.2, 0, 0, 0, 0, 0, -1], np.float32)] * 3
    monkeypatch.setattr(recording, "demonstrate", lambda simulator, style, seed: iter(push))
    episode = recording.record_episode(simulator, "precise", seed=9)
    simulator.reset(seed=9)
    for t in range(4):
        seen = simulator.observe(images=True)
        assert np.array_equal(episode.state[t], seen.state)
        assert all(np.array_equal(episode.images[camera][t], seen.images[camera]) for camera in seen.images)
        if t < 3:
            simulator.step(push[t])
    assert episode.success is False and len(episode) == 3


def test_failures_are_kept_apart_and_another_scene_is_tried(simulator, recording, tmp_path, monkeypatch):
    from ptrlib.simulators import recording as module

    genuine = module.record_episode
    tried: list[int] = []

    def fail_first(simulator, style, seed, images):
        tried.append(seed)
        episode = genuine(simulator, "precise", seed, images)
        episode.success = len(tried) > 1
        return episode

    monkeypatch.setattr(module, "demonstrate", lambda *_: iter([np.zeros(7, np.float32)]))
    monkeypatch.setattr(module, "record_episode", fail_first)
    reports: list[bool] = []
    module.record_task(simulator, recording, tmp_path, reports.append)
    assert reports == [False, True, True] and len(set(tried)) == 3
    [failure] = read_episodes(recording.failures(tmp_path, simulator.task))
    assert failure.success is False and failure.seed == tried[0] and failure.images == {}


def test_a_demonstrator_that_never_succeeds_ends_the_recording(simulator, recording, tmp_path, monkeypatch):
    from ptrlib.simulators import recording as module

    monkeypatch.setattr(module, "demonstrate", lambda *_: iter([np.zeros(7, np.float32)]))
    with pytest.raises(RuntimeError, match="failed in 10 scenes for episode 0"):
        module.record_task(simulator, recording, tmp_path)


def test_workers_record_the_same_file_and_finished_files_are_left_alone(libero, recorded, tmp_path):
    from ptrlib.simulators.recording import record

    settings = {"suite": SUITE, "styles": TWO, "out": tmp_path, "seed": 0, "tasks": [TASK],
                "image_size": 64, "images": False}
    [file] = record(episodes=2, workers=2, **settings)
    assert contents(file) == contents(recorded[0])
    before = file.stat().st_mtime_ns
    assert record(episodes=2, **settings) == [file] and file.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="episodes 2 instead of 1; choose another folder or delete it"):
        record(episodes=1, **settings)


class MadeUp:
    """A simulator of which only the names are asked: :func:`made_up_episode` stands in for what happens in it."""

    task = TaskSpec("push_the_plate", "push the plate", 0, 0)

    def file_attributes(self):
        return {}


def made_up_episode(simulator, style, seed, images):
    """From its seed alone; one in three fails."""
    episode = tiny_episode(np.random.default_rng(seed), 5, 4, 3, seed, style)
    return replace(episode, success=seed % 3 > 0)


class Killed(Exception):
    pass


def interrupted(recording, out, episodes):
    """Record until so many episodes are in the file."""
    reports = []

    def report(success):
        reports.append(success)
        if sum(reports) == episodes:
            raise Killed

    with pytest.raises(Killed):
        record_task(MadeUp(), recording, out, report)


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(module, "record_episode", made_up_episode)
    return Recording("libero", SUITE, 6, TWO, 0, 64, True)


@pytest.mark.parametrize("episodes", [4, 6, 9])
def test_an_interrupted_recording_goes_on_to_as_many_episodes_as_are_asked_for(made_up, episodes, tmp_path):
    wanted = replace(made_up, episodes=episodes)
    interrupted(made_up, tmp_path / "cut", 5)
    record_task(MadeUp(), wanted, tmp_path / "cut")
    record_task(MadeUp(), wanted, tmp_path / "whole")
    for name in (Recording.file, Recording.failures):
        cut, whole = (name(wanted, tmp_path / folder, MadeUp.task) for folder in ("cut", "whole"))
        assert contents(cut) == contents(whole)
    assert len(read_episodes(wanted.file(tmp_path / "cut", MadeUp.task))) == episodes
    assert is_recorded(wanted, wanted.file(tmp_path / "cut", MadeUp.task))


def test_an_interrupted_recording_does_not_go_on_with_other_settings(made_up, tmp_path):
    interrupted(made_up, tmp_path, 2)
    for change, told in (({"seed": 1}, "seed 0 instead of 1"), ({"image_size": 32}, "image_size 64 instead of 32"),
                         ({"styles": ("slow",), "episodes": 3}, r"styles \['precise', 'recovery'\] instead of")):
        with pytest.raises(DataError, match=rf"plate_demo\.hdf5 was begun with {told}.*delete the \.partial folder"):
            record_task(MadeUp(), replace(made_up, **change), tmp_path)
    record_task(MadeUp(), made_up, tmp_path)
    assert len(read_episodes(made_up.file(tmp_path, MadeUp.task))) == 6


class Still(MadeUp):
    """A simulator in which nothing moves and nothing succeeds."""

    suite, embodiment, time_limit = SUITE, "libero", 20

    def reset(self, *, init_state=None, seed=None):
        pass

    def observe(self, images):
        return Observation({}, np.zeros(8, np.float32))

    def simulator_state(self):
        return np.zeros(3)

    def recorded_extras(self):
        return {}

    def step(self, action):
        return False

    def success(self):
        return False


def test_a_demonstrator_that_knows_no_way_from_the_start_makes_a_failed_attempt(tmp_path, monkeypatch):
    scene = SimpleNamespace(grip_position=np.zeros(3), grip_rotation=np.eye(3))
    monkeypatch.setattr(demonstrators, "demonstrator_for", lambda simulator, style, seed: ScriptedDemonstrator(
        scene, PoseTracker(), STYLES["precise"], np.random.default_rng(seed), lambda: iter(())))
    recording, reports = Recording("libero", SUITE, 1, ("precise",), 0, 64, False), []
    with pytest.raises(Stopped, match="failed in 10 scenes for episode 0"):
        record_task(Still(), recording, tmp_path, reports.append)
    assert reports == [False] * 10
    kept = EpisodeWriter(recording.failures(tmp_path, Still.task), {}, settings=module._of_an_episode(recording))
    assert len(kept) == 10


@pytest.mark.parametrize(("told", "sentence"), [
    (None, r"task_demo\.hdf5 is cut short; copy or record it again"),
    ("{broken", "does not say with which settings it was recorded; choose another folder or delete it"),
    (3, "does not say with which settings it was recorded; choose another folder or delete it")])
def test_a_file_in_the_way_that_is_none_of_ours_is_named(told, sentence, tmp_path):
    file = tmp_path / "task_demo.hdf5"
    if told is None:
        file.touch()
    else:
        write_episodes(file, tiny_episodes(1, 5, 4), {"recording": told})
    with pytest.raises(DataError, match=sentence):
        is_recorded(Recording("libero", SUITE, 2, TWO, 0, 64, False), file)


@pytest.mark.parametrize(("world", "words", "sentence"), [
    *((world, *case) for world in ("libero", "tabletop") for case in (
    (["--image-size", "0"], "image_size must be 1 or more to record, got 0"),
    (["--image-size", "-4"], "image_size must be 1 or more to record, got -4"),
    (["--seed", "-1"], "seed must be 0 or more to record, got -1"),
    (["--episodes", "0"], "episodes must be 1 or more to record, got 0"),
    (["--styles"], "record needs at least one style"))),
    ("libero", ["--workers", "0"], "workers must be 1 or more to record, got 0"),
    ("tabletop", ["--executed-noise", "-1"],
     "executed_noise is a standard deviation and must be 0 or more to record, got -1.0")])
def test_numbers_that_nothing_can_be_recorded_with_are_named(world, words, sentence, tmp_path, capsys):
    assert main(["demos", "--world", world, "--out", str(tmp_path / "new"), *words]) == 2
    assert capsys.readouterr().err == f"ptrlib: {sentence}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_is_named_twice_is_recorded_once(tmp_path, monkeypatch):
    handed_out = []
    monkeypatch.setattr(module, "Workers", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(module, "_hand_out", lambda pool, missing, episodes: handed_out.extend(missing))
    monkeypatch.setattr(module, "choose_tasks", lambda world, suite, tasks: [
        TaskSpec(f"task {index}", "", index, 0) for index in tasks])
    files = module.record(tasks=[3, 0, 3], out=tmp_path)
    assert [task.index for task in handed_out] == [3, 0]
    assert [file.name for file in files] == ["task 3_demo.hdf5", "task 0_demo.hdf5"]
    files = module.record("tabletop", "slider", 1, out=tmp_path, tasks=[0, 0], image_size=32, images=False)
    assert len(files) == 1


def test_bad_settings_are_named(libero, tmp_path):
    from ptrlib.simulators.recording import record

    with pytest.raises(ValueError, match="'quick'; choose from precise, slow"):
        record(styles=["quick"], out=tmp_path)
    with pytest.raises(ValueError, match="has no task 10; it has 0 "):
        record(suite=SUITE, tasks=[10], out=tmp_path)
