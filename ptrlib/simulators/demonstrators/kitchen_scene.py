"""What a demonstrator may see in a RoboCasa scene: objects, fixtures, their joints and handles.

Learned policies never get this. Positions are metres in the world frame, rotations are (3, 3) matrices. A
RoboCasa scene is another model after every reset, so a scene object is made after it and read until the next one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ptrlib.simulators.demonstrators.scene import Scene, box_surface

NEAR = 1.3  # metres from the arm's base within which fixtures count as obstacles
COARSE = 0.02  # metres between sampled surface points of fixtures
KNEE = 0.4  # metres up to which the base is wide
ROOM = ("Wall", "Floor")  # classes of fixtures that nothing runs into before it runs into furniture


class KitchenScene(Scene):
    """Reads poses, surfaces, joints and contacts from a freshly reset RoboCasa simulator.

    Names are the task's own: of objects ("obj", "container", "distr_counter_1") or of fixtures as in
    ``env.fixtures``. Everything inherited (``position``, ``points``, ``rests``, ...) takes both.
    """

    def __init__(self, simulator) -> None:
        super().__init__(simulator)
        self.task = simulator.kitchen_task
        self._base_site = self.model.site("mobilebase0_center").id
        self._coarse: dict[str, list[tuple[int, np.ndarray]]] = {}

    @property
    def base_position(self) -> np.ndarray:
        """(3,) of the arm's foot, on the mobile base; it rises with the torso."""
        return self.data.site_xpos[self._base_site].copy()

    @property
    def base_rotation(self) -> np.ndarray:
        """Columns: the way the robot faces, its left, up. Action vectors are in this frame."""
        return self.data.site_xmat[self._base_site].reshape(3, 3).copy()

    @property
    def base_yaw(self) -> float:
        """Radians from world x to where the robot faces."""
        forward = self.base_rotation[:, 0]
        return float(np.arctan2(forward[1], forward[0]))

    @property
    def torso(self) -> float:
        """How far the torso is raised, metres (0 to 0.34)."""
        return self.joint("mobilebase0_joint_torso_height")

    def is_site(self, name: str) -> bool:
        return False

    def within_reach(self, position: np.ndarray, approach: np.ndarray) -> np.ndarray:
        """``position``: the base is driven to where the arm gets there, see ``kitchen_reach``."""
        return position

    def position(self, name: str) -> np.ndarray:
        return self.data.xpos[self.body(name)].copy()

    def rotation(self, name: str) -> np.ndarray:
        return self.data.xmat[self.body(name)].reshape(3, 3).copy()

    def body(self, name: str) -> int:
        """The root body of an object or a fixture."""
        if name in self.env.obj_body_id:
            return self.env.obj_body_id[name]
        return self.model.body(self.env.fixtures[name].root_body).id

    def bodies(self, name: str) -> list[int]:
        return self.below(self.body(name))

    def below(self, body: int) -> list[int]:
        """``body`` and all that hangs on it."""
        found = [body]
        for other in range(body + 1, self.model.nbody):  # MuJoCo numbers parents before children
            if self.model.body_parentid[other] in found:
                found.append(other)
        return found

    def fixture(self, reference: str) -> Any:
        """The library's fixture object that the task's environment holds under this attribute."""
        return getattr(self.env, reference)

    def openness(self, joint: str) -> float:
        """Position of a joint between its closed (0) and its open end (1), as the library's checks count it."""
        low, high = self.model.joint(joint).range
        value = (self.joint(joint) - low) / (high - low)
        return 1.0 - value if abs(low) > abs(high) else value

    def solid(self, bodies: list[int]) -> list[int]:
        """Geoms of ``bodies`` that touch, not those that are only drawn."""
        return [geom for geom in self._geoms(bodies) if self.model.geom_group[geom] == 0]

    def solved(self) -> bool:
        """Whether the library's own check of the task holds."""
        return bool(self.env._check_success())

    def joints(self, name: str) -> list[str]:
        """Names of the joints in an object or a fixture."""
        numbers = [number for number in range(self.model.njnt) if self.model.jnt_bodyid[number] in self.bodies(name)]
        return [self.model.joint(number).name for number in numbers]

    def moved_by(self, joint: str) -> list[int]:
        """Bodies that a door's, drawer's, knob's or lever's joint moves."""
        return self.below(int(self.model.joint(joint).bodyid[0]))

    def joint_frame(self, joint: str) -> tuple[np.ndarray, np.ndarray]:
        """Anchor (3,) and axis (3,) of a joint, in the world."""
        number = self.model.joint(joint).id
        return self.data.xanchor[number].copy(), self.data.xaxis[number].copy()

    def handle_points(self, joint: str) -> np.ndarray:
        """(N, 3) on the handle of what ``joint`` moves: geoms that it, or their body, is named after."""
        return self.geom_points([geom for geom in self.solid(self.moved_by(joint)) if "handle" in self._label(geom)])

    def geom_points(self, geoms: list[int] | str) -> np.ndarray:
        """(N, 3) on the surfaces of the named geom or the numbered ones."""
        numbers = [self.model.geom(geoms).id] if isinstance(geoms, str) else geoms
        return np.concatenate([self._placed(geom, self._surface(geom)) for geom in numbers])

    def obstacles(self, exclude: tuple[str, ...] = ()) -> np.ndarray:
        """(N, 3) on all objects and on the furniture within reach, but for what ``exclude`` names."""
        clouds = [self.points(name) for name in self.names() if name not in exclude]
        clouds += [self._coarse_points(name) for name, fixture in self.env.fixtures.items()
                   if name not in exclude and type(fixture).__name__ not in ROOM]
        points = np.concatenate(clouds)
        return points[np.linalg.norm(points[:, :2] - self.base_position[:2], axis=1) < NEAR]

    def floor_plan(self) -> np.ndarray:
        """(N, 2) where walls and furniture stand, seen from above, on the base's way."""
        names = [name for name, fixture in self.env.fixtures.items() if type(fixture).__name__ != "Floor"]
        points = np.concatenate([self._coarse_points(name) for name in names])
        low = points[(points[:, 2] > 0.02) & (points[:, 2] < KNEE)]
        near = low[np.linalg.norm(low[:, :2] - self.base_position[:2], axis=1) < 2.0 * NEAR]
        return np.unique(np.round(near[:, :2] / COARSE), axis=0) * COARSE

    def hanging(self, height: float) -> tuple[str, ...]:
        return tuple(name for name, fixture in self.env.fixtures.items() if type(fixture).__name__ not in ROOM
                     and self._coarse_points(name)[:, 2].min(initial=np.inf) > height)

    def touches(self, geom: str) -> bool:
        """Whether the robot touches the named geom."""
        number, robot = self.model.geom(geom).id, self.model.body_rootid[self.model.body("robot0_base").id]
        for contact in self.data.contact[: self.data.ncon]:
            if number in contact.geom and robot in self.model.body_rootid[self.model.geom_bodyid[contact.geom]]:
                return True
        return False

    def _coarse_points(self, name: str) -> np.ndarray:
        if name not in self._coarse:
            self._coarse[name] = [(geom, self._sampled(geom)) for geom in self.solid(self.bodies(name))]
        placed = [self._placed(geom, points) for geom, points in self._coarse[name]]
        return np.concatenate(placed) if placed else np.zeros((0, 3))

    def _sampled(self, geom: int) -> np.ndarray:
        import mujoco  # not above: Tabletop imports this package and needs no simulator

        if self.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
            return box_surface(self.model.geom_size[geom], COARSE)
        return self._surface(geom)

    def _surface(self, geom: int) -> np.ndarray:
        import mujoco

        if geom not in self._surfaces and self.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
            radius, half = self.model.geom_size[geom][:2]
            self._surfaces[geom] = box_surface(np.array([radius, radius, half + radius]))
        return super()._surface(geom)

    def _placed(self, geom: int, points: np.ndarray) -> np.ndarray:
        return points @ self.data.geom_xmat[geom].reshape(3, 3).T + self.data.geom_xpos[geom]

    def _geoms(self, bodies: list[int]) -> list[int]:
        return [geom for body in bodies for geom in range(
            self.model.body_geomadr[body], self.model.body_geomadr[body] + self.model.body_geomnum[body])]

    def _label(self, geom: int) -> str:
        return f"{self.model.body(self.model.geom_bodyid[geom]).name} {self.model.geom(geom).name}"
