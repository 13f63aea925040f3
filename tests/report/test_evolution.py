"""The interactive elements of the corruption page hold the numbers of the runs, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from ptrlib.gallery import Gallery
from ptrlib.report import results
from ptrlib.report.evolution import weight_evolution
from ptrlib.report.explorer import PLOTLY
from ptrlib.report.gallery import gallery_cards
from tests.report.made_up_runs import write_manifest, write_runs


@pytest.fixture(scope="module", params=[[0], [0, 1, 2]], ids=["one seed", "three seeds"])
def page(request, tmp_path_factory):
    """(weights, metrics, HTML) of the methods that weight their chunks, on corrupted data."""
    folder = tmp_path_factory.mktemp("world")
    manifest = write_manifest(folder, seeds=request.param)
    write_runs(manifest, folder / "runs")
    stored = results.runs_of(manifest, folder / "runs")
    chosen = "method != 'sft' and corruption == 'combined'"
    weights, metrics = results.weights_frame(stored).query(chosen), results.metrics_frame(stored).query(chosen)
    weights = weights.astype({"weight": "float32"})  # as training writes it
    return weights, metrics, weight_evolution(weights, metrics, window=1)


def given(html: str) -> dict:
    return json.loads(re.search(r"const given = (\{.*\});", html)[1])


def test_the_evolution_holds_the_snapshots_and_the_course(page):
    weights, metrics, html = page
    held = given(html)
    assert "http" not in html and f'src="../_static/{PLOTLY}"' in html and "__" not in html
    for method in ("ptr", "random"):
        early, late = held["weights"][method]
        assert (early["step"], late["step"]) == (5, 10)
        part = weights[(weights.method == method) & (weights.step == 10)]
        untouched, noisy = late["groups"]  # the made-up runs know one corruption
        assert noisy["label"] == "action noise" and noisy["count"] == part.truth_action_noise.sum()
        assert untouched["mean"] == pytest.approx(part[~part.corrupted].weight.mean(), abs=1e-4)
        assert sum(untouched["share"]) == pytest.approx(1, abs=1e-3)
    course = {line["label"]: line for line in held["lines"]["tau"]}["PTR"]
    assert course["step"] == [5, 10] and course["mean"] == [0.12, 0.11]
    assert "beta" not in held["lines"]  # not logged there, so not offered


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the browser's code")
def test_the_browser_understands_the_script(page):
    script = re.findall(r"<script>(.*?)</script>", page[2], re.DOTALL)[0]
    subprocess.run(["node", "--check", "-"], input=script, text=True, check=True)


def test_a_card_shows_the_pictures_and_what_the_analysis_knows():
    chunks = pd.DataFrame({"group": ["highest", "lowest"], "weight": [4.0, 0.25], "score": [3.2, -2.5],
                           "operator": ["precise", "noisy"], "start": [8, 40], "phase": [0.1, 0.5],
                           "instruction": ["lift <it>", "open it"], "task": ["lift_it", "close_it"],
                           "truth_action_noise": [False, False], "truth_truncation": [False, False],
                           "truth_label_noise": [False, True]})
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 8, 8, 3), dtype=np.uint8)
    html = gallery_cards(Gallery(chunks, images, ("agentview", "eye_in_hand")))
    highest, lowest = html.split("The lowest weights")
    assert "w = 4.00" in highest and "untouched" in highest and "lift &lt;it&gt;" in highest
    assert "label noise" in lowest and "true task: close it" in lowest and "untouched" not in lowest
    assert html.count("data:image/png;base64,") == 2 and "http" not in html
