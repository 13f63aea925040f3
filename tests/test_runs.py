"""Manifests, run folders and the queue of missing runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ptrlib import checks, experiment, runs
from ptrlib.config import PTRConfig, RunConfig, fingerprint, keys, override, stored, to_dict
from ptrlib.credit import crossfit
from ptrlib.experiment import evaluate_runs

ROOT = Path(__file__).parents[1]
MANIFEST = {
    "name": "small", "base": {"data.episodes_per_task": 2, "ptr": {"warmup_steps": 1}},
    "methods": {"sft": {"credit": "sft", "network.use_belief": False}, "ptr": {"credit": "ptr"},
                "oracle": {"credit": "oracle"}},
    "grid": {"data.corruption": ["none", "combined"]}, "seeds": [0, 1],
    "skip": [{"method": "oracle", "data.corruption": "none"}]}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(MANIFEST | changes))
    return path


def test_defaults_are_table_6():
    """Appendix B, Table 6, value by value."""
    ptr = PTRConfig()
    table = {"lambda_id": 0.05, "warmup_steps": 3000, "tau": 0.12, "beta": 1.5, "logit_clamp": 20.0, "w_min": 0.25,
             "w_max": 4.0, "alpha": 1, "queue_size": 1024, "queue_negatives": 64, "cross_rank_gather": True,
             "ema_decay": 0.999, "norm_eps": 1e-6, "belief_tokens": 4, "tau_tok": 1.0, "lambda_ent": 1e-3,
             "lambda_div": 1e-3, "lambda_rank": 0.25, "controller_decay": 0.98, "tau_min": 0.03, "tau_max": 0.20,
             "beta_min": 0.5, "beta_max": 3.0, "hard_ratio_min": 0.0, "hard_ratio_max": 0.5}
    assert {key: getattr(ptr, key) for key in table} == table
    assert (ptr.optimization.learning_rate, ptr.optimization.weight_decay) == (1e-4, 0.01)
    optimization = ptr.optimization
    assert (optimization.lr_warmup_steps, optimization.steps, optimization.batch_size) == (2000, 60_000, 128)
    base = ptr.base_policy
    assert (base.action_dim, base.chunk_length, base.denoising_steps) == (200, 16, 4)
    assert (base.flow_time_alpha, base.flow_time_beta) == (1.5, 1.0)


def test_a_grid_becomes_settings_with_distinct_folders(tmp_path):
    settings = runs.load_manifest(write(tmp_path)).settings
    assert len(settings) == 3 * 2 * 2 - 2
    assert len({s.folder_name for s in settings}) == len(settings)
    assert all(s.config.data.episodes_per_task == 2 and s.config.ptr.warmup_steps == 1 for s in settings)
    assert not any(s.method == "oracle" and s.config.data.corruption == "none" for s in settings)


def test_a_folder_is_named_after_what_was_learned_from():
    own = override(RunConfig(), {"data.path": "demos/image_v141.hdf5", "data.further_paths": ("demos/lifting/",)})
    assert runs.folder_name(own) == f"image_v141+lifting-ptr-none-s0-{fingerprint(own)}"


def test_a_seed_may_be_skipped_for_some_of_the_settings(tmp_path):
    settings = runs.load_manifest(write(tmp_path, skip=[{"seed": 1, "method": "ptr"}])).settings
    assert {(s.method, s.config.seed) for s in settings} == {
        ("sft", 0), ("sft", 1), ("ptr", 0), ("oracle", 0), ("oracle", 1)}


def test_a_list_in_a_rule_of_what_is_skipped_means_any_of_them(tmp_path):
    settings = runs.load_manifest(write(tmp_path, skip=[{"seed": 1, "method": ["ptr", "oracle"]}])).settings
    assert {(s.method, s.config.seed) for s in settings} == {("sft", 0), ("sft", 1), ("ptr", 0), ("oracle", 0)}


@pytest.mark.parametrize(("change", "words"), [
    ({"methdos": {}}, ("methdos", "methods")),
    ({"base": {"data.corruptoin": "none"}}, ("data.corruptoin", "data.corruption")),
    ({"base": {"credit": "prt"}, "methods": {"a": {}}}, ("prt", "ptr")),
    ({"grid": {"data.corruption": ["combind"]}, "skip": []}, ("combind", "combined")),
    ({"grid": {"data.corruption": "none"}}, ("data.corruption", "list")),
    ({"base": {"ptr.tau": "cold"}}, ("ptr.tau", "float")),
    ({"base": {"ptr.tau": -1.0}}, ("tau", "positive")),
    ({"base": {"ptr.optimization.batch_size": 30}}, ("batch_size", "segment_chunks")),
    ({"base": {"ptr.ema_decay": 1.1}}, ("ema_decay", "[0, 1]")),
    ({"base": {"ptr.optimization.batch_size": 64, "ranks": 3}}, ("ranks (3)", "16 segments")),
    ({"base": {"data.random_shift": 64}}, ("data.random_shift (64)", "network.image_size (64)")),
    ({"base": {"ptr.base_policy.action_dim": 100}}, ("'ptr.base_policy.action_dim' must be 200", "got 100")),
    ({"skip": [{"methd": "ptr"}]}, ("methd",)),
    ({"skip": ["ptr"]}, ("each entry of 'skip' must be a mapping", "got 'ptr'")),
    ({"base": None}, ("'base' must be a mapping", "got nothing; fill it in or leave it out")),
    ({"grid": None}, ("'grid' must be a mapping", "got nothing")),
    ({"methods": None}, ("'methods' must be a mapping", "got nothing")),
    ({"methods": ["ptr"]}, ("'methods' must be a mapping", "got ['ptr']")),
    ({"methods": {"ptr": "credit"}}, ("method 'ptr' must be a mapping", "got 'credit'")),
    ({"seeds": 3}, ("'seeds' must be a list, such as [0, 1], got 3",)),
    ({"extends": 5}, ("'extends' must be a manifest's name, got 5",)),
    ({"seeds": []}, ("no setting is left",)), ({"methods": {}}, ("no setting is left",)),
    ({"skip": [{"seed": 0}, {"seed": 1}]}, ("no setting is left",))])
def test_a_wrong_key_or_value_names_itself_and_the_nearest(tmp_path, change, words):
    with pytest.raises(ValueError) as error:
        runs.load_manifest(write(tmp_path, **change))
    assert "small.yaml" in str(error.value) and all(word in str(error.value) for word in words)


@pytest.mark.parametrize("key", checks.LOWEST)
def test_what_counts_has_a_lowest_value(key):
    lowest = checks.LOWEST[key]
    with pytest.raises(ValueError, match=f"^'{key}' must be {lowest} or more, got {lowest - 1}$"):
        runs.check(override(RunConfig(), {key: lowest - 1}))


def test_every_whole_number_has_a_lowest_value_or_is_one_of_a_few():
    numbers = {key for key in keys(RunConfig()) if type(attrgetter(key)(RunConfig())) is int}
    assert numbers == {*checks.LOWEST, *checks.CHOSEN}


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"evaluation.execute_steps": 0}, "'evaluation.execute_steps' must be 1 or more, got 0"),
    ({"evaluation.execute_steps": 4}, r"evaluation.execute_steps \(4\) must be data.chunk_stride \(8\): belief .*"),
    ({"evaluation.execute_steps": 17}, r"evaluation.execute_steps \(17\) must not be above ptr.base_policy.chunk_"
     r"length \(16\), the steps that are predicted at a time"),
    ({"network.heads": 3}, r"network.width \(128\) must be a multiple of network.heads \(3\)"),
    ({"network.width": 6, "network.heads": 3}, "'network.width' must be a multiple of 4, got 6"),
    ({"network.vision_channels": [8]}, r"'network.vision_channels' must be three numbers of 1 or more, got \[8\]"),
    ({"network.vision_channels": [8, 0, 8]}, "'network.vision_channels' must be three .*"),
    ({"network.image_size": 100}, r"network.image_size \(100\) must be a multiple of network.token_size \(16\)"),
    ({"network.token_size": 4}, "'network.token_size' must be 8 or 16, got 4"),
    ({"network.target_size": 48}, r"network.target_size \(48\) must be 0, or divide network.image_size \(64\) and .*"),
    ({"network.precision": "half"}, "'network.precision' is 'half'; the nearest valid value is .*"),
    ({"network.diffusion_clip": 0.0}, "'network.diffusion_clip' must be above 0, got 0.0"),
    ({"gradient_clip": 0.0}, "'gradient_clip' must be above 0, got 0.0"),
    ({"ptr.optimization.weight_decay": -0.1}, "'ptr.optimization.weight_decay' must be 0 or more, got -0.1"),
    ({"ptr.tau_tok": 0.0}, "tau_tok must be positive, got 0.0"),
    ({"ptr.logit_clamp": -1.0}, "logit_clamp must be positive, got -1.0"),
    ({"ptr.logit_clamp": float("nan")}, "logit_clamp must be positive, got nan"),
    ({"ptr.lambda_id": -1.0}, "lambda_id must be 0 or more, got -1.0"),
    ({"ptr.hard_ratio_max": 1.5}, r"hard_ratio_max must lie in \[0, 1\], got 1.5"),
    ({"ptr.hard_accuracy_high": 0.1}, r"hard_accuracy_low \(0.1\) must be below hard_accuracy_high \(0.1\)"),
    ({"ptr.tau_min": 0.3}, r"tau_min \(0.3\) must not be above tau_max \(0.2\)"),
    ({"ptr.tau": 0.3}, r"tau \(0.3\) must lie in \[tau_min, tau_max\] = \[0.03, 0.2\], where the controller .*"),
    ({"ptr.w_max": float("inf")}, r"the clip must satisfy 0 < w_min <= 1 <= w_max, both finite, got \[0.25, inf\]; .*"),
    ({"data.held_out_fraction": 1.0}, r"'data.held_out_fraction' must lie in \[0, 1\), got 1.0"),
    ({"data.label_fraction": 1.5}, r"'data.label_fraction' must lie in \[0, 1\], got 1.5"),
    ({"data.truncation_keep": [0.7, 0.4]}, r"'data.truncation_keep' must be \[low, high\] with .* got \[0.7, 0.4\]"),
    ({"crossfit.questions": []}, "'crossfit.questions' is empty; name one or several of action, .*"),
    ({"crossfit.questions": ["actoin"]}, "'crossfit.questions' is 'actoin'; the nearest valid value is 'action' .*"),
    ({"crossfit.full_weight_quantile": 2.0}, r"'crossfit.full_weight_quantile' must lie in \[0, 1\], got 2.0"),
    ({"crossfit.pooling": "batch"}, "'crossfit.pooling' is 'batch'; .*"),
    ({"credit": "crossfit", "crossfit.every": 3}, r"crossfit.every \(3\) must divide data.chunk_stride \(8\); choose "
     "one of 1, 2, 4, 8"),
    ({"credit": "crossfit_random", "crossfit.every": 16}, r"crossfit.every \(16\) must divide data.chunk_stride .*")])
def test_a_value_that_cannot_work_is_refused_before_anything_is_read(changes, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        runs.check(override(RunConfig(), changes))


def test_values_at_the_edges_that_work_are_let_through():
    runs.check(override(RunConfig(), {
        "ptr.w_min": 1e-6, "ptr.w_max": 1e6, "ptr.ema_decay": 0.0, "ptr.alpha": 0.0, "ptr.optimization.steps": 0,
        "ptr.hard_ratio_max": 0.0, "ptr.scale_up": 1.0, "ptr.lambda_id": 0.0, "ptr.optimization.learning_rate": 0.0,
        "data.noise_sigma": 0.0, "evaluation.execute_steps": 16, "data.chunk_stride": 16, "evaluation.max_steps": 0}))
    runs.check(override(RunConfig(), {"evaluation.execute_steps": 4, "network.use_belief": False}))
    runs.check(override(RunConfig(), {"ptr.tau": 0.3, "ptr.tau_max": 0.4, "ptr.beta": 4.0, "ptr.beta_max": 4.0}))
    runs.check(override(RunConfig(), {"credit": "crossfit", "crossfit.every": 8}))
    runs.check(override(RunConfig(), {"credit": "ptr", "crossfit.every": 3}))  # which nobody reads


def test_the_questions_that_a_configuration_may_name_are_those_there_are():
    assert set(checks.QUESTIONS) == {*crossfit.QUESTIONS, "likelihood"}


def test_a_method_may_change_nothing(tmp_path):
    assert len(runs.load_manifest(write(tmp_path, methods={"run": None}, skip=[])).settings) == 4


def test_every_manifest_passes_the_checks(monkeypatch):
    monkeypatch.setattr(runs, "EXPERIMENTS", ROOT / "experiments")
    for path in sorted(runs.EXPERIMENTS.glob("*.yaml")):
        assert runs.load_manifest(path).settings  # ValueError for one that does not


def test_a_manifest_extends_the_base_of_another_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "EXPERIMENTS", tmp_path)
    write(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"extends": "small", "base": {"ptr.warmup_steps": 7}, "seeds": [5],
                                     "methods": {"sft": {"credit": "sft"}}}))
    (setting,) = runs.load_manifest(other).settings
    assert setting.config.data.episodes_per_task == 2  # small's
    assert setting.config.ptr.warmup_steps == 7 and setting.config.seed == 5  # its own
    other.write_text("extends: small\n")
    with pytest.raises(ValueError, match="other.yaml: it has no methods, and those of 'small' are not taken over with "
                                         f"its base; .* of {', '.join(sorted(MANIFEST['methods']))} or others$"):
        runs.load_manifest(other)
    other.write_text("extends: other\n")
    with pytest.raises(ValueError, match=r"it extends itself \(other extends other\); let one of them extend nothing"):
        runs.load_manifest(other)
    other.write_text("extends: smal\n")
    with pytest.raises(ValueError, match="no such manifest; there are: other, small"):
        runs.load_manifest(other)


def test_a_missing_manifest_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="no such manifest"):
        runs.load_manifest(tmp_path / "absent.yaml")


def test_configurations_survive_a_file(tmp_path):
    config = override(RunConfig(), {"seed": 3, "data.truncation_keep": [0.5, 0.6]})
    folder = runs.partial_folder(config, tmp_path)
    assert runs.read_config(folder) == config
    assert stored(to_dict(config)) == config


def other_than(value: Any) -> Any:
    """A value of the same kind that is not ``value``."""
    if isinstance(value, tuple):
        return [*map(other_than, value)] if value else ["another"]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}another"
    return value + 1 if isinstance(value, int) else value * 0.999 or 0.25


@pytest.mark.parametrize("key", keys(RunConfig()))
def test_every_key_changes_the_fingerprint(key):
    """Of a run that reads it: the crossfit keys and those of faults are left out of the others' names."""
    config = override(RunConfig(), {"data.corruption": "combined", "data.mask_padded_actions": True} | (
        {"credit": "crossfit"} if key.startswith("crossfit.") else {}))
    changed = override(config, {key: other_than(attrgetter(key)(config))})
    assert changed != config and fingerprint(changed) != fingerprint(config)


