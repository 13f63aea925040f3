"""Tabletop's camera: anti-aliased signed-distance shapes, painted for the whole batch at once.

A shape covers a pixel by ``clamp(1/2 - distance, 0, 1)``, so that it can be located far more finely than a
pixel. Small shapes are painted in a window around their centre only; what does not move is painted once.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ptrlib.simulators.tabletop.dynamics import HANDLE, Tables
from ptrlib.simulators.tabletop.robots import ROBOTS
from ptrlib.simulators.tabletop.scenes import (
    HANDLE_RADIUS,
    RAIL_LENGTH,
    SPILLS,
    SPOT_RADIUS,
    SPOTS,
    THINGS,
    ZONE_RADIUS,
)

COLOURS = {
    "table": (196, 190, 178), "red": (215, 40, 40), "green": (40, 150, 55), "blue": (35, 75, 215),
    "yellow": (246, 214, 70), "purple": (178, 110, 205), "orange": (240, 130, 20), "cyan": (40, 185, 205),
    "brown": (110, 70, 35), "teal": (15, 110, 100), "rail": (150, 145, 140), "white": (255, 255, 255),
    "black": (20, 20, 20), "handle": (225, 40, 150), "arm": (140, 140, 140), "hand": (45, 45, 60)}
SMALL, LARGE = 9 / 32, 16 / 32  # sides of the windows, as shares of the image's
ARM_RADIUS = 0.035
ARM_OPACITY = 0.6  # an arm over an object hides it in part
PALM_RADIUS, FINGER_RADIUS = 0.035, 0.04
FINGERS_CLOSED, FINGERS_TRAVEL = 0.02, 0.10  # distance of a finger from the palm's centre: closed, and more if open


class Camera:
    """Paints the tables of ``tables`` as uint8 images (n, size, size, 3), upright RGB."""

    def __init__(self, tables: Tables, size: int) -> None:
        self.tables, self.size, device = tables, size, tables.device
        robots = [ROBOTS[index] for index in tables.robots]
        self.scale = tables._tensor(np.array([size / 2 / robot.view_extent for robot in robots]))
        self.cos = tables._tensor(np.array([math.cos(robot.view_rotation) for robot in robots]))
        self.sin = tables._tensor(np.array([math.sin(robot.view_rotation) for robot in robots]))
        self.centre_x, self.centre_y = tables._tensor(np.array([robot.view_centre for robot in robots])).unbind(1)
        self.links = max(max(len(robot.links), 1) for robot in robots)
        # half a level is added once for all: the last step cuts what follows the point
        self.colours = {name: torch.tensor(rgb, dtype=torch.float32, device=device) + 0.5
                        for name, rgb in COLOURS.items()}
        self.small, self.large = round(SMALL * size), round(LARGE * size)
        self._things = self._colours_of([task.table.movable for task in tables.tasks], THINGS)
        self._zones = self._colours_of([task.table.zones for task in tables.tasks], tables.zones_x.shape[1])
        self._spills = self._colours_of([task.table.spills for task in tables.tasks], SPILLS)
        self._slider = any(task.table.slider for task in tables.tasks)
        self._most_things = max(len(task.table.movable) for task in tables.tasks)
        self._most_zones = max(len(task.table.zones) for task in tables.tasks)
        self._most_spills = max(len(task.table.spills) for task in tables.tasks)
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Paint what does not move: zones and rail. To be called after the tables were reset."""
        tables = self.tables
        self.everyone = torch.arange(len(tables), device=tables.device)
        canvas = self.colours["table"][None, :, None].repeat(len(tables), 1, self.size**2)
        for zone in range(self._most_zones):
            self._disc(canvas, self.everyone, tables.zones_x[:, zone], tables.zones_y[:, zone], ZONE_RADIUS,
                       self._zones[:, zone])
        if self._slider:
            half = RAIL_LENGTH / 2
            self._box(canvas, self.everyone, tables.rail_x + half * tables.rail_cos,
                      tables.rail_y + half * tables.rail_sin, tables.rail_cos, tables.rail_sin, (half, 0.0), 0.025,
                      self.colours["rail"].expand(len(tables), 3), self.large)
            for place, colour in ((0.0, "black"), (RAIL_LENGTH, "white")):
                self._disc(canvas, self.everyone, tables.rail_x + place * tables.rail_cos,
                           tables.rail_y + place * tables.rail_sin, 0.05, self.colours[colour].expand(len(tables), 3))
        self.background = canvas

    @torch.no_grad()
    def images(self, rows: Tensor | None = None) -> Tensor:
        """What the cameras of ``rows`` (n,) see now; of all by default."""
        tables = self.tables
        chosen = self.everyone if rows is None else rows
        canvas = self.background.clone() if rows is None else self.background[rows]
        for spill in range(self._most_spills):
            self._spill(canvas, chosen, spill)
        if self._slider:
            self._disc(canvas, chosen, tables.things_x[chosen, HANDLE], tables.things_y[chosen, HANDLE], HANDLE_RADIUS,
                       self.colours["handle"].expand(len(chosen), 3))
        for thing in range(self._most_things):
            straight = tables.straight[chosen, thing][:, None, None]
            self._box(canvas, chosen, tables.things_x[chosen, thing], tables.things_y[chosen, thing],
                      tables.cos[chosen, thing], tables.sin[chosen, thing], (straight, straight),
                      tables.corner[chosen, thing][:, None, None], self._things[chosen, thing], self.small)
        self._robot(canvas, chosen)
        self._hand(canvas, chosen)
        pixels = canvas.to(torch.uint8)
        return pixels.transpose(1, 2).reshape(len(chosen), self.size, self.size, 3)

    def _project(self, rows: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel column and row, (n,) or (n, m), of table positions."""
        shape = (-1, *[1] * (x.dim() - 1))
        cos, sin, scale = (table[rows].view(shape) for table in (self.cos, self.sin, self.scale))
        x, y = x - self.centre_x[rows].view(shape), y - self.centre_y[rows].view(shape)
        half = self.size / 2
        return half + scale * (x * cos - y * sin), half - scale * (x * sin + y * cos)

    def _window(self, column: Tensor, row: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of windows centred at (n,) places: flat indices (n, side^2), and the pixels' distances to the
        centre along columns (n, 1, side) and rows (n, side, 1)."""
        steps = torch.arange(side, device=column.device)
        left = (column - side / 2).round().clamp(0, self.size - side).long()[:, None] + steps
        top = (row - side / 2).round().clamp(0, self.size - side).long()[:, None] + steps
        index = (top[:, :, None] * self.size + left[:, None, :]).flatten(1)
        return index, (left + 0.5 - column[:, None])[:, None, :], (top + 0.5 - row[:, None])[:, :, None]

    def _blend(self, canvas: Tensor, index: Tensor, distance: Tensor, colour: Tensor) -> None:
        """Paint ``colour`` (n, 3) where ``distance`` (n, side, side), in pixels, is negative."""
        cover = (0.5 - distance).clamp(0, 1).flatten(1)[:, None]
        index = index[:, None].expand(-1, 3, -1)
        under = canvas.gather(2, index)
        canvas.scatter_(2, index, under + (colour[:, :, None] - under) * cover)

    def _disc(self, canvas: Tensor, rows: Tensor, x: Tensor, y: Tensor, radius: float, colour: Tensor) -> None:
        column, row = self._project(rows, x, y)
        index, across, down = self._window(column, row, self.small)
        distance = (across * across + down * down).sqrt() - radius * self.scale[rows][:, None, None]
        self._blend(canvas, index, distance, colour)

    def _box(self, canvas: Tensor, rows: Tensor, x: Tensor, y: Tensor, cos: Tensor, sin: Tensor,
             straight: tuple[Tensor | float, Tensor | float], corner: Tensor | float, colour: Tensor,
             side: int) -> None:
        """A rounded box: a core of half sides ``straight``, turned by the angle of ``cos`` and ``sin``, and
        ``corner`` around it."""
        column, row = self._project(rows, x, y)
        index, across, down = self._window(column, row, side)
        scale = self.scale[rows][:, None, None]
        view_cos, view_sin = self.cos[rows], self.sin[rows]
        seen_cos = (cos * view_cos - sin * view_sin)[:, None, None]
        seen_sin = -(sin * view_cos + cos * view_sin)[:, None, None]
        u = (across * seen_cos + down * seen_sin).abs() - straight[0] * scale
        v = (down * seen_cos - across * seen_sin).abs() - straight[1] * scale
        outside_u, outside_v = u.clamp(min=0), v.clamp(min=0)
        distance = ((outside_u * outside_u + outside_v * outside_v).sqrt() + torch.maximum(u, v).clamp(max=0)
                    - corner * scale)
        self._blend(canvas, index, distance, colour)

    def _spill(self, canvas: Tensor, rows: Tensor, spill: int) -> None:
        """The dirty spots of one spill."""
        tables, spots = self.tables, slice(spill * SPOTS, (spill + 1) * SPOTS)
        columns, lines = self._project(rows, tables.spots_x[rows, spots], tables.spots_y[rows, spots])
        index, across, down = self._window((columns[:, 0] + columns[:, -1]) / 2, (lines[:, 0] + lines[:, -1]) / 2,
                                           self.small)
        centre_column, centre_line = (columns[:, 0] + columns[:, -1]) / 2, (lines[:, 0] + lines[:, -1]) / 2
        nearest = torch.full_like(across * down, 1e6)
        for spot in range(SPOTS):
            x = across - (columns[:, spot] - centre_column)[:, None, None]
            y = down - (lines[:, spot] - centre_line)[:, None, None]
            gone = torch.where(tables.dirty[rows, spill * SPOTS + spot], 0.0, 1e6)[:, None, None]
            nearest = torch.minimum(nearest, x * x + y * y + gone)
        self._blend(canvas, index, nearest.sqrt() - SPOT_RADIUS * self.scale[rows][:, None, None],
                    self._spills[rows, spill])

    def _robot(self, canvas: Tensor, rows: Tensor) -> None:
        """The arms' links, or the gantry's rod, over the whole image."""
        pixels = torch.arange(self.size, device=canvas.device) + 0.5
        nearest: Tensor | None = None
        for (x0, y0), (x1, y1) in self._segments(rows):
            start_column, start_row = self._project(rows, x0, y0)
            end_column, end_row = self._project(rows, x1, y1)
            column, row = end_column - start_column, end_row - start_row
            length = (column * column + row * row).sqrt()
            column, row = column / length.clamp(min=1e-3), row / length.clamp(min=1e-3)
            from_column = pixels - ((start_column + end_column) / 2)[:, None]
            from_row = pixels - ((start_row + end_row) / 2)[:, None]
            along = (from_column * column[:, None])[:, None, :] + (from_row * row[:, None])[:, :, None]
            across = (from_row * column[:, None])[:, :, None] - (from_column * row[:, None])[:, None, :]
            half = torch.where(length < 1e-3, -1e6, length / 2)  # what has no length is far away
            along = along.abs_().sub_(half[:, None, None])  # past the end: a link is a rectangle
            distance = torch.maximum(across.abs_(), along, out=across)
            nearest = distance if nearest is None else torch.minimum(nearest, distance, out=nearest)
        assert nearest is not None
        cover = nearest.neg_().add_((0.5 + ARM_RADIUS * self.scale[rows])[:, None, None]).clamp_(0, 1).mul_(ARM_OPACITY)
        cover = cover.flatten(1)[:, None]
        canvas.mul_(1 - cover).add_(cover.mul_(self.colours["arm"][0]))

    def _segments(self, rows: Tensor) -> list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
        """Ends of the rod or the links; what a robot lacks has no length."""
        tables = self.tables
        hand = tables.hand_x[rows], tables.hand_y[rows]
        rod = hand[0], torch.full_like(hand[1], 2.0)
        if not tables.kinematics.arms:
            return [(rod, hand)]
        x, y = tables.kinematics.links(tables.motors)
        is_arm = tables.kinematics.is_arm[rows]
        joints = [(torch.where(is_arm, x[joint][rows], rod[0] if joint == 0 else hand[0]),
                   torch.where(is_arm, y[joint][rows], rod[1] if joint == 0 else hand[1]))
                  for joint in range(self.links + 1)]
        return list(zip(joints[:-1], joints[1:], strict=True))

    def _hand(self, canvas: Tensor, rows: Tensor) -> None:
        """The palm and two fingers, apart while open, together while closed."""
        tables, motors = self.tables, self.tables.motors[rows].double()
        column, row = self._project(rows, tables.hand_x[rows], tables.hand_y[rows])
        index, across, down = self._window(column, row, self.small)
        scale = self.scale[rows][:, None, None]
        # fingers lie across the last link; the gantry's along x
        angle = torch.where(tables.kinematics.is_arm[rows], motors.sum(1) + math.pi / 2, 0.0)
        cos, sin = angle.cos().float(), angle.sin().float()
        view_cos, view_sin = self.cos[rows], self.sin[rows]
        apart = (FINGERS_CLOSED + FINGERS_TRAVEL * tables.opening[rows]) * self.scale[rows]
        finger_column = (apart * (cos * view_cos - sin * view_sin))[:, None, None]
        finger_row = (-apart * (sin * view_cos + cos * view_sin))[:, None, None]
        distance = (across * across + down * down).sqrt() - PALM_RADIUS * scale
        for side in (-1, 1):
            x, y = across - side * finger_column, down - side * finger_row
            distance = torch.minimum(distance, (x * x + y * y).sqrt() - FINGER_RADIUS * scale)
        self._blend(canvas, index, distance, self.colours["hand"].expand(len(rows), 3))

    def _colours_of(self, names: list[tuple[str, ...]], count: int) -> Tensor:
        """(B, count, 3); what a table lacks is out of view and gets the table's colour."""
        padded = [[COLOURS[name] for name in row] + [COLOURS["table"]] * (count - len(row)) for row in names]
        return torch.tensor(padded, dtype=torch.float32, device=self.tables.device) + 0.5
