"""The provenance page lists every stored run and every figure's; a run that manifests share counts once."""

from __future__ import annotations

import subprocess

import pytest

from ptrlib.report import REPOSITORY, provenance
from tests.report.made_up_runs import write_manifest, write_runs


@pytest.fixture(scope="module")
def everything():
    return provenance.every_run()


def test_every_stored_run_belongs_to_a_manifest_and_is_listed(everything):
    kept = subprocess.run(["git", "ls-files", "experiments/runs"], cwd=REPOSITORY, capture_output=True, text=True,
                          check=True).stdout.split()  # a user's own runs need no manifest
    stored = {path.split("/")[2] for path in kept}
    assert len(stored) > 700 and stored <= set(everything.run)
    lists = provenance.run_lists(everything)
    assert all(name in lists for name in everything.run)
    assert lists.count("<details>") == lists.count("</details>") == everything.manifest.nunique()


def test_every_figure_is_drawn_from_listed_runs(everything):
    stored = REPOSITORY / "figures"  # pages that other tests execute draw elsewhere
    table = provenance.figure_table(stored, everything)
    assert len(table) > 50 and (table["not listed here"] == "").all()
    some = provenance.figure_table(stored, everything.iloc[:1])
    assert (some["not listed here"] != "").any()


def test_a_run_that_manifests_share_is_counted_once(tmp_path):
    manifest = write_manifest(tmp_path, seeds=[0])
    write_runs(manifest, tmp_path / "runs")
    twice = provenance.every_run([str(manifest), str(manifest)], tmp_path / "runs")
    once = provenance.each_once(twice)
    assert len(twice) == 12 and len(once) == 6
    assert provenance.totals(twice) == provenance.totals(once) and provenance.totals(once).startswith("6 runs, ")
    assert "Tabletop" not in provenance.totals(once)
    mine = once.assign(manifest="tabletop_x", ranks=2, training_seconds=3600.0, evaluation_seconds=1800.0)
    assert "Tabletop's whole set, 6 of these runs, took 15.0 core-hours, so 7.5 hours" in provenance.totals(mine)
    machines = provenance.machine_table(twice, ["torch", "nothing"])
    assert machines.runs.sum() == 6 and "nothing" not in machines
    [row] = provenance.manifest_table(once).to_dict("records")
    assert row["runs"] == 6 and row["episodes"] == once.evaluation_episodes.sum()
    assert row["training, h"] == pytest.approx(once.training_seconds.sum() / 3600)


def test_a_manifest_without_runs_is_answered(tmp_path):
    manifest = write_manifest(tmp_path, seeds=[0])
    with pytest.raises(ValueError, match="has no trained run of .*; make some with: ptrlib run experiments/NAME.yaml"):
        provenance.every_run([str(manifest)], tmp_path / "runs")
    with pytest.raises(ValueError, match="nowhere.yaml: no such manifest; there are: libero_bounds, libero_corruption"):
        provenance.every_run(["nowhere"])
