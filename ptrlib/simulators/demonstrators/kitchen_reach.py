"""Where the arm's controller would get to: many hand poses tried at once on the Panda's kinematics.

robosuite's controller moves the hand straight towards its goal and lets the elbow sink back to its posture at
reset; it knows no joint limits, and stops at them. The same law on the kinematics alone tells beforehand which of
several hand poses, seen from which of several stands of the base, it reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.scene import SHOULDER_HEIGHT

JOINTS = 7
ROUNDS, STEP, TURN, POSTURE = 60, 0.06, 0.25, 0.1  # iterations, m and rad in one, pull towards the posture
DAMPING = 1e-3
ARRIVED = 0.015  # metres, a radian counting as 0.2
COMFORT = 0.7  # radians of room to the joints' limits beyond which more is not better
LONGEST = 0.95  # metres from the shoulder to the grip, stretched
NEAREST = 0.42  # metres from the foot to the grip, folded; half of it must be ahead
BEHIND, AHEAD, BESIDE = 0.57, 0.18, 0.28  # metres from the arm's foot to the base's sides, with a margin


@dataclass(frozen=True)
class Reached:
    """How it ended for each of N goals: joints (N, 7), what is left of position and turn, room to the limits (rad)."""

    joints: np.ndarray
    left: np.ndarray  # (N,) metres plus 0.2 m per radian
    margin: np.ndarray  # (N,)


class Arm:
    """The Panda as it stands on the base, all poses in the frame of its foot."""

    def __init__(self, scene: KitchenScene) -> None:
        model, data = scene.model, scene.data
        bodies = [model.body(f"robot0_link{number}").id for number in range(1, JOINTS + 1)]
        names = [f"robot0_joint{number}" for number in range(1, JOINTS + 1)]
        self.offsets = model.body_pos[bodies].copy()
        self.turns = Rotation.from_quat(np.roll(model.body_quat[bodies], -1, axis=1)).as_matrix()
        self.limits = np.array([model.joint(name).range for name in names])
        self.scene, self.names = scene, names
        self.posture = self.joints  # made at reset
        wrist = data.xmat[bodies[-1]].reshape(3, 3)
        self.tool = wrist.T @ (scene.grip_position - data.xpos[bodies[-1]]), wrist.T @ scene.grip_rotation

    @property
    def joints(self) -> np.ndarray:
        """(7,) present angles."""
        return np.array([self.scene.joint(name) for name in self.names])

    @property
    def stand(self) -> np.ndarray:
        """(3,) x, y, yaw of the base now."""
        return np.append(self.scene.base_position[:2], self.scene.base_yaw)

    def forward(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Grip positions (N, 3), rotations (N, 3, 3) and Jacobians (N, 6, 7) at ``joints`` (N, 7)."""
        count = len(joints)
        position, rotation = np.zeros((count, 3)), np.broadcast_to(np.eye(3), (count, 3, 3))
        anchors, axes = [], []
        for number in range(JOINTS):
            position = position + rotation @ self.offsets[number]
            rotation = rotation @ self.turns[number]
            anchors.append(position)
            axes.append(rotation[:, :, 2])
            rotation = rotation @ Rotation.from_euler("z", joints[:, number]).as_matrix()
        grip = position + rotation @ self.tool[0]
        swing = [np.cross(axis, grip - anchor) for axis, anchor in zip(axes, anchors, strict=True)]
        jacobian = np.concatenate([np.stack(swing, axis=2), np.stack(axes, axis=2)], axis=1)
        return grip, rotation @ self.tool[1], jacobian

    def reach(self, positions: np.ndarray, rotations: np.ndarray, joints: np.ndarray | None = None) -> Reached:
        """Go from ``joints`` (7,) or (N, 7), by default the present ones, to grip poses (N, 3), (N, 3, 3)."""
        start = self.joints if joints is None else joints
        present = np.broadcast_to(start, (len(positions), JOINTS)).copy()
        for _ in range(ROUNDS):
            grip, rotation, jacobian = self.forward(present)
            move = positions - grip
            turn = Rotation.from_matrix(rotations @ rotation.transpose(0, 2, 1)).as_rotvec()
            move = move * np.minimum(1.0, STEP / np.maximum(np.linalg.norm(move, axis=1), 1e-9))[:, None]
            turn = turn * np.minimum(1.0, TURN / np.maximum(np.linalg.norm(turn, axis=1), 1e-9))[:, None]
            transposed = jacobian.transpose(0, 2, 1)
            inverse = transposed @ np.linalg.inv(jacobian @ transposed + DAMPING * np.eye(6))
            idle = POSTURE * (self.posture - present)
            drift = idle - np.einsum("nij,njk,nk->ni", inverse, jacobian, idle)
            present = present + np.einsum("nij,nj->ni", inverse, np.concatenate([move, turn], axis=1)) + drift
            present = np.clip(present, self.limits[:, 0], self.limits[:, 1])
        grip, rotation, _ = self.forward(present)
        turn = Rotation.from_matrix(rotations @ rotation.transpose(0, 2, 1)).magnitude()
        left = np.linalg.norm(positions - grip, axis=1) + 0.2 * turn
        margin = np.minimum(present - self.limits[:, 0], self.limits[:, 1] - present).min(axis=1)
        return Reached(present, left, margin)


