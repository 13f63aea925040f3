"""Run folders, manifests and the queue of what is still missing.

One setting is one folder under ``experiments/runs``, named by a readable slug and the fingerprint of
its full configuration::

    config.yaml         the whole RunConfig
    provenance.json     commit, versions, machine, seed, start, wall time, command, data fingerprint
    metrics.parquet     a row per logging step
    weights.parquet     snapshots: a row per chunk (score, weight, embodiment, truth masks)
    gallery.npz         of a rule that ranks chunks: the highest and the lowest of the last snapshot, with images
    correspondence.npz  of such a rule on several robots: whose consequences it takes for whose, with images
    episodes.parquet    a row per evaluation episode
    policy.safetensors  the trained policy
    credit.safetensors  of a rule that ranks chunks: its state at the end of training, for ``ptrlib weights``
    done                written last

Training writes into ``.partial-NAME`` and renames it; evaluation then adds ``episodes.parquet`` and
``done``. A lock that the operating system frees when its holder dies keeps two workers off one
setting, so the run of a killed worker is simply taken up again from its checkpoint.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import itertools
import json
import operator
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from ptrlib.checks import check
from ptrlib.config import RunConfig, fingerprint, flatten, keys, override, stored, to_dict
from ptrlib.writing import check_place, written

EXPERIMENTS = Path("experiments")
RUNS = EXPERIMENTS / "runs"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with libyaml


class _Written(_LOADER):  # type: ignore[misc, valid-type]
    """YAML that people write: 1e-3 is a number, as in YAML 1.2."""


_Written.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), [*"-+.0123456789"])

_MAPPING = "a mapping of keys to values"
MANIFEST_KEYS = {"name": (str, "text"), "description": (str, "text"), "extends": (str, "a manifest's name"),
                 "base": (dict, _MAPPING), "methods": (dict, "a mapping of names to what they change"),
                 "grid": (dict, "a mapping of keys to lists of values"), "seeds": (list, "a list, such as [0, 1]"),
                 "skip": (list, "a list of mappings, such as {method: ptr, seed: [1, 2]}")}
RECORDED_PACKAGES = ("ptrlib", "torch", "numpy", "pandas", "h5py", "mujoco", "praxis-robosuite", "robosuite",
                     "praxis-libero", "libero", "praxis-robocasa", "robocasa")


@dataclass(frozen=True)
class Setting:
    """One cell of a manifest: the method's name there, and the full configuration."""

    method: str
    config: RunConfig

    @property
    def folder_name(self) -> str:
        return folder_name(self.config)


@dataclass(frozen=True)
class Manifest:
    """A table or figure as a grid of settings."""

    name: str
    description: str
    settings: tuple[Setting, ...]


def method_label(config: RunConfig) -> str:
    """A readable name of the rule: ``sft``, ``sft_belief``, ``ptr``, ``ptr_alpha0``, ``ptr_detached`` ..."""
    label = config.credit
    if label == "sft" and config.network.use_belief:
        label = "sft_belief"
    if label == "ptr":
        label += "_alpha0" if config.ptr.alpha == 0 else ""
        label += "_detached" if config.detach_scorer else ""
        label += "" if config.network.use_belief else "_nobelief"
    return label


def folder_name(config: RunConfig) -> str:
    """Slug and fingerprint, e.g. ``libero_spatial-ptr-combined-s0-1a2b3c4d``: the demonstrations' file or folder,
    method, corruption and seed."""
    names = "+".join(Path(path).name.removesuffix(".hdf5") for path in (config.data.path, *config.data.further_paths))
    return f"{names}-{method_label(config)}-{config.data.corruption}-s{config.seed}-{fingerprint(config)}"


def load_manifest(path: str | Path, changes: Mapping[str, Any] | None = None) -> Manifest:
    """Read ``experiments/NAME.yaml``; ``changes`` override dotted keys of every setting.

    ``extends: OTHER`` takes the ``base`` of ``experiments/OTHER.yaml`` first, then the manifest's own; methods, grid
    and seeds are its own alone.

    Raises:
        ValueError: a key or value that is wrong, named with the file and the nearest valid one.
    """
    content = read_manifest(path)
    try:
        settings = tuple(_settings(content, changes or {}))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not settings:
        raise ValueError(f"{path}: no setting is left of its methods, grid and seeds; give each at least one value, "
                         "and skip fewer")
    return Manifest(content.get("name", Path(path).stem), content.get("description", ""), settings)