def test_keys_that_came_later_do_not_rename_stored_runs():
    folders = [file.parent for file in sorted((ROOT / "experiments" / "runs").glob("[!.]*/config.yaml"))]
    assert folders and all(runs.folder_name(runs.read_config(folder)) == folder.name for folder in folders)
    for change in ({"network.token_size": 8}, {"ranks": 2}, {"data.noise_bias": 0.5}):
        assert fingerprint(override(RunConfig(), change)) != fingerprint(RunConfig())


def test_a_mended_fault_renames_the_runs_that_it_touches_and_no_others():
    corrupted = {"data.corruption": "combined"}
    for fault, touched, untouched in (
            ("data.shift_targets", {"credit": "ptr"}, ({"credit": "sft"}, {"data.random_shift": 0})),
            ("data.true_tasks", {"credit": "random"} | corrupted,
             ({"credit": "oracle"} | corrupted, {"credit": "ptr"})),
            ("data.belief_foresight", {"credit": "sft"},
             ({"network.use_belief": False}, {"data.chunk_stride": 16}, {"data.segment_chunks": 1})),
            ("data.hide_padded_actions", {"data.mask_padded_actions": True}, ({},))):
        for changes, renamed in ((touched, True), *((changes, False) for changes in untouched)):
            config = override(RunConfig(), changes)
            assert (fingerprint(config) != fingerprint(override(config, {fault: True}))) is renamed
    older = to_dict(RunConfig())
    faults = ("shift_targets", "true_tasks", "belief_foresight", "hide_padded_actions")
    for fault in faults:  # as in the folder of a run made before
        del older["data"][fault]
    assert stored(older) == override(RunConfig(), {f"data.{fault}": True for fault in faults})


