"""Moving RoboCasa's mobile Panda: twelve numbers at 20 Hz, an arm on a base that drives.

Measured on PandaOmron (robosuite 1.5.2), which the gains below rest on:

- Base velocity: forward, left, turn in the base's own present frame. Friction takes the first 0.25 of a command
  (0.17 of a turn); beyond it a command drives 4.9 cm a control step per unit (and turns 0.08 rad), so 3.7 cm at 1,
  0.7 cm at 0.4. At full speed it coasts 2.2 cm and 0.009 rad after the command has gone to zero.
- It turns about a point 0.2 m from the site that counts as its position, and after turns of half a radian "forward"
  is off by some degrees: closed loop sees to both.
- Torso at 1 rises 2.5 cm a step, at 0.5 0.8 cm, between 0 and 0.34 m; it stops within 3 mm and holds.
- Base and torso obey whatever the mode is. In the base's mode the arm keeps its pose relative to the base, within
  8 mm underway and back within a step or two; in the arm's mode it trails by as much and keeps the offset.
- At rest nothing drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ptrlib.simulators.demonstrators.controller import Command, PoseTracker
from ptrlib.simulators.demonstrators.kitchen_reach import Arm
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.skills import CLOSE, OPEN, STALL_STEPS, Commands, Skills
from ptrlib.simulators.demonstrators.styles import Style

ACTION_SIZE = 12
ARM, GRIPPER, BASE, TORSO, MODE = slice(0, 6), 6, slice(7, 10), 10, 11  # of an action
# Of forward, left, turn and torso: what friction takes of a command, and metres or radians a step beyond it.
FRICTION = np.array([0.25, 0.25, 0.167, 0.28])
RATE = np.array([0.049, 0.049, 0.08, 0.034])
FASTEST = (1.0 - FRICTION) * RATE
APPROACH_RATE = 0.4  # of what is left, driven in a step
STILL = np.array([0.004, 0.004, 0.01, 0.004])  # what may be left without a push against friction
SWEEP_STEP, LEAD, PATIENCE = 0.014, 0.06, 20  # metres a control step, metres ahead of the grip, steps
LAST_SPEED = 0.35  # of full speed, over the last centimetres to a fixture, so that a demonstration dwells there
GENTLE, GATHERED = 0.25, 0.015  # largest action at the start of a gentle sweep, and more of it at every step
UNTWISTED = 0.9  # radians between every joint and its posture at reset
BASE_TOLERANCE, YAW_TOLERANCE, TORSO_TOLERANCE = 0.012, 0.03, 0.01  # metres, radians, metres


@dataclass
class Drive(Command):
    """Where the base should be: ``base`` (3,) x, y (m) and yaw (rad) in the world, ``torso`` its height (m)."""

    base: np.ndarray = field(default_factory=lambda: np.zeros(3))
    torso: float = 0.0


class KitchenTracker:
    """Turns commands into actions (12,) in [-1, 1].

    A :class:`Command` moves the arm: LIBERO's law with its clamped integral, in the world's frame, turned into
    the base's. A :class:`Drive` moves base and torso while the arm keeps its pose relative to the base.
    """

    def __init__(self, scene: KitchenScene) -> None:
        self.scene = scene
        self.arm = PoseTracker()

    def action(self, command: Command, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        action = np.zeros(ACTION_SIZE)
        action[GRIPPER] = command.gripper
        if isinstance(command, Drive):
            self.arm = PoseTracker()  # what the integral had learnt was another place's
            left = np.append(base_error(self.scene, command.base), command.torso - self.scene.torso)
            fastest = command.speed * FASTEST
            step = np.clip(APPROACH_RATE * left, -fastest, fastest)
            step[:2] *= min(1.0, fastest[0] / max(float(np.linalg.norm(step[:2])), 1e-9))
            drive = FRICTION * np.tanh(left / STILL) + step / RATE
            action[BASE], action[TORSO] = drive[:3], drive[3]
            action[MODE] = 1.0
            return action
        in_base = self.scene.base_rotation.T
        arm = self.arm.action(command, position, rotation)
        action[:3], action[3:6] = in_base @ arm[:3], in_base @ arm[3:6]
        action[MODE] = -1.0
        return action

    def shaken(self, action: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """``action`` with ``noise`` (6,) on what moves: the hand, or the base's two directions and its turn."""
        shaken = action.copy()
        if action[MODE] > 0:
            shaken[BASE] += noise[[0, 1, 5]]
        else:
            shaken[ARM] += noise
        return shaken


def base_error(scene: KitchenScene, goal: np.ndarray) -> np.ndarray:
    """(3,) forward, left (m) and turn (rad) from where the base is to ``goal`` (x, y, yaw)."""
    across = scene.base_rotation.T @ np.append(goal[:2] - scene.base_position[:2], 0.0)
    turn = (goal[2] - scene.base_yaw + np.pi) % (2 * np.pi) - np.pi
    return np.append(across[:2], turn)


