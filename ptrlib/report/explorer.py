"""A page element to play with: sliders over the weight mapping of Eq 21.

It runs in the reader's browser without a network: plotly's script lies once in the book's ``_static``
folder (:func:`write_plotly`), and pages refer to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from ptrlib.config import PTRConfig
from ptrlib.report.figures import COLOURS

PLOTLY = "plotly.min.js"

# The formulas of ptrlib/method/weights.py once more, for the browser; a test holds the two together.
FORMULAS = """
function weightOf(score, s) {
  const ratio = Math.min(s.w_max, Math.max(s.w_min, Math.exp(score / s.beta)));
  return 1 + s.alpha * (ratio - 1);
}
function bounds(s) {
  const r = Math.log((1 + s.alpha * (s.w_max - 1)) / (1 + s.alpha * (s.w_min - 1)));
  const mean = r > 1e-9 ? r / (1 - Math.exp(-r)) : 1;
  return {paper: r, sharp: mean - 1 - Math.log(mean)};
}
function induced(weights) {
  const n = weights.length, total = weights.reduce((a, b) => a + b, 0);
  let squares = 0, divergence = 0;
  for (const w of weights) { squares += w * w; divergence += w / total * Math.log(w / total * n); }
  return {effective: total * total / squares / n, divergence: divergence};
}
"""

_PAGE = """
<div id="weight-explorer" style="max-width: 46em">
  <div class="sliders" style="display: grid; grid-template-columns: repeat(3, 1fr)"></div>
  <div class="curve" style="height: 300px"></div>
  <p class="reading" aria-live="polite"></p>
</div>
<script src="__PLOTLY__" charset="utf-8"></script>
<script>
(function () {
__FORMULAS__
const given = __GIVEN__, state = Object.assign({}, given.start);
const root = document.getElementById("weight-explorer"), part = name => root.querySelector("." + name);
if (typeof Plotly === "undefined") {
  part("reading").textContent = "The sliders work in the built book, beside plotly's script.";
  return;
}
function draw() {
  const scores = given.quantiles.map(z => state.mean + state.spread * z);
  const weights = scores.map(T => weightOf(T, state)), b = bounds(state), q = induced(weights);
  const percent = test => (100 * weights.filter(test).length / weights.length).toFixed(0) + " %";
  const low = weightOf(-1e9, state), high = weightOf(1e9, state);
  const line = (s, name, colour, dash) => ({
    x: given.grid, y: given.grid.map(T => weightOf(T, s)), name: name, mode: "lines",
    line: {color: colour, dash: dash}, hovertemplate: "T = %{x:.2f}: w = %{y:.2f}<extra></extra>"});
  const bars = {x: weights, type: "histogram", histnorm: "probability", name: "chunks",
    marker: {color: given.blue}, xbins: {start: 0, end: 8.25, size: 0.25}, xaxis: "x2", yaxis: "y2",
    showlegend: false};
  Plotly.react(part("curve"), [line(given.start, "defaults", given.grey, "dash"),
    line(state, "chosen", given.vermillion, "solid"), bars], {
    margin: {l: 45, r: 10, t: 10, b: 40}, legend: {x: 0.02, y: 0.98},
    xaxis: {title: {text: "score T (nats)"}, domain: [0, 0.52]},
    yaxis: {title: {text: "weight w"}, range: [0, 8.2]},
    xaxis2: {title: {text: "weight w"}, domain: [0.62, 1], range: [0, 8.25]},
    yaxis2: {anchor: "x2", range: [0, 1], tickformat: ".0%"}}, {displayModeBar: false, responsive: true});
  part("reading").textContent = "Weights lie in [" + low.toFixed(2) + ", " + high.toFixed(2)
    + "]; the paper's bound on KL(q || p) is " + b.paper.toFixed(2) + " nats, the sharp one "
    + b.sharp.toFixed(2) + ". With scores of this mean and spread " + (high - low < 1e-9 ? "all chunks weigh the same"
    : percent(w => w > high - 1e-9) + " of the chunks sit at the top and " + percent(w => w < low + 1e-9)
    + " at the bottom") + ", KL is "
    + q.divergence.toFixed(3) + " nats, and the effective sample size is "
    + (100 * q.effective).toFixed(0) + " % of the chunks.";
}
for (const s of given.sliders) {
  const label = document.createElement("label"), value = document.createElement("output");
  const input = document.createElement("input");
  Object.assign(input, {type: "range", min: s.low, max: s.high, step: s.step});
  input.value = state[s.key];
  label.append(s.label + " = ", value, document.createElement("br"), input);
  input.style.width = "90%";
  const show = () => { value.textContent = Number(state[s.key]).toFixed(2); };
  input.addEventListener("input", () => { state[s.key] = Number(input.value); show(); draw(); });
  part("sliders").append(label);
  show();
}
draw();
})();
</script>
"""


def weight_explorer(config: PTRConfig, *, mean: float, spread: float, depth: int = 1) -> str:
    """HTML with sliders for beta, alpha, the clip and the scores' distribution, starting at ``config``.

    Args:
        mean, spread: of the normal distribution of scores (nats) that is shown at first.
        depth: how many folders below the book's root the page lies.
    """
    sliders = (("beta", "β", config.beta_min, config.beta_max, 0.05), ("alpha", "α", 0, 1, 0.05),
               ("w_min", "w_min", 0.05, 1, 0.05), ("w_max", "w_max", 1, 8, 0.25),
               ("mean", "mean score", -3, 5, 0.1), ("spread", "score spread", 0, 4, 0.1))
    given: dict[str, Any] = {
        "start": {"beta": config.beta, "alpha": config.alpha, "w_min": config.w_min, "w_max": config.w_max,
                  "mean": mean, "spread": spread},
        "sliders": [dict(zip(("key", "label", "low", "high", "step"), slider, strict=True))
                    for slider in sliders],
        "quantiles": norm.ppf((np.arange(400) + 0.5) / 400).round(5).tolist(),
        "grid": np.linspace(-6, 6, 121).round(3).tolist(),
        **{name: COLOURS[name] for name in ("blue", "grey", "vermillion")}}
    page = _PAGE.replace("__PLOTLY__", f"{'../' * depth}_static/{PLOTLY}").replace("__FORMULAS__", FORMULAS)
    return page.replace("__GIVEN__", json.dumps(given))


def write_plotly(folder: Path) -> Path:
    """Put plotly's script, from the installed package, into ``folder``."""
    from plotly.offline import get_plotlyjs

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLOTLY
    path.write_text(get_plotlyjs(), encoding="utf-8")
    return path
