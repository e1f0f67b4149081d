"""What all objectives on pairs share: their inputs, soft labels, sums and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol

from torch import Tensor

from palate.objectives.bradley_terry import preference_accuracy
from palate.objectives.reduce import Ratio, Sums, check_shapes, weighted_ratio

Need = Literal["heads", "baselines"]
"""What an objective on pairs needs beside the sums of both sides: sums of the heads alone, or baselines of the whole optimizer step."""

NO_NEEDS: frozenset[Need] = frozenset()


@dataclass(frozen=True)
class PairSide:
    """One side of p pairs, all (p,); log-probabilities in nats, of completion tokens only (prompt and padding left out).

    Attributes:
        logp: under the policy, summed.
        reference: the same under the reference; no gradient flows here. 0 where there is none, which is a uniform reference.
        tokens: number of completion tokens, the terminator counted.
        head: `logp` of the first tokens alone, as many as the shorter side has; None where nobody asked.
        reference_head: the same under the reference.
        baseline: what the step as a whole says the log-ratio is to be compared with, nats; None where nobody asked.
    """

    logp: Tensor
    reference: Tensor
    tokens: Tensor
    head: Tensor | None = None
    reference_head: Tensor | None = None
    baseline: Tensor | None = None

    @property
    def log_ratio(self) -> Tensor:
        """`log policy - log reference`, nats."""
        return self.logp - self.reference.detach()

    @property
    def mean_logp(self) -> Tensor:
        """Nats a token."""
        return self.logp / self.tokens

    @property
    def mean_log_ratio(self) -> Tensor:
        """`log policy - log reference`, nats a token."""
        return self.log_ratio / self.tokens

    @property
    def above_baseline(self) -> Tensor:
        """The log-ratio without its baseline, nats."""
        assert self.baseline is not None, "an objective that names baselines among its needs is given them"
        return self.log_ratio - self.baseline.detach()


@dataclass(frozen=True)
class PairLogps:
    """Pairs (p,) with the log-probabilities of both sides.

    Attributes:
        chosen: the completion called chosen.
        rejected: the other one.
        probability: that chosen is the better one, 0 to 1.
        weight: >= 0, how much the pair counts.
        importance: >= 0, a factor of the loss alone (see `wpo_importance`); None for 1. It does not enter the count.
    """

    chosen: PairSide
    rejected: PairSide
    probability: Tensor
    weight: Tensor
    importance: Tensor | None = None

    def __post_init__(self) -> None:
        """Checks the shapes."""
        given = {**_named("chosen", self.chosen), **_named("rejected", self.rejected)}
        given |= {"probability": self.probability, "weight": self.weight, "importance": self.importance}
        check_shapes("PairLogps", {name: tensor for name, tensor in given.items() if tensor is not None})

    @property
    def difference(self) -> Tensor:
        """`h`, the difference of the log-ratios, nats."""
        return self.chosen.log_ratio - self.rejected.log_ratio

    def swapped(self) -> PairLogps:
        """The same pairs with the other side called chosen."""
        return replace(self, chosen=self.rejected, rejected=self.chosen, probability=1 - self.probability)


def _named(owner: str, side: PairSide) -> dict[str, Tensor | None]:
    return {f"{owner}.{item.name}": getattr(side, item.name) for item in fields(side)}


class PairLoss(Protocol):
    """An objective on pairs."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs beside the sums of both sides."""
        ...

    def losses(self, pairs: PairLogps) -> Tensor:
        """Loss of each pair (p,) taken at its word: chosen is the better one."""
        ...

    def reward(self, side: PairSide) -> Tensor:
        """The reward (p,) the policy implies for a side; for the metrics."""
        ...


def pair_sums(objective: PairLoss, pairs: PairLogps, further: Mapping[str, Tensor] | None = None) -> Sums:
    """Sums of `w [p loss(pair) + (1 - p) loss(pair swapped)]`, per `sum w`: a soft label is the expected loss over which side is better.

    For DPO that is its cross-entropy with a soft label; for the others it is what the same pair judged many times would give.

    Args:
        objective: gives losses and rewards.
        pairs: what they are formed from.
        further: metrics of the objective's own, (p,) each.
    """
    probability, weight = pairs.probability.detach(), pairs.weight.detach()
    each = probability * objective.losses(pairs) + (1 - probability) * objective.losses(pairs.swapped())
    if pairs.importance is not None:
        each = each * pairs.importance.detach()
    chosen, rejected = objective.reward(pairs.chosen), objective.reward(pairs.rejected)
    metrics: dict[str, Ratio] = {
        "accuracy": preference_accuracy(chosen - rejected, probability, weight),
        "chosen_reward": weighted_ratio(chosen, weight),
        "rejected_reward": weighted_ratio(rejected, weight),
        "margin": weighted_ratio(chosen - rejected, weight),
        "chosen_logp": weighted_ratio(pairs.chosen.logp, weight),
        "rejected_logp": weighted_ratio(pairs.rejected.logp, weight),
    }
    if pairs.importance is not None:
        metrics |= {"importance": weighted_ratio(pairs.importance, weight)}
    metrics |= {name: weighted_ratio(values, weight) for name, values in (further or {}).items()}
    return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=metrics)


def wpo_importance(chosen: Tensor, rejected: Tensor) -> Tensor:
    """How much like the policy's own a pair of off-policy completions looks (p,), at most 1.

    `min(1, exp(a_chosen + a_rejected))`, where `a` is the mean over a completion's tokens of `log pi(token) - log sum_v pi(v)^2`: a token
    counts by its probability relative to that of a sampled one. No gradient flows.

    Args:
        chosen: (p,), `a` of the chosen completion.
        rejected: (p,), `a` of the rejected one.

    Source: Zhou et al. 2024 (WPO) eq. 2 with sampled alignment.
    """
    return (chosen + rejected).detach().exp().clamp(max=1.0)
