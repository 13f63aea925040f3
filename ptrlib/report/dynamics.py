"""Training seen across settings: Figures 8 and 9, and the controller of Section 5.6.

A setting is what a line of the paper's Figure 8 is: a world, what it is trained on, and whether that is corrupted.
:func:`gather` brings the runs of several manifests together under the labels of their settings; the weights' page
uses it too. A run is averaged over a share of its own training, so that runs of different length can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptrlib import runs
from ptrlib.config import PTRConfig, RunConfig
from ptrlib.report import charts, published, results
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import StoredRun
from ptrlib.report.statistics import ANYWHERE, POSITIVE, Interval, mean_over_runs

SOURCE_COLOURS = ("blue", "vermillion", "green", "orange", "purple", "sky", "black", "yellow")
STYLES = {"none": "-", "combined": "--", "action_noise": ":", "truncation": "-.", "label_noise": (0, (5, 1, 1, 1))}
START, END = 0.05, 0.9  # training up to the one is a run's start, from the other on its end
AT_ENDS = ("nce_acc", "nce_adv", "loss_action", "tok_entropy", "nce_margin", "tau", "beta", "hard_ratio")
ABOUT = 0.2  # the paper's "approximately": within a fifth of the number
MARKS = "o^vD<>pX"  # of the sources' ends, in the order of SOURCE_COLOURS
TOO_SHORT = "cannot be tried in so few steps"


@dataclass(frozen=True)
class Gathered:
    """Runs of several settings. ``labels`` names each run's setting; ``absent`` tells which settings lack runs."""

    stored: list[StoredRun]
    labels: dict[str, str]  # of a run's folder name
    absent: list[str]

    @property
    def names(self) -> list[str]:
        return [run.name for run in self.stored]

    def frame(self, table: pd.DataFrame) -> pd.DataFrame:
        """``table`` with ``setting`` and ``rule`` (sft, sft_belief, ptr ...) for each row's ``run``."""
        rules = {run.name: runs.method_label(run.setting.config) for run in self.stored}
        return table.assign(setting=table.run.map(self.labels), rule=table.run.map(rules))

    def metrics(self) -> pd.DataFrame:
        """Logging steps with ``setting``, ``rule`` and ``progress``, the share of training that is over."""
        table = self.frame(results.metrics_frame(self.stored))
        return table.assign(progress=table.step / table.groupby("run").step.transform("max"))


def setting_label(config: RunConfig, world: str = "") -> str:
    """``Tabletop (easy), clean data``: what a run's line is called; ``world`` is its name where more is known of it."""
    world = world or charts.world_label(config.evaluation.world, config.evaluation.suite)
    return f"{world}, {charts.corruption_label(config.data.corruption)}"


def wanted(manifests: Sequence[str], *, rules: Sequence[str], corruption: Sequence[str],
           seeds: int | Sequence[int] | None = None, steps: int | None = None,
           folder: Path = results.NARROWED) -> list[Path]:
    """Each manifest narrowed to ``rules`` and kinds of data, as far as it has them.

    ``seeds`` and ``steps`` reach Tabletop's manifests only: the other worlds' runs are read as they are stored.

    Raises:
        ValueError: no manifest has any such setting.
    """
    found = []
    for name in manifests:
        path = results.manifest_path(name)
        settings = [setting for setting in runs.load_manifest(path).settings
                    if runs.method_label(setting.config) in rules and setting.config.data.corruption in corruption]
        if not settings:
            continue
        ours = trained_here(settings[0].config)
        in_grid = "data.corruption" in runs.read_manifest(path).get("grid", {})
        kinds = list(dict.fromkeys(setting.config.data.corruption for setting in settings))
        found.append(results.narrow(
            path, seeds=seeds if ours else None, methods=list(dict.fromkeys(setting.method for setting in settings)),
            changes={"data.corruption": kinds if in_grid else None, "ptr.optimization.steps": steps if ours else None},
            folder=folder))
    if not found:
        raise ValueError(f"none of {', '.join(manifests)} has {' or '.join(rules)} on {' or '.join(corruption)} data; "
                         "ask for another manifest or corruption")
    return found


