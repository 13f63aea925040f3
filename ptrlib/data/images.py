"""Images: the one way in which the package chooses and shrinks them, in training and in evaluation alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def camera_of(view: str, cameras: Collection[str]) -> str | None:
    """The camera among ``cameras`` that shows ``view``: the first of its names, "a|b|c", that there is."""
    return next((camera for camera in view.split("|") if camera in cameras), None)


def choose_cameras(views: Sequence[str] | None, stored: Mapping[str, str], missing: Callable[[str], Exception]
                   ) -> dict[str, str]:
    """What a file calls each of ``views``, in that order, given its own names of its cameras; all of them for None.

    Raises ``missing(view)`` for a view that none of its cameras shows.
    """
    if views is None:
        return dict(stored)
    chosen = {}
    for view in views:
        camera = camera_of(view, stored)
        if camera is None:
            raise missing(view)
        chosen[view] = stored[camera]
    return chosen


def by_camera(keys: Iterable[str], camera: Callable[[str], str], error: Callable[[str, str, str], Exception]
              ) -> dict[str, str]:
    """camera -> key of a file, sorted by key. Raises ``error(key, problem, mend)`` for the second key of one camera."""
    found: dict[str, str] = {}
    for key in sorted(keys):
        if other := found.get(camera(key)):
            raise error(key, f"and {other} are both the camera {camera(key)!r}", "give one of them another name")
        found[camera(key)] = key
    return found


def area_average(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Shrink ``images`` (..., height, width, 3) to (..., size, size, 3) by averaging areas.

    Images that already have that size are returned as they are (no copy). Enlarging is refused: it
    would hide that the policy sees less than its configuration says.
    """
    height, width = images.shape[-3:-1]
    if (height, width) == (size, size):
        return images
    if size > min(height, width):
        raise ValueError(f"images of {height} x {width} pixels cannot be shrunk to {size} x {size}; "
                         "set network.image_size to at most their size")
    if height % size == 0 and width % size == 0:
        return _average_blocks(images, height // size, width // size)
    rows, columns = _overlaps(height, size), _overlaps(width, size)
    averaged = np.einsum("ih,...hwc,jw->...ijc", rows, images.astype(np.float32), columns, optimize=True)
    return np.rint(averaged).astype(np.uint8)


def _average_blocks(images: NDArray[np.uint8], down: int, across: int) -> NDArray[np.uint8]:
    """Integer factors: sums of strided views in integers, rounded half up."""
    wide: Any = np.uint16 if down * across <= 256 else np.uint32
    rows = images[..., 0::down, :, :].astype(wide)
    for offset in range(1, down):
        rows += images[..., offset::down, :, :]
    total = rows[..., 0::across, :].copy()
    for offset in range(1, across):
        total += rows[..., offset::across, :]
    total += down * across // 2
    total //= down * across
    return total.astype(np.uint8)


def _overlaps(length: int, size: int) -> NDArray[np.float32]:
    """(size, length) weights: the share of each input pixel in each output pixel; rows sum to 1."""
    edges = np.linspace(0, length, size + 1)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * size / length).astype(np.float32)


def shift(images: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Move ``images`` (n, height, width, 3) by whole pixels; edge pixels are repeated into the gap."""
    height, width = images.shape[1:3]
    moved = np.empty_like(images)
    top, bottom = max(down, 0), height + min(down, 0)
    left, end = max(right, 0), width + min(right, 0)
    moved[:, top:bottom, left:end] = images[:, top - down:bottom - down, left - right:end - right]
    moved[:, :top, left:end] = moved[:, top:top + 1, left:end]
    moved[:, bottom:, left:end] = moved[:, bottom - 1:bottom, left:end]
    moved[:, :, :left] = moved[:, :, left:left + 1]
    moved[:, :, end:] = moved[:, :, end - 1:end]
    return moved
