"""Tabletop: motion against steps computed by hand, robots that agree, pictures that show what happened."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.simulators.demonstrators.styles import STYLES
from ptrlib.simulators.protocol import world_named
from ptrlib.simulators.tabletop import SUITES, Camera, Demonstrators, Tables, TabletopBatch, TabletopSimulator
from ptrlib.simulators.tabletop.dynamics import (
    GRASP_RADIUS,
    HANDLE,
    HOLDING,
    PLACE_TOLERANCE,
    PUSHER_RADIUS,
    SLIP,
    TURNING,
)
from ptrlib.simulators.tabletop.robots import NAMES, ROBOTS, STEP, motors_at
from ptrlib.simulators.tabletop.scenes import (
    AWAY,
    BLOCK_RADIUS,
    OBJECT_RADIUS,
    RAIL_LENGTH,
    SPOTS,
    draw_scenes,
)
from ptrlib.simulators.tabletop.tasks import FAMILIES

OPEN, CLOSE = -1.0, 1.0
TASKS = {task.name: task for tasks in FAMILIES.values() for task in tasks}


def table(name: str, *, robot: str = NAMES[0], hand: tuple[float, float] = (0.0, 0.0), **changes) -> Tables:
    """One table without control noise; ``changes`` replace arrays of its scene."""
    tables = Tables([TASKS[name].on(robot)], control_noise=0.0)
    scenes = draw_scenes(tables.tasks, [(0, 0)], tables.time_limit)
    scenes.hand = np.array([hand])
    for key, value in changes.items():
        array = np.asarray(value, dtype=getattr(scenes, key).dtype)
        setattr(scenes, key, array[None])
    tables.place(scenes, motors_at(tables.robots, scenes.hand))
    return tables


def act(tables: Tables, x: float = 0.0, y: float = 0.0, grip: float = OPEN) -> bool:
    return bool(tables.step(torch.tensor([[x, y, 0.0, grip]]))[0])


def position(tables: Tables, thing: int = 0) -> list[float]:
    return [tables.things_x[0, thing].item(), tables.things_y[0, thing].item()]


THINGS = [[0.05, 0.0], [0.5, 0.5], [-0.5, -0.5]]


def test_the_gantry_moves_by_its_action_and_no_faster_than_its_motors():
    tables = table("put_red_in_yellow")
    act(tables, 0.5, -0.25)
    assert [tables.hand_x.item(), tables.hand_y.item()] == pytest.approx([0.5 * STEP, -0.25 * STEP])
    act(tables, 3.0, 0.0)
    assert tables.hand_x.item() == pytest.approx(1.5 * STEP)


def test_a_grasp_takes_two_steps_carries_and_drops_where_the_hand_is():
    tables = table("put_red_in_yellow", things=THINGS, zones=[[0.3, 0.0], [-0.6, 0.6]])
    act(tables, grip=CLOSE)
    assert tables.held.item() == -1 and tables.opening.item() == 0.5
    act(tables, grip=CLOSE)
    assert tables.held.item() == 0 and tables.opening.item() == pytest.approx(HOLDING)
    for _ in range(3):
        assert not act(tables, 1.0, 0.0, CLOSE)
    assert position(tables) == pytest.approx([0.05 + 3 * STEP, 0.0], abs=1e-6)
    assert act(tables, grip=OPEN)  # 0.23 lies within the tolerance of the zone at 0.3
    assert abs(0.05 + 3 * STEP - 0.3) < PLACE_TOLERANCE
    dropped = position(tables)
    act(tables, 1.0, 1.0, OPEN)
    assert tables.held.item() == -1 and position(tables) == dropped


def test_closing_beside_an_object_misses_it_and_then_pushes_it():
    beside = GRASP_RADIUS + 0.08
    tables = table("put_red_in_yellow", things=[[beside, 0.0], *THINGS[1:]], angle=[0, 0, 0], straight=[0, 0, 0])
    for _ in range(2):
        act(tables, grip=CLOSE)
    assert tables.held.item() == -1 and tables.opening.item() == 0
    assert position(tables) == pytest.approx([beside, 0.0])
    act(tables, 1.0, 0.0, CLOSE)  # the hand runs into the disc, which yields to where it just touches
    assert position(tables) == pytest.approx([STEP + OBJECT_RADIUS + PUSHER_RADIUS, 0.0], abs=1e-6)
    act(tables, grip=OPEN)
    act(tables, 1.0, 0.0, OPEN)
    act(tables, 1.0, 0.0, OPEN)  # an open hand passes over it
    assert position(tables) == pytest.approx([STEP + OBJECT_RADIUS + PUSHER_RADIUS, 0.0], abs=1e-6)


def test_a_block_pushed_off_centre_turns_and_slides_as_the_limit_surface_says():
    straight, offset = 0.12, 0.06
    tables = table("push_orange_to_yellow", hand=(0.0, offset), things=[[0.25, 0.0], [0.7, 0.7], [AWAY, AWAY]],
                   angle=[0, 0, 0], radius=[BLOCK_RADIUS] * 3, straight=[straight] * 3)
    for _ in range(2):
        act(tables, grip=CLOSE)
    act(tables, 1.0, 0.0, CLOSE)
    depth = STEP - (0.25 - BLOCK_RADIUS - PUSHER_RADIUS)
    stiffness = (TURNING * BLOCK_RADIUS) ** 2
    force = depth / (1 + offset**2 / stiffness)  # the arm of a push along x at height 0.06 is 0.06
    assert position(tables) == pytest.approx([0.25 + force, 0.0], abs=1e-6)
    turned = np.arctan2(tables.sin[0, 0].item(), tables.cos[0, 0].item())
    assert turned == pytest.approx(-np.arctan(force * offset / stiffness), abs=1e-5)  # above the centre: clockwise
    tables.hand_y[:] = 0.7
    assert tables.held.item() == -1


def test_a_large_block_cannot_be_grasped():
    tables = table("push_orange_to_yellow", things=[[0.0, 0.0], [0.7, 0.7], [AWAY, AWAY]])
    for _ in range(2):
        act(tables, grip=CLOSE)
    assert tables.held.item() == -1


def test_the_handle_moves_along_its_rail_to_its_end_and_slips_out_of_a_hand_that_leaves_it():
    tables = table("slide_to_white", rail=[-0.3, 0.0], rail_angle=0.0, slide=0.3)
    for _ in range(2):
        act(tables, grip=CLOSE)
    assert tables.held.item() == HANDLE
    act(tables, 1.0, 1.0, CLOSE)  # across the rail it stays
    assert tables.slide.item() == pytest.approx(0.3 + STEP)
    assert position(tables, HANDLE) == pytest.approx([STEP, 0.0], abs=1e-6)
    for _ in range(6):
        act(tables, 1.0, 0.0, CLOSE)
    assert tables.slide.item() == pytest.approx(RAIL_LENGTH)
    steps = 0
    while tables.held.item() == HANDLE:
        act(tables, 0.0, 0.9, CLOSE)
        steps += 1
    assert tables.hand_y.item() > SLIP > tables.hand_y.item() - STEP and steps > 1
    assert tables.success().item()  # the handle is at the white end and nothing is held


def test_only_a_closed_hand_wipes_and_only_what_it_passes():
    line = [[0.0, 0.12 * k] for k in range(SPOTS)]
    tables = table("wipe_brown", spots=[line, [[AWAY, AWAY]] * SPOTS], things=[[0.6, 0.6], [AWAY] * 2, [AWAY] * 2])
    act(tables)
    assert tables.dirty.sum() == 2 * SPOTS
    for _ in range(2):
        act(tables, grip=CLOSE)
    assert (~tables.dirty[0]).nonzero().flatten().tolist() == [0]
    solved = [act(tables, 0.0, 1.0, CLOSE) for _ in range(6)]
    assert solved == [False] * 4 + [True] * 2 and not tables.dirty[0, :SPOTS].any() and tables.dirty[0, SPOTS:].all()


def test_a_sequence_needs_both_goals_at_once():
    tables = table("put_red_in_yellow_then_green_in_purple", zones=[[0.4, 0.0], [-0.4, 0.0]],
                   things=[[0.4, 0.0], [0.0, 0.4], [AWAY, AWAY]])
    assert not tables.success().item()
    tables.things_x[0, 1], tables.things_y[0, 1] = -0.4, 0.0
    assert tables.success().item()


@pytest.mark.parametrize("robot", NAMES)
def test_a_robot_reaches_every_place_and_its_jacobian_moves_the_hand_as_wanted(robot):
    places = np.stack(np.meshgrid(np.linspace(-0.8, 0.8, 7), np.linspace(-0.8, 0.8, 7)), -1).reshape(-1, 2)
    tables = Tables([TASKS["wipe_brown"].on(robot)] * len(places), control_noise=0.0)
    scenes = draw_scenes(tables.tasks, [(0, 0)] * len(places), tables.time_limit)
    tables.place(scenes, motors_at(tables.robots, places))
    hand = torch.stack([tables.hand_x, tables.hand_y], 1)
    torch.testing.assert_close(hand, torch.as_tensor(places, dtype=torch.float32), atol=2e-6, rtol=0)
    wanted = torch.full((len(places),), 0.01)
    action = tables.kinematics.action_for(tables.motors, wanted, -wanted)
    tables.step(torch.cat([action, torch.full((len(places), 1), OPEN)], 1))
    moved = torch.stack([tables.hand_x, tables.hand_y], 1) - hand
    torch.testing.assert_close(moved, torch.stack([wanted, -wanted], 1), atol=2e-3, rtol=0)


def test_robots_agree_on_the_scene_and_on_the_hand_s_way_through_it():
    ways, scenes = [], []
    for robot in NAMES:
        tables = Tables([TASKS["put_blue_in_purple"].on(robot)] * 8, control_noise=0.0)
        tables.reset([(1, seed) for seed in range(8)])
        scenes.append(tables.scenes)
        demonstrators = Demonstrators(tables, ["slow"] * 8, list(range(8)))
        way = []
        for _ in range(20):
            tables.step(demonstrators.act())
            way.append(torch.stack([tables.hand_x, tables.hand_y], 1))
        ways.append(torch.stack(way))
    for scene, way in zip(scenes[1:], ways[1:], strict=True):
        np.testing.assert_array_equal(scene.things, scenes[0].things)
        assert (way - ways[0]).norm(dim=-1).max() < 0.03  # half a step, after twenty


def test_motors_have_the_control_noise_that_their_robot_declares():
    for robot in ROBOTS:
        tables = Tables([TASKS["wipe_brown"].on(robot.name)] * 200)
        tables.reset([(1, seed) for seed in range(200)])
        before = tables.motors.clone()
        tables.step(torch.zeros(200, 4))
        spread = ((tables.motors - before) / robot.gain)[:, :robot.motors].std()
        assert spread.item() == pytest.approx(robot.control_noise, rel=0.15)
        assert torch.equal(tables.motors[:, robot.motors:], before[:, robot.motors:])


def test_the_same_seed_gives_the_same_bytes_whatever_the_batch():
    tasks = [task for suite in ("generalist", "hard") for task in SUITES[suite]]
    styles = [list(STYLES)[number % 5] for number in range(len(tasks))]

    def run(rows):
        tables = Tables([tasks[row] for row in rows])
        tables.reset([(0, row) for row in rows])
        camera = Camera(tables, 32)
        demonstrators = Demonstrators(tables, [styles[row] for row in rows], rows)
        actions, images = [], [camera.images()]
        for _ in range(40):
            actions.append(demonstrators.act())
            tables.step(actions[-1])
            images.append(camera.images())
        return torch.stack(actions), torch.stack(images), torch.cat([tables.things_x, tables.things_y, tables.cos], 1)

    everyone = run(list(range(len(tasks))))
    for rows in ([3], [17, 2, 25], list(range(7, 20))):
        alone = run(rows)
        for part, whole, dimension in zip(alone, everyone, (1, 1, 0), strict=True):
            assert torch.equal(part, whole.index_select(dimension, torch.tensor(rows)))


@pytest.mark.parametrize("style", STYLES)
def test_demonstrators_solve_every_task(style):
    tasks = [task for family in FAMILIES.values() for task in family] + list(SUITES["generalist"])
    episodes = 6
    rows = [task for task in tasks for _ in range(episodes)]
    tables = Tables(rows)
    tables.reset([(1, number % episodes) for number in range(len(rows))])
    demonstrators = Demonstrators(tables, [style] * len(rows), [number % episodes for number in range(len(rows))])
    limits = torch.tensor([task.time_limit for task in rows])
    solved = torch.zeros(len(rows), dtype=torch.bool)
    for step in range(tables.time_limit):
        solved |= tables.step(demonstrators.act()) & (step < limits)
    assert solved.float().mean() >= 0.97
    assert solved.view(len(tasks), episodes).float().mean(1).min() >= 0.6


def test_styles_differ():
    rows = [TASKS["put_red_in_yellow"]] * (5 * 12)
    styles = [style for style in STYLES for _ in range(12)]
    tables = Tables(rows)
    tables.reset([(1, number % 12) for number in range(len(rows))])
    demonstrators = Demonstrators(tables, styles, [number % 12 for number in range(len(rows))])
    steps, misses = torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.bool)
    changes, before = torch.zeros(len(rows)), None
    done = torch.zeros(len(rows), dtype=torch.bool)
    for _ in range(100):
        action = demonstrators.act()
        changes += (action - before).abs()[:, :2].sum(1) * ~done if before is not None else 0
        before = action
        done |= tables.step(action)
        steps += ~done
        misses |= (tables.opening < 0.1) & (tables.held < 0) & ~done
    means = dict(zip(STYLES, steps.view(5, 12).mean(1).tolist(), strict=True))
    assert means["slow"] > 1.5 * means["precise"] and means["hesitant"] > 1.3 * means["precise"]
    missed = misses.view(5, 12).float().mean(1).tolist()
    assert missed[:4] == [0.0] * 4 and missed[4] > 0.9  # a miss may hit another object
    jerks = dict(zip(STYLES, (changes / steps).view(5, 12).mean(1).tolist(), strict=True))
    assert jerks["noisy"] > 1.3 * jerks["precise"]


def centre_of(image: torch.Tensor, without: torch.Tensor) -> np.ndarray:
    """(column, row) of what the first image shows and the second does not."""
    share = (image[0].double() - without[0].double()).abs().sum(-1).numpy()
    places = np.arange(len(share)) + 0.5
    return np.array([(share.sum(0) * places).sum(), (share.sum(1) * places).sum()]) / share.sum()


@pytest.mark.parametrize("robot", ROBOTS, ids=lambda robot: robot.name)
def test_an_object_is_seen_where_it_lies_to_a_twentieth_of_a_pixel(robot, monkeypatch):
    monkeypatch.setattr("ptrlib.simulators.tabletop.raster.ARM_OPACITY", 0.0)
    for x, y in ((0.31, -0.22), (-0.44, 0.537), (0.5, 0.5)):
        tables = table("wipe_brown", robot=robot.name, hand=(-0.2, -0.3), spots=[[[AWAY, AWAY]] * SPOTS] * 2,
                       things=[[x, y], [AWAY] * 2, [AWAY] * 2], straight=[0.0] * 3)
        camera = Camera(tables, 32)
        image = camera.images()
        tables.things_x[0, 0] = AWAY
        angle = robot.view_rotation
        seen = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ (
            np.array([x + 0.2, y + 0.3]) - robot.view_centre) * 16 / robot.view_extent
        np.testing.assert_allclose(centre_of(image, camera.images()), [16 + seen[0], 16 - seen[1]], atol=0.06)


def test_pictures_show_the_gripper_a_dropped_object_and_a_wiped_spot():
    tables = table("put_red_in_yellow", things=THINGS)
    camera = Camera(tables, 32)
    opened = camera.images()
    for _ in range(2):
        act(tables, grip=CLOSE)
    assert not torch.equal(opened, camera.images())
    for _ in range(4):
        act(tables, 1.0, 0.0, CLOSE)
    act(tables, grip=OPEN)
    for _ in range(8):
        act(tables, 0.0, -1.0)
    dropped = camera.images()  # from the hand, which has gone on without it
    tables.things_x[0, 0] = AWAY
    place = [16 + 0.05 * 16 / 1.3, 16 - 8 * STEP * 16 / 1.3]
    assert centre_of(dropped, camera.images()) == pytest.approx(place, abs=0.1)

    wiped = table("wipe_brown", hand=(0.5, 0.5), spots=[[[0.1 * k, 0.0] for k in range(SPOTS)], [[AWAY] * 2] * SPOTS])
    camera = Camera(wiped, 32)
    before = camera.images()
    wiped.dirty[0, 0] = False
    assert centre_of(before, camera.images()) == pytest.approx([16 - 0.5 * 16 / 1.3, 16 + 0.5 * 16 / 1.3], abs=0.7)


def test_batch_and_single_simulator_show_the_same_episode():
    batch = TabletopBatch("generalist", [7, 0, 13])
    batch.reset(init_states=[5, 6, 7])
    single = TabletopSimulator("generalist", 13)
    single.reset(init_state=7)
    assert batch.embodiments == ("tabletop_two_link", "tabletop_gantry", "tabletop_three_link")
    robots = [EMBODIMENTS[name] for name in batch.embodiments]
    actions = [np.linspace(-0.8, 0.9, len(robot.action_slots)).astype(np.float32) for robot in robots]
    for _ in range(5):
        several, alone = batch.observe(np.array([2, 0])), single.observe(images=True)
        np.testing.assert_array_equal(several[0].images["scene"], alone.images["scene"])
        np.testing.assert_array_equal(several[0].state, alone.state)
        assert several[1].state.shape == (3,) and alone.state.shape == (4,)
        batch.step(actions)
        single.step(actions[2])
    single.reset(seed=3)
    again = single.observe(images=True)
    single.step(actions[2])
    single.reset(seed=3)
    np.testing.assert_array_equal(single.observe(images=True).images["scene"], again.images["scene"])


def test_wrong_use_is_one_sentence():
    world = world_named("tabletop")
    with pytest.raises(ValueError, match="^tabletop has no suite 'kitchen'; choose from easy, hard, "):
        world.tasks("kitchen")
    simulator = world.make("easy", 0)
    with pytest.raises(ValueError, match="init_states or seeds"):
        simulator.reset()
    with pytest.raises(ValueError, match="^reset the tables"):
        simulator.observe(images=True)
