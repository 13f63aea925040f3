"""A trained policy on disk: ``policy.safetensors`` with what is needed to act beside the weights.

The file holds the policy and, where it has one, the belief tokenizer; its metadata hold the
configuration, the normalisation statistics and the camera order.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ptrlib.config import RunConfig, stored, to_dict
from ptrlib.data.chunks import Statistics
from ptrlib.method.belief import BeliefTokenizer
from ptrlib.policy.action_space import make_known
from ptrlib.policy.policy import Policy
from ptrlib.writing import written

FILE = "policy.safetensors"


@dataclass
class SavedPolicy:
    """A policy ready to act."""

    policy: Policy
    tokenizer: BeliefTokenizer | None
    statistics: Statistics
    cameras: tuple[str, ...]
    config: RunConfig
    fingerprint: str  # of the file's bytes
    embodiments: tuple[str, ...]  # the robots whose demonstrations it learned from; () where the run does not say


def make_policy(config: RunConfig, cameras: int) -> Policy:
    """An untrained policy of the configured size."""
    return Policy(config.network, config.ptr.base_policy, cameras=cameras, belief_tokens=config.ptr.belief_tokens)


def make_tokenizer(config: RunConfig) -> BeliefTokenizer | None:
    """An untrained tokenizer, or None for a policy without belief tokens."""
    return BeliefTokenizer(config.network.width, config=config.ptr) if config.network.use_belief else None


def save_policy(folder: Path, policy: Policy, tokenizer: BeliefTokenizer | None, statistics: Statistics,
                cameras: tuple[str, ...], config: RunConfig) -> None:
    """Write ``folder/policy.safetensors`` whole. Raises Stopped if the disk is full."""
    parts = nn.ModuleDict({"policy": policy} | ({"tokenizer": tokenizer} if tokenizer is not None else {}))
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in parts.state_dict().items()}
    about = {"config": json.dumps(to_dict(config)), "statistics": json.dumps(statistics.to_dict()),
             "cameras": json.dumps(cameras)}
    with written(folder / FILE, failures=(SafetensorError,)) as temporary:
        save_file(tensors, temporary, metadata=about)


def load_policy(folder: str | Path) -> SavedPolicy:
    """The policy of a run folder, in evaluation mode.

    Raises:
        ValueError: there is no such folder, or it holds no policy, or one that cannot be read, or that learned from a
            robot of one's own whose name this process knows as another robot's.
    """
    path = Path(folder) / FILE
    if not path.parent.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give one that training made")
    if path.parent.name.startswith(".partial-"):
        raise ValueError(f"{folder}: its training is not finished; the command that began it goes on with it")
    if not (path.parent / "config.yaml").is_file() and not path.is_file():
        raise ValueError(f"{folder}: no trained policy here, nor any run (there is no config.yaml); give a folder that "
                         "training made")
    if not path.is_file():
        raise ValueError(f"{path}: no trained policy here (not all stored runs keep theirs); to train it again remove "
                         f"{path.parent} and run the manifest that it belongs to")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable policy ({error}); remove {path.parent} and train it "
                         "again") from None
    config, cameras = stored(json.loads(about["config"])), tuple(json.loads(about["cameras"]))
    make_known(config.data)
    policy, tokenizer = make_policy(config, len(cameras)), make_tokenizer(config)
    policy.load_state_dict(_part(tensors, "policy."))
    if tokenizer is not None:
        tokenizer.load_state_dict(_part(tensors, "tokenizer."))
        tokenizer.eval()
    return SavedPolicy(policy.eval(), tokenizer, Statistics.from_dict(json.loads(about["statistics"])), cameras,
                       config, hashlib.sha256(path.read_bytes()).hexdigest()[:16], learned_robots(path.parent))


def learned_robots(folder: Path) -> tuple[str, ...]:
    """The robots whose demonstrations the run in ``folder`` learned from, sorted; () of a run that was made before
    its weights.parquet said so."""
    chunks = folder / "weights.parquet"
    if not chunks.is_file() or "embodiment" not in pq.read_schema(chunks).names:
        return ()
    return tuple(sorted(set(pd.read_parquet(chunks, columns=["embodiment"]).embodiment)))


def _part(tensors: dict, prefix: str) -> dict:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
