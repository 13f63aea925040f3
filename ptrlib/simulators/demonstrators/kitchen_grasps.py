"""Ways to hold a kitchen object from any side: across its middle, by its wall or its handle.

LIBERO's grasps come from above; a cabinet or a microwave is entered from the front.
"""

from __future__ import annotations

import numpy as np

from ptrlib.simulators.demonstrators.grasps import FINGERS, MAX_WIDTH, PALM, UP, Grasp
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene

SIDEWAYS = np.deg2rad([0.0, -35.0, 35.0])  # of a leaning hand
SIDELONG = 1.3  # rad, how far a leaning hand may come from the side
ROLLS = np.arange(4) * np.pi / 4
PAD = (0.009, 0.010)  # metres to either side of the grip: what closes between the fingers
DEPTHS = (0.010, 0.019, 0.028, 0.037)  # metres from the near side of an object to between the pads
SQUARE = 0.85  # cosine of how far a surface may lean from the pad that presses on it
FEW, MANY = 2, 5  # points of a surface under a pad: too little to hold by, enough
PER_HAND = 2  # grasps kept for each direction of the hand
ABOVE_GROUND = 0.001  # metres between the fingertips and what the object stands on
SPACING = 0.008  # metres between the points of an object's surface
CORNERS = np.array([[x, y, z] for box in FINGERS for x in (box[0][0], box[1][0]) for y in (box[0][1], box[1][1])
                    for z in (box[0][2], box[1][2])])
Hand = tuple[np.ndarray, float]  # rotation (3, 3) and how much it is disliked


def surface(scene: KitchenScene, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) on and in an object's collision geoms and the normals (N, 3) there, zero inside."""
    import mujoco  # not above: Tabletop imports this package and needs no simulator

    points, normals = [], []
    for body in scene.bodies(name):
        first = scene.model.body_geomadr[body]
        for geom in range(first, first + scene.model.body_geomnum[body]):
            if scene.model.geom_group[geom] != 0:  # what is drawn
                continue
            kind, size = scene.model.geom_type[geom], scene.model.geom_size[geom]
            if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
                local, normal = cylinder(size[0], size[1])
            elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
                local, normal = cylinder(size[0], size[0] + size[1])
            else:
                local, normal = cuboid(size)
            frame = scene.data.geom_xmat[geom].reshape(3, 3)
            points.append(local @ frame.T + scene.data.geom_xpos[geom])
            normals.append(normal @ frame.T)
    every, facing = np.concatenate(points), np.concatenate(normals)
    _, kept = np.unique(np.round(np.hstack([every / SPACING, facing]), 0), axis=0, return_index=True)
    return every[np.sort(kept)], facing[np.sort(kept)]


def surface_points(scene: KitchenScene, name: str) -> np.ndarray:
    """(N, 3) on an object's collision geoms, round ones as round as they are."""
    return surface(scene, name)[0]


def cuboid(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) on and in a box and their normals, zero for those inside."""
    ticks = [np.linspace(-h, h, max(2, int(np.ceil(2 * h / SPACING)) + 1)) for h in half]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    share = np.abs(points) / half
    outermost, rows = np.argmax(share, axis=1), np.arange(len(points))
    normals = np.zeros_like(points)
    normals[rows, outermost] = np.sign(points[rows, outermost]) * (share[rows, outermost] > 0.999)
    return points, normals


def cylinder(radius: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) on and in a cylinder along z and their normals, zero for those inside."""
    angles = np.linspace(0, 2 * np.pi, max(12, int(2 * np.pi * radius / SPACING)), endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(len(angles))], axis=1)
    heights = np.linspace(-half, half, max(3, int(2 * half / SPACING) + 1))
    radii = np.linspace(0.0, radius, max(2, int(np.ceil(radius / SPACING)) + 1))
    points, normals = [], []
    for height in heights:
        end = np.sign(height) * UP if abs(height) > half - 1e-6 else 0.0 * UP
        for r in radii:
            points.append(r * circle + height * UP)
            normals.append(circle if r == radii[-1] else np.tile(end, (len(circle), 1)))
    return np.concatenate(points), np.concatenate(normals)


def hands(forward: np.ndarray, leans: np.ndarray, axes: np.ndarray) -> list[Hand]:
    """Hands from above and from the side of a robot that faces ``forward`` (3,), leaning from pointing down (0)
    to pointing away from it (pi / 2); some are square to an object's ``axes`` (its rotation)."""
    left = np.cross(UP, forward)
    found = []
    for lean in leans:
        for aside in _asides(forward, axes) if lean > 0 else (0.0,):
            away = np.cos(aside) * forward + np.sin(aside) * left
            approach = np.sin(lean) * away - np.cos(lean) * UP
            across = np.cos(aside) * left - np.sin(aside) * forward
            openings = [np.cos(roll) * across + np.sin(roll) * np.cross(approach, across) for roll in ROLLS]
            openings += [axis for axis in axes.T if abs(axis @ approach) < 0.4]
            for opening in openings:
                opening = opening - (opening @ approach) * approach
                opening = opening / np.linalg.norm(opening)
                opening = opening if opening @ left >= 0 else -opening  # the two signs are one grasp
                turned = np.arccos(np.clip(abs(opening @ across), 0.0, 1.0))
                effort = 0.3 * turned + 0.4 * abs(aside) + 0.15 * lean
                found.append((np.stack([opening, np.cross(approach, opening), approach], axis=1), effort))
    return found


