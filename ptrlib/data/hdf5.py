"""Episodes in HDF5 files, as LIBERO and robomimic write them.

Both keep one group ``data/demo_i`` per episode; they differ in when an observation was taken.

*LIBERO* (``obs/agentview_rgb``, ...): ``obs[j]`` is what the robot saw AFTER ``actions[j]``, images are
stored upside down (OpenGL), ``states[j]`` is the simulator BEFORE ``actions[j]``. The first of ``n`` rows
has no observation before its action, so ``n`` rows make an episode of ``T = n - 1`` actions; writing puts
a no-op there, and reading what was written gives the same episode.

*robomimic* (``obs/agentview_image``, ``obs/robot0_...``, or a group ``next_obs`` beside ``obs``, whatever the cameras
are called): ``obs[j]`` was taken before ``actions[j]`` and images are upright. The observation after the last action is
in ``next_obs``; without it the last action is dropped.
Where neither file nor demo carries an instruction (``image_v141.hdf5`` is what every task's file is called), the task
is ``env_name`` ("PickPlaceCan") and the instruction its words ("pick place can"); where several files of a folder share
their ``env_name`` ("FrankaRealWorld"), it tells no tasks apart, and the file's name takes its place. RoboCasa's own
files are of this kind; their state comes out in the order of the simulator (:mod:`ptrlib.data.robocasa`), their task is
``env_name``, by the paper's name, and their instruction each demo's ``ep_meta``.

LIBERO's files written anew (OpenVLA's, without no-ops) keep its keys, but each observation is the one BEFORE its
action. Nothing in them says so: give the group ``data`` the attribute ``observed`` = "before".

Where the group ``data`` says how images lie (``macros_image_convention``: "opengl" upside down, "opencv" upright),
that holds for either.

What upstream does not store is kept in attributes and groups that its readers ignore: operator, success,
seed, task, instruction, embodiment, source, ``truth/`` masks and the simulator's ``final_state``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from ptrlib.data import robocasa
from ptrlib.data.episodes import Episode
from ptrlib.data.errors import LEAVE_OUT, WITHOUT_IMAGES, DataError, first_bad_row
from ptrlib.data.images import area_average, by_camera, choose_cameras

FILE_SUFFIXES = (".hdf5", ".h5")
_NO = ("false", "0", "no")  # of an attribute "success"
_LIBERO_STATE = ("ee_states", "gripper_states")
_LIBERO_DERIVED = ("ee_pos", "ee_ori")  # slices of ee_states that upstream stores a second time
_OF_ARM = re.compile(r"robot\d_")  # robomimic's keys of an arm
_UPSIDE_DOWN = {"opengl": True, "opencv": False}  # by robosuite's name of the convention
_FRAMES_AT_ONCE = 32  # images read and averaged while they are in the processor's cache
_NO_OP_GRIPPER = -1.0  # open, as in LIBERO's dummy action


# ---------------------------------------------------------------------------------------------- reading


def read_hdf5(path: str | Path, *, image_size: int | None = None, cameras: Sequence[str] | None = None,
              limit_per_file: int | None = None, filter_key: str | None = None,
              embodiment: str = "libero", exclude: Collection[str] = ()) -> list[Episode]:
    """All episodes of one file, or of every ``.hdf5`` / ``.h5`` file in a folder (sorted by name).

    The options are those of :func:`ptrlib.data.reading.read_episodes`. Raises DataError.
    """
    files = _files_of(Path(path))
    shared = _shared_environments(files)
    episodes: list[Episode] = []
    for file in files:
        episodes.extend(_read_file(file, image_size, cameras, limit_per_file, filter_key, embodiment, shared, exclude))
    return episodes


def hdf5_names(path: str | Path) -> list[str]:
    """What ``exclude`` may name: ``demo_3`` of every file, or ``file/demo_3`` with a file's name. Raises DataError."""
    names: list[str] = []
    for file in _files_of(Path(path)):
        with opened(file) as handle:
            try:
                found = list(data_of(file, handle))
            except (OSError, RuntimeError) as error:
                raise DataError(file, f"cannot be read ({error})", "copy or record it again") from None
        for name in found:
            names += (name, f"{file.stem}/{name}")
    return names


