"""The picture of the pipeline: ``python -m ptrlib.report.pipeline`` writes figures/pipeline.{pdf,png}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ptrlib.report.figures import COLOURS, save_figure

Point = tuple[float, float]
FILL = {"data": "#F2F2F2", "policy": "#D6EAF8", "ptr": "#FCE5C0"}
EDGE = {"data": COLOURS["grey"], "policy": COLOURS["blue"], "ptr": COLOURS["orange"]}
LEGEND = {"data": "one recorded chunk", "policy": "the policy, as it was", "ptr": "what PTR adds (all but $B$ in "
          "training only)"}


@dataclass(frozen=True)
class Box:
    """A module: centre, size, text and what it belongs to."""

    x: float
    y: float
    width: float
    height: float
    text: str
    kind: str

    def at(self, side: str, along: float = 0.0) -> Point:
        """A point on one side (left, right, top, bottom), ``along`` half sides away from its middle."""
        across, up = self.width / 2, self.height / 2
        return {"left": (self.x - across, self.y + along * up), "right": (self.x + across,
                                                                          self.y + along * up),
                "top": (self.x + along * across, self.y + up),
                "bottom": (self.x + along * across, self.y - up)}[side]


def draw() -> Figure:
    """The pipeline of Section 4.6: the policy above, PTR's scorer below, the weight that joins them."""
    now = Box(1.15, 3.45, 1.9, 0.85, "image $o_t$, instruction $l$,\nstate $s_t$", "data")
    actions = Box(6.85, 4.95, 1.5, 0.7, "actions $a_{t:t+L-1}$", "data")
    after = Box(1.15, 0.75, 1.9, 0.75, "image afterwards $o_{t+\\Delta}$", "data")
    backbone = Box(3.7, 3.45, 1.9, 0.85, "vision tower\nand backbone $f_\\phi$", "policy")
    head = Box(6.4, 3.45, 1.9, 0.85, "action head\n(flow or diffusion)", "policy")
    loss = Box(9.35, 3.45, 2.0, 0.85, "weighted action loss\n$\\Sigma\\, w\\,\\ell\\ /\\ \\Sigma\\, w$",
               "policy")
    belief = Box(3.7, 4.95, 1.9, 0.7, "belief tokenizer $B$", "ptr")
    query = Box(6.4, 2.1, 1.9, 0.75, "query $u_t = f(h_t, e_t)$", "ptr")
    encoder = Box(3.7, 0.75, 1.9, 0.75, "EMA target\nencoder $g$", "ptr")
    pool = Box(6.4, 0.75, 1.9, 0.75, "candidate pool: its own\ntarget among others", "ptr")
    score = Box(9.35, 0.75, 2.0, 0.75, "which one is its own?\n$T = \\log\\,(\\hat{p}_0\\,|Y|)$", "ptr")
    weight = Box(9.35, 2.1, 2.0, 0.75, "weight\n$w = \\mathrm{clip}\\,(e^{T/\\beta})$", "ptr")

    figure = plt.figure(figsize=(10.5, 5.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10.5), ylim=(-0.2, 5.4))
    axes.axis("off")
    for box in (now, actions, after, backbone, head, loss, belief, query, encoder, pool, score, weight):
        _box(axes, box)

    _path(axes, [now.at("right")], backbone.at("left"))
    _path(axes, [backbone.at("right")], head.at("left"), label="$H_t,\\, h_t$")
    _path(axes, [head.at("right")], loss.at("left"), label="$\\ell_{\\mathrm{act}}$")
    _path(axes, [actions.at("bottom")], (actions.x, head.at("top")[1]))
    _path(axes, [head.at("top", -0.6), (head.at("top", -0.6)[0], belief.y)], belief.at("right"),
          label="$C_t,\\, E_t$")
    _path(axes, [belief.at("bottom")], backbone.at("top"), label="$z_{t+1}$, for the next chunk",
          stopped=True)
    _path(axes, [backbone.at("bottom", 0.5), (backbone.at("bottom", 0.5)[0], query.y)], query.at("left"),
          label="$h_t$")
    _path(axes, [head.at("bottom")], query.at("top"), label="$e_t$")
    _path(axes, [backbone.at("bottom", -0.5)], encoder.at("top", -0.5), label="slow copy", stopped=True)
    _path(axes, [after.at("right")], encoder.at("left"))
    _path(axes, [encoder.at("right")], pool.at("left"), label="$y^+$", stopped=True)
    _path(axes, [pool.at("right")], score.at("left"))
    _path(axes, [query.at("right"), (7.85, query.y), (7.85, score.y + 0.2)], score.at("left", 0.53))
    _path(axes, [score.at("top")], weight.at("bottom"))
    _path(axes, [weight.at("top")], loss.at("bottom"), label="$\\mathrm{sg}(w)$", stopped=True)
    _legend(axes)
    return figure


def _box(axes: Axes, box: Box) -> None:
    axes.add_patch(FancyBboxPatch((box.x - box.width / 2, box.y - box.height / 2), box.width, box.height,
                                  boxstyle="round,pad=0,rounding_size=0.1", facecolor=FILL[box.kind],
                                  edgecolor=EDGE[box.kind], linewidth=1.4))
    axes.text(box.x, box.y, box.text, ha="center", va="center", fontsize=9.5, linespacing=1.35)


def _path(axes: Axes, points: list[Point], end: Point, *, label: str = "", stopped: bool = False) -> None:
    """A line through ``points`` with an arrow head at ``end``; dashed where no gradient flows back."""
    style: dict[str, Any] = {"color": "#333333", "linewidth": 1.2, "linestyle": (0, (4, 2)) if stopped else "solid"}
    if len(points) > 1:
        axes.plot(*zip(*points, strict=True), solid_capstyle="round", **style)
    axes.add_patch(FancyArrowPatch(points[-1], end, arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0,
                                   **style))
    if label:
        first, second = points[0], points[1] if len(points) > 1 else end
        horizontal = abs(first[1] - second[1]) < 1e-6
        place = ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2)
        axes.text(place[0] + (0 if horizontal else 0.08), place[1] + (0.07 if horizontal else 0), label,
                  fontsize=8.5,
                  ha="center" if horizontal else "left", va="bottom" if horizontal else "center",
                  color="#333333")


def _legend(axes: Axes) -> None:
    for place, (kind, text) in zip((0.2, 2.45, 4.95), LEGEND.items(), strict=True):
        axes.add_patch(FancyBboxPatch((place, -0.05), 0.28, 0.2, boxstyle="round,pad=0,rounding_size=0.05",
                                      facecolor=FILL[kind], edgecolor=EDGE[kind]))
        axes.text(place + 0.38, 0.05, text, fontsize=8.5, va="center")
    axes.plot([8.05, 8.55], [0.05, 0.05], color="#333333", linewidth=1.2, linestyle=(0, (4, 2)))
    axes.text(8.65, 0.05, "no gradient", fontsize=8.5, va="center")


def main() -> None:
    """Draw the picture and keep it with the boxes' captions as its data."""
    matplotlib.use("agg")
    figure = draw()
    print(save_figure(figure, "pipeline", data=pd.DataFrame({"colour": list(LEGEND),
                                                             "meaning": list(LEGEND.values())})))


if __name__ == "__main__":
    main()
