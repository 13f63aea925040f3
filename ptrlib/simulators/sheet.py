"""What the policy sees of every task of a suite: all cameras in an evaluation scene, for a page of the book.

    python -m ptrlib.simulators.sheet --world robocasa --suite robocasa_all

writes ``experiments/sheets/SUITE.npz`` and, beside it, where the pictures come from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from ptrlib import runs
from ptrlib.config import RunConfig
from ptrlib.simulators.protocol import choose_tasks, world_named

FOLDER = runs.EXPERIMENTS / "sheets"


@dataclass
class Sheet:
    """Render an evaluation scene of every task of a suite, another one for each."""

    world: str = "robocasa"
    suite: str = "robocasa_all"
    image_size: int = 128
    out: Path = FOLDER


@dataclass(frozen=True)
class Pictures:
    """Of n tasks with c cameras each."""

    images: NDArray[np.uint8]  # (n, c, H, W, 3)
    cameras: tuple[str, ...]
    tasks: tuple[str, ...]
    instructions: tuple[str, ...]  # of the scenes shown


def render(sheet: Sheet) -> Path:
    """Write the pictures and their provenance; returns the path of the pictures.

    Raises:
        ValueError: no such world or suite.
        SimulatorMissing: the world's packages are not installed.
    """
    started, world = datetime.now(UTC), world_named(sheet.world)
    images: list[NDArray[np.uint8]] = []
    instructions: list[str] = []
    cameras: tuple[str, ...] = ()
    provenance: dict[str, Any] = {}
    specs = choose_tasks(world, sheet.suite, None)
    for spec in tqdm(specs, unit="task", desc=sheet.suite):
        simulator = world.make(sheet.suite, spec.index, image_size=sheet.image_size)
        simulator.reset(init_state=spec.index % spec.init_states)
        seen = simulator.observe(images=True).images
        cameras = tuple(seen)
        images.append(np.stack([seen[camera] for camera in cameras]))
        instructions.append(simulator.task.instruction)
        provenance = simulator.provenance()
        simulator.close()
    sheet.out.mkdir(parents=True, exist_ok=True)
    path = sheet.out / f"{sheet.suite}.npz"
    partial = path.with_suffix(".writing.npz")
    np.savez_compressed(partial, images=np.stack(images), cameras=cameras, tasks=[spec.name for spec in specs],
                        instructions=instructions)
    os.replace(partial, path)
    runs.write_provenance(sheet.out, runs.provenance(
        RunConfig(), started, command=f"python -m ptrlib.simulators.sheet --world {sheet.world} --suite {sheet.suite}",
        simulator=provenance), f"{sheet.suite}.json")
    return path


def read(suite: str, folder: Path = FOLDER) -> Pictures:
    """The pictures that :func:`render` wrote.

    Raises:
        ValueError: there are none of ``suite``.
    """
    path = folder / f"{suite}.npz"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; `python -m ptrlib.simulators.sheet --suite {suite}` makes it")
    with np.load(path) as stored:
        return Pictures(stored["images"], *(tuple(str(name) for name in stored[key])
                                            for key in ("cameras", "tasks", "instructions")))


if __name__ == "__main__":
    print(render(tyro.cli(Sheet)))
