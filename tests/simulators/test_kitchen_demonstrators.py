"""RoboCasa's demonstrators: fixtures are worked with ordinary actions, the base drives where it is told."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from ptrlib.data.episodes import Episode
from ptrlib.data.hdf5 import EpisodeWriter
from ptrlib.simulators.demonstrators import demonstrate, demonstrator_for
from ptrlib.simulators.demonstrators.controller import Command
from ptrlib.simulators.demonstrators.kitchen_motion import ARM, BASE, MODE, TORSO, Drive, KitchenTracker
from ptrlib.simulators.demonstrators.kitchen_reach import Arm, find_stand, inside, wrapped
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.kitchen_tasks import PLANS
from ptrlib.simulators.demonstrators.report import Report, numbers_of, run
from ptrlib.simulators.demonstrators.styles import STYLES


@pytest.fixture(scope="module")
def robocasa():
    if importlib.util.find_spec("robocasa") is None:
        pytest.skip("RoboCasa is not installed; run `make simulators`")
    from ptrlib.simulators import robocasa

    return robocasa


@pytest.fixture(scope="module")
def made(robocasa):
    """Simulators by task, each made once."""
    simulators = {}

    def make(name):
        if name not in simulators:
            index = [task.name for task in robocasa.TASKS].index(name)
            simulators[name] = robocasa.make(robocasa.ALL, index, assets="minimal", render=False)
        return simulators[name]

    yield make
    for simulator in simulators.values():
        simulator.close()


@pytest.mark.parametrize("task, style", [("OpenDrawer", "precise"), ("TurnOnMicrowave", "recovery")])
def test_a_fixture_is_worked_with_ordinary_actions(made, task, style):
    simulator = made(task)
    simulator.reset(seed=0)
    actions, solved = [], []
    for action in demonstrate(simulator, style, 0):
        actions.append(action)
        solved.append(simulator.step(action))
    assert solved[-1] and not any(solved[:-1])
    assert actions[0].dtype == np.float32 and actions[0].shape == (12,) and np.abs(actions).max() <= 1.0


def test_the_same_seed_gives_the_same_actions_and_another_gives_others(made):
    simulator, found = made("TurnOnMicrowave"), []
    for seed in (3, 3, 4):
        simulator.reset(seed=0)
        demonstrator, actions = demonstrator_for(simulator, "noisy", seed), []
        for _ in range(15):
            actions.append(demonstrator.act())
            simulator.step(actions[-1])
        found.append(np.stack(actions))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_the_base_drives_to_its_goal_with_the_hand_as_it_is(made):
    simulator = made("TurnOnMicrowave")
    simulator.reset(seed=0)
    scene = KitchenScene(simulator)
    tracker, start = KitchenTracker(scene), scene.base_position
    held = scene.base_rotation.T @ (scene.grip_position - start)
    goal = np.append((start + scene.base_rotation @ [-0.2, 0.1, 0.0])[:2], scene.base_yaw + 0.2)
    for _ in range(25):
        command = Drive(scene.grip_position, scene.grip_rotation, -1.0, "drive", 1.0, goal, 0.1)
        simulator.step(tracker.action(command, scene.grip_position, scene.grip_rotation))
    assert np.linalg.norm(scene.base_position[:2] - goal[:2]) < 0.015
    assert abs(wrapped(scene.base_yaw - goal[2])) < 0.03 and abs(scene.torso - 0.1) < 0.01
    assert np.linalg.norm(scene.base_rotation.T @ (scene.grip_position - scene.base_position) - held) < 0.02


def test_a_stand_is_found_from_which_the_hand_gets_there_and_a_farther_one_is_not(made):
    simulator = made("TurnOnMicrowave")
    simulator.reset(seed=0)
    arm = Arm(KitchenScene(simulator))
    grip, rotation, _ = arm.forward(arm.joints[None])
    scene = arm.scene
    assert np.allclose(scene.base_position + scene.base_rotation @ grip[0], scene.grip_position, atol=1e-6)
    near, far = arm.stand, arm.stand - np.append(2.0 * scene.base_rotation[:2, 0], 0.0)
    poses = scene.grip_position[None, None], scene.grip_rotation[None, None]
    assert np.allclose(find_stand(arm, *poses, np.stack([far, near]), (0.0,)).base, near)
    assert find_stand(arm, *poses, far[None], (0.0,)).margin == 0.0


def still_scene(yaw):
    return SimpleNamespace(base_position=np.zeros(3), base_rotation=Rotation.from_euler("z", yaw).as_matrix(),
                           base_yaw=yaw, torso=0.0)


def test_actions_are_in_the_frame_of_the_base():
    tracker = KitchenTracker(still_scene(np.pi / 2))
    position, rotation = np.array([0.0, 0.5, 1.0]), np.eye(3)
    action = tracker.action(Command(position + [0.0, 0.02, 0.0], rotation, 1.0, "reach"), position, rotation)
    assert action[0] > 0.5 and abs(action[1]) < 1e-9 and action[6] == 1.0 and action[MODE] < 0
    assert not action[BASE].any() and action[TORSO] == 0.0
    drive = Drive(position, rotation, -1.0, "drive", 1.0, np.array([-1.0, 0.0, np.pi / 2]), 0.2)
    action = tracker.action(drive, position, rotation)
    assert action[MODE] > 0 and not action[ARM].any() and action[TORSO] > 0.5
    assert action[8] > 0.9 and abs(action[7]) < 1e-9  # what is to the west is to the left of a robot facing north


def test_noise_goes_where_the_movement_is():
    tracker, noise = KitchenTracker(still_scene(0.0)), np.arange(1.0, 7.0)
    arm, base = np.zeros(12), np.zeros(12)
    arm[MODE], base[MODE] = -1.0, 1.0
    shaken, driven = tracker.shaken(arm, noise), tracker.shaken(base, noise)
    assert np.array_equal(shaken[ARM], noise) and not shaken[BASE].any()
    assert np.array_equal(driven[BASE], [1.0, 2.0, 6.0]) and not driven[ARM].any()


def test_the_outline_of_the_base_turns_with_it():
    behind = np.array([[-0.5, 0.0]])
    assert inside(np.array([[0.0, 0.0, 0.0]]), behind).all()
    assert not inside(np.array([[0.0, 0.0, np.pi / 2]]), behind).any()


def test_a_task_or_style_that_is_not_there_is_one_sentence():
    simulator = SimpleNamespace(embodiment="robocasa", task=SimpleNamespace(name="TidyUp"))
    with pytest.raises(ValueError, match="^task 'TidyUp' has no demonstrator; there are .* for .*OpenDrawer"):
        demonstrator_for(simulator, "precise", 0)
    with pytest.raises(ValueError, match=f"no demonstration style 'clumsy'; choose from {', '.join(STYLES)}"):
        demonstrator_for(simulator, "clumsy", 0)


def test_the_fourteen_fixture_tasks_have_plans(robocasa):
    others = {"CoffeeSetupMug", "CoffeeServeMug"}
    fixtures = {task.name for task in robocasa.TASKS if task.category != robocasa.PICK_PLACE} - others
    assert len(fixtures) == 14 and fixtures <= set(PLANS)


def test_a_report_draws_scenes_by_seed_or_takes_the_evaluations():
    drawn = Report(world="robocasa", suite="robocasa_all", seeds="3:5")
    assert list(numbers_of(drawn)) == [3, 4] and drawn.scene == "seed" and "seed" in drawn.key
    assert Report(init_states="0:2").scene == "init_state"
    with pytest.raises(ValueError, match="seeds must read first:end, got 'all'"):
        numbers_of(Report(seeds="all"))


def recorded(folder, world="robocasa"):
    """A recording of two episodes and the failed attempt between them."""
    attributes = {"recording": {"world": world, "suite": "robocasa_short"},
                  "code": {"commit": "0" * 40, "dirty": False}}
    kept, failed = folder / "OpenDrawer_demo.hdf5", folder / "failed" / "OpenDrawer_failed.hdf5"
    failed.parent.mkdir(parents=True)
    for file, seeds in ((kept, (300, 302)), (failed, (301,))):
        with EpisodeWriter(file, attributes) as writer:
            for seed in seeds:
                writer.append(Episode(
                    images={}, state=np.zeros((6, 9)), actions=np.zeros((5, 12)), instruction="Open the drawer.",
                    embodiment="robocasa", task="OpenDrawer", source="robocasa_short", operator="slow",
                    success=file == kept, seed=seed))
    return folder


def test_the_attempts_of_a_recording_are_counted_with_those_that_failed(tmp_path):
    report = Report(world="robocasa", recorded=(recorded(tmp_path / "demos"),), out=tmp_path / "short.csv")
    for _ in range(2):  # a second time nothing is counted twice
        table = run(report)
        assert sorted(zip(table.seed, table.success, strict=True)) == [(300, True), (301, False), (302, True)]
    assert set(table.task) == {"OpenDrawer"} and set(table["style"]) == {"slow"} and set(table.steps) == {5}
    assert pd.read_csv(report.out).columns.tolist() == table.columns.tolist()


def test_a_folder_without_a_recording_of_the_world_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"nothing holds no \*_demo.hdf5; give a folder that `ptrlib demos` finished"):
        run(Report(world="robocasa", recorded=(tmp_path / "nothing",), out=tmp_path / "short.csv"))
    libero = recorded(tmp_path / "demos", world="libero")
    with pytest.raises(ValueError, match="OpenDrawer_demo.hdf5 is no recording of the world 'robocasa'"):
        run(Report(world="robocasa", recorded=(libero,), out=tmp_path / "short.csv"))
    half = recorded(tmp_path / "half")
    (half / "failed" / "OpenDrawer_failed.hdf5").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="OpenDrawer_failed.hdf5 is not a whole HDF5 file; delete it and record"):
        run(Report(world="robocasa", recorded=(half,), out=tmp_path / "short.csv"))
    with pytest.raises(ValueError, match="--recorded counts every attempt that is there; leave out --seeds"):
        run(Report(world="robocasa", recorded=(half,), seeds="0:5", out=tmp_path / "short.csv"))
    assert not (tmp_path / "short.csv").exists()
