"""Primitive stand-ins for the objects that the 24 tasks sample, in three instances per category.

Parts are written standing on z = 0; a model's origin is half its height above that, as in the official objects:
the library counts an object as inside something when its origin is. Round food is drawn as an ellipsoid and
touches as a box or cylinder, so that it lies still; vessels are rings of boxes, so that things can be put into
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ptrlib.simulators.robocasa_kitchen.shapes import (
    BLACK,
    CHARCOAL,
    STEEL,
    WHITE,
    Colour,
    Part,
    bounds,
    box,
    geoms,
    model,
    region,
    ring,
)

INSTANCES = ((1.0, 1.0), (0.92, 0.85), (1.08, 1.12))  # size and brightness
RED, ORANGE, YELLOW, GREEN = (0.80, 0.13, 0.12), (0.95, 0.55, 0.10), (0.95, 0.82, 0.20), (0.25, 0.55, 0.18)
BROWN, TAN, PURPLE, PINK, BLUE = (0.42, 0.26, 0.14), (0.82, 0.64, 0.40), (0.34, 0.14, 0.36), (0.90, 0.60, 0.58), (
    0.20, 0.38, 0.70)
CREAM: Colour = (0.93, 0.87, 0.72)
STEM = (0.32, 0.24, 0.12)


def ball(radius: float, colour: Colour, squash: float = 1.0, stem: bool = False) -> list[Part]:
    """Round fruit and the like."""
    height = radius * squash
    parts = [Part("ellipsoid", (radius, radius, height), (0, 0, height), colour, solid=False),
             Part("cylinder", (0.8 * radius, height), (0, 0, height), colour, seen=False)]
    if stem:
        parts.append(Part("cylinder", (0.003, 0.008), (0, 0, 2 * height + 0.004), STEM, solid=False))
    return parts


def long(length: float, radius: float, colour: Colour, tip: Colour | None = None, squash: float = 1.0) -> list[Part]:
    """Things that lie along x: vegetables, sausages, loaves."""
    height = radius * squash
    parts = [Part("ellipsoid", (length / 2, radius, height), (0, 0, height), colour, solid=False),
             box((0.84 * length, 1.7 * radius, 2 * height), (0, 0, height), colour, seen=False)]
    if tip is not None:
        parts.append(Part("ellipsoid", (0.016, 0.6 * radius, 0.6 * height), (length / 2, 0, height), tip, solid=False))
    return parts


def brick(size: tuple[float, float, float], colour: Colour, label: Colour | None = None) -> list[Part]:
    """Boxes, slices and bars, with a coloured band around boxes that stand."""
    parts = [box(size, (0, 0, size[2] / 2), colour)]
    if label is not None:
        parts.append(box((size[0] + 0.001, size[1] + 0.001, 0.4 * size[2]), (0, 0, 0.55 * size[2]), label, solid=False))
    return parts


def can(radius: float, height: float, colour: Colour, lid: Colour = STEEL) -> list[Part]:
    """Cans, jars and pots of yogurt."""
    return [Part("cylinder", (radius, height / 2), (0, 0, height / 2), colour),
            Part("cylinder", (0.92 * radius, 0.002), (0, 0, height), lid, solid=False)]


def bottle(radius: float, height: float, colour: Colour, cap: Colour = WHITE) -> list[Part]:
    """A body, a neck and a cap."""
    body, neck = 0.68 * height, 0.24 * height
    return [Part("cylinder", (radius, body / 2), (0, 0, body / 2), colour),
            Part("ellipsoid", (radius, radius, 0.09 * height), (0, 0, body), colour, solid=False),
            Part("cylinder", (0.42 * radius, neck / 2), (0, 0, body + neck / 2), colour),
            Part("cylinder", (0.45 * radius, 0.04 * height), (0, 0, 0.96 * height), cap)]


def disc(radius: float, height: float, colour: Colour, top: Colour | None = None) -> list[Part]:
    """Flat round food."""
    parts = [Part("cylinder", (radius, height / 2), (0, 0, height / 2), colour)]
    if top is not None:
        parts.append(Part("ellipsoid", (0.85 * radius, 0.85 * radius, 0.25 * height), (0, 0, height), top, solid=False))
    return parts


def plate(radius: float, colour: Colour) -> list[Part]:
    """A disc with a low, leaning rim."""
    return [Part("cylinder", (0.82 * radius, 0.004), (0, 0, 0.004), colour),
            *ring(0.88 * radius, 0.018, 0.006, 0.002, colour, sides=14, flare=0.9)]


def bowl(radius: float, height: float, colour: Colour) -> list[Part]:
    """A disc with a high, leaning wall."""
    return [Part("cylinder", (0.66 * radius, 0.004), (0, 0, 0.004), colour),
            *ring(0.80 * radius, height, 0.006, 0.0, colour, sides=12, flare=0.42)]


def vessel(radius: float, height: float, colour: Colour, handle: list[Part], sides: int = 12) -> list[Part]:
    """A disc with a straight wall, and what it is held by."""
    return [Part("cylinder", (radius - 0.002, 0.004), (0, 0, 0.004), colour),
            *ring(radius - 0.003, height, 0.006, 0.0, colour, sides=sides), *handle]


def mug(colour: Colour) -> list[Part]:
    """A mug with its handle at +x, narrow enough for the hand to span it from the front under a coffee machine."""
    grip = [box((0.026, 0.010, 0.010), (0.045, 0, height), colour) for height in (0.024, 0.074)]
    grip.append(box((0.010, 0.010, 0.060), (0.058, 0, 0.049), colour))
    return vessel(0.033, 0.092, colour, grip, sides=10)


def pan(radius: float, height: float, colour: Colour, handle: float) -> list[Part]:
    """A pan or pot with one handle towards -y."""
    middle = -radius - handle / 2
    return vessel(radius, height, colour, [box((0.022, handle, 0.014), (0, middle, 0.75 * height), BLACK)], sides=14)


def pot(radius: float, height: float, colour: Colour) -> list[Part]:
    """A pot with two ears."""
    ears = [box((0.05, 0.025, 0.010), (0, side * (radius + 0.012), 0.85 * height), BLACK) for side in (-1, 1)]
    return vessel(radius, height, colour, ears, sides=14)


def kettle(colour: Colour) -> list[Part]:
    """A closed kettle with a bow above it."""
    bow = [box((0.010, 0.012, 0.06), (side * 0.055, 0, 0.150), BLACK) for side in (-1, 1)]
    return [Part("cylinder", (0.080, 0.060), (0, 0, 0.060), colour),
            Part("ellipsoid", (0.080, 0.080, 0.030), (0, 0, 0.120), colour, solid=False),
            Part("capsule", (0.009, 0.055), (0, 0, 0.180), BLACK, euler=(0, np.pi / 2, 0)),
            Part("capsule", (0.010, 0.025), (0, -0.095, 0.100), colour, euler=(0.8, 0, 0)), *bow]


def tool(length: float, colour: Colour, head: tuple[float, float, float]) -> list[Part]:
    """A flat handle along x with a head at its end."""
    return [box((length, 0.014, 0.010), (0, 0, 0.006), colour),
            box(head, (length / 2, 0, head[2] / 2), colour)]


CATEGORIES: dict[str, Callable[[], list[Part]]] = {
    # fruit and vegetables
    "apple": lambda: ball(0.034, RED, 0.95, stem=True),
    "avocado": lambda: long(0.095, 0.030, (0.22, 0.32, 0.12)),
    "banana": lambda: long(0.16, 0.020, YELLOW, STEM),
    "bell_pepper": lambda: ball(0.034, RED, 1.15, stem=True),
    "broccoli": lambda: [Part("cylinder", (0.014, 0.025), (0, 0, 0.025), (0.60, 0.72, 0.40)),
                         Part("ellipsoid", (0.036, 0.036, 0.026), (0, 0, 0.062), GREEN, solid=False),
                         Part("cylinder", (0.030, 0.018), (0, 0, 0.062), GREEN, seen=False)],
    "carrot": lambda: long(0.15, 0.017, ORANGE, GREEN),
    "corn": lambda: long(0.16, 0.024, YELLOW, GREEN),
    "cucumber": lambda: long(0.18, 0.022, (0.18, 0.42, 0.16)),
    "eggplant": lambda: long(0.15, 0.032, PURPLE, GREEN),
    "garlic": lambda: ball(0.024, WHITE, 0.9, stem=True),
    "kiwi": lambda: long(0.062, 0.025, BROWN),
    "lemon": lambda: long(0.075, 0.027, YELLOW),
    "lime": lambda: long(0.064, 0.025, (0.45, 0.70, 0.15)),
    "mango": lambda: long(0.105, 0.034, (0.93, 0.60, 0.20)),
    "mushroom": lambda: [Part("cylinder", (0.011, 0.018), (0, 0, 0.018), CREAM),
                         Part("ellipsoid", (0.027, 0.027, 0.018), (0, 0, 0.042), TAN, solid=False),
                         Part("cylinder", (0.023, 0.012), (0, 0, 0.042), TAN, seen=False)],
    "onion": lambda: ball(0.034, (0.78, 0.50, 0.24), 0.95, stem=True),
    "orange": lambda: ball(0.035, ORANGE),
    "peach": lambda: ball(0.032, (0.95, 0.62, 0.42), 0.95, stem=True),
    "pear": lambda: [*ball(0.032, (0.72, 0.76, 0.25)),
                     Part("ellipsoid", (0.020, 0.020, 0.028), (0, 0, 0.068), (0.72, 0.76, 0.25), solid=False)],
    "potato": lambda: long(0.10, 0.031, (0.70, 0.55, 0.32)),
    "squash": lambda: long(0.17, 0.033, (0.90, 0.72, 0.25), GREEN),
    "sweet_potato": lambda: long(0.14, 0.030, (0.70, 0.34, 0.20)),
    "tangerine": lambda: ball(0.030, (0.96, 0.48, 0.08), 0.85),
    "tomato": lambda: ball(0.032, (0.86, 0.16, 0.10), 0.9, stem=True),
    # other food
    "bagel": lambda: disc(0.034, 0.028, TAN, (0.62, 0.42, 0.20)),
    "baguette": lambda: long(0.26, 0.030, TAN),
    "bread": lambda: brick((0.11, 0.065, 0.060), TAN, None),
    "cake": lambda: brick((0.10, 0.060, 0.055), CREAM, PINK),
    "cheese": lambda: brick((0.085, 0.055, 0.040), YELLOW),
    "chocolate": lambda: brick((0.14, 0.060, 0.012), BROWN),
    "croissant": lambda: long(0.13, 0.030, (0.80, 0.52, 0.22)),
    "cupcake": lambda: [Part("cylinder", (0.026, 0.020), (0, 0, 0.020), BROWN),
                        Part("ellipsoid", (0.032, 0.032, 0.022), (0, 0, 0.044), PINK, solid=False)],
    "donut": lambda: disc(0.034, 0.026, TAN, PINK),
    "egg": lambda: ball(0.023, CREAM, 1.2),
    "fish": lambda: long(0.18, 0.030, (0.55, 0.62, 0.70), (0.45, 0.50, 0.58), squash=0.6),
    "hot_dog": lambda: long(0.15, 0.026, TAN, RED),
    "milk": lambda: brick((0.062, 0.062, 0.17), WHITE, BLUE),
    "steak": lambda: long(0.13, 0.036, (0.55, 0.20, 0.16), squash=0.4),
    "waffle": lambda: brick((0.10, 0.064, 0.020), (0.85, 0.62, 0.28)),
    "yogurt": lambda: can(0.032, 0.075, WHITE, PINK),
    # packed food and drinks
    "bagged_food": lambda: brick((0.13, 0.055, 0.17), (0.75, 0.25, 0.20), YELLOW),
    "bar": lambda: brick((0.12, 0.035, 0.018), BLUE),
    "beer": lambda: bottle(0.030, 0.21, (0.40, 0.24, 0.08), STEEL),
    "bottled_drink": lambda: bottle(0.031, 0.20, (0.85, 0.35, 0.15)),
    "bottled_water": lambda: bottle(0.031, 0.21, (0.70, 0.84, 0.95), BLUE),
    "boxed_drink": lambda: brick((0.055, 0.045, 0.12), GREEN, ORANGE),
    "boxed_food": lambda: brick((0.11, 0.045, 0.16), (0.90, 0.70, 0.25), RED),
    "can": lambda: can(0.031, 0.12, RED),
    "canned_food": lambda: can(0.034, 0.10, (0.85, 0.75, 0.30)),
    "cereal": lambda: brick((0.15, 0.055, 0.22), (0.25, 0.45, 0.75), YELLOW),
    "chips": lambda: brick((0.14, 0.060, 0.18), YELLOW, RED),
    "coffee_cup": lambda: [Part("cylinder", (0.032, 0.055), (0, 0, 0.055), CREAM),
                           Part("cylinder", (0.034, 0.008), (0, 0, 0.116), BROWN)],
    "condiment_bottle": lambda: bottle(0.027, 0.17, YELLOW, RED),
    "jam": lambda: can(0.034, 0.090, (0.55, 0.08, 0.16), WHITE),
    "ketchup": lambda: bottle(0.029, 0.18, RED),
    "liquor": lambda: bottle(0.034, 0.24, (0.62, 0.38, 0.12), BLACK),
    "water_bottle": lambda: bottle(0.034, 0.22, BLUE, CHARCOAL),
    "wine": lambda: bottle(0.035, 0.27, (0.12, 0.22, 0.12), PURPLE),
    # household things
    "bar_soap": lambda: brick((0.085, 0.052, 0.026), PINK),
    "candle": lambda: can(0.032, 0.085, CREAM, ORANGE),
    "cutting_board": lambda: brick((0.26, 0.17, 0.016), TAN),
    "rolling_pin": lambda: [Part("capsule", (0.024, 0.085), (0, 0, 0.024), TAN, euler=(0, np.pi / 2, 0), solid=False),
                            box((0.19, 0.042, 0.048), (0, 0, 0.024), TAN, seen=False)],
    "shaker": lambda: can(0.022, 0.085, WHITE, STEEL),
    "soap_dispenser": lambda: bottle(0.032, 0.17, (0.60, 0.80, 0.75)),
    "spatula": lambda: tool(0.22, CHARCOAL, (0.07, 0.055, 0.008)),
    "sponge": lambda: brick((0.10, 0.062, 0.032), YELLOW, GREEN),
    "spoon": lambda: tool(0.14, STEEL, (0.040, 0.030, 0.010)),
    "fork": lambda: tool(0.15, STEEL, (0.040, 0.024, 0.006)),
    "spray": lambda: [*can(0.034, 0.16, BLUE, WHITE), box((0.07, 0.025, 0.035), (0.012, 0, 0.185), WHITE),
                      Part("cylinder", (0.012, 0.012), (0, 0, 0.165), WHITE)],
    # vessels
    "bowl": lambda: bowl(0.075, 0.055, BLUE),
    "cup": lambda: vessel(0.037, 0.095, (0.55, 0.75, 0.70), [], sides=10),
    "jug": lambda: [*can(0.050, 0.17, WHITE, CREAM), box((0.012, 0.014, 0.11), (0.078, 0, 0.09), WHITE),
                    *(box((0.035, 0.014, 0.012), (0.062, 0, height), WHITE) for height in (0.04, 0.14))],
    "kettle_non_electric": lambda: kettle(STEEL),
    "mug": lambda: mug((0.80, 0.30, 0.20)),
    "pan": lambda: pan(0.115, 0.045, CHARCOAL, 0.15),
    "plate": lambda: plate(0.105, WHITE),
    "pot": lambda: pot(0.095, 0.10, STEEL),
    "saucepan": lambda: pan(0.085, 0.085, STEEL, 0.14),
    "tray": lambda: brick((0.28, 0.20, 0.014), STEEL),
}


def files() -> dict[str, bytes]:
    """Path below the asset root -> content: ``objects/minimal/CATEGORY/CATEGORY_N/model.xml``."""
    return {f"objects/minimal/{category}/{category}_{number}/model.xml": grocery(category, make(), *instance)
            for category, make in CATEGORIES.items() for number, instance in enumerate(INSTANCES)}


def grocery(category: str, parts: Sequence[Part], size: float, brightness: float) -> bytes:
    """One instance as a model file, its origin at half its height."""
    parts = [part.scaled(size).tinted(brightness) for part in parts]
    low, high = bounds(parts)
    middle = float(low[2] + high[2]) / 2
    parts = [part.raised(-middle) for part in parts]
    low, high = bounds(parts)
    centre = (low + high) / 2
    half = np.maximum((high - low) / 2, 0.003)
    return model(category, [geoms(parts), region("bbox", centre - half, centre + half)])
