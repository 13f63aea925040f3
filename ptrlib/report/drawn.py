"""What ``save_figure`` asks of a figure: that every number it draws stands in the data frame kept beside it, and that
no title, label or legend is cut off at its edge.

Read are the coordinates of lines, dots, error bars, bands and boxes, the heights of bars and steps, and the cells of
heat maps. Left out is what claims no number of the data: places along an axis whose ticks have names, where a bar
stands and begins, references across a whole panel (``axhline``, ``axvspan``, ``axline``), pictures, colour bars,
drawings without axes, and texts. An artist that is neither is refused, so that none goes unread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter, StrCategoryLocator
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, StepPatch
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter
from numpy.typing import ArrayLike

FACTORS = (1.0, 100.0)  # shares may be drawn in percent
RELATIVE, ABSOLUTE = 1e-6, 1e-9  # what arithmetic may change: of a number, and of the largest drawn with it


def check_drawn(figure: Figure, name: str, data: pd.DataFrame) -> None:
    """Compare the numbers that ``figure`` draws with those of ``data``, which may be shares of drawn percentages.

    Raises:
        ValueError: a drawn number is not in ``data``, or an artist's numbers cannot be read.
    """
    numbers = _numbers(data)
    for values in _drawn(figure, name):
        missing = min((_missing(values, factor * numbers) for factor in FACTORS), key=len)
        if len(missing):
            raise ValueError(f"Figure '{name}' draws {missing[0]:.6g}, which its data do not hold; give save_figure "
                             "the frame with exactly the numbers drawn.")


def check_fits(figure: Figure, name: str) -> None:
    """Draw ``figure`` and look where its titles, axes' labels, legends and other texts end; tick labels are given
    their room by the layout.

    Raises:
        ValueError: one of them reaches over the figure's edge.
    """
    figure.draw_without_rendering()
    for text in _texts(figure):
        if text.get_visible() and text.get_text().strip():
            box, edge = text.get_window_extent(), figure.bbox
            if min(box.x0 - edge.x0, box.y0 - edge.y0, edge.x1 - box.x1, edge.y1 - box.y1) < -1:  # pixels
                raise ValueError(f"Figure '{name}' cuts off {text.get_text()!r}; shorten it or enlarge the figure.")


def _texts(figure: Figure) -> Iterator[Text]:
    yield from figure.texts
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
    for legend in (*figure.legends, *(axes.get_legend() for axes in figure.axes)):
        yield from legend.get_texts() if legend else ()


def _numbers(data: pd.DataFrame) -> np.ndarray:
    """The finite numbers of ``data`` in ascending order, between the two infinities."""
    numbers = data.select_dtypes("number").to_numpy(float, na_value=np.nan)
    return np.concatenate([[-np.inf], np.unique(numbers[np.isfinite(numbers)]), [np.inf]])


def _missing(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The finite ``values`` that are none of ``numbers``."""
    finite = values[np.isfinite(values)]
    place = np.searchsorted(numbers, finite)
    away = np.minimum(finite - numbers[place - 1], numbers[place] - finite)
    return finite[away > RELATIVE * abs(finite) + ABSOLUTE * abs(finite).max(initial=0.0)]


def _drawn(figure: Figure, name: str) -> Iterator[np.ndarray]:
    """The numbers drawn, an array for each coordinate of an artist."""
    for axes in figure.axes:
        if not axes.get_visible() or not axes.axison or axes.get_label() == "<colorbar>":
            continue
        groups = [group for group in axes.containers if isinstance(group, BarContainer)]
        yield from map(_lengths, groups)
        bars = {id(bar) for group in groups for bar in group}
        for artist in (*axes.lines, *axes.collections, *axes.patches, *axes.images):
            place = artist.get_offset_transform() if isinstance(artist, PathCollection) else artist.get_transform()
            if id(artist) not in bars and all(place.contains_branch_seperately(axes.transData)):
                yield from _of_artist(artist, axes, name)


def _lengths(bars: BarContainer) -> np.ndarray:
    """The heights of bars, or the widths of those that lie."""
    return np.array([bar.get_width() if bars.orientation == "horizontal" else bar.get_height() for bar in bars], float)


def _of_artist(artist: Artist, axes: Axes, name: str) -> Iterator[np.ndarray]:
    match artist:
        case Line2D():
            yield from _coordinates(axes, artist.get_xydata())
        case PathCollection():
            yield from _coordinates(axes, artist.get_offsets())
        case LineCollection() | PolyCollection():
            yield from _coordinates(axes, *(path.vertices for path in artist.get_paths()))
        case StepPatch():
            yield from map(np.asarray, artist.get_data()[:2])  # heights and edges
        case PathPatch():
            yield from _coordinates(axes, artist.get_path().vertices)
        case QuadMesh() | AxesImage():
            cells = np.ma.asarray(artist.get_array())
            if cells.ndim == 2:  # otherwise a picture
                yield cells.astype(float).filled(np.nan).ravel()
        case _:
            raise ValueError(f"Figure '{name}' holds a {type(artist).__name__}, whose numbers cannot be compared with "
                             "its data; teach ptrlib/report/drawn.py to read them.")


def _coordinates(axes: Axes, *points: ArrayLike) -> Iterator[np.ndarray]:
    """x and y of ``points``, without those along an axis of names."""
    joined = np.concatenate([np.empty((0, 2)), *(np.ma.filled(np.ma.asarray(part, float), np.nan) for part in points)])
    for axis, values in zip((axes.xaxis, axes.yaxis), joined.T, strict=True):
        if not _has_names(axis):
            yield values


def _has_names(axis: Axis) -> bool:
    """Whether a tick of ``axis`` is labelled with anything but the number of its place."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    if not (isinstance(locator, FixedLocator | StrCategoryLocator)
            and isinstance(formatter, FixedFormatter | FuncFormatter | StrCategoryFormatter)):
        return False  # matplotlib writes the numbers itself
    places = list(locator())
    return any(map(_names, formatter.format_ticks(places), places))


def _names(label: str, place: float) -> bool:
    """Whether ``label`` is a name or another number, not 0.5, 1/2 or 50 % at 0.5."""
    try:
        return not math.isclose(Fraction(label), place, rel_tol=1e-4)
    except ValueError:
        return any(map(str.isalpha, label))
