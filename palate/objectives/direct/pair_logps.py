"""What all objectives on pairs share: inputs, soft labels, sums and metrics."""

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
    """One side of p pairs, all (p,); log-probabilities in nats, of completion tokens only (without prompt and padding).

    Attributes:
        logp: under the policy, summed.
        reference: the same under the reference; no gradient flows here. It is 0 for a uniform reference.
        tokens: number of completion tokens, including the eos.
        head: `logp` of the first tokens alone, as many as the shorter side has; None where the objective does not need it.
        reference_head: the same under the reference.
        baseline: value of the whole step that the objective compares the log-ratio with, nats; None where it needs none.
    """

    logp: Tensor
    reference: Tensor
    tokens: Tensor
    head: Tensor | None = None
    reference_head: Tensor | None = None
    baseline: Tensor | None = None

    @property
    def log_ratio(self) -> Tensor:
        """Return `log policy - log reference`, nats."""
        return self.logp - self.reference.detach()

    @property
    def mean_logp(self) -> Tensor:
        """Return the log-probability in nats per token."""
        return self.logp / self.tokens

    @property
    def mean_log_ratio(self) -> Tensor:
        """Return `log policy - log reference`, nats per token."""
        return self.log_ratio / self.tokens

    @property
    def above_baseline(self) -> Tensor:
        """Return the log-ratio minus its baseline, nats."""
        assert self.baseline is not None, "the caller must measure baselines for an objective whose needs name them"
        return self.log_ratio - self.baseline.detach()


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of both sides of p pairs.

    Attributes:
        chosen: the chosen completion.
        rejected: the rejected completion.
        probability: probability that chosen is better, 0 to 1.
        weight: >= 0, the weight of the pair.
        importance: >= 0, a factor of the loss alone (see `wpo_importance`); None for 1. The count does not contain it.
    """

    chosen: PairSide
    rejected: PairSide
    probability: Tensor
    weight: Tensor
    importance: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        tensors = {**_named("chosen", self.chosen), **_named("rejected", self.rejected)}
        tensors |= {"probability": self.probability, "weight": self.weight, "importance": self.importance}
        check_shapes("PairLogps", {name: tensor for name, tensor in tensors.items() if tensor is not None})

    @property
    def difference(self) -> Tensor:
        """Return `h`, the difference of the log-ratios, nats."""
        return self.chosen.log_ratio - self.rejected.log_ratio

    def swapped(self) -> PairLogps:
        """Return the same pairs with chosen and rejected exchanged."""
        return replace(self, chosen=self.rejected, rejected=self.chosen, probability=1 - self.probability)


def _named(owner: str, side: PairSide) -> dict[str, Tensor | None]:
    return {f"{owner}.{item.name}": getattr(side, item.name) for item in fields(side)}


class PairLoss(Protocol):
    """An objective on pairs, as `pair_sums` uses it."""

    @property
    def needs(self) -> frozenset[Need]:
        """Return what the objective needs beside the sums of both sides."""
        ...

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,), as if chosen were certainly better."""
        ...

    def reward(self, side: PairSide) -> Tensor:
        """Return the reward (p,) that the policy implies for a side; only metrics use it."""
        ...


def pair_sums(objective: PairLoss, pairs: PairLogps, further: Mapping[str, Tensor] | None = None) -> Sums:
    """Return sums of `w [p loss(pair) + (1 - p) loss(pair swapped)]`, per `sum w`.

    A soft label thus gives the expected loss over which side is better. For DPO this is the cross-entropy with a soft label. For the
    others it is what many judgments of the same pair would give.

    Args:
        objective: computes losses and rewards.
        pairs: log-probabilities of the pairs.
        further: additional metrics of the objective, (p,) each.
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
    """Return how likely the policy is to write such pairs of off-policy completions itself (p,), at most 1.

    `min(1, exp(a_chosen + a_rejected))`, where `a` is the mean over a completion's tokens of `log pi(token) - log sum_v pi(v)^2`: the
    probability of each token is compared with that of a sampled token. No gradient flows.

    Args:
        chosen: (p,), `a` of the chosen completion.
        rejected: (p,), `a` of the rejected one.

    Source: Zhou et al. 2024 (WPO) eq. 2 with sampled alignment.
    """
    return (chosen + rejected).detach().exp().clamp(max=1.0)
