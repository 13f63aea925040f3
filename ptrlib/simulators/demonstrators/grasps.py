"""Where to hold an object, from the points on its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.scene import Scene

MAX_WIDTH = 0.074  # metres, a little under what the Panda's fingers span
ANGLES = 24
# Boxes (low, high) in the grip frame (x: along the finger opening, z: approach) of the open hand.
FINGERS = (
    (np.array([0.037, -0.012, -0.05]), np.array([0.060, 0.012, 0.012])),
    (np.array([-0.060, -0.012, -0.05]), np.array([-0.037, 0.012, 0.012])),
)
REACH = 0.70  # metres from the arm's base beyond which a hand that points down stretches the elbow
PALM = (np.array([-0.107, -0.034, -0.16]), np.array([0.107, 0.034, -0.047]))


@dataclass(frozen=True)
class Grasp:
    """A grip pose: ``offset`` (3,) from the object's position, in the world frame, and ``rotation`` (3, 3)."""

    offset: np.ndarray
    rotation: np.ndarray
    cost: float


def downward(yaw: float) -> np.ndarray:
    """Rotation of a hand that points down and opens its fingers along ``yaw`` (radians from world x)."""
    opening, approach = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([0.0, 0.0, -1.0])
    return np.stack([opening, np.cross(approach, opening), approach], axis=1)


def tilted(rotation: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    return Rotation.from_rotvec(np.asarray(axis, float) * angle).as_matrix() @ rotation


def nearest_yaw(yaw: float, reference: float) -> float:
    """The one of ``yaw`` and ``yaw + pi`` (the same grasp) that needs the smaller turn from ``reference``."""
    return reference + (yaw - reference + np.pi / 2) % np.pi - np.pi / 2


def inside(points: np.ndarray, position: np.ndarray, rotation: np.ndarray, box) -> int:
    local = (points - position) @ rotation
    return int(np.all((local > box[0]) & (local < box[1]), axis=1).sum())


def obstruction(position: np.ndarray, rotation: np.ndarray, own: np.ndarray, others: np.ndarray) -> int:
    """How many surface points the open hand would run into at this pose."""
    fingers = sum(inside(np.concatenate([own, others]), position, rotation, box) for box in FINGERS)
    return fingers + inside(others, position, rotation, PALM) + inside(own, position, rotation, PALM)


def rim_grasps(scene: Scene, name: str, reference_yaw: float, depth: float) -> list[Grasp]:
    """Pinch the wall of a bowl or mug ``depth`` metres under its rim, at each of 24 angles; best first."""
    own, others = scene.points(name), scene.obstacles((name,))
    top = own[:, 2].max()
    rim = own[own[:, 2] > top - depth]  # the wall between the pads, from rim to fingertips
    centre = (np.quantile(rim, 0.98, axis=0) + np.quantile(rim, 0.02, axis=0))[:2] / 2
    grasps = []
    for angle in np.arange(ANGLES) * 2 * np.pi / ANGLES:
        direction = np.array([np.cos(angle), np.sin(angle)])
        along = (rim[:, :2] - centre) @ direction
        across = np.abs((rim[:, :2] - centre) @ np.array([-direction[1], direction[0]]))
        wall = along[(across < 0.012) & (along > 0)]
        if not len(wall):
            continue
        position = np.append(centre + direction * wall.mean(), top - depth)
        yaw = nearest_yaw(angle, reference_yaw)
        grasps.append(_grasp(scene, name, position, yaw, reference_yaw, own, others))
    return sorted(grasps, key=lambda grasp: grasp.cost)


def centre_grasps(scene: Scene, name: str, reference_yaw: float, depth: float) -> list[Grasp]:
    """Hold a box, can or bottle across a narrow direction, ``depth`` metres under its top; best first."""
    own, others = scene.points(name), scene.obstacles((name,))
    top, bottom = own[:, 2].max(), own[:, 2].min()
    height = max(top - depth, bottom + 0.008)
    slab = own[(own[:, 2] > height - 0.012)]
    middle = (slab.max(axis=0) + slab.min(axis=0))[:2] / 2
    grasps = []
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
        direction = np.array([np.cos(angle), np.sin(angle)])
        along = (slab[:, :2] - middle) @ direction
        width = along.max() - along.min()
        if width > MAX_WIDTH:
            continue
        centre = middle + direction * (along.max() + along.min()) / 2
        yaw = nearest_yaw(angle, reference_yaw)
        grasp = _grasp(scene, name, np.append(centre, height), yaw, reference_yaw, own, others)
        grasps.append(Grasp(grasp.offset, grasp.rotation, grasp.cost + 40.0 * width))
    return sorted(grasps, key=lambda grasp: grasp.cost)


def _grasp(scene: Scene, name: str, position, yaw, reference_yaw, own, others) -> Grasp:
    rotation = downward(yaw)
    blocked = obstruction(position, rotation, own, others)
    stretched = max(0.0, float(np.linalg.norm(position[:2] - scene.base_position[:2])) - REACH)
    cost = 0.6 * abs(yaw - reference_yaw) + 0.3 * min(blocked, 40) + 25.0 * stretched
    return Grasp(position - scene.position(name), rotation, cost)
