"""Table 5 on Tabletop, and how stable training is without clipping and without EMA (Sections 5.5 and 5.6)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import PTRConfig
from ptrlib.report import published
from ptrlib.report.charts import corruption_label, method_label, training_chart
from ptrlib.report.claim import AT_CLIP
from ptrlib.report.results import compare, intervals, success_rates
from ptrlib.report.statistics import SHARE, Interval, effective_sample_size, mean_over_runs
from ptrlib.report.verdicts import Verdict, answer, in_points, scope

# The manifest's methods and Table 5's rows, in its order.
ROWS = {"ptr": "PTR (full)", "no_belief": "w/o belief tokens", "no_gather": "w/o cross-rank gather",
        "no_ema": "w/o EMA (frozen enc.)", "no_refiner": "w/o refiner", "no_clipping": "w/o clipping",
        "ptr_alpha0": "alpha=0 (SFT+Belief)"}
REFERENCES = ("no_average", "sft_belief", "sft")  # beside the table: ours, and the two methods without weights
BENCHMARKS = ("LIBERO", "RoboCasa")
HEAVY = published.statement("unclipped_above")  # weights above which Section 5.6 speaks of heavy tails

# What Section 5.6 calls unstable, one number per run, as a column of :func:`instability`.
MEASURES = {"loss": "change, from one logging step to the next, of the action loss over SFT's on the same minibatch "
                    "(standard deviation of its logarithm)",
            "gradient": "gradient spikes (99th percentile of the gradient's norm over its median)",
            "accuracy": "wandering of the identification accuracy (deviation from its running mean)",
            "sample_size": "loss of effective sample size (1 − effective sample size / chunks, of all in a minibatch)"}
EDGE = 0.001  # a limit so close to zero (a tenth of a point) can fall on its other side with other draws

# Section 5.6's statements, as (method, measure): the method is the less stable of the two.
STATED = {("no_clipping", "gradient"): "w/o clipping: “gradient spikes”",
          ("no_clipping", "loss"): "w/o clipping: “periodic loss oscillations”",
          ("no_ema", "accuracy"): "w/o EMA, frozen encoder: “identification accuracy fluctuates”",
          ("no_average", "accuracy"): "w/o EMA, drifting encoder: “identification accuracy fluctuates”"}


def published_drops() -> pd.DataFrame:
    """Table 5's averages minus those of PTR (full), in points: a row per method, a column per benchmark."""
    table = published.success(published.ABLATION)
    average = pd.DataFrame({benchmark: table[benchmark, "Avg"] for benchmark in BENCHMARKS})
    return (average - average.loc[ROWS["ptr"]]).rename({row: method for method, row in ROWS.items()})


def differences(episodes: pd.DataFrame, reference: str = "ptr") -> pd.DataFrame:
    """Paired difference of success to ``reference``, per method and corruption, as proportions, over the training seeds
    that both have; no row without it, or without anything beside it."""
    cells = episodes[["method", "corruption"]].drop_duplicates().itertuples(index=False)
    there = (episodes.method == reference).any()
    items = [(method, corruption) for method, corruption in cells if there and method != reference]

    def measure(method: str, corruption: str) -> Interval:
        return compare(episodes, {(method, corruption): 1.0, (reference, corruption): -1.0})

    return intervals(items, ("method", "corruption"), measure)