def recorded_in(path: str | Path) -> list[dict[str, str]]:
    """Worlds, and of RoboCasa the assets and the kitchen, that the files of ``path`` say they were recorded in, each
    once; files of others, which do not say in our way, give none."""
    found: list[dict[str, str]] = []
    for file in _files_of(Path(path)):
        with opened(file) as handle:
            told = data_of(file, handle).attrs.get("provenance", "")
        try:
            place = {key: value for key, value in json.loads(told).items() if key in ("world", "assets", "kitchen")}
        except (ValueError, TypeError, AttributeError):
            continue
        if place and place not in found:
            found.append(place)
    return found


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in FILE_SUFFIXES and file.is_file())
        if not files:
            raise DataError(path, "holds no .hdf5 or .h5 file, nor a LeRobot data set", "record demonstrations there "
                            "with `ptrlib demos`, or name another folder")
        return files
    if not path.exists():
        raise DataError(path, "does not exist", "check the path, or record demonstrations with "
                        "`ptrlib demos`")
    return [path]


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read from. Raises DataError if ``file``, which is there, is none or cannot be opened."""
    try:
        handle = h5py.File(file, "r")
    except OSError as error:
        reason = str(error).lower()
        if "truncated" in reason or "eof" in reason or file.stat().st_size == 0:
            problem, mend = "is cut short", "copy or record it again"
        elif "signature" in reason:
            problem, mend = "is not an HDF5 file", "give a file that LIBERO, robomimic or ptrlib wrote"
        else:
            problem, mend = f"cannot be opened ({error})", "check its permissions, or copy it again"
        raise DataError(file, problem, mend) from None
    with handle:
        yield handle


def data_of(file: Path, handle: h5py.File) -> h5py.Group:
    """The group that holds the demos. Raises DataError if ``file``, open as ``handle``, has none."""
    data = handle.get("data")
    if not isinstance(data, h5py.Group):
        raise DataError(file, "has no group 'data'", "give a file that LIBERO, robomimic or ptrlib wrote", key="data")
    return data


def _shared_environments(files: Sequence[Path]) -> set[str]:
    """The names of environments that several of ``files`` have."""
    if len(files) < 2:
        return set()
    counted: Counter[str] = Counter()
    for file in files:
        with opened(file) as handle, suppress(ValueError, TypeError, AttributeError):  # reading says what is wrong
            counted[_environment(data_of(file, handle))] += 1
    return {name for name, count in counted.items() if count > 1}


def _environment(data: h5py.Group) -> str:
    """The simulator's environment, ``env_name``; "" where a file does not say."""
    return str(json.loads(data.attrs.get("env_args", "{}")).get("env_name") or "")


def _read_file(file: Path, image_size: int | None, cameras: Sequence[str] | None, limit: int | None,
               filter_key: str | None, embodiment: str, shared: Collection[str], exclude: Collection[str]
               ) -> list[Episode]:
    with opened(file) as handle:
        data = data_of(file, handle)
        try:
            names = [name for name in _demo_names(file, handle, filter_key)
                     if name not in exclude and f"{file.stem}/{name}" not in exclude][:limit]
            common = _common_fields(file, data, embodiment)
        except DataError:
            raise
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise DataError(file, f"cannot be read ({error})", "copy or record it again") from None
        return [_read_demo(file, data, name, common, image_size, cameras, shared) for name in names]


def _demo_names(file: Path, handle: h5py.File, filter_key: str | None) -> list[str]:
    if filter_key is None:
        names = list(handle["data"])
    else:
        masks = list(handle["mask"]) if "mask" in handle else []
        if filter_key not in masks:
            raise DataError(file, f"does not exist among the filter keys {masks}", "choose one of them",
                            key=f"mask/{filter_key}")
        names = [name.decode() if isinstance(name, bytes) else str(name)
                 for name in handle["mask"][filter_key][()]]
    if not names and filter_key is not None:
        raise DataError(file, "lists no episodes", "choose another data.filter_key", key=f"mask/{filter_key}")
    if not names:
        raise DataError(file, "holds no episodes", "delete the file, or record demonstrations into it",
                        key="data")
    return sorted(names, key=lambda name: (len(name), name))


