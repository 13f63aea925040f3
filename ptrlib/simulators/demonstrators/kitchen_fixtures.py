"""Plans for the 14 RoboCasa tasks in which the robot works a fixture: doors, drawers, knobs, levers, buttons.

Directions are those of the fixture: ``out`` from its front towards the robot, ``along`` to the right of a robot
that faces it. Seeds below 100 were looked at while tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.controller import Command
from ptrlib.simulators.demonstrators.grasps import UP, pointing
from ptrlib.simulators.demonstrators.kitchen_motion import KitchenSkills
from ptrlib.simulators.demonstrators.kitchen_reach import find_stand
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.skills import CLOSE, OPEN, Commands

PULL_SPEED = 0.5
DEEP = 0.009  # metres behind the middle of a handle's bar at which it is held
OPENED = 1.53  # radians to which a door is led
FOLLOW = 0.6  # of the door's turn that the hand turns with its handle
HELD = 8  # steps for which a button is held
BESIDE = 0.035  # metres from what the closed fingers are to push to their middle, before they do
DOOR_DISTANCES = (0.6, 0.75, 0.9)  # metres from a door's handle to the base, tried
ASIDES = (-0.4, -0.2, 0.0, 0.2, 0.4)
TORSOS = (0.0, 0.15, 0.3)  # heights tried, metres


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


def bases_before(front: Front, point: np.ndarray, distances: tuple[float, ...], asides: tuple[float, ...]
                 ) -> np.ndarray:
    """(B, 3) stands before ``point`` and ``asides`` (m) to the right of it, straight and turned."""
    return np.array([front.stand(point, distance, aside) + [0.0, 0.0, turn] for distance in distances
                     for aside in asides for turn in (-0.7, -0.35, 0.0, 0.35, 0.7)])


def stand_before(skills: KitchenSkills, front: Front, points: np.ndarray, tilts: tuple[float, ...],
                 openings: np.ndarray, gripper: float, bases: np.ndarray | None = None,
                 torsos: tuple[float, ...] = (0.0,), shifts: np.ndarray | None = None
                 ) -> Generator[Command, None, np.ndarray]:
    """Drive to where the hand gets through ``points`` (M, 3); returns its rotation (3, 3) there.

    One of ``bases`` (B, 3) is chosen; by default one before the first point, or where the base is.
    """
    yield from skills.home(gripper)
    positions, rotations = ways_of(front, points, tilts, openings)
    if bases is None:
        bases = np.concatenate([[skills.arm.stand], bases_before(front, points[0], (0.45, 0.6, 0.75), ASIDES)])
    stand = find_stand(skills.arm, positions, rotations, bases, torsos, shifts)
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
                                       shifts=left[None, :2])
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
                                       shifts=-left[None, :2])
    yield from skills.reach(over, "reach", CLOSE, rotation, tolerance=0.04)
    yield from skills.touch_before(lambda: contact, rotation, front.out, front.along)
    goal = np.append((scene.base_position - left)[:2], scene.base_yaw)
    yield from skills.drive(goal, CLOSE, speed=PULL_SPEED, phase="push")
    yield from skills.reach(scene.grip_position - 0.06 * front.out, "push", CLOSE, limit=30)


def turned(points: np.ndarray, anchor: np.ndarray, axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(A, 3) a point (3,) turned about an axis through ``anchor`` by each of ``angles`` (A,)."""
    return anchor + Rotation.from_rotvec(np.outer(angles, axis)).apply(points - anchor)


