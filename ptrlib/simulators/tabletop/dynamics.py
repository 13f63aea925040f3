"""Tabletop's dynamics: many tables stepped at once, in elementary tensor operations.

The hand hovers over the table while it is open. Closed and empty it touches the table: it wipes spills and
pushes what it runs into. Closing over a small object, or over the slider's handle, grasps it; opening drops
what is held where it is. Pushing is quasi-static and frictionless: a block yields along the contact's normal
and turns about its centre, more the farther off centre it is pushed.

Every sum has a fixed order and no operation mixes episodes or fuses roundings, so that an episode is the same,
bit for bit, whatever the batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptrlib.simulators.tabletop.robots import MOTORS, NAMES, Kinematics, motors_at
from ptrlib.simulators.tabletop.scenes import RAIL_LENGTH, SPILLS, SPOTS, THINGS, ZONES, Scenes, draw_scenes
from ptrlib.simulators.tabletop.tasks import Task

HANDLE = THINGS  # index of the slider's handle among the things that can be held
GRIPPER_RATE = 0.5  # of the full opening per step: two steps from open to closed
CLOSED = 0.25  # an opening below it is closed: the hand touches the table, or grasps
HOLDING = 0.4  # the fingers' opening round an object
RELEASED = 0.6  # an opening above it lets go
GRASP_RADIUS = 0.14  # between hand and centre of what is grasped
PUSHER_RADIUS = 0.05
WIPE_RADIUS = 0.11  # between hand and centre of a spot
SLIP = 0.18  # the handle is lost when the hand leaves the rail by more
PLACE_TOLERANCE = 0.20  # between the centres of object and zone
SLIDE_TOLERANCE = 0.08
TURNING = 0.6  # radius of the limit surface, in half widths: how easily a block turns
EDGE = 0.92  # nothing is pushed off the table
_OUT_OF_REACH = 100.0
_ANYWHERE = 1e9  # squared tolerance, or distance, that every position meets


class Tables:
    """B tables with one task each. ``step`` takes (B, 4) actions: three motors in [-1, 1], then the gripper.

    A motor that a robot lacks is ignored. A positive gripper action closes, any other opens.
    """

    def __init__(self, tasks: Sequence[Task], *, device: str | torch.device = "cpu",
                 control_noise: float = 1.0) -> None:
        """``control_noise`` scales the robots' own; 0 for exact motors."""
        self.tasks = tuple(tasks)
        self.device = torch.device(device)
        self.robots = np.array([NAMES.index(task.robot) for task in tasks])
        self.kinematics = Kinematics.of(self.robots, self.device)
        self.control_noise = control_noise
        self.time_limit = max(task.time_limit for task in tasks)
        self._numbers = torch.arange(THINGS + 1, device=self.device)
        self._goals()

    def __len__(self) -> int:
        return len(self.tasks)

    def reset(self, seeds: Sequence[Sequence[int]]) -> None:
        """Start the scene of each seed, a sequence of integers."""
        scenes = draw_scenes(self.tasks, seeds, self.time_limit)
        self.place(scenes, motors_at(self.robots, scenes.hand))

    def place(self, scenes: Scenes, motors: NDArray[np.float64]) -> None:
        """Start from given scenes with the robots at ``motors`` (B, 3)."""
        self.scenes = scenes
        self.motors = self._tensor(motors)
        self.hand_x, self.hand_y = self.kinematics.hand(self.motors)
        self.opening = torch.ones_like(self.hand_x)
        self.held = torch.full((len(self),), -1, device=self.device)
        self.grip_x, self.grip_y = torch.zeros_like(self.hand_x), torch.zeros_like(self.hand_x)
        self.rail_x, self.rail_y = self._tensor(scenes.rail).unbind(1)
        self.rail_cos, self.rail_sin = self._tensor(np.cos(scenes.rail_angle)), self._tensor(np.sin(scenes.rail_angle))
        self.slide = self._tensor(scenes.slide)
        x, y = self._tensor(scenes.things).unbind(2)
        self.things_x = torch.cat([x, (self.rail_x + self.slide * self.rail_cos)[:, None]], 1)
        self.things_y = torch.cat([y, (self.rail_y + self.slide * self.rail_sin)[:, None]], 1)
        self.cos, self.sin = self._tensor(np.cos(scenes.angle)), self._tensor(np.sin(scenes.angle))
        self.radius, self.straight = self._tensor(scenes.radius), self._tensor(scenes.straight)
        self.corner = self.radius - self.straight
        self.ungraspable = torch.where(torch.as_tensor(scenes.graspable, device=self.device), 0.0, _OUT_OF_REACH)
        self.zones_x, self.zones_y = self._tensor(scenes.zones).unbind(2)
        spots = self._tensor(scenes.spots).flatten(1, 2)
        self.spots_x, self.spots_y = spots.unbind(2)
        self.dirty = torch.ones(len(self), SPILLS * SPOTS, dtype=torch.bool, device=self.device)
        self._noise = (torch.as_tensor(scenes.noise, device=self.device) * self.kinematics.noise
                       * self.control_noise)
        self.time = 0
        self._goal_x = torch.where(self._needs_zone, self.zones_x.gather(1, self._goal_zone), 0.0)
        self._goal_y = torch.where(self._needs_zone, self.zones_y.gather(1, self._goal_zone), 0.0)

    @torch.no_grad()
    def step(self, actions: Tensor) -> Tensor:
        """Move everything by one step; (B,) bool, which tasks are solved now."""
        self._move(actions[:, :MOTORS])
        self._grip(actions[:, MOTORS] > 0)
        self._carry()
        touching = (self.opening < CLOSED) & (self.held < 0)
        self._push(touching)
        self._wipe(touching)
        return self.success()

    def success(self) -> Tensor:
        """(B,) bool: every goal of the task holds and the hand is empty."""
        x = self.things_x.gather(1, self._goal_item) - self._goal_x
        y = self.things_y.gather(1, self._goal_item) - self._goal_y
        placed = (x * x + y * y < self._goal_tolerance).all(1)
        slid = (self.slide - self._goal_slide).abs() < self._slide_tolerance
        clean = ~(self.dirty & self._goal_spots).any(1)
        return placed & slid & clean & (self.held < 0)

    def states(self) -> Tensor:
        """(B, 4): the three motors, zero where there is none, and the gripper's opening in [0, 1]."""
        return torch.cat([self.motors, self.opening[:, None]], 1)

    def _move(self, motors: Tensor) -> None:
        noise = self._noise[self.time % self.time_limit]
        moved = self.motors + (motors.clamp(-1, 1) + noise) * self.kinematics.gain
        self.motors = torch.minimum(torch.maximum(moved, self.kinematics.low), self.kinematics.high)
        self.hand_x, self.hand_y = self.kinematics.hand(self.motors)
        self.time += 1

    def _grip(self, closing: Tensor) -> None:
        """Move the fingers; grasp the nearest thing in reach when they meet, let go when they part."""
        before = self.opening
        opening = (before + torch.where(closing, -GRIPPER_RATE, GRIPPER_RATE)).clamp(0, 1)
        x, y = self.things_x - self.hand_x[:, None], self.things_y - self.hand_y[:, None]
        distance, nearest = (x * x + y * y + self.ungraspable).min(1)
        grasps = (before >= CLOSED) & (opening < CLOSED) & (distance < GRASP_RADIUS**2) & (self.held < 0)
        self.grip_x = torch.where(grasps, x.gather(1, nearest[:, None])[:, 0], self.grip_x)
        self.grip_y = torch.where(grasps, y.gather(1, nearest[:, None])[:, 0], self.grip_y)
        held = torch.where(grasps, nearest, self.held)
        self.opening = torch.where((held >= 0) & closing, HOLDING, opening)
        self.held = torch.where(self.opening > RELEASED, -1, held)

    def _carry(self) -> None:
        """What is held moves with the hand; the handle only along its rail, until it slips."""
        x, y = self.hand_x + self.grip_x, self.hand_y + self.grip_y
        carried = self._numbers == self.held[:, None]
        self.things_x = torch.where(carried, x[:, None], self.things_x)
        self.things_y = torch.where(carried, y[:, None], self.things_y)
        dragged = carried[:, HANDLE]
        along = (x - self.rail_x) * self.rail_cos + (y - self.rail_y) * self.rail_sin
        self.slide = torch.where(dragged, along.clamp(0, RAIL_LENGTH), self.slide)
        handle_x = self.rail_x + self.slide * self.rail_cos
        handle_y = self.rail_y + self.slide * self.rail_sin
        self.things_x[:, HANDLE], self.things_y[:, HANDLE] = handle_x, handle_y
        off_x, off_y = x - handle_x, y - handle_y
        slipped = dragged & (off_x * off_x + off_y * off_y > SLIP**2)
        self.held = torch.where(slipped, -1, self.held)

    def _push(self, touching: Tensor) -> None:
        """Movable things that overlap the closed hand yield along the normal and turn.

        In the block's frame the nearest point of its straight core gives distance and normal. A push of
        depth ``d`` along normal ``n`` at ``r`` from the centre moves it by ``k n`` and turns it by
        ``k (r x n) / c^2`` with ``k (1 + (r x n)^2 / c^2) = d``: the ellipsoidal limit surface.
        """
        x, y = self.hand_x[:, None] - self.things_x[:, :THINGS], self.hand_y[:, None] - self.things_y[:, :THINGS]
        local_x, local_y = x * self.cos + y * self.sin, y * self.cos - x * self.sin
        core_x = torch.minimum(torch.maximum(local_x, -self.straight), self.straight)
        core_y = torch.minimum(torch.maximum(local_y, -self.straight), self.straight)
        normal_x, normal_y = local_x - core_x, local_y - core_y
        length = (normal_x * normal_x + normal_y * normal_y).sqrt()
        inside = length < 1e-6  # the hand came down on the core: out by the nearer face
        across = local_x.abs() > local_y.abs()
        normal_x = torch.where(inside, torch.where(across, local_x.sign(), 0.0), normal_x / length.clamp(min=1e-6))
        normal_y = torch.where(inside, torch.where(across, 0.0, local_y.sign()), normal_y / length.clamp(min=1e-6))
        within = self.straight - torch.maximum(local_x.abs(), local_y.abs())
        depth = PUSHER_RADIUS + self.corner - torch.where(inside, -within, length)
        depth = torch.where(touching[:, None], depth.clamp(min=0), 0.0)
        arm = core_x * normal_y - core_y * normal_x
        stiffness = (TURNING * self.radius).square()
        force = depth / (1 + arm * arm / stiffness)
        turn = -force * arm / stiffness
        push_x = normal_x * self.cos - normal_y * self.sin
        push_y = normal_x * self.sin + normal_y * self.cos
        table = depth > 0
        self.things_x[:, :THINGS] = torch.where(table, (self.things_x[:, :THINGS] - force * push_x).clamp(-EDGE, EDGE),
                                                self.things_x[:, :THINGS])
        self.things_y[:, :THINGS] = torch.where(table, (self.things_y[:, :THINGS] - force * push_y).clamp(-EDGE, EDGE),
                                                self.things_y[:, :THINGS])
        cos, sin = self.cos - turn * self.sin, self.sin + turn * self.cos
        size = (cos * cos + sin * sin).sqrt()
        self.cos, self.sin = torch.where(table, cos / size, self.cos), torch.where(table, sin / size, self.sin)

    def _wipe(self, touching: Tensor) -> None:
        x, y = self.spots_x - self.hand_x[:, None], self.spots_y - self.hand_y[:, None]
        self.dirty = self.dirty & ~((x * x + y * y < WIPE_RADIUS**2) & touching[:, None])

    def _goals(self) -> None:
        """The tasks' goals as tensors; a goal that a task lacks is one that always holds."""
        count = len(self)
        item, zone = np.zeros((count, ZONES), np.int64), np.zeros((count, ZONES), np.int64)
        tolerance, slide_tolerance = np.full((count, ZONES), _ANYWHERE), np.full(count, _ANYWHERE)
        slide, spots = np.zeros(count), np.zeros((count, SPILLS * SPOTS), bool)
        for row, task in enumerate(self.tasks):
            for place, goal in enumerate(goal for goal in task.goals if goal.kind in ("place", "push")):
                item[row, place], zone[row, place] = goal.item, goal.zone
                tolerance[row, place] = PLACE_TOLERANCE**2
            for goal in task.goals:
                if goal.kind == "slide":
                    slide[row], slide_tolerance[row] = goal.slide * RAIL_LENGTH, SLIDE_TOLERANCE
                elif goal.kind == "wipe":
                    spots[row, goal.item * SPOTS:(goal.item + 1) * SPOTS] = True
        self._goal_item, self._goal_zone = (torch.as_tensor(array, device=self.device) for array in (item, zone))
        self._goal_tolerance, self._goal_slide, self._slide_tolerance = map(
            self._tensor, (tolerance, slide, slide_tolerance))
        self._needs_zone = self._goal_tolerance < _ANYWHERE
        self._goal_spots = torch.as_tensor(spots, device=self.device)

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)
