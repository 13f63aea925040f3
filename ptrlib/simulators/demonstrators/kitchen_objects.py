"""Plans for the ten RoboCasa tasks in which an object goes from one place to another.

Before the hand moves, the whole transfer is looked at in a preview: where the robot should stand, how to hold the
object so that there is room for the hand at both ends, and over which corners to move between. Carrying it out
is closed-loop, on the object's true pose, as in LIBERO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from scipy.spatial.transform import Rotation

from ptrlib.simulators.demonstrators.grasps import UP, Grasp
from ptrlib.simulators.demonstrators.kitchen_grasps import grasps_of, surface_points
from ptrlib.simulators.demonstrators.kitchen_motion import KitchenSkills, base_error
from ptrlib.simulators.demonstrators.kitchen_preview import Pose, Preview, Stance, shifted
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.skills import CLOSE, OPEN, OPEN_STEPS, SLIP, Commands

TURNS = (0.0, np.pi / 2, -np.pi / 2, np.pi / 4, -np.pi / 4, np.pi)  # of an object on its way (rad)
LIFT = 0.06  # metres
ATTEMPTS = 4  # grasps tried before the plan is given up
ROUGHLY = 0.03  # metres: near enough to a stance
COMFORTABLE = 0.42  # metres in front of the arm's foot from which on things are easy to get at
FAR = 0.30  # metres from the object's origin at which the library's check is sure to call the hand gone
STILL_STEPS = 8  # without coming down further: the fingers stand on something
CLIMB = 0.25  # metres up or down for which the torso moves too: it is faster than the arm
EYE_LEVEL = 0.5  # metres above the arm's foot: what is higher is in a cabinet or an oven
LOOKS = 30  # grasps looked at
GOOD, HOPELESS = 0.5, 8.0  # of a preview's cost: nothing touched and all in reach; not worth looking further
EFFORT = 0.3  # cost of a metre driven
TORSOS = (0.0, 0.15, 0.3)
HERE = Stance()
FROM_ABOVE = np.deg2rad([0.0, 20.0, 40.0])  # leans of the hand
FROM_THE_FRONT = np.deg2rad([20.0, 40.0, 55.0, 70.0, 85.0])
FROM_ANYWHERE = np.concatenate([FROM_ABOVE, FROM_THE_FRONT[2:]])


@dataclass(frozen=True)
class Spot:
    """Where an object is to go (3,): over which point its origin, how high what it will stand on is; and how far the
    object is turned about the vertical on its way (rad)."""

    position: np.ndarray
    turn: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True)
class Transfer:
    """How an object is held, and the stances to pick it up from and to put it down from."""

    here: Stance
    grasp: Grasp
    there: Stance
    spot: Spot
    cost: float


@dataclass
class Errand:
    """One task: which hands may be used, and where the object may go."""

    leans: np.ndarray
    spots: Callable[[KitchenScene, str], list[Spot]]
    torsos: tuple[float, ...] = (0.0,)  # heights (m) worth looking at
    under: str | None = None  # what the object may touch while it is let down
    name: str = "obj"


def carry_out(errand: Errand, skills: KitchenSkills) -> Commands:
    """Pick the object up and put it where it belongs; by another grasp when that did not do."""
    scene, name = skills.scene, errand.name
    failed: list[Grasp] = []
    preview = Preview(scene)
    for _ in range(ATTEMPTS):
        transfer = planned(errand, skills, preview, failed)
        if transfer is None:  # no hand gets at it where it is: the attempt goes on without and fails
            return
        here, there = standing(scene, transfer.here), standing(scene, transfer.there)
        yield from stand(skills, here, transfer.here.torso, OPEN)
        height = scene.position(name)[2]
        yield from pick(skills, preview, name, transfer.grasp)
        if scene.position(name)[2] > height + 0.4 * LIFT:
            yield from put(skills, preview, name, transfer, there)
        yield from skills.hold(OPEN_STEPS, "release", OPEN)
        failed.append(transfer.grasp)


def pick(skills: KitchenSkills, preview: Preview, name: str, grasp: Grasp) -> Commands:
    """Lead the hand before the object, close it on it and lift."""
    scene = skills.scene

    def target() -> np.ndarray:
        return scene.position(name) + grasp.offset

    before = target() - skills.hover * grasp.rotation[:, 2]
    yield from along(skills, preview, (before, grasp.rotation), "reach", OPEN)
    yield from take(skills, target, grasp, surface_points(scene, name))
    yield from skills.reach(scene.grip_position + LIFT * UP, "lift", CLOSE, tolerance=0.02)


def alike(one: Grasp, other: Grasp) -> bool:
    """Whether two grasps are too much the same to try both."""
    return bool(np.linalg.norm(one.offset - other.offset) < 0.015
                and Rotation.from_matrix(one.rotation @ other.rotation.T).magnitude() < 0.35)


def take(skills: KitchenSkills, target: Callable[[], np.ndarray], grasp: Grasp, own: np.ndarray) -> Commands:
    """From before the object: miss it once if that is the style, then close the hand on it."""

    def before() -> np.ndarray:
        return target() - skills.hover * grasp.rotation[:, 2]

    yield from skills.miss_once(target, grasp.rotation, own, before)
    yield from skills.hesitate(OPEN)
    yield from skills.reach(before, "reach", OPEN, grasp.rotation, tolerance=0.012, limit=40)
    yield from skills.reach(target, "descend", OPEN, grasp.rotation, tolerance=0.006, angle=0.06, limit=50)
    yield from skills.close(target())


def put(skills: KitchenSkills, preview: Preview, name: str, transfer: Transfer, there: np.ndarray) -> Commands:
    """Carry the held object over its spot, let it down until it touches, let go and draw back.

    A base that has to move back does so first and takes the hand out of where it is, as a torso that rises; a base
    that has to move forward does so last and takes it in, as a torso that sinks.
    """
    scene, spot = skills.scene, transfer.spot
    held = np.linalg.norm(scene.grip_position - scene.position(name))
    hang = scene.position(name)[2] - surface_points(scene, name)[:, 2].min()
    turn = Rotation.from_rotvec(spot.turn * UP).as_matrix()

    def lost() -> bool:
        return abs(float(np.linalg.norm(scene.grip_position - scene.position(name)) - held)) > SLIP

    def above() -> np.ndarray:
        return spot.position + turn @ (scene.grip_position - scene.position(name)) + (hang + skills.hover) * UP

    def goal(height: float) -> np.ndarray:
        return spot.position + scene.grip_position - scene.position(name) + (hang + height) * UP

    rotation = turn @ scene.grip_rotation
    inwards = max(0.0, float(base_error(scene, there)[0]))
    inwards = inwards if inwards > ROUGHLY else 0.0
    forward = scene.base_rotation[:, 0]
    before = there - inwards * np.append(forward[:2], 0.0)
    torso = max(scene.torso, transfer.there.torso)
    yield from until(stand(skills, before, torso, CLOSE), lost)
    first = above() - inwards * forward + (torso - transfer.there.torso) * UP
    yield from until(along(skills, preview, (first, rotation), "transport", CLOSE, name), lost)
    yield from until(skills.hesitate(CLOSE), lost)
    yield from until(stand(skills, there, transfer.there.torso, CLOSE), lost)
    yield from until(skills.reach(lambda: goal(skills.hover), "transport", CLOSE, rotation,
                                  tolerance=0.012, limit=40), lost)
    heights: list[float] = []

    def down() -> bool:
        heights.append(float(scene.grip_position[2]))
        still = len(heights) > STILL_STEPS and heights[-STILL_STEPS] - heights[-1] < 0.002
        return lost() or still or scene.rests(name)

    yield from until(skills.reach(lambda: goal(-0.03), "place", CLOSE, rotation, tolerance=0.004, limit=60,
                                  speed=0.5), down)
    if not lost():
        yield from skills.hold(OPEN_STEPS, "release", OPEN)
        yield from leave(skills, name)


def leave(skills: KitchenSkills, name: str) -> Commands:
    """Draw the open hand back until the library's check counts it as gone."""
    scene = skills.scene
    approach = scene.grip_rotation[:, 2]
    yield from skills.reach(scene.grip_position - 0.10 * approach, "retreat", OPEN, tolerance=0.02)
    left = FAR - float(np.linalg.norm(scene.grip_position - scene.position(name)))
    overhead = scene.position(name)[2] > scene.base_position[2] - scene.torso + EYE_LEVEL
    if approach[2] < -0.8 and not overhead:
        yield from skills.reach(scene.grip_position + max(0.05, left) * UP, "retreat", OPEN, tolerance=0.02)
    else:
        back = scene.base_position[:2] - (0.08 + max(0.0, left)) * scene.base_rotation[:2, 0]
        yield from skills.drive(np.append(back, scene.base_yaw), OPEN, phase="retreat", tolerance=ROUGHLY)