class Door:
    """A hinged door: where its hinge and handle are, and which way it turns when it opens."""

    def __init__(self, scene: KitchenScene, front: Front, joint: str) -> None:
        self.scene, self.front, self.joint = scene, front, joint
        self.anchor, axis = scene.joint_frame(joint)
        low, high = scene.model.joint(joint).range
        self.axis = axis * (1.0 if abs(high) > abs(low) else -1.0)  # opens by a positive turn
        handle = self.closed(scene.handle_points(joint))
        self.bar = handle[handle @ front.out > (handle @ front.out).max() - 0.018]
        self.grip = middle(self.bar)
        self.side = float(np.sign((self.grip - self.anchor) @ front.along))  # of the handle, seen from the hinge
        panel = self.closed(scene.geom_points(scene.solid(scene.moved_by(joint))))
        self.width = float(np.max((panel - self.anchor) @ front.along * self.side))  # from the hinge to the edge

    @property
    def angle(self) -> float:
        """Radians from closed."""
        return abs(self.scene.joint(self.joint))

    def closed(self, points: np.ndarray) -> np.ndarray:
        """Where ``points`` (N, 3) of the door would be if it were closed."""
        back = Rotation.from_rotvec(-self.angle * self.axis)
        return self.anchor + back.apply(points - self.anchor)

    def opened(self, points: np.ndarray) -> np.ndarray:
        """Where ``points`` (N, 3) of the closed door are now."""
        return self.anchor + Rotation.from_rotvec(self.angle * self.axis).apply(points - self.anchor)

    def at(self, along: float, out: float, height: float) -> np.ndarray:
        """A point of the room: metres from the hinge towards the handle's side, before the front, and above 0."""
        point = self.anchor + along * self.side * self.front.along + out * self.front.out
        return np.append(point[:2], height)


def open_doors(skills: KitchenSkills) -> Commands:
    """Open each door by its handle, the nearer one first."""
    scene = skills.scene
    fixture = scene.fixture("fxtr")
    front = Front(scene, fixture.name)
    joints = fixture.door_joint_names
    for joint in sorted(joints, key=lambda joint: np.linalg.norm(
            middle(scene.handle_points(joint)) - scene.grip_position)):
        if scene.openness(joint) < 0.92:
            neighbours = [middle(scene.handle_points(other)) for other in joints if other != joint]
            yield from open_door(skills, Door(scene, front, joint), neighbours)


def open_door(skills: KitchenSkills, door: Door, neighbours: list[np.ndarray]) -> Commands:
    """Grasp the handle and lead it round the hinge; the hand turns with it by a part of the door's turn."""
    front, scene = door.front, skills.scene
    grip = door.grip - DEEP * front.out
    if neighbours and np.linalg.norm(grip - neighbours[0]) < 0.12:  # so that a finger fits between the two
        grip = grip - 0.006 * door.side * front.along
    angles = np.linspace(door.angle, OPENED, 8)
    arc = turned(grip, door.anchor, door.axis, angles)
    following = Rotation.from_rotvec(np.outer(FOLLOW * angles, door.axis)).as_matrix()
    outside = following[0] @ front.out
    sideways = np.array([front.along, -front.along])
    points = np.stack([arc[0] + skills.hover * outside, arc[0], arc[2], arc[4], arc[7]])
    positions, rotations = ways_of(front, points, (0.3, 0.05, 0.6), sideways)
    rotations = following[[0, 0, 2, 4, 7]] @ rotations
    yield from skills.home(OPEN)
    bases = bases_before(front, door.grip, DOOR_DISTANCES, ASIDES)
    stand = find_stand(skills.arm, positions, rotations, bases, TORSOS)
    yield from skills.drive(stand.base, OPEN, stand.torso)
    rotation = rotations[stand.way, 0]
    yield from skills.grasp_before(lambda: door.opened(grip), rotation, door.opened(door.bar), outside)
    angles = np.linspace(door.angle, OPENED, 8)  # the hand may have moved it
    turning = Rotation.from_rotvec(np.outer(FOLLOW * (angles - angles[0]), door.axis)).as_matrix() @ rotation
    yield from skills.sweep(turned(grip, door.anchor, door.axis, angles), "pull", CLOSE,
                            lambda: scene.grip_width < 0.006 or door.angle > OPENED - 0.02, turning, gently=True)
    yield from skills.release(-0.08 * skills.rotation[:, 2])
    if neighbours and scene.openness(door.joint) > 0.9:  # out of this door's way before the hand crosses to the other
        yield from skills.drive_by(-0.3, 0.0, OPEN)


