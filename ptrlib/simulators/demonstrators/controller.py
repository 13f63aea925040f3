"""Closed-loop tracking of a commanded grip pose with the seven numbers of robosuite's OSC_POSE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

POSITION_SCALE = 0.05  # metres of goal offset at action 1 (robosuite's osc_pose.json)
ROTATION_SCALE = 0.5  # radians at action 1
GAIN = 2.0
LOOKAHEAD = 0.8  # control steps: the error is taken where the grip will be, which stops it overshooting
INTEGRAL_RATE = 0.12
INTEGRAL_DECAY = 0.7  # once the error has changed sign: what built up against an obstacle must not push on
INTEGRAL_RANGE = 0.03  # metres; without the integral an offset of about 1 cm stays


@dataclass
class Command:
    """Where the grip should be. ``gripper``: -1 open, +1 close; ``speed`` limits the action's size."""

    position: np.ndarray
    rotation: np.ndarray
    gripper: float
    phase: str
    speed: float = 1.0


class PoseTracker:
    """Turns commands into actions (7,) in [-1, 1]: a proportional law and a small clamped integral."""

    def __init__(self) -> None:
        self.integral: np.ndarray = np.zeros(3)
        self.previous: np.ndarray | None = None

    def action(self, command: Command, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        step = np.zeros(3) if self.previous is None else position - self.previous
        self.previous = position
        error = command.position - (position + LOOKAHEAD * step)
        self.integral[self.integral * error < 0] *= INTEGRAL_DECAY
        if np.linalg.norm(error) < INTEGRAL_RANGE:
            self.integral = np.clip(
                self.integral + INTEGRAL_RATE * error, -INTEGRAL_RANGE, INTEGRAL_RANGE
            )
        else:
            self.integral = np.zeros(3)
        move = (GAIN * error + self.integral) / POSITION_SCALE
        across = float(np.linalg.norm(move[:2]))
        move[:2] *= min(1.0, command.speed / max(across, 1e-9))
        move[2] = np.clip(move[2], -command.speed, command.speed)
        turn = GAIN * Rotation.from_matrix(command.rotation @ rotation.T).as_rotvec() / ROTATION_SCALE
        turn *= min(1.0, command.speed / max(float(np.linalg.norm(turn)), 1e-9))
        return np.concatenate([move, turn, [command.gripper]])

    def shaken(self, action: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """``action`` with ``noise`` (6,) on the grip's translation and rotation."""
        return np.concatenate([action[:6] + noise, action[6:]])
