"""Figures whose numbers are those of their frame are kept; one altered number is refused by ``save_figure``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from ptrlib.report import figures
from ptrlib.report.drawn import check_drawn, check_fits
from ptrlib.report.figures import FOLDER_VARIABLE, save_figure

FRAME = pd.DataFrame({"step": [1, 2, 5], "share": [0.1234567, 0.25, 0.75], "low": [0.1, 0.2, 0.7],
                      "high": [0.2, 0.3, np.nan], "name": ["a", "b", "c"]})


def line(axes, frame):
    axes.plot(frame.step, frame.share)


def percent(axes, frame):
    axes.plot(frame.step, 100 * frame.share, "o")
    axes.set(xscale="log", yscale="symlog")


def steps_by_name(axes, frame):
    axes.plot(frame.share, [0.1, 1.1, 2.1], "o")  # beside its row's place
    axes.set_yticks(range(3), frame.name)


def bars(axes, frame):
    axes.bar(frame.name, frame.share)


def stacked(axes, frame):
    axes.barh([0, 1, 2], frame.share, left=0.4)


def error_bars(axes, frame):
    axes.errorbar(frame.step, FRAME.low, yerr=[[0, 0, np.nan], frame.share - FRAME.low], capsize=2)


def band(axes, frame):
    axes.fill_between(frame.step, FRAME.low, frame.share)


def scatter(axes, frame):
    axes.scatter(frame.step, frame.share)


def segments(axes, frame):
    axes.vlines(frame.step, FRAME.low, frame.share)


def steps(axes, frame):
    axes.stairs(frame.share[:2], FRAME.step)


def heat_map(axes, frame):
    image = axes.imshow(frame[["share", "low"]], cmap="cividis")
    axes.figure.colorbar(image)


def mesh(axes, frame):
    axes.pcolormesh(frame[["share", "high"]])


def boxes(axes, frame):
    values = dict(zip(("whislo", "q1", "med", "q3", "whishi"), [0.1, *sorted(frame.share), 0.7], strict=True))
    axes.bxp([values], showfliers=False, patch_artist=True)
    axes.set_xticks([1], ["a"])


KINDS = [line, percent, steps_by_name, bars, stacked, error_bars, band, scatter, segments, steps, heat_map, mesh, boxes]


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.mark.parametrize("draw", KINDS)
def test_the_numbers_of_the_frame_may_be_drawn(draw, axes):
    draw(axes, FRAME)
    check_drawn(axes.figure, "made_up", FRAME)


@pytest.mark.parametrize("draw", KINDS)
def test_one_other_number_is_refused(draw, axes):
    draw(axes, FRAME.assign(share=[0.1234567, 0.2501, 0.75]))
    with pytest.raises(ValueError, match=r"Figure 'made_up' draws (0\.2501|25\.01), which its data do not hold; give"):
        check_drawn(axes.figure, "made_up", FRAME)


def test_percent_is_the_only_other_unit(axes):
    axes.plot(FRAME.step, 1000 * FRAME.share)
    with pytest.raises(ValueError, match=r"draws 123\.457, which"):
        check_drawn(axes.figure, "made_up", FRAME)


def test_an_artist_is_in_one_unit(axes):
    axes.plot(FRAME.step, FRAME.share * [1, 100, 1])
    with pytest.raises(ValueError, match="draws 25, which"):
        check_drawn(axes.figure, "made_up", FRAME)


@pytest.mark.parametrize("labels", [["1/4", "1/2"], ["25 %", "50 %"], ["0.25", "0.5"]])
def test_ticks_with_numbers_are_no_names(axes, labels):
    axes.plot(FRAME.step, 1 / FRAME.share)
    axes.set_yticks([0.25, 0.5], labels)
    with pytest.raises(ValueError, match=r"draws 8\.10001, which"):
        check_drawn(axes.figure, "made_up", FRAME)


def test_references_pictures_and_hidden_panels_claim_nothing():
    figure, panels = plt.subplots(1, 3)
    panels[0].axhline(0.31)
    panels[0].axvspan(0.32, 0.33)
    panels[0].axline((0, 0), slope=1)
    panels[1].imshow(np.full((2, 2, 3), 0.34))
    panels[2].plot([0.35, 0.36])
    panels[2].set_axis_off()
    check_drawn(figure, "made_up", FRAME)
    plt.close(figure)


def test_an_artist_of_an_unknown_kind_is_refused(axes):
    axes.add_patch(Circle((0.25, 0.75), 0.1))
    with pytest.raises(ValueError, match=r"Figure 'made_up' holds a Circle, whose .*; teach ptrlib/report/drawn\.py"):
        check_drawn(axes.figure, "made_up", FRAME)


def test_a_frame_without_numbers_holds_none(axes):
    axes.plot([0.0, 1.0])
    with pytest.raises(ValueError, match="draws 0, which"):
        check_drawn(axes.figure, "made_up", FRAME[["name"]])


def test_a_refused_figure_is_not_kept(axes, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    axes.plot(FRAME.step, FRAME.share + 0.01)
    with pytest.raises(ValueError, match="Figure 'made_up' draws"):
        save_figure(axes.figure, "made_up", data=FRAME)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("put", [Axes.set_xlabel, Axes.set_ylabel, Axes.set_title,
                                 lambda axes, words: axes.figure.legend([axes.lines[0]], [words])])
def test_a_text_that_is_cut_off_is_refused(put, axes, tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(figures, "REPOSITORY", tmp_path)
    axes.plot(FRAME.step, FRAME.share)
    put(axes, "a label of usual length")
    check_fits(axes.figure, "made_up")
    put(axes, "a label that says far more than is good for it, " * 4)
    with pytest.raises(ValueError, match="Figure 'made_up' cuts off 'a label that says"):
        save_figure(axes.figure, "made_up", data=FRAME)
    assert not list(tmp_path.glob("figures/*"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "apart"))  # as of a page with other parameters
    assert save_figure(axes.figure, "made_up", data=FRAME).is_file()
