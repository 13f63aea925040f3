"""The paper's printed numbers, and what its own arithmetic says about them.

``experiments/published`` holds every number of Tables 1-6, of Figure 2 and of the running text, as
printed. :func:`audit` recomputes whatever can be recomputed from other printed numbers. A recomputed
value may miss the printed one by the rounding of its inputs; the verdict tells the cases apart:

- ``agrees``: the recomputed value, rounded as printed, is the printed one;
- ``within rounding``: it is not, but unrounded inputs exist that would make it so;
- ``disagrees``: no such inputs exist;
- ``in tension``: both could be literally true, but not in the way the paper reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ptrlib.config import PTRConfig
from ptrlib.report import REPOSITORY

PUBLISHED = REPOSITORY / "experiments" / "published"
AGREES, WITHIN_ROUNDING, DISAGREES, TENSION = "agrees", "within rounding", "disagrees", "in tension"
HALF_DIGIT = 0.05  # success rates are printed with one decimal
EPSILON = 1e-9

# Tasks per category of RoboCasa's 24 atomic tasks, as that benchmark publishes them; the PTR paper prints none.
ROBOCASA_CATEGORY_TASKS = {"Pick&Pl.": 8, "Door/Dr.": 6, "Others": 10}


@dataclass(frozen=True)
class Check:
    """One claim of the paper beside what its own numbers give."""

    source: str  # table, figure or section of the paper
    claim: str
    printed: str
    recomputed: str
    verdict: str


def read(name: str) -> pd.DataFrame:
    """One published file by its name without suffix, e.g. ``"table1_simulation"``; text stays text."""
    path = PUBLISHED / f"{name}.csv"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in PUBLISHED.glob("*.csv")))
        raise ValueError(f"There is no published table '{name}'; the tables are {known}.")
    return pd.read_csv(path, keep_default_na=False)


def statement(identifier: str) -> float:
    """The number of one statement of the running text, by its ``id`` in ``statements.csv``."""
    found = read("statements").query("id == @identifier")
    if found.empty:
        raise ValueError(f"statements.csv holds no statement '{identifier}'.")
    return float(found["value"].iloc[0])


def cell(address: str) -> float:
    """A printed success rate (percent) by its address ``table/method/benchmark/column``."""
    table, rest = address.split("/", 1)
    method = next((name for name in read(table)["method"].unique() if rest.startswith(f"{name}/")), None)
    if method is None:
        raise ValueError(f"{address} names no method of {table}.")
    benchmark, column = rest[len(method) + 1:].split("/", 1)
    return float(_wide(table).loc[method, (benchmark, column)])


def audit() -> pd.DataFrame:
    """Every check, one row each: source, claim, printed, recomputed, verdict."""
    checks = [*_averages(), *_differences(), *_counts(), *_ranges(), *_repeated_cells(), *_best_marks(), *_rankings(),
              *_granularity(), *_corruption_gains(), *_platforms(), *_controller(), *_weights(), *_defaults(),
              *_definitions()]
    return pd.DataFrame([asdict(check) for check in checks])


def sampling_uncertainty() -> pd.DataFrame:
    """PTR minus SFT for each headline comparison, with the sampling error its number of episodes implies.

    Returns one row per comparison: ``episodes`` per method, ``difference`` (points), ``low`` and ``high``
    (95 % normal interval of the difference of two independent proportions, points). The paper prints no
    intervals. Episodes are taken as independent, which is the optimistic case: one checkpoint per method
    leaves the variation between training runs out.
    """
    libero, robocasa = statement("libero_episodes"), statement("robocasa_trials")
    suite, real = statement("real_trials_per_suite"), statement("real_trials")
    comparisons = [("LIBERO, clean", libero, "table1_simulation/{}/LIBERO/Avg", "PTR", "SFT"),
                   ("RoboCasa, clean", robocasa, "table1_simulation/{}/RoboCasa/Avg", "PTR", "SFT"),
                   ("Real robots, specialist", real, "table4_real_robot/{}/Overall/Overall average",
                    "PTR-Specialist", "SFT-Specialist"),
                   ("Real robots, generalist", real, "table4_real_robot/{}/Overall/Overall average",
                    "PTR-Generalist", "SFT-Generalist")]
    for name in ("Bimanual", "Long-Horizon", "Spatial", "Robust"):
        for setting in ("Specialist", "Generalist"):
            comparisons.append((f"{name}, {setting.lower()}", suite, f"table3_generalist/{{}}/Real robot/{name}",
                                f"PTR-{setting}", f"SFT-{setting}"))
    rows = []
    for name, episodes, address, ours, theirs in comparisons:
        a, b = cell(address.format(ours)) / 100, cell(address.format(theirs)) / 100
        error = 1.96 * math.sqrt(a * (1 - a) / episodes + b * (1 - b) / episodes)
        rows.append({"comparison": name, "episodes": int(episodes), "difference": 100 * (a - b),
                     "low": 100 * (a - b - error), "high": 100 * (a - b + error)})
    return pd.DataFrame(rows)


# Averages, differences, counts -----------------------------------------------------------------------


def _averages() -> Iterator[Check]:
    """Tables 1 and 5 (suites and categories), 3 (overall), 4 (suites and overall)."""
    for table, title in (("table1_simulation", "Table 1"), ("table5_ablation", "Table 5")):
        wide = _wide(table)
        for method, benchmark in product(wide.index, ("LIBERO", "RoboCasa")):
            row = wide.loc[method, benchmark].astype(float)
            # LIBERO's suites hold 500 episodes: a printed decimal is exact. RoboCasa's categories are rounded.
            inputs = 0.0 if benchmark == "LIBERO" else HALF_DIGIT
            yield _compare(title, f"{method}: {benchmark} average", row["Avg"], row.drop("Avg").mean(), inputs)
    wide = _wide("table3_generalist")
    for method in wide.index:
        row = wide.loc[method].astype(float)
        real = row["Real robot"].mean()
        mean = np.mean([row["Simulation", "LIBERO"], row["Simulation", "RoboCasa"], real])
        yield _compare("Table 3", f"{method}: overall average", row["Overall", "Overall"], float(mean), HALF_DIGIT)
    tasks, averages = _real_robot()
    for (suite, method), value in averages.items():
        chosen = tasks[tasks["method"] == method]
        chosen = chosen if suite == "Overall" else chosen[chosen["suite"] == suite]
        yield _compare("Table 4", f"{method}: {suite} average", value, chosen["success_percent"].mean(), 0.0)
    for method in _wide("table1_simulation").index:
        row = _wide("table1_simulation").loc[method, "RoboCasa"].astype(float)
        sizes = pd.Series(ROBOCASA_CATEGORY_TASKS)
        weighted = float((row[sizes.index] * sizes).sum() / sizes.sum())
        yield _compare("Table 1", f"{method}: RoboCasa average as a mean over the 24 tasks "
                                  f"({' + '.join(map(str, sizes))} per category in RoboCasa)", row["Avg"], weighted,
                       HALF_DIGIT)


def _differences() -> Iterator[Check]:
    """Every gain and drop of the text against the cells it subtracts; Table 5's reference to Table 1 as well."""
    for row in read("differences").itertuples():
        difference = cell(str(row.minuend)) - cell(str(row.subtrahend))
        # A Table 4 average has 20 trials a task behind it and is recomputed exactly; other cells are rounded.
        yield _compare(f"Section {row.section}", f"“{row.quote}” ({_readable(row.minuend)} − "
                       f"{_readable(row.subtrahend)})", float(row.printed_points), difference, HALF_DIGIT,
                       terms=2.0)
    for benchmark in ("LIBERO", "RoboCasa"):
        gap = float(read("differences").set_index("id").loc[f"ablation_alpha_zero_{benchmark.lower()}",
                                                            "printed_points"])
        table1 = cell(f"table1_simulation/PTR/{benchmark}/Avg") - cell(f"table1_simulation/SFT+Belief/{benchmark}/Avg")
        yield Check("Section 5.5", f"α = 0 trails PTR on {benchmark} “consistent with Table 1”", f"{gap:.1f}",
                    f"{table1:.1f} in Table 1", AGREES if abs(gap - table1) < HALF_DIGIT else DISAGREES)


