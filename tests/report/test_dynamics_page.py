"""Settings gathered from several manifests, their curves, the paper's statements about them, and the page."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ptrlib import runs
from ptrlib.config import PTRConfig, override
from ptrlib.report import dynamics, published, results


def metrics(seeds: int = 4, steps: int = 300, **ends: float) -> pd.DataFrame:
    """Runs of one setting, ``steps`` logging steps each, that jump from 0 (the loss: fall from 1) to ``ends``."""
    ends = {"nce_acc": 0.8, "nce_adv": 3.0, "tok_entropy": 0.05, "nce_margin": 4.0, "tau": 0.03, "beta": 1.2,
            "hard_ratio": 0.5, "loss_action": 0.01, "loss_id": 1.0, **ends}
    progress = np.arange(1, steps + 1) / steps
    tables = []
    for seed in range(seeds):
        table = pd.DataFrame({"step": 10 * np.arange(1, steps + 1), "progress": progress, "run": f"run {seed}",
                              "setting": "Tabletop (easy), clean data", "rule": "ptr", "training_seed": seed})
        for name, end in ends.items():
            late = end * (1 + 0.001 * (seed - (seeds - 1) / 2))  # seeds differ a little
            table[name] = np.where(progress < 0.5, 1.0 if name == "loss_action" else 0.0, late)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def told(**ends: float) -> pd.Series:
    table = dynamics.answers(dynamics.at_ends(metrics(**ends)))
    return table.set_index("the paper's statement").iloc[:, 0].str.partition(": ")[0]


def test_statements_are_answered_by_the_runs():
    assert (told() == "holds").all() and len(told()) == 8
    worse = told(nce_adv=2.0, tok_entropy=0.4, nce_margin=9.0, tau=0.16, beta=0.5, loss_action=0.5)
    assert worse.tolist() == ["holds", "does not hold, below", "does not hold, below", "does not hold, above",
                              "does not hold, above", "does not hold, above", "does not hold, below", "holds"]
    assert told(hard_ratio=0.2)["the hard-negative ratio ends at about 0.5 (within 20%)"] == "does not hold, below"
    ends = dynamics.at_ends(metrics())
    ends.loc[0, "nce_adv end"] = 0.1  # one run far off: its setting's interval reaches across the limit
    assert dynamics.answers(ends).iloc[1, 1].startswith("cannot be told: ")
    assert told(nce_acc=0.0)["accuracy rises"] == "does not hold"
    line = dynamics.verdict(dynamics.at_ends(metrics()))
    assert line.startswith("Of the 8 statements, 8 hold in all 1 settings shown, 0 in some and 0 in none. The levels ")
    few = dynamics.at_ends(metrics(steps=200, tau=0.1))
    assert dynamics.answers(few).iloc[5, 1].startswith(dynamics.TOO_SHORT)
    assert "0 in none; 1 cannot be tried in so few steps. " in dynamics.verdict(few)
    one = dynamics.verdict(dynamics.at_ends(metrics(seeds=1)))
    assert "about that run alone" in one and "about that run alone" not in line


def test_the_ends_of_a_run_are_means_over_its_first_and_last_steps():
    ends = dynamics.at_ends(metrics(seeds=1)).iloc[0]
    assert ends["loss_action start"] == pytest.approx(1) and ends["loss_action end"] == pytest.approx(0.01)
    assert ends["factor of the loss"] == pytest.approx(100)
    assert ends["candidates"] == pytest.approx(math.exp(4)) and ends["of ceiling"] == pytest.approx(3 / 4)
    assert ends["half"] == pytest.approx(0.5, abs=0.05)
    table = dynamics.end_table(dynamics.at_ends(metrics()))
    assert table.loc["score T (nats)", "the paper"] == "2.8–3.1, fast group 3.2–3.8"
    assert table.loc["margin (logits)", "Tabletop (easy), clean data"].startswith("4.00 [3.99, 4.01")


def test_curves_average_within_a_run_and_span_the_seeds():
    table = metrics(seeds=3, steps=100, tau=0.1)
    drawn = dynamics.curves(table, ["tau"], share=0.1)
    last = table[table.step == 1000].tau
    assert drawn["tau mean"].iloc[-1] == pytest.approx(last.mean())
    assert (drawn["tau min"].iloc[-1], drawn["tau max"].iloc[-1]) == pytest.approx((last.min(), last.max()))
    jump = drawn[drawn.progress == 0.5]["tau mean"].item()  # one of ten steps is past the jump
    assert jump == pytest.approx(0.1 / 10)
    figure, chart = dynamics.course_chart(table, {"tau": "τ"}, stated={"tau": (0.03, 0.03)})
    line = next(line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 100)
    assert line.get_ydata() == pytest.approx(chart["tau mean"].to_numpy())
    assert line.get_xdata() == pytest.approx(100 * chart.progress.to_numpy())


def test_the_controllers_end_points_exclude_each_other():
    configs = [override(runs.RunConfig(), {"ptr.optimization.steps": steps, "log_every": 5}) for steps in (800, 1500)]
    text = dynamics.reach(configs)
    assert "needs 277 logging steps" in text and "have 160 to 300 in all" in text
    assert "β is at most 0.5, while the paper reports about 1.2: **the paper’s two end points cannot both come" in text
    config, end = PTRConfig(), published.statement("tau_final")
    assert config.tau * config.scale_down ** 277 <= end < config.tau * config.scale_down ** 276


def test_where_the_scorer_was_ever_confident_is_told():
    table, named = metrics(seeds=2), "Tabletop (easy), clean data"
    one = table.run == "run 1"
    table["tau"] = np.tile(np.linspace(0.12, 0.03, one.sum()), 2)
    assert dynamics.sharpened(table).all()
    assert f"**It ever did in 2 of the 2 runs here** ({named}: 2 of 2); " in dynamics.confidence(table)
    table.loc[one, "tau"] = np.linspace(0.12, 0.17, one.sum())
    assert dynamics.sharpened(table).tolist() == [True, False]
    table.loc[~one, "tau"] = 0.12
    assert "**It ever did in 0 of the 2 runs here**; in the others" in dynamics.confidence(table)
    short = dynamics.at_ends(metrics(steps=200, tau=0.16))  # too few steps, but it went the other way
    assert dynamics.answers(short).iloc[5, 1].startswith("does not hold, above")


def test_a_controller_that_stayed_is_told():
    table = metrics(seeds=2)
    assert dynamics.unmoved(table) == ""
    table.loc[table.run == "run 1", "tau"] = 0.12
    assert "never moved τ and β in `run 1` (Tabletop (easy), clean data): " in dynamics.unmoved(table)


def test_colours_name_the_source_and_styles_the_corruption():
    looks = dynamics.source_colours(["A (x), clean data", "A (x), combined corruption", "B (y), clean data"])
    colours, styles = zip(*looks.values(), strict=True)
    assert colours[0] == colours[1] != colours[2] and styles == ("-", "--", "-")


def test_only_tabletop_is_made_afresh(tmp_path):
    paths = dynamics.wanted(["tabletop_corruption", "libero_corruption"], rules=["ptr"], corruption=["none"], seeds=2,
                            steps=60, folder=tmp_path)
    ours, libero = (runs.load_manifest(path).settings for path in paths)
    asked = {(s.method, s.config.seed, s.config.ptr.optimization.steps) for s in ours}
    assert asked == {("ptr", 0, 60), ("ptr", 1, 60)}
    stored = {s.folder_name for s in runs.load_manifest(results.manifest_path("libero_corruption")).settings}
    assert len(libero) == 2 and {setting.folder_name for setting in libero} <= stored
    assert dynamics.trained_here(ours[0].config) and not dynamics.trained_here(libero[0].config)
    with pytest.raises(ValueError, match="none of libero_corruption has ptr on label_noise data; ask for another"):
        dynamics.wanted(["libero_corruption"], rules=["ptr"], corruption=["label_noise"], folder=tmp_path)


def test_without_any_run_the_sentence_names_the_command(tmp_path):
    path = dynamics.wanted(["tabletop_corruption"], rules=["ptr"], corruption=["none"], folder=tmp_path)
    with pytest.raises(ValueError, match="no run of .* is stored; make them with: ptrlib run .*yaml$"):
        dynamics.gather(path, tmp_path / "runs")


def test_the_page_shows_the_settings_that_are_stored(tiny_book):
    stored = tiny_book.make("tabletop_corruption", methods=["ptr"], changes={"data.corruption": ["none", "combined"]})
    robots = ("gantry", "two_link", "three_link", "generalist")  # all of them: another test may have made some
    stored += tiny_book.make("tabletop_generalist", methods=[f"ptr@{robot}" for robot in robots])
    page = tiny_book.execute("training_dynamics", manifests=["tabletop_corruption", "tabletop_generalist"])
    text = page.text()
    assert "Tabletop (gantry), clean data**: 1 run" in text
    drawn = page.frame("training_dynamics")
    assert set(drawn.setting) == {"Tabletop (easy), clean data", "Tabletop (easy), combined corruption",
                                  *(f"Tabletop ({robot.replace('_', '-')}), clean data" for robot in robots)}
    frame = results.metrics_frame(stored).sort_values("step")
    for column, figure in (("nce_acc", "training_dynamics"), ("tok_entropy", "belief_and_margin"),
                           ("hard_ratio", "controller_course")):  # one seed, and a window of one step
        assert np.sort(page.frame(figure)[f"{column} mean"]) == pytest.approx(np.sort(frame[column]), rel=1e-4)
    path = page.frame("controller_path").dropna(subset="run")  # without the rule and the paper's two points
    assert len(path) == len(frame) and np.sort(path.tau) == pytest.approx(np.sort(frame.tau), rel=1e-4)
    assert "Of the 8 statements" in text and "about that run alone" in text