def until(commands: Commands, ended: Callable[[], bool]) -> Commands:
    """``commands`` until something has ``ended()`` them."""
    for command in commands:
        if ended():
            return
        yield command


def standing(scene: KitchenScene, stance: Stance) -> np.ndarray:
    """(3,) x, y (m) and yaw (rad) of the base at a stance, which is relative to where it is now."""
    shift = scene.base_rotation @ np.array([stance.forward, stance.left, 0.0])
    return np.append((scene.base_position + shift)[:2], scene.base_yaw)


def stand(skills: KitchenSkills, base: np.ndarray, torso: float, gripper: float) -> Commands:
    """Drive there, unless it is here."""
    if np.linalg.norm(base_error(skills.scene, base)[:2]) > ROUGHLY or abs(torso - skills.scene.torso) > 0.02:
        yield from skills.drive(base, gripper, torso, tolerance=ROUGHLY)


def along(skills: KitchenSkills, preview: Preview, goal: Pose, phase: str, gripper: float, held: str | None = None
          ) -> Commands:
    """Lead the hand to a pose over corners where nothing is in the way."""
    way = route(preview, goal, held)
    for corner in way[:-1]:
        yield from skills.reach(corner[0], phase, gripper, corner[1], tolerance=0.04, angle=0.4)
    yield from skills.reach(goal[0], phase, gripper, goal[1], tolerance=0.02, angle=0.15)


