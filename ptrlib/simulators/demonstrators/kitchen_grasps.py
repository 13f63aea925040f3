"""Ways to hold a kitchen object from any side: across its middle, by its wall or its handle.

LIBERO's grasps come from above; a cabinet or a microwave is entered from the front.
"""

from __future__ import annotations

import numpy as np

from ptrlib.simulators.demonstrators.grasps import FINGERS, MAX_WIDTH, PALM, Grasp
from ptrlib.simulators.demonstrators.kitchen_scene import KitchenScene
from ptrlib.simulators.demonstrators.scene import box_surface

LEANS = np.deg2rad([0.0, 20.0, 40.0, 60.0, 80.0])  # of the hand, from pointing down to pointing away from the robot
SIDEWAYS = np.deg2rad([0.0, -35.0, 35.0])  # of a leaning hand
ROLLS = np.arange(8) * np.pi / 8
PAD = (np.array([-0.045, -0.009, -0.010]), np.array([0.045, 0.009, 0.010]))  # what closes between the fingers
DEPTHS = (0.010, 0.019, 0.028, 0.037)  # metres from the near side of an object to between the pads
PER_HAND = 2  # grasps kept for each direction of the hand
ABOVE_GROUND = 0.001  # metres between the fingertips and what the object stands on
SPACING = 0.008  # metres between the points of an object's surface
CORNERS = np.array([[x, y, z] for box in FINGERS for x in (box[0][0], box[1][0]) for y in (box[0][1], box[1][1])
                    for z in (box[0][2], box[1][2])])


def surface_points(scene: KitchenScene, name: str) -> np.ndarray:
    """(N, 3) on an object's collision geoms, round ones as round as they are."""
    import mujoco  # not above: Tabletop imports this package and needs no simulator

    clouds = []
    for body in scene.bodies(name):
        first = scene.model.body_geomadr[body]
        for geom in range(first, first + scene.model.body_geomnum[body]):
            if scene.model.geom_group[geom] != 0:
                continue
            kind, size = scene.model.geom_type[geom], scene.model.geom_size[geom]
            if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
                points = cylinder_surface(size[0], size[1] + (size[0] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0))
            else:
                points = box_surface(size, SPACING)
            frame = scene.data.geom_xmat[geom].reshape(3, 3)
            clouds.append(points @ frame.T + scene.data.geom_xpos[geom])
    points = np.concatenate(clouds)
    _, first_of = np.unique(np.round(points / SPACING), axis=0, return_index=True)
    return points[np.sort(first_of)]


def cylinder_surface(radius: float, half: float) -> np.ndarray:
    """(N, 3) on a cylinder along z."""
    angles = np.linspace(0, 2 * np.pi, max(12, int(2 * np.pi * radius / SPACING)), endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    heights = np.linspace(-half, half, max(3, int(2 * half / SPACING) + 1))
    wall = np.concatenate([np.column_stack([radius * circle, np.full(len(circle), height)]) for height in heights])
    rings = [np.column_stack([r * circle, np.full(len(circle), side)])
             for r in np.arange(0.0, radius, SPACING) for side in (-half, half)]
    return np.concatenate([wall, *rings])


def rotations(forward: np.ndarray, leans: np.ndarray = LEANS) -> list[tuple[np.ndarray, float]]:
    """Hands (3, 3) from above and from the side of a robot that faces ``forward`` (3,), each with its effort."""
    up, left = np.array([0.0, 0.0, 1.0]), np.cross([0.0, 0.0, 1.0], forward)
    found = []
    for lean in leans:
        for aside in SIDEWAYS if lean > 0 else (0.0,):
            away = np.cos(aside) * forward + np.sin(aside) * left
            approach = np.sin(lean) * away - np.cos(lean) * up
            across = np.cos(aside) * left - np.sin(aside) * forward
            for roll in ROLLS:
                opening = np.cos(roll) * across + np.sin(roll) * np.cross(approach, across)
                # the hand hangs with its fingers to left and right; the two signs are one grasp
                opening = opening if opening @ left >= 0 else -opening
                rotation = np.stack([opening, np.cross(approach, opening), approach], axis=1)
                turned = np.arccos(np.clip(abs(opening @ across), 0.0, 1.0))
                found.append((rotation, 0.5 * turned + 0.6 * abs(aside)))
    return found


def grasps_of(scene: KitchenScene, name: str, hands: list[tuple[np.ndarray, float]]) -> list[Grasp]:
    """Grasps of an object as it stands that it and what it stands on leave room for, cheapest first."""
    points, origin = surface_points(scene, name), scene.position(name)
    low, high = points.min(axis=0), points.max(axis=0)
    centre = (low + high) / 2
    found: list[Grasp] = []
    for rotation, effort in hands:
        lowest = float((rotation @ CORNERS.T)[2].min())
        ground = low[2] + ABOVE_GROUND - lowest - centre[2]
        grips = grips_in((points - centre) @ rotation, rotation[2], ground)
        found += [Grasp(centre - origin + rotation @ grip, rotation, effort + cost) for grip, cost in grips[:PER_HAND]]
    return sorted(found, key=lambda grasp: grasp.cost)


def grips_in(points: np.ndarray, up: np.ndarray, ground: float) -> list[tuple[np.ndarray, float]]:
    """(grip (3,), cost), cheapest first, for one direction of the hand; ``points`` (N, 3) and ``up`` (3,) as the
    hand sees them, ``ground`` the height that the grip must keep.

    Slides the open hand over the object in steps, keeps where something fits between the pads and nothing is
    where fingers and palm are.
    """
    found = []
    low, high = points.min(axis=0), points.max(axis=0)
    for across in _steps(low[1], high[1], 0.02):
        strip = points[np.abs(points[:, 1] - across) < PAD[1][1]]
        if len(strip) < 4:
            continue
        near, tried = strip[:, 2].min(), set()
        for deep in DEPTHS:
            depth = min(near + deep, high[2])
            for left, right in _runs(strip[np.abs(strip[:, 2] - depth) < PAD[1][2], 0]):
                grip = np.array([(left + right) / 2, across, depth])
                if up[2] < -0.1:  # not so deep that the fingertips meet what the object stands on
                    grip[2] -= max(0.0, ground - up @ grip) / -up[2]
                elif up @ grip < ground:
                    continue
                width, deep = right - left, grip[2] - near
                if width > MAX_WIDTH or deep < -0.006 or round(grip[2], 3) in tried or not _fits(points - grip):
                    continue
                tried.add(round(grip[2], 3))
                middle = float(np.hypot(grip[0], grip[1]))
                found.append((grip, 8.0 * middle + 6.0 * width + 10.0 * abs(0.028 - deep)))
    return sorted(found, key=lambda grip: grip[1])


def _steps(low: float, high: float, step: float) -> np.ndarray:
    """From ``low`` to ``high`` symmetrically about their middle."""
    count = max(1, int((high - low) / step))
    return np.linspace(low, high, count + 2)[1:-1] if count > 1 else np.array([(low + high) / 2])


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