@dataclass(frozen=True)
class Stand:
    """Where the base goes (x, y, yaw), its torso, and which of the hand's ways it serves."""

    base: np.ndarray
    torso: float
    way: int
    margin: float


def find_stand(arm: Arm, positions: np.ndarray, rotations: np.ndarray, bases: np.ndarray,
               torsos: tuple[float, ...], shifts: np.ndarray | None = None) -> Stand:
    """The stand from which the arm gets through one of several ways, and that is near.

    A way is a sequence of M grip poses in the world; ``positions`` (K, M, 3) and ``rotations`` (K, M, 3, 3) hold K
    of them, best first. ``bases`` (B, 3) are the stands to try; ``shifts`` (S, 2) what the
    base will drive from there. The arm starts from its present joints.
    """
    scene, present = arm.scene, arm.stand
    bases = free(arm, bases, np.zeros((0, 2)) if shifts is None else shifts)
    stands = np.concatenate([np.column_stack([bases, np.full(len(bases), torso)]) for torso in torsos])
    ways, count = len(positions), len(stands)
    foot = np.column_stack([stands[:, :2], scene.base_position[2] - scene.torso + stands[:, 3]])
    turn = Rotation.from_euler("z", -stands[:, 2]).as_matrix()
    joints = np.tile(arm.joints, (count * ways, 1))
    margin, left = np.full(count * ways, np.inf), np.arange(count * ways)  # left: those that got through so far
    for step in range(positions.shape[1]):
        seen = np.einsum("bij,bkj->bki", turn, positions[None, :, step] - foot[:, None]).reshape(-1, 3)
        turned = np.einsum("bij,kjl->bkil", turn, rotations[:, step]).reshape(-1, 3, 3)
        short = np.linalg.norm(seen[left] - [0.0, 0.0, SHOULDER_HEIGHT], axis=1) < LONGEST
        ahead = (np.linalg.norm(seen[left, :2], axis=1) > NEAREST) & (seen[left, 0] > NEAREST / 2)
        left = left[short & ahead]
        result = arm.reach(seen[left], turned[left], joints[left])
        joints[left], margin[left] = result.joints, np.minimum(margin[left], result.margin)
        left = left[result.left < ARRIVED]
    reached = np.isin(np.arange(count * ways), left)
    margin[~reached] = 0.0
    away = np.linalg.norm(stands[:, :2] - present[:2], axis=1) + 0.3 * np.abs(wrapped(stands[:, 2] - present[2]))
    cost = np.repeat(away + 0.3 * np.abs(stands[:, 3] - scene.torso), ways) + 0.02 * np.tile(np.arange(ways), count)
    cost += 2.0 * np.maximum(0.0, COMFORT - margin) + 10.0 * ~reached
    best = int(np.argmin(cost))
    return Stand(stands[best // ways, :3], float(stands[best // ways, 3]), best % ways, float(margin[best]))


def free(arm: Arm, bases: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Those of ``bases`` (B, 3) to which the base gets straight, and then by each of ``shifts`` (S, 2); all if none."""
    furniture = arm.scene.floor_plan()
    furniture = furniture[~inside(arm.stand[None], furniture)[0]]  # what it touches now does not hold it
    way = np.column_stack([bases[:, :2] - arm.stand[:2], wrapped(bases[:, 2] - arm.stand[2])])
    poses = [arm.stand + share * way for share in (0.35, 0.7, 1.0)]
    poses += [bases + np.append(shift, 0.0) for shift in shifts]
    room = ~np.any([inside(pose, furniture).any(axis=1) for pose in poses], axis=0)
    return bases[room] if room.any() else bases


def wrapped(angles: np.ndarray) -> np.ndarray:
    """The same angles between -pi and pi."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def inside(bases: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(B, N) which of ``points`` (N, 2) a base at each of ``bases`` (B, 3) would stand on, with a margin."""
    away = points[None] - bases[:, None, :2]
    cosine, sine = np.cos(bases[:, 2, None]), np.sin(bases[:, 2, None])
    ahead, left = away[..., 0] * cosine + away[..., 1] * sine, away[..., 1] * cosine - away[..., 0] * sine
    return (ahead > -BEHIND) & (ahead < AHEAD) & (np.abs(left) < BESIDE)
