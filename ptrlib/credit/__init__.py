"""Who gets the credit: the rules that weight chunks, behind one small interface.

Every rule sees the same policy, data and optimiser; it differs in the weight it puts on each chunk's
action loss and in the auxiliary losses it adds.

============  =====================================================================================
``sft``       every chunk counts the same (Eq 2); with ``network.use_belief`` it is SFT+Belief
``ptr``       Posterior-Transition Reweighting (Section 4); ``ptr.alpha = 0`` keeps its auxiliary
              losses and switches its weights off
``random``    control: PTR's own weights, shuffled among the chunks of the batch that have a target
``oracle``    control: SFT on the episodes that the truth mask does not mark
``crossfit``  ours: weights fixed before training, from cross-fitted contrasts of the start policy's features
============  =====================================================================================

``crossfit_random`` is the last one's control: its weights, given to other episodes.
"""

import difflib

from ptrlib.config import RunConfig
from ptrlib.credit.controls import Oracle, RandomWeights
from ptrlib.credit.crossfit import CrossFit, RandomCrossFit
from ptrlib.credit.interface import ChunkFeatures, Credit, CreditOutput, FeatureSizes
from ptrlib.credit.ptr import PTR
from ptrlib.credit.sft import SFT

CREDITS: dict[str, type[Credit]] = {"sft": SFT, "ptr": PTR, "random": RandomWeights, "oracle": Oracle,
                                   "crossfit": CrossFit, "crossfit_random": RandomCrossFit}


def credit_class(name: str) -> type[Credit]:
    """The rule of that name. Raises ValueError naming the nearest valid one."""
    if name not in CREDITS:
        near = difflib.get_close_matches(name, CREDITS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown credit '{name}'; the nearest valid name is '{near}' (of {', '.join(CREDITS)})")
    return CREDITS[name]


def make_credit(config: RunConfig, sizes: FeatureSizes) -> Credit:
    """The rule that ``config.credit`` names."""
    return credit_class(config.credit)(config, sizes)


__all__ = ["CREDITS", "ChunkFeatures", "Credit", "CreditOutput", "CrossFit", "FeatureSizes", "Oracle", "PTR",
           "RandomCrossFit", "RandomWeights", "SFT", "credit_class", "make_credit"]