def test_changes_on_the_command_line_are_checked():
    assert runs.parse_changes(["seed=3", "data.corruption=combined", "ptr.tau=0.2"]) == {
        "seed": 3, "data.corruption": "combined", "ptr.tau": 0.2}
    with pytest.raises(ValueError, match="'seed'"):
        runs.parse_changes(["sead=3"])
    with pytest.raises(ValueError, match="key=value"):
        runs.parse_changes(["seed"])
    with pytest.raises(ValueError, match=r"^the value of 'data.cameras=\[top, wrist' is not valid YAML .*; close its"):
        runs.parse_changes(["data.cameras=[top, wrist"])


@pytest.mark.parametrize(("text", "number"), [("1e-3", 1e-3), ("1E4", 1e4), ("-2.5e1", -25.0), (".5e+1", 5.0)])
def test_a_number_with_an_exponent_needs_no_point(tmp_path, text, number):
    assert runs.parse_changes([f"ptr.margin_high={text}"]) == {"ptr.margin_high": number}
    manifest = tmp_path / "rates.yaml"
    manifest.write_text(f"base: {{ptr.margin_high: {text}}}\n")
    assert runs.load_manifest(manifest).settings[0].config.ptr.margin_high == number


def test_a_name_that_looks_like_a_number_stays_one(tmp_path):
    config = override(RunConfig(), {"data.path": "1e5", "initial_policy": "12"})
    assert override(RunConfig(), runs.parse_changes(runs.changes_of(config))) == config
    assert runs.read_config(runs.partial_folder(config, tmp_path)) == config


