"""What the paper's own arithmetic says about its printed numbers.

Every check sets a printed number or sentence beside what other printed numbers give. A recomputed
value may miss the printed one by the rounding of its inputs; the verdict tells the cases apart:

- ``agrees``: the recomputed value, rounded as printed, is the printed one;
- ``within rounding``: it is not, but unrounded inputs exist that would make it so;
- ``disagrees``: no such inputs exist, or the two sentences exclude each other;
- ``in tension``: both could be literally true, but hardly in the way the paper reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import product

import pandas as pd

from ptrlib.config import PTRConfig
from ptrlib.report.published import (
    ABLATION,
    GENERALIST,
    REAL_ROBOT,
    SIMULATION,
    cell,
    read,
    statement,
    success,
)

AGREES, WITHIN_ROUNDING, DISAGREES, TENSION = "agrees", "within rounding", "disagrees", "in tension"
HALF_DIGIT = 0.05  # success rates are printed with one decimal
EPSILON = 1e-9
BENCHMARKS = ("LIBERO", "RoboCasa")

# Tasks per category of RoboCasa's 24 atomic tasks, as that benchmark publishes them; the paper prints none.
CATEGORY_TASKS = {"Pick&Pl.": 8, "Door/Dr.": 6, "Others": 10}

OURS = {"same_target_window"}  # fields of PTRConfig that answer a question the paper leaves open


@dataclass(frozen=True)
class Check:
    """One claim of the paper beside what its own numbers give."""

    source: str  # table, figure or section of the paper
    claim: str
    printed: str
    recomputed: str
    verdict: str
    kind: str = "computed"  # "read" where two sentences are set side by side and nothing is computed


def audit() -> pd.DataFrame:
    """Every check, one row each: source, claim, printed, recomputed, verdict, kind."""
    parts = (averages, differences, counts, ranges, repeated_cells, best_marks, rankings, granularity,
             corruption_gains, platforms, controller, weights, belief_entropy, defaults, definitions)
    return pd.DataFrame([asdict(check) for part in parts for check in part()])


# Averages, differences, counts -----------------------------------------------------------------------


def averages() -> Iterator[Check]:
    """Tables 1 and 5 (suites, categories), Table 3 (overall), Table 4 (suites, overall)."""
    for table, benchmark in product((SIMULATION, ABLATION), BENCHMARKS):
        for method, row in success(table)[benchmark].iterrows():
            # A LIBERO suite has 500 episodes, so its one decimal is exact; RoboCasa's are rounded.
            yield _compare(_title(table), f"{method}: {benchmark} average", row["Avg"],
                           row.drop("Avg").mean(),
                           half_input=0 if benchmark == "LIBERO" else HALF_DIGIT)
    for method, row in success(GENERALIST).iterrows():
        mean = (row["Simulation"].sum() + row["Real robot"].mean()) / 3
        yield _compare("Table 3", f"{method}: overall average", row["Overall"].iloc[0], mean)
    for method, row in success(REAL_ROBOT).iterrows():
        for suite in (name for name in row.index.unique(0) if name != "Overall"):
            tasks = row[suite].drop("Suite average")
            yield _compare("Table 4", f"{method}: {suite} average", row[suite, "Suite average"], tasks.mean(),
                           half_input=0)
        yield _compare("Table 4", f"{method}: overall average", row["Overall", "Overall average"],
                       _tasks().loc[method].mean(), half_input=0)
    sizes = pd.Series(CATEGORY_TASKS)
    for method, row in success(SIMULATION)["RoboCasa"].iterrows():
        over_trials = float((row[sizes.index] * sizes).sum() / sizes.sum())
        yield _judge("Table 1", f"{method}: RoboCasa average, over the 24 tasks "
                     f"({' + '.join(map(str, sizes))} per "
                     "category in RoboCasa) instead of over the three categories", f"{row['Avg']:.1f}",
                     f"{over_trials:.1f}", abs(over_trials - row["Avg"]) < 2 * HALF_DIGIT, TENSION)


def differences() -> Iterator[Check]:
    """Every gain and drop of the text against the cells it subtracts; Table 5's reference to Table 1."""
    frame = read("differences").set_index("id")
    for row in frame.itertuples():
        minuend, subtrahend = str(row.minuend), str(row.subtrahend)
        yield _compare(f"Section {row.section}", f"“{row.quote}”: {_readable(minuend)} minus "
                       f"{_readable(subtrahend)}",
                       float(str(row.printed_points)), cell(minuend) - cell(subtrahend), terms=2)
    for benchmark in BENCHMARKS:
        gap = float(frame.loc[f"ablation_alpha_zero_{benchmark.lower()}", "printed_points"])
        means = success(SIMULATION)[benchmark].drop(columns="Avg").mean(axis=1)
        yield _compare("Section 5.5", f"α = 0 trails PTR on {benchmark} “consistent with Table 1”: the difference of "
                       "Table 1's rows", gap, means["PTR"] - means["SFT+Belief"], terms=2,
                       half_input=0 if benchmark == "LIBERO" else HALF_DIGIT)


