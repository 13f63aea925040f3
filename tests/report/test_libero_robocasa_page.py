"""LIBERO and RoboCasa in one policy: the page on tiny runs trained here, with made-up episodes of evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ptrlib import experiment, runs, training
from ptrlib.data.hdf5 import write_episodes
from ptrlib.report import REPOSITORY, generalist, results
from tests.factories import tiny_episodes
from tests.report.tiny_book import SNAPSHOT_BATCHES, TINY, TinyBook

NAME, FIRST = "libero_robocasa_precise", "libero_robocasa_generalist"
SUCCESS = {"sft@libero": 0.75, "ptr@libero": 0.5, "sft@robocasa": 0.5, "ptr@robocasa": 0.5, "sft@generalist": 0.25,
           "ptr@generalist": 0.75, "random@generalist": 0.25}
SCENES = 8
TASKS = {"libero": ("libero_spatial", ("pick_up_the_bowl", "push_the_plate")),
         "robocasa": ("robocasa_six", ("OpenDrawer",))}
FOLDERS = {"libero": "libero", "robocasa": "robocasa_precise"}  # of data/


def record(folder: Path) -> None:
    """Eight episodes of each robot where the manifest looks for them."""
    for world, (suite, _) in TASKS.items():
        episodes = tiny_episodes(8, 30, 16, seed=len(world))
        for episode in episodes if world == "robocasa" else ():
            view, hand = episode.images.values()
            episode.images = {"agentview_left": view, "agentview_right": hand, "eye_in_hand": hand}
            episode.embodiment, episode.actions = "robocasa", np.pad(episode.actions, ((0, 0), (0, 5)))
            episode.state = np.pad(episode.state, ((0, 0), (0, 3)))
        path = folder / "data" / FOLDERS[world] / suite / "task_demo.hdf5"
        path.parent.mkdir(parents=True)
        write_episodes(path, episodes)


def evaluated(run: Path, method: str) -> None:
    """What an evaluation leaves in a run folder: the policy solves the first scenes of each task."""
    worlds = [world for world in TASKS if method.partition("@")[2] in (world, "generalist")]
    record = json.loads((run / "provenance.json").read_text())
    simulators = [{"world": world} | ({"assets": "minimal"} if world == "robocasa" else {}) for world in worlds]
    rows = [{"suite": TASKS[world][0], "task": task, "task_index": index, "init_state": scene, "seed": 7,
             "success": scene < SCENES * SUCCESS[method], "steps": 90, "wall": 1.0}
            for world in worlds for index, task in enumerate(TASKS[world][1]) for scene in range(SCENES)]
    pd.DataFrame(rows).to_parquet(run / "episodes.parquet")
    (run / "evaluation.json").write_text(json.dumps(record | {
        "episodes": len(rows), "simulators": simulators, "seconds_of_the_pass": 60.0, "runs_in_this_pass": 1}))
    (run / "done").touch()


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """A folder with the page's manifest made tiny, data of both robots and the finished runs."""
    folder = tmp_path_factory.mktemp("two_worlds")
    record(folder)
    (folder / runs.EXPERIMENTS).mkdir()
    for name in (FIRST, NAME):  # the second extends the first
        content = yaml.safe_load((REPOSITORY / runs.EXPERIMENTS / f"{name}.yaml").read_text())
        content["base"] |= TINY | {"data.episodes_per_task": 8, "network.image_size": 16, "network.token_size": 8}
        (folder / runs.EXPERIMENTS / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(training, "SNAPSHOT_BATCHES", SNAPSHOT_BATCHES)
        for run in experiment.run_manifest(f"{runs.EXPERIMENTS}/{NAME}.yaml", workers=1, stage="train"):
            setting = next(setting for setting in runs.load_manifest(f"{runs.EXPERIMENTS}/{NAME}.yaml").settings
                           if setting.folder_name == run.name)
            evaluated(run, setting.method)
    return TinyBook(folder)


def stored_runs(book: TinyBook, monkeypatch: pytest.MonkeyPatch) -> list[results.StoredRun]:
    monkeypatch.chdir(book.folder)
    return results.runs_of(NAME)


def test_a_tasks_world_is_its_robot_and_the_paper_has_a_column_for_it(small_book, monkeypatch):
    stored = stored_runs(small_book, monkeypatch)
    assert generalist.places(stored) == {"LIBERO": "LIBERO (spatial)",
                                         "RoboCasa": "RoboCasa in the minimal kitchen (six tasks)"}
    with pytest.raises(ValueError, match="no generalist is among these runs"):
        generalist.places([run for run in stored if "generalist" not in run.setting.method])
    found = generalist.world_contrasts(generalist.by_setting(results.episodes_frame(stored)))
    assert set(found.robot) == {"LIBERO", "RoboCasa"}
    by_hand = {"PTR − SFT, specialists": (-0.25, 0.0, -0.5, 1.4), "PTR − SFT, generalists": (0.5, 0.5, 1.2, 4.2),
               "what pooling costs SFT": (0.5, 0.25, 2.1, 3.4), "what pooling costs PTR": (-0.25, -0.25, 0.4, 0.6)}
    for name, (ours, kitchen, *printed) in by_hand.items():
        rows = found[found.contrast == name].set_index("robot").loc[["LIBERO", "RoboCasa"]]
        assert rows.estimate.tolist() == [ours, kitchen] and rows["count"].tolist() == [16, 8]
        assert rows.paper.tolist() == pytest.approx(printed)
    assert found[found.contrast.str.contains("random")].paper.isna().all()


def test_the_page_shows_what_its_runs_hold_and_averages_no_two_worlds(small_book, monkeypatch):
    stored = stored_runs(small_book, monkeypatch)
    page = small_book.execute("libero_robocasa")
    drawn = page.frame("libero_robocasa_success").set_index(["kind", "method", "group"])
    assert drawn.loc[("specialists", "sft", "LIBERO (spatial)"), ["estimate", "episodes"]].tolist() == [75, 16]
    assert drawn.loc[("generalists", "ptr", "RoboCasa in the minimal kitchen (six tasks)"), "estimate"] == 75
    assert len(drawn) == 4 + 3 * 2
    chunks = generalist.generalist_chunks(generalist.by_setting(results.weights_frame(stored)))
    mine = chunks[chunks.method == "ptr"]
    shares = page.frame("libero_robocasa_shares")
    measured = shares[(shares.method == "ptr") & (shares.quantity == "measured")].set_index("robot")
    for robot in ("LIBERO", "RoboCasa"):
        part = mine.robot == robot
        assert measured.estimate[robot] == pytest.approx(mine.weight[part].mean() / mine.weight.mean(), rel=1e-4)
    text = page.text()
    assert ">all robots<" not in text
    assert "RoboCasa: PTR minus SFT is +0.0" in text and "LIBERO: PTR minus SFT is -25.0" in text
    assert "The paper prints -0.5 and +1.2 on this benchmark, a change of +1.7" in text
    assert "Eq 30 allows" in text and "within the robot" in text
    assert f"The runs of `{FIRST}` are not all stored and not shown" in text
