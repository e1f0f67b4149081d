"""Cross-entropy of demonstrations."""

from __future__ import annotations

import torch

from palate.objectives.logps import summed_nll
from palate.objectives.supervised import CrossEntropy, TokenLogps


def test_weighted_mean_over_tokens(matches):
    logps = torch.tensor([-1.0, -2.0, -4.0], requires_grad=True)
    sums = CrossEntropy()(TokenLogps(logps, torch.tensor([1.0, 0.0, 0.5])))
    sums.mean().backward()

    matches(sums.loss.detach(), 3.0)
    matches(sums.count, 1.5)
    matches(sums.mean().detach(), 2.0)
    matches(logps.grad, [-1 / 1.5, 0.0, -0.5 / 1.5])


def test_a_token_left_out_may_be_impossible(matches):
    logps = torch.tensor([-1.0, -torch.inf], requires_grad=True)
    sums = CrossEntropy()(TokenLogps(logps, torch.tensor([1.0, 0.0])))
    sums.loss.backward()

    matches(sums.loss.detach(), 1.0)
    matches(logps.grad, [-1.0, 0.0])


def test_both_ways_give_the_same_sums(matches):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(5, 3, generator=generator), torch.randn(7, 3, generator=generator)
    targets, weights = torch.tensor([0, 6, 3, 3, 1]), torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    total, logps = summed_nll(hidden, weight, targets, weights)
    formed = CrossEntropy().from_summed_nll(total, weights)
    from_logps = CrossEntropy()(TokenLogps(logps, weights))

    matches(formed.mean(), from_logps.mean().item())
    matches(formed.metrics["nll"][0], from_logps.metrics["nll"][0].item())