def _text(value: Any) -> Any:
    """An attribute's value; text that was stored as bytes is text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _common_fields(file: Path, data: h5py.Group, embodiment: str) -> dict[str, str]:
    """What a demo inherits from its file when its own attributes do not say; "" for an instruction of which the file
    says nothing."""
    task, instruction = file.name.removesuffix(file.suffix).removesuffix("_demo"), ""
    for attribute, entry in (("problem_info", "language_instruction"), ("env_args", "lang")):
        try:
            found = json.loads(data.attrs.get(attribute, "{}")).get(entry)
        except (json.JSONDecodeError, TypeError, AttributeError):
            raise DataError(file, "is not JSON", "write it as robosuite does, or delete the attribute",
                            key=f"data.attrs[{attribute}]") from None
        if found:
            # LIBERO's own files sometimes hold the instruction as a list of words, or in quotes
            instruction = (" ".join(found) if isinstance(found, list) else str(found)).strip().strip('"')
            break
    return {"task": task, "instruction": instruction, "embodiment": embodiment,
            "source": file.name.removesuffix(file.suffix)}


def _read_demo(file: Path, data: h5py.Group, name: str, common: Mapping[str, str], image_size: int | None,
               cameras: Sequence[str] | None, shared: Collection[str]) -> Episode:
    key = ""
    try:
        if name not in data:
            raise DataError(file, "is listed but not there", "copy or record the file again", demo=name)
        reader = _DemoReader(file, data[name], name, shared)
        key = "obs"
        if reader.before:
            return reader.read_before(common, image_size, cameras)
        return reader.read_after(common, image_size, cameras)
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(file, f"cannot be read ({error})", "copy or record the file again",
                        demo=name, key=key) from None


class _DemoReader:
    """One ``data/demo_i`` group: checked access to its arrays."""

    def __init__(self, file: Path, group: h5py.Group, name: str, shared: Collection[str]) -> None:
        self.file, self.group, self.name, self.shared = file, group, name, shared
        if "obs" not in group:
            raise self.error("obs", "is missing", "make observations of a raw file with robomimic's "
                             "dataset_states_to_obs.py, or record with them")
        self.robomimic = "next_obs" in group or any(key.endswith("_image") or key.startswith("robot0_")
                                                    for key in group["obs"])
        self.upside_down = _UPSIDE_DOWN.get(str(group.parent.attrs.get("macros_image_convention")), not self.robomimic)
        observed = _text(group.parent.attrs.get("observed", ""))
        if observed not in ("", "before"):
            raise DataError(file, f"is {observed!r}", "write 'before' if each observation is the one before its "
                            "action, or delete the attribute", key="data.attrs[observed]")
        self.before = self.robomimic or observed == "before"
        self.robocasa = robocasa.HDF5_KEYS["end_effector_position_relative"] in group["obs"]
        self.rows = len(self.array("actions", None))

    def error(self, key: str, problem: str, mend: str) -> DataError:
        return DataError(self.file, problem, mend, demo=self.name, key=key)

    def array(self, key: str, rows: int | None, columns: int | None = None) -> NDArray:
        """A finite (rows, n) array."""
        if key not in self.group:
            raise self.error(key, "is missing", "record or export the demonstration again")
        try:
            values = self.group[key][()]
        except (OSError, RuntimeError) as error:
            raise self.error(key, f"cannot be read ({error})", "copy or record the file again") from None
        if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
            kind = getattr(values, "dtype", type(values).__name__)
            raise self.error(key, f"must be a table of numbers, (rows, dimension), not {kind} of shape "
                             f"{getattr(values, 'shape', ())}", "export the demonstration again")
        if rows is not None and len(values) != rows:
            raise self.error(key, f"has {len(values)} rows where actions have {rows}",
                             "export the demonstration again")
        if columns is not None and values.shape[1] != columns:
            raise self.error(key, f"has {values.shape[1]} columns instead of {columns}",
                             "export the demonstration again")
        if bad := first_bad_row(values):
            raise self.error(key, f"holds {bad[1]} in row {bad[0]}", f"correct it, or {LEAVE_OUT}")
        return values

    def extras(self, needed: Collection[str], read: Callable[[str], NDArray]) -> dict[str, NDArray]:
        """Every table of ``obs`` that is not ``needed`` for images or state, as ``read`` reads it. Training looks at
        none of them, so one that is no finite table of the right size is left out, not refused."""
        found = {}
        for key, dataset in self.group["obs"].items():
            if isinstance(dataset, h5py.Dataset) and dataset.ndim == 2 and key not in needed:
                with suppress(ValueError):  # a DataError, or tables that do not fit together
                    found[key] = read(key)
        return found

    def require_actions(self, least: int) -> None:
        if self.rows < least:
            raise self.error("actions", f"has {self.rows} rows, which leaves no action between two "
                             "observations", LEAVE_OUT)

    def images(self, group: str, key: str, rows: int, image_size: int | None) -> NDArray[np.uint8]:
        place = f"{group}/{key}"
        if place not in self.group:
            raise self.error(place, "is missing", "export the demonstration again")
        dataset = self.group[place]
        if dataset.ndim != 4 or dataset.shape[-1] != 3 or dataset.dtype != np.uint8:
            raise self.error(place, f"must be uint8 (rows, height, width, 3), not {dataset.dtype} "
                             f"{dataset.shape}", "export the demonstration again")
        if len(dataset) != rows:
            raise self.error(place, f"has {len(dataset)} rows where actions have {rows}",
                             "export the demonstration again")
        height, width = dataset.shape[1:3]
        if image_size is not None and image_size > min(height, width):
            raise self.error(place, f"has images of {height} x {width} pixels, too small for image_size "
                             f"{image_size}", "lower image_size, or record larger images")
        size = (height, width) if image_size is None else (image_size, image_size)
        images = np.empty((rows, *size, 3), np.uint8)
        for first in range(0, rows, _FRAMES_AT_ONCE):
            frames = slice(first, first + _FRAMES_AT_ONCE)
            try:
                block = dataset[frames]
            except (OSError, RuntimeError) as error:
                raise self.error(place, f"cannot be read ({error})", "copy or record it again") from None
            block = block if image_size is None else area_average(block, image_size)
            images[frames] = block[:, ::-1] if self.upside_down else block
        return images

    def camera_keys(self, suffix: str, cameras: Sequence[str] | None) -> dict[str, str]:
        """camera or view -> key in ``obs``, in the order asked for, else sorted."""
        found = by_camera((key for key in self.group["obs"] if key.endswith(suffix)),
                          lambda key: key.removesuffix(suffix).removeprefix("robot0_"),
                          lambda key, problem, mend: self.error(f"obs/{key}", problem, mend))
        return choose_cameras(cameras, found, lambda view: self.error(
            f"obs/{view}{suffix}", "is missing", f"ask for cameras among {list(found)}, or record that one too"
            if found else WITHOUT_IMAGES))

    def fields(self, common: Mapping[str, str]) -> dict[str, Any]:
        """Everything of an Episode that is not an array over time."""
        attrs = {key: _text(value) for key, value in self.group.attrs.items()}
        told = common["instruction"] or attrs.get("instruction") or self._language(attrs)
        common = {**common, "instruction": common["instruction"] or common["task"].replace("_", " ")}
        if self.robocasa:  # every official file is named alike, whatever its task
            common |= {"task": _environment(self.group.parent) or common["task"], "embodiment": robocasa.EMBODIMENT}
        elif self.robomimic and not told:  # and so is every one of robomimic's
            environment = _environment(self.group.parent)
            if environment and environment not in self.shared:
                common |= {"task": environment, "instruction": _words(environment)}
        fields: dict[str, Any] = {key: str(attrs.get(key, value)) for key, value in common.items()}
        if "instruction" not in attrs and "ep_meta" in attrs:  # RoboCasa
            fields["instruction"] = self._language(attrs) or fields["instruction"]
        if self.robocasa:
            fields["task"] = robocasa.task_of(fields["task"], fields["instruction"])
        success = attrs.get("success", True)
        success = success.lower() not in _NO if isinstance(success, str) else bool(success)
        fields.update(operator=str(attrs.get("operator", "")), success=success, seed=int(attrs.get("seed", -1)),
                      name=self.name, file=str(self.file))
        return fields

    def _language(self, attrs: Mapping[str, Any]) -> str:
        """RoboCasa's instruction; "" where there is none."""
        try:
            return str(json.loads(attrs.get("ep_meta", "{}")).get("lang") or "")
        except (json.JSONDecodeError, TypeError, AttributeError):
            raise self.error("attrs[ep_meta]", "is not JSON", "write it as robosuite does, or delete the attribute"
                             ) from None

    def truth(self, steps: int) -> dict[str, NDArray[np.bool_]]:
        masks = {key: self.group["truth"][key][()].astype(bool) for key in self.group.get("truth", ())}
        for key, mask in masks.items():
            if mask.shape != (steps,):
                raise self.error(f"truth/{key}", f"has shape {mask.shape} instead of ({steps},)",
                                 "corrupt the clean demonstrations again")
        return masks

    def read_after(self, common: Mapping[str, str], image_size: int | None,
                   cameras: Sequence[str] | None) -> Episode:
        """A demo whose observations are those after its actions."""
        rows = self.rows
        self.require_actions(2)
        # another robot than LIBERO's has a state of its own
        state = self.array("obs/state", rows) if "state" in self.group["obs"] else self._libero_state("obs")
        extra = self.extras({*_LIBERO_STATE, *_LIBERO_DERIVED, "state"}, lambda key: self.array(f"obs/{key}", rows))
        if "robot_states" in self.group:
            with suppress(DataError):
                extra["robot_states"] = self.array("robot_states", rows)
        return Episode(
            images={camera: self.images("obs", key, rows, image_size)
                    for camera, key in self.camera_keys("_rgb", cameras).items()},
            state=state.astype(np.float32, copy=False),
            actions=self.array("actions", rows)[1:].astype(np.float32, copy=False),
            truth=self.truth(rows - 1), extra=extra, first_row=1,
            simulator_states=self._libero_simulator_states(), **self.fields(common))

    def _libero_state(self, group: str) -> NDArray:
        self._require_state(f"{group}/ee_states")
        return np.concatenate([self.array(f"{group}/ee_states", self.rows, 6),
                               self.array(f"{group}/gripper_states", self.rows, 2)], axis=1)

    def _require_state(self, key: str) -> None:
        if key not in self.group:
            raise self.error(key, "is missing", "export the demonstration again with it, or write the state of a robot "
                             "that has none, such as its joints, as obs/state")

    def _libero_simulator_states(self) -> NDArray[np.float64] | None:
        """(T + 1, n); upstream does not record the last one, which is then NaN."""
        if "states" not in self.group:
            return None
        before = self.array("states", self.rows)
        return np.concatenate([before[1:], self._final_state(before.shape[1])[None]])

    def _final_state(self, size: int) -> NDArray[np.float64]:
        return self.group["final_state"][()] if "final_state" in self.group else np.full(size, np.nan)

    def read_before(self, common: Mapping[str, str], image_size: int | None,
                    cameras: Sequence[str] | None) -> Episode:
        """A demo whose observations are those before its actions."""
        ends = "next_obs" in self.group
        self.require_actions(1 if ends else 2)

        def observed(read: Callable[[str], NDArray]) -> NDArray:
            """The rows of ``obs`` and, where the file has it, what was seen after the last action."""
            return np.concatenate([read("obs"), read("next_obs")[-1:]]) if ends else read("obs")

        images = {}
        endings = {key.rpartition("_")[2] for key in self.group["obs"]}
        suffix = "_rgb" if "rgb" in endings and "image" not in endings else "_image"
        for camera, key in self.camera_keys(suffix, cameras).items():
            images[camera] = observed(partial(self.images, key=key, rows=self.rows, image_size=image_size))
        needed = {"state", *_LIBERO_STATE, *_LIBERO_DERIVED, *filter(_OF_ARM.match, self.group["obs"])}
        extra = self.extras(needed, lambda key: observed(lambda group: self.array(f"{group}/{key}", self.rows)))
        states = self.array("states", self.rows) if "states" in self.group else None
        if states is not None and ends:
            states = np.concatenate([states, self._final_state(states.shape[1])[None]])
        steps = self.rows if ends else self.rows - 1
        return Episode(images=images, state=observed(self._robomimic_state).astype(np.float32, copy=False),
                       actions=self.array("actions", self.rows)[:steps].astype(np.float32, copy=False),
                       truth=self.truth(steps), extra=extra, simulator_states=states, **self.fields(common))

    def _robomimic_state(self, group: str) -> NDArray:
        seen = self.group["obs"]
        if "state" in seen:
            return self.array(f"{group}/state", self.rows)
        if self.robocasa:
            return robocasa.state_of({part: self.array(f"{group}/{key}", self.rows, robocasa.STATE_SIZES[part])
                                      for part, key in robocasa.HDF5_KEYS.items()})
        if "ee_states" in seen and "robot0_eef_pos" not in seen:
            return self._libero_state(group)
        self._require_state(f"{group}/robot0_eef_pos")
        arms = sorted(key.partition("_")[0] for key in seen if _OF_ARM.match(key) and key.endswith("_eef_pos"))
        return np.concatenate([part for arm in arms for part in (
            self.array(f"{group}/{arm}_eef_pos", self.rows, 3),
            axis_angle_of(self.array(f"{group}/{arm}_eef_quat", self.rows, 4)),
            self.array(f"{group}/{arm}_gripper_qpos", self.rows))], axis=1)


