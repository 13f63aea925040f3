"""Posterior-Transition Reweighting to the letter of Section 4, as one more credit rule."""

from __future__ import annotations

from torch import nn

from ptrlib.config import RunConfig
from ptrlib.credit.interface import ChunkFeatures, Credit, CreditOutput, FeatureSizes
from ptrlib.method.overlay import PosteriorTransitionReweighting


class PTR(Credit):
    """The overlay on our own policy. With ``detach_scorer`` the scorer reads sg(h_t) and sg(E_t), so
    that its losses leave the policy alone: the paper says both ("updated jointly", "only interaction with
    the transformer update is the gradient scaling", Section 4.6). With ``hard_negatives="state"`` a chunk's
    hard negatives do not depend on its instruction, which may be wrong."""

    ranks_chunks = True

    def __init__(self, config: RunConfig, sizes: FeatureSizes) -> None:
        super().__init__(config, sizes)
        self.overlay = PosteriorTransitionReweighting(
            context_dim=sizes.context, action_dim=sizes.action, target_dim=sizes.target,
            config=config.ptr, vision_tower=sizes.vision_tower, log_every=config.log_every)

    def forward(self, features: ChunkFeatures) -> CreditOutput:
        context, action_tokens = features.context, features.action_tokens
        if self.config.detach_scorer:
            context, action_tokens = context.detach(), action_tokens.detach()
        targets = self.overlay.encode_targets(features.target_images, features.valid)
        tasks = features.task_ids if self.config.hard_negatives == "task" else None
        out = self.overlay(
            context, action_tokens, targets, features.valid, features.episode_ids, frames=features.frames, tasks=tasks,
            state=features.state, offset=features.offset, step_mask=features.step_mask, belief=features.belief)
        return CreditOutput(out.weight, out.auxiliary_loss, out.score, out.info)

    def after_step(self, vision_tower: nn.Module) -> None:
        self.overlay.after_step(vision_tower)