def beside_the_paper(measured: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Our differences and the paper's in one frame for :func:`ptrlib.report.charts.difference_chart`, and the
    names of its markers. The paper's have no interval, so theirs ends where it begins."""
    drops = published_drops() / 100
    rows = [{"method": method, "corruption": f"paper, {benchmark}", "estimate": drops.loc[method, benchmark],
             "low": drops.loc[method, benchmark], "high": drops.loc[method, benchmark]}
            for benchmark in BENCHMARKS for method in drops.index if method in set(measured.method)]
    labels = {name: f"ours, {corruption_label(name)}" for name in measured.corruption.unique()}
    labels |= {f"paper, {benchmark}": f"paper, {benchmark}" for benchmark in BENCHMARKS}
    return pd.concat([measured, pd.DataFrame(rows)], ignore_index=True), labels


def table(episodes: pd.DataFrame) -> pd.DataFrame:
    """Table 5, the paper's averages beside our rates (Wilson) and paired differences to PTR and SFT, all in percent."""
    rates = success_rates(episodes)
    measured = {reference: differences(episodes, reference) for reference in ("ptr", "sft")}
    printed, drops = published.success(published.ABLATION), published_drops()
    rows = []
    for method in [name for name in (*ROWS, *REFERENCES) if name in set(rates.method)]:
        row = {"configuration": _shown(method)}
        for benchmark in BENCHMARKS:
            row[f"paper: {benchmark}"] = (
                f"{printed.loc[ROWS[method], (benchmark, 'Avg')]:.1f}"
                + (f" ({drops.loc[method, benchmark]:+.1f})" if method != "ptr" else "") if method in ROWS else "")
        for corruption in rates.corruption.unique():
            row |= _ours(rates, measured, method, corruption)
        rows.append(row)
    shown = pd.DataFrame(rows).fillna("")
    ours = [f"{words}: {corruption_label(corruption)}" for corruption in rates.corruption.unique()
            for words in ("ours", *(f"minus {method_label(reference)}" for reference in measured))]
    return shown[[*(name for name in shown if name not in ours), *(name for name in ours if name in shown)]]


def _shown(method: str) -> str:
    """A row's name: Table 5's, but for α = 0, which the paper takes for SFT+Belief and which keeps the losses here."""
    return f"{method_label(method)} (paper: {ROWS[method]})" if method == "ptr_alpha0" else \
        ROWS.get(method, method_label(method))


def _ours(rates: pd.DataFrame, measured: dict[str, pd.DataFrame], method: str, corruption: str) -> dict[str, str]:
    name = corruption_label(corruption)
    found = {}
    for cell in rates[(rates.method == method) & (rates.corruption == corruption)].itertuples():
        found[f"ours: {name}"] = (f"{100 * cell.success:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}], "
                                  f"n = {cell.episodes}")
    for reference, told in measured.items():
        for cell in told[(told.method == method) & (told.corruption == corruption)].itertuples():
            found[f"minus {method_label(reference)}: {name}"] = Interval(
                cell.estimate, cell.low, cell.high, cell.count).text(100, sign=True)
    return found


def with_sample_size(metrics: pd.DataFrame) -> pd.DataFrame:
    """``metrics`` with ``sample_size``: (sum w)^2 / (n sum w^2) of each logged minibatch, 1 for equal weights.

    Where no rule has a scorer, ``nce_acc`` is there too, as missing values.
    """
    square = metrics.weight_mean ** 2
    return metrics.assign(sample_size=square / (square + metrics.weight_std ** 2),
                          nce_acc=metrics.get("nce_acc", float("nan")))


def curves(metrics: pd.DataFrame, window: int) -> tuple[Figure, pd.DataFrame]:
    """The training curves of Section 5.6's last paragraph, averaged over ``window`` logging steps."""
    figure, drawn = training_chart(with_sample_size(metrics), {
        "loss_action": "action loss", "gradient_norm": "gradient norm",
        "weight_mean": "mean weight", "weight_std": "spread of the weights",
        "sample_size": "effective sample size / all chunks", "nce_acc": "identification accuracy"}, window=window)
    for axes, column in zip(figure.axes[2:4], ("weight_mean", "weight_std"), strict=True):
        if drawn[f"{column} max"].max() > HEAVY:  # orders of magnitude; the spread is 0 before the warm-up ends
            axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(bottom=0)
    figure.axes[4].set_ylim(0, 1.05)
    return figure, drawn


def heavy_tails(weights: pd.DataFrame) -> pd.DataFrame:
    """Weights of training chunks with a target, at the first and the last snapshot, a row per run and moment:
    ``above`` (share of chunks above HEAVY), ``largest`` and ``sample_size`` (of all of them, as a share)."""
    chunks = weights[(weights.split == "train") & weights.valid]
    rows = []
    for (method, corruption, run), of_run in chunks.groupby(["method", "corruption", "run"], sort=False):
        for moment, step in (("early", of_run.step.min()), ("late", of_run.step.max())):
            weight = of_run[of_run.step == step].weight
            rows.append({"method": method, "corruption": corruption, "run": run, "moment": moment, "step": step,
                         "above": (weight > HEAVY).mean(), "largest": weight.max(),
                         "sample_size": effective_sample_size(weight) / len(weight)})
    return pd.DataFrame(rows, columns=["method", "corruption", "run", "moment", "step", "above", "largest",
                                       "sample_size"])


def instability(metrics: pd.DataFrame, warmup_steps: int) -> pd.DataFrame:
    """MEASURES of every run after the warm-up: a row per run with its method, corruption and training seed.

    All are larger where training is less stable. A rule without a scorer has no accuracy, and without SFT of the same
    training seed no run has the loss over SFT's (nan). What moves a loss most is which minibatch was drawn, the same
    for all methods: hence over SFT's.
    """
    trained = with_sample_size(metrics[metrics.step > warmup_steps]).sort_values("step", kind="stable")
    rows, step = [], ["corruption", "training_seed", "step"]
    plain = trained[trained.method == "sft"].drop_duplicates(step).set_index(step).loss_action
    for run, part in trained.groupby("run", sort=False):
        beside = part.loss_action.to_numpy() / plain.reindex(pd.MultiIndex.from_frame(part[step])).to_numpy()
        smooth = part.nce_acc.rolling(10, min_periods=1, center=True).mean()
        rows.append({"run": run, **part[["method", "corruption", "training_seed"]].iloc[0].to_dict(),
                     "loss": pd.Series(np.log(beside)).diff().std(),
                     "gradient": part.gradient_norm.quantile(0.99) / part.gradient_norm.median(),
                     "accuracy": (part.nce_acc - smooth).std(),
                     "sample_size": 1 - part.sample_size.mean()})
    return pd.DataFrame(rows, columns=["run", "method", "corruption", "training_seed", *MEASURES])


def against_ptr(measured: pd.DataFrame, method: str, measure: str) -> Interval:
    """How many times as unstable ``method`` is as PTR of the same training seed: the geometric mean over seeds.

    ``measured`` is :func:`instability` of one corruption.
    """
    values = measured.pivot(index="training_seed", columns="method", values=measure)
    interval = mean_over_runs(np.log(values[method] / values["ptr"]))
    return Interval(math.exp(interval.estimate), math.exp(interval.low), math.exp(interval.high), interval.count)


def instability_table(measured: pd.DataFrame) -> pd.DataFrame:
    """A row per measure, a column per method beside PTR: times PTR's, with the interval over training seeds."""
    methods = [name for name in (*ROWS, *REFERENCES) if name in set(measured.method) and name != "ptr"]
    rows = [{"times PTR's": meaning, **{method_label(method): against_ptr(measured, method, measure).text(digits=2)
                                        for method in methods if _comparable(measured, method, measure)}}
            for measure, meaning in MEASURES.items()]
    return pd.DataFrame(rows).fillna("–")


def _comparable(measured: pd.DataFrame, method: str, measure: str) -> bool:
    """Whether PTR and ``method`` both have the measure: it is nan without a scorer or SFT beside it, 0 without weights
    and of SFT beside itself."""
    both = measured[measured.method.isin([method, "ptr"])]
    return both.method.nunique() == 2 and bool((both[measure] > 0).all())


def stability_verdicts(measured: pd.DataFrame, tails: pd.DataFrame) -> pd.DataFrame:
    """Section 5.6's statements on stability, from :func:`instability` and :func:`heavy_tails` of one corruption."""
    found = []
    for moment in ("early", "late"):
        above = tails[(tails.method == "no_clipping") & (tails.moment == moment)].above
        if len(above):
            share = mean_over_runs(above, within=SHARE)
            found.append(Verdict(f"w/o clipping, {moment}: “a small fraction [...] receive weights above {HEAVY:g}”",
                                 f"{share.text(100, digits=2)} % of the chunks",
                                 "holds" if share.estimate > 0 else "does not hold, there are none",
                                 share.estimate, share.low, share.high))
    for (method, measure), claim in STATED.items():
        if _comparable(measured, method, measure):
            ratio = against_ptr(measured, method, measure)
            found.append(Verdict(f"{claim} more than with PTR", f"{ratio.text(digits=2)} times",
                                 answer(ratio.low - 1, ratio.high - 1, "holds", "does not hold, less than with PTR"),
                                 ratio.estimate, ratio.low, ratio.high))
    return pd.DataFrame([asdict(verdict) for verdict in found])


def verdicts(episodes: pd.DataFrame) -> pd.DataFrame:
    """Does taking a part away cost success? A row per part and corruption."""
    return pd.DataFrame([asdict(verdict) for verdict in _verdicts(episodes)])


def _verdicts(episodes: pd.DataFrame) -> Iterator[Verdict]:
    drops, where = published_drops(), scope(episodes)
    for row in differences(episodes).to_dict("records"):
        if row["method"] in ROWS:
            printed = " and ".join(f"{drops.loc[row['method'], name]:+.1f} on {name}" for name in BENCHMARKS)
            interval = Interval(row["estimate"], row["low"], row["high"], row["count"])
            yield Verdict(f"{_shown(row['method'])}, {corruption_label(row['corruption'])} (paper: {printed})",
                          in_points(interval),
                          answer(-interval.high, -interval.low, f"costs success{where}", f"raises success{where}")
                          + (", barely" if _at_the_edge(interval.low, interval.high) else ""),
                          interval.estimate, interval.low, interval.high)


def _at_the_edge(low: float, high: float) -> bool:
    """Whether other draws of the bootstrap could turn an answer into "cannot be told"."""
    return (low > 0 or high < 0) and min(abs(low), abs(high)) < EDGE


def clip_note(weights: pd.DataFrame) -> str:
    """Markdown: how often PTR's upper clip binds at the end of training, by kind of data; where it hardly does, leaving
    it out cannot change much. Nothing without PTR."""
    top, chunks = PTRConfig().w_max, weights[(weights.method == "ptr") & (weights.split == "train") & weights.valid]
    last = chunks[chunks.step == chunks.groupby("run").step.transform("max")]
    told = []
    for kind, part in last.groupby("corruption", sort=False):
        share = mean_over_runs((part.weight >= AT_CLIP * top).groupby(part.run, observed=True).mean(), within=SHARE)
        told.append(f"{share.text(100)} % with {corruption_label(str(kind))} ({share.count} runs)")
    return (f"PTR's upper clip binds at the end of training for these shares of the chunks with a target: "
            f"{'; '.join(told)}. Where it hardly binds, leaving it out cannot change much.") if told else ""


def headline(episodes: pd.DataFrame) -> str:
    """A line of Markdown per corruption: which parts of PTR, taken away, cost success here."""
    measured = differences(episodes)
    lines = []
    for corruption in measured.corruption.unique():
        rows = measured[(measured.corruption == corruption) & measured.method.isin(ROWS)]
        groups = {"costs success": rows[rows.high < 0], "raises success": rows[rows.low > 0],
                  "makes no difference that can be told": rows[(rows.low <= 0) & (rows.high >= 0)]}
        told = [f"**{words}** for " + ", ".join(
            _shown(row.method) + (" (barely)" if _at_the_edge(row.low, row.high) else "")
            for row in part.itertuples()) for words, part in groups.items() if len(part)]
        if told:
            lines.append(f"- With {corruption_label(corruption)}, taking the part away " + "; ".join(told) + ".")
    if not lines:
        return "PTR is not shown beside a variant of it, so there is nothing to conclude."
    count = int(measured.method.isin(ROWS).sum())
    return (f"In the paper's averages every part helps. Here{scope(episodes)}:\n\n" + "\n".join(lines)
            + "\n\n“Barely”: the limit lies within 0.1 points of zero. Were every true difference zero, "
            f"{0.05 * count:.1f} of {count} such intervals would leave it out on average.")
