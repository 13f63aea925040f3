"""Where the paper's rule begins to work: settings, their baselines, the figure's numbers and the verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ptrlib import runs
from ptrlib.config import RunConfig, override
from ptrlib.report import REPOSITORY, results, scales
from ptrlib.report.results import StoredRun
from ptrlib.runs import Setting

TINY_SCALE = {"name": "tiny_scale", "extends": "tabletop_corruption", "base": {"data.corruption": "combined"},
              "methods": {"sft": {"credit": "sft", "network.use_belief": False}, "ptr": {"credit": "ptr"},
                          "sft@demonstrations=8": {"credit": "sft", "network.use_belief": False,
                                                   "data.episodes_per_task": 8},
                          "ptr@demonstrations=8": {"credit": "ptr", "data.episodes_per_task": 8},
                          "ptr@offset=4": {"credit": "ptr", "data.offset": 4}}, "seeds": [0]}


def of_manifest(**changes: dict[str, object]) -> list[StoredRun]:
    return [StoredRun(Setting(method, override(RunConfig(), values)), Path("nowhere"))
            for method, values in changes.items()]


def test_the_manifest_moves_one_thing_at_a_time_against_the_right_sft():
    stored = [StoredRun(setting, Path("nowhere"))
              for name in ("tabletop_scale", "tabletop_capacity", "tabletop_target_size", "tabletop_large")
              for setting in runs.load_manifest(REPOSITORY / f"experiments/{name}.yaml").settings]
    found = {(place.moved, place.value): place for place in scales.places(stored)}
    assert {moved for moved, _ in found} == set(scales.MOVED)
    configs = {run.setting.method: run.setting.config for run in stored}
    assert found["demonstrations", 400].baseline == "sft@demonstrations=400"
    assert found["demonstrations", 400].words == "400 demonstrations a task"
    assert found["negatives", 8].baseline == "sft" and found["offset", 32].baseline == "sft"
    assert found["targets", 16].words == "targets of 16 pixels" and found["targets", 32].method == "ptr"
    assert found["offset", 16].method == found["negatives", 64].method == "ptr" == found["steps", 1000].method
    for place in found.values():  # what the runs differ in is what the page says is moved, and the warm-ups of steps
        one, other = configs["ptr"], configs[place.method]
        changed = {key for key in ("data.episodes_per_task", "data.offset", "ptr.queue_negatives", "network.width",
                                    "network.target_size")
                   if key != scales.MOVED[place.moved][0].replace("pixels", "size")
                   and override(one, {key: _value(other, key)}) != one}
        at_once = {"data.episodes_per_task", "ptr.queue_negatives", "network.width"} - {scales.MOVED["everything"][0]}
        assert changed == (at_once if (place.moved, other != one) == ("everything", True) else set()), (place, changed)
        assert configs[place.baseline].ptr.optimization.steps == other.ptr.optimization.steps
        assert configs[place.baseline].initial_policy == other.initial_policy
        assert (other.initial_policy != one.initial_policy) == (place.moved in ("width", "everything") and other != one)


def _value(config: RunConfig, key: str) -> object:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def test_a_method_that_moves_nothing_known_is_refused():
    with pytest.raises(ValueError, match="'ptr@colour=3' moves 'colour'; .*one of demonstrations, steps"):
        scales.places(of_manifest(**{"ptr@colour=3": {}}))
    with pytest.raises(ValueError, match="no 'sft@offset=4' and no 'sft' to compare 'ptr@offset=4' with"):
        scales.places(of_manifest(**{"ptr@offset=4": {"data.offset": 4}}))


def rows(difference: dict[str, tuple[float, float]], auroc: dict[str, tuple[float, float]]) -> pd.DataFrame:
    return pd.DataFrame([{"words": words, "quantity": name, "low": low, "high": high, "count": 1}
                         for name, cells in (("difference", difference), ("auroc", auroc))
                         for words, (low, high) in cells.items()])


def test_the_verdict_follows_the_intervals():
    one_seed = pd.DataFrame({"training_seed": [0, 0]})
    told = scales.verdict(rows({"Δ = 4": (-0.2, -0.1), "the defaults": (-0.1, 0.1)},
                               {"Δ = 4": (0.4, 0.6), "the defaults": (0.51, 0.6)}), one_seed)
    assert told.startswith("**In none of the 2 settings tried is PTR ahead of SFT**, in this one training run of each; "
                           "it is behind at Δ = 4; it cannot be told at the defaults.")
    assert "**tells corrupted chunks at the defaults**; it cannot be told at Δ = 4." in told
    several = rows({"a": (-0.2, -0.1), "b": (-0.2, -0.1)}, {})
    more = several.assign(quantity="change", low=[0.1, -0.2], high=[0.2, -0.1])
    counts = several.assign(quantity="accuracy", count=[1, 5])
    told = scales.verdict(pd.concat([several, more, counts]), pd.DataFrame({"training_seed": [0, 1]}))
    assert "it is behind at a (one training run) and b." in told
    assert ("Against SFT it does **better than with the defaults at a (one training run)** and **worse than with the "
            "defaults at b**." in told)
    told = scales.verdict(rows({"a": (0.1, 0.2), "b": (0.1, 0.2)}, {"a": (0.2, 0.4)}), one_seed)
    assert "PTR is **ahead of SFT at a and b**" in told and "the other way round at a." in told
    assert "**In no setting does its score tell corrupted chunks**" in told


def test_where_the_scorer_was_ever_confident_is_told_with_its_runs():
    measured = pd.DataFrame({"words": ["the defaults", "a", "b"], "quantity": "confident", "estimate": [0.0, 0.8, 1.0],
                             "count": 5})
    told = "is ever confident only at a (in 4 of 5 runs) and b (in 5 of 5 runs)."
    assert scales.where_confident(measured).endswith(told)
    assert scales.where_confident(measured[:1]).endswith("is ever confident in no run.")


def test_controls_are_compared_in_their_own_setting(tiny_book):
    manifest = {**TINY_SCALE, "name": "tiny_controls", "methods": {
        "sft": {"credit": "sft", "network.use_belief": False}, "ptr": {"credit": "ptr"},
        "ptr@offset=4": {"credit": "ptr", "data.offset": 4}, "random@offset=4": {"credit": "random", "data.offset": 4}}}
    runs.write_text(tiny_book.folder / runs.EXPERIMENTS / "tiny_controls.yaml", yaml.safe_dump(manifest))
    stored = tiny_book.make("tiny_controls")
    measured = scales.controls(stored)
    assert list(zip(measured.words, measured.question, strict=True)) == [
        ("the defaults", "PTR minus SFT"), ("Δ = 4", "PTR minus its weights shuffled")]
    rate = results.episodes_frame(stored).groupby("method", observed=True).success.mean()
    assert measured.estimate.tolist() == pytest.approx([rate["ptr"] - rate["sft"],
                                                        rate["ptr@offset=4"] - rate["random@offset=4"]])
    drawn = scales.controls_chart(measured)[1]
    assert drawn.estimate.tolist() == pytest.approx((100 * measured.estimate).tolist())


def test_the_numbers_are_those_of_the_runs(tiny_book):
    runs.write_text(tiny_book.folder / runs.EXPERIMENTS / "tiny_scale.yaml", yaml.safe_dump(TINY_SCALE))
    stored = tiny_book.make("tiny_scale")
    measured = scales.measure(stored).set_index(["words", "quantity"])
    episodes, metrics = results.episodes_frame(stored), results.metrics_frame(stored)
    rate = episodes.groupby("method").success.mean()
    large = measured.loc["8 demonstrations a task"]
    assert large.estimate["difference"] == pytest.approx(rate["ptr@demonstrations=8"] - rate["sft@demonstrations=8"])
    assert measured.estimate["Δ = 4", "difference"] == pytest.approx(rate["ptr@offset=4"] - rate["sft"])
    assert measured.estimate["Δ = 4", "sft"] == pytest.approx(rate["sft"])
    assert large.estimate["sft"] == pytest.approx(rate["sft@demonstrations=8"])
    assert large.estimate["change"] == pytest.approx(large.estimate["difference"] - (rate["ptr"] - rate["sft"]))
    assert measured.estimate["Δ = 4", "change"] == pytest.approx(rate["ptr@offset=4"] - rate["ptr"])
    last = metrics[(metrics.method == "ptr@offset=4") & (metrics.step == metrics.step.max())].iloc[0]
    assert measured.estimate["Δ = 4", "accuracy"] == pytest.approx(last.nce_acc)
    assert measured.estimate["Δ = 4", "candidates"] == pytest.approx(np.exp(last.nce_adv + last.loss_id))
    weights = results.weights_frame(stored)
    mine = weights[(weights.method == "ptr@offset=4") & (weights.split == "train") & weights.valid]
    mine = mine[mine.step == mine.step.max()]
    above = np.subtract.outer(mine.score[~mine.corrupted].to_numpy(), mine.score[mine.corrupted].to_numpy())
    assert measured.estimate["Δ = 4", "auroc"] == pytest.approx((np.sign(above) / 2 + 0.5).mean())
    table = scales.table(measured.reset_index())
    assert table.setting.tolist()[0] == "the defaults" and table.setting.is_unique and len(table) == 3
    assert table.against.tolist() == ["SFT, the same", "SFT, the same", "SFT, the defaults"]
    _, drawn = scales.chart(measured.reset_index())
    assert drawn[drawn.quantity == "difference"].words.tolist() == table.setting.tolist()
    shown = drawn.set_index(["words", "quantity"]).estimate
    assert shown["Δ = 4", "difference"] == pytest.approx(100 * measured.estimate["Δ = 4", "difference"])
    assert shown["Δ = 4", "auroc"] == pytest.approx(measured.estimate["Δ = 4", "auroc"])
    assert "5 runs, 1 training seed," in scales.introduction(stored)
    first = [run for run in stored if "@" not in run.setting.method]
    told = scales.as_first_run(first, stored, "ptr@demonstrations=8")
    assert told.startswith("8 demonstrations a task was first run from another start policy")
    before, after = (results.compare(episodes, {(f"ptr{moved}", "combined"): 1.0, (f"sft{moved}", "combined"): -1.0})
                     for moved in ("", "@demonstrations=8"))
    assert (f"PTR was {before.text(100, sign=True)} points from SFT there and is {after.text(100, sign=True)} here."
            in told)