def read_manifest(path: str | Path, *, extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """A manifest as it is written, with the ``base`` that it extends, as dotted keys, put before its own.

    Raises:
        ValueError: there is no such file, or it is not YAML, or a key of it is unknown or holds what it cannot hold, or
            it extends itself.
    """
    path = Path(path)
    if path.stem in extended_by:
        raise ValueError(f"{path}: it extends itself ({' extends '.join((*extended_by, path.stem))}); let one of them "
                         "extend nothing")
    content = _read_yaml(path)
    extended = content.pop("extends", None)
    if extended is not None:
        other = read_manifest(EXPERIMENTS / f"{extended}.yaml", extended_by=(*extended_by, path.stem))
        if "methods" in other and "methods" not in content:
            raise ValueError(f"{path}: it has no methods, and those of '{extended}' are not taken over with its base; "
                             f"write those it is to have, of {', '.join(other['methods'])} or others")
        content["base"] = flatten(other.get("base", {})) | flatten(content.get("base", {}))
    return content


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in EXPERIMENTS.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: no such manifest; there are: {known}")
    try:
        content = yaml.load(path.read_text(), _Written)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({str(error).splitlines()[0]}); mend the file") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a manifest is a mapping with the keys {', '.join(MANIFEST_KEYS)}")
    for key in content:
        if key not in MANIFEST_KEYS:
            near = difflib.get_close_matches(str(key), MANIFEST_KEYS, n=1, cutoff=0.0)[0]
            raise ValueError(f"{path}: unknown key '{key}'; the nearest valid key is '{near}'")
    try:
        _check_kinds(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return content


def _check_kinds(content: Mapping[str, Any]) -> None:
    """Raise ValueError for a key of a manifest that holds another kind of thing than it must."""
    for key, value in content.items():
        _check_kind(f"'{key}'", value, *MANIFEST_KEYS[key])
    for method, changes in content.get("methods", {}).items():
        if changes is not None:  # a method may change nothing
            _check_kind(f"method '{method}'", changes, dict, _MAPPING)
    for rule in content.get("skip", []):
        _check_kind("each entry of 'skip'", rule, dict, _MAPPING)


def _check_kind(what: str, value: Any, kind: type, words: str) -> None:
    if not isinstance(value, kind):
        found = "nothing; fill it in or leave it out" if value is None else repr(value)
        raise ValueError(f"{what} must be {words}, got {found}")


def _settings(content: Mapping[str, Any], changes: Mapping[str, Any]) -> Iterator[Setting]:
    base = override(RunConfig(), flatten(content.get("base", {})))
    grid = content.get("grid", {})
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid key '{key}' needs a list of values, got {values!r}")
    for method, method_changes in content.get("methods", {"run": {}}).items():
        for seed in content.get("seeds", [0]):
            for values in itertools.product(*grid.values()):
                cell = dict(zip(grid, values, strict=True))
                if any(_matches(rule, {"method": method, "seed": seed, **cell}) for rule in content.get("skip", [])):
                    continue
                config = override(base, {**flatten(method_changes or {}), **cell, "seed": seed, **changes})
                check(config)
                yield Setting(method, config)


def _matches(rule: Mapping[str, Any], cell: Mapping[str, Any]) -> bool:
    for key in rule:
        if key not in cell:
            raise ValueError(f"skip key '{key}' is none of 'method', 'seed' and the grid's keys")
    return all(cell[key] == value or (isinstance(value, list) and cell[key] in value) for key, value in rule.items())


def parse_changes(words: list[str]) -> dict[str, Any]:
    """``["seed=3", "data.corruption=combined"]`` as dotted changes; values are YAML scalars or lists."""
    changes: dict[str, Any] = {}
    for word in words:
        key, value = parse_word(word)
        if key not in keys(RunConfig()):
            override(RunConfig(), {key: None})  # raises, naming the nearest key
        changes[key] = value
    return changes


def parse_word(word: str) -> tuple[str, Any]:
    """``"seeds=[1, 2]"`` as the name and the value that YAML reads.

    Raises:
        ValueError: there is no "=", or what follows is not valid YAML.
    """
    key, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"'{word}' is not of the form key=value")
    try:
        return key, yaml.load(value, _Written)
    except yaml.YAMLError as error:
        raise ValueError(f"the value of '{word}' is not valid YAML ({str(error).splitlines()[0]}); "
                         "close its brackets and quotes") from None


