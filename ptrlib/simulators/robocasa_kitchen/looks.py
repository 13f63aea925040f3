"""Five styles: flat colours, door panels and handles, in RoboCasa's own registry and style formats.

Panels and handles are the library's procedural ones; a texture is one flat colour.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import yaml

from ptrlib.simulators.robocasa_kitchen.shapes import Colour

TEXTURE_SIZE = 16  # pixels


@dataclass(frozen=True)
class Look:
    """Colours of one style, and the shapes of its fronts."""

    name: str
    cabinet: Colour
    worktop: Colour
    base: Colour
    wall: Colour
    floor: Colour
    handle: Colour
    panel: str  # "slab", "shaker", "raised"
    handle_shape: str  # "bar", "boxed"


LOOKS = (
    Look("white", (0.90, 0.90, 0.88), (0.42, 0.40, 0.38), (0.80, 0.80, 0.78), (0.78, 0.82, 0.84), (0.55, 0.42, 0.30),
         (0.30, 0.31, 0.33), "slab", "bar"),
    Look("oak", (0.70, 0.52, 0.33), (0.88, 0.87, 0.84), (0.60, 0.44, 0.28), (0.90, 0.86, 0.78), (0.52, 0.52, 0.50),
         (0.12, 0.12, 0.12), "shaker", "boxed"),
    Look("navy", (0.16, 0.23, 0.36), (0.85, 0.84, 0.82), (0.14, 0.20, 0.32), (0.84, 0.84, 0.80), (0.66, 0.54, 0.40),
         (0.78, 0.64, 0.34), "slab", "bar"),
    Look("sage", (0.52, 0.60, 0.50), (0.62, 0.46, 0.30), (0.46, 0.54, 0.44), (0.93, 0.91, 0.86), (0.40, 0.34, 0.30),
         (0.72, 0.73, 0.75), "raised", "boxed"),
    Look("graphite", (0.30, 0.31, 0.33), (0.70, 0.68, 0.66), (0.26, 0.27, 0.29), (0.70, 0.66, 0.62), (0.74, 0.72, 0.68),
         (0.80, 0.81, 0.82), "slab", "bar"),
)
APPLIANCES = {"sink": "sinks/basin", "stove": "stoves/range", "microwave": "microwaves/plain",
              "coffee_machine": "coffee_machines/plain"}


def files() -> dict[str, bytes]:
    """Path below the asset root -> content; look k has the style number k, counted from 1."""
    found = {"textures/ceramic.png": flat_texture((0.85, 0.85, 0.85)),  # the library's panels name it
             "textures/flat/light_gray.png": flat_texture((0.75, 0.75, 0.75))}
    for number, look in enumerate(LOOKS, start=1):
        for part in ("cabinet", "worktop", "base", "wall", "floor", "handle"):
            found[_texture(look, part)] = flat_texture(getattr(look, part))
        style = dict.fromkeys(("cabinet", "counter", "wall", "floor"), look.name)
        found[f"scenes/kitchen_styles/test/style{number:03d}.yaml"] = _yaml(style)
    for kind, entries in _registries().items():
        found[f"fixtures/fixture_registry/{kind}.yaml"] = _yaml({"default": entries[LOOKS[0].name], **entries})
    for kind, folder in APPLIANCES.items():
        found[f"fixtures/fixture_registry/{kind}.yaml"] = _yaml({"default": {"xml": f"fixtures/{folder}"}})
    return found


def _registries() -> dict[str, dict[str, dict[str, Any]]]:
    """Of the fixtures that the library builds itself: kind -> look -> arguments of its class."""
    surface = {"texrepeat": "1 1", "texuniform": "true", "shininess": "0.05", "reflectance": "0"}
    return {
        "cabinet": {look.name: {"texture": _texture(look, "cabinet"), "panel_type": look.panel,
                                "handle_type": look.handle_shape,
                                "handle_config": {"texture": _texture(look, "handle")}} for look in LOOKS},
        "counter": {look.name: {"top_texture": _texture(look, "worktop"), "base_texture": _texture(look, "base"),
                                "overhang": 0.03} for look in LOOKS},
        "wall": {look.name: {"texture": _texture(look, "wall"), "mat_attrib": surface} for look in LOOKS},
        "floor": {look.name: {"texture": _texture(look, "floor"), "mat_attrib": surface} for look in LOOKS},
    }


def _texture(look: Look, part: str) -> str:
    return f"textures/{look.name}_{part}.png"


def _yaml(content: dict[str, Any]) -> bytes:
    class Plain(yaml.SafeDumper):
        """Without anchors, which would tie two styles to one dict."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(content, Dumper=Plain, sort_keys=False).encode()


def flat_texture(colour: Colour) -> bytes:
    """A PNG of one colour, with stored (not compressed) data: the same bytes whatever the zlib."""
    pixel = bytes(round(255 * channel) for channel in colour)
    rows = (b"\0" + pixel * TEXTURE_SIZE) * TEXTURE_SIZE
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF) + rows + struct.pack(
        ">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", TEXTURE_SIZE, TEXTURE_SIZE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in (
        (b"IHDR", header), (b"IDAT", stored), (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
