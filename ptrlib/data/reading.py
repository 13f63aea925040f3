"""The one door to demonstrations in files, whichever format they have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from ptrlib.data.episodes import Episode
from ptrlib.data.errors import DataError
from ptrlib.data.hdf5 import hdf5_names, read_hdf5
from ptrlib.data.lerobot import ACTION, STATE, is_lerobot, lerobot_names, read_lerobot


def read_episodes(path: str | Path, *, image_size: int | None = None, cameras: Sequence[str] | None = None,
                  limit_per_file: int | None = None, filter_key: str | None = None, exclude: Sequence[str] = (),
                  embodiment: str = "libero", state_column: str = "", action_column: str = "") -> list[Episode]:
    """All episodes of an HDF5 file, of a folder of such files, or of a LeRobot dataset (a folder).

    ``image_size`` averages images down while reading, one episode at a time, so that a large data set fits in memory.
    ``cameras`` names those to keep (``()`` reads no images); ``None`` keeps all. "a|b" keeps the one of the two that a
    file has, under that name, so that files of several robots have common views. ``filter_key`` names a list of
    episodes: robomimic's ``mask/<filter_key>``, or a split of a LeRobot dataset. ``exclude`` names episodes that are
    left unread, ``demo_3`` of every file or ``file/demo_3`` of one, with its name without suffix (of a LeRobot dataset
    ``episode_000003``, or with its folder's name before it). ``limit_per_file`` takes the first so many of those
    episodes of each HDF5 file, or of each task of a LeRobot dataset; ``None`` takes all. ``embodiment`` is for files
    that do not name their own. ``state_column`` and ``action_column`` are those of a LeRobot dataset ("" for
    ``observation.state`` and ``action``); HDF5 files have no columns to choose.

    Raises:
        DataError: a file cannot be read, or columns are chosen of HDF5 files.
        ValueError: no episode has a name in ``exclude``.
    """
    [exclude] = excluded_by_path(exclude, [path])
    if is_lerobot(Path(path)):
        return read_lerobot(path, image_size=image_size, cameras=cameras, limit_per_task=limit_per_file,
                            split=filter_key, exclude=exclude, embodiment=embodiment, state=state_column or STATE,
                            action=action_column or ACTION)
    chosen = {"data.state_column": state_column, "data.action_column": action_column}
    if any(chosen.values()) and Path(path).exists():
        raise DataError(path, "holds HDF5 files, and only the columns of LeRobot datasets can be chosen",
                        f"leave out {' and '.join(key for key, value in chosen.items() if value)}")
    return read_hdf5(path, image_size=image_size, cameras=cameras, limit_per_file=limit_per_file,
                     filter_key=filter_key, embodiment=embodiment, exclude=exclude)


def excluded_by_path(exclude: Sequence[str], paths: Sequence[str | Path]) -> list[tuple[str, ...]]:
    """Those of the names ``exclude`` that each of ``paths`` has.

    Raises:
        ValueError: none of them has an episode of one of these names; the sentence says the nearest that one has.
        DataError: a file cannot be read.
    """
    if not exclude:
        return [() for _ in paths]
    known = [lerobot_names(path) if is_lerobot(Path(path)) else hdf5_names(path) for path in paths]
    everywhere = [name for names in known for name in names]
    for name in exclude:
        if name not in everywhere:
            near = difflib.get_close_matches(name, everywhere, n=1, cutoff=0.0)
            raise ValueError(f"data.exclude names {name!r}, which is no episode of {', '.join(map(str, paths))}; the "
                             f"nearest name of one is {near[0] if near else None!r}")
    return [tuple(name for name in exclude if name in names) for names in known]
