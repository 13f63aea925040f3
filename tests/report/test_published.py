"""The paper's numbers are whole, and the audit recomputes them instead of asserting."""

import math
import shutil

import pandas as pd
import pytest

from ptrlib.config import DataConfig
from ptrlib.report import audit, published

SIZES = {"table1_simulation": (3, 9), "table3_generalist": (4, 7), "table4_real_robot": (4, 17),
         "table5_ablation": (7, 9)}


@pytest.fixture(scope="module")
def checks() -> pd.DataFrame:
    return audit.audit()


def verdict(checks: pd.DataFrame, *words: str) -> str:
    """The verdict of the one check whose source and claim contain all words."""
    text = checks["source"] + " " + checks["claim"]
    found = checks[text.apply(lambda line: all(word in line for word in words))]
    assert len(found) == 1, f"{words} fit {found['claim'].tolist()}"
    return found["verdict"].iloc[0]


@pytest.mark.parametrize(("table", "shape"), SIZES.items())
def test_tables_are_whole(table: str, shape: tuple[int, int]) -> None:
    values = published.success(table)
    assert values.shape == shape
    assert values.notna().all().all()
    assert ((values > 0) & (values < 100)).all().all()


def test_every_file_says_where_its_numbers_stand() -> None:
    files = sorted(path.stem for path in published.PUBLISHED.glob("*.csv"))
    assert {f"table{number}" for number in range(1, 7)} <= {name.split("_")[0] for name in files}
    for name in files:
        assert "section" in published.read(name).columns
        assert (published.read(name)["section"].astype(str) != "").all()


def test_copied_cells() -> None:
    assert published.cell("table1_simulation | PTR | LIBERO | Avg") == 97.8
    assert published.cell("table5_ablation | w/o clipping | RoboCasa | Door/Dr.") == 66.0
    assert published.cell("table4_real_robot | PTR-Generalist | Robust | Wipe Board (FR3)") == 55.0
    assert published.statement("kl_bound") == 2.77


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no published table 'table7'; the tables are .*table6_defaults"):
        published.read("table7")
    with pytest.raises(ValueError, match="no statement 'nothing'"):
        published.statement("nothing")


def test_known_contradictions_are_found(checks: pd.DataFrame) -> None:
    assert verdict(checks, "Table 1", "PTR: LIBERO average") == audit.DISAGREES  # 97.95 printed as 97.8
    assert verdict(checks, "4.5", "β ends near 1.2") == audit.DISAGREES
    assert verdict(checks, "Table 1's PTR LIBERO Object") == audit.DISAGREES  # 99.2 and 98.8
    assert verdict(checks, "Table 5", "w/o EMA", "RoboCasa average") == audit.WITHIN_ROUNDING  # 50.27 as 50.2
    assert verdict(checks, "Table 5", "w/o refiner", "RoboCasa average") == audit.DISAGREES  # 52.00 as 51.9
    assert verdict(checks, "most critical component",
                   "LIBERO") == audit.DISAGREES  # EMA costs 2.5, clipping 2.3
    assert verdict(checks, "most critical component", "RoboCasa") == audit.AGREES


def test_sound_arithmetic_agrees(checks: pd.DataFrame) -> None:
    assert verdict(checks, "Table 1", "SFT: LIBERO average") == audit.AGREES
    assert verdict(checks, "8 of 12 tasks", ": wins") == audit.AGREES
    assert verdict(checks, "7 of 12 tasks", ": ties") == audit.AGREES
    assert verdict(checks, "KL bound") == audit.AGREES
    assert (checks[checks["source"] == "Table 4"]["verdict"] == audit.AGREES).all()
    assert verdict(checks, "ptrlib's defaults") == audit.AGREES


@pytest.mark.parametrize(("file", "old", "new", "words"), [
    ("table4_real_robot", "Suite average,,SFT-Specialist,55.0", "Suite average,,SFT-Specialist,56.0",
     ("Table 4 ", "SFT-Specialist: Bimanual average")),
    ("differences", "10.8", "11.8", ("“degrades the real-robot average",)),
    ("statements", "ties on 3, and trails on 1\",8", "ties on 3, and trails on 1\",9", ("8 of 12 tasks",
                                                                                        ": wins")),
    ("table6_defaults", "lambda_id,0.05", "lambda_id,0.06", ("ptrlib's defaults",)),
])
def test_a_changed_number_changes_the_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path, file: str, old: str,
                                              new: str, words: tuple[str, ...]) -> None:
    copy = tmp_path / "published"
    shutil.copytree(published.PUBLISHED, copy)
    text = (copy / f"{file}.csv").read_text()
    assert text.count(old) >= 1
    (copy / f"{file}.csv").write_text(text.replace(old, new))
    before = verdict(audit.audit(), *words)
    monkeypatch.setattr(published, "PUBLISHED", copy)
    assert (before, verdict(audit.audit(), *words)) == (audit.AGREES, audit.DISAGREES)


@pytest.mark.parametrize(("percent", "trials", "possible"), [
    (71.3, 300, True), (71.5, 300, False), (98.8, 500, True), (55.5, 500, False), (36.8, 400, True), (36.7,
                                                                                                      400,
                                                                                                      True),
])
def test_counts_behind_percentages(percent: float, trials: int, possible: bool) -> None:
    exists = any(abs(100 * count / trials - percent) <= 0.05 + 1e-9 for count in range(trials + 1))
    assert audit.is_count(percent, trials) is exists is possible


def test_corruption_defaults_are_the_papers() -> None:
    data = DataConfig()
    assert data.noise_sigma == published.statement("noise_sigma")
    assert data.noise_fraction == published.statement("noise_fraction")
    assert data.truncation_fraction == published.statement("truncation_fraction")
    assert data.truncation_keep == (published.statement("truncation_keep_low"),
                                    published.statement("truncation_keep_high"))
    assert data.label_fraction == published.statement("label_fraction")


def test_sampling_uncertainty_by_hand() -> None:
    rows = published.sampling_uncertainty().set_index("comparison")
    row = rows.loc["Real robots, generalist, all 12 tasks"]
    assert row["episodes"] == 240
    assert row["difference"] == pytest.approx(13.8)
    error = 100 * 1.959964 * math.sqrt((0.638 * 0.362 + 0.5 * 0.5) / 240)
    assert (row["low"], row["high"]) == pytest.approx((13.8 - error, 13.8 + error), abs=1e-3)
    wider = published.sampling_uncertainty(0.99).set_index("comparison")
    assert (wider["low"] < rows["low"]).all()
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 1"):
        published.sampling_uncertainty(1)