def _counts() -> Iterator[Check]:
    """'8 of 12 tasks' and its kin, recounted from Table 4; episodes multiplied out."""
    tasks, _ = _real_robot()
    wide = tasks.pivot(index=["suite", "task"], columns="method", values="success_percent")
    pairs = {"specialist": wide["PTR-Specialist"] - wide["SFT-Specialist"],
             "generalist": wide["PTR-Generalist"] - wide["SFT-Generalist"],
             "cross": wide["PTR-Generalist"] - wide["SFT-Specialist"]}
    text = {"specialist": "PTR against SFT, specialists", "generalist": "PTR against SFT, generalists",
            "cross": "generalist PTR against specialist SFT"}
    recounted = {"wins": lambda gain: (gain > 0).sum(), "ties": lambda gain: (gain == 0).sum(),
                 "losses": lambda gain: (gain < 0).sum()}
    stated = set(read("statements")["id"])
    for (pair, gain), (outcome, count) in product(pairs.items(), recounted.items()):
        if f"{pair}_{outcome}" in stated:
            yield _exact("Section 5.4", f"{text[pair]}: {outcome} among 12 tasks", statement(f"{pair}_{outcome}"),
                         count(gain))
    suites = _wide("table3_generalist")["Real robot"].astype(float)
    won = (suites.loc["PTR-Specialist"] > suites.loc["SFT-Specialist"]).sum()
    yield _exact("Section 5.4", "real-robot suites that specialist PTR wins", statement("suites_won"), won)
    yield _exact("Section 5.4", "real-robot tasks in Table 4", statement("real_tasks"), len(wide))
    yield _exact("Section 5.4", "real-robot trials in all", statement("real_trials"),
                 statement("real_tasks") * statement("real_trials_per_task"))
    yield _exact("Section 5.4", "real-robot trials per suite", statement("real_trials_per_suite"),
                 wide.groupby("suite").size().iloc[0] * statement("real_trials_per_task"))
    yield _exact("Section 5.1", "LIBERO episodes per suite", statement("libero_episodes_per_suite"),
                 statement("libero_tasks_per_suite") * statement("libero_episodes_per_task"))
    yield _exact("Section 5.1", "LIBERO episodes in all", statement("libero_episodes"),
                 4 * statement("libero_episodes_per_suite"))
    yield _exact("Section 5.1", "RoboCasa trials in all", statement("robocasa_trials"),
                 statement("robocasa_tasks") * statement("robocasa_trials_per_task"))
    smaller = (pairs["generalist"] <= pairs["specialist"]).sum()
    yield Check("Section 5.4", "“The PTR-SFT improvement is consistently larger in the generalist setting”, by task",
                "larger on 12 of 12", f"larger on {len(wide) - smaller}, equal or smaller on {smaller}",
                AGREES if smaller == 0 else TENSION)


