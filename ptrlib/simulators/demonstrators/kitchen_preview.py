"""What would happen: the robot's kinematics and contacts in a copy of the scene, where nothing is stepped.

A pose of the hand is the pair (position (3,), rotation (3, 3)) of the grip in the world. A posture is MuJoCo's
``qpos`` of the whole scene with base, torso, arm and what is held moved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene

Pose = tuple[np.ndarray, np.ndarray]
ARM_JOINTS = tuple(f"robot0_joint{number}" for number in range(1, 8))
BASE_JOINTS = tuple(f"mobilebase0_joint_{name}" for name in ("mobile_forward", "mobile_side", "mobile_yaw",
                                                             "torso_height"))
MARGIN = 0.012  # metres kept between the arm and everything else: the hand strays by less
STRIDE, TURN_STRIDE = 0.04, 0.2  # metres and radians between the poses of a way that are looked at
DAMPING, RESTORING, LARGEST_STEP = 0.03, 0.1, 0.3  # of the inverse kinematics
CLOSE_ENOUGH = 0.004  # metres, a radian counting as 20 cm


@dataclass(frozen=True)
class Stance:
    """Where the robot is to stand: metres forward and left of where it stands now, and the torso's height (m)."""

    forward: float = 0.0
    left: float = 0.0
    torso: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """How a way of the hand ends. ``missed`` is how far its worst pose stayed out of reach (m, a radian counting
    as 20 cm), ``touched`` how many times robot or held object met something."""

    posture: np.ndarray
    missed: float
    touched: int

    @property
    def fine(self) -> bool:
        return self.missed < 0.012 and self.touched == 0

    @property
    def cost(self) -> float:
        return 100.0 * max(0.0, self.missed - 0.005) + self.touched


