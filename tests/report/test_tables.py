"""Tables of the pages: readable on a narrow screen, whatever frame they come from."""

from __future__ import annotations

import pandas as pd

from ptrlib.report.tables import show


def test_short_texts_stay_whole_and_long_ones_get_room():
    rows = pd.DataFrame({"rate": [1.25, None], "interval": ["98 [90, 100]", "1"], "question": ["why " * 20, "how"]})
    html = show(pd.concat([rows, rows])).to_html()  # row numbers that repeat, as after a concat
    assert html.count("white-space: nowrap") == 1 and html.count("min-width: 13em") == 1
    assert "1.2" in html and "–" in html and "<th" in html and "row_heading" not in html


def test_a_named_index_stays():
    html = show(pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="recorded"))).to_html()
    assert "recorded" in html and ">x<" in html