class KitchenSkills(Skills):
    """LIBERO's skills for one RoboCasa episode, and driving."""

    scene: KitchenScene

    def __init__(self, scene: KitchenScene, style: Style, generator: np.random.Generator) -> None:
        super().__init__(scene, style, generator)
        self.arm = Arm(scene)

    def drive(self, goal: np.ndarray, gripper: float, torso: float | None = None, phase: str = "drive",
              tolerance: float = BASE_TOLERANCE, limit: int = 120, speed: float = 1.0) -> Commands:
        """Drive to ``goal`` (x, y, yaw), the torso to a height, the hand as it is relative to the base.

        Ends within ``tolerance`` (m), after ``limit`` steps at full speed, or when the base comes no nearer.
        """
        height = self.scene.torso if torso is None else float(np.clip(torso, 0.0, 0.34))
        best, stalled = np.inf, 0.0
        for _ in range(int(limit / self.style.speed)):
            error = base_error(self.scene, goal)
            away, turn, rise = float(np.linalg.norm(error[:2])), abs(error[2]), abs(height - self.scene.torso)
            if away < tolerance and turn < YAW_TOLERANCE and rise < TORSO_TOLERANCE:
                return
            left = away + 0.3 * turn + rise
            best, stalled = (left, 0.0) if left < best - 0.002 else (best, stalled + self.style.speed * speed)
            if stalled > STALL_STEPS:
                return
            here, rotation = self.scene.grip_position, self.scene.grip_rotation
            yield Drive(here, rotation, gripper, phase, self.speed * speed, goal, height)

    def drive_by(self, forward: float, left: float, gripper: float, turn: float = 0.0, torso: float | None = None
                 ) -> Commands:
        """Drive ``forward`` and ``left`` (m) and ``turn`` (rad) from here, as the robot faces."""
        shift = self.scene.base_rotation @ np.array([forward, left, 0.0])
        goal = np.append((self.scene.base_position + shift)[:2], self.scene.base_yaw + turn)
        yield from self.drive(goal, gripper, torso)

    def home(self, gripper: float) -> Commands:
        """Back to the posture of the reset, from which ``kitchen_reach`` foresees best, if the arm is far from it."""
        if np.abs(self.arm.joints - self.arm.posture).max() < UNTWISTED:
            return
        position, rotation, _ = self.arm.forward(self.arm.posture[None])
        turn = self.scene.base_rotation
        yield from self.reach(self.scene.base_position + turn @ position[0], "retreat", gripper, turn @ rotation[0],
                              tolerance=0.06, angle=0.5, limit=60)

    def grasp_before(self, target: Callable[[], np.ndarray], rotation: np.ndarray, own: np.ndarray,
                     out: np.ndarray) -> Commands:
        """Come from the front (``out`` (3,)), miss once if that is the style, and close the hand on ``target()``.

        ``own`` (N, 3) are surface points of what is grasped, which a deliberate miss keeps clear of.
        """

        def before() -> np.ndarray:
            return target() + self.hover * out

        yield from self.reach(before, "reach", OPEN, rotation, tolerance=0.02)
        yield from self.miss_once(target, rotation, own, before)
        yield from self.hesitate(OPEN)
        yield from self.reach(before, "reach", OPEN, tolerance=0.012, limit=40)
        yield from self.reach(target, "descend", OPEN, tolerance=0.006, limit=100, speed=LAST_SPEED)
        yield from self.close(target())

    def touch_before(self, target: Callable[[], np.ndarray], rotation: np.ndarray, out: np.ndarray,
                     along: np.ndarray) -> Commands:
        """Come from the front (``out`` (3,)) to ``target()`` with closed fingers.

        The style's miss goes a few centimetres ``along`` (3,) beside it first.
        """

        def before() -> np.ndarray:
            return target() + self.hover * out

        yield from self.reach(before, "reach", CLOSE, rotation, tolerance=0.02)
        if self.style.misses and not self.missed:
            self.missed = True
            aside = self.generator.choice([-1.0, 1.0]) * self.generator.uniform(0.04, 0.06) * along
            yield from self.reach(lambda: target() + aside + 0.02 * out, "miss", CLOSE, tolerance=0.015, limit=40)
            yield from self.hold(5, "miss", CLOSE)
            yield from self.reach(before, "correct", CLOSE, tolerance=0.02)
        yield from self.hesitate(CLOSE)
        yield from self.reach(target, "reach", CLOSE, tolerance=0.012, limit=100, speed=LAST_SPEED)

    def sweep(self, path: np.ndarray, phase: str, gripper: float, arrived: Callable[[], bool],
              rotations: np.ndarray | None = None, gently: bool = False) -> Commands:
        """Lead the grip along the polyline ``path`` (P, 3) against what resists, until ``arrived()``.

        The commanded point goes ahead of the grip by no more than 6 cm and waits there; the style's speed is its
        speed, so that a slow hand is no weaker. ``rotations`` (P, 3, 3) are taken on the way. ``gently`` gathers
        force slowly: a jerk tears a handle out of the fingers. Ends a second after the grip stopped following.
        """
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        stations, done, waited = np.concatenate([[0.0], np.cumsum(steps)]), 0.0, 0.0
        speed = GENTLE if gently else 1.0
        turns = None if rotations is None else Slerp(stations, Rotation.from_matrix(rotations))
        while waited < PATIENCE and not arrived():
            target = np.array([np.interp(done, stations, path[:, axis]) for axis in range(3)])
            if turns is not None:
                self.rotation = turns(min(done, stations[-1])).as_matrix()
            yield Command(target, self.rotation, gripper, phase, speed)
            speed = min(1.0, speed + GATHERED)
            if done < stations[-1] and np.linalg.norm(target - self.scene.grip_position) < LEAD:
                done, waited = done + SWEEP_STEP * self.style.speed, 0.0
            else:
                waited += self.style.speed
