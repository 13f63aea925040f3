"""Plans for the 14 RoboCasa tasks in which the robot works a fixture: doors, drawers, knobs, levers, buttons.

Directions are those of the fixture: ``out`` from its front towards the robot, ``along`` to the right of a robot
that faces it. Seeds below 100 were looked at while tuning.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptrlib.simulators.demonstrators.grasps import UP, pointing
from ptrlib.simulators.demonstrators.kitchen_motion import KitchenSkills
from ptrlib.simulators.demonstrators.kitchen_reach import find_stand
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.skills import CLOSE, OPEN, Commands

DOOR_DISTANCE, DOOR_TORSO = 0.75, 0.20  # metres from a wall cabinet's front to the base, and the torso's height
DRAWER_DISTANCE = 0.72  # metres from a drawer's handle to the base
PULL_SPEED = 0.5
PULLED = 0.55  # of a door's travel: from there it is pushed from inside
FINGER = 0.012  # metres from the middle of the closed fingers to their sides


class Front:
    """The frame of a fixture's front, as it stands in the room."""

    def __init__(self, scene: KitchenScene, name: str) -> None:
        rotation = scene.rotation(name)
        self.out, self.along = -rotation[:, 1], rotation[:, 0]
        self.yaw = float(np.arctan2(-self.out[1], -self.out[0]))  # of a robot that faces it

    def stand(self, point: np.ndarray, distance: float, aside: float = 0.0) -> np.ndarray:
        """(3,) x, y, yaw of a base ``distance`` before ``point`` and ``aside`` to its right."""
        place = point + distance * self.out + aside * self.along
        return np.append(place[:2], self.yaw)


def middle(points: np.ndarray) -> np.ndarray:
    return (points.max(axis=0) + points.min(axis=0)) / 2


def ways_of(front: Front, points: np.ndarray, tilts: tuple[float, ...], openings: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Grip positions (K, M, 3) and rotations (K, M, 3, 3) through ``points`` (M, 3), the hand pointing into the
    front and tilted down by each of ``tilts``, opening along each of ``openings`` (O, 3)."""
    rotations = [pointing(-np.cos(tilt) * front.out - np.sin(tilt) * UP, opening)
                 for tilt in tilts for opening in openings]
    return (np.broadcast_to(points, (len(rotations), *points.shape)),
            np.stack([np.broadcast_to(rotation, (len(points), 3, 3)) for rotation in rotations]))


def bases_before(front: Front, point: np.ndarray, distances: tuple[float, ...]) -> np.ndarray:
    """(B, 3) stands before ``point``, straight and turned, on either side of it."""
    return np.array([front.stand(point, distance, aside) + [0.0, 0.0, turn] for distance in distances
                     for aside in np.linspace(-0.45, 0.45, 7) for turn in (-0.8, -0.4, 0.0, 0.4, 0.8)])


def stand_before(skills: KitchenSkills, front: Front, points: np.ndarray, tilts: tuple[float, ...],
                 openings: np.ndarray, gripper: float, distances: tuple[float, ...] = (0.45, 0.6, 0.75),
                 torsos: tuple[float, ...] = (0.0,), shifts: np.ndarray | None = None) -> Commands:
    """Drive to where the hand gets through ``points`` (M, 3); returns its rotation (3, 3) there."""
    positions, rotations = ways_of(front, points, tilts, openings)
    stand = find_stand(skills.arm, positions, rotations, bases_before(front, points[0], distances),
                       torsos, shifts)
    yield from skills.drive(stand.base, gripper, stand.torso)
    return rotations[stand.way, 0]


UPRIGHT = np.array([UP, -UP])


def open_drawer(skills: KitchenSkills) -> Commands:
    """Grasp the handle from the front, then drive back with it."""
    scene = skills.scene
    name = scene.fixture("drawer").name
    front, joint = Front(scene, name), scene.joints(name)[0]
    handle = scene.handle_points(joint)
    bar = handle[handle @ front.out > (handle @ front.out).max() - 0.016]
    left = 0.62 * (1.0 - scene.openness(joint)) * front.out
    points = np.stack([middle(bar) + skills.hover * front.out, middle(bar)])
    rotation = yield from stand_before(skills, front, points, (0.2, 0.35, 0.05), UPRIGHT, OPEN,
                                       shifts=np.array([np.zeros(2), left[:2]]))
    yield from skills.grasp_before(lambda: middle(bar), rotation, bar, front.out)
    goal = np.append((scene.base_position + left)[:2], scene.base_yaw)
    yield from skills.drive(goal, CLOSE, speed=PULL_SPEED, phase="pull")
    yield from skills.release(0.08 * front.out)


def close_drawer(skills: KitchenSkills) -> Commands:
    """Stand before the drawer, lay the closed hand on its front, and drive forward."""
    scene = skills.scene
    name = scene.fixture("drawer").name
    front, joint = Front(scene, name), scene.joints(name)[0]
    handle = middle(scene.handle_points(joint))
    left = (0.66 * scene.openness(joint) + 0.05) * front.out
    contact = handle + 0.03 * front.out
    over = contact + 0.15 * front.out + 0.22 * UP  # so that the hand comes down before the drawer, not onto it
    rotation = yield from stand_before(skills, front, np.stack([over, contact]), (0.5, 0.8, 0.2), UPRIGHT, CLOSE,
                                       shifts=np.array([np.zeros(2), -left[:2]]))
    yield from skills.reach(over, "reach", CLOSE, rotation, tolerance=0.04)
    yield from skills.touch_before(lambda: contact, rotation, front.out, front.along)
    goal = np.append((scene.base_position - left)[:2], scene.base_yaw)
    yield from skills.drive(goal, CLOSE, speed=PULL_SPEED, phase="push")
    yield from skills.reach(scene.grip_position - 0.06 * front.out, "push", CLOSE, limit=30)


PLANS: dict[str, Callable[[KitchenSkills], Commands]] = {
    "OpenDrawer": open_drawer,
    "CloseDrawer": close_drawer,
}
