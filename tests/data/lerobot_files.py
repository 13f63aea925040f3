"""Small LeRobot datasets written in the layouts of v2.1 and v3.0, for tests."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

FPS = 20
TASKS = ("open the drawer", "close the drawer")
CAMERAS = ("observation.images.top", "observation.images.wrist")


def shade(episode: int, frame: int, camera: int = 0) -> NDArray:
    """The colour (3,) that fills a frame."""
    return np.array([40 + 8 * (frame % 20), 60 + 50 * episode, 30 + 150 * camera])


def picture(episode: int, frame: int, camera: int, size: int) -> NDArray:
    return np.broadcast_to(shade(episode, frame, camera), (size, size, 3)).astype(np.uint8)


def write_lerobot(root: Path, version: str = "v3.0", *, lengths: Sequence[int] = (6, 5), video: bool = False,
                  size: int = 16, state: NDArray | None = None, actions: NDArray | None = None,
                  cameras: Sequence[str] = CAMERAS, extra: Mapping[str, Sequence[Any]] | None = None,
                  info: Mapping[str, Any] | None = None, tasks: Sequence[str] = TASKS,
                  names: Sequence[str] = (), encoding: Mapping[str, str] | None = None) -> Path:
    """Write a dataset of episodes with the given numbers of frames; their ``tasks`` in turn.

    Frame ``j`` of episode ``e`` has state ``(e, j, 0, ...)``, action ``(j / 100, e, 0, ...)``. ``state`` and
    ``actions`` replace them for all frames of all episodes; ``extra`` adds columns, a value per episode. ``names``
    are listed after the tasks and no episode's; ``encoding`` is for :func:`write_video`.
    """
    frames = pd.DataFrame([{"episode_index": episode, "frame_index": frame, "index": 0,
                            "timestamp": np.float32(frame / FPS), "task_index": episode % len(tasks)}
                           for episode, length in enumerate(lengths) for frame in range(length)])
    frames["index"] = np.arange(len(frames))
    if state is None:
        state = np.zeros((len(frames), 8))
        state[:, 0], state[:, 1] = frames.episode_index, frames.frame_index
    if actions is None:
        actions = np.zeros((len(frames), 7))
        actions[:, 0], actions[:, 1] = frames.frame_index / 100, frames.episode_index
    frames["observation.state"], frames["action"] = list(state), list(actions)
    for key, values in (extra or {}).items():
        frames[key] = [values[episode] for episode in frames.episode_index]
    if not video:
        for number, key in enumerate(cameras):
            frames[key] = [encoded(picture(episode, frame, number, size))
                           for episode, frame in zip(frames.episode_index, frames.frame_index, strict=True)]
    content = {"codebase_version": version, "robot_type": "panda", "fps": FPS, "chunks_size": 1000,
               "total_episodes": len(lengths), "splits": {"train": f"0:{len(lengths)}"},
               "features": features(frames, size, cameras, video)} | dict(info or {})
    places = [{"episode_index": episode, "length": length, "tasks": [tasks[episode % len(tasks)]]}
              for episode, length in enumerate(lengths)]
    write = write_v3 if version == "v3.0" else write_v2
    write(root, content, frames, places, [*tasks, *names], cameras if video else (), size, encoding or {})
    return root


def features(frames: pd.DataFrame, size: int, cameras: Sequence[str], video: bool) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key in frames.columns:
        value = np.asarray(frames[key].iloc[0])
        kind = "string" if value.dtype.kind == "U" else "bool" if value.dtype.kind == "b" else value.dtype.name
        found[key] = {"dtype": kind, "shape": list(value.shape or (1,)), "names": None}
    for key in cameras:
        found[key] = {"dtype": "video" if video else "image", "shape": [size, size, 3],
                      "names": ["height", "width", "channel"]}
    return found


def encoded(image: NDArray) -> dict[str, Any]:
    """As the package datasets embeds images in parquet."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "frame.png"}


def write_v2(root: Path, info: dict[str, Any], frames: pd.DataFrame, places: list[dict[str, Any]],
             tasks: Sequence[str], videos: Sequence[str], size: int, encoding: Mapping[str, str]) -> None:
    info = {"data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"} | info
    write_text(root / "meta/info.json", json.dumps(info))
    write_text(root / "meta/episodes.jsonl", "".join(json.dumps(place) + "\n" for place in places))
    write_text(root / "meta/tasks.jsonl", "".join(
        json.dumps({"task_index": index, "task": task}) + "\n" for index, task in enumerate(tasks)))
    for place in places:
        episode = place["episode_index"]
        write_parquet(root / f"data/chunk-000/episode_{episode:06d}.parquet", frames[frames.episode_index == episode])
        for number, key in enumerate(videos):
            write_video(root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4",
                        [picture(episode, frame, number, size) for frame in range(place["length"])], **encoding)


def write_v3(root: Path, info: dict[str, Any], frames: pd.DataFrame, places: list[dict[str, Any]],
             tasks: Sequence[str], videos: Sequence[str], size: int, encoding: Mapping[str, str]) -> None:
    """All episodes in one parquet file, and in one video file per camera."""
    info = {"data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"} | info
    write_text(root / "meta/info.json", json.dumps(info))
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks, name="task")).to_parquet(
        root / "meta/tasks.parquet")
    start = 0
    for place in places:
        place.update({"data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": start,
                      "dataset_to_index": start + place["length"], "stats/action/mean": [0.0]})
        for key in videos:
            place.update({f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": 0,
                          f"videos/{key}/from_timestamp": start / FPS})
        start += place["length"]
    write_parquet(root / "meta/episodes/chunk-000/file-000.parquet", pd.DataFrame(places))
    write_parquet(root / "data/chunk-000/file-000.parquet", frames)
    for number, key in enumerate(videos):
        write_video(root / f"videos/{key}/chunk-000/file-000.mp4",
                    [picture(place["episode_index"], frame, number, size)
                     for place in places for frame in range(place["length"])], **encoding)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path)


def write_video(path: Path, images: Sequence[NDArray], leave_out: Sequence[int] = (), *, pixels: str = "yuv444p",
                quality: str = "10") -> None:
    """H.264 with a key frame every seven and frames that are stored out of order, as encoders do."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        stream.options = {"crf": quality, "g": "7", "bf": "2"}
        for number, image in enumerate(images):
            if number in leave_out:
                continue
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