def changes_of(config: RunConfig) -> list[str]:
    """The words of which :func:`parse_changes` makes ``config`` from the defaults."""
    defaults, words = RunConfig(), []
    for key in keys(config):
        value, default = (operator.attrgetter(key)(tree) for tree in (config, defaults))
        if value != default:
            plain = list(value) if isinstance(value, tuple) else value
            words.append(change_word(key, plain))
    return words


def change_word(key: str, value: Any) -> str:
    """The word of which :func:`parse_word` makes ``key`` and ``value``."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"  # every JSON value is YAML


def read_config(folder: Path) -> RunConfig:
    """The configuration a run folder was made with. Raises ValueError if ``folder`` is none."""
    try:
        text = (folder / "config.yaml").read_text()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder} is no run folder: it has no config.yaml; give a folder that training made, "
                         f"such as those in {RUNS}") from None
    return stored(yaml.load(text, _LOADER))


def with_start_in(root: Path, config: RunConfig) -> RunConfig:
    """``config``, whose ``initial_policy`` may be the path of a run folder of ``root``, as training prints it: it
    becomes the folder's bare name, by which runs are told apart."""
    given = Path(config.initial_policy)
    known = root / given.name
    if config.initial_policy and known.is_dir() and (not given.exists() or given.samefile(known)):
        return override(config, {"initial_policy": given.name})
    return config


def is_trained(config: RunConfig, root: Path = RUNS) -> bool:
    return (root / folder_name(config) / "metrics.parquet").is_file()


def is_done(config: RunConfig, root: Path = RUNS) -> bool:
    return (root / folder_name(config) / "done").is_file()


@contextlib.contextmanager
def claimed(name: str, root: Path = RUNS) -> Iterator[bool]:
    """Hold the setting ``name`` against every other worker; yields False when another one has it.

    The lock is the operating system's, so it ends with the process that holds it, however it ends.

    Raises:
        ValueError: ``root`` cannot be written to.
    """
    check_place(root / name, "--root")
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def partial_folder(config: RunConfig, root: Path = RUNS) -> Path:
    """Where training writes until it has finished; made if missing, with ``config.yaml`` in it."""
    folder = root / f".partial-{folder_name(config)}"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
    return folder


def write_text(path: Path, text: str) -> None:
    """Write ``path`` whole. Raises Stopped if the disk is full."""
    with written(path, shared=True) as temporary:
        temporary.write_text(text)


def provenance(config: RunConfig, started: datetime, **extra: Any) -> dict[str, Any]:
    """Where, when and with what a run was made."""
    now = datetime.now(UTC)
    return {**code_version(), "command": " ".join(["ptrlib", *sys.argv[1:]]), "seed": config.seed,
            "started": started.isoformat(), "wall_seconds": round((now - started).total_seconds(), 1),
            "python": platform.python_version(),
            "packages": _versions(), "machine": _machine(), **extra}


def code_version() -> dict[str, Any]:
    """The commit of the code that runs, and whether the package differs from it."""
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "--", "."))}


def write_provenance(folder: Path, record: Mapping[str, Any], name: str = "provenance.json") -> None:
    write_text(folder / name, json.dumps(record, indent=1) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _machine() -> dict[str, Any]:
    import torch  # here, where it is loaded already: reading runs must not wait for it

    from ptrlib.policy.precision import multiplies_bfloat16

    model = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {"system": platform.system(), "architecture": platform.machine(), "processor": model,
            "cores": os.cpu_count(), "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or None,
            "multiplies_bfloat16": multiplies_bfloat16(torch.device("cpu"))}


def _git(*words: str) -> str:
    """What git says about the repository this package lies in; "" where it lies in none."""
    package = Path(__file__).parent
    try:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