def trained_here(config: RunConfig) -> bool:
    """Whether a page may train such runs afresh: Tabletop's take minutes, the real simulators' hours."""
    return config.evaluation.world == "tabletop"


def train_missing(manifests: Sequence[Path], workers: int | None) -> None:
    """Train and evaluate what Tabletop's manifests lack."""
    from ptrlib.experiment import run_manifest

    for path in manifests:
        if trained_here(runs.load_manifest(path).settings[0].config):
            run_manifest(path, workers=workers)


def gather(manifests: Sequence[Path], root: Path = runs.RUNS) -> Gathered:
    """The trained runs of all settings; what is missing is told, not refused, as long as something is there.

    Raises:
        ValueError: there is no run at all.
    """
    kinds = list(charts.CORRUPTIONS)
    stored: list[StoredRun] = []
    labels: dict[str, str] = {}
    absent: list[str] = []
    for path in manifests:
        loaded = runs.load_manifest(path)
        counts: dict[str, list[bool]] = {}
        for setting in sorted(loaded.settings, key=lambda setting: kinds.index(setting.config.data.corruption)):
            done = runs.is_trained(setting.config, root)
            counts.setdefault(setting_label(setting.config), []).append(done)
            if done and setting.folder_name not in labels:
                run = StoredRun(setting, root / setting.folder_name)
                labels[run.name] = setting_label(setting.config, results.world_of([run]))  # with RoboCasa's assets
                stored.append(run)
        absent += [f"{label}: {done.count(False)} of {len(done)} runs are not stored; make them with "
                   f"`ptrlib run {_original(loaded, path)}`" for label, done in counts.items() if not all(done)]
    if not stored:
        raise ValueError(f"no run of {', '.join(map(str, manifests))} is stored; make them with: ptrlib run "
                         f"{' '.join(map(str, manifests))}")
    return Gathered(stored, labels, absent)


def _original(narrowed: runs.Manifest, path: Path) -> Path:
    """The manifest that ``narrowed``, read from ``path``, is a part of; ``path`` where it has settings of its own."""
    whole = results.manifest_path(narrowed.name)
    known = {setting.folder_name for setting in runs.load_manifest(whole).settings} if whole.is_file() else set()
    return whole if {setting.folder_name for setting in narrowed.settings} <= known else path


def introduction(gathered: Gathered) -> str:
    """Markdown: which settings are shown, with their runs, steps and minutes, and which are not there. Other runs took
    longer where the machine had more to do."""
    table = gathered.frame(results.provenance_frame(gathered.stored))
    known = {run.name: run for run in gathered.stored}
    lines = []
    for label, part in table.groupby("setting", sort=False):
        learned = results.steps_of([known[name] for name in part.run])
        lines.append(f"- **{label}**: {len(part)} run{'s' if len(part) > 1 else ''} ({part.training_seed.nunique()} "
                     f"training seed{'s' if part.training_seed.nunique() > 1 else ''}), {learned}, "
                     f"{part.training_seconds.min() / 60:.1f} min to train the quickest.")
    return "\n".join(lines + [f"- *Left out:* {words}." for words in gathered.absent])


# Curves

def curves(metrics: pd.DataFrame, columns: Sequence[str], share: float = 0.05) -> pd.DataFrame:
    """Each column averaged over ``share`` of a run's logging steps: its mean, min and max over training seeds.

    Returns a row per setting, rule and step; a column that a rule does not log is missing values.
    """
    smooth = metrics.sort_values("step", kind="stable").copy()
    smooth[list(columns)] = smooth.groupby("run")[list(columns)].transform(
        lambda values: values.rolling(max(1, round(share * len(values))), 1).mean())
    by = smooth.groupby(["setting", "rule", "step", "progress"], sort=False)
    drawn = by[list(columns)].agg(["mean", "min", "max"])
    drawn.columns = drawn.columns.map(" ".join)
    return in_order(drawn.reset_index(), list(dict.fromkeys(metrics.setting)))