def _ranges() -> Iterator[Check]:
    """Ranges the text states over a whole table or figure."""
    averages = _wide("table1_simulation")["LIBERO"]["Avg"].astype(float)
    for identifier, value in (("libero_lowest", averages.min()), ("libero_highest", averages.max())):
        yield _exact("Section 5.2", f"near ceiling: {identifier.replace('_', ' ')} average", statement(identifier), value)
    least = statement("loss_start_low") / statement("loss_end_high")
    yield Check("Section 5.6", "action loss falls by over an order of magnitude for all settings", "> 10",
                f"at least {least:.0f}", AGREES if least > 10 else DISAGREES)


# The same number in two places ------------------------------------------------------------------------


def _repeated_cells() -> Iterator[Check]:
    """Rows that two tables print: Tables 1 and 5 (PTR; SFT+Belief), 1 and 3 (averages), 3 and 4 (suites)."""
    first, ablation = _wide("table1_simulation"), _wide("table5_ablation")
    for mine, other in (("PTR", "PTR (full)"), ("SFT+Belief", "alpha=0 (SFT+Belief)")):
        for benchmark, column in first.columns:
            a, b = float(first.loc[mine, (benchmark, column)]), float(ablation.loc[other, (benchmark, column)])
            yield Check("Tables 1 and 5", f"{mine}, {benchmark} {column}", f"{a:.1f} in Table 1",
                        f"{b:.1f} in Table 5", AGREES if a == b else DISAGREES)
    generalist = _wide("table3_generalist")
    for method, benchmark in product(("SFT", "PTR"), ("LIBERO", "RoboCasa")):
        a = float(first.loc[method, (benchmark, "Avg")])
        b = float(generalist.loc[f"{method}-Specialist", ("Simulation", benchmark)])
        yield Check("Tables 1 and 3", f"{method} specialist, {benchmark}", f"{a:.1f} in Table 1", f"{b:.1f} in Table 3",
                    AGREES if a == b else DISAGREES)
    _, averages = _real_robot()
    for (suite, method), value in averages.items():
        if suite != "Overall":
            b = float(generalist.loc[method, ("Real robot", suite)])
            yield Check("Tables 3 and 4", f"{method}, {suite}", f"{b:.1f} in Table 3", f"{value:.1f} in Table 4",
                        AGREES if value == b else DISAGREES)