def counts() -> Iterator[Check]:
    """“8 of 12 tasks” and its kin, recounted from Table 4; episodes multiplied out."""
    tasks = _tasks()
    gains = {"specialist": tasks.loc["PTR-Specialist"] - tasks.loc["SFT-Specialist"],
             "generalist": tasks.loc["PTR-Generalist"] - tasks.loc["SFT-Generalist"],
             "cross": tasks.loc["PTR-Generalist"] - tasks.loc["SFT-Specialist"]}
    for row in read("statements").query("unit == 'tasks'").itertuples():
        pair, _, outcome = str(row.id).partition("_")
        if pair in gains:
            found = {"wins": gains[pair] > 0, "ties": gains[pair] == 0,
                     "losses": gains[pair] < 0}[outcome].sum()
            yield _exact("Section 5.4", f"“{row.quote}”: {outcome}", float(str(row.value)), found)
    suites = success(GENERALIST)["Real robot"]
    yield _exact("Section 5.4", "real-robot suites that specialist PTR wins", statement("suites_won"),
                 (suites.loc["PTR-Specialist"] > suites.loc["SFT-Specialist"]).sum())
    trials = statement("real_trials_per_task")
    yield _exact("Section 5.4", "real-robot tasks in Table 4", statement("real_tasks"), tasks.shape[1])
    yield _exact("Section 5.4", "real-robot trials in all", statement("real_trials"), tasks.shape[1] * trials)
    yield _exact("Section 5.4", "real-robot trials per suite", statement("real_trials_per_suite"),
                 tasks.shape[1] / suites.shape[1] * trials)
    suite = statement("libero_tasks_per_suite") * statement("libero_episodes_per_task")
    yield _exact("Section 5.1", "LIBERO episodes per suite", statement("libero_episodes_per_suite"), suite)
    yield _exact("Section 5.1", "LIBERO episodes in all", statement("libero_episodes"), 4 * suite)
    yield _exact("Section 5.1", "RoboCasa trials in all", statement("robocasa_episodes"),
                 statement("robocasa_tasks") * statement("robocasa_trials_per_task"))
    larger = int((gains["generalist"] > gains["specialist"]).sum())
    yield _judge("Section 5.4", "“The PTR-SFT improvement is consistently larger in the generalist setting”, "
                 "task "
                 "by task", "consistently larger", f"larger in {larger} of 12", larger == 12, TENSION)


def ranges() -> Iterator[Check]:
    """Ranges that the text states over a whole table or figure."""
    libero = success(SIMULATION)["LIBERO"]["Avg"]
    yield _exact("Section 5.2", "lowest LIBERO average", statement("libero_lowest"), libero.min())
    yield _exact("Section 5.2", "highest LIBERO average", statement("libero_highest"), libero.max())
    least = statement("loss_start_low") / statement("loss_end_high")
    yield _judge("Section 5.6", "the action loss falls by over an order of magnitude for all settings",
                 "> 10",
                 f"at least {least:.0f}", least > 10)


