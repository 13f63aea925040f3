"""Who gets the credit: the rules that weight chunks, behind one small interface.

Every rule sees the same policy, data and optimiser; it differs in the weight it puts on each chunk's
action loss and in the auxiliary losses it adds.

==================  ==================================================================================
``sft``             every chunk counts the same (Eq 2); with ``network.use_belief`` it is SFT+Belief
``ptr``             Posterior-Transition Reweighting (Section 4); ``ptr.alpha = 0`` keeps its auxiliary
                    losses and switches its weights off
``random``          control: PTR's own weights, shuffled among the chunks of the batch that have a target
``ptr_neutral``     control: PTR whose chunks without a recorded consequence weigh what the others do on average
``oracle``          control: SFT on the episodes that the truth mask does not mark
``bounded_oracle``  control: the truth mask as weights, w_max for untouched episodes and w_min for the others
``crossfit``        ours: weights fixed before training, from cross-fitted contrasts of the start policy's features
==================  ==================================================================================

The last one has two controls: ``crossfit_random``, its weights given to other episodes, and ``crossfit_alike``, to
others of about the same length under the same instruction.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptrlib.config import RunConfig
    from ptrlib.credit.interface import Credit, FeatureSizes

# By module and class: who reads manifests and stored runs must know the names, and need not wait for torch.
CREDITS = {"sft": ("sft", "SFT"), "ptr": ("ptr", "PTR"), "random": ("controls", "RandomWeights"),
           "ptr_neutral": ("controls", "NeutralFallback"), "oracle": ("controls", "Oracle"),
           "bounded_oracle": ("controls", "BoundedOracle"),
           "crossfit": ("crossfit", "CrossFit"),
           "crossfit_random": ("crossfit", "RandomCrossFit"), "crossfit_alike": ("crossfit", "AlikeCrossFit")}


def check_credit(name: str) -> None:
    """Raise ValueError, naming the nearest valid one, if there is no rule of that name."""
    if name not in CREDITS:
        near = difflib.get_close_matches(name, CREDITS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown credit '{name}'; the nearest valid name is '{near}' (of {', '.join(CREDITS)})")


def credit_class(name: str) -> type[Credit]:
    """The rule of that name. Raises ValueError naming the nearest valid one."""
    check_credit(name)
    module, kind = CREDITS[name]
    return getattr(import_module(f"ptrlib.credit.{module}"), kind)


def make_credit(config: RunConfig, sizes: FeatureSizes) -> Credit:
    """The rule that ``config.credit`` names."""
    return credit_class(config.credit)(config, sizes)
