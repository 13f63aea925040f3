"""A page element to look at: every task of a suite as its cameras see it."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.simulators.sheet import Pictures

COLUMNS = 3  # tasks side by side, each with all its cameras
_SEPARATOR = 3  # pixels between the cameras
_LINE = 50  # letters of an instruction in a line


def chart(pictures: Pictures) -> tuple[Figure, pd.DataFrame]:
    """A cell per task with its cameras from left to right, its name and the instruction of the scene shown."""
    count, cameras, height, width, _ = pictures.images.shape
    rows = -(-count // COLUMNS)
    figure, panels = plt.subplots(rows, COLUMNS, figsize=(9.0, rows * (3.0 * height / (cameras * width) + 0.36)),
                                  squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    gap = np.full((height, _SEPARATOR, 3), 255, np.uint8)
    for panel, images, task, instruction in zip(panels.flat, pictures.images, pictures.tasks, pictures.instructions,
                                                strict=False):
        panel.imshow(np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1))
        panel.set_title("\n".join([task, *textwrap.wrap(instruction, _LINE)]), fontsize=7, loc="left", pad=3)
    table = pd.DataFrame({"task": pictures.tasks, "instruction": pictures.instructions})
    return figure, table.assign(cameras=" ".join(pictures.cameras))
