"""What a demonstrator may see: the true poses and surfaces of everything in a LIBERO scene.

Learned policies never get this. Positions are metres in the world frame, rotations are (3, 3) matrices.
"""

from __future__ import annotations

import numpy as np

FINGER_SPACING = 0.008  # metres between sampled surface points of a box


def box_surface(half: np.ndarray, spacing: float = FINGER_SPACING) -> np.ndarray:
    """Points (N, 3) on the surface of a box of half-extents ``half`` (3,), centred on the origin."""
    ticks = [np.linspace(-h, h, max(2, int(np.ceil(2 * h / spacing)) + 1)) for h in half]
    faces = []
    for axis in range(3):
        others = [ticks[i] for i in range(3) if i != axis]
        first, second = (grid.ravel() for grid in np.meshgrid(*others, indexing="ij"))
        for side in (-half[axis], half[axis]):
            faces.append(np.insert(np.stack([first, second], axis=1), axis, side, axis=1))
    return np.concatenate(faces)


# The Panda, metres: from grip back to wrist, base up to shoulder, the wrist's sideways offset, and how far
# from the shoulder the wrist may go. Past 0.72 the elbow is straight; it then bends the wrong way and the
# arm is stuck.
WRIST_DISTANCE, SHOULDER_HEIGHT, WRIST_OFFSET, ARM_LENGTH = 0.21, 0.333, 0.088, 0.685


class Scene:
    """Reads poses, surfaces and contacts from a LIBERO simulator (anything with a robosuite ``.env``)."""

    def __init__(self, simulator) -> None:
        self.env = simulator.env
        self.model = self.env.sim.model._model
        self.data = self.env.sim.data._data
        self._grip_site = self.model.site("gripper0_right_grip_site").id
        self._surfaces: dict[int, np.ndarray] = {}

    @property
    def goals(self) -> list[list[str]]:
        """The goal's conjunction of predicates, such as ``["on", "akita_black_bowl_1", "plate_1"]``."""
        return [list(goal) for goal in self.env.parsed_problem["goal_state"]]

    def holds(self, goal: list[str]) -> bool:
        return bool(self.env._eval_predicate(goal))

    @property
    def grip_position(self) -> np.ndarray:
        return self.data.site_xpos[self._grip_site].copy()

    @property
    def base_position(self) -> np.ndarray:
        return self.data.body("robot0_base").xpos.copy()

    def within_reach(self, position: np.ndarray, approach: np.ndarray) -> np.ndarray:
        """``position`` pulled towards the arm's base, at its height, so far that the elbow stays bent.

        ``approach`` (3,) is the direction in which the hand points.
        """
        shoulder = self.base_position + [0.0, 0.0, SHOULDER_HEIGHT]
        wrist = position - WRIST_DISTANCE * approach - shoulder
        radius = WRIST_OFFSET + np.sqrt(max(ARM_LENGTH**2 - wrist[2] ** 2, 0.0))
        excess = max(0.0, 1.0 - radius / max(float(np.linalg.norm(wrist[:2])), 1e-6))
        return position - excess * np.append(wrist[:2], 0.0)

    @property
    def grip_rotation(self) -> np.ndarray:
        """Columns: the direction along which the fingers open, the sideways axis, the approach."""
        return self.data.site_xmat[self._grip_site].reshape(3, 3).copy()

    @property
    def grip_width(self) -> float:
        """Distance between the fingers, metres."""
        return self.joint("gripper0_right_finger_joint1") - self.joint("gripper0_right_finger_joint2")

    def is_site(self, name: str) -> bool:
        return name in self.env.object_sites_dict

    def owner(self, name: str) -> str:
        """The object or fixture a region belongs to; ``name`` itself when it is no region."""
        return self.env.object_sites_dict[name].parent_name if self.is_site(name) else name

    def position(self, name: str) -> np.ndarray:
        if self.is_site(name):
            return self.data.site(name).xpos.copy()
        return self.data.xpos[self.env.obj_body_id[name]].copy()

    def rotation(self, name: str) -> np.ndarray:
        if self.is_site(name):
            return self.data.site(name).xmat.reshape(3, 3).copy()
        return self.data.xmat[self.env.obj_body_id[name]].reshape(3, 3).copy()

    def names(self) -> list[str]:
        return list(self.env.obj_body_id)

    def joint(self, name: str) -> float:
        """Position of a hinge (radians) or slide (metres)."""
        return float(self.data.joint(name).qpos[0])

    def rests(self, name: str) -> bool:
        """Whether an object touches anything but the robot."""
        own = set(self.bodies(name))
        robot = self.model.body_rootid[self.model.body("robot0_base").id]
        for contact in self.data.contact[: self.data.ncon]:
            pair = self.model.geom_bodyid[contact.geom]
            if (pair[0] in own) != (pair[1] in own) and robot not in self.model.body_rootid[pair]:
                return True
        return False

    def surface(self, name: str, spot: np.ndarray, radius: float) -> float:
        """Height of the highest point of ``name`` within ``radius`` of ``spot`` (at least 2,)."""
        points = self.points(name)
        near = np.linalg.norm(points[:, :2] - spot[:2], axis=1) < radius
        return float(points[near if near.any() else slice(None), 2].max())

    def long_side(self, name: str) -> float:
        """Direction (radians from world x) in which an object is longest, seen from above."""
        flat = self.points(name)[:, :2]
        _, axes = np.linalg.eigh(np.cov((flat - flat.mean(axis=0)).T))
        return float(np.arctan2(axes[1, 1], axes[0, 1]))

    def bodies(self, name: str) -> list[int]:
        root = self.model.body_rootid[self.env.obj_body_id[name]]
        return [body for body in range(self.model.nbody) if self.model.body_rootid[body] == root]

    def points(self, name: str, bodies: list[int] | None = None) -> np.ndarray:
        """Points (N, 3) on the collision surfaces of an object or fixture, as it stands now."""
        clouds = []
        for body in self.bodies(name) if bodies is None else bodies:
            first = self.model.body_geomadr[body]
            for geom in range(first, first + self.model.body_geomnum[body]):
                if self.model.geom_group[geom] == 0:  # robosuite draws group 1 and collides with group 0
                    frame = self.data.geom_xmat[geom].reshape(3, 3)
                    clouds.append(self._surface(geom) @ frame.T + self.data.geom_xpos[geom])
        return np.concatenate(clouds)

    def obstacles(self, exclude: tuple[str, ...] = ()) -> np.ndarray:
        clouds = [self.points(name) for name in self.names() if name not in exclude]
        return np.concatenate(clouds) if clouds else np.zeros((0, 3))

    def hanging(self, height: float) -> tuple[str, ...]:
        """Names of what is above ``height`` altogether, as wall cabinets are; nothing in LIBERO is."""
        return ()

    def _surface(self, geom: int) -> np.ndarray:
        import mujoco  # not above: Tabletop imports this package and needs no simulator

        if geom not in self._surfaces:
            if self.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
                mesh = self.model.geom_dataid[geom]
                first = self.model.mesh_vertadr[mesh]
                self._surfaces[geom] = self.model.mesh_vert[first : first + self.model.mesh_vertnum[mesh]]
            else:
                size = self.model.geom_size[geom].copy()
                if self.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CYLINDER:
                    size = np.array([size[0], size[0], size[1]])
                elif self.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
                    size = np.full(3, size[0])
                self._surfaces[geom] = box_surface(size)
        return self._surfaces[geom]
