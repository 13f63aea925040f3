"""The one door to demonstrations in files, whichever format they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptrlib.data.episodes import Episode
from ptrlib.data.hdf5 import read_hdf5
from ptrlib.data.lerobot import ACTION, STATE, is_lerobot, read_lerobot


def read_episodes(path: str | Path, *, image_size: int | None = None, cameras: Sequence[str] | None = None,
                  limit_per_file: int | None = None, filter_key: str | None = None,
                  embodiment: str = "libero", state_column: str = "", action_column: str = "") -> list[Episode]:
    """All episodes of an HDF5 file, of a folder of such files, or of a LeRobot dataset (a folder).

    ``image_size`` averages images down while reading, one episode at a time, so that a large data set fits in memory.
    ``cameras`` names those to keep (``()`` reads no images); ``None`` keeps all. "a|b" keeps the one of the two that a
    file has, under that name, so that files of several robots have common views. ``limit_per_file`` takes the first
    so many episodes of each HDF5 file, or of each task of a LeRobot dataset; ``None`` takes all. ``filter_key`` names a
    list of episodes: robomimic's ``mask/<filter_key>``, or a split of a LeRobot dataset. ``embodiment`` is for files
    that do not name their own. ``state_column`` and ``action_column`` are those of a LeRobot dataset ("" for
    ``observation.state`` and ``action``); HDF5 files have no columns to choose. Raises DataError.
    """
    if is_lerobot(Path(path)):
        return read_lerobot(path, image_size=image_size, cameras=cameras, limit_per_task=limit_per_file,
                            split=filter_key, embodiment=embodiment, state=state_column or STATE,
                            action=action_column or ACTION)
    return read_hdf5(path, image_size=image_size, cameras=cameras, limit_per_file=limit_per_file,
                     filter_key=filter_key, embodiment=embodiment)