# The same number in two places -----------------------------------------------------------------------


def repeated_cells() -> Iterator[Check]:
    """Numbers that two tables print: Tables 1 and 5 (PTR, SFT+Belief), 1 and 3, 3 and 4."""
    pairs = [("Tables 1 and 5", f"{SIMULATION} | {mine} | {benchmark} | {column}",
              f"{ABLATION} | {other} | {benchmark} | {column}")
             for mine, other in (("PTR", "PTR (full)"), ("SFT+Belief", "alpha=0 (SFT+Belief)"))
             for benchmark, column in success(SIMULATION).columns]
    pairs += [("Tables 1 and 3", f"{SIMULATION} | {method} | {benchmark} | Avg",
               f"{GENERALIST} | {method}-Specialist | Simulation | {benchmark}")
              for method, benchmark in product(("SFT", "PTR"), BENCHMARKS)]
    pairs += [("Tables 3 and 4", f"{GENERALIST} | {method} | Real robot | {suite}",
               f"{REAL_ROBOT} | {method} | {suite} | Suite average")
              for method, suite in product(success(GENERALIST).index,
                                           success(GENERALIST)["Real robot"].columns)]
    for source, first, second in pairs:
        yield _judge(source, f"{_readable(first)} is {_readable(second)}", f"{cell(first):.1f}",
                     f"{cell(second):.1f}",
                     cell(first) == cell(second))


def best_marks() -> Iterator[Check]:
    """Bold is a column's best value and underline its second best."""
    for table in (SIMULATION, GENERALIST, ABLATION):
        frame = read(table).astype({"success_percent": float})
        for (benchmark, column), group in frame.groupby(["benchmark", "column"], sort=False):
            ranks = group["success_percent"].rank(method="dense", ascending=False)
            due = ranks.map({1.0: "bold", 2.0: "underlined"}).fillna("")
            wrong = group[(group["mark"] != due) & ((group["mark"] != "") | (ranks == 1))]
            printed = wrong if len(wrong) else group[group["mark"] != ""]
            yield _judge(_title(table), f"marks of {benchmark} {column} (bold best, underlined second best)",
                         "; ".join(f"{row.method} {row.success_percent} {row.mark}" for row in printed.itertuples()),
                         "; ".join(f"{row.method} {row.success_percent} {mark}" for row, mark
                                   in zip(group.itertuples(), due, strict=True) if mark), wrong.empty)


def rankings() -> Iterator[Check]:
    """Sentences that rank the rows of a table."""
    for benchmark in BENCHMARKS:
        average = success(ABLATION)[benchmark]["Avg"]
        worst = (average["PTR (full)"] - average).nlargest(2)
        yield _judge("Section 5.5", f"“Weight clipping is the most critical component”, EMA second, on "
                     f"{benchmark}",
                     "w/o clipping, then w/o EMA", ", then ".join(f"{name} (−{drop:.1f})" for name,
                                                                  drop in worst.items()),
                     worst.index[0] == "w/o clipping")
    sft = cell(f"{SIMULATION} | SFT | LIBERO | Object")
    for table, row in ((SIMULATION, "PTR"), (ABLATION, "PTR (full)")):
        ptr = cell(f"{table} | {row} | LIBERO | Object")
        yield _judge("Section 5.2", f"“PTR leads on Object”, with the PTR of {_title(table)}", f"above SFT's "
                     f"{sft:.1f}",
                     f"{ptr:.1f}", ptr > sft)


def granularity() -> Iterator[Check]:
    """Can the printed percentages be counts out of the stated numbers of trials at all?"""
    values = pd.concat([success(SIMULATION), success(ABLATION)])
    yield _possible("Tables 1 and 5", "LIBERO suites are counts out of 500 episodes",
                    values["LIBERO"].drop(columns="Avg").to_numpy().ravel(),
                    statement("libero_episodes_per_suite"))
    yield _possible("Table 4", "real-robot tasks are counts out of 20 trials", _tasks().to_numpy().ravel(),
                    statement("real_trials_per_task"))
    trials = statement("robocasa_trials_per_task")
    for category, tasks in CATEGORY_TASKS.items():
        yield _possible("Tables 1 and 5", f"RoboCasa {category} values are counts out of {tasks} tasks "
                        f"(RoboCasa's "
                        f"category size) × {trials:.0f} trials", values["RoboCasa"][category], tasks * trials)


