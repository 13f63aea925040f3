"""Controls that run beside the claim: what would PTR's weights do if they said nothing, or all?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ptrlib.config import RunConfig
from ptrlib.credit.interface import ChunkFeatures, CreditOutput, FeatureSizes
from ptrlib.credit.ptr import PTR
from ptrlib.credit.sft import SFT
from ptrlib.data.chunks import ChunkDataset
from ptrlib.data.episodes import Episode
from ptrlib.distributed import global_sum
from ptrlib.policy.policy import Policy


class RandomWeights(PTR):
    """PTR with its weights shuffled among the chunks of the batch that have a target (with several ranks, of each
    rank's part): the same distribution of weights, the same auxiliary losses, no information about the chunk."""

    ranks_chunks = False

    def __init__(self, config: RunConfig, sizes: FeatureSizes) -> None:
        super().__init__(config, sizes)
        self.generator = torch.Generator().manual_seed(config.seed)

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        out = super().forward(features)
        with_target = features.valid.nonzero().squeeze(1)
        order = torch.randperm(len(with_target), generator=self.generator).to(with_target.device)
        weight = out.weight.clone()
        weight[with_target] = out.weight[with_target[order]]
        return CreditOutput(weight, out.auxiliary_loss, out.score, out.info)

    def get_extra_state(self) -> torch.Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.generator.set_state(state)


class NeutralFallback(PTR):
    """PTR whose chunks without a recorded consequence weigh what the others of the global batch weigh on average.

    The paper's 1 is no neutral weight: where most others are at the clip of 4, it takes three quarters from the ends
    of episodes. Without a single recorded consequence every weight stays 1.
    """

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        out = super().forward(features)
        valid = features.valid.to(out.weight.dtype)
        total, count = global_sum(torch.stack([(valid * out.weight).sum(), valid.sum()]))
        mean = torch.where(count > 0, total / count.clamp_min(1), 1.0)
        return CreditOutput(torch.where(features.valid, out.weight, mean), out.auxiliary_loss, out.score, out.info)


class Oracle(SFT):
    """SFT on the episodes no corruption touched. It reads the truth mask, which no method may: the
    ceiling for anything that filters. On clean data it is SFT."""

    @staticmethod
    def keeps(episode: Episode) -> bool:
        return not any(mask.any() for mask in episode.truth.values())


class BoundedOracle(SFT):
    """The truth as weights: w_max for the chunks of episodes that no corruption touched, w_min for all others. It reads
    the truth mask, which no method may: what is left to win, within the clip of Eq 21, by knowing which episodes are
    corrupted. On clean data it is SFT."""

    weight: Tensor  # (episodes,) of all data sets in a row

    def __init__(self, config: RunConfig, sizes: FeatureSizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("weight", torch.empty(0))

    def prepare(self, policy: Policy, datasets: Sequence[ChunkDataset]) -> None:
        untouched = torch.tensor([Oracle.keeps(episode) for dataset in datasets for episode in dataset.episodes])
        self.weight = torch.where(untouched, self.config.ptr.w_max, self.config.ptr.w_min)

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        out = super().forward(features)
        return CreditOutput(self.weight[features.episode_ids], out.auxiliary_loss, None, out.info)
