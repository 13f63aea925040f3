"""Frames of a video by their times, decoded with PyAV (``av``, the extra ``[lerobot]``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptrlib.data.errors import LEAVE_OUT, DataError

_SEEK_MARGIN = 1.0  # seconds decoded before the first frame: a key frame is shown later than it is stored


def read_frames(video: Path, times: NDArray[np.float64], tolerance: float, *, demo: str, key: str
                ) -> Iterator[NDArray[np.uint8]]:
    """Yield the frame (height, width, 3), RGB, at each of the increasing ``times`` (seconds into the video).

    A frame may lie ``tolerance`` seconds off. Raises DataError where there is none, with ``demo`` and ``key`` to
    say for what it was wanted.
    """
    av = _pyav(video, demo, key)
    if not video.is_file():
        raise DataError(video, "is missing", "download the data set whole, with its videos", demo=demo, key=key)
    found = 0
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise DataError(video, "holds no video", "download it again", demo=demo, key=key)
            container.seek(int(max(0.0, times[0] - _SEEK_MARGIN) * av.time_base))
            for frame in container.decode(container.streams.video[0]):
                if frame.pts is None or frame.time < times[found] - tolerance:
                    continue
                if frame.time > times[found] + tolerance:
                    break
                yield frame.to_ndarray(format="rgb24")
                found += 1
                if found == len(times):
                    return
    except av.FFmpegError as error:
        raise DataError(video, f"cannot be decoded ({error.strerror})", "download it again", demo=demo, key=key
                        ) from None
    raise DataError(video, f"has no frame at {times[found]:.3f} s, where frame {found} of {len(times)} should be",
                    f"download it again, or {LEAVE_OUT}", demo=demo, key=key)


def _pyav(video: Path, demo: str, key: str) -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise DataError(video, "needs the package av to be decoded, which is not installed",
                        "install it with `make setup` or `pip install av`, or ask for no cameras",
                        demo=demo, key=key) from None
    return av
