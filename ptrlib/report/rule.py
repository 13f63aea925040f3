"""The page "A rule of our own": what cross-fitted contrasts win back, what each part is worth, and where else it holds.

Frames in, frames and verdicts out. Proportions are in [0, 1] unless a docstring says points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ptrlib.config import fingerprint, override
from ptrlib.report.charts import corruption_label, in_order, method_colour, method_label
from ptrlib.report.claim import alone, differences, discrimination, points, score_verdicts, truth_auroc
from ptrlib.report.figures import COLOURS
from ptrlib.report.results import (
    StoredRun,
    alike,
    compare,
    episodes_frame,
    intervals,
    made_alike,
    metrics_frame,
    paired_values,
    success_rates,
)
from ptrlib.report.standard import COMPETITIVE
from ptrlib.report.statistics import (
    SHARE,
    Interval,
    crossed_bootstrap,
    effective_sample_size,
    mean_over_runs,
    paired_ratio,
    share_of_weight,
)
from ptrlib.report.verdicts import Verdict, answer, scope

RULE, SECOND = RULES = ("crossfit", "crossfit_every")  # our own, in the order in which they were written
WIDER = "crossfit_every_wide"  # the second between wider bounds: it says what the bounds cost
CLOSER = f"{WIDER}_alike"  # its control among episodes of about the same length under the same instruction
SAME_SCORE = (*(f"{rule}_random" for rule in (*RULES, WIDER)), CLOSER, WIDER)  # whose score is another rule's
ASKED = (*RULES, "crossfit_action", "crossfit_instruction", "crossfit_ending", "crossfit_consequence",
         "crossfit_likelihood", "crossfit_insample", "crossfit_chunk")  # rules whose scores differ
RECOVERY_GOAL = 0.7
TOLD = {RULE: "c. Do cross-fitted contrasts tell corrupted chunks?", SECOND: "c. Do contrasts of every chunk?",
        "crossfit_insample": "c. Do contrasts of scorers that judge what they learned from?"}
REMEMBERED = {RULE: "c. Are cross-fitted contrasts higher on training than on held-out episodes?",
              SECOND: "c. Are contrasts of every chunk higher on training than on held-out episodes?",
              "crossfit_insample": "c. Are contrasts judged in sample higher on training than on held-out episodes?"}
# What each rule is held against: other rules and controls, then itself with one thing changed.
RIVALS = {RULE: {"sft": "SFT", "ptr": "PTR", "crossfit_random": "its own weights, shuffled",
                 "crossfit_likelihood": "the start policy's loss as a score"},
          SECOND: {"sft": "SFT", "ptr": "PTR", RULE: "the first rule",
                   "crossfit_every_random": "its own weights, shuffled"},
          WIDER: {"sft": "SFT", "crossfit_every_wide_random": "its own weights, shuffled",
                  CLOSER: "its own weights, shuffled among episodes alike"}}
INGREDIENTS = {RULE: {"crossfit_consequence": "PTR's question alone", "crossfit_action": "the action question alone",
                      "crossfit_instruction": "the instruction question alone",
                      "crossfit_ending": "the ending question alone",
                      "crossfit_insample": "scorers that judge what they learned from",
                      "crossfit_chunk": "a score for each chunk", "crossfit_narrow": "w in [1/2, 2]",
                      "crossfit_wide": "w in [1/20, 20]", "bounded_oracle": "the truth itself for a score"},
               SECOND: {WIDER: "w in [1/20, 20]", "bounded_oracle": "the truth itself for a score"},
               WIDER: {"bounded_oracle_wide": "the truth itself for a score"}}
CEILINGS = {"bounded_oracle": RULES, "bounded_oracle_wide": (WIDER,)}  # the truth as weights, and the rules so bounded
UNCLIPPED = ", unclipped"
SEEN = {SECOND: (0, 1), WIDER: (0, 1)}  # training seeds of results that were known when these were taken up (protocol)
NAMES = {RULE: "the cross-fitted rule", SECOND: "the second rule", WIDER: "the second rule with w in [1/20, 20]"}


def headline(episodes: pd.DataFrame, corruption: str) -> str:
    """One paragraph of Markdown: whether our rules reach their two goals."""
    there, parts = set(zip(episodes.method, episodes.corruption, strict=True)), []
    for rule in (*RULES, WIDER):
        if {(rule, corruption), ("oracle", corruption), ("sft", corruption)} <= there:
            share = recovery(episodes, rule, corruption)
            name = f"Our rule “{method_label(rule)}”" if rule in RULES else \
                f"Our rule between wider bounds (“{method_label(rule)}”)"
            parts.append(f"{name} wins back {share.text(100, digits=0)} % of the gap between SFT and the oracle "
                         f"filter, which **{_goal(share)}** the goal of {RECOVERY_GOAL:.0%}"
                         f"{scope(alike(episodes, [(name, corruption) for name in (rule, 'sft', 'oracle')]))}.")
        if {(rule, "none"), ("sft", "none")} <= there:
            cost = compare(episodes, {(rule, "none"): 1.0, ("sft", "none"): -1.0})
            parts.append(f"On clean data it is {cost.text(100, sign=True)} points from SFT: **"
                         f"{answer(cost.low, cost.high, 'it gains', 'it costs', 'no loss can be told')}**"
                         f" (a loss of {100 * COMPETITIVE:.0f} points {'is not' if cost.low < -COMPETITIVE else 'is'} "
                         "excluded).")
    return " ".join(parts) or "The runs shown hold none of our rules, with SFT and the oracle filter to judge them by."


def recovery(episodes: pd.DataFrame, method: str, corruption: str) -> Interval:
    """(method - SFT) / (oracle - SFT) in success, on the same scenes, over the training seeds that all three have."""
    episodes = alike(episodes, [(name, corruption) for name in dict.fromkeys((method, "sft", "oracle"))])
    won = paired_values(episodes, {("sft", corruption): -1.0, (method, corruption): 1.0})
    gap = paired_values(episodes, {("sft", corruption): -1.0, ("oracle", corruption): 1.0})
    return paired_ratio(won, gap)


def unseen(episodes: pd.DataFrame, corruption: str) -> str:
    """Sentences of Markdown: what the rules that were taken up after results had been seen win back on the training
    seeds alone that had not been; nothing where none is left."""
    there, parts = set(episodes[episodes.corruption == corruption].method), []
    for rule, seeds in SEEN.items():
        left = episodes[~episodes.training_seed.isin(seeds)]
        if {rule, "oracle", "sft"} <= there and len(left) < len(episodes) and len(left):
            parts.append(f"{NAMES[rule]} {recovery(left, rule, corruption).text(100, digits=0)} % "
                         f"({left.training_seed.nunique()} seeds)")
    return (f"On the training seeds alone of which nothing had been seen when they were taken up, they win back: "
            f"{'; '.join(parts)}.") if parts else ""


def recoveries(episodes: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """:func:`recovery` of every method but the two that define the gap; no rows where there is no gap to win back."""
    there = set(episodes[episodes.corruption == corruption].method)
    if not {"sft", "oracle"} <= there or _gap(episodes, corruption).low <= 0:
        return pd.DataFrame()
    methods = [(method,) for method in in_order(there) if method not in ("sft", "oracle")]
    return intervals(methods, ["method"], lambda method: recovery(episodes, method, corruption)) if methods \
        else pd.DataFrame()


def ceilings(episodes: pd.DataFrame, corruption: str) -> str:
    """Sentences of Markdown: what the truth itself wins back as weights between each pair of bounds, and how far the
    rule between the same bounds stays behind it; empty where it was not run."""
    there, parts = set(episodes[episodes.corruption == corruption].method), []
    for ceiling, rules in CEILINGS.items():
        if {ceiling, "oracle", "sft"} <= there:
            share = recovery(episodes, ceiling, corruption)
            parts.append(f"“{method_label(ceiling)}” wins back {share.text(100, digits=0)} % of the gap, which "
                         f"**{_goal(share)}** the goal of {RECOVERY_GOAL:.0%}.")
        for rule in rules:
            if {ceiling, rule} <= there:
                terms = {(rule, corruption): 1.0, (ceiling, corruption): -1.0}
                behind = compare(episodes, terms)
                told = answer(behind.low, behind.high, "the rule is ahead of it", "the rule stays behind it",
                              "whether the rule stays behind it cannot be told")
                parts.append(f"“{method_label(rule)}” is {behind.text(100, sign=True)} points from it: **{told}**"
                             f"{scope(alike(episodes, terms))}.")
    question = "What could any score win between such bounds? The truth itself as weights, which no method may know:"
    return " ".join((question, *parts)) if parts else ""


def _gap(episodes: pd.DataFrame, corruption: str) -> Interval:
    return compare(episodes, {("oracle", corruption): 1.0, ("sft", corruption): -1.0})


def of_kind(episodes: pd.DataFrame, corruption: str) -> str:
    """Sentences of Markdown on WIDER with one corruption: the gap, the gain over SFT, and its shuffled control."""
    gap, terms = _gap(episodes, corruption), {(WIDER, corruption): 1.0, ("sft", corruption): -1.0}
    gain, share = compare(episodes, terms), recoveries(episodes, corruption)
    left = ("leaving the hit episodes out wins {} points" if gap.low > 0 else
            "leaving the hit episodes out wins nothing that can be told ({} points), so there is no gap to win back")
    told = answer(gain.low, gain.high, "the rule beats SFT", "the rule loses to SFT",
                  "whether the rule beats SFT cannot be told")
    won = "" if share.empty else next(
        f" It wins back {Interval(row.estimate, row.low, row.high, row.count).text(100, digits=0)} % of the gap."
        for row in share.itertuples() if row.method == WIDER)
    return (f"{left.format(gap.text(100, sign=True))}; {gain.text(100, sign=True)} points from SFT, **{told}**"
            f"{scope(alike(episodes, terms))}.{won} {against_shuffled(episodes, corruption)}")


def against_shuffled(episodes: pd.DataFrame, corruption: str) -> str:
    """Sentences of Markdown: each of our rules against the same weights given to other episodes, where that was run."""
    there, parts = set(episodes[episodes.corruption == corruption].method), []
    for rule in (*RULES, WIDER):
        if {rule, f"{rule}_random"} <= there:
            terms = {(rule, corruption): 1.0, (f"{rule}_random", corruption): -1.0}
            gain = compare(episodes, terms)
            over_sft = {(rule, corruption): 1.0, ("sft", corruption): -1.0}
            gains = "sft" not in there or compare(episodes, over_sft).low > 0
            better = "it is what the weights say" if gains else \
                "they cost less than weights that say nothing, and no gain over SFT is shown"
            told = answer(gain.low, gain.high, better, "the other episodes' weights do better",
                          "whether it is what the weights say cannot be told")
            parts.append(f"“{method_label(rule)}” is {gain.text(100, sign=True)} points from the same weights on other "
                         f"episodes: **{told}**{scope(alike(episodes, terms))}.")
    return " ".join(parts) or "No rule's weights were given to other episodes there, so nothing shows that a gain " \
        "comes from what they say."


def beyond_length(episodes: pd.DataFrame, corruption: str) -> str:
    """Sentences of Markdown: what WIDER's weights win among episodes of about the same length under the same
    instruction, of which they tell no more than these two, and whether the rule wins more; empty where not run."""
    there = set(episodes[episodes.corruption == corruption].method)
    if not {WIDER, CLOSER, "sft"} <= there:
        return ""
    alone, further = {(CLOSER, corruption): 1.0, ("sft", corruption): -1.0}, {
        (WIDER, corruption): 1.0, (CLOSER, corruption): -1.0}
    won, more = compare(episodes, alone), compare(episodes, further)
    told = answer(won.low, won.high, "instruction and length alone win", "that costs success",
                  "whether instruction and length alone win cannot be told")
    beyond = answer(more.low, more.high, "the rule wins by more than these two tell", "the rule is behind",
                    "whether the rule wins by more than these two tell cannot be told")
    return (f"Given to other episodes of about the same length under the same instruction, the same weights are "
            f"{won.text(100, sign=True)} points from SFT: **{told}**{scope(alike(episodes, alone))}. "
            f"“{method_label(WIDER)}” is {more.text(100, sign=True)} points from them: **{beyond}**"
            f"{scope(alike(episodes, further))}.")


def matched(weights: pd.DataFrame, corruption: str) -> str:
    """Sentences of Markdown: how far the same weights on other episodes are a fair control of each of our rules: the
    effective sample size of each, and the share of the weight that corrupted chunks get, which by chance alone is not
    quite their share of the chunks. Of training chunks; means over training seeds with Student's interval."""
    mine = weights[(weights.corruption == corruption) & (weights.split == "train")]
    there, parts = set(mine.method), []
    for rule in (*RULES, WIDER):
        controls = {name: control for name, control in {"control": f"{rule}_random", "closer control": f"{rule}_alike"
                                                        }.items() if control in there}
        if rule in there and controls:
            size, share, data = _moved(mine[mine.method == rule])
            moved = {name: _moved(mine[mine.method == control]) for name, control in controls.items()}
            sizes = "".join(f", its {name}'s {of_it[0].text(100, digits=0)} %" for name, of_it in moved.items())
            shares = "".join(f", in the {name} {of_it[1].text(100, digits=0)} %" for name, of_it in moved.items())
            runs = f"{size.count} training run{'s' if size.count > 1 else ''}"
            parts.append(f"“{method_label(rule)}” ({runs}): effective sample size {size.text(100, digits=0)} % of the "
                         f"chunks{sizes}; corrupted chunks, {data.text(100, digits=0)} % of all, get "
                         f"{share.text(100, digits=0)} % of the weight{shares}")
    return f"How alike are they? {'; '.join(parts)}." if parts else ""


