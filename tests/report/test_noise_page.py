"""The corruption page's section on the strength of action noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from ptrlib import runs
from ptrlib.config import DataConfig, RunConfig, override
from ptrlib.report import REPOSITORY, noise, results
from tests.report.made_up_runs import GAIN, write_manifest, write_runs

METHODS = {"sft@clean": {"data.corruption": "none"}, "sft": {}, "ptr": {"credit": "ptr"},
           "sft@sigma=0.1": {"data.noise_sigma": 0.1}, "ptr@sigma=0.1": {"credit": "ptr", "data.noise_sigma": 0.1},
           "sft@bias=0.5": {"data.noise_sigma": 0.0, "data.noise_bias": 0.5}}
CHANCES = {"clean data": 0.9, "σ = 0.1": 0.9, "σ = 0.5": 0.5, "bias 0.5": 0.97}


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Runs of SFT and PTR in two seeds, PTR better than SFT whatever the strength."""
    for name in METHODS:
        monkeypatch.setitem(GAIN, name, 1.0 if name.startswith("ptr") else -1.0)
    methods = {name: {"credit": "sft", "network.use_belief": False, **changes} for name, changes in METHODS.items()}
    path = write_manifest(tmp_path, base={"data.corruption": "action_noise", "data.noise_sigma": 0.5}, methods=methods,
                          grid={})
    write_runs(path, tmp_path / "runs")
    return path


def with_chances(study, chances, seeds=2, scenes=100):
    """``study`` with SFT's episodes alone, of which exactly these shares succeed, the same scenes for all."""
    episodes = pd.DataFrame([{"strength": name, "method": "sft", "training_seed": seed, "task": f"task {scene % 4}",
                              "init_state": scene, "run": f"{name} {seed}",
                              "success": (scene * 7 + seed) % scenes < chance * scenes}
                             for name, chance in chances.items() for seed in range(seeds) for scene in range(scenes)])
    return noise.NoiseStudy(study.stored, episodes, noise.measure(episodes))


def test_strengths_are_read_off_the_configuration():
    def words(**changes):
        data = override(RunConfig(), {f"data.{key}": value for key, value in changes.items()}).data
        return noise.strength_words(data)

    assert words() == "clean data"
    assert words(corruption="action_noise") == "σ = 0.1 (the paper’s)"
    assert words(corruption="action_noise", noise_sigma=0.5) == "σ = 0.5 (5 times the paper’s)"
    assert words(corruption="action_noise", noise_sigma=0.0, noise_bias=0.5) == "bias 0.5"
    assert words(corruption="action_noise", noise_bias=0.5) == "σ = 0.1, bias 0.5"
    for changes in ({"corruption": "combined"}, {"corruption": "action_noise", "noise_fraction": 0.0}):
        with pytest.raises(ValueError, match=f"data.corruption is '{changes['corruption']}' with data.noise_fraction"):
            noise.strength(DataConfig(**changes))


def test_rates_and_differences_are_those_of_the_episodes(manifest):
    study = noise.read(manifest, manifest.parent / "runs")
    assert list(dict.fromkeys(study.episodes.strength)) == ["clean data", "σ = 0.1", "σ = 0.5", "bias 0.5"]
    assert set(study.episodes.method) == {"sft", "ptr"}
    by_method = results.episodes_frame(study.stored).groupby("method").success.mean()
    cells = study.measured.set_index(["strength", "method", "quantity"])
    assert len(cells) == 6 + 5 + 2  # success; to clean SFT; PTR to SFT under the same strength
    for (strength, method), name in {("σ = 0.5", "ptr"): "ptr", ("σ = 0.1", "sft"): "sft@sigma=0.1",
                                     ("bias 0.5", "sft"): "sft@bias=0.5"}.items():
        assert cells.loc[(strength, method, "success"), "estimate"] == by_method[name]
        assert cells.loc[(strength, method, "success"), ["count", "runs"]].tolist() == [80, 2]
        lost = cells.loc[(strength, method, "difference")]
        assert lost.estimate == pytest.approx(by_method[name] - by_method["sft@clean"]) and lost.low < lost.high
    pair = results.difference(results.episodes_frame(study.stored), "ptr", "sft", "action_noise")
    assert cells.loc[("σ = 0.5", "ptr", "to_sft"), ["estimate", "low", "high"]].tolist() == [
        pair.estimate, pair.low, pair.high]
    shown = noise.table(study.measured)
    assert shown["training data"].tolist() == ["clean data", "σ = 0.1", "σ = 0.1", "σ = 0.5", "σ = 0.5", "bias 0.5"]
    assert shown["− SFT, same data (points)"].astype(bool).tolist() == [False, False, True, False, True, False]
    figure, drawn = noise.chart(study.measured)
    assert len(drawn) == 11 and len(figure.axes) == 2
    bars = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert bars == set(drawn.strength)
    for axes, quantity in zip(figure.axes, noise.PANELS, strict=True):
        points = np.concatenate([np.asarray(line.lines[0].get_xdata()) for line in axes.containers])
        assert sorted(points) == sorted(drawn[drawn.quantity == quantity].estimate)
    text = noise.introduction(study)
    assert "**LIBERO (spatial): 12 runs**, 2 training seeds" in text and "on 30% of the episodes" in text
    assert "σ = 0.1 (the paper’s), σ = 0.5 (5 times the paper’s), bias 0.5." in text and "one training" not in text


