"""Figure 10 on Tabletop: diagnostics, verdicts and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptrlib.config import PTRConfig
from ptrlib.report import REPOSITORY, results, sweeps
from ptrlib.runs import load_manifest

MANIFESTS = ("tabletop_sweep_tau", "tabletop_sweep_beta", "tabletop_sweep_w_max")
CHANCES = {2.0: 0.2, 4.0: 0.6, 8.0: 0.9, 16.0: 0.6}  # success by w_max
VALUES = {"tau": [0.03], "beta": [3.0], "w_max": [1.0]}  # of the tiny page, beside the defaults


def made_up() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs and episodes of a sweep of w_max; stability falls and T stays as it rises."""
    luck = np.random.default_rng(0).random((3, 4, 30))
    runs = pd.DataFrame([{"parameter": "ptr.w_max", "value": value, "run": f"{value}-{seed}", "training_seed": seed,
                          "score": 2.0 + 0.1 * seed, "stability": 4 / value + 0.01 * seed, "tau_end": 0.1,
                          "beta_end": 1.2, "weight": value / 2, "at_clip": 0.25}
                         for value in CHANCES for seed in range(3)])
    episodes = pd.DataFrame([{"parameter": "ptr.w_max", "value": value, "corruption": "combined", "training_seed": seed,
                              "task": f"task {task}", "init_state": scene, "success": luck[seed, task, scene] < chance}
                             for value, chance in CHANCES.items() for seed in range(3) for task in range(4)
                             for scene in range(30)])
    return runs, episodes


def test_diagnostics_are_rates_and_means_and_their_share_of_the_largest():
    runs, episodes = made_up()
    table = sweeps.diagnostics(runs, episodes).set_index(["diagnostic", "value"])
    assert table.loc[("success", 8.0), "estimate"] == episodes[episodes.value == 8].success.mean()
    assert table.loc[("success", 8.0), "count"] == 360 and table.loc[("success", 8.0), "normalised"] == 1
    assert table.loc[("score", 4.0), "estimate"] == pytest.approx(2.1) and table.loc[("score", 4.0), "count"] == 3
    assert table.loc[("stability", 2.0), "normalised"] == 1
    assert table.loc[("stability", 8.0), "normalised"] == pytest.approx(0.51 / 2.01)
    shown = sweeps.diagnostics_table(sweeps.raw_chart(sweeps.diagnostics(runs, episodes))[1])
    assert shown["value"].tolist() == ["2", "4", "8", "16"] and shown["final score T (nats)"].nunique() == 1
    assert shown["success (%)"][2].startswith(f"{100 * episodes[episodes.value == 8].success.mean():.1f} [")


def test_the_default_is_best_only_where_the_intervals_say_so():
    runs, episodes = made_up()
    assert sweeps.headline(runs, episodes).splitlines()[2] == (
        "- w_max: **the default is not the best value**: 8 succeeds more often; it beats 2; 16 cannot be told from it.")
    told = sweeps.verdicts(runs, episodes)
    assert told.answer.tolist() == ["yes", "no, 8 does", "cannot be told", "holds"]
    assert "less controlled gradients" in told.question.iloc[-1]
    without = episodes.value != 8
    assert "**whether the default is best cannot be told**" in sweeps.headline(runs[runs.value != 8], episodes[without])
    few = [table[table.value.isin([2, 4])] for table in (runs, episodes)]
    assert "**the default is the best value**; it beats 2." in sweeps.headline(*few)


def test_a_difference_has_the_sign_of_its_question():
    told = sweeps.verdicts(*made_up()).set_index("question")
    told = told.loc["w_max: does the default (4) succeed more often than 8?"]
    assert told.number.startswith(f"{100 * told.estimate:+.1f} [") and told.estimate < 0 and told.answer == "no, 8 does"
    shown = sweeps.moved_table(made_up()[0]).set_index("starts at").loc["8"]
    assert shown["mean weight"].startswith("4.00") and shown["at w_max (%)"].startswith("25.0")


