"""The scripted demonstrators: they succeed, they repeat themselves, and their styles differ."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ptrlib.simulators.demonstrators import Demonstrator, demonstrate
from ptrlib.simulators.demonstrators.controller import Command, PoseTracker
from ptrlib.simulators.demonstrators.grasps import downward, nearest_yaw, obstruction
from ptrlib.simulators.demonstrators.libero_tasks import check_goals
from ptrlib.simulators.demonstrators.styles import STYLES, Jitter
from ptrlib.simulators.demonstrators.trajectories import Trajectories
from ptrlib.simulators.demonstrators.trajectories import run as run_trajectories


def run(simulator, style, seed=1, limit=400, **scene):
    """(actions, grip positions, success) of one demonstration."""
    simulator.reset(**(scene or {"seed": seed}))
    demonstrator = Demonstrator(simulator, style, seed)
    actions, path, success = [], [demonstrator.scene.grip_position], False
    while not success and not demonstrator.finished and len(actions) < limit:
        actions.append(demonstrator.act())
        success = simulator.step(actions[-1])
        path.append(demonstrator.scene.grip_position)
    return np.stack(actions), np.stack(path), success


@pytest.mark.parametrize("suite, task", [("libero_spatial", 0), ("libero_object", 1)])
def test_a_demonstration_succeeds_with_ordinary_actions(libero, suite, task):
    simulator = libero.make(suite, task, render=False)
    actions, _, success = run(simulator, "precise", init_state=0)
    simulator.close()
    assert success
    assert actions.dtype == np.float32 and actions.shape[1] == 7
    assert np.abs(actions).max() <= 1.0


def test_the_same_seed_gives_the_same_actions_and_another_gives_others(simulator):
    first, _, _ = run(simulator, "noisy", seed=3, init_state=0)
    again, _, _ = run(simulator, "noisy", seed=3, init_state=0)
    other, _, _ = run(simulator, "noisy", seed=4, init_state=0)
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_styles_differ_as_they_say(simulator):
    episodes = {style: run(simulator, style, seed=5, init_state=0) for style in STYLES}
    assert all(success for _, _, success in episodes.values())
    steps = {style: len(actions) for style, (actions, _, _) in episodes.items()}
    length = {style: np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
              for style, (_, path, _) in episodes.items()}  # fmt: skip
    swings = {style: np.abs(np.diff(actions[:, :3], axis=0)).mean()
              for style, (actions, _, _) in episodes.items()}  # fmt: skip
    assert steps["slow"] > 1.4 * steps["precise"]
    assert steps["hesitant"] > 1.2 * steps["precise"]
    assert length["recovery"] > 1.15 * length["precise"]
    assert swings["noisy"] > 1.5 * swings["precise"]
    closings = np.diff((episodes["recovery"][0][:, 6] > 0).astype(int))
    assert (closings == 1).sum() >= 2  # it closed beside the bowl before it closed on it


@pytest.mark.parametrize("goals", [[["turnoff", "flat_stove_1"]], [["open", "microwave_1"]],
                                   [["on", "mug_1", "tray_1"], ["on", "mug_2", "tray_1"]]])
def test_a_task_without_a_demonstrator_is_one_sentence(goals):
    scene = SimpleNamespace(goals=goals, is_site=lambda name: False, owner=lambda name: name)
    with pytest.raises(ValueError, match=r"^task 'TIDY' has no demonstrator, because no skill reaches its goal "
                                         rf"\({' '.join(goals[0])}\); .* libero_spatial, .*libero_10$"):
        check_goals("TIDY", scene)
    two = [["in", "soup_1", "basket_1_contain_region"], ["in", "sauce_1", "basket_1_contain_region"]]
    check_goals("known", SimpleNamespace(goals=two, is_site=lambda name: True, owner=lambda name: "basket_1"))


def test_every_style_is_followed_through_the_scene(libero, tmp_path):
    table = run_trajectories(Trajectories(out=tmp_path / "trajectories.csv"))
    assert list(table["style"].unique()) == list(STYLES) and table.thing.nunique() == 1
    for _, part in table.groupby("style"):
        assert part.step.tolist() == list(range(len(part))) and part.distance.min() < 0.1 and part.closing.any()
    assert not list(tmp_path.glob("*.partial"))


def test_demonstrate_ends_at_the_first_success(simulator):
    simulator.reset(init_state=0)
    successes = [simulator.step(action) for action in demonstrate(simulator, "precise", seed=0)]
    assert successes[-1] and not any(successes[:-1])


def test_demonstrate_ends_at_the_step_limit(simulator):
    simulator.reset(init_state=0)
    assert len([simulator.step(action) for action in demonstrate(simulator, "slow", 0, max_steps=5)]) == 5


def test_phases_tell_what_a_demonstrator_does(simulator):
    simulator.reset(init_state=0)
    demonstrator, phases, success = Demonstrator(simulator, "hesitant", 0), [], False
    while not success and not demonstrator.finished:
        success = simulator.step(demonstrator.act())
        phases.append(demonstrator.phase)
    order = [phases.index(phase) for phase in ("reach", "hesitate", "descend", "grasp", "lift", "transport")]
    assert order == sorted(order)


def test_an_unknown_style_names_the_valid_ones():
    with pytest.raises(ValueError, match="precise, slow, hesitant, noisy, recovery"):
        Demonstrator(None, "clumsy", 0)


def test_the_tracker_moves_towards_the_command_and_stays_in_range():
    command = Command(np.array([1.0, 0.0, -1.0]), np.eye(3), gripper=1.0, phase="reach", speed=0.5)
    action = PoseTracker().action(command, np.zeros(3), np.eye(3))
    assert np.allclose(action, [0.5, 0, -0.5, 0, 0, 0, 1])


def test_jitter_has_the_spread_it_is_given():
    jitter = Jitter(0.3, np.random.default_rng(0))
    values = np.stack([jitter.step() for _ in range(20_000)])
    assert np.allclose(values.std(axis=0), [0.3] * 3 + [0.1] * 3, rtol=0.1)


def test_a_hand_that_points_down_meets_only_what_is_in_its_way():
    rotation, nothing = downward(0.0), np.zeros((0, 3))
    assert np.allclose(rotation[:, 2], [0, 0, -1]) and np.isclose(np.linalg.det(rotation), 1.0)
    assert obstruction(np.zeros(3), rotation, nothing, np.array([[0.05, 0.0, 0.0]])) == 1
    assert obstruction(np.zeros(3), rotation, nothing, np.array([[0.0, 0.0, 0.0]])) == 0
    assert np.isclose(nearest_yaw(3.0, 0.0), 3.0 - np.pi)
