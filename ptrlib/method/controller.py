"""Adaptive scale control: keep the posterior neither flat nor saturated (Section 4.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ptrlib.config import PTRConfig


class AdaptiveScaleController(nn.Module):
    """Moves tau_score, beta and the hard-negative ratio once per logging step.

    The averages start at the first statistics they see (the paper does not say; starting at zero would
    read as a weak scorer whatever the scorer does). Python floats hold the values, so nothing waits for a
    GPU and casting the module leaves them alone; ``state_dict`` carries them.
    """

    def __init__(self, config: PTRConfig | None = None) -> None:
        super().__init__()
        self.config = config or PTRConfig()
        self.tau = self.config.tau  # tau_score
        self.beta = self.config.beta
        self.hard_ratio = self.config.hard_ratio_min
        self.accuracy = self.margin = self.score = self.valid_ratio = math.nan  # EMAs; nan: none seen yet

    def update(self, accuracy: float, margin: float, score: float, valid_ratio: float) -> None:
        """One logging step on global statistics: nce_acc, nce_margin, nce_adv and the share of samples
        with a target. Without any valid sample the first three are nan: only the last is averaged then."""
        self.accuracy = self._average(self.accuracy, accuracy)
        self.margin = self._average(self.margin, margin)
        self.score = self._average(self.score, score)
        self.valid_ratio = self._average(self.valid_ratio, valid_ratio)
        if math.isnan(accuracy):
            return
        config = self.config
        if self.accuracy < config.accuracy_low:  # too weak: stay conservative
            self._scale(config.scale_up)
        elif self.accuracy > config.accuracy_high and self.margin > config.margin_high:  # sharpen
            self._scale(config.scale_down)
        maturity = ((self.accuracy - config.hard_accuracy_low)
                    / (config.hard_accuracy_high - config.hard_accuracy_low))
        self.hard_ratio = (config.hard_ratio_min
                           + (config.hard_ratio_max - config.hard_ratio_min) * min(max(maturity, 0.0), 1.0))

    def _average(self, average: float, value: float) -> float:
        if math.isnan(value):
            return average
        if math.isnan(average):
            return float(value)
        return self.config.controller_decay * average + (1 - self.config.controller_decay) * float(value)

    def _scale(self, factor: float) -> None:
        config = self.config
        self.tau = min(max(self.tau * factor, config.tau_min), config.tau_max)
        self.beta = min(max(self.beta * factor, config.beta_min), config.beta_max)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.tau, self.beta, self.hard_ratio, self.accuracy, self.margin, self.score,
                             self.valid_ratio], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        (self.tau, self.beta, self.hard_ratio, self.accuracy, self.margin, self.score,
         self.valid_ratio) = state.tolist()
