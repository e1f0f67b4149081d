"""The loss of a classifier that says whether a rule is broken."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from palate.objectives.reduce import Sums, check_shapes, weighted_ratio


@dataclass(frozen=True)
class BreachScores:
    """What a classifier says of n questions; tensors are (n,).

    Attributes:
        logits: log-odds that the rule is broken.
        broken: share of the raters who say that it is.
        weight: what each question counts.
    """

    logits: Tensor
    broken: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        """Check that all are (n,)."""
        check_shapes("BreachScores", {"logits": self.logits, "broken": self.broken, "weight": self.weight})


def breach_loss(scores: BreachScores) -> Sums:
    """Return the cross-entropy `-w (q log p + (1 - q) log(1 - p))` with `p = sigma(logit)` in nats, summed; the count is `sum w`.

    The labels are shares, so raters who disagree teach a probability between 0 and 1. Source: Glaese et al. 2022 (Sparrow) train one
    classifier on all rules; that its labels are shares of votes is ours.

    Metrics: `accuracy`, the share of questions on whose side of one half the classifier is, without those that raters are divided on;
    `broken`, the share of votes for broken.
    """
    each = functional.binary_cross_entropy_with_logits(scores.logits, scores.broken, reduction="none")
    weight = scores.weight.detach()
    side = (scores.broken - 0.5).sign()
    right = (1 + scores.logits.detach().sign() * side) / 2
    metrics = {"accuracy": weighted_ratio(right, weight * side.abs()), "broken": weighted_ratio(scores.broken, weight)}
    return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=metrics)
