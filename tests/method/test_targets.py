"""Section 4.2, post-action targets: the average, unit length, no gradient, always eval."""

import pytest
import torch
from torch import nn

from ptrlib.config import PTRConfig
from ptrlib.method.targets import EMATargetEncoder


class Tower(nn.Module):
    """A linear layer, running statistics, a counter and dropout: what an average can get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("running", torch.zeros(4))
        self.register_buffer("counter", torch.tensor(0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the last layer is not the target's layer")

    def target_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear(images) - self.running)


def test_closed_form_after_n_updates_toward_a_constant():
    tower = Tower()
    encoder = EMATargetEncoder(tower, PTRConfig(ema_decay=0.9))
    start = tower.linear.weight.detach().clone()
    with torch.no_grad():
        tower.linear.weight.fill_(2.0)
        tower.running.fill_(5.0)
        tower.counter.fill_(7)
    for _ in range(12):
        encoder.update(tower)
    torch.testing.assert_close(encoder.tower.linear.weight, 0.9**12 * start + (1 - 0.9**12) * 2.0)
    torch.testing.assert_close(encoder.tower.running, torch.full((4,), (1 - 0.9**12) * 5.0))
    assert encoder.tower.counter.item() == 7


@pytest.mark.parametrize(("decay", "followed"), [(1.0, False), (0.0, True)])
def test_a_decay_of_one_is_frozen_and_of_zero_follows_at_once(decay, followed):
    """Two readings of "without EMA": Table 5's frozen encoder, and Section 5.6's drifting target space."""
    tower = Tower()
    encoder = EMATargetEncoder(tower, PTRConfig(ema_decay=decay))
    before = encoder.tower.linear.weight.clone()
    with torch.no_grad():
        tower.linear.weight.add_(1.0)
    encoder.update(tower)
    assert torch.equal(encoder.tower.linear.weight, tower.linear.weight if followed else before)


def test_targets_have_unit_length_and_no_gradient():
    encoder = EMATargetEncoder(Tower())
    images = torch.randn(5, 3, requires_grad=True)
    target = encoder(images)
    torch.testing.assert_close(target.norm(dim=1), torch.ones(5))
    assert not target.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_stays_in_eval_mode_and_is_its_own_copy():
    tower = Tower().train()
    encoder = EMATargetEncoder(tower).train()
    images = torch.randn(5, 3)
    assert tower.training and torch.equal(encoder(images), encoder(images))
    before = encoder(images)
    with torch.no_grad():
        tower.linear.weight.add_(1.0)
    assert torch.equal(encoder(images), before)


def test_a_tower_without_target_features_is_called():
    linear = nn.Linear(3, 4)
    images = torch.randn(2, 3)
    torch.testing.assert_close(EMATargetEncoder(linear)(images),
                               nn.functional.normalize(linear(images).detach(), dim=-1))


def test_another_tower_is_refused():
    with pytest.raises(ValueError, match="not the one that was copied"):
        EMATargetEncoder(nn.Linear(3, 4)).update(nn.Linear(4, 3))


def test_a_zero_feature_stays_finite():
    linear = nn.Linear(3, 4, bias=False)
    assert (EMATargetEncoder(linear)(torch.zeros(1, 3)) == 0).all()