def _best_marks() -> Iterator[Check]:
    """Bold must be the column's best and underline its second best."""
    for table in ("table1_simulation", "table3_generalist", "table5_ablation"):
        frame = read(table)
        for (benchmark, column), group in frame.groupby(["benchmark", "column"], sort=False):
            order = sorted(group["success_percent"].astype(float).unique(), reverse=True)
            wrong = [f"{row.method} ({row.success_percent}) {row.mark}" for row in group.itertuples()
                     if row.mark and float(str(row.success_percent)) != order[{"bold": 0, "underlined": 1}[str(row.mark)]]]
            best = group[group["success_percent"].astype(float) == order[0]]
            unmarked = [f"{row.method} ({row.success_percent}) not bold" for row in best.itertuples()
                        if row.mark != "bold"]
            if wrong or unmarked:
                second = " and ".join(group[group["success_percent"].astype(float) == order[1]]["method"])
                yield Check(f"Table {table[5]}", f"marks of {benchmark} {column}: bold is best, underlined second best",
                            "; ".join(dict.fromkeys(wrong + unmarked)), f"second best is {second} ({order[1]})",
                            DISAGREES)


def _rankings() -> Iterator[Check]:
    """Sentences that rank rows of a table."""
    ablation = _wide("table5_ablation")
    for benchmark in ("LIBERO", "RoboCasa"):
        drop = (float(ablation.loc["PTR (full)", (benchmark, "Avg")]) - ablation[benchmark]["Avg"].astype(float))
        worst = drop.sort_values(ascending=False)
        yield Check("Section 5.5", f"“Weight clipping is the most critical component”, EMA second, on {benchmark}",
                    "w/o clipping, then w/o EMA", ", then ".join(f"{name} (−{value:.1f})"
                                                                for name, value in worst.head(2).items()),
                    AGREES if worst.index[0] == "w/o clipping" else DISAGREES)
    sft = cell("table1_simulation/SFT/LIBERO/Object")
    for table, row in (("table1_simulation", "PTR"), ("table5_ablation", "PTR (full)")):
        ptr = cell(f"{table}/{row}/LIBERO/Object")
        yield Check("Section 5.2", f"“PTR leads on Object”, with Table {table[5]}'s PTR", f"above SFT's {sft:.1f}",
                    f"{ptr:.1f}", AGREES if ptr > sft else DISAGREES)


def _granularity() -> Iterator[Check]:
    """Can the printed percentages be counts of the stated number of trials at all?"""
    cells = pd.concat([read("table1_simulation"), read("table5_ablation")])
    suites = cells[(cells["benchmark"] == "LIBERO") & (cells["column"] != "Avg")]["success_percent"].astype(float)
    yield _possible("Tables 1 and 5", "LIBERO suites are counts out of 500 episodes", suites.tolist(),
                    int(statement("libero_episodes_per_suite")))
    tasks, _ = _real_robot()
    yield _possible("Table 4", "real-robot tasks are counts out of 20 trials", tasks["success_percent"].tolist(),
                    int(statement("real_trials_per_task")))
    per_task = int(statement("robocasa_trials_per_task"))
    for category, count in ROBOCASA_CATEGORY_TASKS.items():
        values = cells[cells["column"] == category]["success_percent"].astype(float).tolist()
        yield _possible("Tables 1 and 5", f"RoboCasa {category} values are counts out of {count} tasks × {per_task} "
                        "trials (RoboCasa's category sizes)", values, count * per_task)
    splits = _possible_category_sizes(cells, int(statement("robocasa_tasks")), per_task)
    yield Check("Tables 1 and 5", "some split of the 24 RoboCasa tasks into three categories, 50 trials each, gives all "
                "printed category values", "a split exists",
                f"{len(splits)} splits do" + (f", e.g. {splits[0]}" if splits else ""), AGREES if splits else DISAGREES)