def _moved(chunks: pd.DataFrame) -> tuple[Interval, Interval, Interval]:
    """Over runs, as shares: effective sample size, and corrupted chunks in weight and in number."""
    rows = [(effective_sample_size(run.weight) / len(run), share_of_weight(run.weight, run.corrupted),
             run.corrupted.mean()) for _, run in chunks.groupby("run", observed=True)]
    size, share, data = (mean_over_runs(values, within=SHARE) for values in zip(*rows, strict=True))
    return size, share, data


def crosswise(episodes: pd.DataFrame, corruption: str) -> str:
    """A sentence of Markdown on WIDER's gains that only hold while scenes are drawn anew for every training seed: few
    seeds met the same scenes, and drawing these once for all seeds is the more cautious interval. Empty where no gain
    depends on it."""
    there, told = set(episodes[episodes.corruption == corruption].method), []
    for baseline, words in (("sft", "SFT"), (f"{WIDER}_random", "its own weights on other episodes"),
                            (CLOSER, "its own weights on episodes alike")):
        terms = {(WIDER, corruption): 1.0, (baseline, corruption): -1.0}
        if {WIDER, baseline} <= there:
            mine = alike(episodes, terms)
            usual, cautious = compare(mine, terms), crossed_bootstrap(paired_values(mine, terms))
            if usual.low > 0 >= cautious.low:
                told.append(f"minus {words} {cautious.text(100, sign=True)} points")
    return (f"**With the scenes drawn once for all training runs it cannot be told:** {', '.join(told)}." if told
            else "")


