"""Tabletop's camera: anti-aliased signed-distance shapes, painted for the whole batch at once.

Each robot's camera rides above its hand, with a rotation, a height and an offset of its own. A shape covers a
pixel by ``clamp(1/2 - distance, 0, 1)``, so that it can be located far more finely than a pixel. Small shapes
are painted in a window around their centre only, and only for the tables that have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    ZONES,
)

COLOURS = {
    "table": (196, 190, 178), "red": (215, 40, 40), "green": (40, 150, 55), "blue": (35, 75, 215),
    "yellow": (246, 214, 70), "purple": (178, 110, 205), "orange": (240, 130, 20), "cyan": (40, 185, 205),
    "brown": (110, 70, 35), "teal": (15, 110, 100), "rail": (150, 145, 140), "white": (255, 255, 255),
    "black": (20, 20, 20), "handle": (225, 40, 150), "arm": (140, 140, 140), "hand": (45, 45, 60)}
SMALL, LARGE = 8 / 32, 12 / 32  # sides of the windows, as shares of the image's
RAIL_RADIUS, MARK_RADIUS = 0.025, 0.05
ARM_RADIUS = 0.035
ARM_OPACITY = 0.6  # an arm over an object hides it in part
PALM_RADIUS, FINGER_RADIUS = 0.035, 0.04
FINGERS_CLOSED, FINGERS_TRAVEL = 0.02, 0.10  # distance of a finger from the palm's centre: closed, and more if open
_NOT_THERE = 1e6  # pixels
# The order of the points that every camera projects at once: hand, zones, things and the handle, spots, the rail.
_HAND = 0
_ZONES = _HAND + 1
_THINGS = _ZONES + ZONES
_SPOTS = _THINGS + THINGS + 1
_RAIL_START = _SPOTS + SPILLS * SPOTS
_RAIL_MIDDLE, _RAIL_END = _RAIL_START + 1, _RAIL_START + 2


@dataclass(frozen=True)
class _Chosen:
    """Tables to paint: their rows in the batch, which images of the canvas are theirs, and where their cameras see
    what lies on them, in pixels."""

    rows: Tensor  # (n,)
    places: Tensor  # (n,)
    columns: Tensor  # (n, points) in the order of _points
    lines: Tensor  # (n, points)

    def where(self, present: Tensor) -> _Chosen:
        """Those of them for which ``present`` (B,) holds."""
        kept = present[self.rows].nonzero()[:, 0]
        return _Chosen(self.rows[kept], self.places[kept], self.columns[kept], self.lines[kept])

    def at(self, point: int) -> tuple[Tensor, Tensor]:
        """Column and line (n,) of a point."""
        return self.columns[:, point], self.lines[:, point]


class Camera:
    """Paints the tables of ``tables`` as uint8 images (n, size, size, 3), upright RGB."""

    def __init__(self, tables: Tables, size: int) -> None:
        self.tables, self.size, device = tables, size, tables.device
        robots = [ROBOTS[index] for index in tables.robots]
        self.scale = tables._tensor(np.array([size / 2 / robot.view_extent for robot in robots]))
        self.cos = tables._tensor(np.array([math.cos(robot.view_rotation) for robot in robots]))
        self.sin = tables._tensor(np.array([math.sin(robot.view_rotation) for robot in robots]))
        self.centre_x, self.centre_y = tables._tensor(np.array([robot.view_centre for robot in robots])).unbind(1)
        self.links = max(len(robot.links) for robot in robots)
        self.small, self.large = round(SMALL * size), round(LARGE * size)
        # half a level is added once for all: the last step cuts what follows the point
        self.colours = {name: torch.tensor(rgb, dtype=torch.float32, device=device) + 0.5
                        for name, rgb in COLOURS.items()}
        contents = [task.table for task in tables.tasks]
        self.things, self.has_thing = self._colours_of([table.movable for table in contents], THINGS)
        self.zones, self.has_zone = self._colours_of([table.zones for table in contents], ZONES)
        self.spills, self.has_spill = self._colours_of([table.spills for table in contents], SPILLS)
        self.has_slider = torch.tensor([table.slider for table in contents], device=device)
        self._numbers = torch.arange(size, device=device)
        self._pixels = self._numbers + 0.5
        self._empty = self.colours["table"][:, None].expand(3, size**2)
        self._canvas = torch.empty(0, 3, size**2, device=device)  # kept: fresh memory costs more than the painting

    @torch.no_grad()
    def images(self, rows: Tensor | None = None) -> Tensor:
        """What the cameras of ``rows`` (n,) see now; of all by default."""
        everyone = torch.arange(len(self.tables), device=self.tables.device)
        rows = everyone if rows is None else rows
        chosen = _Chosen(rows, everyone[:len(rows)], *self._project(rows, *(points[rows] for points in self._points())))
        if len(self._canvas) < len(rows):
            self._canvas = self._empty.new_empty(len(rows), 3, self.size**2)
        canvas = self._canvas[:len(rows)].copy_(self._empty)
        for zone in range(ZONES):
            self._zone(canvas, chosen.where(self.has_zone[:, zone]), zone)
        self._slider(canvas, chosen.where(self.has_slider))
        for spill in range(SPILLS):
            self._spill(canvas, chosen.where(self.has_spill[:, spill]), spill)
        for thing in range(THINGS):
            self._thing(canvas, chosen.where(self.has_thing[:, thing]), thing)
        if self.tables.kinematics.arms:
            self._arms(canvas, chosen.where(self.tables.kinematics.is_arm))
        self._hand(canvas, chosen)
        pixels = canvas.to(torch.uint8).transpose(1, 2)
        return pixels.reshape(len(rows), self.size, self.size, 3)

    def _points(self) -> tuple[Tensor, Tensor]:
        """x and y (B, points) of what lies on the tables."""
        tables, half = self.tables, RAIL_LENGTH / 2
        x, y = tables.rail_x[:, None], tables.rail_y[:, None]
        cos, sin = tables.rail_cos[:, None], tables.rail_sin[:, None]
        return (torch.cat([tables.hand_x[:, None], tables.zones_x, tables.things_x, tables.spots_x, x, x + half * cos,
                           x + RAIL_LENGTH * cos], 1),
                torch.cat([tables.hand_y[:, None], tables.zones_y, tables.things_y, tables.spots_y, y, y + half * sin,
                           y + RAIL_LENGTH * sin], 1))

    def _zone(self, canvas: Tensor, chosen: _Chosen, zone: int) -> None:
        self._disc(canvas, chosen, _ZONES + zone, ZONE_RADIUS, self.zones[chosen.rows, zone])

    def _slider(self, canvas: Tensor, chosen: _Chosen) -> None:
        """The rail, the marks at both ends, and the handle."""
        tables, rows = self.tables, chosen.rows
        self._box(canvas, chosen, _RAIL_MIDDLE, tables.rail_cos[rows], tables.rail_sin[rows], (RAIL_LENGTH / 2, 0.0),
                  RAIL_RADIUS, self.colours["rail"].expand(len(rows), 3), self.large)
        for point, radius, colour in ((_RAIL_START, MARK_RADIUS, "black"), (_RAIL_END, MARK_RADIUS, "white"),
                                      (_THINGS + HANDLE, HANDLE_RADIUS, "handle")):
            self._disc(canvas, chosen, point, radius, self.colours[colour].expand(len(rows), 3))

    def _spill(self, canvas: Tensor, chosen: _Chosen, spill: int) -> None:
        """The dirty spots of one spill, in one window."""
        tables, rows, spots = self.tables, chosen.rows, slice(spill * SPOTS, (spill + 1) * SPOTS)
        columns, lines = (points[:, _SPOTS + spots.start:_SPOTS + spots.stop] for points in (chosen.columns,
                                                                                              chosen.lines))
        column, line = (columns[:, 0] + columns[:, -1]) / 2, (lines[:, 0] + lines[:, -1]) / 2
        window, across, down = self._window(column, line, self.small)
        gone = torch.where(tables.dirty[rows, spots], 0.0, _NOT_THERE)
        nearest: Tensor | None = None
        for spot in range(SPOTS):
            x = across - (columns[:, spot] - column)[:, None, None]
            y = down - (lines[:, spot] - line)[:, None, None]
            squared = x * x + (y * y + gone[:, spot, None, None])
            nearest = squared if nearest is None else torch.minimum(nearest, squared)
        assert nearest is not None
        self._blend(canvas, chosen, window, nearest.sqrt() - SPOT_RADIUS * self.scale[rows][:, None, None],
                    self.spills[rows, spill])

    def _thing(self, canvas: Tensor, chosen: _Chosen, thing: int) -> None:
        tables, rows = self.tables, chosen.rows
        straight = tables.straight[rows, thing][:, None, None]
        self._box(canvas, chosen, _THINGS + thing, tables.cos[rows, thing], tables.sin[rows, thing],
                  (straight, straight), tables.corner[rows, thing][:, None, None], self.things[rows, thing], self.small)

    def _arms(self, canvas: Tensor, chosen: _Chosen) -> None:
        """The links, half transparent, over the whole image."""
        rows, tables = chosen.rows, self.tables
        x, y = tables.kinematics.links(tables.motors)
        joints = [self._project(rows, x[joint][rows], y[joint][rows]) for joint in range(self.links + 1)]
        nearest: Tensor | None = None
        for (start_column, start_row), (end_column, end_row) in zip(joints[:-1], joints[1:], strict=True):
            column, row = end_column - start_column, end_row - start_row
            length = (column * column + row * row).sqrt()
            column, row = column / length.clamp(min=1e-3), row / length.clamp(min=1e-3)
            from_column = self._pixels - ((start_column + end_column) / 2)[:, None]
            from_row = self._pixels - ((start_row + end_row) / 2)[:, None]
            along = (from_column * column[:, None])[:, None, :] + (from_row * row[:, None])[:, :, None]
            across = (from_row * column[:, None])[:, :, None] - (from_column * row[:, None])[:, None, :]
            half = torch.where(length < 1e-3, -_NOT_THERE, length / 2)  # a link that this arm lacks
            along = along.abs_().sub_(half[:, None, None])  # past the end: a link is a rectangle
            distance = torch.maximum(across.abs_(), along, out=across)
            nearest = distance if nearest is None else torch.minimum(nearest, distance, out=nearest)
        assert nearest is not None
        cover = nearest.neg_().add_((0.5 + ARM_RADIUS * self.scale[rows])[:, None, None]).clamp_(0, 1).mul_(ARM_OPACITY)
        cover = cover.flatten(1)[:, None]
        everyone = len(rows) == len(canvas)
        painted = canvas if everyone else canvas[chosen.places]
        painted.mul_(1 - cover).add_(cover.mul_(self.colours["arm"][0]))
        if not everyone:
            canvas[chosen.places] = painted

    def _hand(self, canvas: Tensor, chosen: _Chosen) -> None:
        """The palm and two fingers, apart while open, together while closed."""
        tables, rows = self.tables, chosen.rows
        window, across, down = self._window(*chosen.at(_HAND), self.small)
        scale = self.scale[rows][:, None, None]
        # fingers lie across the last link; the gantry's along x
        angle = torch.where(tables.kinematics.is_arm[rows], tables.motors[rows].double().sum(1) + math.pi / 2, 0.0)
        cos, sin = angle.cos().float(), angle.sin().float()
        view_cos, view_sin = self.cos[rows], self.sin[rows]
        apart = (FINGERS_CLOSED + FINGERS_TRAVEL * tables.opening[rows]) * self.scale[rows]
        finger_column = (apart * (cos * view_cos - sin * view_sin))[:, None, None]
        finger_row = (-apart * (sin * view_cos + cos * view_sin))[:, None, None]
        distance = (across * across + down * down).sqrt() - PALM_RADIUS * scale
        for side in (-1, 1):
            x, y = across - side * finger_column, down - side * finger_row
            distance = torch.minimum(distance, (x * x + y * y).sqrt() - FINGER_RADIUS * scale)
        self._blend(canvas, chosen, window, distance, self.colours["hand"].expand(len(rows), 3))

    def _disc(self, canvas: Tensor, chosen: _Chosen, point: int, radius: float, colour: Tensor) -> None:
        window, across, down = self._window(*chosen.at(point), self.small)
        distance = (across * across + down * down).sqrt() - radius * self.scale[chosen.rows][:, None, None]
        self._blend(canvas, chosen, window, distance, colour)

    def _box(self, canvas: Tensor, chosen: _Chosen, point: int, cos: Tensor, sin: Tensor,
             straight: tuple[Tensor | float, Tensor | float], corner: Tensor | float, colour: Tensor,
             side: int) -> None:
        """A rounded box: a core of half sides ``straight``, turned by the angle of ``cos`` and ``sin``, and
        ``corner`` around it."""
        rows = chosen.rows
        window, across, down = self._window(*chosen.at(point), side)
        scale = self.scale[rows][:, None, None]
        view_cos, view_sin = self.cos[rows], self.sin[rows]
        seen_cos = (cos * view_cos - sin * view_sin)[:, None, None]
        seen_sin = -(sin * view_cos + cos * view_sin)[:, None, None]
        u = (across * seen_cos + down * seen_sin).abs() - straight[0] * scale
        v = (down * seen_cos - across * seen_sin).abs() - straight[1] * scale
        outside_u, outside_v = u.clamp(min=0), v.clamp(min=0)
        distance = ((outside_u * outside_u + outside_v * outside_v).sqrt() + torch.maximum(u, v).clamp(max=0)
                    - corner * scale)
        self._blend(canvas, chosen, window, distance, colour)

    def _project(self, rows: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel column and row, (n,) or (n, m), of table positions."""
        shape = (-1, *[1] * (x.dim() - 1))
        cos, sin, scale = (table[rows].view(shape) for table in (self.cos, self.sin, self.scale))
        x = x - (self.tables.hand_x + self.centre_x)[rows].view(shape)
        y = y - (self.tables.hand_y + self.centre_y)[rows].view(shape)
        half = self.size / 2
        return half + scale * (x * cos - y * sin), half - scale * (x * sin + y * cos)

    def _window(self, column: Tensor, row: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of windows centred at (n,) places: the number in the image of the first of each line (n, side), and
        their distances to the centre along columns (n, 1, side) and rows (n, side, 1)."""
        steps = self._numbers[:side]
        left = (column - side / 2).round().clamp(0, self.size - side).long()[:, None]
        top = (row - side / 2).round().clamp(0, self.size - side).long()[:, None] + steps
        across = left + steps + 0.5 - column[:, None]
        return top * self.size + left, across[:, None, :], (top + 0.5 - row[:, None])[:, :, None]

    def _blend(self, canvas: Tensor, chosen: _Chosen, window: Tensor, distance: Tensor, colour: Tensor) -> None:
        """Paint ``colour`` (n, 3) where ``distance`` (n, side, side), in pixels, is negative; ``window`` (n, side) is
        that of :meth:`_window`.

        Pixels are read and written a line of a window at a time, through a view of the canvas whose rows are all its
        runs of ``side`` pixels: so many times fewer numbers than pixel by pixel. No two windows share a pixel.
        """
        count, side = window.shape
        cover = (0.5 - distance).clamp(0, 1)[:, None]
        first = (3 * chosen.places[:, None] + self._numbers[:3])[:, :, None] * self.size**2 + window[:, None]
        runs = canvas.as_strided((canvas.numel() - side + 1, side), (1, 1))
        under = runs.index_select(0, first.flatten()).view(count, 3, side, side)
        painted = under + (colour[:, :, None, None] - under) * cover
        runs.index_copy_(0, first.flatten(), painted.view(-1, side))

    def _colours_of(self, names: list[tuple[str, ...]], count: int) -> tuple[Tensor, Tensor]:
        """Colours (B, count, 3), and (B, count) bool: which of them a table has."""
        padded = [[COLOURS[name] for name in row] + [COLOURS["table"]] * (count - len(row)) for row in names]
        present = [[number < len(row) for number in range(count)] for row in names]
        device = self.tables.device
        return (torch.tensor(padded, dtype=torch.float32, device=device) + 0.5, torch.tensor(present, device=device))
