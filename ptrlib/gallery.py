"""The chunks a rule trusted most and least, with their pictures: ``gallery.npz`` of a run folder.

What a weight means is easiest judged by looking. The pictures are the policy's own: its cameras at its
resolution, unshifted, at the start of the chunk (o_t) and after it (o_{t+Delta}).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptrlib.writing import written

if TYPE_CHECKING:  # reading a gallery need not wait for torch
    from ptrlib.data.chunks import ChunkDataset

FILE = "gallery.npz"
CHUNKS = 12  # at each end
PER_EPISODE = 2


@dataclass(frozen=True)
class Gallery:
    """Chunks and what the policy saw of them; row i of ``chunks`` belongs to ``images[i]``.

    ``chunks`` has the columns of a weight snapshot (``truth_...`` for analysis only), ``group`` ("highest" or
    "lowest") and ``instruction``, the sentence the policy was given. The most extreme score comes first.
    """

    chunks: pd.DataFrame
    images: NDArray[np.uint8]  # (n, 2, cameras, height, width, 3): o_t and o_{t+Delta}
    cameras: tuple[str, ...]


def make_gallery(snapshot: pd.DataFrame, dataset: ChunkDataset) -> Gallery:
    """The training chunks with the highest and the lowest scores of ``snapshot``, of chunks with a target.

    The weight grows with the score and is clipped: the score also orders the chunks at the clip.
    """
    table = snapshot[(snapshot.split == "train") & snapshot.valid].sort_values("score", kind="stable")
    lowest = _extreme(table)
    highest = _extreme(table.drop(lowest.index)[::-1])
    chunks = pd.concat([highest.assign(group="highest"), lowest.assign(group="lowest")], ignore_index=True)
    episode, start = chunks.episode.to_numpy(copy=True), chunks.start.to_numpy(copy=True)
    batch = dataset.batch(episode, start[:, None], np.ones((len(chunks), 1), bool))
    images = np.stack([batch.images[:, 0].numpy(), batch.target_images[:, 0].numpy()], axis=1)
    instruction = [dataset.episodes[index].instruction for index in episode]
    return Gallery(chunks.assign(instruction=instruction), images, tuple(dataset.cameras))


def _extreme(table: pd.DataFrame) -> pd.DataFrame:
    """The first rows, at most ``PER_EPISODE`` of an episode."""
    return table[table.groupby("episode").cumcount() < PER_EPISODE].head(CHUNKS)


def save_gallery(folder: Path, gallery: Gallery) -> None:
    """Write ``folder/gallery.npz`` whole. Raises Stopped if the disk is full."""
    columns: dict[str, Any] = {str(name): np.asarray(values.tolist()) for name, values in gallery.chunks.items()}
    with written(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **columns, images=gallery.images, cameras=np.asarray(gallery.cameras))


def load_gallery(folder: str | Path) -> Gallery | None:
    """The gallery of a run folder; None for a run whose rule has none, or that is older than galleries.

    Raises:
        ValueError: the file cannot be read.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path}: not a readable gallery ({error}); restore it from git, or delete it") from None
    images, cameras = columns.pop("images"), tuple(columns.pop("cameras").tolist())
    return Gallery(pd.DataFrame(columns), images, cameras)
