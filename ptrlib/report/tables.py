"""Tables as the book shows them."""

from __future__ import annotations

import pandas as pd
from pandas.api.types import is_numeric_dtype as is_numeric
from pandas.io.formats.style import Styler

WRAPPED = [{"selector": "td, th", "props": "white-space: normal; text-align: left; vertical-align: top; "
                                           "padding: 0.2em 0.8em 0.2em 0"}]
SHORT, LONG = 18, 40  # characters: up to which a column is never wrapped, and from which it gets room


def show(frame: pd.DataFrame, *, digits: int = 1) -> Styler:
    """A table for a page: ``digits`` decimals, wrapped text, no row numbers (a named index stays).

    On a narrow screen the table scrolls in its frame instead of squeezing long texts into a word a line.
    """
    frame = frame if any(frame.index.names) else frame.reset_index(drop=True)
    longest = {name: values.astype(str).str.len().max() for name, values in frame.items() if not is_numeric(values)}
    styled = frame.style.format(precision=digits, na_rep="–").set_table_styles(WRAPPED)
    styled = styled.set_properties(subset=[name for name, length in longest.items() if length <= SHORT],
                                   **{"white-space": "nowrap"})
    styled = styled.set_properties(subset=[name for name, length in longest.items() if length >= LONG],
                                   **{"min-width": "13em"})
    return styled if any(frame.index.names) else styled.hide(axis="index")