def test_what_is_no_run_folder_is_said_to_be_none(tmp_path):
    (tmp_path / "weights.parquet").touch()
    for path in (tmp_path / "nope", tmp_path / "weights.parquet"):
        with pytest.raises(ValueError, match=f"^{path} is no run folder: it has no config.yaml; give a folder that"):
            runs.read_config(path)


@pytest.mark.parametrize(("robot", "world", "suite", "says"), [
    ("robocasa", "libero", "libero_spatial", r"^run learned .* robot robocasa, and its evaluation.world=libero .* of "
     r"another robot \(libero\); train it with evaluation.world=robocasa and evaluation.suite=one of robocasa_all, "),
    ("tabletop_gantry", "libero+robocasa", "libero_spatial+robocasa_six", r"\(libero, robocasa\); train it with "
     "evaluation.world=tabletop"),
    ("fr3", "libero", "libero_spatial", "there is no world here with the robot"),
    ("robocasa", "libero+robocasa", "libero_spatial+robocasa_six", "no trained policy here"),  # the next check
    ("tabletop_two_link", "tabletop", "easy", "no trained policy here"),
    (None, "libero", "libero_spatial", "no trained policy here"),  # a run made before chunks said their robot
])
def test_a_policy_is_not_judged_in_a_world_without_its_robot(tmp_path, robot, world, suite, says):
    config = override(RunConfig(), {"evaluation.world": world, "evaluation.suite": suite})
    folder = runs.partial_folder(config, tmp_path).rename(tmp_path / "run")
    pd.DataFrame({"score": [0.0, 1.0]} | ({"embodiment": [robot, robot]} if robot else {})).to_parquet(
        folder / "weights.parquet")
    (folder / "provenance.json").write_text("{}")
    with pytest.raises(ValueError, match=says):
        evaluate_runs([folder])


