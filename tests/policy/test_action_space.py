import numpy as np
import pytest

from ptrlib.policy.action_space import EMBODIMENTS, SLOTS, UNIFIED_DIM, Embodiment, slots

PUBLISHED = {  # Being-H0.5, the slots that method.md lists
    "eef_position": (0, 3), "eef_rotation": (3, 6), "left_eef_position": (9, 12),
    "left_eef_rotation": (12, 15),
    "gripper": (18, 19), "left_gripper": (19, 20), "dexhand": (20, 26), "left_dexhand": (32, 38),
    "gripper_qpos": (44, 46), "arm_joints": (50, 57), "left_arm_joints": (57, 64), "head": (64, 66),
    "waist": (66, 69), "base_position": (70, 73), "base_motion": (70, 74), "control_mode": (74, 75),
}
ACTIVE = {"libero": 7, "robocasa": 12, "g1": 26, "adam_u": 31, "fr3": 13,  # Table 2 and Section 5.1
          "tabletop_gantry": 3, "tabletop_two_link": 3, "tabletop_three_link": 4}


def test_slots_are_those_published() -> None:
    assert SLOTS == PUBLISHED


def test_slots_overlap_only_where_state_and_action_share_them() -> None:
    shared = {("base_position", "base_motion")}
    names = list(SLOTS)
    for i, first in enumerate(names):
        for second in names[i + 1:]:
            overlap = set(slots(first)) & set(slots(second))
            assert bool(overlap) == ((first, second) in shared), (first, second)


@pytest.mark.parametrize("name", EMBODIMENTS)
def test_active_dimensions(name: str) -> None:
    robot = EMBODIMENTS[name]
    assert robot.action_mask.shape == robot.state_mask.shape == (UNIFIED_DIM,)
    assert robot.action_mask.sum() == len(set(robot.action_slots)) == len(robot.action_slots) == ACTIVE[name]
    assert robot.state_mask.sum() == len(set(robot.state_slots)) == len(robot.state_slots)


def test_the_robots_share_components() -> None:
    g1, adam, fr3 = (set(EMBODIMENTS[name].action_slots) for name in ("g1", "adam_u", "fr3"))
    assert adam - g1 == set(slots("head", "waist"))
    assert g1 - fr3 == set(slots("left_arm_joints", "left_dexhand"))
    libero, robocasa = (set(EMBODIMENTS[name].action_slots) for name in ("libero", "robocasa"))
    assert robocasa - libero == set(slots("base_motion", "control_mode"))
    assert not libero & g1
    gantry, two, three = (set(EMBODIMENTS[f"tabletop_{name}"].action_slots)
                          for name in ("gantry", "two_link", "three_link"))
    assert gantry < libero and two < three < fr3 | set(slots("gripper"))
    assert gantry & three == set(slots("gripper"))


@pytest.mark.parametrize("name", EMBODIMENTS)
def test_there_and_back(name: str) -> None:
    robot = EMBODIMENTS[name]
    random = np.random.default_rng(0)
    action = random.normal(size=(3, 5, len(robot.action_slots))).astype(np.float32)
    state = random.normal(size=(4, len(robot.state_slots))).astype(np.float32)
    unified = robot.to_unified_action(action)
    assert unified.shape == (3, 5, UNIFIED_DIM) and unified.dtype == np.float32
    assert (unified[..., ~robot.action_mask] == 0).all()
    np.testing.assert_array_equal(robot.from_unified_action(unified), action)
    unified = robot.to_unified_state(state)
    assert (unified[..., ~robot.state_mask] == 0).all()
    np.testing.assert_array_equal(unified[..., list(robot.state_slots)], state)


def test_libero_by_hand() -> None:
    unified = EMBODIMENTS["libero"].to_unified_action(np.arange(1.0, 8.0))
    assert {i: v for i, v in enumerate(unified) if v} == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 18: 7}
    state = EMBODIMENTS["libero"].to_unified_state(np.arange(1.0, 9.0))
    assert {i: v for i, v in enumerate(state) if v} == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 44: 7, 45: 8}


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'libero' has 7 dimensions, got an array of shape \(2, 8\)"):
        EMBODIMENTS["libero"].to_unified_action(np.zeros((2, 8)))
    with pytest.raises(ValueError, match=r"a unified action of 'libero' has 200 slots, got an array of shape \(8,\)"):
        EMBODIMENTS["libero"].from_unified_action(np.zeros(8))


@pytest.mark.parametrize(("used", "sentence"), [
    (slots("arm_joints")[:2] * 2, r"names the slots \[50, 51\] more than once; give every dimension a slot of its own"),
    ((0, 200), r"names the slots \[200\]; choose among 0 to 199"), ((-1, 0), r"names the slots \[-1\]; choose among")])
def test_a_slot_holds_one_number(used: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^state_slots of 'own' {sentence}"):
        Embodiment("own", used, (0,))
    with pytest.raises(ValueError, match=f"^action_slots of 'own' {sentence}"):
        Embodiment("own", (0,), used)
