"""Manipulation skills: generators of commands that look at the true scene before every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.controller import Command
from ptrlib.simulators.demonstrators.grasps import Grasp, centre_grasps, obstruction, rim_grasps
from ptrlib.simulators.demonstrators.scene import Scene
from ptrlib.simulators.demonstrators.styles import Style

OPEN, CLOSE = -1.0, 1.0
CLOSE_STEPS, OPEN_STEPS = 13, 8
STALL_STEPS = 15  # at full speed
HOVER = 0.08  # metres above a grasp from which the hand goes straight down
CLEARANCE = 0.03  # metres kept above everything on the way
Commands = Iterator[Command]


class Skills:
    """Skills for one episode: a scene, a style and the style's random numbers."""

    def __init__(self, scene: Scene, style: Style, generator: np.random.Generator) -> None:
        self.scene, self.style, self.generator = scene, style, generator
        self.speed = style.speed * generator.uniform(0.92, 1.0)
        self.hover = HOVER * generator.uniform(0.8, 1.2)
        opening = scene.grip_rotation[:, 0]
        self.reference_yaw = float(np.arctan2(opening[1], opening[0]))
        self.missed = False
        self.rotation = scene.grip_rotation

    def reach(
        self,
        target: np.ndarray | Callable[[], np.ndarray],
        phase: str,
        gripper: float,
        rotation: np.ndarray | None = None,
        tolerance: float = 0.01,
        angle: float = 0.1,
        limit: int = 100,
        speed: float = 1.0,
    ) -> Commands:
        """Move the grip to ``target`` (followed when it is a function), until near or ``limit`` steps on."""
        self.rotation = self.rotation if rotation is None else rotation
        best, stalled = np.inf, 0.0
        for _ in range(int(limit / self.style.speed)):
            goal = target() if callable(target) else target
            turn = Rotation.from_matrix(self.rotation @ self.scene.grip_rotation.T).magnitude()
            distance = float(np.linalg.norm(goal - self.scene.grip_position))
            if distance < tolerance and turn < angle:
                return
            left = distance + 0.1 * turn
            best, stalled = (left, 0.0) if left < best - 0.002 else (best, stalled + self.style.speed * speed)
            if stalled > STALL_STEPS:  # the arm is stretched or in the way of something: go on from here
                return
            yield Command(goal, self.rotation, gripper, phase, self.speed * speed)

    def hold(self, steps: int, phase: str, gripper: float, at: np.ndarray | None = None) -> Commands:
        """Stay ``at`` a position, by default where the grip is now."""
        position = self.scene.grip_position if at is None else at
        for _ in range(steps):
            yield Command(position, self.rotation, gripper, phase, self.speed)

    def hesitate(self, phase: str, gripper: float) -> Commands:
        """The hesitant style's stops: wait, draw back a little, wait again."""
        for _ in range(self.style.pauses):
            yield from self.hold(int(self.generator.integers(4, 11)), phase, gripper)
            back = self.generator.normal(0.0, 0.012, 3) + [0.0, 0.0, self.generator.uniform(0.01, 0.03)]
            yield from self.reach(self.scene.grip_position + back, phase, gripper, limit=15, speed=0.7)

    def travel_height(self, goal: np.ndarray, carried: str | None) -> float:
        """Grip height at which hand, fingers and ``carried`` clear everything between here and ``goal``."""
        start = self.scene.grip_position
        points = self.scene.obstacles((carried,) if carried else ())
        along = goal[:2] - start[:2]
        length = max(float(np.linalg.norm(along)), 1e-6)
        fraction = np.clip((points[:, :2] - start[:2]) @ along / length**2, 0.0, 1.0)
        nearest = start[:2] + fraction[:, None] * along
        hang, reach = 0.015, 0.05
        if carried:
            own = self.scene.points(carried)
            hang = max(hang, start[2] - own[:, 2].min())
            reach = max(reach, float(np.linalg.norm(own[:, :2] - start[:2], axis=1).max()))
        under = points[np.linalg.norm(points[:, :2] - nearest, axis=1) < reach + 0.01]
        return float(under[:, 2].max() + hang + CLEARANCE) if len(under) else float(goal[2])

    def travel(self, goal: np.ndarray, phase: str, gripper: float, carried: str | None = None) -> Commands:
        """Rise to a safe height, then cross to ``goal``, which is a pose above things."""
        height = max(self.travel_height(goal, carried), goal[2])
        if self.scene.grip_position[2] < height - 0.02:
            rise = np.append(self.scene.grip_position[:2], height)
            yield from self.reach(rise, phase, gripper, self.rotation, tolerance=0.02, angle=9.0)

        def crossing() -> np.ndarray:
            far = np.linalg.norm(goal[:2] - self.scene.grip_position[:2]) > 0.03
            return np.append(goal[:2], height if far else goal[2])

        yield from self.reach(crossing, phase, gripper, tolerance=0.02, angle=0.25)

    def pick(self, name: str, kind: str, depth: float, attempts: int = 4) -> Commands:
        """Grasp and lift an object; look again and try another grasp when it did not come along."""
        for attempt in range(attempts):
            find = rim_grasps if kind == "rim" else centre_grasps
            grasps = find(self.scene, name, self.reference_yaw, depth)
            if not grasps:
                return
            grasp = grasps[min(attempt // 2, len(grasps) - 1)]
            before = self.scene.position(name)[2]
            yield from self.approach(name, grasp)
            yield from self.hold(CLOSE_STEPS, "grasp", CLOSE, self.scene.position(name) + grasp.offset)
            lifted = self.scene.grip_position + [0, 0, 0.06]
            yield from self.reach(lifted, "lift", CLOSE, tolerance=0.02)
            if self.scene.position(name)[2] > before + 0.02:
                return
            yield from self.hold(OPEN_STEPS, "release", OPEN)

    def approach(self, name: str, grasp: Grasp) -> Commands:
        """Go above the grasp, miss it once if that is the style, then go down on it."""

        def above() -> np.ndarray:
            return self.scene.position(name) + grasp.offset + [0, 0, self.hover]

        self.rotation = grasp.rotation
        yield from self.travel(above(), "reach", OPEN)
        if self.style.misses and not self.missed:
            self.missed = True
            yield from self.miss(name, grasp)
            yield from self.reach(above, "correct", OPEN, tolerance=0.02)
        yield from self.hesitate("hesitate", OPEN)
        yield from self.reach(above, "reach", OPEN, tolerance=0.012, limit=40)
        yield from self.reach(
            lambda: self.scene.position(name) + grasp.offset, "descend", OPEN, tolerance=0.006, limit=50
        )

    def miss(self, name: str, grasp: Grasp) -> Commands:
        """Close the hand a few centimetres beside the object, where it touches nothing, and open again."""
        own, others = self.scene.points(name), self.scene.obstacles((name,))
        target = self.scene.position(name) + grasp.offset
        options = []
        for angle in self.generator.uniform(0, 2 * np.pi) + np.arange(16) * np.pi / 8:
            distance = self.generator.uniform(0.03, 0.05)
            beside = target + [distance * np.cos(angle), distance * np.sin(angle), 0.02]
            swept = [beside + [0, 0, rise] for rise in (0.0, 0.02)]
            options.append((sum(obstruction(p, grasp.rotation, own, others) for p in swept), len(options), beside))
        blocked, _, beside = min(options)
        if blocked:
            beside[2] += 0.035
        yield from self.reach(beside + [0, 0, 0.04], "reach", OPEN, tolerance=0.02)
        yield from self.reach(beside, "miss", OPEN, tolerance=0.012, limit=40)
        yield from self.hold(CLOSE_STEPS - 2, "miss", CLOSE)
        yield from self.reach(beside + [0, 0, 0.05], "miss", CLOSE, tolerance=0.02, limit=30)
        yield from self.hold(OPEN_STEPS, "correct", OPEN)

    def place(
        self, name: str, goal: Callable[[], np.ndarray], support: str, hover: float = 0.04, drop: float = 0.0
    ) -> Commands:
        """Carry a held object so that its origin stands over ``goal()`` and let it down until it touches.

        ``goal()[2]`` is the height of the surface under the object; ``drop`` is how far above it to let go.
        """

        def grip_goal(height: float) -> np.ndarray:
            lowest = self.scene.points(name)[:, 2].min()
            offset = self.scene.grip_position - self.scene.position(name)
            return np.append(
                goal()[:2] + offset[:2], goal()[2] + height + self.scene.grip_position[2] - lowest
            )

        yield from self.travel(grip_goal(hover), "transport", CLOSE, carried=name)
        yield from self.hesitate("hesitate", CLOSE)
        yield from self.reach(lambda: grip_goal(hover), "transport", CLOSE, tolerance=0.012, limit=40)
        for command in self.reach(
            lambda: grip_goal(drop - 0.004), "place", CLOSE, tolerance=0.004, limit=40, speed=0.5
        ):
            yield command
            if drop == 0 and self.scene.touching(name, support):
                break
        yield from self.hold(OPEN_STEPS, "release", OPEN)
        yield from self.reach(self.scene.grip_position + [0, 0, 0.08], "retreat", OPEN, tolerance=0.02)
