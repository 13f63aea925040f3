"""Run folders with made-up content in the layout that training and evaluation write, for tests only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from ptrlib import runs
from ptrlib.config import to_dict

MANIFEST = {
    "name": "made_up", "base": {"evaluation.episodes_per_task": 4},
    "methods": {"sft": {"credit": "sft", "network.use_belief": False}, "ptr": {"credit": "ptr"},
                "random": {"credit": "random"}},
    "grid": {"data.corruption": ["none", "combined"]}, "seeds": [0, 1]}
GAIN = {"sft": -1.0, "ptr": 1.0, "random": 0.0}  # of the logit of success


def write_manifest(folder: Path, **changes) -> Path:
    path = folder / "made_up.yaml"
    path.write_text(yaml.safe_dump(MANIFEST | changes, sort_keys=False))
    return path


def write_runs(manifest: Path, root: Path) -> None:
    """A finished folder for every setting of ``manifest``."""
    generator = np.random.default_rng(0)
    for setting in runs.load_manifest(manifest).settings:
        config = setting.config
        folder = root / setting.folder_name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
        record = {"commit": "0" * 40, "dirty": False, "started": "2026-01-01T00:00:00", "wall_seconds": 120.0,
                  "seed": config.seed, "data": "data", "data_fingerprint": "f", "initial_policy": "",
                  "python": "3.11", "packages": {"torch": "2"}, "machine": {"processor": "p", "cores": 2}}
        (folder / "provenance.json").write_text(json.dumps(record))
        (folder / "evaluation.json").write_text(json.dumps(
            record | {"episodes": 40, "seconds_of_the_pass": 60.0, "runs_in_this_pass": 12}))
        success = generator.random((10, 4)) < 1 / (1 + np.exp(-GAIN[setting.method]))
        pd.DataFrame([{"suite": "libero_spatial", "task": f"task {task}", "task_index": task, "seed": 7,
                       "init_state": scene, "success": bool(success[task, scene]), "steps": 90, "wall": 1.0}
                      for task in range(10) for scene in range(4)]).to_parquet(folder / "episodes.parquet")
        pd.DataFrame({"step": [5, 10], "loss": [1.0, 0.5], "loss_action": [1.0, 0.5]} | (
            {} if setting.method == "sft" else {"nce_acc": [0.1, 0.6], "tau": [0.12, 0.11]})
            ).to_parquet(folder / "metrics.parquet")
        _weights(setting, generator).to_parquet(folder / "weights.parquet")
        (folder / "done").touch()


def _weights(setting: runs.Setting, generator: np.random.Generator) -> pd.DataFrame:
    rows, plain = [], setting.method == "sft"
    for step in (5, 10):
        for split, count in (("train", 24), ("held_out", 6)):
            for episode in range(count):
                noisy = split == "train" and setting.config.data.corruption != "none" and episode % 3 == 0
                for start in range(0, 40, 8):
                    score = generator.normal(0.5 - 2.0 * noisy)
                    rows.append({"step": step, "split": split, "episode": episode, "name": f"demo_{episode}",
                                 "start": start, "phase": start / 40, "operator": ("precise", "slow")[episode % 2],
                                 "task": "task", "source": "made up", "embodiment": "libero",
                                 "truth_action_noise": noisy, "truth_truncation": False,
                                 "truth_label_noise": False, "valid": start < 32,
                                 "score": np.nan if plain else score, "loss": 1.0 + noisy,
                                 "weight": 1.0 if plain else float(np.exp(score).clip(0.25, 4))})
    return pd.DataFrame(rows)