def close_doors(skills: KitchenSkills) -> Commands:
    """Push each door shut from outside, the hand in front of it in the end."""
    scene = skills.scene
    fixture = scene.fixture("fxtr")
    front = Front(scene, fixture.name)
    for joint in fixture.door_joint_names:
        if scene.openness(joint) > 0.004:
            yield from close_door(skills, Door(scene, front, joint))


def close_door(skills: KitchenSkills, door: Door) -> Commands:
    front, scene = door.front, skills.scene
    height = door.grip[2] - 0.08
    contact = door.at(0.7 * door.width, 0.012, height)
    angles = np.linspace(door.angle + BESIDE / (0.7 * door.width), -0.2, 9)
    path = turned(contact, door.anchor, door.axis, angles)
    outside = Rotation.from_rotvec(door.angle * door.axis).apply(front.out)  # from the door's outer face
    beside = path[0] + 0.05 * outside
    before = beside + 0.20 * front.out
    points = np.stack([before, beside, path[4], path[-2]])
    bases = bases_before(front, door.grip, DOOR_DISTANCES, ASIDES)
    rotation = yield from stand_before(skills, front, points, (0.3, 0.6, 0.05), UPRIGHT, CLOSE, bases, TORSOS)
    yield from skills.reach(before, "reach", CLOSE, rotation, tolerance=0.03)
    yield from skills.touch_before(lambda: beside, rotation, front.out, UP)
    yield from skills.sweep(path, "push", CLOSE, lambda: scene.openness(door.joint) < 0.003)
    yield from skills.reach(scene.grip_position + 0.2 * front.out, "retreat", CLOSE, tolerance=0.03, limit=30)


def press(skills: KitchenSkills, fixture: str, button: str) -> Commands:
    """Push a button with closed fingers and draw back far enough for the library to count it."""
    scene = skills.scene
    name = scene.fixture(fixture).name
    front, geom = Front(scene, name), f"{name}_{button}"
    points = scene.geom_points(geom)
    face = middle(points) + (np.max(points @ front.out) - middle(points) @ front.out) * front.out
    ways = np.stack([face + skills.hover * front.out, face])
    openings = np.concatenate([UPRIGHT, [front.along]])
    rotation = yield from stand_before(skills, front, ways, (0.3, 0.6, 0.0), openings, CLOSE, torsos=(scene.torso, 0.2))
    yield from skills.touch_before(lambda: face + 0.02 * front.out, rotation, front.out, front.along)
    yield from skills.sweep(np.stack([scene.grip_position, face - 0.03 * front.out]), "press", CLOSE,
                            lambda: scene.touches(geom))
    yield from skills.hold(HELD, "press", CLOSE, face - 0.03 * front.out)
    yield from skills.reach(face + 0.21 * front.out, "retreat", CLOSE, tolerance=0.03, angle=9.0, limit=40)


def push_lever(skills: KitchenSkills, front: Front, joint: str, radius: float, height: float, sign: float,
               arrived: Callable[[], bool], asides: tuple[float, ...] = ()) -> Commands:
    """Turn a lever or spout about its upright axis: the closed fingers come down beside it and push it round.

    The fingers touch it ``radius`` (m) from the axis at ``height`` (m above 0), and push so that the joint's angle
    grows for ``sign`` 1.
    """
    scene = skills.scene
    anchor, axis = scene.joint_frame(joint)
    points = scene.geom_points(scene.solid(scene.moved_by(joint)))
    around = (points - anchor)[:, :2]
    reach = np.linalg.norm(around, axis=1)
    tip = around[reach > 0.9 * reach.max()].mean(axis=0)
    contact = np.append(anchor[:2] + radius * tip / np.linalg.norm(tip), height)
    path = turned(contact, anchor, sign * axis, np.linspace(-BESIDE / radius, 0.9, 8))
    ways = np.stack([path[0] + skills.hover * UP, path[0], path[4]])
    bases = bases_before(front, path[0], (0.6, 0.7), asides) if asides else None
    rotation = yield from stand_before(skills, front, ways, (1.2, 0.9, 1.5), np.array([front.out, -front.out]), CLOSE,
                                       bases)
    yield from skills.touch_before(lambda: path[0], rotation, UP, front.out)
    yield from skills.sweep(path, "push", CLOSE, arrived)
    yield from skills.reach(scene.grip_position + 0.1 * UP, "retreat", CLOSE, tolerance=0.03, limit=20)


