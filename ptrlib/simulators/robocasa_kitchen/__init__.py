"""A kitchen for RoboCasa without its 5 GB of assets.

RoboCasa's environment code runs unpatched in any folder of assets that has the right names in it. This package
writes such a folder: the XML files that the library itself ships, flat textures, appliances and groceries of
primitive shapes, five rooms and five styles. The folder lies in the user's cache and is named after its content.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from ptrlib.simulators.robocasa_kitchen import appliances, groceries, looks, rooms

LAYOUTS = {room.name: number for number, room in enumerate(rooms.ROOMS, start=1)}
STYLES = {look.name: number for number, look in enumerate(looks.LOOKS, start=1)}
OBJECT_REGISTRY = "minimal"  # as ObjCat's reg_type and a folder below objects/
CATEGORIES = tuple(groceries.CATEGORIES)
SHIPPED = ("arenas/*.xml", "fixtures/cabinets/*.xml", "fixtures/cabinets/cabinet_panels/*.xml",
           "fixtures/handles/*.xml", "fixtures/counters/*/model.xml")  # by the library's own package


def kitchen_files(package_assets: Path) -> dict[str, bytes]:
    """Path below the asset root -> content, sorted; ``package_assets`` is the installed library's folder."""
    shipped = {path.relative_to(package_assets).as_posix(): path.read_bytes()
               for pattern in SHIPPED for path in package_assets.glob(pattern)}
    files = {**shipped, **appliances.files(), **groceries.files(), **looks.files(), **rooms.files()}
    return dict(sorted(files.items()))


def content_hash(files: dict[str, bytes]) -> str:
    """Twelve digits that change with any byte of any file."""
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def build_kitchen(package_assets: Path) -> Path:
    """The folder of the generated kitchen, written where anything is missing from it or differs.

    Every file is renamed into place whole, and every process writes the same bytes: any number of them may do
    this at once.

    Raises:
        ValueError: the cache cannot be written.
    """
    files = kitchen_files(package_assets)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "ptrlib" / f"robocasa-kitchen-{content_hash(files)}"
    try:
        missing = [name for name, content in files.items()
                   if not (root / name).is_file() or (root / name).read_bytes() != content]
        for name in missing:
            _write(root / name, files[name])
        if missing:
            _clear_left_over(root)
    except OSError as error:
        raise ValueError(f"the generated kitchen cannot be written to {root} ({error.strerror}); set XDG_CACHE_HOME "
                         "to a folder that can be written") from error
    return root


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _clear_left_over(root: Path) -> None:
    """Remove what builds that were killed on this machine had begun; another build may be under way."""
    for path in root.rglob(".*.partial"):
        machine, process = path.name.split(".")[-3:-1]
        if machine == _machine() and not _runs(int(process)):
            path.unlink(missing_ok=True)


def _machine() -> str:
    return platform.node().replace(".", "-")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
