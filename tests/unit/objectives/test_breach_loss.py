"""The loss of a classifier of rules."""

from __future__ import annotations

import math

import pytest
import torch

from palate.objectives.breach_loss import BreachScores, breach_loss


def test_it_is_the_cross_entropy_of_the_share_of_votes_weighted_and_summed() -> None:
    scores = BreachScores(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.25, 0.5]), torch.tensor([1.0, 0.5, 2.0]))
    sums = breach_loss(scores)

    def nll(logit: float, share: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -share * math.log(p) - (1 - share) * math.log(1 - p)

    wanted = nll(2, 1) + 0.5 * nll(-1, 0.25) + 2 * nll(0.5, 0.5)
    assert float(sums.loss) == pytest.approx(wanted, rel=1e-6)
    assert float(sums.count) == 3.5
    broken, weight = sums.metrics["broken"]
    assert float(broken / weight) == pytest.approx((1 + 0.125 + 1) / 3.5)
    right, counted = sums.metrics["accuracy"]
    assert (float(right), float(counted)) == (1.5, 1.5), "raters who are divided have no side"


def test_its_gradient_pulls_the_probability_to_the_share() -> None:
    logits = torch.tensor([0.0, 0.0], requires_grad=True)
    breach_loss(BreachScores(logits, torch.tensor([1.0, 0.25]), torch.ones(2))).loss.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [-0.5, 0.25]


def test_large_logits_stay_finite_and_shapes_must_agree() -> None:
    sums = breach_loss(BreachScores(torch.tensor([1000.0, -1000.0]), torch.tensor([0.0, 1.0]), torch.ones(2)))
    assert float(sums.loss) == 2000.0
    with pytest.raises(ValueError, match="one shape"):
        BreachScores(torch.zeros(2), torch.zeros(2, 1), torch.zeros(2))