def test_equal_weights_have_no_stability_and_no_answer():
    runs, episodes = made_up()
    runs.loc[runs.value == 16, "stability"] = np.nan
    table = sweeps.diagnostics(runs, episodes)
    assert table[(table.diagnostic == "stability") & (table.value == 16)].estimate.isna().all()
    sweeps.raw_chart(table)
    assert len(sweeps.verdicts(runs, episodes)) == 3


def test_the_manifests_sweep_around_the_default_within_the_controllers_bounds():
    shared = [{setting.folder_name for setting in load_manifest(REPOSITORY / f"experiments/{name}.yaml").settings}
              for name in MANIFESTS]
    corruption = {setting.folder_name for setting in load_manifest(
        REPOSITORY / "experiments/tabletop_corruption.yaml").settings
        if setting.method == "ptr" and setting.config.data.corruption == "combined"}
    common = set.intersection(*shared)
    assert common == corruption  # the default's runs are the corruption page's
    for name, (low, high) in zip(MANIFESTS, ((PTRConfig.tau_min, PTRConfig.tau_max), (PTRConfig.beta_min,
                                              PTRConfig.beta_max), (1.0, np.inf)), strict=True):
        path = REPOSITORY / f"experiments/{name}.yaml"
        parameter = sweeps.swept(path)
        values = {getattr(setting.config.ptr, parameter.removeprefix("ptr."))
                  for setting in load_manifest(path).settings}
        assert len(values) == 5 and sweeps.default(parameter) in values and low <= min(values) and max(values) <= high


def test_a_manifest_without_one_swept_parameter_is_refused():
    with pytest.raises(ValueError, match="tabletop_corruption.yaml sweeps none of ptr.tau, ptr.beta, ptr.w_max; .*one"):
        sweeps.swept(REPOSITORY / "experiments/tabletop_corruption.yaml")
    assert sweeps.with_default("ptr.w_max", [6.0]) == [4.0, 6.0] and sweeps.with_default("ptr.tau", None) is None
    assert sweeps.with_default("ptr.w_max", 6.0) == [4.0, 6.0]


def test_the_page_shows_what_its_runs_hold(tiny_book):
    stored = {}
    for name, values in zip(MANIFESTS, VALUES.values(), strict=True):
        parameter = sweeps.swept(REPOSITORY / f"experiments/{name}.yaml")
        stored[parameter] = tiny_book.make(name, changes={parameter: sweeps.with_default(parameter, values)})
    page = tiny_book.execute("sweeps", **VALUES)
    every = list({run.name: run for sweep in stored.values() for run in sweep}.values())
    assert len(every) == 4 and f"**{len(every)} runs**" in page.text()
    episodes = sweeps.labelled(results.episodes_frame(every), stored)
    runs = pd.concat([sweeps.run_diagnostics(sweep, parameter) for parameter, sweep in stored.items()])
    table = sweeps.diagnostics(runs, episodes)
    for name, chart in (("sweeps_normalised", sweeps.normalised_chart), ("sweeps_raw", sweeps.raw_chart)):
        pd.testing.assert_frame_equal(page.frame(name), chart(table)[1], rtol=1e-4, check_dtype=False)
    scores = results.weights_frame(stored["ptr.tau"][:1])
    last = scores[(scores.step == scores.step.max()) & (scores.split == "train") & scores.valid]
    cell = table[(table.parameter == "ptr.tau") & (table.value == 0.03)].set_index("diagnostic").estimate
    assert cell["score"] == pytest.approx(last.score.mean())
    assert cell["stability"] == pytest.approx(1 / last.weight.std(ddof=0))
    row = runs[(runs.parameter == "ptr.tau") & (runs.value == 0.03)].iloc[0]
    assert row.weight == pytest.approx(last.weight.mean()) and row.at_clip == (last.weight >= 0.999 * 4.0).mean()
    assert "ptrlib notebook sweeps source=fresh seeds=1" in page.text()
    without = tiny_book.execute("sweeps", **VALUES | {"w_max": [9.0]})
    assert "The runs of `tabletop_sweep_w_max` are not all stored and not shown" in without.text()
    assert set(without.frame("sweeps_raw").parameter) == {"ptr.tau", "ptr.beta"}