def route(preview: Preview, goal: Pose, held: str | None = None) -> list[Pose]:
    """Poses from the present one to ``goal``: straight if that is free, else raised or drawn back first."""
    posture = preview.posture(open_hand=held is None)
    start = preview.pose(posture)
    _, base = preview.base_frame(posture)
    back = -base[:, 0]
    best: tuple[float, list[Pose]] = (np.inf, [goal])
    for way in _ways(start, goal, back):
        verdict = preview.follow(posture, way, held)
        if verdict.fine:
            return way
        cost = verdict.cost + 0.5 * len(way)
        if cost < best[0]:
            best = (cost, way)
    return best[1]


def _ways(start: Pose, goal: Pose, back: np.ndarray) -> Iterator[list[Pose]]:
    yield [goal]
    shifts = [0.0 * UP, 0.1 * UP, 0.2 * UP, 0.12 * back, 0.12 * back + 0.1 * UP, 0.22 * back, 0.22 * back + 0.15 * UP]
    pairs = sorted(product(range(len(shifts)), repeat=2), key=lambda pair: sum(
        float(np.linalg.norm(shifts[number])) for number in pair))
    for first, last in pairs[1:]:
        way = [] if first == 0 else [shifted(start, shifts[first])]
        way += [] if last == 0 else [shifted(goal, shifts[last])]
        yield [*way, goal]


def planned(errand: Errand, skills: KitchenSkills, preview: Preview, failed: Sequence[Grasp] = ()
            ) -> Transfer | None:
    """The first good transfer found, or the least bad one; None where no hand gets at the object or its spot."""
    scene, name = skills.scene, errand.name
    grasps = [grasp for grasp in grasps_of(scene, name, errand.leans)
              if not any(alike(grasp, other) for other in failed)]
    spots = errand.spots(scene, name)
    if not grasps or not spots:
        return None
    origin, hang = scene.position(name), scene.position(name)[2] - surface_points(scene, name)[:, 2].min()
    here, there = (stances_at(preview, scene, point, errand.torsos) for point in (origin, spots[0].position))
    both = between(preview, scene, origin, spots[0].position)
    if not (both or here):
        return None
    climbs = abs(float(spots[0].position[2] - origin[2])) > CLIMB
    best: Transfer | None = None
    for grasp in various(grasps)[:LOOKS]:
        picks: list[tuple[float, Stance, np.ndarray]] = []
        for stance in [*both, *here]:
            posture, cost = picked(preview, stance, origin, grasp, skills.hover, name)
            picks.append((cost + EFFORT * distance(stance), stance, posture))
            if cost < GOOD:
                break
        cost, start, posture = min(picks, key=lambda pick: pick[0])
        if best is not None and grasp.cost + cost >= best.cost:
            continue
        for stance in [*there, start] if climbs else [start, *there]:
            for spot in spots[: 1 if stance is start else None]:
                total = grasp.cost + cost + spot.cost + EFFORT * distance(stance, start)
                if best is not None and total >= best.cost:
                    break
                total += placed(preview, posture, stance, spot, skills.hover, hang, name, errand.under)
                if best is None or total < best.cost:
                    best = Transfer(start, grasp, stance, spot, total)
                if total < grasp.cost + 2 * GOOD:
                    return best
                if total > best.cost + HOPELESS:
                    break
    return best


