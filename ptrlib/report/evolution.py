"""A page element to play with: how weights and scorer develop during training (Figures 8 to 11).

Like :mod:`ptrlib.report.explorer` it runs in the reader's browser with the plotly script that lies in the
book's ``_static`` folder.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.report.charts import corruption_label, in_order, method_colour, method_label
from ptrlib.report.explorer import PLOTLY
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import hit_alone

QUANTITIES = {"nce_acc": "identification accuracy", "tau": "τ", "beta": "β", "weight_mean": "mean weight",
              "weight_std": "spread of the weights", "nce_adv": "score T (nats)"}
GROUP_COLOURS = ("black", "orange", "blue", "vermillion")
BINS, POINTS = 32, 150  # of the histogram, and of a line at most

_PAGE = """
<div id="weight-evolution" style="max-width: 46em">
  <p class="choices" style="display: flex; flex-wrap: wrap; gap: 0.5em 1em"></p>
  <div class="weights-chart" style="height: 380px"></div>
  <p class="quantity"></p>
  <div class="course-chart" style="height: 380px"></div>
  <p class="reading"></p>
</div>
<script src="__PLOTLY__" charset="utf-8"></script>
<script>
(function () {
const given = __GIVEN__;
const root = document.getElementById("weight-evolution"), part = name => root.querySelector("." + name);
if (typeof Plotly === "undefined") {
  part("reading").textContent = "The charts work in the built book, beside plotly's script.";
  return;
}
const options = {displayModeBar: false, responsive: true};
const margin = {l: 50, r: 10, t: 30, b: 40}, legend = {orientation: "h", y: -0.32, yanchor: "top"};
function choice(place, label, entries, draw) {
  const frame = document.createElement("label"), select = document.createElement("select");
  for (const [value, text] of entries) select.add(new Option(text, value));
  frame.append(label + " ", select);
  part(place).append(frame);
  select.addEventListener("change", draw);
  return select;
}
function drawWeights() {
  const moments = given.weights[method.value], shown = moments[moment.value === "early" ? 0 : moments.length - 1];
  const highest = Math.max(...moments.flatMap(m => m.groups.flatMap(g => g.share)));
  Plotly.react(part("weights-chart"), shown.groups.map(g => ({
    x: given.centres, y: g.share, mode: "lines", line: {shape: "hvh", color: g.colour},
    name: g.label + ": mean " + g.mean.toFixed(2) + ", n = " + g.count,
    hovertemplate: "w = %{x:.2f}: %{y:.1%}<extra>" + g.label + "</extra>"})), {
    margin: margin, legend: legend, showlegend: true, title: {text: "weights at step " + shown.step, font: {size: 14}},
    xaxis: {title: {text: "weight w"}, range: [0, given.highest]},
    yaxis: {title: {text: "share of chunks"}, tickformat: ".0%", range: [0, 1.05 * highest]}}, options);
}
function drawLines() {
  const lines = given.lines[quantity.value];
  Plotly.react(part("course-chart"), lines.map(line => ({
    x: line.step, y: line.mean, mode: "lines", line: {color: line.colour}, name: line.label})), {
    margin: margin, legend: legend, showlegend: true, title: {text: quantity.selectedOptions[0].text, font: {size: 14}},
    xaxis: {title: {text: "optimiser step"}}, yaxis: {}}, options);
}
const method = choice("choices", "Method", given.methods, drawWeights);
const moment = choice("choices", "When", [["early", "after the warm-up"], ["late", "at the end"]], drawWeights);
const quantity = choice("quantity", "Over training:", given.quantities, drawLines);
moment.value = "late";
drawWeights();
drawLines();
})();
</script>
"""


def weight_evolution(weights: pd.DataFrame, metrics: pd.DataFrame, *, window: int = 10, depth: int = 1) -> str:
    """HTML with the weights' distribution by corruption at a run's snapshots, and the scorer's course.

    Args:
        weights: snapshot rows of the chunks to count, of methods that weight them; training seeds are pooled.
        metrics: the same methods' logging steps; averaged over seeds and over ``window`` steps.
        depth: how many folders below the book's root the page lies.
    """
    edges = np.linspace(0, max(4.0, float(weights.weight.max())), BINS + 1)
    methods = in_order(weights.method)
    known = {name: label for name, label in QUANTITIES.items() if name in metrics and metrics[name].notna().any()}
    given: dict[str, Any] = {
        "methods": [(method, method_label(method)) for method in methods],
        "centres": ((edges[:-1] + edges[1:]) / 2).round(4).tolist(), "highest": round(float(edges[-1]), 4),
        "weights": {method: _moments(weights[weights.method == method], edges) for method in methods},
        "quantities": list(known.items()),
        "lines": {name: [_line(metrics[metrics.method == method], method, name, window) for method in methods]
                  for name in known}}
    page = _PAGE.replace("__PLOTLY__", f"{'../' * depth}_static/{PLOTLY}")
    return page.replace("__GIVEN__", json.dumps(given))


def _moments(chunks: pd.DataFrame, edges: np.ndarray) -> list[dict[str, Any]]:
    """For each snapshot: its step and, for each group of chunks, the share of every bin."""
    moments = []
    for step, part in chunks.groupby("step", sort=True):
        groups = [("untouched", part[~part.corrupted])]
        groups += [(corruption_label(kind), part[hit_alone(part, kind)]) for kind in CORRUPTIONS]
        moments.append({"step": step, "groups": [
            {"label": label, "colour": COLOURS[colour], "count": len(group),
             "mean": round(float(group.weight.mean()), 4),
             "share": (np.histogram(group.weight, edges)[0] / len(group)).round(5).tolist()}
            for (label, group), colour in zip(groups, GROUP_COLOURS, strict=True) if len(group)]})
    return moments


def _line(metrics: pd.DataFrame, method: str, quantity: str, window: int) -> dict[str, Any]:
    course = metrics.groupby("step")[quantity].mean().dropna().rolling(window, min_periods=1).mean()
    course = course.iloc[::max(1, -(-len(course) // POINTS))]
    return {"label": method_label(method), "colour": method_colour(method), "step": course.index.tolist(),
            "mean": course.round(5).tolist()}
