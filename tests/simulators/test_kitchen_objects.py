"""Carrying objects about a RoboCasa kitchen: one task solved, the same seed the same actions, grasps and previews."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ptrlib.simulators.demonstrators.grasps import downward
from ptrlib.simulators.demonstrators.kitchen_grasps import cuboid, cylinder, grips_in

TASK = "PnPStoveToCounter"


@pytest.fixture(scope="module")
def kitchen():
    """A simulator of one pick-and-place task."""
    if importlib.util.find_spec("robocasa") is None:
        pytest.skip("RoboCasa is not installed; run `make simulators`")
    from ptrlib.simulators import robocasa

    index = [task.name for task in robocasa.TASKS].index(TASK)
    simulator = robocasa.make(robocasa.ALL, index, assets="minimal", render=False)
    yield simulator
    simulator.close()


def grips(points, normals, rotation=None):
    """Grips by a hand that points down, of something that stands on the ground."""
    rotation = downward(0.0) if rotation is None else rotation
    ground = points[:, 2].min() + 0.013
    return grips_in(points @ rotation, normals @ rotation[:, 0], rotation[2], ground)


def test_a_box_is_held_across_its_narrow_side_only():
    points, normals = cuboid(np.array([0.02, 0.06, 0.03]))
    found = grips(points, normals)
    assert found and abs(found[0][0][0]) < 0.003
    assert not grips(points, normals, downward(np.pi / 2))  # 12 cm are too wide
    assert not grips(points, normals, downward(np.pi / 4))  # and aslant the pads meet edges


def test_a_can_is_held_from_any_direction_and_a_wide_one_from_none():
    points, normals = cylinder(0.03, 0.05)
    assert all(grips(points, normals, downward(yaw)) for yaw in (0.0, 0.5, 1.0, 1.5))
    assert not grips(*cylinder(0.045, 0.05))


def test_fingertips_stay_above_the_ground():
    points, normals = cuboid(np.array([0.03, 0.05, 0.008]))
    down = downward(0.0)
    heights = [(down @ grip)[2] for grip, _ in grips(points, normals)]
    assert heights and min(heights) >= points[:, 2].min() + 0.013 - 1e-9


def test_the_preview_reaches_what_the_arm_reaches_and_touches_what_is_in_the_way(kitchen):
    from ptrlib.simulators.demonstrators.kitchen_preview import Preview, Stance
    from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene

    kitchen.reset(seed=0)
    scene = KitchenScene(kitchen)
    preview = Preview(scene)
    rotation = downward(scene.base_yaw + np.pi / 2)

    def at(forward: float, up: float):
        offset = scene.base_rotation @ np.array([forward, 0.0, up])
        return preview.jump(preview.posture(Stance()), (scene.base_position + offset, rotation))

    assert at(0.45, 0.45).fine
    assert at(1.4, 0.45).missed > 0.2
    assert at(0.45, 0.15).touched > 0  # below the counter's top
    before = scene.data.qpos.copy()
    assert not preview.touched(preview.posture(Stance()))
    assert preview.touched(preview.posture(Stance(forward=0.3)))  # the base in the cupboards
    assert np.array_equal(before, scene.data.qpos)


def test_an_object_is_carried_from_the_stove_to_the_plate(kitchen):
    from ptrlib.simulators.demonstrators import demonstrator_for

    kitchen.reset(seed=5)
    demonstrator, success, steps = demonstrator_for(kitchen, "precise", 5), False, 0
    while not success and not demonstrator.finished and steps < kitchen.time_limit:
        action = demonstrator.act()
        assert action.shape == (12,) and action.dtype == np.float32 and np.abs(action).max() <= 1.0
        success = kitchen.step(action)
        steps += 1
    assert success


def test_the_same_seed_gives_the_same_actions(kitchen):
    from ptrlib.simulators.demonstrators import demonstrator_for

    def first(seed: int, steps: int = 50) -> np.ndarray:
        kitchen.reset(seed=3)
        demonstrator = demonstrator_for(kitchen, "noisy", seed)
        actions = []
        for _ in range(steps):
            actions.append(demonstrator.act())
            kitchen.step(actions[-1])
        return np.stack(actions)

    once = first(3)
    assert np.array_equal(once, first(3))
    assert not np.array_equal(once, first(4))