def made_run(root: Path, **changes: object) -> Path:
    """A run folder of a configuration, without anything that training adds."""
    config = override(RunConfig(), {key.replace("__", "."): value for key, value in changes.items()})
    return runs.partial_folder(config, root).rename(root / "run")


def test_two_processes_do_not_evaluate_one_run(tmp_path):
    folder = made_run(tmp_path, evaluation__world="tabletop", evaluation__suite="wipe")
    with runs.claimed("run.evaluation", tmp_path), pytest.raises(
            ValueError, match=f"^{folder} is being evaluated by another process; wait for it, or stop it$"):
        evaluate_runs([folder])
    with pytest.raises(ValueError, match="no trained policy here"):  # the next check
        evaluate_runs([folder])


def test_a_run_whose_evaluation_would_never_end_is_not_evaluated(tmp_path):
    folder = made_run(tmp_path, evaluation__world="tabletop", evaluation__suite="wipe", evaluation__execute_steps=0)
    with pytest.raises(ValueError, match=f"^{folder}: 'evaluation.execute_steps' must be 1 or more, got 0; train it "
                                         "again with a value that can work$"):
        evaluate_runs([folder])


def test_changes_of_a_configuration_make_it_again():
    config = override(RunConfig(), {"seed": 3, "ptr.w_min": 1e-6, "ptr.ema_decay": 1.0, "ranks": 2,
                                    "data.path": "a b/c", "network.vision_channels": [8, 16, 16],
                                    "ptr.cross_rank_gather": False})
    assert override(RunConfig(), runs.parse_changes(runs.changes_of(config))) == config
    assert runs.changes_of(RunConfig()) == []