def _words(name: str) -> str:
    """PickPlaceCan -> pick place can"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).lower()


def axis_angle_of(quaternion: NDArray) -> NDArray:
    """(n, 4) unit quaternions x, y, z, w (robosuite's order) to (n, 3) axis times angle, angle in [0, 2 pi).

    The sign of the quaternion is kept, as in robosuite: LIBERO's states hold angles up to 2 pi.
    """
    w = np.clip(quaternion[:, 3:], -1.0, 1.0)
    length = np.sqrt(1.0 - w * w)
    scale = np.where(length > 1e-8, 2.0 * np.arccos(w) / np.maximum(length, 1e-8), 0.0)
    return quaternion[:, :3] * scale


# ---------------------------------------------------------------------------------------------- writing


def write_episodes(path: str | Path, episodes: Iterable[Episode],
                   attrs: Mapping[str, Any] | None = None, *, compression: str | None = None) -> None:
    """Write one file in LIBERO's layout; it appears under its name only when it is whole.

    What an interrupted recording of ``path`` left is dropped. ``attrs`` and ``compression`` are those of
    :class:`EpisodeWriter`.

    Raises:
        ValueError: an episode that :func:`check_episode` refuses, or none at all; nothing is left behind.
        DataError: another process is recording ``path``.
    """
    with EpisodeWriter(path, attrs or {}, compression=compression, anew=True) as writer:
        for episode in episodes:
            writer.append(episode)
        if not len(writer):
            raise ValueError(f"there are no episodes to write to {path}; give at least one")


class EpisodeWriter:
    """Write a LIBERO file one episode at a time, safe against being killed.

    Each episode goes into a small file of its own in the folder ``<path>.partial``, which appears only
    when complete; ``close`` joins them into ``path``. Opening a writer on the same path again finds the
    episodes of an interrupted recording: ``recorded`` lists them as (seed, operator), in order.

    ``attrs`` become attributes of the group ``data`` (dictionaries and lists as JSON): upstream's are
    env_name, problem_info, bddl_file_name, bddl_file_content, env_args; ``compression`` is h5py's.
    Used in a ``with`` block, an exception leaves the partial folder for the next attempt. Without any
    episode, ``close`` writes no file. ``anew`` drops what an interrupted recording left, and leaves nothing itself.

    ``settings``, names and JSON values, are all that its episodes depend on: the partial folder keeps them, and
    only a recording with the same goes on there.

    Raises DataError if another process is recording ``path``, or one with other settings was interrupted.
    """

    def __init__(self, path: str | Path, attrs: Mapping[str, Any], *, compression: str | None = None,
                 settings: Mapping[str, Any] | None = None, anew: bool = False) -> None:
        self.path = Path(path)
        self.attrs = dict(attrs)
        self.compression = compression
        self.partial = _partial_of(self.path)
        self.partial.mkdir(parents=True, exist_ok=True)
        self._anew = anew
        self._lock = _locked(self.partial / "lock", self.path)  # before anything is removed: it may be another's
        self._pieces: list[Path] = []
        self.recorded: list[tuple[int, str]] = []
        try:
            for left_over in self.partial.iterdir():
                if left_over.name != "lock" and (anew or left_over.suffix == ".tmp"):
                    left_over.unlink()
            self._find_pieces()
            self._note(dict(settings or {}))
        except BaseException:
            self._lock.close()
            raise

    def _find_pieces(self) -> None:
        self._pieces = sorted(self.partial.glob("demo_*.hdf5"))
        self.recorded = [_identity(piece) for piece in self._pieces]

    def _note(self, settings: dict[str, Any]) -> None:
        """Write down what the episodes depend on, or compare it with those that are there. Raises DataError."""
        noted = self.partial / "settings.json"
        try:
            found = json.loads(noted.read_text())
        except (FileNotFoundError, ValueError):
            found = {}
        if found == settings:
            return
        if self._pieces:
            differing = [f"{key} {found.get(key)} instead of {settings.get(key)}" for key in found | settings
                         if found.get(key) != settings.get(key)]
            raise DataError(self.path, f"was begun with {', '.join(differing) if found else 'settings not noted'}",
                            f"delete the .partial folder {self.partial} to begin anew"
                            + (", or go on with those settings" if found else ""))
        unfinished = noted.with_suffix(".tmp")
        unfinished.write_text(json.dumps(settings))
        os.replace(unfinished, noted)

    def __len__(self) -> int:
        return len(self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            if self._anew and not self._lock.closed:  # it failed
                shutil.rmtree(self.partial)
            self._lock.close()

    def append(self, episode: Episode, attrs: Mapping[str, Any] | None = None) -> None:
        """Add an episode; ``attrs`` are further attributes of its group, such as ``model_file``."""
        check_episode(episode)
        piece = self.partial / f"demo_{len(self._pieces):06d}.hdf5"
        unfinished = piece.with_suffix(".tmp")
        with h5py.File(unfinished, "w") as handle:
            group = handle.create_group("demo")
            _write_demo(group, episode, self.compression)
            _set_attributes(group, attrs or {})
        os.replace(unfinished, piece)
        self._pieces.append(piece)
        self.recorded.append((episode.seed, episode.operator))

    def take_up(self) -> None:
        """Begin with the episodes of the finished file at ``path``, if there is one.

        It stays as it is until ``close`` replaces it. Raises DataError if it cannot be read.
        """
        if not self.path.exists():
            return
        with opened(self.path) as whole:
            data = data_of(self.path, whole)
            for index in range(len(data)):
                piece = self.partial / f"demo_{index:06d}.hdf5"
                if not piece.exists():  # else taken up before an interruption
                    self._copy(data, f"demo_{index}", piece)
        self._find_pieces()

    def keep(self, wanted: Collection[tuple[int, str]]) -> None:
        """Drop the last episodes until the last one is in ``wanted``, as ``recorded`` lists them: those of an
        interrupted recording that was asked for more."""
        while self.recorded and self.recorded[-1] not in wanted:
            self._pieces.pop().unlink()
            self.recorded.pop()

    def _copy(self, data: h5py.Group, demo: str, piece: Path) -> None:
        unfinished = piece.with_suffix(".tmp")
        try:
            with h5py.File(unfinished, "w") as handle:
                data.copy(demo, handle, "demo")
        except (OSError, RuntimeError, KeyError) as error:
            raise DataError(self.path, f"cannot be copied, to go on from it ({error})",
                            "make room on the disk, or delete the file to record it anew", demo=demo) from None
        os.replace(unfinished, piece)

    def close(self) -> None:
        """Join the episodes into ``path`` (replacing it in one step) and remove the partial folder."""
        if self._pieces:
            whole = self.partial / "whole.tmp"
            with h5py.File(whole, "w") as handle:
                self._join(handle.create_group("data"))
            os.replace(whole, self.path)
        shutil.rmtree(self.partial)
        self._lock.close()

    def _join(self, data: h5py.Group) -> None:
        total = 0
        for index, piece in enumerate(self._pieces):
            with h5py.File(piece, "r") as handle:
                handle.copy("demo", data, f"demo_{index}")
            total += int(data[f"demo_{index}"].attrs["num_samples"])
        first = data["demo_0"].attrs
        _set_attributes(data, {
            "env_name": "", "bddl_file_name": "", "bddl_file_content": "",
            "macros_image_convention": "opengl",
            "problem_info": {"problem_name": "", "domain_name": "robosuite",
                             "language_instruction": first["instruction"]},
            "env_args": {"type": 1, "env_name": str(self.attrs.get("env_name", "")), "env_kwargs": {}},
            **self.attrs, "num_demos": len(self._pieces), "total": total})


def _locked(lock: Path, path: Path) -> IO[str]:
    """Hold ``lock`` until the returned file is closed, or until this process ends, however it ends."""
    file = lock.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise DataError(path, "is being recorded by another process", "wait for it or write elsewhere") from None
    return file


def check_episode(episode: Episode) -> None:
    """Raise ValueError unless the arrays of an episode have the lengths that Episode promises."""
    who = f"episode of task {episode.task!r} (seed {episode.seed}, operator {episode.operator!r})"
    steps = len(episode.actions)
    if steps == 0:
        raise ValueError(f"{who} has no actions; leave it out")
    arrays: dict[str, NDArray] = {"state": episode.state}
    arrays |= {f"images[{key}]": images for key, images in episode.images.items()}
    arrays |= {f"extra[{key}]": values for key, values in episode.extra.items()}
    if episode.simulator_states is not None:
        arrays["simulator_states"] = episode.simulator_states
    for key, array in arrays.items():
        if len(array) != steps + 1:
            raise ValueError(f"{who}: {key} has {len(array)} rows for {steps} actions; record one "
                             "observation before each action and one after the last")
    for key, array in (("actions", episode.actions), ("state", episode.state)):
        if array.ndim != 2 or not np.isfinite(array).all():
            raise ValueError(f"{who}: {key} must be a finite (rows, dimension) array; leave the episode out")


def _write_demo(group: h5py.Group, episode: Episode, compression: str | None) -> None:
    """The LIBERO layout: observation ``t`` in row ``t``, action ``t`` in row ``t + 1``."""
    no_op = np.zeros_like(episode.actions[:1])
    if episode.embodiment == "libero":
        no_op[:, -1] = _NO_OP_GRIPPER
    group["actions"] = np.concatenate([no_op, episode.actions])
    rows = len(episode) + 1
    obs = group.create_group("obs")
    for camera, images in episode.images.items():
        obs.create_dataset(f"{camera}_rgb", data=images[:, ::-1], compression=compression,
                           chunks=None if compression is None else (min(16, rows), *images.shape[1:]))
    if episode.state.shape[1] == 8:
        obs["ee_states"], obs["gripper_states"] = episode.state[:, :6], episode.state[:, 6:]
        obs["ee_pos"], obs["ee_ori"] = episode.state[:, :3], episode.state[:, 3:6]
    else:
        obs["state"] = episode.state
    for key, values in episode.extra.items():
        (group if key == "robot_states" else obs)[key] = values
    end = np.zeros(rows, np.uint8)
    end[-1] = 1
    group["dones"], group["rewards"] = end, end * np.uint8(episode.success)
    if episode.simulator_states is not None:
        states = episode.simulator_states
        group["states"] = np.concatenate([states[:1], states[:-1]])
        group["final_state"] = states[-1]
        group.attrs["init_state"] = states[0]
    for key, mask in episode.truth.items():
        group[f"truth/{key}"] = mask
    _set_attributes(group, {"num_samples": rows} | {key: getattr(episode, key) for key in (
        "operator", "success", "seed", "task", "instruction", "embodiment")})
    if episode.source:  # else a reader takes the file's name
        group.attrs["source"] = episode.source


def _set_attributes(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        group.attrs[key] = json.dumps(value) if isinstance(value, (dict, list)) else value


def _identity(piece: Path) -> tuple[int, str]:
    with opened(piece) as handle:
        return int(handle["demo"].attrs["seed"]), str(handle["demo"].attrs["operator"])


def _partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
