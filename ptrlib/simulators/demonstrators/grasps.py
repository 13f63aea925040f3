"""Where to hold an object, from the points on its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.scene import Scene

MAX_WIDTH = 0.074  # metres, a little under what the Panda's fingers span
ANGLES = 24
NEARBY = 0.25  # metres around an object within which the hand can meet anything
# Boxes (low, high) in the grip frame (x: along the finger opening, z: approach) of the open hand.
FINGERS = (
    (np.array([0.037, -0.012, -0.05]), np.array([0.060, 0.012, 0.012])),
    (np.array([-0.060, -0.012, -0.05]), np.array([-0.037, 0.012, 0.012])),
)
TILTS = (0.0, -0.4, 0.4)  # radians
UP = np.array([0.0, 0.0, 1.0])
APPROACH = (np.array([0.08, 0.0]), np.array([0.08, 0.1]))  # metres back along the hand, and up
NOTHING = np.zeros((0, 3))
REACH = 0.70  # metres from the arm's base beyond which a hand that points down stretches the elbow
PALM = (np.array([-0.107, -0.034, -0.16]), np.array([0.107, 0.034, -0.047]))


@dataclass(frozen=True)
class Grasp:
    """A grip pose: ``offset`` (3,) from the object's position, world frame, and ``rotation`` (3, 3)."""

    offset: np.ndarray
    rotation: np.ndarray
    cost: float