def test_each_strength_is_judged_by_its_interval(manifest):
    study = noise.read(manifest, manifest.parent / "runs")
    lines = noise.verdict(with_chances(study, CHANCES)).splitlines()
    assert lines[0] == "- **σ = 0.1 (the paper’s)** has no effect on SFT that can be told (+0.0 [+0.0, +0.0] points)."
    assert lines[1].startswith("- **σ = 0.5 (5 times the paper’s)** costs SFT 40.0 [")
    assert "these two training runs" in lines[1]
    assert lines[2].startswith("- **bias 0.5** helps SFT by 7.0 [")
    one = noise.verdict(with_chances(study, CHANCES, seeds=1))
    assert one.count("in this one training run of each") == 2
    assert "cost is unknown" in noise.verdict(with_chances(study, {"clean data": 0.9}))


def test_what_cannot_be_compared_is_refused(manifest):
    root, content = manifest.parent / "runs", yaml.safe_load(manifest.read_text())
    twice = manifest.with_name("twice.yaml")
    content["methods"]["sft@again"] = content["methods"]["sft"]
    twice.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="twice.yaml: methods 'sft' and 'sft@again' are both sft with σ = 0.5; keep"):
        noise.read(twice, root)
    without = results.narrow(manifest, methods=["sft", "ptr"], folder=manifest.parent / "narrowed")
    with pytest.raises(ValueError, match="has no SFT on clean data to compare with; add to its methods sft@clean: "):
        noise.read(without, root)


def test_the_manifest_shares_its_default_with_the_corruption_page():
    settings = {s.method: s for s in runs.load_manifest(REPOSITORY / "experiments/tabletop_noise.yaml").settings
                if s.config.seed == 0}
    shared = {(s.method, s.config.data.corruption): s.folder_name
              for s in runs.load_manifest(REPOSITORY / "experiments/tabletop_corruption.yaml").settings
              if s.config.seed == 0}
    assert settings["sft@clean"].folder_name == shared["sft", "none"]
    for method in ("sft", "ptr", "oracle"):
        assert settings[method].folder_name == shared[method, "action_noise"]
        named = {noise.strength(settings[name].config.data) for name in (f"{method}@sigma=0.1", f"{method}@bias=0.5")}
        assert named == {"σ = 0.1", "bias 0.5"}


def test_the_section_shows_what_its_runs_hold(tiny_book):
    stored = tiny_book.make("tabletop_noise")  # among them SFT's runs of the page above the section
    page = tiny_book.execute("corruption_robustness", methods=["sft"], corruption="action_noise")
    study = noise.read(tiny_book.folder / "experiments/tabletop_noise.yaml", tiny_book.runs)
    assert {run.name for run in study.stored} == {run.name for run in stored} and len(stored) == 10
    pd.testing.assert_frame_equal(page.frame("noise_strength"), noise.chart(study.measured)[1], rtol=1e-4,
                                  check_dtype=False)
    for line in (*noise.verdict(study).splitlines(), *noise.introduction(study).splitlines()):
        assert line in page.text()