def _hold(root: Path, ready, release) -> None:
    with runs.claimed("a-run", root) as mine:
        ready.put(mine)
        release.wait(30)


def test_a_claim_is_exclusive_and_ends_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Queue(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.get(timeout=60) is True
    with runs.claimed("a-run", tmp_path) as mine:
        assert mine is False
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    deadline = time.monotonic() + 10
    while True:
        with runs.claimed("a-run", tmp_path) as mine:
            if mine:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_text_is_written_whole_or_not_at_all(tmp_path):
    runs.write_text(tmp_path / "a.txt", "one")
    runs.write_text(tmp_path / "a.txt", "two")
    assert (tmp_path / "a.txt").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


def test_a_root_that_cannot_hold_runs_is_said_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/file is a file, and .*; give --root a name in a fol"), \
            runs.claimed("a-run", tmp_path / "file"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("places", "told"), [
    ([], True), ([{"world": "robocasa"}], True), ([{"world": "libero"}], False),
    (None, False)])  # older runs do not tell
def test_a_run_that_is_judged_where_nothing_says_it_learned_is_told(tmp_path, capsys, places, told):
    runs.write_text(tmp_path / "provenance.json", json.dumps({} if places is None else {"demonstrated_in": places}))
    experiment._tell_other_world(tmp_path, RunConfig().evaluation)
    assert ("do not say that they are of libero, in whose suite libero_spatial" in capsys.readouterr().err) == told
