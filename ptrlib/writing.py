"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptrlib.errors import Stopped

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written(path: Path, *, shared: bool = False, failures: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """The temporary name under which to write ``path``: it is renamed at the end, or removed if writing failed.

    Args:
        shared: other processes may write the same file, so that each needs a temporary name of its own.
        failures: what the library that writes raises of a full disk, where that is no OSError.

    Raises:
        Stopped: the disk is full, or one of ``failures``. Any other OSError passes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}" if shared else f".{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except failures as error:
        raise _stopped(path, error) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _stopped(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: Path, option: str) -> None:
    """Raise ValueError if ``path`` cannot be made where it is to lie; ``option`` is what names another place. Asked
    before what takes long."""
    above = next(folder for folder in path.parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{above} is a file, and {path} cannot lie in it; give {option} a name in a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{above} cannot be written to, and {path} is to lie in it; give {option} a name in another "
                         "folder")


def _stopped(path: Path, error: Exception) -> Stopped:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
    return Stopped(f"{path} could not be written ({reason}); if the disk is full make room, and run the same command "
                   "again")
