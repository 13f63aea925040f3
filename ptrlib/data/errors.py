"""One kind of error for every file that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WITHOUT_IMAGES = ("name one file with images as data.path if others lie beside it (robomimic's low_dim files do), "
                  "call those of an HDF5 file obs/NAME_image or obs/NAME_rgb, or render them with robomimic's "
                  "dataset_states_to_obs.py")  # the mend where there are none
LEAVE_OUT = "leave the episode out with data.exclude"  # of data that are read; the sentence names the episode


def first_bad_row(table: NDArray) -> tuple[int, str] | None:
    """The first row of a table of numbers that cannot be learned from, and what it holds; None where there is none."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(table) <= np.finfo(np.float32).max).all(axis=1)  # all is learned in float32
    if good.all():
        return None
    row = int(np.flatnonzero(~good)[0])
    return row, "a number beyond float32" if np.isfinite(table[row]).all() else "NaN or infinity"


class DataError(ValueError):
    """A file is missing, broken, or not what it should be; says where, what, and how to mend it.

    ``where`` inside the file is ``demo`` and ``key``; both may be empty when the file as a whole is bad.
    """

    def __init__(self, file: str | Path, problem: str, mend: str, *, demo: str = "", key: str = "") -> None:
        self.file, self.problem, self.mend, self.demo, self.key = str(file), problem, mend, demo, key
        place = "/".join(part for part in (demo, key) if part)
        where = f"{file}: {place}" if place else f"{file}"
        super().__init__(f"{where} {problem}; {mend}.")

    def __reduce__(self) -> tuple[Callable[..., DataError], tuple[()]]:
        """As a worker process hands it on to its parent, which ``args`` alone could not make again."""
        return partial(DataError, self.file, self.problem, self.mend, demo=self.demo, key=self.key), ()
