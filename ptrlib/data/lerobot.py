"""Episodes in LeRobot datasets, formats v2.0, v2.1 and v3.0.

All three keep ``meta/info.json`` (``codebase_version``, ``fps``, ``features``, path templates) and, in parquet
files, one row per frame: ``observation.state``, ``action``, ``timestamp`` (s, from the start of the episode),
``frame_index``, ``episode_index``, ``task_index``. A camera is a feature ``observation.images.NAME`` of dtype
"video" (an mp4 file; ``timestamp`` says which frame) or "image" (encoded images in the parquet column).

============  =============================================  ======================================================
what          v2.0, v2.1                                     v3.0
============  =============================================  ======================================================
instructions  ``meta/tasks.jsonl``                           ``meta/tasks.parquet``: texts are its index
episodes      ``meta/episodes.jsonl``: index, length, tasks  ``meta/episodes/chunk-000/file-000.parquet``: the same
                                                             and which files hold the episode
frames        ``data/chunk-000/episode_000000.parquet``      ``data/chunk-000/file-000.parquet``, many episodes each
videos        ``videos/chunk-000/KEY/episode_000000.mp4``    ``videos/KEY/chunk-000/file-000.mp4``, many episodes
                                                             each; one starts at its ``from_timestamp``
============  =============================================  ======================================================

(v2.0 differs from v2.1 in its statistics only.) Read from huggingface/lerobot: v2.1 at its tag v0.3.3,
``src/lerobot/datasets/utils.py``, ``lerobot_dataset.py`` and ``v21/convert_dataset_v20_to_v21.py``; v3.0 at v0.6,
``src/lerobot/datasets/io_utils.py``, ``dataset_metadata.py``, ``dataset_reader.py`` and
``src/lerobot/scripts/convert_dataset_v21_to_v30.py``.

Frame ``j`` is what the robot saw *before* ``action[j]``; what it saw after the last one is not recorded, so ``n``
frames make an episode of ``n - 1`` actions. LeRobot refuses a video frame further than 1e-4 s from its timestamp,
and with that some files that it joined itself (its issue 3177); here a quarter of the time between two frames is
allowed, which still cannot take one frame for another.

Operator and success are no part of the format. They are read from columns that converters add: ``collector_id``,
``is_episode_successful`` (``examples/port_datasets/port_droid.py``) and ``next.success``. RoboCasa's data sets come
out in the order of its simulator, by :mod:`ptrlib.data.robocasa`. Nothing else is changed: widespread copies of
LIBERO hold images turned by 180 degrees (issue 295 of openvla/openvla), which is mirrored to what LIBERO's HDF5 files
hold and our simulator renders, and no field of the data set tells.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ptrlib.data import robocasa
from ptrlib.data.episodes import Episode
from ptrlib.data.errors import LEAVE_OUT, DataError, first_bad_row
from ptrlib.data.images import area_average, by_camera, choose_cameras
from ptrlib.data.video import read_frames
from ptrlib.policy.action_space import BUILT_IN, EMBODIMENTS

VERSIONS = ("v2.0", "v2.1", "v3.0")
INFO, MODALITY = "meta/info.json", "meta/modality.json"
STATE, ACTION = "observation.state", "action"
_OPERATOR, _SUCCESS = "collector_id", ("is_episode_successful", "next.success")
_TOLERANCE = 0.25  # of the time between two frames


def is_lerobot(folder: Path) -> bool:
    """Whether a folder is a LeRobot dataset, even one that lost its ``meta/info.json``."""
    return any((folder / part).exists() for part in (INFO, "meta/episodes", "meta/episodes.jsonl", "data/chunk-000"))


def read_lerobot(path: str | Path, *, image_size: int | None = None, cameras: Sequence[str] | None = None,
                 limit_per_task: int | None = None, split: str | None = None, episodes: Sequence[int] | None = None,
                 exclude: Collection[str] = (), state: str = STATE, action: str = ACTION, embodiment: str = "libero"
                 ) -> list[Episode]:
    """The episodes of the LeRobot dataset in the folder ``path``, in the order of their indices.

    ``image_size`` averages images down while reading; ``cameras`` names those to keep (``()`` reads no images),
    ``None`` keeps all but depth maps. ``split`` (of ``meta/info.json``, such as "train") and ``episodes`` (indices)
    select, ``exclude`` leaves those unread that it names (``episode_000003``, or with the folder
    ``folder/episode_000003``); ``limit_per_task`` then takes the first so many of each task. ``state`` and ``action``
    are the columns to read, whole; ``embodiment`` is the robot where ``meta`` does not say that it is RoboCasa's
    and ``robot_type`` is not a known one, or where a configuration described it and its sizes are those of the columns.
    Raises DataError.
    """
    dataset = _Dataset(Path(path), state, action)
    dataset.check_columns()
    camera_keys = dataset.camera_keys(cameras)
    readers: list[_EpisodeReader] = []
    broken: list[DataError] = []
    taken: Counter[str] = Counter()
    for index in dataset.select(split, episodes):
        if any(name in exclude for name in dataset.names(index)):
            continue
        try:
            reader = _EpisodeReader(dataset, index)
            if limit_per_task is None or taken[reader.task] < limit_per_task:
                reader.check_numbers()
                readers.append(reader)
                taken[reader.task] += 1
        except DataError as error:
            if LEAVE_OUT not in error.mend:
                raise
            broken.append(error)
    if broken:  # before any image is read, which takes long
        raise _all_of(broken)
    return [reader.read(camera_keys, image_size, embodiment) for reader in readers]


def _all_of(broken: Sequence[DataError]) -> DataError:
    """The first of several episodes that can only be left out, with all their names to leave them out at once."""
    first = broken[0]
    if len(broken) == 1:
        return first
    mend = (f"{first.mend}; {len(broken) - 1} more cannot be read either: data.exclude="
            f"'[{', '.join(error.demo for error in broken)}]' leaves out all")
    return DataError(first.file, first.problem, mend, demo=first.demo, key=first.key)


def frames_per_second(path: str | Path) -> float:
    """``fps`` of the LeRobot dataset in the folder ``path``. Raises DataError."""
    return 1 / _Dataset(Path(path), STATE, ACTION).frame_time


def lerobot_names(path: str | Path) -> list[str]:
    """What ``exclude`` may name in the LeRobot dataset in the folder ``path``. Raises DataError."""
    dataset = _Dataset(Path(path), STATE, ACTION)
    return [name for index in dataset.episodes for name in dataset.names(index)]


class _Dataset:
    """A dataset's metadata, and checked access to its files."""

    def __init__(self, root: Path, state: str, action: str) -> None:
        self.root, self.state, self.action = root, state, action
        self.info = self._json(INFO)
        self.version = self.info.get("codebase_version")
        if self.version not in VERSIONS:
            raise self.error(INFO, f"is {self.version!r}, which is none of {', '.join(VERSIONS)}",
                             "convert the data set to one of them with LeRobot's scripts", key="codebase_version")
        self.features: dict[str, dict[str, Any]] = self._of_info("features", dict)
        for key, feature in self.features.items():
            if not isinstance(feature, dict):
                raise self.error(INFO, f"is {feature!r}", "download the file again", key=f"features/{key}")
        self.frame_time: float = 1 / self._of_info("fps", int, float)
        self._last: dict[tuple[str, ...], tuple[Path, pa.Table]] = {}

    def check_columns(self) -> None:
        for setting, key in (("data.state_column", self.state), ("data.action_column", self.action)):
            if key not in self.features:
                raise self.error(INFO, "does not exist", f"name a column among {self._tables_of_numbers()} ({setting})",
                                 key=f"features/{key}")

    def names(self, index: int) -> tuple[str, str]:
        """What an episode may be called to exclude it."""
        return _name(index), f"{self.root.resolve().name}/{_name(index)}"

    def error(self, file: str | Path, problem: str, mend: str, *, demo: str = "", key: str = "") -> DataError:
        return DataError(self.root / file, problem, mend, demo=demo, key=key)

    def _tables_of_numbers(self) -> list[str]:
        return [key for key, feature in self.features.items() if str(feature.get("dtype")).startswith(("float", "int"))]

    # -------------------------------------------------------------------------------------------- metadata

    @cached_property
    def instructions(self) -> dict[int, str]:
        """task_index -> text."""
        if self.version == "v3.0":
            file = "meta/tasks.parquet"
            tasks = self.table(Path(file), ()).to_pandas()
            rows = (tasks if "task" in tasks else tasks.rename_axis("task").reset_index()).to_dict("records")
        else:
            file = "meta/tasks.jsonl"
            rows = self._json_lines(file)
        self._require(file, rows, task_index=int, task=str)
        return {row["task_index"]: row["task"] for row in rows}

    @cached_property
    def episodes(self) -> dict[int, Mapping[str, Any]]:
        """episode_index -> its entry in ``meta/episodes``, in order."""
        file = "meta/episodes" if self.version == "v3.0" else "meta/episodes.jsonl"
        rows = list(self._episode_rows(file)) if self.version == "v3.0" else self._json_lines(file)
        self._require(file, rows, episode_index=int, length=int)
        if not rows:
            raise self.error(file, "lists no episodes", "record some, or download the data set whole")
        return {row["episode_index"]: row for row in sorted(rows, key=lambda row: row["episode_index"])}

    def _episode_rows(self, folder: str) -> Iterator[dict[str, Any]]:
        files = sorted((self.root / folder).glob("*/*.parquet"))
        if not files:
            raise self.error(folder, "holds no parquet file", "download the data set whole")
        for file in files:
            table = self.table(file.relative_to(self.root), ())
            yield from table.select([key for key in table.column_names if not key.startswith("stats/")]).to_pylist()

    @cached_property
    def robocasa_parts(self) -> tuple[robocasa.Parts, robocasa.Parts] | None:
        """Where the parts of RoboCasa's state and action lie in their columns; None for other data sets."""
        if (self.state, self.action) != (STATE, ACTION):
            return None
        if (self.root / MODALITY).is_file():
            try:
                if parts := robocasa.parts_of(self._json(MODALITY)):
                    return parts
            except (KeyError, TypeError, AttributeError):
                raise self.error(MODALITY, "does not say where each part starts and ends", "download it again"
                                 ) from None
        of_robocasa = self.info.get("robot_type") == robocasa.ROBOT
        return (robocasa.STATE_PARTS, robocasa.ACTION_PARTS) if of_robocasa else None

    def camera_keys(self, cameras: Sequence[str] | None) -> dict[str, str]:
        """camera or view -> feature, in the order asked for, else sorted."""
        shown = (key for key, feature in self.features.items()
                 if feature.get("dtype") in ("video", "image") and not _is_depth_map(feature))
        found = by_camera(shown, _camera, lambda key, problem, mend: self.error(
            INFO, problem, mend, key=f"features/{key}"))
        return choose_cameras(cameras, found, lambda view: self.error(
            INFO, f"has no camera {view!r}", f"ask for cameras among {list(found)}", key="features"))

    def select(self, split: str | None, episodes: Sequence[int] | None) -> list[int]:
        """The indices, in order, of those ``episodes`` that are in ``split``; None leaves either condition out."""
        first, last = (0, max(self.episodes) + 1) if split is None else self._split(split)
        wanted = set(self.episodes if episodes is None else episodes)
        if unknown := sorted(wanted - set(self.episodes)):
            raise self.error(INFO, f"has no episodes {unknown}", f"choose among 0 to {max(self.episodes)}")
        return [index for index in self.episodes if index in wanted and first <= index < last]

    def _split(self, name: str) -> tuple[int, int]:
        splits = self.info.get("splits") or {}
        if name not in splits:
            raise self.error(INFO, f"does not exist among the splits {list(splits)}", "choose one of them",
                             key=f"splits/{name}")
        try:
            first, last = map(int, splits[name].split(":"))
        except (ValueError, AttributeError):
            raise self.error(INFO, f"is {splits[name]!r}", "write first and last index as '0:50'",
                             key=f"splits/{name}") from None
        return first, last

    # ----------------------------------------------------------------------------------------------- files

    def path_of(self, template: str, place: Mapping[str, Any], key: str = "") -> Path:
        """The file of ``data_path``, or that of camera ``key`` of ``video_path``, for an entry of ``episodes``."""
        index, path = place["episode_index"], self._of_info(template, str)
        if self.version == "v3.0":
            group = f"videos/{key}" if key else "data"
            numbers = {name: self.of_place(place, f"{group}/{name}") for name in ("chunk_index", "file_index")}
        else:
            numbers = {"episode_chunk": index // self._of_info("chunks_size", int), "episode_index": index}
        try:
            return Path(path.format(video_key=key, **numbers))
        except (KeyError, IndexError, ValueError, TypeError):
            raise self.error(INFO, f"is {path!r}, which holds more than {list(numbers)} and video_key, or holds them "
                             "wrongly", "write it as LeRobot does", key=template) from None

    def rows(self, file: Path, columns: tuple[str, ...], index: int) -> pa.Table:
        """An episode's rows; the file read last is kept, as v3.0 has many episodes in one."""
        if columns not in self._last or self._last[columns][0] != file:
            self._last.pop(columns, None)  # before another file fills memory
            self._last[columns] = file, self.table(file, columns)
        table = self._last[columns][1]
        return table.filter(pc.equal(table["episode_index"], index))

    def table(self, file: Path, columns: Sequence[str]) -> pa.Table:
        """A parquet file, or the given columns of it."""
        if not (self.root / file).is_file():
            raise self.error(file, "is missing", "download the data set whole")
        try:
            with pq.ParquetFile(self.root / file) as parquet:
                names = parquet.schema_arrow.names
                for key in columns:
                    if key not in names:
                        raise self.error(file, f"does not exist among the columns {names}", "download the file again",
                                         key=key)
                table = parquet.read(columns or None)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise self.error(file, f"cannot be read ({reason})", "download it again, or finalize the data set if you "
                             "recorded it") from None
        return table.select(columns) if columns else table

    def of_place(self, place: Mapping[str, Any], key: str) -> Any:
        if place.get(key) is None:
            raise self.error("meta/episodes", "is missing", "download meta again", demo=_name(place["episode_index"]),
                             key=key)
        return place[key]

    def _json(self, file: str) -> dict[str, Any]:
        try:
            content = json.loads((self.root / file).read_text())
        except FileNotFoundError:
            raise self.error(file, "is missing", "download the data set whole") from None
        except ValueError:  # of JSON or of UTF-8
            raise self.error(file, "is not JSON", "download it again") from None
        if not isinstance(content, dict):
            raise self.error(file, "is not a JSON object", "download it again")
        return content

    def _json_lines(self, file: str) -> list[dict[str, Any]]:
        if not (self.root / file).is_file():
            raise self.error(file, "is missing", "download the data set whole")
        rows = []
        for number, line in enumerate((self.root / file).read_bytes().splitlines(), 1):
            try:
                rows.append(json.loads(line))
            except ValueError:
                raise self.error(file, "is not JSON", "download the file again", key=f"line {number}") from None
        return rows

    def _require(self, file: str, rows: Sequence[Any], **kinds: type) -> None:
        for number, row in enumerate(rows, 1):
            for key, kind in kinds.items():
                value = row.get(key) if isinstance(row, dict) else None
                if not isinstance(value, kind):
                    raise self.error(file, f"is {value!r} in entry {number}", "download the file again", key=key)

    def _of_info(self, key: str, *kinds: type) -> Any:
        value = self.info.get(key)
        if not isinstance(value, kinds) or not value:
            raise self.error(INFO, f"is {value!r}", "download the file again, or write it as LeRobot does", key=key)
        return value


class _EpisodeReader:
    """One episode: checked access to its rows and images."""

    def __init__(self, dataset: _Dataset, index: int) -> None:
        self.dataset, self.index, self.name = dataset, index, _name(index)
        self.place = dataset.episodes[index]
        self.file = dataset.path_of("data_path", self.place)
        optional = (_OPERATOR, *_SUCCESS, robocasa.TASK_NAME)
        self.columns = dataset.rows(self.file, (
            dataset.state, dataset.action, "timestamp", "frame_index", "episode_index", "task_index",
            *(key for key in optional if key in dataset.features)), index)
        self.frames = len(self.columns)
        self._check_rows()
        self.instruction = self._text("task_index")
        self.task = self.instruction.replace(" ", "_")  # as LIBERO names its tasks
        if dataset.robocasa_parts and robocasa.TASK_NAME in self.columns.column_names:
            self.task = robocasa.task_of(self._text(robocasa.TASK_NAME), self.instruction)

    def error(self, key: str, problem: str, mend: str) -> DataError:
        return self.dataset.error(self.file, problem, mend, demo=self.name, key=key)

    def _check_rows(self) -> None:
        if self.frames != self.place["length"]:
            raise self.error("", f"has {self.frames} frames where meta/episodes promises {self.place['length']}",
                             "download the file again")
        if self.frames < 2:
            raise self.error("", f"has {self.frames} frames, which leaves no action between two observations",
                             LEAVE_OUT)
        if not np.array_equal(self._numbers("frame_index")[:, 0], np.arange(self.frames)):
            raise self.error("frame_index", "does not count 0, 1, 2, ...", "download the file again")

    def read(self, camera_keys: Mapping[str, str], image_size: int | None, embodiment: str) -> Episode:
        state, actions = self._numbers(self.dataset.state), self._numbers(self.dataset.action)
        if self.dataset.robocasa_parts:
            state, actions = self._in_simulator_order(state, actions, *self.dataset.robocasa_parts)
            embodiment = robocasa.EMBODIMENT
        else:
            embodiment = self._robot(embodiment, state.shape[1], actions.shape[1])
        present = self.columns.column_names
        return Episode(
            images={camera: self._images(key, image_size) for camera, key in camera_keys.items()},
            state=state.astype(np.float32), actions=actions[:-1].astype(np.float32),
            instruction=self.instruction, embodiment=embodiment, task=self.task,
            source=self.dataset.root.resolve().name, name=self.name, file=str(self.dataset.root),
            operator=str(self.columns[_OPERATOR][0]) if _OPERATOR in present else "",
            success=next((bool(self._numbers(key).any()) for key in _SUCCESS if key in present), True))

    def check_numbers(self) -> None:
        """Raise DataError for a state or an action that is no number."""
        for key in (self.dataset.state, self.dataset.action):
            self._numbers(key)

    def _robot(self, embodiment: str, state_size: int, action_size: int) -> str:
        """The robot that ``robot_type`` names, if it is known; ``embodiment`` otherwise, and where a configuration
        describes that one and it has the sizes of these columns."""
        named = str(self.dataset.info.get("robot_type"))  # some files hold a list
        if named not in EMBODIMENTS:
            return embodiment
        described = EMBODIMENTS.get(embodiment)
        if described is None or embodiment in BUILT_IN:
            return named
        sizes = len(described.state_slots), len(described.action_slots)
        return embodiment if sizes == (state_size, action_size) else named

    def _in_simulator_order(self, state: NDArray, actions: NDArray, state_parts: robocasa.Parts,
                            action_parts: robocasa.Parts) -> tuple[NDArray, NDArray]:
        for key, values, parts in ((STATE, state, state_parts), (ACTION, actions, action_parts)):
            needed = max(part.stop for part in parts.values())
            if values.shape[1] < needed:
                raise self.error(key, f"has {values.shape[1]} columns where RoboCasa's have {needed}",
                                 f"say in {MODALITY} which part lies where")
        try:
            return (robocasa.state_of_lerobot(state, state_parts),
                    robocasa.action_of_lerobot(actions, action_parts))
        except ValueError as error:  # a quaternion of length zero
            raise self.error(STATE, f"holds no rotation ({str(error).rstrip('.')})", LEAVE_OUT) from None

    def _numbers(self, key: str) -> NDArray:
        """(frames, n), finite."""
        column = self.columns[key].combine_chunks()
        if column.null_count:
            raise self.error(key, "lacks a value", "download the file again")
        values, lengths = column, np.ones(self.frames, int)
        if any(is_list(column.type) for is_list in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
            values, lengths = column.flatten(), pc.list_value_length(column).to_numpy(zero_copy_only=False)
        if not any(is_number(values.type) for is_number in (types.is_floating, types.is_integer, types.is_boolean)):
            raise self.error(key, f"must be a table of numbers, not {column.type}", "name another column")
        if lengths.min() != lengths.max():
            raise self.error(key, f"has rows of {lengths.min()} and of {lengths.max()} numbers",
                             "download the file again")
        table = values.to_numpy(zero_copy_only=False).reshape(self.frames, -1)
        if bad := first_bad_row(table):
            raise self.error(key, f"holds {bad[1]} in frame {bad[0]}", LEAVE_OUT)
        return table

    def _text(self, key: str) -> str:
        """The text that the task numbers in a column point at, the same in every frame."""
        indices = np.unique(self._numbers(key)).tolist()
        if len(indices) > 1:
            raise self.error(key, f"changes from one task to another ({indices})", "make it one episode per task")
        if indices[0] not in self.dataset.instructions:
            raise self.error(key, f"is {indices[0]}, which meta/tasks does not name", "download meta again")
        return self.dataset.instructions[indices[0]]

    # ---------------------------------------------------------------------------------------------- images

    def _images(self, key: str, image_size: int | None) -> NDArray[np.uint8]:
        """(frames, height, width, 3)"""
        in_video = self.dataset.features[key]["dtype"] == "video"
        file = self.dataset.path_of("video_path", self.place, key) if in_video else self.file
        stored = self._video(file, key) if in_video else self._embedded(key)
        images: NDArray[np.uint8] | None = None
        for frame, image in enumerate(stored):
            height, width = image.shape[:2]
            if image_size is not None and image_size > min(height, width):
                raise self.dataset.error(file, f"has images of {height} x {width} pixels, too small for image_size "
                                         f"{image_size}", "lower image_size, or record larger images",
                                         demo=self.name, key=key)
            small = image if image_size is None else area_average(image, image_size)
            if images is None:
                images = np.empty((self.frames, *small.shape), np.uint8)
            if small.shape != images.shape[1:]:
                raise self.dataset.error(file, f"changes to {height} x {width} pixels in frame {frame}",
                                         "set image_size", demo=self.name, key=key)
            images[frame] = small
        assert images is not None  # an episode has two frames at least
        return images

    def _video(self, file: Path, key: str) -> Iterator[NDArray[np.uint8]]:
        times = self._numbers("timestamp")[:, 0].astype(np.float64)
        if not (np.diff(times) > 0).all():
            raise self.error("timestamp", "does not grow from frame to frame", "download the file again")
        if self.dataset.version == "v3.0":
            times += self.dataset.of_place(self.place, f"videos/{key}/from_timestamp")
        return read_frames(self.dataset.root / file, times, _TOLERANCE * self.dataset.frame_time,
                           demo=self.name, key=key)

    def _embedded(self, key: str) -> Iterator[NDArray[np.uint8]]:
        cells = self.dataset.rows(self.file, (key, "episode_index"), self.index)[key]
        for frame, cell in enumerate(cells):
            content = cell.as_py()
            encoded = content.get("bytes") if isinstance(content, dict) else content
            if not isinstance(encoded, bytes):
                raise self.error(key, f"holds no image in frame {frame}", "write the data set with its images embedded")
            try:
                image = Image.open(io.BytesIO(encoded))
                if image.mode.startswith(("I", "F")):  # would be cut off at 255, not scaled
                    raise self.error(key, f"holds an image of more than 8 bits a channel in frame {frame}",
                                     "write the data set with 8-bit images, or leave the camera out with data.cameras")
                yield np.asarray(image.convert("RGB"))
            except (UnidentifiedImageError, OSError):
                raise self.error(key, f"holds a broken image in frame {frame}", "download the file again") from None


def _name(index: int) -> str:
    return f"episode_{index:06d}"


def _camera(key: str) -> str:
    return key.removeprefix("observation.images.").removeprefix("observation.").removeprefix("robot0_")


def _is_depth_map(feature: Mapping[str, Any]) -> bool:
    described: dict[str, Any] = {**(feature.get("info") or {}), **(feature.get("video_info") or {})}
    return bool(described.get("is_depth_map") or described.get("video.is_depth_map"))
