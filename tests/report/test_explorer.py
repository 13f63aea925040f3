"""The browser's formulas are the package's."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import torch

from ptrlib.config import PTRConfig, override
from ptrlib.method.bounds import kl_bound, sharp_kl_bound
from ptrlib.method.weights import conservative_weights
from ptrlib.report.explorer import FORMULAS, PLOTLY, weight_explorer, write_plotly
from ptrlib.report.statistics import divergence, effective_sample_size

SCORES = [-9.0, -2.0, -0.3, 0.0, 0.4, 2.5, 30.0]


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.3, "beta": 0.7}, {"w_min": 0.5, "w_max": 2.0},
                                     {"alpha": 0.0}])
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the browser's code")
def test_the_browser_computes_what_the_package_computes(changes):
    config = override(PTRConfig(), changes)
    state = {key: getattr(config, key) for key in ("beta", "alpha", "w_min", "w_max")}
    code = f"""{FORMULAS}
    const s = {json.dumps(state)}, w = {json.dumps(SCORES)}.map(T => weightOf(T, s));
    console.log(JSON.stringify({{w: w, ...bounds(s), ...induced(w)}}));"""
    output = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True).stdout
    found = json.loads(output)
    weights = conservative_weights(torch.tensor(SCORES, dtype=torch.float64), **state)
    assert found["w"] == pytest.approx(weights.tolist())
    clip = config.w_min, config.w_max, config.alpha
    assert found["paper"] == pytest.approx(kl_bound(*clip), abs=1e-12)
    assert found["sharp"] == pytest.approx(sharp_kl_bound(*clip), abs=1e-12)
    assert found["divergence"] == pytest.approx(divergence(weights), abs=1e-12)
    assert found["effective"] == pytest.approx(effective_sample_size(weights) / len(SCORES))


def test_the_explorer_asks_no_other_host_and_starts_at_the_configuration():
    page = weight_explorer(override(PTRConfig(), {"beta": 1.25}), mean=2.8, spread=1.0, depth=1)
    assert "http" not in page and f'src="../_static/{PLOTLY}"' in page
    assert '"beta": 1.25' in page and "__" not in page.replace("__proto__", "")


def test_plotly_is_written_from_the_installed_package(tmp_path):
    path = write_plotly(tmp_path / "_static")
    assert path.stat().st_size > 1_000_000 and "plotly.js" in path.read_text()[:500]
