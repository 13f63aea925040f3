"""A page element to look at: the chunks with the highest and the lowest weights, with what the policy saw."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.gallery import Gallery
from ptrlib.report.charts import corruption_label

_GRID = ("display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5em, 1fr)); gap: 0.8em; "
         "margin-bottom: 1.5em")
_CAPTION = "font-size: 0.75em; line-height: 1.3; text-align: left; overflow-wrap: anywhere"
_SEPARATOR = 2  # pixels between the images of one card


def gallery_cards(gallery: Gallery) -> str:
    """HTML: a card per chunk. A card shows a row per camera, o_t on the left and o_{t+Delta} on the right; below
    it the weight, the score, where the chunk comes from and, for analysis only, which corruptions hit it."""
    parts = []
    for group in ("highest", "lowest"):
        cards = "".join(_card(gallery, index) for index in np.flatnonzero(gallery.chunks.group == group))
        parts.append(f'<p><strong>The {group} weights</strong></p><div class="gallery" style="{_GRID}">{cards}</div>')
    return "".join(parts)


def _card(gallery: Gallery, index: int) -> str:
    chunk = gallery.chunks.iloc[index]
    touched = [corruption_label(kind) for kind in CORRUPTIONS if chunk[f"truth_{kind}"]]
    instruction, task = str(chunk.instruction), str(chunk.task).replace("_", " ")
    lines = [f"<b>w = {chunk.weight:.2f}</b>, T = {chunk.score:.2f}",
             f"<b>{html.escape(', '.join(touched))}</b>" if touched else "untouched",
             html.escape(f"{chunk.operator}, step {chunk.start} ({chunk.phase:.0%} of the episode)"),
             html.escape(f"“{instruction}”")]
    if chunk.truth_label_noise:
        lines.append(html.escape(f"true task: {task}"))
    picture = base64.b64encode(_png(_mosaic(gallery.images[index]))).decode()
    alt = html.escape(f"{', '.join(gallery.cameras)} at step {chunk.start} and after the chunk", quote=True)
    return (f'<figure style="margin: 0"><img alt="{alt}" src="data:image/png;base64,{picture}" '
            f'style="width: 100%; image-rendering: pixelated">'
            f'<figcaption style="{_CAPTION}">{"<br>".join(lines)}</figcaption></figure>')


def _mosaic(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(2, cameras, H, W, 3) -> one picture, time from left to right and a row per camera."""
    moments, cameras, height, width, _ = images.shape
    gap = _SEPARATOR
    canvas = np.full((cameras * (height + gap) - gap, moments * (width + gap) - gap, 3), 255, np.uint8)
    for moment in range(moments):
        for camera in range(cameras):
            top, left = camera * (height + gap), moment * (width + gap)
            canvas[top:top + height, left:left + width] = images[moment, camera]
    return canvas


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    return buffer.getvalue()
