"""Episodes and the chunks cut from them (Section 3, "Robot dataset and training tuples").

Time convention, everywhere in the package: ``images[t]`` and ``state[t]`` are what the robot saw
*before* ``actions[t]``; index ``T`` is what it saw after the last action. File formats that record
otherwise are shifted by their reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Episode:
    """One demonstration of ``T`` actions and ``T + 1`` observations."""

    images: dict[str, NDArray[np.uint8]]  # camera -> (T + 1, height, width, 3), upright RGB
    state: NDArray[np.float32]  # (T + 1, state dimension), the embodiment's raw order and units
    actions: NDArray[np.float32]  # (T, action dimension), the embodiment's raw order and units
    instruction: str
    embodiment: str  # a key of ptrlib.policy.action_space.EMBODIMENTS
    task: str  # the true task, whatever the instruction says
    claimed_task: str = ""  # the task that the instruction is of, where label noise made it another
    source: str = ""  # file or dataset the episode came from
    operator: str = ""  # who demonstrated: "precise", "slow", ...
    success: bool = True
    seed: int = -1  # of the scene, -1 if unknown
    truth: dict[str, NDArray[np.bool_]] = field(default_factory=dict)  # corruption -> (T,); for analysis
    simulator_states: NDArray[np.float64] | None = None  # (T + 1, n), when the file holds them
    extra: dict[str, NDArray] = field(default_factory=dict)  # (T + 1, n) each: "joint_states", "robot_states"
    name: str = ""  # its group in the file it was read from, such as "demo_3"
    file: str = ""  # path of the file, or of the folder of a LeRobot dataset, that it was read from
    first_row: int = 0  # of the file's own actions, the row that is actions[0]: 1 where the reader shifts (LIBERO)

    def __len__(self) -> int:
        return len(self.actions)