def corruption_gains() -> Iterator[Check]:
    """Section 5.3: Table 1's clean value minus the stated drop, PTR minus SFT."""
    drops = read("figure2_drops").pivot(index=["corruption", "benchmark"], columns="method",
                                        values="drop_points")
    clean = success(SIMULATION).xs("Avg", axis=1, level=1)
    gains = {key: (clean.loc["PTR", key[1]] - row["PTR"]) - (clean.loc["SFT", key[1]] - row["SFT"])
             for key, row in drops.astype(float).iterrows()}
    for benchmark in BENCHMARKS:
        yield _compare("Section 5.3", f"PTR's gain over SFT under Combined on {benchmark}: Table 1 minus the "
                       f"drops",
                       statement(f"gain_combined_{benchmark.lower()}"), gains["Combined", benchmark], terms=4)
    both = [corruption for corruption, benchmark in gains if benchmark == "RoboCasa"]
    larger = [name for name in both if gains[name, "RoboCasa"] > gains[name, "LIBERO"]]
    yield _judge("Section 5.3", "RoboCasa shows larger gaps than LIBERO under all corruption types (its drop "
                 "under "
                 "action noise is not in the text)", f"{len(both)} of {len(both)}", f"{len(larger)} of "
                 f"{len(both)}",
                 larger == both)


def platforms() -> Iterator[Check]:
    """Table 2: degrees of freedom add up."""
    table = read("table2_platforms").set_index("platform")
    for platform, row in table[["waist", "head", "arms", "hands"]].sum(axis=1).items():
        yield _exact("Table 2", f"{platform}: degrees of freedom", table.loc[platform, "dof"],
                     row)


# The method's own arithmetic -------------------------------------------------------------------------


def controller() -> Iterator[Check]:
    """Section 4.5's rule against the end points that Section 5.6 reports."""
    config, down = PTRConfig(), statement("confident_factor")
    tau, beta = statement("tau_final"), statement("beta_final")
    steps = math.ceil(math.log(tau / config.tau) / math.log(down))
    implied_beta = max(config.beta * down**steps, config.beta_min)
    yield _judge("Sections 4.5, 5.6", f"β ends near {beta} while τ falls from {config.tau} to {tau}, both "
                 f"multiplied "
                 f"by the same {down}", f"β = {beta}", f"β = {implied_beta:.2f}, its floor, after the "
                 f"{steps} steps "
                 f"that take τ to {tau}", abs(implied_beta - beta) < HALF_DIGIT)
    steps = math.ceil(math.log(beta / config.beta) / math.log(down))
    implied_tau = config.tau * down**steps
    yield _judge("Sections 4.5, 5.6", f"the other way round: τ ends near {tau} while β falls from "
                 f"{config.beta} to "
                 f"{beta}", f"τ = {tau}", f"τ = {implied_tau:.3f} after the {steps} steps that take β to "
                 f"{beta}",
                 abs(implied_tau - tau) < 0.005)
    chance = 1 / _pool()
    steps = math.ceil(math.log(config.tau_max / config.tau) / math.log(statement("weak_factor")))
    yield _judge("Sections 4.5, 5.6", f"τ “stays near its initial value of {config.tau}” while the scorer is "
                 f"untrained",
                 f"τ ≈ {config.tau}", f"an untrained scorer's accuracy, 1/{_pool()} = {chance:.4f}, is below "
                 f"{statement('weak_below')}: τ rises at every logging step, to {config.tau_max} in {steps}",
                 chance >= statement("weak_below"), TENSION)