def in_order(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The rows of ``table`` with their settings in the order of ``settings``."""
    places = {setting: place for place, setting in enumerate(settings)}
    return table.sort_values("setting", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def course_chart(metrics: pd.DataFrame, panels: Mapping[str, str], *, logarithmic: Sequence[str] = (),
                 stated: Mapping[str, tuple[float, float]] | None = None) -> tuple[Figure, pd.DataFrame]:
    """Quantities over training, a panel each and a line per setting; a grey band is what the paper states at the end.

    Args:
        panels: column -> title.
        logarithmic: columns on a logarithmic axis.
        stated: column -> (low, high) of the paper's statement.
    """
    drawn = curves(metrics, list(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=(5.4, 1.75 * len(panels) + 0.6), squeeze=False, sharex=True)
    colours = source_colours(drawn.setting)
    for panel, (column, title) in zip(axes[:, 0], panels.items(), strict=True):
        if stated and column in stated:
            low, high = stated[column]
            panel.axhspan(low, high, color=COLOURS["grey"], alpha=0.25, linewidth=0, label="the paper, at the end")
            if low == high:
                panel.axhline(low, color=COLOURS["grey"], linewidth=1.5)
        for label, line in drawn.groupby("setting", sort=False):
            _draw_line(panel, line, column, str(label), colours[str(label)])
        panel.set(title=title, yscale="log" if column in logarithmic else "linear")
    axes[-1, 0].set(xlabel="training (% of its steps)", xlim=(0, 100))
    _legend(figure)
    return figure, drawn


def _draw_line(panel: Axes, line: pd.DataFrame, column: str, label: str, look: tuple[str, object]) -> None:
    colour, style = look
    place = 100 * line.progress
    panel.plot(place, line[f"{column} mean"], color=colour, linestyle=style, linewidth=1.2, label=label)  # type: ignore[arg-type]
    panel.fill_between(place, line[f"{column} min"], line[f"{column} max"], color=colour, alpha=0.15, linewidth=0)


def source_colours(settings: Sequence[str] | pd.Series) -> dict[str, tuple[str, object]]:
    """(colour, line style) of each setting: the colour is the data's source, the style what corrupted it."""
    kinds = {label: kind for kind, label in charts.CORRUPTIONS.items()}
    sources = {label: label.rpartition(", ")[0] for label in dict.fromkeys(settings)}
    order = list(dict.fromkeys(sources.values()))
    return {label: (COLOURS[SOURCE_COLOURS[order.index(source) % len(SOURCE_COLOURS)]],
                    STYLES.get(kinds.get(label.rpartition(", ")[2], ""), "-")) for label, source in sources.items()}


def _legend(figure: Figure) -> None:
    found = {label: handle for panel in figure.axes
             for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), map(charts.folded, found), loc="outside upper center", ncols=2)


