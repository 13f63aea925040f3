"""Manipulation skills: generators of commands that look at the true scene before every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.controller import Command
from ptrlib.simulators.demonstrators.grasps import UP, Grasp, nearest_yaw, obstruction
from ptrlib.simulators.demonstrators.scene import Scene
from ptrlib.simulators.demonstrators.styles import Style

OPEN, CLOSE = -1.0, 1.0
CLOSE_STEPS, MOST_CLOSE_STEPS, OPEN_STEPS = 10, 22, 8
STALL_STEPS = 15  # at full speed
HOVER = 0.08  # metres above a grasp from which the hand goes straight down
LIFT = 0.08  # metres; a bowl held by its rim hangs aslant, so its origin rises some 3 cm less
SLIP = 0.05  # metres a held object may move in the hand before it counts as lost
CLEARANCE = 0.03  # metres kept above everything on the way
OVERHANG = 0.05  # metres above a way from which something hangs over it and does not stand in it
PALM_RISE, PALM_RADIUS = 0.047, 0.115  # the palm is wider than the fingers, and this far above the grip
Commands = Iterator[Command]
Target = np.ndarray | Callable[[], np.ndarray]


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
        target: Target,
        phase: str,
        gripper: float,
        rotation: np.ndarray | None = None,
        tolerance: float = 0.01,
        angle: float = 0.1,
        limit: int = 100,
        speed: float = 1.0,
    ) -> Commands:
        """Move the grip to ``target`` (followed when it is a function).

        Ends when the grip is near, after ``limit`` steps at full speed, or when it comes no nearer.
        """
        self.rotation = self.rotation if rotation is None else rotation
        best, stalled = np.inf, 0.0
        for _ in range(int(limit / self.style.speed)):
            goal = self.scene.within_reach(target() if callable(target) else target, self.rotation[:, 2])
            turn = Rotation.from_matrix(self.rotation @ self.scene.grip_rotation.T).magnitude()
            distance = float(np.linalg.norm(goal - self.scene.grip_position))
            if distance < tolerance and turn < angle:
                return
            left = distance + 0.1 * turn
            best, stalled = (left, 0.0) if left < best - 0.002 else (best, stalled + self.style.speed * speed)
            if stalled > STALL_STEPS:
                return
            yield Command(goal, self.rotation, gripper, phase, self.speed * speed)

    def hold(self, steps: int, phase: str, gripper: float, at: np.ndarray | None = None) -> Commands:
        """Stay ``at`` a position, by default where the grip is now."""
        position = self.scene.grip_position if at is None else at
        position = self.scene.within_reach(position, self.rotation[:, 2])
        for _ in range(steps):
            yield Command(position, self.rotation, gripper, phase, self.speed)

    def close(self, at: np.ndarray) -> Commands:
        """Close the hand ``at`` a position until the fingers stand still on what is between them."""
        before = np.inf
        for step, command in enumerate(self.hold(MOST_CLOSE_STEPS, "grasp", CLOSE, at)):
            width = self.scene.grip_width
            if step >= CLOSE_STEPS and abs(width - before) < 0.0005:
                return
            before = width
            yield command

    def release(self, retreat: np.ndarray) -> Commands:
        """Open the hand and draw it back by ``retreat`` (3,)."""
        yield from self.hold(OPEN_STEPS, "release", OPEN)
        yield from self.reach(self.scene.grip_position + retreat, "retreat", OPEN, tolerance=0.02)

    def hesitate(self, gripper: float) -> Commands:
        """The hesitant style's stops: wait, draw back a little, wait again."""
        for _ in range(self.style.pauses):
            yield from self.hold(int(self.generator.integers(4, 11)), "hesitate", gripper)
            back = self.generator.normal(0.0, 0.012, 3) + UP * self.generator.uniform(0.01, 0.03)
            yield from self.reach(self.scene.grip_position + back, "hesitate", gripper, limit=15, speed=0.7)

    def travel(self, goal: np.ndarray, phase: str, gripper: float, carried: str | None = None) -> Commands:
        """Rise to a safe height, then cross to ``goal``, which is a pose above things."""
        height = max(self.travel_height(goal, carried), goal[2])
        if self.scene.grip_position[2] < height - 0.02:
            rise = np.append(self.scene.grip_position[:2], height)
            yield from self.reach(rise, phase, gripper, tolerance=0.02, angle=9.0)

        def crossing() -> np.ndarray:
            far = np.linalg.norm(goal[:2] - self.scene.grip_position[:2]) > 0.03
            return np.append(goal[:2], height if far else goal[2])

        yield from self.reach(crossing, phase, gripper, tolerance=0.02, angle=0.25)

    def travel_height(self, goal: np.ndarray, carried: str | None) -> float:
        """Grip height at which palm, fingers and ``carried`` clear everything between here and ``goal``."""
        start = self.scene.grip_position
        above = self.scene.hanging(max(start[2], goal[2]) + OVERHANG)
        points = self.scene.obstacles((*above, carried) if carried else above)
        along = goal[:2] - start[:2]
        length = max(float(np.linalg.norm(along)), 1e-6)
        fraction = np.clip((points[:, :2] - start[:2]) @ along / length**2, 0.0, 1.0)
        beside = np.linalg.norm(points[:, :2] - start[:2] - fraction[:, None] * along, axis=1)
        hang, reach = 0.015, 0.05
        if carried:
            own = self.scene.points(carried)
            hang = max(hang, start[2] - own[:, 2].min())
            reach = max(reach, float(np.linalg.norm(own[:, :2] - start[:2], axis=1).max()))
        under = points[beside < reach + 0.01, 2] + hang
        under_palm = points[beside < PALM_RADIUS, 2] - PALM_RISE
        return float(np.max(np.concatenate([under, under_palm, [goal[2] - CLEARANCE]])) + CLEARANCE)

    def approach(self, target: Callable[[], np.ndarray], rotation: np.ndarray, own: np.ndarray) -> Commands:
        """Go before ``target()``, miss it once if that is the style, then close the open hand on it.

        ``own`` (N, 3) are surface points of what is grasped, which a deliberate miss keeps clear of.
        """

        def before() -> np.ndarray:
            return target() - self.hover * rotation[:, 2]

        self.rotation = rotation
        yield from self.travel(before(), "reach", OPEN)
        yield from self.miss_once(target, rotation, own, before)
        yield from self.hesitate(OPEN)
        yield from self.reach(before, "reach", OPEN, tolerance=0.012, limit=40)
        yield from self.reach(target, "descend", OPEN, tolerance=0.006, limit=50)
        yield from self.close(target())

    def miss_once(self, target: Callable[[], np.ndarray], rotation: np.ndarray, own: np.ndarray,
                  before: Callable[[], np.ndarray]) -> Commands:
        """The recovery style's mistake, made once an episode: miss ``target()`` and come back ``before()`` it."""
        if self.style.misses and not self.missed:
            self.missed = True
            yield from self.miss(target(), rotation, own)
            yield from self.reach(before, "correct", OPEN, tolerance=0.02)

    def miss(self, target: np.ndarray, rotation: np.ndarray, own: np.ndarray) -> Commands:
        """Close the hand a few centimetres beside the target, where it touches nothing, and open again."""
        others = self.scene.obstacles()
        options: list[tuple[int, int, np.ndarray]] = []
        for angle in self.generator.uniform(0, 2 * np.pi) + np.arange(16) * np.pi / 8:
            aside = self.generator.uniform(0.03, 0.05) * np.array([np.cos(angle), np.sin(angle)])
            beside = target + rotation[:, :2] @ aside - 0.02 * rotation[:, 2]
            swept = [beside - rise * rotation[:, 2] for rise in (0.0, 0.02)]
            options.append((sum(obstruction(p, rotation, own, others) for p in swept), len(options), beside))
        blocked, _, beside = min(options, key=lambda option: option[:2])
        if blocked:
            beside = beside - 0.035 * rotation[:, 2]
        back = beside - 0.04 * rotation[:, 2]
        yield from self.reach(back, "reach", OPEN, tolerance=0.02)
        yield from self.reach(beside, "miss", OPEN, tolerance=0.012, limit=40)
        yield from self.hold(CLOSE_STEPS, "miss", CLOSE)
        yield from self.reach(back, "miss", CLOSE, tolerance=0.02, limit=30)
        yield from self.hold(OPEN_STEPS, "correct", OPEN)

    def pick(self, name: str, grasps: Callable[[], list[Grasp]], attempts: int = 4) -> Commands:
        """Grasp and lift an object; look again and try another grasp when it did not come along."""
        for attempt in range(attempts):
            found = grasps()
            if not found:  # no hand gets at it where it lies: the attempt goes on without and fails
                return
            grasp = found[min(3 * (attempt // 2), len(found) - 1)]
            height = self.scene.position(name)[2]
            yield from self.approach(
                lambda grasp=grasp: self.scene.position(name) + grasp.offset,  # type: ignore[misc]
                grasp.rotation,
                self.scene.points(name),
            )
            yield from self.reach(self.scene.grip_position + LIFT * UP, "lift", CLOSE, tolerance=0.02)
            if self.scene.position(name)[2] > height + 0.02:
                return
            yield from self.hold(OPEN_STEPS, "release", OPEN)

    def place(
        self,
        name: str,
        spot: Callable[[], np.ndarray],
        arrived: Callable[[], bool],
        hover: float = 0.04,
        yaw: float | None = None,
    ) -> Commands:
        """Carry a held object so that its origin is over ``spot()``, let it down, and release it.

        ``spot()`` (3,) has the height of the surface under the object, or of the rim around it; the way
        down ends as soon as ``arrived()``. ``yaw`` is the direction (modulo half a turn) of the object's
        longer side.
        """
        held = self.scene.grip_position - self.scene.position(name)
        for command in self.carry(name, spot, arrived, hover, yaw):
            moved = np.linalg.norm(self.scene.grip_position - self.scene.position(name) - held)
            if arrived() and command.phase == "place" or moved > SLIP:
                break
            yield command
        yield from self.release(0.08 * UP)

    def carry(
        self, name: str, spot: Callable[[], np.ndarray], arrived: Callable[[], bool], hover: float,
        yaw: float | None,
    ) -> Commands:  # fmt: skip
        """The way of :meth:`place`, down to well below the surface."""
        hang = self.scene.grip_position[2] - self.scene.points(name)[:, 2].min()
        yield from self.reach(self.scene.grip_position + self.way_out(name), "transport", CLOSE)
        if yaw is not None:
            turn = nearest_yaw(yaw - self.scene.long_side(name), 0.0)
            self.rotation = Rotation.from_rotvec(turn * UP).as_matrix() @ self.rotation

        def grip_goal(height: float) -> np.ndarray:
            offset = self.scene.grip_position - self.scene.position(name)
            return np.append(spot()[:2] + offset[:2], spot()[2] + height + hang)

        yield from self.travel(grip_goal(hover), "transport", CLOSE, carried=name)
        yield from self.hesitate(CLOSE)
        yield from self.reach(lambda: grip_goal(hover), "transport", CLOSE, tolerance=0.012, limit=40)
        yield from self.reach(
            lambda: grip_goal(-0.12), "place", CLOSE, tolerance=0.004, limit=60, speed=0.5
        )

    def way_out(self, name: str) -> np.ndarray:
        """The shortest sideways move (3,) after which nothing is above a held object; zero if nothing is."""
        own, others = self.scene.points(name), self.scene.obstacles((name,))
        centre = (own.max(axis=0) + own.min(axis=0)) / 2
        radius = float(np.linalg.norm(own[:, :2] - centre[:2], axis=1).max()) - 0.005
        others = others[others[:, 2] > own[:, 2].min()]
        for distance in np.arange(0.0, 0.25, 0.02):
            for angle in np.arange(16) * np.pi / 8:
                shift = distance * np.array([np.cos(angle), np.sin(angle)])
                if np.linalg.norm(others[:, :2] - centre[:2] - shift, axis=1).min(initial=1.0) > radius:
                    return np.append(shift, 0.0)
        return np.zeros(3)

    def drag(self, name: str, grasp: Grasp, spot: np.ndarray, arrived: Callable[[], bool]) -> Commands:
        """Pinch a flat object and slide it so that its origin comes to ``spot`` (3,)."""
        yield from self.approach(
            lambda: self.scene.position(name) + grasp.offset, grasp.rotation, self.scene.points(name)
        )
        height = self.scene.grip_position[2] + 0.003
        for command in self.reach(
            lambda: np.append((self.scene.grip_position + spot - self.scene.position(name))[:2], height),
            "push", CLOSE, tolerance=0.01,
        ):  # fmt: skip
            if arrived():
                break
            yield command
        yield from self.release(0.08 * UP)

    def pull(
        self, centre: np.ndarray, rotation: np.ndarray, own: np.ndarray, along: np.ndarray,
        arrived: Callable[[], bool],
    ) -> Commands:  # fmt: skip
        """Grasp a handle at ``centre`` and pull it by ``along`` (3,) until ``arrived()``."""
        yield from self.approach(lambda: centre, rotation, own)
        for command in self.reach(centre + along, "pull", CLOSE, tolerance=0.01):
            if arrived():
                break
            yield command
        yield from self.release(-0.08 * rotation[:, 2])

    def turn(
        self, centre: np.ndarray, rotation: np.ndarray, own: np.ndarray, angle: float,
        arrived: Callable[[], bool],
    ) -> Commands:  # fmt: skip
        """Grasp a knob at ``centre`` and turn it by ``angle`` (radians, counter-clockwise from above)."""
        yield from self.approach(lambda: centre, rotation, own)
        turned = Rotation.from_rotvec(angle * UP).as_matrix() @ rotation
        for command in self.reach(centre, "turn", CLOSE, turned, tolerance=0.02):
            if arrived():
                break
            yield command
        yield from self.release(0.08 * UP)

    def push(
        self, path: list[np.ndarray], rotation: np.ndarray, arrived: Callable[[], bool]
    ) -> Commands:
        """Follow ``path`` with closed fingers; the first point is before the contact, the last beyond it."""
        self.rotation = rotation
        away = path[0] - path[1]
        before = path[0] + 0.05 * away / np.linalg.norm(away)
        yield from self.travel(before, "reach", CLOSE)
        yield from self.hesitate(CLOSE)
        yield from self.reach(path[0], "reach", CLOSE, tolerance=0.015, limit=50)
        for point in path[1:]:
            for command in self.reach(point, "push", CLOSE, tolerance=0.015, limit=60):
                if arrived():
                    break
                yield command
        retreat = 0.08 * (path[-2] - path[-1]) / np.linalg.norm(path[-2] - path[-1])
        yield from self.reach(self.scene.grip_position + retreat, "retreat", CLOSE, tolerance=0.02)