def _corruption_gains() -> Iterator[Check]:
    """Section 5.3: clean value minus stated drop, PTR minus SFT."""
    drops = read("figure2_drops").set_index(["corruption", "benchmark", "method"])["drop_points"].astype(float)
    gaps: dict[tuple[str, str], float] = {}
    for corruption, benchmark in dict.fromkeys((key[0], key[1]) for key in drops.index):
        left = {method: cell(f"table1_simulation/{method}/{benchmark}/Avg") - drops[corruption, benchmark, method]
                for method in ("SFT", "PTR")}
        gaps[corruption, benchmark] = left["PTR"] - left["SFT"]
    for benchmark in ("LIBERO", "RoboCasa"):
        yield _compare("Section 5.3", f"PTR's gain over SFT under Combined on {benchmark} (Table 1 minus the drops)",
                       statement(f"gain_combined_{benchmark.lower()}"), gaps["Combined", benchmark], HALF_DIGIT, terms=4)
    both = [corruption for corruption, benchmark in gaps if benchmark == "RoboCasa"]
    larger = [corruption for corruption in both if gaps[corruption, "RoboCasa"] > gaps[corruption, "LIBERO"]]
    yield Check("Section 5.3", "RoboCasa shows larger gaps than LIBERO under all corruption types (the text states no "
                "RoboCasa drop for action noise)", f"{len(both)} of {len(both)}", f"{len(larger)} of {len(both)}",
                AGREES if larger == both else DISAGREES)


def _platforms() -> Iterator[Check]:
    """Table 2: degrees of freedom add up."""
    for row in read("table2_platforms").itertuples():
        total = row.waist + row.head + row.arms + row.hands  # type: ignore[operator]
        yield _exact("Table 2", f"{row.platform}: degrees of freedom", row.dof, total)


# The method's own arithmetic --------------------------------------------------------------------------


def _controller() -> Iterator[Check]:
    """Section 4.5's rule against the end points of Section 5.6."""
    config = PTRConfig()
    down = statement("confident_factor")
    steps = math.ceil(math.log(statement("tau_final") / config.tau) / math.log(down))
    beta = max(config.beta * down ** steps, config.beta_min)
    yield Check("Sections 4.5 and 5.6", f"τ falls from {config.tau} to {statement('tau_final')} while β ends near "
                f"{statement('beta_final')}, both multiplied by the same {down}", f"β = {statement('beta_final')}",
                f"β = {beta:.2f} (its floor) after the {steps} steps that take τ to {statement('tau_final')}",
                AGREES if abs(beta - statement("beta_final")) < HALF_DIGIT else DISAGREES)
    needed = math.ceil(math.log(statement("beta_final") / config.beta) / math.log(down))
    tau = config.tau * down ** needed
    yield Check("Sections 4.5 and 5.6", f"the same the other way: β at {statement('beta_final')} needs {needed} steps "
                "down", f"τ = {statement('tau_final')}", f"τ = {tau:.3f}",
                AGREES if abs(tau - statement("tau_final")) < 0.005 else DISAGREES)
    negatives = config.optimization.batch_size - 1 + config.queue_negatives
    chance = 1 / (negatives + 1)
    raises = math.ceil(math.log(config.tau_max / config.tau) / math.log(statement("weak_factor")))
    yield Check("Sections 4.5 and 5.6", "τ “stays near its initial value of 0.12” while the scorer is untrained",
                "τ ≈ 0.12", f"chance accuracy 1/{negatives + 1} = {chance:.4f} is below {statement('weak_below')}: the "
                f"rule raises τ at every logging step and reaches its ceiling {config.tau_max} in {raises}", TENSION)
    reach = config.logit_clamp * statement("tau_final")
    yield Check("Sections 4.5 and 5.6, Table 6", "the logit clamp of 20 is a safeguard at the final τ",
                "cosine up to 1", f"at τ = {statement('tau_final')} every cosine above {reach:.2f} is clamped",
                AGREES if reach >= 1 else TENSION)


