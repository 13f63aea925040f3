"""LeRobot datasets: both layouts, frames by their times, and one clear sentence for each way they can be broken."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ptrlib.config import DataConfig
from ptrlib.data.episodes import Episode
from ptrlib.data.errors import DataError
from ptrlib.data.lerobot import read_lerobot
from ptrlib.data.reading import read_episodes
from ptrlib.policy.action_space import EMBODIMENTS, make_known
from tests.data.lerobot_files import (
    CAMERAS,
    FPS,
    encoded,
    picture,
    shade,
    write_lerobot,
    write_parquet,
    write_text,
    write_video,
)

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None,
                              reason="the package av is not installed; `make setup` installs it")
LAYOUTS = ["v2.1", "v3.0"]


def assert_filled(episode: Episode, number: int, tolerance: int) -> None:
    """Every frame of every camera shows its own colour; neighbours in time differ by 8 levels of red."""
    for camera, images in enumerate(episode.images[name] for name in ("top", "wrist")):
        expected = np.stack([shade(number, frame, camera) for frame in range(len(images))])[:, None, None]
        assert np.abs(images.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("version", LAYOUTS)
def test_embedded_images_state_actions_and_names(tmp_path: Path, version: str) -> None:
    first, second = read_episodes(write_lerobot(tmp_path / "drawers", version))
    assert (len(first), len(second)) == (5, 4)  # the last of n frames has no observation after its action
    for number, episode in enumerate((first, second)):
        steps = len(episode)
        np.testing.assert_array_equal(episode.state[:, :2], [[number, frame] for frame in range(steps + 1)])
        np.testing.assert_allclose(episode.actions[:, 0], np.arange(steps) / 100, rtol=1e-6)
        assert_filled(episode, number, 0)
    assert first.state.shape == (6, 8) and first.actions.shape == (5, 7)
    assert first.state.dtype == first.actions.dtype == np.float32
    assert (first.instruction, second.instruction) == ("open the drawer", "close the drawer")
    assert (first.task, first.source, first.name) == ("open_the_drawer", "drawers", "episode_000000")
    assert (first.embodiment, first.operator, first.success, first.seed) == ("libero", "", True, -1)


@needs_av
@pytest.mark.parametrize("version", LAYOUTS)
def test_frames_of_videos_are_those_of_their_times(tmp_path: Path, version: str) -> None:
    lengths = (40, 45, 20)  # the third starts 4 seconds into v3.0's one file, far behind its first key frame
    read = read_episodes(write_lerobot(tmp_path, version, lengths=lengths, video=True, size=32))
    assert [len(episode) + 1 for episode in read] == list(lengths)
    for number, episode in enumerate(read):
        assert_filled(episode, number, 3)


@needs_av
def test_an_offset_that_drifted_by_less_than_a_quarter_frame_is_allowed(tmp_path: Path) -> None:
    write_lerobot(tmp_path, lengths=(30, 30), video=True)
    offset = f"videos/{CAMERAS[0]}/from_timestamp"
    change_places(tmp_path, lambda places: places.__setitem__(offset, places[offset] + 0.2 / FPS))
    assert_filled(read_episodes(tmp_path)[1], 1, 3)
    change_places(tmp_path, lambda places: places.__setitem__(offset, places[offset] + 0.2 / FPS))
    assert_one_sentence(tmp_path, "file-000.mp4: episode_000000/observation.images.top", "has no frame at 0.020 s")


def test_cameras_size_and_robot_are_chosen(tmp_path: Path) -> None:
    write_lerobot(tmp_path, info={"splits": {"train": "0:1", "test": "1:2"}})
    read = read_episodes(tmp_path, image_size=8, cameras=["wrist"], embodiment="fr3")
    assert list(read[0].images) == ["wrist"] and read[0].embodiment == "fr3"
    np.testing.assert_array_equal(read[1].images["wrist"][3], picture(1, 3, 1, 8))
    assert read_episodes(tmp_path, cameras=())[0].images == {}
    view = read_episodes(tmp_path, image_size=8, cameras=["hand|wrist", "top"])[1].images
    assert list(view) == ["hand|wrist", "top"]
    np.testing.assert_array_equal(view["hand|wrist"][3], picture(1, 3, 1, 8))
    with pytest.raises(DataError, match=r"has no camera 'hand'; ask for cameras among \['top', 'wrist'\]"):
        read_episodes(tmp_path, cameras=["hand"])
    assert [episode.name for episode in read_episodes(tmp_path, filter_key="test")] == ["episode_000001"]


def test_limits_count_per_task_and_episodes_are_selected(tmp_path: Path) -> None:
    write_lerobot(tmp_path, lengths=(3, 4, 5, 6, 7))
    assert [len(episode) for episode in read_episodes(tmp_path, limit_per_file=2)] == [2, 3, 4, 5]
    assert [len(episode) for episode in read_lerobot(tmp_path, episodes=[4, 1])] == [3, 6]
    with pytest.raises(DataError, match=r"has no episodes \[7\]; choose among 0 to 4"):
        read_lerobot(tmp_path, episodes=[1, 7])


def test_other_columns_can_be_state_and_action(tmp_path: Path) -> None:
    write_lerobot(tmp_path, extra={"observation.state.joints": [[7.0, 8.0]] * 2, "action.delta": [[1, 2, 3]] * 2})
    episode = read_lerobot(tmp_path, state="observation.state.joints", action="action.delta")[0]
    np.testing.assert_array_equal(episode.state, [[7, 8]] * 6)
    np.testing.assert_array_equal(episode.actions, [[1, 2, 3]] * 5)
    same = read_episodes(tmp_path, state_column="observation.state.joints", action_column="action.delta")[0]
    np.testing.assert_array_equal(same.state, episode.state)
    np.testing.assert_array_equal(same.actions, episode.actions)
    with pytest.raises(DataError, match=r"features/joints does not exist; name a column among .*state\.joints.*data"):
        read_lerobot(tmp_path, state="joints")
    with pytest.raises(DataError, match=r"features/moves does not exist; .* \(data\.action_column\)\."):
        read_episodes(tmp_path, action_column="moves")


def test_operator_and_success_where_a_converter_wrote_them(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "droid", extra={"collector_id": ["ann", "bob"], "is_episode_successful": [True, False]})
    first, second = read_episodes(tmp_path / "droid")
    assert (first.operator, first.success, second.operator, second.success) == ("ann", True, "bob", False)
    write_lerobot(tmp_path / "recorded", extra={"next.success": [False, True]})
    assert [episode.success for episode in read_episodes(tmp_path / "recorded")] == [False, True]


def test_pictures_of_two_sizes_need_an_image_size(tmp_path: Path) -> None:
    write_lerobot(tmp_path)
    change_frames(tmp_path, lambda frames: set_cell(frames, 8, CAMERAS[1], encoded(picture(1, 2, 1, 24))))
    assert_one_sentence(tmp_path, f"episode_000001/{CAMERAS[1]}", "changes to 24 x 24 pixels in frame 2")
    assert_filled(read_episodes(tmp_path, image_size=8)[1], 1, 0)


@pytest.mark.parametrize("described", [{"info": {"is_depth_map": True}}, {"video_info": {"video.is_depth_map": True}}])
def test_depth_maps_are_left_out(tmp_path: Path, described: dict[str, Any]) -> None:
    write_lerobot(tmp_path)
    change_info(tmp_path, lambda info: info["features"][CAMERAS[1]].update(described))
    assert list(read_episodes(tmp_path)[0].images) == ["top"]


def test_tasks_of_older_v3_files_have_no_name_for_their_index(tmp_path: Path) -> None:
    write_lerobot(tmp_path)
    pd.DataFrame({"task_index": [1, 0]}, index=["push", "pull"]).to_parquet(tmp_path / "meta/tasks.parquet")
    assert [episode.instruction for episode in read_episodes(tmp_path)] == ["pull", "push"]


# -------------------------------------------------------------------------------------------- broken data


def change_info(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    change(info)
    (root / "meta/info.json").write_text(json.dumps(info))


def change_frames(root: Path, change: Callable[[pd.DataFrame], Any], version: str = "v3.0") -> None:
    name = "file-000" if version == "v3.0" else "episode_000000"
    file = root / f"data/chunk-000/{name}.parquet"
    frames = pd.read_parquet(file)
    changed = change(frames)
    write_parquet(file, changed if isinstance(changed, pd.DataFrame) else frames)


def change_places(root: Path, change: Callable[[pd.DataFrame], Any]) -> None:
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    places = pd.read_parquet(file)
    change(places)
    write_parquet(file, places)


def cut(file: Path, share: float = 0.5) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:int(share * len(content))])


def sixteen_bits() -> bytes:
    """A grey image of 16 bits a pixel, as PNG."""
    written = io.BytesIO()
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(written, "PNG")
    return written.getvalue()


def set_cell(frames: pd.DataFrame, row: int, key: str, value: Any) -> None:
    values = list(frames[key])
    values[row] = value
    frames[key] = values


def assert_one_sentence(root: Path, place: str, problem: str, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        read_lerobot(root, **options)
    message = str(caught.value)
    assert message.startswith(f"{root}") and place in message and problem in message
    assert "; " in message and message.endswith(".") and "\n" not in message
    assert caught.value.__context__ is None or caught.value.__suppress_context__


DATA_V3 = "data/chunk-000/file-000.parquet"
BROKEN_META = {
    "no info": (lambda r: (r / "meta/info.json").unlink(), "meta/info.json", "is missing"),
    "info not JSON": (lambda r: (r / "meta/info.json").write_text("{"), "meta/info.json", "is not JSON"),
    "info a list": (lambda r: (r / "meta/info.json").write_text("[]"), "meta/info.json", "is not a JSON object"),
    "unknown version": (lambda r: change_info(r, lambda i: i.update(codebase_version="v4.0")),
                        "meta/info.json: codebase_version", "is 'v4.0', which is none of v2.0, v2.1, v3.0"),
    "no version": (lambda r: change_info(r, lambda i: i.pop("codebase_version")), "codebase_version", "is None"),
    "no fps": (lambda r: change_info(r, lambda i: i.update(fps=0)), "meta/info.json: fps", "is 0"),
    "no features": (lambda r: change_info(r, lambda i: i.pop("features")), "meta/info.json: features", "is None"),
    "no feature": (lambda r: change_info(r, lambda i: i["features"].update(action=7)), "features/action", "is 7"),
    "no state": (lambda r: change_info(r, lambda i: i["features"].pop("observation.state")),
                 "features/observation.state", "does not exist"),
    "bad data path": (lambda r: change_info(r, lambda i: i.update(data_path="data/{chunk_index:q}")),
                      "meta/info.json: data_path", "is 'data/{chunk_index:q}'"),
    "path without place": (lambda r: change_info(r, lambda i: i.update(data_path="data/{shard}")),
                           "meta/info.json: data_path", "is 'data/{shard}', which holds more than"),
    "no tasks": (lambda r: (r / "meta/tasks.parquet").unlink(), "meta/tasks.parquet", "is missing"),
    "tasks without index": (lambda r: write_parquet(r / "meta/tasks.parquet", pd.DataFrame({"task": ["open"]})),
                            "meta/tasks.parquet: task_index", "is None in entry 1"),
    "unknown task": (lambda r: change_frames(r, lambda f: f.__setitem__("task_index", 9)), "episode_000000/task_index",
                     "is 9, which meta/tasks does not name"),
    "no episodes": (lambda r: (r / "meta/episodes/chunk-000/file-000.parquet").unlink(), "meta/episodes",
                    "holds no parquet file"),
    "episodes cut": (lambda r: cut(r / "meta/episodes/chunk-000/file-000.parquet"),
                     "meta/episodes/chunk-000/file-000.parquet", "cannot be read"),
    "no length": (lambda r: change_places(r, lambda p: p.pop("length")), "meta/episodes: length",
                  "is None in entry 1"),
    "no file named": (lambda r: change_places(r, lambda p: p.pop("data/file_index")), "episode_000000/data/file_index",
                      "is missing"),
    "empty": (lambda r: write_parquet(r / "meta/episodes/chunk-000/file-000.parquet",
                                      pd.DataFrame({"episode_index": [], "length": []})),
              "meta/episodes", "lists no episodes"),
}
BROKEN_FRAMES = {
    "no data": (lambda r: (r / DATA_V3).unlink(), DATA_V3, "is missing"),
    "data cut": (lambda r: cut(r / DATA_V3), DATA_V3, "cannot be read"),
    "not finalized": (lambda r: cut(r / DATA_V3, 0.97), DATA_V3, "finalize the data set if you recorded it"),
    "data empty": (lambda r: (r / DATA_V3).write_bytes(b""), DATA_V3, "cannot be read"),
    "no action": (lambda r: change_frames(r, lambda f: f.pop("action")), f"{DATA_V3}: action",
                  "does not exist among the columns"),
    "NaN action": (lambda r: change_frames(r, lambda f: set_cell(f, 4, "action", np.full(7, np.nan))),
                   "episode_000000/action", "holds NaN or infinity in frame 4"),
    "infinite state": (lambda r: change_frames(r, lambda f: set_cell(f, 7, "observation.state", np.full(8, np.inf))),
                       "episode_000001/observation.state", "holds NaN or infinity in frame 1"),
    "missing action": (lambda r: change_frames(r, lambda f: set_cell(f, 1, "action", None)), "episode_000000/action",
                       "lacks a value"),
    "ragged action": (lambda r: change_frames(r, lambda f: set_cell(f, 1, "action", np.zeros(5))),
                      "episode_000000/action", "has rows of 5 and of 7 numbers"),
    "texts as state": (lambda r: change_frames(r, lambda f: f.__setitem__("observation.state", "left")),
                       "episode_000000/observation.state", "must be a table of numbers, not"),
    "a row lost": (lambda r: change_frames(r, lambda f: f.drop(index=3)), "episode_000000",
                   "has 5 frames where meta/episodes promises 6"),
    "one frame": (lambda r: (change_frames(r, lambda f: f.drop(index=range(1, 6))),
                             change_places(r, lambda p: p.__setitem__("length", [1, 5]))), "episode_000000",
                  "has 1 frames, which leaves no action"),
    "frames out of order": (lambda r: change_frames(r, lambda f: set_cell(f, 2, "frame_index", 3)),
                            "episode_000000/frame_index", "does not count 0, 1, 2"),
    "two tasks in one": (lambda r: change_frames(r, lambda f: set_cell(f, 5, "task_index", 1)),
                         "episode_000000/task_index", "changes from one task to another"),
    "image not embedded": (lambda r: change_frames(r, lambda f: set_cell(f, 2, CAMERAS[0], {
        "bytes": None, "path": "images/frame.png"})), f"episode_000000/{CAMERAS[0]}", "holds no image in frame 2"),
    "image of 16 bits": (lambda r: change_frames(r, lambda f: set_cell(f, 2, CAMERAS[1], {
        "bytes": sixteen_bits(), "path": ""})), f"episode_000000/{CAMERAS[1]}",
                         "holds an image of more than 8 bits a channel in frame 2"),
    "image broken": (lambda r: change_frames(r, lambda f: set_cell(f, 2, CAMERAS[1], {
        "bytes": b"\x89PNG", "path": ""})), f"episode_000000/{CAMERAS[1]}", "holds a broken image in frame 2"),
}


@pytest.mark.parametrize("case", [*BROKEN_META, *BROKEN_FRAMES])
def test_broken_data_name_file_key_and_mend(tmp_path: Path, case: str) -> None:
    change, place, problem = (BROKEN_META | BROKEN_FRAMES)[case]
    change(write_lerobot(tmp_path))
    assert_one_sentence(tmp_path, place, problem)


@pytest.mark.parametrize(("change", "place", "problem"), [
    (lambda r: (r / "meta/episodes.jsonl").unlink(), "meta/episodes.jsonl", "is missing"),
    (lambda r: (r / "meta/tasks.jsonl").write_text('{"task_index": 0, "ta'), "meta/tasks.jsonl: line 1", "is not JSON"),
    (lambda r: (r / "meta/episodes.jsonl").write_text("3\n"), "episodes.jsonl: episode_index", "is None in entry 1"),
    (lambda r: (r / "meta/episodes.jsonl").write_text('{"episode_index": "0"}'), "episode_index", "is '0' in"),
    (lambda r: change_info(r, lambda i: i.pop("chunks_size")), "meta/info.json: chunks_size", "is None"),
    (lambda r: (r / "data/chunk-000/episode_000001.parquet").unlink(), "episode_000001.parquet", "is missing"),
    (lambda r: change_frames(r, lambda f: set_cell(f, 0, "action", np.full(7, np.nan)), "v2.1"),
     "episode_000000.parquet: episode_000000/action", "holds NaN or infinity in frame 0"),
])
def test_broken_data_of_v21(tmp_path: Path, change: Callable[[Path], Any], place: str, problem: str) -> None:
    change(write_lerobot(tmp_path, "v2.1"))
    assert_one_sentence(tmp_path, place, problem)


@pytest.mark.parametrize(("options", "place", "problem"), [
    ({"cameras": ["front"]}, "meta/info.json: features", "has no camera 'front'; ask for cameras among ['top', "),
    ({"image_size": 32}, f"episode_000000/{CAMERAS[0]}", "has images of 16 x 16 pixels, too small for image_size 32"),
    ({"split": "val"}, "meta/info.json: splits/val", "does not exist among the splits ['train']"),
])
def test_what_is_not_there_cannot_be_asked_for(tmp_path: Path, options: dict[str, Any], place: str, problem: str
                                               ) -> None:
    assert_one_sentence(write_lerobot(tmp_path), place, problem, **options)


@pytest.mark.parametrize("name", ["episode_000001", "drawers/episode_000001"])
def test_a_broken_episode_can_be_left_out(tmp_path: Path, name: str) -> None:
    actions = np.zeros((11, 7))
    actions[8] = np.nan
    root = write_lerobot(tmp_path / "drawers", actions=actions)
    with pytest.raises(DataError, match=r"episode_000001/action holds NaN .*; leave .* out with data\.exclude"):
        read_episodes(root)
    assert [episode.name for episode in read_episodes(root, exclude=[name])] == ["episode_000000"]


def test_all_broken_episodes_are_named_at_once_before_an_image_is_read(tmp_path: Path) -> None:
    actions = np.zeros((16, 7))
    actions[[1, 12]] = np.nan
    root = write_lerobot(tmp_path / "drawers", lengths=(4, 4, 4, 4), actions=actions)
    with pytest.raises(DataError, match=r"episode_000000/action holds NaN or infinity in frame 1; leave .* 1 more "
                       r"cannot be read either: data\.exclude='\[episode_000000, episode_000003\]' leaves out all\.$"):
        read_episodes(root)
    names = [episode.name for episode in read_episodes(root, exclude=["episode_000000", "episode_000003"])]
    assert names == ["episode_000001", "episode_000002"]


def test_two_cameras_of_one_name_are_refused(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path, cameras=("observation.images.top", "observation.top"))
    with pytest.raises(DataError, match="observation.top and observation.images.top are both the camera 'top'"):
        read_episodes(root)


def test_a_split_that_is_no_range(tmp_path: Path) -> None:
    write_lerobot(tmp_path, info={"splits": {"train": "all"}})
    assert_one_sentence(tmp_path, "meta/info.json: splits/train", "is 'all'", split="train")


def test_a_folder_without_its_meta_is_still_taken_for_lerobots(tmp_path: Path) -> None:
    write_lerobot(tmp_path)
    (tmp_path / "meta").rename(tmp_path / "lost")
    with pytest.raises(DataError, match=r"meta/info\.json is missing; download the data set whole"):
        read_episodes(tmp_path)


VIDEO_V3 = f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
BROKEN_VIDEO = {
    "missing": (lambda r: (r / VIDEO_V3).unlink(), VIDEO_V3, "is missing"),
    "cut": (lambda r: cut(r / VIDEO_V3), VIDEO_V3, "cannot be decoded"),
    "empty": (lambda r: (r / VIDEO_V3).write_bytes(b""), VIDEO_V3, "cannot be decoded"),
    "shorter": (lambda r: write_video(r / VIDEO_V3, [picture(0, frame, 0, 16) for frame in range(8)]),
                f"{VIDEO_V3}: episode_000001/{CAMERAS[0]}", "has no frame at 0.400 s, where frame 2 of 5 should be"),
    "frame lost": (lambda r: write_video(r / VIDEO_V3, [picture(0, frame, 0, 16) for frame in range(11)],
                                         leave_out=[3]),
                   f"{VIDEO_V3}: episode_000000/{CAMERAS[0]}", "has no frame at 0.150 s, where frame 3 of 6 should be"),
    "no start": (lambda r: change_places(r, lambda p: p.pop(f"videos/{CAMERAS[0]}/from_timestamp")),
                 f"episode_000000/videos/{CAMERAS[0]}/from_timestamp", "is missing"),
    "no file named": (lambda r: change_places(r, lambda p: p.pop(f"videos/{CAMERAS[0]}/file_index")),
                      f"meta/episodes: episode_000000/videos/{CAMERAS[0]}/file_index", "is missing"),
    "time stands still": (lambda r: change_frames(r, lambda f: set_cell(f, 2, "timestamp", np.float32(0.05))),
                          "episode_000000/timestamp", "does not grow from frame to frame"),
    "no path": (lambda r: change_info(r, lambda i: i.update(video_path=None)), "meta/info.json: video_path", "is None"),
    "images too small": (lambda r: write_video(r / VIDEO_V3, [picture(0, frame, 0, 14) for frame in range(11)]),
                         f"{VIDEO_V3}: episode_000000/{CAMERAS[0]}", "has images of 14 x 14 pixels, too small for"),
}


@needs_av
@pytest.mark.parametrize("case", BROKEN_VIDEO)
def test_broken_videos_name_file_episode_camera_and_mend(tmp_path: Path, case: str) -> None:
    change, place, problem = BROKEN_VIDEO[case]
    change(write_lerobot(tmp_path, video=True))
    assert_one_sentence(tmp_path, place, problem, image_size=16)


def test_without_av_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lerobot(tmp_path)
    change_info(tmp_path, lambda info: info["features"][CAMERAS[0]].update(dtype="video"))
    change_places(tmp_path, lambda places: [places.__setitem__(f"videos/{CAMERAS[0]}/{key}", 0)
                                            for key in ("chunk_index", "file_index", "from_timestamp")])
    monkeypatch.setitem(sys.modules, "av", None)
    assert_one_sentence(tmp_path, f"{VIDEO_V3}: episode_000000/{CAMERAS[0]}",
                        "needs the package av to be decoded, which is not installed; install it with `make setup`")
    assert read_episodes(tmp_path, cameras=["wrist"])[0].images.keys() == {"wrist"}


def test_a_text_file_is_no_dataset(tmp_path: Path) -> None:
    write_text(tmp_path / "notes.txt", "not data")
    with pytest.raises(DataError, match=r"holds no \.hdf5 or \.h5 file, nor a LeRobot data set"):
        read_episodes(tmp_path)


@pytest.mark.parametrize(("robot", "taken"), [("fr3", "fr3"), ("panda", "libero"), (["fr3", "g1"], "libero")])
def test_a_robot_that_is_known_is_taken_from_the_data_set(tmp_path, robot, taken):
    folder = write_lerobot(tmp_path / "named", info={"robot_type": robot})
    assert {episode.embodiment for episode in read_lerobot(folder)} == {taken}


@pytest.mark.parametrize(("numbers", "taken"), [(8, "my_franka"), (13, "fr3")])
def test_a_robot_that_is_described_and_fits_goes_before_the_data_sets(tmp_path, numbers, taken):
    make_known(DataConfig(embodiment="my_franka", action_slots=("arm_joints", "gripper")))
    table = np.zeros((11, numbers))
    folder = write_lerobot(tmp_path / "named", info={"robot_type": "fr3"}, state=table, actions=table)
    try:
        assert {episode.embodiment for episode in read_lerobot(folder, embodiment="my_franka")} == {taken}
    finally:
        del EMBODIMENTS["my_franka"]
