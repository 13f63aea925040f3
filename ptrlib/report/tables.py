"""Tables as the book shows them."""

from __future__ import annotations

import pandas as pd
from pandas.io.formats.style import Styler

WRAPPED = [{"selector": "td, th", "props": "white-space: normal; text-align: left; vertical-align: top"}]


def show(frame: pd.DataFrame, *, digits: int = 1) -> Styler:
    """A table for a page: ``digits`` decimals, wrapped text, no row numbers (a named index stays)."""
    styled = frame.style.format(precision=digits, na_rep="–").set_table_styles(WRAPPED)
    return styled if any(frame.index.names) else styled.hide(axis="index")