def distance(one: Stance, other: Stance = HERE) -> float:
    """Metres to drive and to rise."""
    return float(np.hypot(one.forward - other.forward, one.left - other.left) + abs(one.torso - other.torso))


def between(preview: Preview, scene: KitchenScene, origin: np.ndarray, goal: np.ndarray) -> list[Stance]:
    """Stances from which object and goal are to the left and right alike, if both are in reach from one."""
    into = scene.base_rotation.T
    here, there = into @ (origin - scene.base_position), into @ (goal - scene.base_position)
    middle = float(here[1] + there[1]) / 2
    backwards = max(0.0, COMFORTABLE - float(min(here[0], there[0])))
    stances = [HERE] if abs(middle) < 0.1 and backwards < 0.05 else []
    stances += [Stance(-backwards, middle), Stance(0.0, middle)]
    return [stance for stance in stances if not preview.touched(preview.posture(stance))]


def stances_at(preview: Preview, scene: KitchenScene, point: np.ndarray, torsos: Sequence[float]) -> list[Stance]:
    """Stances from which a point is in front of the robot, those that need the least driving first."""
    forward, left, _ = scene.base_rotation.T @ (point - scene.base_position)
    stances = [Stance(float(forward - ahead), float(left + aside), torso) for torso in torsos
               for aside in (0.0, 0.15, -0.15) for ahead in (0.48, 0.58, 0.68)]
    free = [stance for stance in stances if not preview.touched(preview.posture(stance))]
    return sorted(free, key=distance)


def various(grasps: Sequence[Grasp]) -> list[Grasp]:
    """The cheapest of each lean of the hand, then the second of each, and so on."""
    by_lean: dict[int, int] = {}
    ranks = []
    for grasp in grasps:
        lean = round(10 * float(grasp.rotation[2, 2]))
        by_lean[lean] = by_lean.get(lean, -1) + 1
        ranks.append(by_lean[lean])
    return [grasps[number] for number in np.lexsort((range(len(grasps)), ranks))]


def picked(preview: Preview, stance: Stance, origin: np.ndarray, grasp: Grasp, hover: float, name: str
           ) -> tuple[np.ndarray, float]:
    """The posture that has picked an object up, and what is wrong with it."""
    pose = (origin + grasp.offset, grasp.rotation)
    before = preview.jump(preview.posture(stance), shifted(pose, -hover * grasp.rotation[:, 2]))
    if before.missed > 0.05:
        return before.posture, before.cost + HOPELESS
    down = preview.follow(before.posture, [pose], allowed=(name,))
    lifted = preview.follow(down.posture, [shifted(pose, LIFT * UP)], held=name)
    return lifted.posture, before.cost + down.cost + lifted.cost


def placed(preview: Preview, posture: np.ndarray, stance: Stance, spot: Spot, hover: float, hang: float, name: str,
           under: str | None) -> float:
    """What is wrong with putting the held object, whose origin is ``hang`` above its bottom, down at ``spot``."""
    posture = preview.driven(posture, stance, name)
    grip, rotation = preview.pose(posture)
    origin, _ = preview.object_pose(posture, name)
    turn = Rotation.from_rotvec(spot.turn * UP).as_matrix()
    low = (spot.position + turn @ (grip - origin) + (hang + 0.012) * UP, turn @ rotation)
    above = preview.jump(posture, shifted(low, hover * UP), name)
    if above.missed > 0.05:
        return above.cost + HOPELESS
    down = preview.follow(above.posture, [low], held=name, under=under)
    gone = preview.follow(down.posture, [shifted(low, -0.08 * low[1][:, 2])], allowed=(name,))
    return above.cost + down.cost + gone.cost


def into_container(scene: KitchenScene, name: str) -> list[Spot]:
    """The middle of the task's container."""
    points, centre = surface_points(scene, "container"), scene.position("container")
    near = points[np.linalg.norm(points[:, :2] - centre[:2], axis=1) < 0.03]
    spot = np.append(centre[:2], near[:, 2].max())
    return [Spot(spot, turn, 0.1 * abs(turn)) for turn in TURNS]