def _asides(forward: np.ndarray, axes: np.ndarray) -> list[float]:
    """Sideways directions (rad) for a leaning hand: some fixed, some along the object's axes."""
    left = np.cross(UP, forward)
    angles = [float(np.arctan2(axis @ left, axis @ forward)) for axis in (*axes.T, *-axes.T) if abs(axis[2]) < 0.5]
    return [*SIDEWAYS, *(angle for angle in angles if abs(angle) < SIDELONG)]


def grasps_of(scene: KitchenScene, name: str, leans: np.ndarray) -> list[Grasp]:
    """Grasps of an object as it stands that it and what it stands on leave room for, cheapest first."""
    (points, normals), origin = surface(scene, name), scene.position(name)
    low, high = points.min(axis=0), points.max(axis=0)
    centre = (low + high) / 2
    found: list[Grasp] = []
    for rotation, effort in hands(scene.base_rotation[:, 0], leans, scene.rotation(name)):
        lowest = float((rotation @ CORNERS.T)[2].min())
        ground = low[2] + ABOVE_GROUND - lowest - centre[2]
        grips = grips_in((points - centre) @ rotation, normals @ rotation[:, 0], rotation[2], ground)
        found += [Grasp(centre - origin + rotation @ grip, rotation, effort + cost) for grip, cost in grips[:PER_HAND]]
    return sorted(found, key=lambda grasp: grasp.cost)


def grips_in(points: np.ndarray, facing: np.ndarray, up: np.ndarray, ground: float
             ) -> list[tuple[np.ndarray, float]]:
    """(grip (3,), cost), cheapest first, for one direction of the hand.

    ``points`` (N, 3) and ``up`` (3,) are as the hand sees them, ``facing`` (N,) the normals' part along the
    fingers' opening, ``ground`` the height that the grip must keep. Slides the open hand over the object in
    steps, keeps where something fits between the pads, squarely, and nothing is where fingers and palm are.
    """
    found = []
    low, high = points.min(axis=0), points.max(axis=0)
    for across in _steps(low[1], high[1], 0.02):
        inside = np.abs(points[:, 1] - across) < PAD[0]
        strip, faces = points[inside], facing[inside]
        if len(strip) < 4:
            continue
        near, tried = strip[:, 2].min(), set()
        for wanted in DEPTHS:
            depth = min(near + wanted, high[2])
            level = np.abs(strip[:, 2] - depth) < PAD[1]
            for left, right in _runs(strip[level, 0]):
                grip = np.array([(left + right) / 2, across, depth])
                if up[2] < -0.1:  # not so deep that the fingertips meet what the object stands on
                    grip[2] -= max(0.0, ground - up @ grip) / -up[2]
                elif up @ grip < ground:
                    continue
                width, deep = right - left, grip[2] - near
                if width > MAX_WIDTH or deep < -0.006 or round(grip[2], 3) in tried:
                    continue
                pressed = np.abs(strip[:, 2] - grip[2]) < PAD[1]
                (square, many), (other_square, other_many) = (
                    _pressed(strip[pressed], faces[pressed], edge, side) for edge, side in ((left, -1), (right, 1)))
                square, many = min(square, other_square), min(many, other_many)
                if square < SQUARE or many < FEW or not _fits(points - grip):
                    continue
                tried.add(round(grip[2], 3))
                middle = float(np.hypot(grip[0], grip[1]))
                cost = 8.0 * middle + 6.0 * width + 10.0 * abs(0.028 - deep)
                found.append((grip, cost + 4.0 * (1 - square) + 0.15 * max(0, MANY - many)))
    return sorted(found, key=lambda grip: grip[1])


def _pressed(points: np.ndarray, facing: np.ndarray, edge: float, side: int) -> tuple[float, int]:
    """How squarely (cosine) the surface at ``edge`` faces the pad on that ``side`` (-1 or 1), and how many of its
    points the pad meets."""
    cosines = side * facing[np.abs(points[:, 0] - edge) < 0.004]
    return float(np.max(cosines, initial=0.0)), int((cosines > SQUARE).sum())


def _steps(low: float, high: float, step: float) -> np.ndarray:
    """From ``low`` to ``high`` symmetrically about their middle, which is one of them."""
    count = max(1, int((high - low) / step) // 2 * 2 + 1)
    return np.linspace(low, high, count + 2)[1:-1]


def _runs(values: np.ndarray, gap: float = 0.018) -> list[tuple[float, float]]:
    """Intervals of ``values`` (N,) without holes wider than a finger is thick."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return []
    breaks = np.flatnonzero(np.diff(ordered) > gap)
    starts, ends = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(ordered) - 1]])
    return [(float(ordered[start]), float(ordered[end])) for start, end in zip(starts, ends, strict=True)]


def _fits(local: np.ndarray) -> bool:
    """Whether the open hand at the origin meets none of the points."""
    return not any(np.all((local > box[0]) & (local < box[1]), axis=1).any() for box in (*FINGERS, PALM))