def within_one_processor(episodes: pd.DataFrame, provenance: pd.DataFrame, corruption: str) -> str:
    """A sentence of Markdown: WIDER against SFT and its control over those training seeds alone whose runs were made
    alike (:func:`ptrlib.report.results.made_alike`); empty where those are all or none."""
    told = []
    for baseline, words in (("sft", "SFT"), (f"{WIDER}_random", "its own weights on other episodes")):
        seeds = made_alike(provenance, WIDER, baseline, corruption)
        if seeds:
            terms = {(WIDER, corruption): 1.0, (baseline, corruption): -1.0}
            part = points("", episodes[episodes.training_seed.isin(seeds)], terms, "it is ahead", "it is behind")
            told.append(f"minus {words} {part.number} (seed{'s' if len(seeds) > 1 else ''} "
                        f"{' and '.join(map(str, seeds))}): **{part.answer}**")
    return ("Over those training seeds alone whose runs of both are known to be of one kind of processor, one "
            f"arithmetic and one recording of the demonstrations: {'; '.join(told)}." if told else "")


def question_table(weights: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """:func:`discrimination` as text, a row per rule and a column per corruption."""
    told = discrimination(weights[weights.method != "sft"], methods)
    if told.empty:
        return told
    text = [Interval(row.estimate, row.low, row.high, row.count).text(digits=2) for row in told.itertuples()]
    table = told.assign(text=text).pivot(index="method", columns="group", values="text")
    table = table.loc[in_order(told.method), list(dict.fromkeys(told.group))].fillna("–")
    return table.rename(index=alone).rename_axis(index="AUROC of", columns=None)


def of_starts(weights: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What our two rules tell with features of different start policies, named by the keys of ``weights``: a row per
    rule and start, as text, with the AUROC of any corruption and of each alone, and the share of the weight that
    corrupted chunks get."""
    rows = []
    for rule in RULES:
        for words, table in weights.items():
            mine = table[(table.method == rule) & (table.split == "train")]
            if mine.empty:
                continue
            told, (_, share, data) = truth_auroc(mine, rule), _moved(mine)
            kinds = {row.group: Interval(row.estimate, row.low, row.high, row.count).text(digits=3)
                     for row in discrimination(mine, [rule]).itertuples()}
            rows.append({"rule": method_label(rule), "the start policy learned": words, "runs": mine.run.nunique(),
                         "any corruption": told.text(digits=3) if told else "–", **kinds,
                         "corrupted chunks (%)": data.text(100, digits=0),
                         "their share of the weight (%)": share.text(100, digits=0)})
    return pd.DataFrame(rows)


def of_clip(clipped: Sequence[StoredRun], unclipped: Sequence[StoredRun], corruption: str) -> pd.DataFrame:
    """What the clip on the gradient's norm does to each method of both whose runs differ in nothing else: a row per
    method, as text, with the share of its logged steps in which it binds, and success without it minus with it in the
    same scenes."""
    known = {_but_clip(run) for run in unclipped}
    clipped = [run for run in clipped if run.setting.config.data.corruption == corruption and _but_clip(run) in known]
    if not clipped:
        return pd.DataFrame()
    before, after, metrics = episodes_frame(clipped), episodes_frame(unclipped), metrics_frame(clipped)
    episodes = pd.concat([before, after.assign(method=after.method.astype(str) + UNCLIPPED)], ignore_index=True)
    bounds = {run.name: run.setting.config.gradient_clip for run in clipped}
    binds = metrics.assign(binds=metrics.gradient_norm > metrics.run.astype(str).map(bounds).astype(float))
    rows = []
    for method in in_order(before.method):
        mine = binds[binds.method == method].groupby("run", observed=True).binds.mean()
        terms = {(method + UNCLIPPED, corruption): 1.0, (method, corruption): -1.0}
        told = points("", episodes, terms, "better", "worse")
        rows.append({"method": method_label(method), "clipped in (% of steps logged)": mean_over_runs(
            mine, within=SHARE).text(100, digits=0), "training runs": len(mine),
            "without the clip, minus with it": told.number, "it does": told.answer})
    return pd.DataFrame(rows)


def _but_clip(run: StoredRun) -> tuple[str, str]:
    return run.setting.method, fingerprint(override(run.setting.config, {"gradient_clip": 1.0}))


def ingredients(episodes: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """Each rule with one thing changed, minus the rule as it is: ``rule``, ``changed``, ``runs`` (training seeds),
    ``number``, ``answer`` and the interval of the paired difference."""
    there, rows = set(zip(episodes.method, episodes.corruption, strict=True)), []
    for rule, variants in INGREDIENTS.items():
        for variant, words in variants.items():
            terms = {(variant, corruption): 1.0, (rule, corruption): -1.0}
            if set(terms) <= there:
                told = points("", episodes, terms, "better", "worse")
                rows.append({"rule": method_label(rule), "changed": words, "runs": alike(
                    episodes, terms).training_seed.nunique(), **asdict(told)})
    return pd.DataFrame(rows).drop(columns="question", errors="ignore")


def against_divergence(episodes: pd.DataFrame, measured: pd.DataFrame, corruption: str) -> tuple[Figure, pd.DataFrame]:
    """Recovery of the gap beside how far the weighted data are from the data: a row per rule that weights, the farthest
    first. KL(q||p) is a mean over runs; ``sharp_bound`` is its least upper bound for the run's clip, ``bound`` Eq 26's.
    """
    rows = []
    for method, cell in measured[measured.corruption == corruption].groupby("method"):
        rows.append({"method": method, "runs": len(cell), "divergence": cell.divergence.mean(),
                     "sharp_bound": cell.sharp_bound.mean(), "bound": cell.bound.mean(),
                     **vars(recovery(episodes, str(method), corruption))})
    drawn = pd.DataFrame(rows).sort_values("divergence", ascending=False, ignore_index=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(5.8, 0.28 * len(drawn) + 1.3), sharey=True,
                                         width_ratios=[3, 2])
    colours = [method_colour(method) if method in RULES else COLOURS["black"] for method in drawn.method]
    for place, (row, colour) in enumerate(zip(drawn.itertuples(), colours, strict=True)):
        ends = np.nan_to_num([[row.estimate - row.low], [row.high - row.estimate]]).clip(0)
        left.errorbar(100 * row.estimate, place, xerr=100 * ends, fmt="o", color=colour, markersize=4.5, capsize=2,
                      linewidth=1.2)
        right.plot([row.divergence, row.sharp_bound], [place, place], color=COLOURS["grey"], linewidth=0.8)
    right.scatter(drawn.divergence, drawn.index, color=colours, s=20, zorder=3, label="of the weights")
    right.plot(drawn.sharp_bound, drawn.index, "|", color=COLOURS["vermillion"], markersize=9,
               label="least upper bound")
    right.plot(drawn.bound, drawn.index, "|", color=COLOURS["grey"], markersize=9, label="Eq 26")
    left.axvline(0, color=COLOURS["grey"], linewidth=0.8)
    left.axvline(100 * RECOVERY_GOAL, color=COLOURS["grey"], linewidth=0.8, linestyle=":")
    left.set(xlabel="share of the gap won back (%)", yticks=drawn.index, ylim=(len(drawn) - 0.5, -0.5),
             yticklabels=[alone(method) for method in drawn.method])
    right.set(xlabel="KL(q‖p) (nats)", xscale="log")
    right.xaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure, drawn


def elsewhere_table(episodes: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """What every rule comes to in another world, a row per rule, as text: success (%), the paired difference to SFT
    (points) and the share of the gap between SFT and the oracle that it wins back (%). The difference is over the
    training seeds that both have: so many episodes of each."""
    mine = episodes[episodes.corruption == corruption]
    rates, won = success_rates(mine, ("method",)).set_index("method"), recoveries(episodes, corruption)
    beside = differences(mine)
    rows = []
    for method in in_order(rates.index):
        rate = rates.loc[method]
        cells = [next((Interval(row.estimate, row.low, row.high, row.count) for row in table.itertuples()
                       if row.method == method), None) for table in (beside, won)]
        rows.append({"rule": method_label(method), "episodes": int(rate.episodes),
                     "success (%)": Interval(rate.success, rate.low, rate.high, rate.episodes).text(100),
                     "episodes compared": str(cells[0].count) if cells[0] else "–",
                     "minus SFT's (points)": cells[0].text(100, sign=True) if cells[0] else "–",
                     "share of the gap (%)": cells[1].text(100, digits=0) if cells[1] else "–"})
    return pd.DataFrame(rows)


def elsewhere_auroc(weights: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """:func:`discrimination` of PTR and of our rules in each world, named by its key; a panel per world."""
    tables = [discrimination(table, [rule for rule in ("ptr", *RULES, WIDER) if rule in set(table.method)]).assign(
        kind=world) for world, table in weights.items()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def elsewhere_auroc_table(drawn: pd.DataFrame) -> pd.DataFrame:
    """:func:`elsewhere_auroc` as text: a row per world and corruption, a column per rule."""
    cells = drawn.assign(cell=[f"{row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in drawn.itertuples()],
                         rule=drawn.method.map(method_label), hit=drawn.corruption.map(corruption_label))
    table = cells.pivot(index=["kind", "hit"], columns="rule", values="cell").fillna("–")
    rows = list(dict.fromkeys(zip(cells.kind, cells.hit, strict=True)))
    return table.loc[rows, list(dict.fromkeys(cells.rule))].rename_axis(None, axis=1).rename_axis(
        ["world", "chunks with"]).reset_index()


def executed_verdicts(episodes: pd.DataFrame, weights: pd.DataFrame) -> pd.DataFrame:
    """g. Does our second rule see noise that the robot executed, and does it win anything there?"""
    kind, rows = "action_noise", []
    told = truth_auroc(weights, SECOND)
    if told is not None:
        rows.append(Verdict("g. Does the score of the second rule tell executed noise?", f"AUROC {told.text(digits=2)}",
                            answer(told.low - 0.5, told.high - 0.5, "yes", "no, it is the other way round"),
                            told.estimate, told.low, told.high))
    shuffled = "Do its weights beat the same weights given to other episodes?"
    for method, baseline, question in (
            ("oracle", "sft", "g. Does it help to leave those episodes out (the oracle filter)?"),
            (SECOND, "sft", "g. Does the second rule beat SFT there?"),
            (SECOND, f"{SECOND}_random", f"g. {shuffled}"),
            (WIDER, "sft", "g. Does the second rule beat SFT between wider bounds?"),
            (WIDER, f"{WIDER}_random", f"g. Wider bounds: {shuffled}")):
        if {(method, kind), (baseline, kind)} <= set(zip(episodes.method, episodes.corruption, strict=True)):
            terms = {(method, kind): 1.0, (baseline, kind): -1.0}
            rows.append(points(question, episodes, terms, "yes", "no, it loses"))
    return pd.DataFrame([asdict(verdict) for verdict in rows])


def verdicts(episodes: pd.DataFrame, weights: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """A row per question about our rules that the runs can answer: question, number, answer, the interval behind it."""
    return pd.DataFrame([asdict(verdict) for verdict in [
        *score_verdicts(weights, TOLD, REMEMBERED), *_contrasts(episodes, corruption)]])


def _contrasts(episodes: pd.DataFrame, corruption: str) -> Iterator[Verdict]:
    there = set(zip(episodes.method, episodes.corruption, strict=True))
    yield from _goals(episodes, corruption, there)
    for rule, others in RIVALS.items():
        for baseline, words in others.items():
            if {(rule, corruption), (baseline, corruption)} <= there:
                yield points(f"e. Does {NAMES[rule]} beat {words}?", episodes,
                             {(rule, corruption): 1.0, (baseline, corruption): -1.0}, "yes", "no, it is behind")


def _goals(episodes: pd.DataFrame, corruption: str, there: set[tuple[str, str]]) -> Iterator[Verdict]:
    """The two goals of the protocol: the gap that is won back, and no loss on clean data."""
    for rule, name in NAMES.items():
        if {(rule, corruption), ("oracle", corruption), ("sft", corruption)} <= there:
            share = recovery(episodes, rule, corruption)
            told = {"reaches": "yes", "misses": "no"}.get(_goal(share), "cannot be told")
            yield Verdict(f"e. Does {name} win back {RECOVERY_GOAL:.0%} of the gap to the oracle filter?",
                          f"{share.text(100, digits=0)} %", told, share.estimate, share.low, share.high)
        if {(rule, "none"), ("sft", "none")} <= there:
            yield points(f"e. Does {name} cost success on clean data?", episodes,
                         {(rule, "none"): 1.0, ("sft", "none"): -1.0}, "no, it gains", "yes")


def _goal(share: Interval) -> str:
    return ("reaches" if share.low >= RECOVERY_GOAL else "misses" if share.high < RECOVERY_GOAL
            else "cannot be told from")
