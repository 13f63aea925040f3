"""What a configuration may hold, so that a value that cannot work is refused before anything is read or trained.

What :class:`ptrlib.config.PTRConfig` asks of its own fields stands there, as the overlay may be given it alone.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any

from ptrlib.config import (
    LOOKING_BACK,
    LOWEST_OF_PTR,
    BasePolicyConfig,
    CrossFitConfig,
    DataConfig,
    NetworkConfig,
    PTRConfig,
    RunConfig,
)
from ptrlib.credit import check_credit
from ptrlib.data.corruption import CORRUPTIONS
from ptrlib.policy.action_space import described

LOWEST = {"seed": 0, "log_every": 1, "ranks": 1, "ptr.optimization.steps": 0, "ptr.optimization.batch_size": 1,
          "ptr.optimization.lr_warmup_steps": 0, "ptr.base_policy.chunk_length": 1,
          "ptr.base_policy.denoising_steps": 1, "network.image_size": 1, "network.width": 1,
          "network.target_size": 0, "network.backbone_layers": 0, "network.expert_layers": 0, "network.heads": 1,
          "network.expansion": 1, "network.vocabulary": 1, "network.instruction_length": 1,
          "network.diffusion_levels": 1, "data.episodes_per_task": 0, "data.offset": 1, "data.segment_chunks": 1,
          "data.chunk_stride": 1, "data.random_shift": 0, "crossfit.folds": 1, "crossfit.every": 1,
          "crossfit.recorded_steps": 0, "crossfit.steps": 0, "crossfit.batch_size": 1, "crossfit.width": 1,
          "crossfit.embedding": 1, "crossfit.neighbours": 1, "evaluation.episodes_per_task": 1,
          "evaluation.first_init_state": 0, "evaluation.execute_steps": 1, "evaluation.max_steps": 0,
          "evaluation.restart_beliefs": 0, "evaluation.workers": 1,
          **{f"ptr.{name}": lowest for name, lowest in LOWEST_OF_PTR.items()}}
CHOSEN = ("ptr.base_policy.action_dim", "network.token_size")  # whole numbers too, of which only some are possible
POSITIVE = ("ptr.base_policy.flow_time_alpha", "ptr.base_policy.flow_time_beta", "network.diffusion_clip",
            "gradient_clip", "crossfit.beta", "crossfit.temperature")
NOT_NEGATIVE = ("ptr.optimization.learning_rate", "ptr.optimization.weight_decay", "data.noise_sigma",
                "data.noise_bias", "crossfit.learning_rate", "crossfit.weight_decay")
SHARES = ("data.noise_fraction", "data.truncation_fraction", "data.label_fraction", "crossfit.full_weight_quantile",
          "crossfit.dropout")
HARD_NEGATIVES = ("task", "state")
QUESTIONS = ("action", "instruction", "ending", "consequence", "likelihood")  # of ptrlib/credit/crossfit.py


def check(config: RunConfig) -> None:
    """Raise ValueError for values that only fail later: unknown names, numbers that are out of range or do not go
    together. The sentence names the key and what it may hold."""
    for key, lowest in LOWEST.items():
        _require(_value(config, key) >= lowest, f"'{key}' must be {lowest} or more, got {_value(config, key)}")
    for key in POSITIVE:
        _require(_value(config, key) > 0, f"'{key}' must be above 0, got {_value(config, key)}")
    for key in NOT_NEGATIVE:
        _require(_value(config, key) >= 0, f"'{key}' must be 0 or more, got {_value(config, key)}")
    for key in SHARES:
        _require(0 <= _value(config, key) <= 1, f"'{key}' must lie in [0, 1], got {_value(config, key)}")
    check_credit(config.credit)
    _require(config.hard_negatives in HARD_NEGATIVES, f"'hard_negatives' must be one of {', '.join(HARD_NEGATIVES)}, "
             f"got '{config.hard_negatives}'")
    _check_network(config.network)
    _check_ptr(config.ptr)
    _check_data(config.data)
    _check_crossfit(config.crossfit)
    _check_together(config)


def _value(config: RunConfig, key: str) -> Any:
    return operator.attrgetter(key)(config)


def _check_network(network: NetworkConfig) -> None:
    one_of("network.head", network.head, ("flow", "diffusion"))
    one_of("network.fusion", network.fusion, ("attention", "film"))
    one_of("network.precision", network.precision, ("auto", "float32", "bfloat16"))
    _require(network.token_size in (8, 16), f"'network.token_size' must be 8 or 16, got {network.token_size}")
    _require(network.image_size % network.token_size == 0, f"network.image_size ({network.image_size}) must be a "
             f"multiple of network.token_size ({network.token_size})")
    _require(network.target_pixels >= network.token_size and network.image_size % network.target_pixels == 0,
             f"network.target_size ({network.target_size}) must be 0, or divide network.image_size "
             f"({network.image_size}) and be network.token_size ({network.token_size}) or more")
    _require(network.width % network.heads == 0,
             f"network.width ({network.width}) must be a multiple of network.heads ({network.heads})")
    _require(network.width % 4 == 0, f"'network.width' must be a multiple of 4, got {network.width}")
    channels = network.vision_channels
    _require(len(channels) == 3 and min(channels) >= 1,
             f"'network.vision_channels' must be three numbers of 1 or more, got {list(channels)}")


def _check_ptr(ptr: PTRConfig) -> None:
    slots = BasePolicyConfig.action_dim
    _require(ptr.base_policy.action_dim == slots, f"'ptr.base_policy.action_dim' must be {slots}, the slots of "
             f"ptrlib/policy/action_space.py, got {ptr.base_policy.action_dim}")
    ptr.check()


def _check_data(data: DataConfig) -> None:
    one_of("data.corruption", data.corruption, ("none", *CORRUPTIONS, "combined"))
    _require(0 <= data.held_out_fraction < 1,
             f"'data.held_out_fraction' must lie in [0, 1), got {data.held_out_fraction}")
    low, high = data.truncation_keep
    _require(0 < low <= high <= 1,
             f"'data.truncation_keep' must be [low, high] with 0 < low <= high <= 1, got {[low, high]}")
    described(data)


def _check_crossfit(crossfit: CrossFitConfig) -> None:
    one_of("crossfit.pooling", crossfit.pooling, ("episode", "chunk"))
    _require(len(crossfit.questions) > 0, f"'crossfit.questions' is empty; name one or several of "
             f"{', '.join(QUESTIONS)}")
    for question in crossfit.questions:
        one_of("crossfit.questions", question, QUESTIONS)


def _check_together(config: RunConfig) -> None:
    """Keys of several groups that must fit one another."""
    batch, segment = config.ptr.optimization.batch_size, config.data.segment_chunks
    _require(batch % segment == 0,
             f"ptr.optimization.batch_size ({batch}) must be a multiple of data.segment_chunks ({segment})")
    _require(batch // segment % config.ranks == 0, f"ranks ({config.ranks}) must divide the {batch // segment} "
             "segments of a batch; change ranks or ptr.optimization.batch_size")
    _require(config.data.random_shift < config.network.image_size, f"data.random_shift ({config.data.random_shift}) "
             f"must be below network.image_size ({config.network.image_size})")
    executed, predicted = config.evaluation.execute_steps, config.ptr.base_policy.chunk_length
    _require(executed <= predicted, f"evaluation.execute_steps ({executed}) must not be above "
             f"ptr.base_policy.chunk_length ({predicted}), the steps that are predicted at a time")
    stride, recurring = config.data.chunk_stride, config.network.use_belief and segment > 1
    _require(executed == stride or not recurring, f"evaluation.execute_steps ({executed}) must be data.chunk_stride "
             f"({stride}): belief tokens learn to be made that many steps apart; set both alike, or leave tokens out "
             "with network.use_belief=false")
    if config.credit.startswith("crossfit"):
        _check_scored_steps(config.crossfit.every, config.data.chunk_stride)
    warmup, steps = config.ptr.warmup_steps, config.ptr.optimization.steps
    never = config.credit in LOOKING_BACK and config.ptr.alpha > 0 and 0 < steps <= warmup
    _require(not never, f"ptr.warmup_steps ({warmup}) must be below ptr.optimization.steps ({steps}, a page's "
             "`steps`), or every weight stays 1; lower the one or raise the other")


def _check_scored_steps(every: int, stride: int) -> None:
    """Segments begin at every step below ``stride``: only a divisor of it leaves scored chunks that far apart."""
    divisors = ", ".join(str(number) for number in range(1, stride + 1) if stride % number == 0)
    _require(stride % every == 0,
             f"crossfit.every ({every}) must divide data.chunk_stride ({stride}); choose one of {divisors}")


def one_of(key: str, value: str, valid: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest valid one, for a value that is none of ``valid``."""
    valid = tuple(valid)
    if value not in valid:
        near = difflib.get_close_matches(value, valid, n=1, cutoff=0.0)[0]
        raise ValueError(f"'{key}' is '{value}'; the nearest valid value is '{near}' (of {', '.join(valid)})")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