def free_spots(scene: KitchenScene, name: str, corner: np.ndarray, sides: np.ndarray, wanted: np.ndarray
               ) -> list[Spot]:
    """Places in a box with a ``corner`` (3,) and ``sides`` (3, 3) as rows where the object is not on top of
    another, those near ``wanted`` (3,) first."""
    own = surface_points(scene, name) - scene.position(name)
    radius = float(np.linalg.norm(own[:, :2], axis=1).max())
    others = np.concatenate([surface_points(scene, other) for other in scene.names() if other != name]
                            or [np.zeros((0, 3))])
    low, high = corner[2] - 0.01, corner[2] + np.ptp(own[:, 2])
    others = others[(others[:, 2] > low) & (others[:, 2] < high)]
    spots = []
    for first, second in product(np.linspace(0.0, 1.0, 13), repeat=2):
        spot = corner + first * sides[0] + second * sides[1]
        near = float(np.linalg.norm(others[:, :2] - spot[:2], axis=1).min(initial=1.0))
        inside = min(min(share, 1 - share) * np.linalg.norm(side) for share, side in
                     ((first, sides[0]), (second, sides[1])))
        cramped = max(0.0, radius + 0.02 - near) + max(0.0, 0.7 * radius + 0.02 - inside)
        spots.append(Spot(spot, 0.0, float(np.linalg.norm((spot - wanted)[:2])) + 20.0 * cramped))
    spots = sorted(spots, key=lambda spot: spot.cost)
    return [Spot(spot.position, turn, spot.cost + 0.1 * abs(turn)) for spot in spots[:12:2] for turn in TURNS[:3]]


def into_region(fixture: str, region: str, forward: float) -> Callable[[KitchenScene, str], list[Spot]]:
    """Free places in an inside region of the task's fixture, ``forward`` (0 to 1) of its depth from its front."""

    def spots(scene: KitchenScene, name: str) -> list[Spot]:
        regions = scene.fixture(fixture).get_int_sites(relative=False)
        corner, *ends = (np.array(point) for point in regions[region])
        sides = np.array([end - corner for end in ends])
        faced = sides[:2] @ scene.base_rotation[:, 0]
        depth = int(np.argmax(np.abs(faced)))
        share = forward if faced[depth] > 0 else 1 - forward
        middle = corner + share * sides[depth] + 0.5 * sides[1 - depth]
        return free_spots(scene, name, corner, sides, middle)

    return spots


def on_counter(scene: KitchenScene, name: str) -> list[Spot]:
    """Free places near the counter's front edge, in front of where the object is now."""
    forward, left = scene.base_rotation[:, 0], scene.base_rotation[:, 1]
    points = scene.points(scene.fixture("counter").name)
    points = points[points[:, 2] < scene.position(name)[2] + 0.2]  # the library keeps unused parts far above
    if not len(points):  # the object fell to the floor
        return []
    top = points[:, 2].max()
    points = points[points[:, 2] > top - 0.01]
    edge = float(((points - scene.base_position) @ forward).min())
    start = scene.base_position + (edge + 0.02) * forward
    start[2] = top
    start += ((scene.position(name) - start) @ left) * left
    spots = free_spots(scene, name, start - 0.4 * left, np.array([0.3 * forward, 0.8 * left]), start + 0.13 * forward)
    return [spot for spot in spots if np.linalg.norm(points[:, :2] - spot.position[:2], axis=1).min() < 0.02]


def under_dispenser(scene: KitchenScene, name: str) -> list[Spot]:
    """Where the coffee machine expects a mug."""
    site = scene.data.site(f"{scene.fixture('coffee_machine').naming_prefix}receptacle_place_site").xpos.copy()
    return [Spot(site, turn, 0.1 * abs(turn)) for turn in TURNS]


PLANS: dict[str, Callable[[KitchenSkills], Commands]] = {
    task: partial(carry_out, errand) for task, errand in {
        "PnPCounterToCab": Errand(FROM_ANYWHERE, into_region("cab", "level0", 0.3), TORSOS),
        "PnPCabToCounter": Errand(FROM_ANYWHERE, on_counter, TORSOS),
        "PnPCounterToSink": Errand(FROM_ABOVE, into_region("sink", "basin", 0.45)),
        "PnPSinkToCounter": Errand(FROM_ABOVE, into_container, under="container"),
        "PnPCounterToMicrowave": Errand(FROM_THE_FRONT, into_container, TORSOS, "container"),
        "PnPMicrowaveToCounter": Errand(FROM_THE_FRONT, into_container, TORSOS, "container"),
        "PnPCounterToStove": Errand(FROM_ABOVE, into_container, under="container"),
        "PnPStoveToCounter": Errand(FROM_ABOVE, into_container, under="container"),
        "CoffeeSetupMug": Errand(FROM_THE_FRONT, under_dispenser),
        "CoffeeServeMug": Errand(FROM_THE_FRONT, on_counter),
    }.items()}