class Preview:
    """Moves a copy of the robot."""

    def __init__(self, scene: KitchenScene) -> None:
        import mujoco  # not above: Tabletop imports this package and needs no simulator

        self.mujoco = mujoco
        self.scene = scene
        self.model = copy.copy(scene.model)
        robot = {self.model.body(name).id for name in ("robot0_base", "mobilebase0_base")}
        roots = {int(self.model.body_rootid[body]) for body in robot}
        self.robot = np.isin(self.model.body_rootid, list(roots))[self.model.geom_bodyid]
        names = [self.model.body(body).name for body in self.model.geom_bodyid]
        self.fingers = np.array(["finger" in name for name in names])
        standing = np.array([name.startswith("mobilebase0") for name in names])
        self.model.geom_margin[self.robot & ~self.fingers & ~standing] = MARGIN
        self.model.body_margin[np.unique(self.model.geom_bodyid[self.model.geom_margin > 0])] = MARGIN
        self.data = mujoco.MjData(self.model)
        self.site = self.model.site("gripper0_right_grip_site").id
        self.arm = np.array([self.model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self.arm_dofs = np.array([self.model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self.limits = self.model.jnt_range[[self.model.joint(name).id for name in ARM_JOINTS]]
        self.base = np.array([self.model.joint(name).qposadr[0] for name in BASE_JOINTS])
        controller = scene.env.robots[0].part_controllers["right"]
        self.rest = np.array(controller.initial_joint)  # the posture that the arm's controller draws it back to
        floor = [geom for geom in range(self.model.ngeom) if "floor" in self.model.geom(geom).name]
        self.ignored = np.zeros(self.model.ngeom, bool)
        self.ignored[floor] = True
        self._masks: dict[tuple[str, ...], np.ndarray] = {}

    def posture(self, stance: Stance | None = None, open_hand: bool = True) -> np.ndarray:
        """The scene as it is now; with a ``stance``, the robot there and its arm at rest."""
        posture = self.scene.data.qpos.copy()
        if open_hand:
            posture[self.arm[-1] + 1 : self.arm[-1] + 3] = 0.04, -0.04
        if stance is not None:
            yaw = posture[self.base[2]]
            turned = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
            posture[self.base[:2]] += turned @ [stance.forward, stance.left]
            posture[self.base[3]] = stance.torso
            posture[self.arm] = self.rest
        return posture

    def driven(self, posture: np.ndarray, stance: Stance, held: str) -> np.ndarray:
        """The robot at another stance, its arm as it is, with what it holds."""
        grasped = self._grasped(posture, held)
        moved = posture.copy()
        moved[self.base] = self.posture(stance)[self.base]
        self._attach(moved, held, grasped)
        return moved

    def pose(self, posture: np.ndarray) -> Pose:
        self._place(posture)
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy()

    def base_frame(self, posture: np.ndarray) -> Pose:
        self._place(posture)
        site = self.data.site("mobilebase0_center")
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def reach(self, posture: np.ndarray, pose: Pose, iterations: int = 40) -> tuple[np.ndarray, float]:
        """The arm brought from ``posture`` to a pose of the hand, and how far off it stays."""
        posture = posture.copy()
        error = np.zeros(6)
        jacobian = np.zeros((6, self.model.nv))
        for _ in range(iterations):
            self._place(posture)
            error[:3] = pose[0] - self.data.site_xpos[self.site]
            error[3:] = Rotation.from_matrix(
                pose[1] @ self.data.site_xmat[self.site].reshape(3, 3).T).as_rotvec()
            if np.linalg.norm(error[:3]) + 0.2 * np.linalg.norm(error[3:]) < 0.5 * CLOSE_ENOUGH:
                break
            self.mujoco.mj_comPos(self.model, self.data)
            self.mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self.site)
            arm = jacobian[:, self.arm_dofs]
            inverse = arm.T @ np.linalg.inv(arm @ arm.T + DAMPING**2 * np.eye(6))
            step = inverse @ np.clip(error, -0.3, 0.3)
            step += (np.eye(7) - inverse @ arm) @ (RESTORING * (self.rest - posture[self.arm]))
            largest = float(np.abs(step).max())
            step *= min(1.0, LARGEST_STEP / max(largest, 1e-9))
            posture[self.arm] = np.clip(posture[self.arm] + step, *(self.limits.T + [[0.02], [-0.02]]))
        return posture, float(np.linalg.norm(error[:3]) + 0.2 * np.linalg.norm(error[3:]))

    def follow(self, posture: np.ndarray, way: Iterable[Pose], held: str | None = None,
               allowed: tuple[str, ...] = (), under: str | None = None) -> Verdict:
        """The hand led straight from pose to pose, with what it holds.

        The fingers may touch what is ``allowed`` and the palm come near it, what is held may touch what is
        ``under`` it.
        """
        grasped = self._grasped(posture, held) if held else None
        missed, touched = 0.0, 0
        at = self.pose(posture)
        for pose in way:
            turn = Rotation.from_matrix(pose[1] @ at[1].T)
            strides = max(1, int(np.ceil(max(np.linalg.norm(pose[0] - at[0]) / STRIDE,
                                             turn.magnitude() / TURN_STRIDE))))
            for stride in range(1, strides + 1):
                share = stride / strides
                between = (at[0] + share * (pose[0] - at[0]),
                           Rotation.from_rotvec(share * turn.as_rotvec()).as_matrix() @ at[1])
                posture, left = self.reach(posture, between, 10 if stride < strides else 30)
                if held and grasped is not None:
                    self._attach(posture, held, grasped)
                missed = max(missed, left) if stride == strides else missed
                touched += self.touched(posture, held, allowed, under)
            at = pose
        return Verdict(posture, missed, touched)

    def jump(self, posture: np.ndarray, pose: Pose, held: str | None = None) -> Verdict:
        """The hand at a pose, whatever is on the way there."""
        grasped = self._grasped(posture, held) if held else None
        posture, missed = self.reach(posture, pose)
        if held and grasped is not None:
            self._attach(posture, held, grasped)
        return Verdict(posture, missed, self.touched(posture, held))

    def object_pose(self, posture: np.ndarray, name: str) -> Pose:
        self._place(posture)
        body = self.scene.body(name)
        return self.data.xpos[body].copy(), self.data.xmat[body].reshape(3, 3).copy()

    def touched(self, posture: np.ndarray, held: str | None = None, allowed: tuple[str, ...] = (),
                under: str | None = None) -> int:
        """How many pairs of geoms touch, one of the robot's or of what it holds and one of the rest."""
        self._place(posture)
        self.mujoco.mj_collision(self.model, self.data)
        if self.data.ncon == 0:
            return 0
        pairs = self.data.contact.geom[: self.data.ncon]
        carried = self._of((held,)) if held else np.zeros_like(self.robot)
        moving = self.robot | carried
        counts = moving[pairs[:, 0]] != moving[pairs[:, 1]]
        counts &= ~self.ignored[pairs].any(axis=1)
        if allowed:
            harmless = self.fingers[pairs].any(axis=1) | (self.data.contact.dist[: self.data.ncon] > 0)
            counts &= ~(self._of(allowed)[pairs].any(axis=1) & harmless)
        if under:
            counts &= ~(self._of((under,))[pairs].any(axis=1) & carried[pairs].any(axis=1))
        return len(np.unique(pairs[counts], axis=0))

    def _of(self, names: tuple[str, ...]) -> np.ndarray:
        if names not in self._masks:
            bodies = [body for name in names for body in self.scene.bodies(name)]
            self._masks[names] = np.isin(self.model.geom_bodyid, bodies)
        return self._masks[names]

    def _place(self, posture: np.ndarray) -> None:
        self.data.qpos[:] = posture
        self.mujoco.mj_kinematics(self.model, self.data)

    def _address(self, name: str) -> int:
        return int(self.model.jnt_qposadr[self.model.body_jntadr[self.scene.body(name)]])

    def _grasped(self, posture: np.ndarray, name: str) -> Pose:
        """The object's pose as the hand sees it."""
        self._place(posture)
        rotation = self.data.site_xmat[self.site].reshape(3, 3)
        body = self.scene.body(name)
        return (rotation.T @ (self.data.xpos[body] - self.data.site_xpos[self.site]),
                rotation.T @ self.data.xmat[body].reshape(3, 3))

    def _attach(self, posture: np.ndarray, name: str, grasped: Pose) -> None:
        position, rotation = self.pose(posture)
        address = self._address(name)
        x, y, z, w = Rotation.from_matrix(rotation @ grasped[1]).as_quat()
        posture[address : address + 7] = np.concatenate([position + rotation @ grasped[0], [w, x, y, z]])


def shifted(pose: Pose, by: np.ndarray) -> Pose:
    return pose[0] + by, pose[1]
