"""Figure 11: histograms, the loss reduction, the weight by phase, the answers, and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptrlib.report import results, weights
from ptrlib.report.dynamics import Gathered
from tests.report.made_up_runs import write_manifest, write_runs

CLEAN, CORRUPTED = "LIBERO (spatial), clean data", "LIBERO (spatial), combined corruption"


@pytest.fixture(scope="module")
def gathered(tmp_path_factory) -> Gathered:
    """Made-up runs of SFT, PTR and random weights on two kinds of data, two seeds each."""
    folder = tmp_path_factory.mktemp("weights")
    manifest = write_manifest(folder)
    write_runs(manifest, folder / "runs")
    for path in folder.glob("runs/*/metrics.parquet"):  # PTR's loss is nine tenths of SFT's, its weighted loss half
        share = {"ptr": (0.9, 0.5), "random": (1.1, 1.0)}.get(path.parent.name.split("-")[1], (1.0, 1.0))
        pd.DataFrame({"step": np.arange(1, 21), "loss_action": share[0] * np.linspace(1, 0.5, 20),
                      "loss_weighted": share[1] * np.linspace(1, 0.5, 20)}).to_parquet(path)
    stored = results.runs_of(manifest, folder / "runs")
    labels = {run.name: CLEAN if run.setting.config.data.corruption == "none" else CORRUPTED for run in stored}
    return Gathered(stored, labels, [])


@pytest.fixture(scope="module")
def chunks(gathered) -> pd.DataFrame:
    return weights.snapshots(gathered)


def test_snapshots_hold_ptrs_training_chunks_early_and_late(gathered, chunks):
    assert set(chunks.rule) == {"ptr"} and set(chunks.split) == {"train"} and chunks.run.nunique() == 4
    assert set(zip(chunks.moment, chunks.step, strict=True)) == {("early", 5), ("late", 10)}
    assert chunks.groupby(["run", "step"]).relative.mean().to_numpy() == pytest.approx(1)
    plain = Gathered([run for run in gathered.stored if run.setting.method == "sft"], gathered.labels, [])
    with pytest.raises(ValueError, match="no PTR runs"):
        weights.snapshots(plain)


def test_histograms_count_every_chunk_with_a_consequence_once(chunks):
    figure, drawn = weights.histogram_chart(chunks)
    late = chunks[chunks.valid & (chunks.setting == CLEAN) & (chunks.moment == "late")]
    part = drawn[(drawn.setting == CLEAN) & (drawn.moment == "late")]
    counts, _ = np.histogram(late.weight, [*part.low, part.high.iloc[-1]])
    assert part.share.to_numpy() == pytest.approx(counts / len(late)) and (part.chunks == len(late)).all()
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 2
    steps = [patch for patch in figure.axes[0].patches if hasattr(patch, "get_data")]
    shown = drawn[(drawn.setting == drawn.setting.iloc[0]) & (drawn.moment == "late")].share.to_numpy()
    assert any(np.allclose(patch.get_data().values, shown) for patch in steps)


def test_spreads_are_measured_run_by_run(chunks):
    measured = weights.spreads(chunks)
    part = chunks[chunks.valid & (chunks.run == measured.run[0]) & (chunks.moment == measured.moment[0])].weight
    row = measured.iloc[0]
    assert (row["mean"], row["spread"]) == pytest.approx((part.mean(), part.std(ddof=0)))
    assert row["near w_max"] == (part >= 3.8).mean() and row["near w_min"] == (part <= 0.2625).mean()
    assert len(measured) == 4 * 2 and set(weights.spread_table(measured).runs) == {2}


def test_the_loss_reduction_pairs_runs_of_one_seed(gathered):
    reduction = weights.loss_reduction(gathered)
    by_rule = reduction.groupby("rule").reduction
    assert by_rule.min().to_dict() == pytest.approx({"ptr": 0.1, weights.WEIGHTED: 0.5, "random": -0.1})
    assert by_rule.max().to_dict() == pytest.approx(by_rule.min().to_dict())
    assert len(reduction) == 3 * 2 * 2 * 20
    falling = reduction.assign(reduction=1 - reduction.step / 20)  # its last value already is a mean over a tenth
    assert weights.late_reduction(falling)[(CLEAN, "ptr")].estimate == pytest.approx(0)
    late = weights.late_reduction(reduction)
    assert late[(CLEAN, "ptr")].estimate == pytest.approx(0.1) and late[(CLEAN, "ptr")].count == 2
    figure, drawn = weights.reduction_chart(reduction, weights.warmups(gathered))
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 20]
    assert sorted({round(float(line.get_ydata()[0]), 6) for line in lines}) == [-10, 10, 50]
    assert set(drawn.rule) == {"ptr", weights.WEIGHTED, "random"}


def test_weights_by_phase_are_those_of_untouched_chunks(chunks):
    _, drawn = weights.phase_chart(chunks)
    late = chunks[(chunks.moment == "late") & (chunks.setting == CORRUPTED)]
    first = late[late.valid & ~late.corrupted & (late.phase < 0.1)]
    by_run = first.groupby("run").relative.mean().mean()
    table = drawn.set_index(["quantity", "setting", "phase"]).estimate
    assert table["weight", CORRUPTED, 0.05] == pytest.approx(by_run)
    assert table["no consequence", CORRUPTED, 0.05] == 0 and table["no consequence", CORRUPTED, 0.85] == 1


def answers(measured: pd.DataFrame) -> pd.Series:
    empty = pd.DataFrame(columns=["setting", "rule", "training_seed", "step", "reduction"])
    return weights.answers(measured, empty).set_index(["statement", "setting"]).answer


def made_up(setting: str, spread: float, near: float = 0.9, seeds: int = 4) -> pd.DataFrame:
    return pd.DataFrame([{"setting": setting, "run": f"{setting} {seed}", "training_seed": seed, "moment": moment,
                          "mean": 1.0, "spread": (spread if moment == "late" else 0.2) + 0.01 * seed,
                          "near w_max": 0.5 + 0.01 * seed, "near w_min": 0.1 * (seed > 0), "below 1": spread / 2,
                          "around 1": near + 0.01 * seed}
                         for seed in range(seeds) for moment in ("early", "late")])


def test_answers_follow_the_numbers():
    narrow, wide = "Tabletop (easy), clean data", "Tabletop (generalist), clean data"
    told = answers(pd.concat([made_up(narrow, 0.8), made_up(wide, 1.2, near=0.1)]))
    early = "early weights are near-uniform around 1 (most within 0.8–1.25)"
    assert told[early, narrow] == "yes" and told[early, wide] == "no"
    assert told["weights spread as the scorer matures", narrow] == "yes"
    assert told["more late weights near the upper bound than near the lower one", wide] == "yes"
    assert told[f"the generalist’s weights spread wider than those of {narrow}", wide] == "yes"
    assert told["some late weights lie near the lower bound", narrow] == "in some runs"
    turned = answers(pd.concat([made_up(narrow, 1.2), made_up(wide, 0.8)]))
    assert turned[f"the generalist’s weights spread wider than those of {narrow}", wide] == "no"
    one = answers(made_up(narrow, 0.8, seeds=1))
    assert one[early, narrow] == "yes, in this one run"
    table = weights.answers(pd.concat([made_up(narrow, 0.8), made_up(wide, 1.2, near=0.1)]), pd.DataFrame(
        columns=["setting", "rule", "training_seed", "step", "reduction"]))
    assert f"- {early}: **" in weights.verdict(table) and "yes in 1 of 2" in weights.verdict(table)
    assert "alone" not in weights.verdict(table)
    assert weights.answer_table(table).columns.tolist() == ["statement", narrow, wide]
    assert weights.generalist_table(table).statement.tolist() == [f"{weights.GENERALIST} {narrow}"]
    mixed = weights.answers(pd.concat([made_up(narrow, 0.8, seeds=1), made_up(wide, 1.2)]), pd.DataFrame(
        columns=["setting", "rule", "training_seed", "step", "reduction"]))
    assert f"- {early}: **yes in 2 of 2 (1 of them one run alone)**." in weights.verdict(mixed)


def test_robocasas_suppressed_weights_are_set_beside_liberos_on_the_same_data():
    libero, kitchen = "LIBERO (spatial), clean data", "RoboCasa in the minimal kitchen (six tasks), clean data"
    told = answers(pd.concat([made_up(libero, 0.4), made_up(kitchen, 0.8), made_up(CORRUPTED, 0.1)]))
    more = "more of RoboCasa’s late weights than of LIBERO’s are below 1"
    assert told[more, kitchen] == "yes" and (more, CORRUPTED) not in told.index


def test_the_page_shows_what_its_runs_hold(tiny_book):
    stored = tiny_book.make("tabletop_corruption", methods=["sft", "ptr"],
                            changes={"data.corruption": ["none", "combined"]})
    page = tiny_book.execute("weights", manifests=["tabletop_corruption"], seeds=1)
    text = page.text()
    assert "weight-evolution" in text and "Settings in which each statement holds" in text
    ptr = next(run for run in stored if run.setting.method == "ptr" and run.setting.config.data.corruption == "none")
    table = results.last_snapshot(results.weights_frame([ptr])).query("split == 'train' and valid")
    drawn = page.frame("weight_histograms").query("setting == 'Tabletop (easy), clean data' and moment == 'late'")
    assert drawn.chunks.iloc[0] == len(table) and drawn.share.sum() == pytest.approx(1, abs=1e-4)
    assert drawn.share.to_numpy() == pytest.approx(
        np.histogram(table.weight, [*drawn.low, drawn.high.iloc[-1]])[0] / len(table), abs=1e-4)
    metrics = results.metrics_frame(stored).query("corruption == 'none'").sort_values("step")
    sft, mine = (metrics[metrics.method == method].loss_action.to_numpy() for method in ("sft", "ptr"))
    reduction = page.frame("loss_reduction").query("rule == 'ptr' and setting == 'Tabletop (easy), clean data'")
    assert reduction["mean"].to_numpy() == pytest.approx(100 * (sft - mine) / sft, rel=1e-3, abs=1e-3)
    late = results.last_snapshot(results.weights_frame([ptr])).query("split == 'train'")
    relative = (late.weight / late.weight.mean())[late.valid & (late.phase < 0.1)]
    phases = page.frame("weight_by_phase").query("quantity == 'weight' and setting == 'Tabletop (easy), clean data'")
    assert phases.estimate.iloc[0] == pytest.approx(relative.mean(), rel=1e-3)
