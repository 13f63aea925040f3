"""A rule as it stood at the end of training: ``credit.safetensors`` of a run folder.

Acting does not need it, which is why it lies beside ``policy.safetensors`` and not in it; scoring chunks does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, as_tensor

from ptrlib.credit.interface import Credit
from ptrlib.writing import written

FILE = "credit.safetensors"
_INSIDE = "/"  # between the name of an extra state and of a part of it


def save_credit(folder: Path, credit: Credit, *, tasks: Sequence[str], episodes: int) -> None:
    """Write ``folder/credit.safetensors`` whole. Raises Stopped if the disk is full.

    A rule that remembers chunks knows their tasks and episodes by number: ``tasks`` are the names of the tasks, in the
    order of their numbers, and ``episodes`` is how many there were.
    """
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in _flat(credit.state_dict()).items()}
    with written(folder / FILE, failures=(SafetensorError,)) as temporary:
        save_file(tensors, temporary, metadata={"tasks": json.dumps(list(tasks)), "episodes": str(episodes)})


def load_credit(folder: str | Path, credit: Credit) -> None:
    """Give a new rule the state that is stored in a run folder.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise ValueError(f"{path}: the state of the rule is not stored here (older runs have none); remove {folder} "
                         "and train it again")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable rule ({error}); remove {folder} and train it again") from None
    for name, _ in list(credit.named_buffers(recurse=False)):  # one value per chunk of the data it was prepared for
        setattr(credit, name, tensors[name])
    credit.load_state_dict(_nested(tensors))


def numbers_known(folder: str | Path) -> tuple[tuple[str, ...], int]:
    """The tasks and the number of episodes that :func:`save_credit` was given.

    Raises:
        ValueError: the run is older than their recording.
    """
    path = Path(folder) / FILE
    with safe_open(path, "pt") as stored:
        known = stored.metadata() or {}
    if not {"tasks", "episodes"} <= set(known):
        raise ValueError(f"{path}: which tasks the rule knows is not stored here (older runs do not tell), and it "
                         f"compares other demonstrations with them; remove {folder} and train it again")
    return tuple(json.loads(known["tasks"])), int(known["episodes"])


def _flat(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state whose values are tensors, or mappings of names to tensors and numbers."""
    flat: dict[str, Tensor] = {}
    for key, value in state.items():
        parts = {f"{key}{_INSIDE}{name}": part for name, part in value.items()} if isinstance(value, Mapping) else {
            key: value}
        flat.update({name: as_tensor(part) for name, part in parts.items()})
    return flat


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of :func:`_flat`; numbers stay tensors."""
    state: dict[str, Any] = {}
    for key, value in tensors.items():
        name, inside, part = key.partition(_INSIDE)
        if inside:
            state.setdefault(name, {})[part] = value
        else:
            state[name] = value
    return state