def weights() -> Iterator[Check]:
    """What the reported scores imply for Eq 21's weights and Section 4.4's bounds."""
    config = PTRConfig()
    yield _compare("Section 4.4", "KL bound log(w_max / w_min)", statement("kl_bound"),
                   math.log(config.w_max / config.w_min), half_printed=0.005)
    yield _exact("Section 4.4", "largest source share ratio, w_max / w_min", statement("share_bound"),
                 config.w_max / config.w_min)
    low, high = statement("score_slow_low"), statement("score_fast_high")
    yield _judge("Sections 4.2, 5.6", "the highest reported score is below its maximum log|Y|", f"{high}",
                 f"log {_pool()} = {math.log(_pool()):.2f}", high < math.log(_pool()))
    clipped = config.beta * math.log(config.w_max)
    yield _judge("Sections 4.3, 5.6", "scores lie where the weight tells samples apart (“ambiguous samples "
                 "concentrate "
                 "near 0”)", f"final mean scores {low}-{high}", f"above β log w_max = {clipped:.2f} every "
                 f"weight is "
                 f"{config.w_max}: the mean sample of every setting is clipped (β = {config.beta})",
                 high < clipped,
                 TENSION)
    yield _judge("Sections 4.2, 4.4", "without a valid target, w = 1 “contributes exactly as in uniform "
                 "post-training”, "
                 "under the self-normalised Eq 27", "relative weight 1", f"1 / mean(w), anywhere from "
                 f"{1 / config.w_max:.2f} to {1 / config.w_min:.0f}; {1 / config.w_max:.2f} where the others "
                 f"are at the "
                 "upper clip", config.w_max == config.w_min)
    margin = statement("margin_high")
    implied = math.log(_pool()) - math.log1p((_pool() - 1) * math.exp(-margin))
    yield _judge("Sections 4.2, 5.6", f"margin ~{margin} and score ~{high} of the cross-embodiment run "
                 f"belong to one "
                 "posterior", f"T = {high}", f"a match that beats each of {_pool() - 1} others by {margin} "
                 f"scores at "
                 f"least {implied:.2f}", implied <= high, TENSION)


def belief_entropy() -> Iterator[Check]:
    """Eq 10's value before training against Figure 9."""
    low, high = statement("entropy_start_low"), statement("entropy_start_high")
    length = PTRConfig().base_policy.chunk_length
    yield _judge("Section 5.6, Eq 10", f"the belief-token entropy starts at {low}-{high}", f"{low}-{high} "
                 f"nats",
                 f"near-uniform weights over L = {length} steps, as small initial logits give, have log L = "
                 f"{math.log(length):.2f} nats", math.log(length) <= high, TENSION)


def defaults() -> Iterator[Check]:
    """Table 6 against our PTRConfig, and against what the text needs beyond it."""
    table = read("table6_defaults").query("field != ''").set_index("field")["value"]
    ours = _values(PTRConfig())
    wrong = [name for name, value in table.items() if float(value) != float(ours[str(name)])]
    yield _judge("Table 6", "ptrlib's defaults are the paper's", f"{len(table)} values",
                 f"{len(table) - len(wrong)} equal{''.join(f'; not {name}' for name in wrong)}", not wrong)
    absent = [name for name in ours if name not in table.index and name not in OURS]
    yield _judge("Table 6", "“the complete hyperparameter configuration”", "complete",
                 f"it lacks {', '.join(absent)}, as well as Δ and the controller's logging interval",
                 not absent)