def _weights() -> Iterator[Check]:
    """What the reported scores imply for the weights of Eq 21 and the bounds of Section 4.4."""
    config = PTRConfig()
    yield _compare("Section 4.4", "KL bound log(w_max / w_min)", statement("kl_bound"),
                   math.log(config.w_max / config.w_min), 0.0, half_printed=0.005)
    yield _exact("Section 4.4", "largest source share ratio w_max / w_min", statement("share_bound"),
                 config.w_max / config.w_min)
    lowest, highest = statement("score_slow_low"), statement("score_fast_high")
    candidates = config.optimization.batch_size + config.queue_negatives
    yield Check("Sections 4.2 and 5.6", "the highest reported score stays below its maximum log|Y|",
                f"{highest}", f"log {candidates} = {math.log(candidates):.2f}",
                AGREES if highest < math.log(candidates) else DISAGREES)
    threshold = config.beta * math.log(config.w_max)
    yield Check("Sections 4.2 and 5.6", "scores concentrate where weights differ (“ambiguous samples concentrate near "
                f"0”; β = {config.beta})", f"final mean scores {lowest}-{highest}",
                f"every score above β log w_max = {threshold:.2f} has weight {config.w_max}: the mean sample of every "
                "setting is clipped", TENSION if lowest > threshold else AGREES)
    below, above = (math.exp(score / config.beta) for score in (lowest, highest))
    limit = statement("unclipped_above")
    yield Check("Section 5.6", f"without clipping “a small fraction of samples receive weights above {limit:.0f}”",
                "a small fraction", f"exp(T/β) of the reported mean scores is already {below:.1f}-{above:.1f} at "
                f"β = {config.beta}, {math.exp(lowest / statement('beta_final')):.1f}-"
                f"{math.exp(highest / statement('beta_final')):.1f} at β = {statement('beta_final')}",
                TENSION if above > limit else AGREES)
    yield Check("Sections 4.2 and 4.4", "a chunk without a valid target (w = 1) “contributes exactly as in uniform "
                "post-training”, under the self-normalised Eq 27", "relative weight 1",
                f"1 / mean(w): between {1 / config.w_max:.2f} and {1 / config.w_min:.0f}, and {1 / config.w_max:.2f} "
                "when the rest sit at the upper clip", DISAGREES)
    uniform = math.log(config.base_policy.chunk_length)
    yield Check("Section 5.6, Eq 10", "belief-token entropy starts at 0.3-0.5",
                f"{statement('entropy_start_low')}-{statement('entropy_start_high')} nats",
                f"near-uniform assignment over L = {config.base_policy.chunk_length} steps, as from small initial "
                f"weights, has log L = {uniform:.2f} nats", TENSION)


def _defaults() -> Iterator[Check]:
    """Table 6 against our PTRConfig, and against what the text needs beyond it."""
    table = read("table6_defaults")
    config = PTRConfig()
    known = [row for row in table.itertuples() if row.field]
    wrong = [str(row.field) for row in known if _float(_field(config, str(row.field))) != _float(row.value)]
    yield Check("Table 6", "ptrlib's defaults are the paper's", f"{len(known)} values",
                f"{len(known) - len(wrong)} equal" + (f"; differ: {', '.join(wrong)}" if wrong else ""),
                DISAGREES if wrong else AGREES)
    printed = {str(row.field) for row in known}
    absent = [name for name in _field_names(config) if name not in printed]
    yield Check("Table 6", "“the complete hyperparameter configuration”", "complete",
                f"{len(absent)} values that the method needs are not in it: {', '.join(absent)}; nor are Δ and the "
                "logging interval of the controller", DISAGREES if absent else AGREES)


def _definitions() -> Iterator[Check]:
    """Words that the paper uses for two different things."""
    yield Check("Sections 4.4, 5.1, 5.5", "what α = 0 is", "“SFT sets α = 0 in Eq (21)” (5.1); “α → 0 recovers uniform "
                "SFT” (4.4)", "“Setting α = 0 recovers SFT+Belief” (5.5, Table 5); by Eq 32 both keep the gradients of "
                "L_id and L_rank in the shared backbone", DISAGREES)
    yield Check("Section 4.2", "the action-channel projector g_φ “in Eq (3)”", "Eq 3", "g_φ is defined in Eq 4",
                DISAGREES)
    yield Check("Section 4.3", "the weight solves “a KL-regularized score-maximization problem (Eq (21))”", "Eq 21",
                "the problem is Eq 19; Eq 21 is the clipped weight, which does not solve it", DISAGREES)
    yield Check("Section 4.5", "the controller acts on four monitored statistics", "4",
                "the update rule reads two, accuracy and margin; mean score and valid ratio change nothing", TENSION)


# Pieces -----------------------------------------------------------------------------------------------


