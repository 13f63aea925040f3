"""The policy (Section 3): vision tower, backbone and action head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptrlib.config import BasePolicyConfig, NetworkConfig
from ptrlib.policy.backbone import FUSIONS, Backbone, Context
from ptrlib.policy.diffusion import DiffusionHead
from ptrlib.policy.encoder import VisionTower
from ptrlib.policy.expert import ActionHead
from ptrlib.policy.flow import FlowMatchingHead

HEADS: dict[str, type[ActionHead]] = {"flow": FlowMatchingHead, "diffusion": DiffusionHead}


class Policy(nn.Module):
    """Observation, state, instruction and belief tokens in; a chunk in the unified action space out.

    The parts are called one by one: vision tokens do not depend on the belief tokens and are computed once
    for a whole segment, while the context follows the recursion over the segment's chunks (Eq 3-5).
    """

    def __init__(self, network: NetworkConfig, base: BasePolicyConfig, cameras: int,
                 belief_tokens: int) -> None:
        super().__init__()
        if network.head not in HEADS:
            raise ValueError(f"network.head must be one of {', '.join(HEADS)}, got {network.head!r}")
        if network.fusion not in FUSIONS:
            raise ValueError(f"network.fusion must be one of {', '.join(FUSIONS)}, got {network.fusion!r}")
        self.vision_tower = VisionTower(network, cameras)
        self.backbone = Backbone(network, belief_tokens, self.vision_tower.tokens)
        self.head = HEADS[network.head](network, base)
        self.z_init = nn.Parameter(torch.randn(belief_tokens, network.width) * 0.2)  # z_{t_0}, Section 4.1

    def vision(self, images: Tensor) -> Tensor:
        """Vision tokens (B, N, d) of images (B, C, H, W, 3), uint8 or float in [0, 255]."""
        return self.vision_tower(images)

    def contextualise(self, vision_tokens: Tensor, instruction: Tensor, belief: Tensor | None) -> Context:
        """(H_t, h_t) = f_phi(o_t, l, z_t), Eq 3.

        ``instruction`` (B, W) holds word identifiers of :func:`ptrlib.policy.instruction.hash_words`; ``belief`` is
        z_t (B, M, d), or None for a policy without belief tokens.
        """
        return self.backbone(vision_tokens, self.backbone.read(instruction), belief)

    def action_tokens(self, actions: Tensor) -> Tensor:
        """E_t (B, L, d) of clean chunks (B, L, 200), Eq 4: the projector that the head itself uses.

        Eq 4 writes g_phi(h_t, s_t, a); ours depends on the recorded actions alone (Section 4.2: "purely the
        action-channel projector").
        """
        return self.head.action_tokens(actions)