def pointing(approach: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Rotation of a hand that points along ``approach`` (3,) with fingers opening along ``opening`` (3,)."""
    approach = approach / np.linalg.norm(approach)
    opening = opening - (opening @ approach) * approach
    opening = opening / np.linalg.norm(opening)
    return np.stack([opening, np.cross(approach, opening), approach], axis=1)


def downward(yaw: float) -> np.ndarray:
    """Rotation of a hand that points down and opens its fingers along ``yaw`` (radians from world x)."""
    return pointing(np.array([0.0, 0.0, -1.0]), np.array([np.cos(yaw), np.sin(yaw), 0.0]))


def nearest_yaw(yaw: float, reference: float) -> float:
    """The one of ``yaw`` and ``yaw + pi`` (the same grasp) that needs the smaller turn from ``reference``."""
    return reference + (yaw - reference + np.pi / 2) % np.pi - np.pi / 2


def inside(points: np.ndarray, position: np.ndarray, rotation: np.ndarray, box) -> int:
    local = (points - position) @ rotation
    return int(np.all((local > box[0]) & (local < box[1]), axis=1).sum())


def obstruction(position: np.ndarray, rotation: np.ndarray, own: np.ndarray, others: np.ndarray) -> int:
    """How many surface points the open hand would run into at this pose."""
    both = np.concatenate([own, others])
    return sum(inside(both, position, rotation, box) for box in (*FINGERS, PALM))


@dataclass
class GraspSearch:
    """Grasps of one object as it stands now, cheapest first.

    The cost counts the turn from ``reference_yaw``, what the hand would touch (at ``destination`` (3,) too,
    where the object's origin is to go, if given), and how far the arm must stretch.
    """

    scene: Scene
    name: str
    reference_yaw: float
    destination: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.own = self.scene.points(self.name)
        self.origin = self.scene.position(self.name)
        others = self.scene.obstacles((self.name,))
        self.others = others[np.linalg.norm(others - self.origin, axis=1) < NEARBY]
        self.there = NOTHING
        if self.destination is not None:
            self.there = others[np.linalg.norm(others - self.destination, axis=1) < NEARBY]

    def rim(self, depth: float) -> list[Grasp]:
        """Pinch the wall of a bowl, mug or plate ``depth`` metres under its rim, at each of 24 angles."""
        top = self.own[:, 2].max()
        wall = self.own[self.own[:, 2] > top - depth]  # between the pads, from the rim to the fingertips
        centre = (np.quantile(wall, 0.98, axis=0) + np.quantile(wall, 0.02, axis=0))[:2] / 2
        grasps = []
        for angle in np.arange(ANGLES) * 2 * np.pi / ANGLES:
            direction = np.array([np.cos(angle), np.sin(angle)])
            along = (wall[:, :2] - centre) @ direction
            across = np.abs((wall[:, :2] - centre) @ np.array([-direction[1], direction[0]]))
            near = along[(across < 0.012) & (along > 0)]
            if len(near):
                position = np.append(centre + direction * near.mean(), top - depth)
                grasps += self._leaning(position, nearest_yaw(angle, self.reference_yaw))
        return sorted(grasps, key=lambda grasp: grasp.cost)

    def centre(self, depth: float) -> list[Grasp]:
        """Hold a box, can or bottle across a narrow direction, ``depth`` metres under its top."""
        top, bottom = self.own[:, 2].max(), self.own[:, 2].min()
        height = max(top - depth, bottom + 0.011)
        slab = self.own[self.own[:, 2] > height - 0.012]
        grasps = []
        for angle in np.arange(ANGLES) * np.pi / ANGLES:
            opening = np.array([np.cos(angle), np.sin(angle)])
            along, across = slab[:, :2] @ opening, slab[:, :2] @ np.array([-opening[1], opening[0]])
            if np.ptp(along) < MAX_WIDTH:
                middle = opening * (along.max() + along.min()) / 2
                middle = middle + np.array([-opening[1], opening[0]]) * (across.max() + across.min()) / 2
                yaw = nearest_yaw(angle, self.reference_yaw)
                grasps += self._leaning(np.append(middle, height), yaw, 40.0 * float(np.ptp(along)))
        return sorted(grasps, key=lambda grasp: grasp.cost)

    def handle(self, point: np.ndarray, tilt: float) -> list[Grasp]:
        """Pinch an upright handle at ``point`` (3,) of the object's frame, ``tilt`` radians from down.

        The handle is thin sideways; a tilted hand leans away from the object.
        """
        rotation = self.scene.rotation(self.name)
        outward = rotation @ np.append(point[:2], 0.0)
        outward /= np.linalg.norm(outward)
        approach = np.array([0.0, 0.0, -np.cos(tilt)]) - np.sin(tilt) * outward
        side = np.array([-outward[1], outward[0], 0.0])
        position = self.origin + rotation @ point
        grasps = [self._grasp(position, pointing(approach, sign * side)) for sign in (1, -1)]
        return sorted(grasps, key=lambda grasp: grasp.cost)

    def _leaning(self, position: np.ndarray, yaw: float, extra: float = 0.0) -> list[Grasp]:
        """The hand pointing down, and leaning sideways, where the palm may pass a tall neighbour."""
        down = downward(yaw)
        leaning = [Rotation.from_rotvec(tilt * down[:, 0]).as_matrix() @ down for tilt in TILTS]
        return [
            self._grasp(position, rotation, extra + abs(tilt))
            for tilt, rotation in zip(TILTS, leaning, strict=True)
        ]

    def _grasp(self, position: np.ndarray, rotation: np.ndarray, extra: float = 0.0) -> Grasp:
        offset = position - self.origin
        blocked = obstruction(position, rotation, self.own, self.others)
        for back in APPROACH:  # the way there: straight down, then along the hand
            blocked += obstruction(position - back @ [rotation[:, 2], -UP], rotation, NOTHING, self.others)
        if self.destination is not None:
            blocked += obstruction(self.destination + offset, rotation, NOTHING, self.there)
        yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
        turn = abs((yaw - self.reference_yaw + np.pi) % (2 * np.pi) - np.pi)
        stretched = max(0.0, float(np.linalg.norm((position - self.scene.base_position)[:2])) - REACH)
        return Grasp(offset, rotation, 0.6 * turn + 0.3 * min(blocked, 100) + 25.0 * stretched + extra)
