"""ptrlib: an open reproduction of Posterior-Transition Reweighting (PTR).

The names below are the method and the two doors to data; everything else lives in its module. They are imported when
they are first used: pages and commands that train nothing need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptrlib.config import PTRConfig
    from ptrlib.data.corruption import corrupt
    from ptrlib.data.hdf5 import write_episodes
    from ptrlib.data.reading import read_episodes
    from ptrlib.method.belief import BeliefTokenizer
    from ptrlib.method.bounds import kl_bound, sharp_kl_bound
    from ptrlib.method.candidates import CandidatePool
    from ptrlib.method.controller import AdaptiveScaleController
    from ptrlib.method.overlay import PosteriorTransitionReweighting
    from ptrlib.method.scorer import TransitionScorer, identification_logits, ptr_score, ranking_loss
    from ptrlib.method.targets import EMATargetEncoder
    from ptrlib.method.weights import conservative_weights, self_normalised_mean, source_shares

__all__ = [
    "AdaptiveScaleController", "BeliefTokenizer", "CandidatePool", "EMATargetEncoder", "PTRConfig",
    "PosteriorTransitionReweighting", "TransitionScorer", "conservative_weights", "corrupt",
    "identification_logits", "kl_bound", "ptr_score", "ranking_loss", "read_episodes", "self_normalised_mean",
    "sharp_kl_bound", "source_shares", "write_episodes",
]

# Those without torch first: whoever asks for a name there need not wait for it.
_HOMES = ("config", "data.corruption", "data.hdf5", "data.reading", "method.bounds", "method.belief",
          "method.candidates", "method.controller", "method.overlay", "method.scorer", "method.targets",
          "method.weights")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"ptrlib.{home}")
            if getattr(vars(module).get(name), "__module__", "") == module.__name__:
                globals()[name] = vars(module)[name]
                return globals()[name]
    raise AttributeError(f"module 'ptrlib' has no attribute '{name}'")
