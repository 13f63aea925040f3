"""The generated kitchen: the same bytes always, whoever builds it and however often. No simulator needed."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptrlib.simulators.robocasa_kitchen import (
    CATEGORIES,
    LAYOUTS,
    STYLES,
    build_kitchen,
    content_hash,
    groceries,
    kitchen_files,
    looks,
    rooms,
)
from ptrlib.simulators.robocasa_kitchen.shapes import bounds


@pytest.fixture
def package(tmp_path) -> Path:
    """Stands for the installed library's assets."""
    folder = tmp_path / "package"
    (folder / "arenas").mkdir(parents=True)
    (folder / "arenas" / "empty.xml").write_text("<mujoco/>")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_clean_cache_gets_the_whole_kitchen_in_a_folder_named_after_it(package, cache):
    root = build_kitchen(package)
    assert root == cache / "ptrlib" / f"robocasa-kitchen-{content_hash(kitchen_files(package))}"
    assert contents(root) == kitchen_files(package)


def test_the_same_version_is_the_same_kitchen_and_another_library_another(package, cache):
    before, root = kitchen_files(package), build_kitchen(package)
    assert kitchen_files(package) == before and build_kitchen(package) == root
    (package / "arenas" / "empty.xml").write_text("<mujoco model='changed'/>")
    assert build_kitchen(package) != root


def test_damage_is_mended(package, cache):
    root = build_kitchen(package)
    names = sorted(contents(root))
    (root / names[0]).write_bytes(b"")
    (root / names[1]).unlink()
    assert contents(build_kitchen(package)) == kitchen_files(package)


def _build(package: Path, cache: Path, start: object, answers: object) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache)
    start.wait()  # type: ignore[attr-defined]
    root = build_kitchen(package)
    answers.put(all((root / name).read_bytes() == content  # type: ignore[attr-defined]
                    for name, content in kitchen_files(package).items()))


def test_two_processes_at_once_do_no_harm(package, cache):
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build, args=(package, cache, start, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=120) for _ in processes] == [True, True]
    for process in processes:
        process.join()
    [root] = (cache / "ptrlib").iterdir()
    assert contents(root) == kitchen_files(package)  # and no partial file is left


def test_a_file_appears_whole_or_not_at_all(package, cache, monkeypatch):
    def killed(partial: Path, path: Path) -> None:
        assert partial.read_bytes() in kitchen_files(package).values()  # written whole before it gets its name
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            build_kitchen(package)
    [root] = (cache / "ptrlib").iterdir()
    assert not set(contents(root)) & set(kitchen_files(package))


def test_what_a_killed_build_left_behind_is_cleared_and_what_another_writes_is_not(package, cache):
    root = build_kitchen(package)
    name = next(iter(kitchen_files(package)))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    machine = platform.node().replace(".", "-")
    begun = {of: root / f".model.xml.{machine}.{of}.partial" for of in (gone.pid, os.getpid())}
    for path in begun.values():
        path.write_bytes(b"<")
    (root / name).unlink()
    assert build_kitchen(package) == root
    assert not begun[gone.pid].exists() and begun[os.getpid()].exists()


def test_whoever_may_read_the_cache_may_read_the_kitchen(package, cache):
    before = os.umask(0o022)
    try:
        root = build_kitchen(package)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_file()} == {0o644}


def test_another_process_with_another_hash_seed_builds_the_same_kitchen(package):
    code = ("import sys; from pathlib import Path; from ptrlib.simulators.robocasa_kitchen import *; "
            "print(content_hash(kitchen_files(Path(sys.argv[1]))))")
    found = {subprocess.run([sys.executable, "-c", code, str(package)], env=os.environ | {"PYTHONHASHSEED": seed},
                            capture_output=True, text=True, check=True).stdout for seed in ("1", "2")}
    assert found == {content_hash(kitchen_files(package)) + "\n"}


def test_a_cache_that_cannot_be_written_is_named_with_the_mend(package, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="cannot be written to .*; set XDG_CACHE_HOME"):
        build_kitchen(package)


def test_there_are_enough_layouts_and_styles_and_they_differ():
    assert len(LAYOUTS) == len(STYLES) == 5
    assert len(set(rooms.files().values())) == 5
    assert len({(look.cabinet, look.worktop, look.wall, look.floor) for look in looks.LOOKS}) == 5


@pytest.mark.parametrize("room", rooms.ROOMS, ids=lambda room: room.name)
def test_runs_fit_their_walls_and_do_not_meet(room):
    taken = {}
    for run in room.runs:
        wall = room.width if run.wall == rooms.BACK_WALL else room.depth
        assert run.start + run.length <= wall + 1e-6
        assert sum(width for _, width in run.above) <= run.length + 1e-6
        near = {rooms.RIGHT_WALL: run.start, rooms.LEFT_WALL: wall - run.start - run.length}.get(run.wall)
        taken[run.wall] = near
    for side, near in taken.items():  # a side run starts in front of the back counter
        assert side == rooms.BACK_WALL or rooms.BACK_WALL not in taken or near >= rooms.COUNTER_DEPTH - 1e-6


@pytest.mark.parametrize("room", rooms.ROOMS, ids=lambda room: room.name)
def test_every_room_has_what_the_tasks_need(room):
    floor = [what for run in room.runs for what, _ in run.floor]
    above = [what for run in room.runs for what, _ in run.above]
    assert floor.count("sink") == floor.count("stove") == above.count("microwave") == 1
    assert "drawers" in floor and "double" in above and any(what.startswith("single") for what in above)
    assert sum(run.coffee is not None for run in room.runs) == 1


@pytest.mark.parametrize("category", CATEGORIES)
def test_groceries_stand_on_zero_and_are_of_kitchen_size(category):
    low, high = bounds(groceries.CATEGORIES[category]())
    size = high - low
    assert abs(low[2]) < 0.005 and 0.01 < size.max() < 0.45
    assert np.abs((low + high)[:2]).max() < 0.25


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_grocerys_origin_is_at_half_its_height(category):
    text = groceries.grocery(category, groceries.CATEGORIES[category](), 1.0, 1.0).decode()
    [box] = re.findall(r'name="reg_bbox" type="box" pos="\S+ \S+ (\S+)"', text)
    assert abs(float(box)) < 0.003


def test_the_installed_library_brings_what_the_kitchen_needs():
    spec = importlib.util.find_spec("robocasa")
    if spec is None or spec.origin is None:
        pytest.skip("RoboCasa is not installed; run `make simulators`")
    files = kitchen_files(Path(spec.origin).parent / "models" / "assets")
    assert {"arenas/empty_kitchen_arena.xml", "fixtures/cabinets/drawer.xml",
            "fixtures/handles/bar_handle.xml"} <= set(files)
