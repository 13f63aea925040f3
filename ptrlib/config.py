"""Every default of the project, once.

:class:`PTRConfig` is Table 6 of the paper (Appendix B): each field names its symbol and the section
that introduces it. :class:`RunConfig` adds what the paper leaves to the implementation: the size of
our compact policy, the data, the credit rule and the evaluation. Nothing else in the package holds a
default for any of these quantities.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class OptimizationConfig:
    """Table 6, *Optimization*. AdamW with a cosine schedule."""

    learning_rate: float = 1e-4  # eta
    weight_decay: float = 0.01
    lr_warmup_steps: int = 2000  # linear
    steps: int = 60_000
    batch_size: int = 128  # global, in places for chunks; some stay empty where an episode begins or ends


@dataclass(frozen=True)
class BasePolicyConfig:
    """Table 6, *Base policy* (Section 3)."""

    action_dim: int = 200  # unified action space
    chunk_length: int = 16  # L
    flow_time_alpha: float = 1.5  # sigma ~ Beta(1.5, 1.0)
    flow_time_beta: float = 1.0
    denoising_steps: int = 4  # Euler steps at inference


LOWEST_OF_PTR = {"warmup_steps": 0, "queue_size": 1, "queue_negatives": 0, "same_target_window": 0,
                 "belief_tokens": 1}  # of PTRConfig's whole numbers


@dataclass(frozen=True)
class PTRConfig:
    """Table 6 of the paper, whole. The fields of this class itself are what the overlay reads."""

    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    base_policy: BasePolicyConfig = field(default_factory=BasePolicyConfig)

    # PTR scorer (Sections 4.2, 4.4)
    lambda_id: float = 0.05  # lambda_id, Eq 32
    warmup_steps: int = 3000  # "NCE warmup steps": w = 1 before this step (Section 5.6)
    tau: float = 0.12  # tau_score, initial, Eq 12
    beta: float = 1.5  # beta, initial, Eq 21
    logit_clamp: float = 20.0  # |d| <= clamp, before the softmax
    w_min: float = 0.25  # Eq 21
    w_max: float = 4.0  # Eq 21
    alpha: float = 1.0  # mixture coefficient, Eq 21

    # Candidate pool (Section 4.2)
    queue_size: int = 1024
    queue_negatives: int = 64  # at most, per sample
    cross_rank_gather: bool = True
    same_target_window: int = 4  # ours: frames of one episode closer than this are the same target

    # EMA target encoder (Section 4.2)
    ema_decay: float = 0.999  # mu
    norm_eps: float = 1e-6

    # Belief tokenizer (Section 4.1)
    belief_tokens: int = 4  # M
    tau_tok: float = 1.0  # Eq 7
    lambda_ent: float = 1e-3  # Eq 10
    lambda_div: float = 1e-3  # Eq 11

    # Action sensitivity (Section 4.2)
    lambda_rank: float = 0.25  # Eq 13, 32

    # Adaptive scale control (Section 4.5)
    controller_decay: float = 0.98
    accuracy_low: float = 0.05
    accuracy_high: float = 0.35
    margin_high: float = 0.10
    scale_up: float = 1.01
    scale_down: float = 0.995
    tau_min: float = 0.03
    tau_max: float = 0.20
    beta_min: float = 0.5
    beta_max: float = 3.0
    hard_accuracy_low: float = 0.10  # hard-negative ratio is linear in accuracy between these two
    hard_accuracy_high: float = 0.50
    hard_ratio_min: float = 0.0
    hard_ratio_max: float = 0.5

    # Offset discount (Section 4.4, "Implementation considerations"); 1 switches it off
    gamma: float = 1.0

    def __post_init__(self) -> None:
        for name in ("tau", "beta", "logit_clamp", "norm_eps", "tau_tok", "scale_up", "scale_down", "tau_min",
                     "beta_min"):
            _require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        for name in ("lambda_id", "lambda_ent", "lambda_div", "lambda_rank"):
            _require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("controller_decay", "hard_ratio_min", "hard_ratio_max"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must lie in [0, 1], got {getattr(self, name)}")
        _require(0 <= self.alpha <= 1, f"alpha must lie in [0, 1], got {self.alpha}")
        _require(0 < self.w_min <= 1 <= self.w_max < math.inf, "the clip must satisfy 0 < w_min <= 1 <= w_max, both "
                 f"finite, got [{self.w_min}, {self.w_max}]; hardly any clip is w_min=1e-6 and w_max=1e6")
        _require(0 <= self.ema_decay <= 1,
                 f"ema_decay must lie in [0, 1] (0: no average, 1: frozen), got {self.ema_decay}")
        _require(0 < self.gamma <= 1, f"gamma must lie in (0, 1], got {self.gamma}")

    def check(self) -> None:
        """Raise ValueError for values with which the overlay cannot work, some only together: once all are set."""
        for name, lowest in LOWEST_OF_PTR.items():
            _require(getattr(self, name) >= lowest, f"{name} must be {lowest} or more, got {getattr(self, name)}"
                     + ("; queue_negatives=0 leaves the queue out" if name == "queue_size" else ""))
        for name in ("tau", "beta"):
            low, value, high = (getattr(self, key) for key in (f"{name}_min", name, f"{name}_max"))
            _require(low <= high, f"{name}_min ({low}) must not be above {name}_max ({high})")
            _require(low <= value <= high, f"{name} ({value}) must lie in [{name}_min, {name}_max] = [{low}, {high}], "
                     "where the controller keeps it; move these too")
        _require(self.hard_accuracy_low < self.hard_accuracy_high, f"hard_accuracy_low ({self.hard_accuracy_low}) must "
                 f"be below hard_accuracy_high ({self.hard_accuracy_high})")


TARGET_PIXELS = 64  # of a side that the target encoder sees at most by default


@dataclass(frozen=True)
class NetworkConfig:
    """Size of our compact policy (the paper's is a 2B-parameter VLA; Section 3 gives the shape)."""

    image_size: int = 64  # pixels; images are area-averaged down to it
    width: int = 128  # hidden size d of backbone, action expert and action tokens
    token_size: int = 16  # pixels of a vision token's side: 8 for small images
    target_size: int = 0  # pixels at which the target encoder sees images; 0: image_size, above 64 a part of it
    vision_channels: tuple[int, ...] = (32, 64, 128)
    backbone_layers: int = 3
    expert_layers: int = 3
    heads: int = 4
    expansion: int = 2  # of the transformer's feed-forward layers, times width
    vocabulary: int = 512  # buckets for instruction words; a word is the sum of two
    instruction_length: int = 24  # words, padded or cut
    head: str = "flow"  # "flow" | "diffusion"
    diffusion_levels: int = 100  # noise levels in training
    diffusion_clip: float = 5.0  # bound of a normalised action while sampling
    precision: str = "auto"  # "float32" | "bfloat16" | "auto": bfloat16 where the processor multiplies it
    use_belief: bool = True
    fusion: str = "attention"  # "film": the instruction also gates the vision tokens, and the expert is given h_t

    @property
    def target_pixels(self) -> int:
        """Pixels of a side at which the target encoder sees images: at most 64 unless ``target_size`` says otherwise,
        for that is what every stored run has, and on larger images the encoder is what PTR costs."""
        if self.target_size or self.image_size < 1:
            return self.target_size or self.image_size
        return next(size for size in range(min(self.image_size, TARGET_PIXELS), 0, -1) if self.image_size % size == 0)


@dataclass(frozen=True)
class DataConfig:
    """Which episodes, how they are cut into chunks and how they are corrupted (Section 5.1)."""

    path: str = "data/libero/libero_spatial"
    further_paths: tuple[str, ...] = ()  # learned from together with path
    cameras: tuple[str, ...] = ()  # in this order; "a|b" is one view that some files call a and others b; () for all
    embodiment: str = "libero"  # of files that do not name their robot
    action_slots: tuple[str, ...] = ()  # of a robot of one's own: groups of slots, "arm_joints:5" for the first five
    state_slots: tuple[str, ...] = ()  # likewise; () where the state has its action's
    state_column: str = ""  # of a LeRobot dataset; "": observation.state
    action_column: str = ""  # of a LeRobot dataset; "": action
    episodes_per_task: int = 50  # the first of each HDF5 file, or of each task of a LeRobot dataset; 0: all
    exclude: tuple[str, ...] = ()  # episodes that are not read: demo_3 (of LeRobot episode_000003), or FILE/demo_3
    filter_key: str = ""  # the list of episodes that is read: mask/KEY of HDF5 files, a split of a LeRobot dataset
    operators: tuple[str, ...] = ()  # of those episodes, these demonstrators' alone; () for everybody's
    offset: int = 16  # Delta: steps between o_t and the post-action observation
    segment_chunks: int = 4  # consecutive chunks through which belief tokens recur
    chunk_stride: int = 8  # steps between consecutive chunks of a segment; as executed
    mask_padded_actions: bool = False  # False: pad with the last action and learn it, as upstream does
    hide_padded_actions: bool = False  # True: nor are they seen, which tells how many steps are left
    random_shift: int = 2  # pixels of translation augmentation; 0 for none
    shift_targets: bool = False  # True: a chunk's consequence is shifted like its observation, which gives it away
    true_tasks: bool = False  # True: hard negatives of a mislabelled chunk come from its true task, which nobody knows
    belief_foresight: bool = False  # True: belief tokens also hold recorded steps that the next chunk is to predict
    held_out_fraction: float = 0.1  # episodes on which scores are logged but nothing is learned
    corruption: str = "none"  # "none" | "action_noise" | "truncation" | "label_noise" | "combined"
    noise_sigma: float = 0.1  # in the units of the recorded action, which LIBERO and RoboCasa bring into [-1, 1]
    noise_bias: float = 0.0  # standard deviation of a constant added to a noisy episode's actions; the paper has none
    noise_fraction: float = 0.30
    truncation_fraction: float = 0.25
    truncation_keep: tuple[float, float] = (0.4, 0.7)
    label_fraction: float = 0.20


@dataclass(frozen=True)
class CrossFitConfig:
    """Our own rule, credit "crossfit" (ptrlib/credit/crossfit.py). Bounds and mixture are PTRConfig's."""

    questions: tuple[str, ...] = ("action", "instruction", "ending")  # also "consequence", "likelihood"
    folds: int = 2  # scorers never judge what they learned from; 1: they do
    pooling: str = "episode"  # "episode": a mean over its chunks | "chunk"
    beta: float = 0.5  # nats of score that change the weight by a factor e
    full_weight_quantile: float = 0.3  # of the training chunks' answers: there and above nothing is missing
    every: int = 4  # steps between scored chunks; divides data.chunk_stride
    recorded_steps: int = 0  # at least, from o_t on, of a chunk that is scored; 0: all Delta of them
    steps: int = 400  # of training a scorer
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    width: int = 128  # of a scorer's hidden layer
    embedding: int = 32
    dropout: float = 0.5
    temperature: float = 0.1
    neighbours: int = 16  # candidates of the action question


@dataclass(frozen=True)
class EvaluationConfig:
    """Rollouts in the simulator (experiments/protocol.md)."""

    world: str = "libero"
    suite: str = "libero_spatial"
    episodes_per_task: int = 10
    first_init_state: int = 0  # evaluation uses init states first .. first + episodes - 1
    execute_steps: int = 8  # of the predicted chunk
    restart_beliefs: int = 0  # chunks after which belief tokens begin anew, as in training; 0: never within an episode
    max_steps: int = 0  # the task's own limit holds if it is shorter; 0: it alone
    workers: int = 2


@dataclass(frozen=True)
class RunConfig:
    """One setting of an experiment: everything its run folder's name is a hash of."""

    seed: int = 0
    credit: str = "ptr"  # a name in ptrlib.credit.CREDITS
    detach_scorer: bool = False  # scorer reads sg(h), sg(E): its losses leave the policy alone (the tokenizer's do not)
    hard_negatives: str = "task"  # of the instruction's task, or of a nearby "state" (Section 4.5 names both)
    initial_policy: str = ""  # run folder whose policy every method starts from; "" is from scratch
    gradient_clip: float = 1.0  # largest norm of a step's gradient; Table 6 names none, .inf leaves all as they are
    log_every: int = 20  # steps; the controller acts at each (Section 4.5)
    ranks: int = 1  # processes that train together, each on its share of every batch
    ptr: PTRConfig = field(default_factory=PTRConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    crossfit: CrossFitConfig = field(default_factory=CrossFitConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def override(config: ConfigT, changes: Mapping[str, Any]) -> ConfigT:
    """A copy of ``config`` with dotted keys replaced, e.g. ``{"data.corruption": "combined"}``.

    Raises:
        ValueError: an unknown key (the nearest valid one is named) or a value of another type.
    """
    for key, value in changes.items():
        config = _replace_one(config, key.split("."), value, key)
    return config


def keys(config: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration tree that holds a value."""
    found: list[str] = []
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        name = f"{prefix}{entry.name}"
        found += keys(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]
    return found


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dictionaries and lists, ready for YAML or JSON."""
    return {entry.name: _plain(getattr(config, entry.name)) for entry in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


# Keys that came after runs had been stored. With the value that those runs were made with, which is its default, such
# a key is left out of the fingerprint, so that they keep their names.
ADDED_LATER = ("network.token_size", "network.fusion", "ranks", "crossfit.recorded_steps", "data.noise_bias",
               "data.further_paths", "data.cameras", "network.target_size", "data.state_column", "data.action_column",
               "data.operators", "gradient_clip", "data.exclude", "data.filter_key", "hard_negatives",
               "data.action_slots", "data.state_slots", "evaluation.restart_beliefs")
# Likewise, but the default is better than what those runs had, and their manifests say that they had it.
MENDED_LATER = {"data.shift_targets": True, "data.true_tasks": True, "data.belief_foresight": True,
                "data.hide_padded_actions": True}
LOOKING_BACK = ("ptr", "random", "ptr_neutral")  # the rules that look at what followed a chunk while they learn


def stored(values: Mapping[str, Any]) -> RunConfig:
    """The configuration in a run folder; what it does not know of is as it was when the run was made."""
    return override(override(RunConfig(), MENDED_LATER), flatten(values))


def fingerprint(config: RunConfig) -> str:
    """Eight hexadecimal digits that name a full configuration."""
    values, made_with = to_dict(config), flatten(_defaults()) | MENDED_LATER
    unread = MENDED_LATER.keys() - touched(config)
    for key in (*ADDED_LATER, *MENDED_LATER):
        *groups, name = key.split(".")
        found = values
        for group in groups:
            found = found[group]
        if found[name] == made_with[key] or key in unread:
            del found[name]
    if not config.credit.startswith("crossfit"):  # nobody reads the group
        del values["crossfit"]
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _defaults() -> dict[str, Any]:
    return to_dict(RunConfig())


def touched(config: RunConfig) -> set[str]:
    """Those of ``MENDED_LATER`` that make a difference: only PTR and its controls look at the consequence, belief
    tokens hold what the next chunk is to predict only where the chunks of a segment overlap, and padded actions are
    hidden only where they are left out of the loss."""
    data, looks = config.data, config.credit in LOOKING_BACK
    overlap = data.segment_chunks > 1 and data.chunk_stride < config.ptr.base_policy.chunk_length
    return {key for key, matters in {
        "data.shift_targets": looks and data.random_shift > 0,
        "data.true_tasks": looks and data.corruption in ("label_noise", "combined"),
        "data.belief_foresight": config.network.use_belief and overlap,
        "data.hide_padded_actions": data.mask_padded_actions}.items() if matters}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested and dotted keys alike, as dotted ones; a dotted key may itself hold a mapping."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _replace_one(config: Any, path: list[str], value: Any, full_key: str) -> Any:
    name, rest = path[0], path[1:]
    valid = [entry.name for entry in dataclasses.fields(config)]
    if name not in valid:
        parent = full_key[: len(full_key) - len(".".join(path))]
        near = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
        raise ValueError(f"unknown key '{full_key}'; the nearest valid key is '{parent}{near[0]}'")
    current = getattr(config, name)
    if rest and not dataclasses.is_dataclass(current):
        raise ValueError(f"unknown key '{full_key}'; '{name}' holds a value and has no keys below it")
    if rest:
        return dataclasses.replace(config, **{name: _replace_one(current, rest, value, full_key)})
    if dataclasses.is_dataclass(current):
        raise ValueError(f"'{full_key}' is a group of keys; set one of {', '.join(keys(current, full_key + '.'))}")
    return dataclasses.replace(config, **{name: _checked(value, _kinds(config.__class__)[name], full_key)})


@cache
def _kinds(group: type) -> dict[str, Any]:
    """The type of every field of a group of keys."""
    return get_type_hints(group)


def _checked(value: Any, kind: Any, key: str) -> Any:
    """``value`` as ``kind``: integers pass for floats and lists for tuples, nothing else is converted.

    Raises:
        ValueError: it is of another kind; the sentence says how that is written.
    """
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if isinstance(value, (list, tuple)) and (items[-1] is Ellipsis or len(items) == len(value)):
            return tuple(_checked(item, items[0], key) for item in value)
    elif get_origin(kind) in (Union, types.UnionType):
        for option in get_args(kind):
            if isinstance(value, option):
                return value
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if value is None:
        raise ValueError(f"'{key}' must be {_described(kind)} and was given nothing; leave it out for its default"
                         + (', or write "" with the quotes for an empty one' if kind is str else ""))
    raise ValueError(f"'{key}' must be {_described(kind, value)}, got {value!r}")


def _described(kind: Any, value: Any = None) -> str:
    """What a value of ``kind`` is called, with an example of a list that holds a ``value`` which was to be one."""
    if get_origin(kind) is not tuple:
        return getattr(kind, "__name__", str(kind))
    items = get_args(kind)
    if items[-1] is not Ellipsis:
        return f"a list of {len(items)} {items[0].__name__} values"
    return f"a list such as [{value}]" if isinstance(value, items[0]) else f"a list of {items[0].__name__} values"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