def path_chart(metrics: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Where the controller went: beta against tau, a line per run from the common start, and the paper's end point.

    The rule multiplies both by the same factor, so that between their bounds every run stays on one line.
    """
    config = PTRConfig()
    walked = metrics[metrics.tau.notna()][["setting", "run", "step", "tau", "beta"]]
    beside = _beside_the_paths(config)
    rule, start, end = (part for _, part in beside.groupby("setting", sort=False))
    figure, axes = plt.subplots(figsize=(5.8, 3.8))
    axes.plot(rule.tau, rule.beta, color=COLOURS["grey"], linestyle="--", linewidth=1.2, label=rule.setting.iloc[0])
    looks = source_colours(walked.setting)
    marks = dict(zip(dict.fromkeys(colour for colour, _ in looks.values()), MARKS, strict=False))
    for label, (colour, style) in looks.items():
        for place, (_, run) in enumerate(walked[walked.setting == label].groupby("run", sort=False)):
            last = run.iloc[-1]
            axes.plot(run.tau, run.beta, color=colour, linestyle=style, linewidth=1)  # type: ignore[arg-type]
            axes.plot(last.tau, last.beta, marks[colour], color=colour, markersize=6, markeredgewidth=1.2,
                      fillstyle="none" if style == "-" else "bottom", label="_" if place else label)
    for mark, size, point in (("s", 11, start), ("*", 11, end)):
        axes.plot(point.tau, point.beta, mark, color=COLOURS["black"], markersize=size, fillstyle="none",
                  label=point.setting.item())
    axes.set(xscale="log", yscale="log", xlabel="$\\tau_{score}$", ylabel="$\\beta$",
             xlim=(0.9 * config.tau_min, 1.1 * config.tau_max), ylim=(0.9 * config.beta_min, 1.1 * config.beta_max))
    for axis, ticks in ((axes.xaxis, (0.03, 0.06, 0.12, 0.2)), (axes.yaxis, (0.5, 1.0, 1.5, 3.0))):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    _legend(figure)
    return figure, pd.concat([walked, beside], ignore_index=True)


def unmoved(metrics: pd.DataFrame) -> str:
    """Markdown: the runs in which the controller never moved tau; nothing where it always did."""
    still = metrics[metrics.tau.notna()].groupby("run", sort=False).agg(
        setting=("setting", "first"), values=("tau", "nunique"))
    named = [f"`{run}` ({row.setting})" for run, row in still[still["values"] == 1].iterrows()]
    return (f"The controller never moved τ and β in {', '.join(named)}: the average accuracy stayed between the two "
            "thresholds of Section 4.5." if named else "")


def sharpened(metrics: pd.DataFrame) -> pd.Series:
    """By run, whether the controller ever lowered tau: only where it finds the scorer confident, the average accuracy
    above 0.35 and the average margin above 0.10 at once (Section 4.5)."""
    return metrics[metrics.tau.notna()].groupby("run", sort=False, observed=True).tau.agg(
        lambda tau: bool((tau.diff() < 0).any())).astype(bool)


def confidence(metrics: pd.DataFrame) -> str:
    """Markdown: in how many runs of which settings the controller ever found the scorer confident."""
    ever = sharpened(metrics)
    of_run = metrics.drop_duplicates("run").set_index("run").setting.astype(str)
    by_setting = ever.groupby(of_run.reindex(ever.index), sort=False).agg(["sum", "count"])
    named = "; ".join(f"{name}: {row['sum']} of {row['count']}" for name, row in by_setting[by_setting["sum"] > 0
                                                                                       ].iterrows())
    config = PTRConfig()
    return ("The controller lowers τ and β only where it finds the scorer confident (average accuracy above "
            f"{config.accuracy_high:g} and average margin above {config.margin_high:g}), as in the paper, whose τ ends "
            f"at about {published.statement('tau_final'):g}. **It ever did in {int(ever.sum())} of the {len(ever)} runs"
            f" here**{f' ({named})' if named else ''}; in the others it only raised them or left them where they were.")


def _beside_the_paths(config: PTRConfig) -> pd.DataFrame:
    """tau and beta of the rule between its bounds, of its start and of the paper's end point, named by ``setting``."""
    tau = np.geomspace(config.tau_min, config.tau_max, 100)
    rule = pd.DataFrame({"setting": "the rule, between its bounds", "tau": tau,
                         "beta": (config.beta / config.tau * tau).clip(config.beta_min, config.beta_max)})
    ends = pd.DataFrame({"setting": ["start (Table 6)", "end stated by the paper"],
                         "tau": [config.tau, published.statement("tau_final")],
                         "beta": [config.beta, published.statement("beta_final")]})
    return pd.concat([rule, ends], ignore_index=True)


# Numbers at the two ends of training

def at_ends(metrics: pd.DataFrame) -> pd.DataFrame:
    """A row per run: its setting, and the means of the quantities over the start and the end of training.

    ``candidates`` is |Y|, from the identity T = log p(0) + log|Y| of Eq 14 (so loss_id + T = log|Y|), ``of ceiling``
    the share of log|Y| that the score reaches, ``half`` the share of training after which accuracy is half of its end.
    """
    rows = []
    for run, table in metrics.groupby("run", sort=False):
        early, late = table[table.progress <= max(START, table.progress.min())], table[table.progress >= END]
        ceiling = float((late.nce_adv + late.loss_id).mean())
        rows.append({
            "run": run, "setting": table.setting.iloc[0], "training_seed": table.training_seed.iloc[0],
            **{f"{name} {when}": float(part[name].mean()) for when, part in (("start", early), ("end", late))
               for name in AT_ENDS},
            "factor of the loss": float(early.loss_action.mean() / late.loss_action.mean()),
            "candidates": math.exp(ceiling), "of ceiling": float(late.nce_adv.mean()) / ceiling,
            "half": _half_way(table, float(late.nce_acc.mean())), "logging steps": len(table)})
    return pd.DataFrame(rows)


def _half_way(table: pd.DataFrame, end: float) -> float:
    smooth = table.nce_acc.rolling(max(1, round(START * len(table))), 1).mean()
    passed = table.progress[smooth >= end / 2]
    return float(passed.iloc[0]) if len(passed) else math.nan


def end_table(ends: pd.DataFrame) -> pd.DataFrame:
    """The quantities of Figures 8 and 9 and of the controller at the end of training, a column per setting, as text:
    means over training seeds with Student's interval (none with one seed); the paper's statement comes first."""
    said = published.statement
    rows = {
        "identification accuracy": ("nce_acc end", 2, ""),
        "half of it is reached after (share of training)": ("half", 2, ""),
        "score T (nats)": ("nce_adv end", 2, f"{said('score_slow_low'):g}–{said('score_slow_high'):g}, fast group "
                                             f"{said('score_fast_low'):g}–{said('score_fast_high'):g}"),
        "candidates |Y|": ("candidates", 0, ""),
        "T as a share of its ceiling log|Y|": ("of ceiling", 2, ""),
        "action loss, start": ("loss_action start", 3, f"{said('loss_start_low'):g}–{said('loss_start_high'):g}"),
        "action loss, end": ("loss_action end", 3, f"{said('loss_end_low'):g}–{said('loss_end_high'):g}"),
        "belief entropy (nats), start": ("tok_entropy start", 2,
                                         f"{said('entropy_start_low'):g}–{said('entropy_start_high'):g}"),
        "belief entropy (nats), end": ("tok_entropy end", 2, f"below {said('entropy_end'):g}"),
        "margin (logits)": ("nce_margin end", 2, f"{said('margin_low'):g}–{said('margin_high'):g}"),
        "τ": ("tau end", 3, f"about {said('tau_final'):g}"),
        "β": ("beta end", 2, f"about {said('beta_final'):g}"),
        "hard-negative ratio": ("hard_ratio end", 2, f"about {said('hard_ratio_final'):g}")}
    anywhere = ("nce_adv end", "nce_margin end", "of ceiling")
    table = {str(label): {name: mean_over_runs(
                              part[column], within=ANYWHERE if column in anywhere else POSITIVE).text(digits=digits)
                          for name, (column, digits, _) in rows.items()}
             for label, part in ends.groupby("setting", sort=False)}
    printed = pd.Series({name: paper for name, (_, _, paper) in rows.items()})
    return pd.DataFrame({"the paper": printed} | table).rename_axis("quantity")


# Verdicts

def answers(ends: pd.DataFrame) -> pd.DataFrame:
    """The statements of Section 5.6, a row each, and for every setting whether it holds: the answer and its number."""
    return pd.DataFrame({str(label): {claim: f"{told}: {interval.text(digits=digits)}" for claim, interval, digits, told
                                      in _claims(part)} for label, part in ends.groupby("setting", sort=False)
                         }).rename_axis("the paper's statement").reset_index()


def verdict(ends: pd.DataFrame) -> str:
    """Markdown: how many of the paper's statements hold in all settings, in some and in none, then each of them."""
    told: dict[str, list[str]] = {}
    for _, part in ends.groupby("setting", sort=False):
        for claim, _, _, answer in _claims(part):
            told.setdefault(claim, []).append(answer)
    untried = sum(set(given) == {TOO_SHORT} for given in told.values())
    holding = [given.count("holds") for given in told.values()]
    settings, few = ends.setting.nunique(), ends.groupby("setting").training_seed.nunique().min() == 1
    everywhere = holding.count(settings)
    line = (f"Of the {len(told)} statements, {everywhere} {'holds' if everywhere == 1 else 'hold'} in all {settings} "
            f"settings shown, {sum(0 < count < settings for count in holding)} in some and "
            f"{holding.count(0) - untried} in none"
            + (f"; {untried} {TOO_SHORT}" if untried else "")
            + ". The levels of score and margin depend on the number of candidates, which the paper has more of."
            + (" Where there is one training seed, an answer is about that run alone." if few else ""))
    return "\n".join([line, "", *(f"- {claim}: " + "; ".join(
        f"{words} in {given.count(words)}" for words in dict.fromkeys(given)) + "." for claim, given in told.items())])


def _claims(part: pd.DataFrame) -> Iterator[tuple[str, Interval, int, str]]:
    said = published.statement
    rise = mean_over_runs(part["nce_acc end"] - part["nce_acc start"])
    yield "accuracy rises", rise, 2, _where(rise, math.ulp(0.0), math.inf, "does not hold")
    score = mean_over_runs(part["nce_adv end"])
    low, high = said("score_slow_low"), said("score_fast_high")
    yield f"the score ends between {low:g} and {high:g} nats", score, 2, _where(score, low, high)
    factor = mean_over_runs(part["factor of the loss"])
    yield "the action loss falls by over an order of magnitude (factor)", factor, 1, _where(factor, 10, math.inf)
    entropy = mean_over_runs(part["tok_entropy end"], within=POSITIVE)
    yield f"belief entropy ends below {said('entropy_end'):g} nats", entropy, 2, _where(entropy, -math.inf,
                                                                                    said("entropy_end"))
    margin = mean_over_runs(part["nce_margin end"])
    low, high = said("margin_low"), said("margin_high")
    yield f"the margin ends between {low:g} and {high:g}", margin, 2, _where(margin, low, high)
    for name, column, number in (("τ", "tau end", said("tau_final")), ("β", "beta end", said("beta_final")),
                                 ("the hard-negative ratio", "hard_ratio end", said("hard_ratio_final"))):
        value = mean_over_runs(part[column], within=POSITIVE)
        rose = (value.estimate if math.isnan(value.low) else value.low) > PTRConfig.tau  # so no more steps would do
        few = name == "τ" and not rose and part["logging steps"].max() < _steps_to((1 + ABOUT) * number)
        yield (f"{name} ends at about {number:g} (within {ABOUT:.0%})", value, 3,
               TOO_SHORT if few else _where(value, (1 - ABOUT) * number, (1 + ABOUT) * number))


def _steps_to(tau: float) -> int:
    """Logging steps of a confident scorer that take tau_score from its start to ``tau`` or below."""
    ptr = PTRConfig()
    return math.ceil(math.log(tau / ptr.tau) / math.log(ptr.scale_down))


def _where(interval: Interval, low: float, high: float, below: str = "does not hold, below") -> str:
    """Whether an interval lies in [low, high], below or above it; an estimate without interval stands for itself."""
    from_, to = (interval.estimate, interval.estimate) if math.isnan(interval.low) else (interval.low, interval.high)
    if low <= from_ and to <= high:
        return "holds"
    if to < low:
        return below
    return "does not hold, above" if from_ > high else "cannot be told"


def reach(configs: Sequence[RunConfig]) -> str:
    """Markdown: how far the controller can move in the logging steps that the runs have, and whether both of the
    paper's end points can come from it.

    beta / tau changes only where one of them meets a bound, so it never exceeds the largest of its start, its value
    at both upper bounds and its value at both lower bounds.
    """
    ptr = PTRConfig()
    tau, beta = published.statement("tau_final"), published.statement("beta_final")
    needed = _steps_to(tau)
    moves = sorted(config.ptr.optimization.steps // config.log_every for config in configs)
    span = f"{moves[0]}" if moves[0] == moves[-1] else f"{moves[0]} to {moves[-1]}"
    most = tau * max(ptr.beta / ptr.tau, ptr.beta_max / ptr.tau_max, ptr.beta_min / ptr.tau_min)
    both = "**the paper’s two end points cannot both come from the stated rule**" if beta > (1 + ABOUT) * most else \
        "the paper’s two end points can both come from the stated rule"
    return (f"From τ = {ptr.tau:g} to {tau:g} the rule needs {needed} logging steps of a confident scorer; the runs "
            f"shown have {span} in all. τ and β are multiplied by the same factors, so when τ is at {tau:g}, β is at "
            f"most {most:.3g}, while the paper reports about {beta:g}: {both}. [The controller’s page]"
            "(../method/controller.ipynb) replays it.")
