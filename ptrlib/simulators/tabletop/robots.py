"""The three robots of Tabletop: kinematics, control noise and where each one's camera is mounted.

A Cartesian gantry moves its hand directly; two arms, of two and of three links, move it by their joints.
All three stand at the same table and reach all of it. Motors are padded to three; a motor that a robot lacks
has gain zero and stays at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOTORS = 3  # at most
STEP = 0.06  # farthest that the gantry's hand moves in one step, table units (the table is about 2 wide)


@dataclass(frozen=True)
class Robot:
    """One robot. Angles in radians, lengths in table units."""

    name: str  # a key of ptrlib.policy.action_space.EMBODIMENTS
    links: tuple[float, ...]  # lengths; none for the gantry
    gain: float  # motor movement of one step at full action
    control_noise: float  # standard deviation of what is added to each motor's action
    view_rotation: float  # of the camera about the vertical, anticlockwise
    view_extent: float  # half the side of the square that the camera sees
    view_centre: tuple[float, float]  # of the image, from the hand, above which the camera rides

    @property
    def motors(self) -> int:
        return len(self.links) or 2


BASE = (0.0, -1.35)  # where both arms are bolted down, below the lower edge of the table
_WRIST = 0.5  # angle between the three-link arm's last link and the line from its base, at the start

ROBOTS = (
    Robot("tabletop_gantry", (), STEP, 0.02, 0.0, 1.3, (0.0, 0.0)),
    Robot("tabletop_two_link", (1.25, 1.25), 0.06, 0.04, math.radians(20), 1.35, (0.0, 0.05)),
    Robot("tabletop_three_link", (1.05, 0.95, 0.6), 0.05, 0.03, math.radians(-25), 1.4, (0.05, -0.05)),
)
NAMES = tuple(robot.name for robot in ROBOTS)


@dataclass(frozen=True)
class Kinematics:
    """The robots of a batch of B episodes as tensors, one row each."""

    index: Tensor  # (B,) int64 into ROBOTS
    is_arm: Tensor  # (B,) bool
    lengths: Tensor  # (B, 3) of links, zero where there is none
    gain: Tensor  # (B, 3)
    noise: Tensor  # (B, 1)
    low: Tensor  # (B, 3) motor limits
    high: Tensor  # (B, 3)
    arms: bool  # the batch has arms

    @classmethod
    def of(cls, index: NDArray[np.int64], device: torch.device) -> Kinematics:
        lengths, gain = np.zeros((len(ROBOTS), MOTORS)), np.zeros((len(ROBOTS), MOTORS))
        low, high = np.zeros((len(ROBOTS), MOTORS)), np.zeros((len(ROBOTS), MOTORS))
        for row, robot in enumerate(ROBOTS):
            lengths[row, :len(robot.links)] = robot.links
            gain[row, :robot.motors] = robot.gain
            low[row, :robot.motors], high[row, :robot.motors] = ((-3.6, 3.6) if robot.links else (-1.0, 1.0))
            if robot.links:
                low[row, 0], high[row, 0] = -2.0, math.pi + 2.0
        noise = np.array([[robot.control_noise] for robot in ROBOTS])
        is_arm = np.array([bool(robot.links) for robot in ROBOTS])[index]
        tables = [torch.as_tensor(table[index], dtype=torch.float32, device=device)
                  for table in (lengths, gain, noise, low, high)]
        return cls(torch.as_tensor(index, device=device), torch.as_tensor(is_arm, device=device), tables[0],
                   tables[1], tables[2], tables[3], tables[4], bool(is_arm.any()))

    def links(self, motors: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """x and y, (B,) each, of the base and the ends of the three links of an arm with these ``motors``.

        Sines are taken in double precision: processed in vectors or one by one they differ in their last bit,
        and an episode must not depend on the size of its batch. Rounded to single precision they agree.
        """
        first, second, third = motors.double().unbind(1)
        angles = torch.stack([first, first + second, first + second + third], dim=1)
        along, across = angles.cos().float() * self.lengths, angles.sin().float() * self.lengths
        x, y = [torch.full_like(along[:, 0], BASE[0])], [torch.full_like(along[:, 0], BASE[1])]
        for link in range(MOTORS):
            x.append(x[-1] + along[:, link])
            y.append(y[-1] + across[:, link])
        return x, y

    def hand(self, motors: Tensor) -> tuple[Tensor, Tensor]:
        """The hand's x and y, (B,) each."""
        if not self.arms:
            return motors[:, 0], motors[:, 1]
        x, y = self.links(motors)
        return torch.where(self.is_arm, x[-1], motors[:, 0]), torch.where(self.is_arm, y[-1], motors[:, 1])

    def jacobian(self, motors: Tensor) -> Tensor:
        """(B, 2, 3): the hand's movement per full action of each motor, to first order."""
        gantry = torch.eye(2, MOTORS, device=motors.device).expand(len(motors), -1, -1)
        x, y = self.links(motors)
        arm = torch.stack([torch.stack([y[joint] - y[-1] for joint in range(MOTORS)], 1),
                           torch.stack([x[-1] - x[joint] for joint in range(MOTORS)], 1)], 1)
        return torch.where(self.is_arm[:, None, None], arm, gantry) * self.gain[:, None]

    def action_for(self, motors: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3) motor actions that move the hand by (x, y), at most 1 in size; damped least squares."""
        jacobian = self.jacobian(motors)
        across, along = jacobian.unbind(1)  # rows for x and y
        damping = 1e-5
        a, b = (across * across).sum(1) + damping, (across * along).sum(1)
        d = (along * along).sum(1) + damping
        determinant = a * d - b * b
        u, v = (d * x - b * y) / determinant, (a * y - b * x) / determinant
        action = across * u[:, None] + along * v[:, None]
        return action / action.abs().amax(1, keepdim=True).clamp(min=1.0)


def motors_at(index: NDArray[np.int64], hand: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, 3) motors that put the hands of robots ``index`` (B,) at ``hand`` (B, 2)."""
    motors = np.zeros((len(index), MOTORS))
    for number, robot in enumerate(ROBOTS):
        rows = index == number
        if not robot.links:
            motors[rows, :2] = hand[rows]
            continue
        reach = hand[rows] - BASE
        facing = np.arctan2(reach[:, 1], reach[:, 0])
        if len(robot.links) == 3:
            last = facing + _WRIST
            reach = reach - robot.links[2] * np.stack([np.cos(last), np.sin(last)], axis=1)
        motors[rows, :2] = _two_links(reach, *robot.links[:2])
        if len(robot.links) == 3:
            motors[rows, 2] = last - motors[rows, 0] - motors[rows, 1]
    return motors


def _two_links(reach: NDArray[np.float64], upper: float, lower: float) -> NDArray[np.float64]:
    """(n, 2) joint angles that reach to (n, 2) from the base, the elbow to the right."""
    squared = (reach**2).sum(1)
    elbow = np.arccos(np.clip((squared - upper**2 - lower**2) / (2 * upper * lower), -1, 1))
    shoulder = (np.arctan2(reach[:, 1], reach[:, 0])
                - np.arctan2(lower * np.sin(elbow), upper + lower * np.cos(elbow)))
    return np.stack([shoulder, elbow], axis=1)