def _compare(source: str, claim: str, printed: float, recomputed: float, half_input: float, *, terms: float = 1.0,
             half_printed: float = HALF_DIGIT) -> Check:
    """A check of a printed number whose inputs are rounded to ``half_input``; ``terms`` of them add up."""
    error = abs(recomputed - printed)
    if error <= half_printed + EPSILON:
        verdict = AGREES
    elif error < half_printed + terms * half_input - EPSILON:
        verdict = WITHIN_ROUNDING
    else:
        verdict = DISAGREES
    digits = 1 if half_printed == HALF_DIGIT else 2
    return Check(source, claim, f"{printed:.{digits}f}", f"{recomputed:.{digits + 1}f}", verdict)


def _exact(source: str, claim: str, printed: object, recomputed: object) -> Check:
    first, second = float(str(printed)), float(str(recomputed))
    return Check(source, claim, f"{first:g}", f"{second:g}", AGREES if abs(first - second) < EPSILON else DISAGREES)


def _possible(source: str, claim: str, values: list[float], trials: int) -> Check:
    """Is every printed percentage the rounding of some count out of ``trials``?"""
    impossible = sorted({value for value in values if not _is_count(value, trials)})
    found = "all of them are" if not impossible else f"impossible: {', '.join(f'{value:.1f}' for value in impossible)}"
    return Check(source, claim, f"{len(values)} values", found, DISAGREES if impossible else AGREES)


def _is_count(percent: float, trials: int) -> bool:
    """Rounding half up, half down or to even: a count on the edge of the rounding interval passes."""
    nearest = round(percent * trials / 100)
    return any(abs(100 * count / trials - percent) <= HALF_DIGIT + EPSILON for count in (nearest - 1, nearest, nearest + 1))


def _possible_category_sizes(cells: pd.DataFrame, tasks: int, per_task: int) -> list[tuple[int, ...]]:
    """Sizes of the three categories, adding up to ``tasks``, for which every printed value is a count."""
    allowed = []
    for category in ROBOCASA_CATEGORY_TASKS:
        values = cells[cells["column"] == category]["success_percent"].astype(float)
        allowed.append([size for size in range(1, tasks) if all(_is_count(value, size * per_task) for value in values)])
    return [split for split in product(*allowed) if sum(split) == tasks]


def _wide(table: str) -> pd.DataFrame:
    """Methods as rows, (benchmark, column) as columns, in the paper's order, values as printed."""
    if table == "table4_real_robot":
        frame = read(table)
        shared = frame["task"].duplicated(keep=False) & (frame["platform"] != "") & frame["task"].isin(
            frame.groupby("task")["platform"].nunique().loc[lambda count: count > 1].index)
        frame.loc[shared, "task"] += " (" + frame["platform"] + ")"
        frame = frame.rename(columns={"suite": "benchmark", "task": "column"})
    else:
        frame = read(table)
    wide = frame.pivot(index="method", columns=["benchmark", "column"], values="success_percent")
    return wide.loc[frame["method"].unique(), list(dict.fromkeys(zip(frame["benchmark"], frame["column"], strict=True)))]


def _real_robot() -> tuple[pd.DataFrame, dict[tuple[str, str], float]]:
    """Table 4 as its 12 tasks (task names made unique by platform) and its printed averages by (suite, method)."""
    frame = read("table4_real_robot").astype({"success_percent": float})
    averages = frame[frame["platform"] == ""]
    tasks = frame[frame["platform"] != ""].assign(task=lambda rows: rows["task"] + ", " + rows["platform"])
    return tasks, {(row.suite, row.method): float(row.success_percent) for row in averages.itertuples()}  # type: ignore[misc,arg-type]


def _readable(address: object) -> str:
    table, rest = str(address).split("/", 1)
    return f"Table {table[5]} {rest.replace('/', ' ')}"


def _field(config: object, dotted: str) -> object:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def _field_names(config: object, prefix: str = "") -> Iterator[str]:
    for entry in fields(config):  # type: ignore[arg-type]
        value = getattr(config, entry.name)
        yield from _field_names(value, f"{entry.name}.") if is_dataclass(value) else (f"{prefix}{entry.name}",)


def _float(value: object) -> float:
    return float({"True": 1, "False": 0}.get(str(value), str(value)))  # type: ignore[arg-type]


def published_files() -> list[Path]:
    """All files of published numbers, sorted."""
    return sorted(PUBLISHED.glob("*.csv"))