def definitions() -> Iterator[Check]:
    """Words and references that mean two things; read, not computed."""
    for source, claim, here, there, verdict in (
        ("Sections 4.4, 5.1, 5.5", "what α = 0 is",
         "“SFT sets α = 0” (5.1), “in the limit α → 0, PTR recovers uniform SFT” (4.4)",
         "“Setting α = 0 recovers SFT+Belief” (5.5, Table 5)", DISAGREES),
        ("Sections 4.6, 5.1", "α = 0 is uniform post-training", "uniform post-training",
         "nothing stops the gradients of L_id and L_rank (Eq 13, 31, 32) from reaching the shared backbone", TENSION),
        ("Sections 4.6, 5.5", "whether the scorer’s losses train the policy",
         "“all trainable components are updated jointly”, and h_t and E_t are behind no stop-gradient (4.6)",
         "PTR’s “only interaction with the transformer update is the gradient scaling” (4.6)", TENSION),
        ("Sections 4.2, 4.6", "whether the matched target carries a gradient",
         "“the scorer still receives gradients on the current query and the current matched target” (4.6)",
         "“the matched latent target y = sg(g(o))” (4.2)", TENSION),
        ("Section 4.2", "where the action-channel projector is defined", "“in Eq (3)”", "Eq 4", DISAGREES),
        ("Section 4.3", "which problem the exponential weight solves", "Eq 21",
         "Eq 19; Eq 21 is the clipped weight, which does not solve it", DISAGREES),
        ("Section 4.5", "the controller acts on four monitored statistics", "four",
         "its rule reads two, accuracy and margin; mean score and valid ratio change nothing", TENSION),
    ):
        yield Check(source, claim, here, there, verdict, kind="read")


# Pieces ----------------------------------------------------------------------------------------------


def _judge(source: str, claim: str, printed: str, recomputed: str, holds: object,
           otherwise: str = DISAGREES) -> Check:
    return Check(source, claim, printed, recomputed, AGREES if holds else otherwise)


def _compare(source: str, claim: str, printed: float, recomputed: float, *, half_input: float = HALF_DIGIT,
             terms: float = 1, half_printed: float = HALF_DIGIT) -> Check:
    """A printed number against a sum of ``terms`` inputs, each rounded to ``half_input``."""
    error = abs(recomputed - printed)
    verdict = AGREES if error <= half_printed + EPSILON else DISAGREES
    if verdict == DISAGREES and error < half_printed + terms * half_input - EPSILON:
        verdict = WITHIN_ROUNDING
    digits = 1 if half_printed == HALF_DIGIT else 2
    return Check(source, claim, f"{printed:.{digits}f}", f"{recomputed:.{digits + 1}f}", verdict)


def _exact(source: str, claim: str, printed: object, recomputed: object) -> Check:
    first, second = float(str(printed)), float(str(recomputed))
    return _judge(source, claim, f"{first:g}", f"{second:g}", abs(first - second) < EPSILON)


def _possible(source: str, claim: str, percents: Iterable[float], trials: float) -> Check:
    """Is every printed percentage the rounding of some count out of ``trials``?"""
    values = [float(value) for value in percents]
    impossible = sorted({value for value in values if not is_count(value, trials)})
    found = ", ".join(f"{value:.1f}" for value in impossible)
    found = f"impossible: {found}" if impossible else "all possible"
    return _judge(source, claim, f"{len(values)} values", found, not impossible)


def is_count(percent: float, trials: float) -> bool:
    """Whether a percentage printed with one decimal is k / trials for a whole k, ties rounded either way."""
    nearest = round(percent * trials / 100)
    return abs(100 * nearest / trials - percent) <= HALF_DIGIT + EPSILON


def _tasks() -> pd.DataFrame:
    """Table 4 without its averages: methods as rows, the 12 tasks as columns, percent."""
    table = success(REAL_ROBOT)
    return table[[key for key in table.columns if not key[1].endswith("average")]]


def _pool() -> int:
    """|Y| at the defaults: every target of the global batch and all the queue may give."""
    return PTRConfig().optimization.batch_size + PTRConfig().queue_negatives


def _title(table: str) -> str:
    return f"Table {table[len('table')]}"


def _readable(address: str) -> str:
    table, method, *rest = address.split(" | ")
    return f"{_title(table)}'s {method} {' '.join(dict.fromkeys(rest))}"


def _values(config: object, prefix: str = "") -> dict[str, float]:
    """All fields of a configuration tree by dotted name."""
    values: dict[str, float] = {}
    for entry in fields(config):  # type: ignore[arg-type]
        value = getattr(config, entry.name)
        nested = _values(value, f"{prefix}{entry.name}.") if is_dataclass(value) else {}
        values |= nested or {f"{prefix}{entry.name}": value}
    return values