def turn_faucet(skills: KitchenSkills) -> Commands:
    scene = skills.scene
    name = scene.fixture("sink").name
    joint = f"{name}_handle_joint"
    lever = scene.geom_points(scene.solid(scene.moved_by(joint)))
    sign = 1.0 if scene.task.name == "TurnOnSinkFaucet" else -1.0
    # from the right, so that the forearm passes beside the spout
    yield from push_lever(skills, Front(scene, name), joint, 0.09, float(lever[:, 2].max()), sign, scene.solved,
                          (0.2, 0.3, 0.4))


def turn_spout(skills: KitchenSkills) -> Commands:
    scene = skills.scene
    name = scene.fixture("sink").name
    joint = f"{name}_spout_joint"
    spout = scene.geom_points(scene.solid(scene.moved_by(joint)))
    sign = 1.0 if scene.env.behavior == "right" else -1.0
    yield from push_lever(skills, Front(scene, name), joint, 0.15, float(spout[:, 2].max()) - 0.01, sign, scene.solved)


def turn_knob(skills: KitchenSkills) -> Commands:
    """Push one end of a knob's bar sideways with closed fingers."""
    scene = skills.scene
    name = scene.fixture("stove").name
    front, joint = Front(scene, name), f"{name}_knob_{scene.env.knob}_joint"
    anchor, axis = scene.joint_frame(joint)
    angle, growing = scene.joint(joint), scene.task.name == "TurnOnStove"
    end = Rotation.from_rotvec(angle * axis).apply(UP)  # of the bar, which stands upright at 0
    if not growing and angle > 0.8:
        end = -end  # pushed down from above rather than up from below
    direction = np.cross(axis, end) * (1.0 if growing else -1.0)
    bar = scene.geom_points(scene.solid(scene.moved_by(joint)))
    depth = float(np.max(bar @ front.out)) - float(anchor @ front.out)
    contact = anchor + 0.024 * end + (depth - 0.004) * front.out
    path = np.stack([contact - BESIDE * direction, contact + 0.05 * direction])
    ways = np.stack([path[0] + skills.hover * front.out, path[0], path[1]])
    openings = np.concatenate([UPRIGHT, [front.along, -front.along]])
    rotation = yield from stand_before(skills, front, ways, (0.4, 0.6, 0.2), openings, CLOSE, torsos=(0.0, 0.15))
    yield from skills.touch_before(lambda: path[0], rotation, front.out, -direction)
    yield from skills.sweep(path, "turn", CLOSE, scene.solved)
    yield from skills.reach(scene.grip_position + 0.1 * front.out, "retreat", CLOSE, tolerance=0.03, limit=20)


PLANS: dict[str, Callable[[KitchenSkills], Commands]] = {
    "OpenSingleDoor": open_doors,
    "CloseSingleDoor": close_doors,
    "OpenDoubleDoor": open_doors,
    "CloseDoubleDoor": close_doors,
    "OpenDrawer": open_drawer,
    "CloseDrawer": close_drawer,
    "TurnOnStove": turn_knob,
    "TurnOffStove": turn_knob,
    "TurnOnSinkFaucet": turn_faucet,
    "TurnOffSinkFaucet": turn_faucet,
    "TurnSinkSpout": turn_spout,
    "CoffeePressButton": lambda skills: press(skills, "coffee_machine", "start_button"),
    "TurnOnMicrowave": lambda skills: press(skills, "microwave", "start_button"),
    "TurnOffMicrowave": lambda skills: press(skills, "microwave", "stop_button"),
}
