"""Scripted demonstrators of Tabletop: a whole batch at once, privileged and closed-loop.

A task becomes a list of stages ("reach the object", "close", "carry it to the zone", "open", ...). Each
episode has its own place in its list and goes back when a grasp failed, an object was lost or a push went
astray. The five styles are those of :mod:`ptrlib.simulators.demonstrators.styles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptrlib.simulators.demonstrators.styles import STYLES, style_named
from ptrlib.simulators.tabletop.dynamics import EDGE, HANDLE, PLACE_TOLERANCE, PUSHER_RADIUS, SLIDE_TOLERANCE, Tables
from ptrlib.simulators.tabletop.robots import MOTORS, STEP
from ptrlib.simulators.tabletop.scenes import RAIL_LENGTH, SPOTS
from ptrlib.simulators.tabletop.tasks import Task


class Stage(IntEnum):
    """What a demonstrator does; its item and zone are looked up beside it."""

    REACH = 0  # the item, hand open
    GRASP = 1
    CARRY = 2  # to the zone, or along the rail
    RELEASE = 3
    BEHIND = 4  # the block, seen from the zone
    LOWER = 5
    PUSH = 6
    LIFT = 7
    SPOT = 8  # the next dirty spot of the spill, hand open
    TOUCH = 9
    WIPE = 10
    REST = 11  # all is done


_STAGES = {"place": (Stage.REACH, Stage.GRASP, Stage.CARRY, Stage.RELEASE),
           "slide": (Stage.REACH, Stage.GRASP, Stage.CARRY, Stage.RELEASE),
           "push": (Stage.BEHIND, Stage.LOWER, Stage.PUSH, Stage.LIFT),
           "wipe": (Stage.SPOT, Stage.TOUCH, Stage.WIPE, Stage.LIFT)}
_APPROACHES = (Stage.REACH, Stage.BEHIND, Stage.SPOT)
_CLOSED = (Stage.GRASP, Stage.CARRY, Stage.LOWER, Stage.PUSH, Stage.TOUCH, Stage.WIPE)
_BY_HAND = (Stage.GRASP, Stage.RELEASE, Stage.LOWER, Stage.LIFT, Stage.TOUCH)  # the hand moves only its fingers
_PAUSED = (Stage.REACH, Stage.CARRY, Stage.BEHIND, Stage.SPOT)  # where the hesitant wait on arrival

ARRIVED = 0.025  # distance to a target at which a stage ends
DWELL = 2  # steps that the fingers take
MISS = 0.20  # how far beside the object the recovery style closes first
BESIDE = 0.30  # and how far beside a large block
STAGES = 12  # of a program, at most
PAUSE = (4, 8)  # steps that the hesitant style stops, with a step back, on each arrival
STEP_BACK = 0.10
BACKING = 0.06  # between pusher and block before a push
ASTRAY = 0.07  # lateral distance from the line of the push at which it is begun anew
CENTRED = 0.55  # a block is pushed until its distance to the zone is this share of the tolerance
NOISE_REVERSION = 0.15  # of the noisy style's Ornstein-Uhlenbeck noise, per step
NEAR = 0.10  # within it of a target the noise is halved


class Demonstrators:
    """One demonstrator per table. ``act`` gives the (B, 4) actions that ``Tables.step`` takes.

    ``seeds`` fix the styles' own randomness, an episode each; the same scene, style and seed give the same
    actions whatever the batch.

    Raises:
        ValueError: no such style.
    """

    def __init__(self, tables: Tables, styles: Sequence[str], seeds: Sequence[int]) -> None:
        self.tables = tables
        chosen = [style_named(style) for style in styles]
        programs = [_program(task) for task in tables.tasks]
        length = max(len(program) for program in programs)
        table = np.array([program + [(Stage.REST, 0, 0, 0.0)] * (length - len(program)) for program in programs])
        device = tables.device
        self.stages, self.items, self.zones = (torch.as_tensor(table[:, :, part], device=device).long()
                                               for part in range(3))
        self.slides = tables._tensor(table[:, :, 3])
        self.speed = tables._tensor(np.array([style.speed for style in chosen])) * STEP
        self.place = torch.zeros(len(tables), dtype=torch.int64, device=device)  # in the program
        self.waited = torch.zeros_like(self.place)  # steps in a stage of the fingers, or of a pause
        random = [_draws(style, seed, tables.time_limit)
                  for style, seed in zip(styles, seeds, strict=True)]
        direction, pauses, noise = (np.stack(parts) for parts in zip(*random, strict=True))
        misses = np.array([style.misses for style in chosen], np.float64)[:, None]
        self.miss = tables._tensor(direction * misses)  # (B, 2) unit vectors, zero once the miss was made
        hesitates = np.array([style.pauses > 0 for style in chosen])[:, None]
        self.pause = torch.as_tensor(np.where(hesitates, pauses, 0), device=device)
        jitter = np.array([style.jitter for style in chosen])[:, None, None]
        self.noise = tables._tensor(_correlated(noise) * jitter)  # (B, steps, 3)
        self._row = torch.arange(len(tables), device=device)

    @torch.no_grad()
    def act(self) -> Tensor:
        """The next actions (B, 4); rows whose program is over stay where they are."""
        self._advance()
        stage = self.stages[self._row, self.place]
        x, y = self._target(stage)
        x, y = x - self.tables.hand_x, y - self.tables.hand_y
        distance = (x * x + y * y).sqrt()
        x, y = self._step_back(stage, x, y)
        still = _among(stage, (*_BY_HAND, Stage.REST))
        speed = torch.where((stage == Stage.PUSH) | (stage == Stage.WIPE), 0.7 * self.speed, self.speed)
        share = torch.where(still, 0.0, (speed / (x * x + y * y).sqrt().clamp(min=1e-6)).clamp(max=1.0))
        action = self.tables.kinematics.action_for(self.tables.motors, x * share, y * share)
        noise = self.noise[:, self.tables.time % self.tables.time_limit]
        steady = torch.where(distance < NEAR, 0.5, 1.0)
        action = (action + torch.where(still, 0.0, steady)[:, None] * noise).clamp(-1, 1)
        grip = torch.where(_among(stage, _CLOSED), 1.0, -1.0)
        return torch.cat([action * (self.tables.kinematics.gain > 0), grip[:, None]], 1)

    def _advance(self) -> None:
        """Go on to the next stage where this one is done, and back where it failed."""
        tables = self.tables
        stage, item = self.stages[self._row, self.place], self.items[self._row, self.place]
        x, y = self._target(stage)
        near = (x - tables.hand_x).square() + (y - tables.hand_y).square() < ARRIVED**2
        pause = torch.where(_among(stage, _PAUSED), self.pause[self._row, self.place], 0)
        pausing = self.waited > 0
        moving = _among(stage, (Stage.REACH, Stage.CARRY, Stage.BEHIND, Stage.SPOT))
        by_hand = _among(stage, _BY_HAND)
        self.waited = torch.where(by_hand | pausing | (moving & near & (pause > 0)), self.waited + 1, self.waited)
        done = (moving & near & (self.waited >= pause)) | (by_hand & (self.waited > DWELL))
        holds = tables.held == torch.where(self._slides(), HANDLE, item)
        dirty = self._dirty()
        done = done | ((stage == Stage.PUSH) & self._pushed()) | ((stage == Stage.WIPE) & ~dirty.any(1))
        lost = (stage == Stage.CARRY) & ~holds
        missed = done & (stage == Stage.GRASP) & ~holds
        untouched = done & (stage == Stage.TOUCH) & (dirty.sum(1) == SPOTS)
        astray = (stage == Stage.PUSH) & ~done & self._astray()
        short = done & ((stage == Stage.RELEASE) | (stage == Stage.LIFT)) & ~self._reached(stage)
        back = (torch.where(lost | astray, 2, 0) + torch.where(missed | untouched, 1, 0) + torch.where(short, 3, 0))
        corrected = missed | untouched | astray
        self.miss = torch.where(corrected[:, None], 0.0, self.miss)
        moved = done | (back > 0)
        self.place = torch.where(back > 0, self.place - back, self.place + done.long())
        self.waited = torch.where(moved, 0, self.waited)

    def _target(self, stage: Tensor) -> tuple[Tensor, Tensor]:
        """Where the hand shall be in each row's stage."""
        tables, item = self.tables, self.items[self._row, self.place]
        slides = self._slides()
        thing = torch.where(slides, HANDLE, item)
        item_x, item_y = tables.things_x[self._row, thing], tables.things_y[self._row, thing]
        zone = self.zones[self._row, self.place]
        zone_x, zone_y = tables.zones_x[self._row, zone], tables.zones_y[self._row, zone]
        along = self.slides[self._row, self.place] * RAIL_LENGTH
        goal_x = torch.where(slides, tables.rail_x + along * tables.rail_cos, zone_x) - tables.grip_x
        goal_y = torch.where(slides, tables.rail_y + along * tables.rail_sin, zone_y) - tables.grip_y
        spot = self._nearest_spot()
        behind_x, behind_y, push_x, push_y = self._pushing(item_x, item_y, zone_x, zone_y)
        x, y = item_x + MISS * self.miss[:, 0], item_y + MISS * self.miss[:, 1]
        choices = ((Stage.CARRY, goal_x, goal_y), (Stage.BEHIND, behind_x, behind_y), (Stage.PUSH, push_x, push_y),
                   (Stage.SPOT, spot[0] + MISS * self.miss[:, 0], spot[1] + MISS * self.miss[:, 1]),
                   (Stage.WIPE, *spot))
        for choice, there_x, there_y in choices:
            x, y = torch.where(stage == choice, there_x, x), torch.where(stage == choice, there_y, y)
        return x, y

    def _pushing(self, x: Tensor, y: Tensor, zone_x: Tensor, zone_y: Tensor) -> tuple[Tensor, ...]:
        """The place behind the block from which to push, and where to go while pushing."""
        along_x, along_y, _ = _direction(zone_x - x, zone_y - y)
        radius = self.tables.radius[self._row, self.items[self._row, self.place].clamp(max=HANDLE - 1)]
        back = 1.2 * radius + PUSHER_RADIUS + BACKING
        side = BESIDE * (self.miss[:, 0].sign())
        behind_x, behind_y = x - back * along_x - side * along_y, y - back * along_y + side * along_x
        return (behind_x.clamp(-EDGE, EDGE), behind_y.clamp(-EDGE, EDGE),
                torch.where(side != 0, self.tables.hand_x + along_x, x),
                torch.where(side != 0, self.tables.hand_y + along_y, y))

    def _astray(self) -> Tensor:
        """The hand is off the line from the zone through the block, or in front of it."""
        tables, item, zone = (self.tables, self.items[self._row, self.place].clamp(max=HANDLE - 1),
                              self.zones[self._row, self.place])
        x, y = tables.things_x[self._row, item], tables.things_y[self._row, item]
        along_x, along_y, _ = _direction(tables.zones_x[self._row, zone] - x, tables.zones_y[self._row, zone] - y)
        hand_x, hand_y = tables.hand_x - x, tables.hand_y - y
        lateral = hand_x * along_y - hand_y * along_x
        forward = hand_x * along_x + hand_y * along_y
        missing = self.miss[:, 0] != 0
        return torch.where(missing, forward > 0.0, (lateral.abs() > ASTRAY) | (forward > 0.0))

    def _pushed(self) -> Tensor:
        tables, item, zone = (self.tables, self.items[self._row, self.place].clamp(max=HANDLE - 1),
                              self.zones[self._row, self.place])
        x = tables.things_x[self._row, item] - tables.zones_x[self._row, zone]
        y = tables.things_y[self._row, item] - tables.zones_y[self._row, zone]
        return x * x + y * y < (CENTRED * PLACE_TOLERANCE)**2

    def _reached(self, stage: Tensor) -> Tensor:
        """The goal of the present stage holds."""
        tables, item = self.tables, self.items[self._row, self.place].clamp(max=HANDLE - 1)
        zone = self.zones[self._row, self.place]
        x = tables.things_x[self._row, item] - tables.zones_x[self._row, zone]
        y = tables.things_y[self._row, item] - tables.zones_y[self._row, zone]
        placed = x * x + y * y < PLACE_TOLERANCE**2
        slid = (tables.slide - self.slides[self._row, self.place] * RAIL_LENGTH).abs() < SLIDE_TOLERANCE
        wipes = self._wipes()
        return torch.where(self._slides(), slid, torch.where(wipes, ~self._dirty().any(1), placed))

    def _slides(self) -> Tensor:
        return self.slides[self._row, self.place] >= 0

    def _wipes(self) -> Tensor:
        return self.zones[self._row, self.place] < 0

    def _dirty(self) -> Tensor:
        """(B, SPOTS) what is left of the present stage's spill."""
        spill = self.items[self._row, self.place].clamp(max=1)
        return self.tables.dirty.view(len(self.tables), -1, SPOTS)[self._row, spill]

    def _nearest_spot(self) -> tuple[Tensor, Tensor]:
        """The next spot to wipe: at first an end of the line, then the nearest that is left."""
        tables, spill = self.tables, self.items[self._row, self.place].clamp(max=1)
        x = tables.spots_x.view(len(tables), -1, SPOTS)[self._row, spill]
        y = tables.spots_y.view(len(tables), -1, SPOTS)[self._row, spill]
        dirty = self._dirty()
        distance = (x - tables.hand_x[:, None]).square() + (y - tables.hand_y[:, None]).square()
        untouched = dirty.sum(1, keepdim=True) == SPOTS
        inner = torch.zeros_like(dirty)
        inner[:, 1:-1] = True
        distance = distance + torch.where(dirty & ~(untouched & inner), 0.0, 1e3)
        nearest = distance.argmin(1)
        return x[self._row, nearest], y[self._row, nearest]

    def _step_back(self, stage: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """While a pause lasts, the hand retreats for its first half and returns in the second."""
        pause = torch.where(_among(stage, _PAUSED), self.pause[self._row, self.place], 0)
        back = (self.waited > 0) & (self.waited * 2 < pause)
        angle = self.pause[self._row, 0].float()  # a direction of its own for each episode
        return (torch.where(back, x + STEP_BACK * angle.double().cos().float(), x),
                torch.where(back, y + STEP_BACK * angle.double().sin().float(), y))



def _program(task: Task) -> list[tuple[int, int, int, float]]:
    """(stage, item, zone, slide) of each stage; zone -1 marks a spill, slide -1 anything but the slider."""
    program = []
    for goal in task.goals:
        zone = -1 if goal.kind == "wipe" else goal.zone
        slide = goal.slide if goal.kind == "slide" else -1.0
        program += [(int(stage), goal.item, zone, slide) for stage in _STAGES[goal.kind]]
    return program + [(int(Stage.REST), *program[-1][1:])]


def _draws(style: str, seed: int, steps: int) -> tuple[NDArray, NDArray, NDArray]:
    """Unit vector (2,) of a miss, pauses (STAGES,) and white noise (steps, 3) of one episode."""
    generator = np.random.default_rng([seed, list(STYLES).index(style), 1])
    angle = generator.uniform(0, 2 * np.pi)
    pauses = generator.integers(*PAUSE, STAGES, endpoint=True)
    noise = generator.standard_normal((steps, MOTORS))  # last, as its length is the batch's
    return np.array([np.cos(angle), np.sin(angle)]), pauses, noise


def _correlated(noise: NDArray) -> NDArray:
    """Ornstein-Uhlenbeck noise of unit variance from white noise (B, steps, 3)."""
    spread, value = np.sqrt(2 * NOISE_REVERSION - NOISE_REVERSION**2), np.zeros_like(noise[:, 0])
    for step in range(noise.shape[1]):
        value = (1 - NOISE_REVERSION) * value + spread * noise[:, step]
        noise[:, step] = value
    return noise


def _direction(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    length = (x * x + y * y).sqrt()
    return x / length.clamp(min=1e-6), y / length.clamp(min=1e-6), length


def _among(stage: Tensor, members: Sequence[Stage]) -> Tensor:
    found = torch.zeros_like(stage, dtype=torch.bool)
    for member in members:
        found = found | (stage == member)
    return found
