"""Section 4.5: a trace by hand, the branches, the bounds, and what it remembers."""

import math

import pytest

from ptrlib.config import PTRConfig
from ptrlib.method.controller import AdaptiveScaleController


def test_a_trace_by_hand():
    controller = AdaptiveScaleController()
    controller.update(0.04, 0.0, 0.0, 1.0)  # average 0.04 < 0.05
    assert controller.tau == pytest.approx(0.12 * 1.01) and controller.beta == pytest.approx(1.5 * 1.01)
    assert controller.hard_ratio == 0
    controller.update(1.0, 5.0, 1.0, 1.0)  # average 0.98 * 0.04 + 0.02 = 0.0592: neither branch
    assert controller.accuracy == pytest.approx(0.0592) and controller.margin == pytest.approx(0.1)
    assert controller.tau == pytest.approx(0.12 * 1.01) and controller.hard_ratio == 0
    for _ in range(20):
        controller.update(1.0, 5.0, 1.0, 1.0)
    accuracy = 1 - 0.96 * 0.98**21
    assert controller.accuracy == pytest.approx(accuracy) and accuracy > 0.35
    assert controller.hard_ratio == pytest.approx(0.5 * (accuracy - 0.1) / 0.4)
    sharpened = sum(1 - 0.96 * 0.98**n > 0.35 for n in range(1, 22))
    assert controller.tau == pytest.approx(0.12 * 1.01 * 0.995**sharpened)
    assert controller.beta == pytest.approx(1.5 * 1.01 * 0.995**sharpened)


def test_one_good_batch_does_not_sharpen():
    controller = AdaptiveScaleController()
    for accuracy in (0.2, 1.0, 0.2):
        controller.update(accuracy, 1.0, 1.0, 1.0)
    assert controller.tau == 0.12 and controller.beta == 1.5


def test_accuracy_without_margin_does_not_sharpen():
    controller = AdaptiveScaleController()
    for _ in range(50):
        controller.update(0.9, 0.05, 1.0, 1.0)
    assert controller.tau == 0.12 and controller.hard_ratio == 0.5


@pytest.mark.parametrize(("accuracy", "tau", "beta", "hard_ratio"),
                         [(0.0, 0.20, 3.0, 0.0), (1.0, 0.03, 0.5, 0.5)])
def test_bounds(accuracy, tau, beta, hard_ratio):
    controller = AdaptiveScaleController()
    for _ in range(400):
        controller.update(accuracy, 1.0, 0.0, 1.0)
    assert (controller.tau, controller.beta, controller.hard_ratio) == (tau, beta, hard_ratio)


@pytest.mark.parametrize(("accuracy", "hard_ratio"),
                         [(0.05, 0.0), (0.10, 0.0), (0.30, 0.25), (0.50, 0.5), (0.8, 0.5)])
def test_the_hard_ratio_is_linear_in_the_accuracy(accuracy, hard_ratio):
    controller = AdaptiveScaleController()
    controller.update(accuracy, 0.0, 0.0, 1.0)
    assert controller.hard_ratio == pytest.approx(hard_ratio)


def test_nothing_valid_changes_only_the_valid_ratio():
    controller = AdaptiveScaleController()
    controller.update(0.6, 1.0, 1.0, 1.0)
    before = (controller.tau, controller.accuracy, controller.margin, controller.score)
    controller.update(math.nan, math.nan, math.nan, 0.0)
    assert (controller.tau, controller.accuracy, controller.margin, controller.score) == before
    assert controller.valid_ratio == pytest.approx(0.98)


def test_state_round_trip_is_exact():
    controller = AdaptiveScaleController(PTRConfig(tau=0.1))
    for step in range(7):
        controller.update(0.1 * step, 0.3, 0.2, 0.9)
    copy = AdaptiveScaleController(PTRConfig(tau=0.1))
    copy.load_state_dict(controller.state_dict())
    for each in (controller, copy):
        each.update(0.9, 0.3, 0.2, 0.9)
    assert (copy.tau, copy.beta, copy.hard_ratio, copy.accuracy, copy.valid_ratio) == (
        controller.tau, controller.beta, controller.hard_ratio, controller.accuracy, controller.valid_ratio)


def test_tau_and_beta_move_by_one_factor_as_the_rule_says():
    """The paper reports tau near 0.03 beside beta near 1.2; its rule moves both by the same factors."""
    controller = AdaptiveScaleController()
    while controller.tau > 0.0301:
        controller.update(1.0, 1.0, 1.0, 1.0)
    assert controller.beta == 0.5
