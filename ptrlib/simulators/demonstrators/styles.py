"""The five ways a demonstrator moves; the style's name is recorded as the episode's operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Style:
    """How a demonstration deviates from the direct one. All of it is corrected in closed loop."""

    name: str
    speed: float = 1.0  # largest action
    pauses: int = 0  # stops, with a small step back, before each grasp and each placing
    jitter: float = 0.0  # standard deviation of the Ornstein-Uhlenbeck noise on the commanded motion
    misses: bool = False  # the first grasp closes a few centimetres beside the object


STYLES = {
    style.name: style
    for style in (
        Style("precise"),
        Style("slow", speed=0.5),
        Style("hesitant", speed=0.8, pauses=2),
        Style("noisy", speed=0.9, jitter=0.25),
        Style("recovery", speed=0.9, misses=True),
    )
}


def style_named(name: str) -> Style:
    if name not in STYLES:
        raise ValueError(f"there is no demonstration style {name!r}; choose from {', '.join(STYLES)}")
    return STYLES[name]


class Jitter:
    """Ornstein-Uhlenbeck noise (6,) added to position and rotation actions; rotation gets a third of it."""

    REVERSION = 0.15  # per control step: correlated over about seven steps
    STEADINESS = 0.5

    def __init__(self, scale: float, generator: np.random.Generator) -> None:
        self.scale = scale * np.array([1, 1, 1, 1 / 3, 1 / 3, 1 / 3])
        self.generator = generator
        self.value = np.zeros(6)

    def step(self, steady: bool = False) -> np.ndarray:
        """The next noise; less of it when the hand has to be ``steady``."""
        spread = np.sqrt(2 * self.REVERSION - self.REVERSION**2)
        noise = self.generator.standard_normal(6)
        self.value = (1 - self.REVERSION) * self.value + spread * self.scale * noise
        return self.value * (self.STEADINESS if steady else 1.0)
