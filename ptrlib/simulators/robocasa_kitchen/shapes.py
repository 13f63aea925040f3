"""Primitive shapes, and MJCF models made of them in the form that RoboCasa's fixture and object classes read.

Lengths in metres, angles in radians. Every part becomes up to two geoms: one that is drawn (group 1, no
contacts) and one that touches (group 0, not drawn). Text is written with fixed digits, so that the same parts
give the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Triple = tuple[float, float, float]
Colour = tuple[float, float, float]
Numbers = Sequence[float] | np.ndarray

STEEL: Colour = (0.72, 0.74, 0.76)
DARK_STEEL: Colour = (0.45, 0.47, 0.50)
BLACK: Colour = (0.08, 0.08, 0.09)
CHARCOAL: Colour = (0.20, 0.20, 0.22)
WHITE: Colour = (0.93, 0.93, 0.91)


@dataclass(frozen=True)
class Part:
    """One primitive. ``size`` is MuJoCo's: half lengths of a box, radii of an ellipsoid, radius and half
    length of a cylinder or capsule."""

    shape: str  # "box", "ellipsoid", "cylinder", "capsule"
    size: tuple[float, ...]
    pos: Triple = (0.0, 0.0, 0.0)
    colour: Colour = WHITE
    euler: Triple = (0.0, 0.0, 0.0)
    name: str = ""  # of the geom that touches, where the library looks it up
    seen: bool = True
    solid: bool = True

    def scaled(self, factor: float) -> Part:
        """The same part, ``factor`` times as large about the model's origin."""
        (x, y, z) = self.pos
        return replace(self, size=tuple(factor * length for length in self.size),
                       pos=(factor * x, factor * y, factor * z))

    def raised(self, height: float) -> Part:
        """The same part, ``height`` metres further up."""
        (x, y, z) = self.pos
        return replace(self, pos=(x, y, z + height))

    def tinted(self, factor: float) -> Part:
        """The same part in a lighter (above 1) or darker colour."""
        (red, green, blue) = (min(1.0, factor * channel) for channel in self.colour)
        return replace(self, colour=(red, green, blue))

    def corners(self) -> np.ndarray:
        """(8, 3) corners of its oriented bounding box."""
        if self.shape in ("box", "ellipsoid"):
            half = np.array(self.size)
        else:
            length = self.size[1] + (self.size[0] if self.shape == "capsule" else 0.0)
            half = np.array([self.size[0], self.size[0], length])
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        return signs * half @ _rotation(self.euler).T + np.array(self.pos)


def box(size: Triple, pos: Triple, colour: Colour, **more: object) -> Part:
    """A box of full lengths ``size`` about ``pos``."""
    return Part("box", tuple(length / 2 for length in size), pos, colour, **more)  # type: ignore[arg-type]


def ring(radius: float, height: float, thickness: float, bottom: float, colour: Colour, sides: int = 10,
         flare: float = 0.0) -> list[Part]:
    """A wall of ``sides`` boxes around the z axis, from ``bottom`` up; ``flare`` leans it outwards (rad)."""
    width = 2 * (radius + thickness) * np.tan(np.pi / sides) * 1.04
    parts = []
    for angle in 2 * np.pi * np.arange(sides) / sides:
        pos = (radius * np.cos(angle), radius * np.sin(angle), bottom + height / 2)
        parts.append(box((thickness, width, height), pos, colour, euler=(0.0, flare, angle)))
    return parts


def bounds(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,) of all parts."""
    corners = np.concatenate([part.corners() for part in parts])
    return corners.min(axis=0), corners.max(axis=0)


def geoms(parts: Sequence[Part], prefix: str = "part", indent: int = 8) -> str:
    """The parts as <geom> elements; ``prefix`` tells the names of one body's parts from another's."""
    lines = []
    for number, part in enumerate(parts):
        shape = f'type="{part.shape}" size="{numbers(part.size)}" pos="{numbers(part.pos)}"'
        if any(part.euler):
            shape += f' quat="{numbers(_quaternion(part.euler))}"'
        if part.seen:
            lines.append(f'<geom {shape} rgba="{numbers(part.colour)} 1" group="1" contype="0" conaffinity="0" '
                         'mass="0"/>')
        if part.solid:
            name = part.name or f"{prefix}_{number}"
            lines.append(f'<geom name="{name}" {shape} group="0" density="300" condim="4" rgba="0.5 0 0 1"/>')
    return "\n".join(" " * indent + line for line in lines)


def region(name: str, low: Numbers, high: Numbers, indent: int = 8) -> str:
    """An invisible box between two corners that the library reads positions and sizes from."""
    centre, half = (np.asarray(high) + np.asarray(low)) / 2, (np.asarray(high) - np.asarray(low)) / 2
    return (" " * indent + f'<geom name="reg_{name}" type="box" pos="{numbers(centre)}" size="{numbers(half)}" '
            'group="1" contype="0" conaffinity="0" mass="0" rgba="0 1 0 0"/>')


def site(name: str, pos: Triple, size: Sequence[float], colour: Colour, indent: int = 8) -> str:
    """A cylindrical site, invisible until the library switches it on (water, flames)."""
    return (" " * indent + f'<site name="{name}" type="cylinder" pos="{numbers(pos)}" size="{numbers(size)}" '
            f'rgba="{numbers(colour)} 0"/>')


def body(name: str, parts: Sequence[Part], joints: Sequence[str], pos: Triple) -> str:
    """A child body that moves: a door, a knob or a lever. ``joints`` may hold sites too."""
    return "\n".join([f'        <body name="{name}" pos="{numbers(pos)}">', *joints, geoms(parts, name, 10),
                      "        </body>"])


def hinge(name: str, axis: str, span: tuple[float, float], pos: Triple = (0.0, 0.0, 0.0), damping: float = 0.1,
          friction: float = 0.05, indent: int = 10) -> str:
    """A hinge joint with limits ``span`` (rad)."""
    return (" " * indent + f'<joint name="{name}" type="hinge" axis="{axis}" pos="{numbers(pos)}" limited="true" '
            f'range="{numbers(span)}" damping="{damping}" frictionloss="{friction}" armature="0.001"/>')


def model(name: str, content: Sequence[str]) -> bytes:
    """A model file: the nesting of bodies is the one that the library's searches expect."""
    lines = [f'<mujoco model="{name}">', '  <compiler angle="radian"/>', "  <asset/>", "  <worldbody>", "    <body>",
             '      <body name="object">', *content, "      </body>", "    </body>", "  </worldbody>", "</mujoco>", ""]
    return "\n".join(lines).encode()


def numbers(values: Numbers) -> str:
    """Fixed digits, no negative zero."""
    return " ".join(f"{round(float(value), 5) + 0.0:g}" for value in values)


def _rotation(euler: Triple) -> np.ndarray:
    """(3, 3) of a rotation about x, then the fixed y, then the fixed z axis."""
    (a, b, c) = euler
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def _quaternion(euler: Triple) -> np.ndarray:
    """(4,) w first, of :func:`_rotation`."""
    (a, b, c) = (angle / 2 for angle in euler)
    x, y, z = ([np.cos(a), np.sin(a), 0, 0], [np.cos(b), 0, np.sin(b), 0], [np.cos(c), 0, 0, np.sin(c)])
    return _product(z, _product(y, x))


def _product(p: Numbers, q: Numbers) -> np.ndarray:
    (a, b, c, d), (e, f, g, h) = p, q
    return np.array([a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g,
                     a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e])
