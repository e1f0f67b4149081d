"""Importance weights for samples of another engine."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.importance import TruncatedImportance
from palate.objectives.policy_gradient import Reinforce
from palate.objectives.reduce import Sums, Totals
from tests.support.policy import tokens


def test_weights_are_ratios_up_to_their_limit(matches):
    learner, engine = torch.tensor([-1.0, -1.0, -3.0]), torch.tensor([-1.2, -3.0, -1.0])
    weights, metrics = TruncatedImportance(limit=2.0)(learner, engine, torch.ones(3, dtype=torch.bool))
    means = {name: float(value / count) for name, (value, count) in metrics.items() if not name.endswith("_max")}

    matches(weights, [math.exp(0.2), 2.0, math.exp(-2.0)])
    matches(means["engine_ratio"], (math.exp(0.2) + math.exp(2.0) + math.exp(-2.0)) / 3)
    matches(means["engine_gap"], (0.2 + 2.0 + 2.0) / 3)
    matches(means["engine_clip_fraction"], 1 / 3)
    assert means["engine_missing"] == 0.0
    matches(metrics["engine_gap_max"][0], 2.0)


def test_a_token_without_a_number_weighs_one_and_poisons_nothing(matches):
    learner = torch.tensor([-1.0, -1.0, math.nan, -1.0], requires_grad=True)
    engine = torch.tensor([math.nan, -1.5, -1.0, math.nan])
    weights, metrics = TruncatedImportance()(learner, engine, torch.tensor([True, True, True, False]))

    matches(weights, [1.0, math.exp(0.5), 1.0, 0.0])
    assert not weights.requires_grad
    matches(metrics["engine_missing"][0] / metrics["engine_missing"][1], 2 / 3)
    matches(metrics["engine_gap"][0] / metrics["engine_gap"][1], 0.5)
    assert all(math.isfinite(float(value)) for value, _ in metrics.values())


def test_weights_of_noisy_numbers_correct_the_gradient():
    """The engine samples from another distribution than the learner's; with weights the mean gradient is that of the learner."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(5, generator=generator)
    engine = (theta + 0.3 * torch.randn(5, generator=generator)).log_softmax(0)
    advantages = torch.randn(5, generator=generator)

    def gradient(corrected: bool) -> torch.Tensor:
        free = theta.clone().requires_grad_()
        logps = free.log_softmax(0)
        every = torch.ones(5, dtype=torch.bool)
        weights, _ = TruncatedImportance(limit=100.0)(logps, engine, every)
        used = engine.exp() * advantages * (weights if corrected else 1.0)
        Reinforce()(tokens(logps, logps.detach(), used)).loss.backward()
        return free.grad

    free = theta.clone().requires_grad_()
    (-(free.softmax(0) * advantages).sum()).backward()
    torch.testing.assert_close(gradient(corrected=True), free.grad)
    assert float((gradient(corrected=False) - free.grad).abs().max()) > 0.01


def test_micro_batches_join():
    generator = torch.Generator().manual_seed(1)
    learner, engine = torch.randn(2, 9, generator=generator)
    engine[4] = math.nan
    totals, whole = Totals(), Totals()
    for rows, into in ((range(9), whole), (range(4), totals), (range(4, 9), totals)):
        at = list(rows)
        _, metrics = TruncatedImportance()(learner[at], engine[at], torch.ones(len(at), dtype=torch.bool))
        into.add(Sums(torch.tensor(0.0), torch.tensor(1), metrics))

    assert totals.means() == pytest.approx(whole.means())


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="limit must be 1 or more"):
        TruncatedImportance(limit=0.9)
