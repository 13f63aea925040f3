"""One sheet with the opening scene of all 24 tasks, to look at: is the kitchen plausible?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ptrlib.simulators import robocasa

COLUMNS = 6


@dataclass(frozen=True)
class Sheet:
    """Draw the opening scene of all 24 RoboCasa tasks."""

    out: Path = Path("build/robocasa_tasks.png")
    scene: int = 0
    """evaluation scene of the first task; the next task shows the next one, so that kitchens take turns"""
    assets: str = "auto"
    """auto, minimal or full"""
    image_size: int = 160
    """pixels of one camera"""


def scenes(sheet: Sheet) -> dict[str, dict[str, Any]]:
    """Task -> camera -> (H, W, 3), and its instruction under "instruction"."""
    found = {}
    for number, task in enumerate(robocasa.TASKS):
        simulator = robocasa.make(robocasa.ALL, number, assets=sheet.assets, image_size=sheet.image_size)
        try:
            simulator.reset(init_state=sheet.scene + number)
            found[task.name] = {**simulator.render(), "instruction": simulator.task.instruction}
        finally:
            simulator.close()
        print(f"{task.name}: {found[task.name]['instruction']}", flush=True)
    return found


def draw(found: dict[str, dict[str, Any]], out: Path) -> None:
    """Save the sheet: each task's outside view on its side of the robot, and the wrist's view below it."""
    from matplotlib import pyplot as plt

    rows = -(-len(found) // COLUMNS)
    figure, axes = plt.subplots(3 * rows, COLUMNS, figsize=(2.2 * COLUMNS, 6.9 * rows), layout="constrained")
    for axis in axes.ravel():
        axis.set_axis_off()
    for number, (name, seen) in enumerate(found.items()):
        row, column = divmod(number, COLUMNS)
        for line, camera in enumerate(robocasa.CAMERAS):
            axes[3 * row + line, column].imshow(seen[camera])
        axes[3 * row, column].set_title(name, fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Draw the sheet that the command line asks for."""
    sheet = tyro.cli(Sheet, args=arguments)
    draw(scenes(sheet), sheet.out)
    print(f"wrote {sheet.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
