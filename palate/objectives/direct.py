"""Direct alignment: learning from preferences without a reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from palate.core import ConfigError
from palate.objectives.bradley_terry import preference_accuracy, preference_nll
from palate.objectives.reduce import Sums, check_shapes, weighted_ratio


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of pairs, all (p,), nats, summed over completion tokens (prompt and padding left out).

    Attributes:
        chosen: of the chosen completion under the policy.
        rejected: of the rejected completion under the policy.
        reference_chosen: of the chosen completion under the reference; no gradient flows here.
        reference_rejected: of the rejected completion under the reference.
        probability: that chosen is the better one, 0 to 1.
        weight: >= 0, how much the pair counts.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    probability: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("PairLogps", vars(self))


@dataclass(frozen=True, kw_only=True)
class DPO:
    """Direct preference optimisation, per `sum weight`.

    `w BCE(beta h, p)` with `h = [log pi - log ref](chosen) - [log pi - log ref](rejected)`. With p = 1 this is Rafailov
    et al. 2023 eq. 7; p = 1 - e is conservative DPO (Mitchell 2023 eq. 3). Policy equal to reference gives log 2.

    Attributes:
        beta: how strongly the policy is held to the reference: higher moves it less.

    Metrics: `loss`, `accuracy` of the implicit rewards (equal ones count one half), `chosen_reward`, `rejected_reward`
    and their difference `margin` (beta times log-ratio), `chosen_logp`, `rejected_logp` (both fall when probability leaks away from
    the data: watch them).
    """

    kind: Literal["dpo"] = "dpo"
    beta: float = 0.1

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not self.beta > 0:
            raise ConfigError(f"dpo: beta must be > 0, got {self.beta}; 0.1 is usual, 0.01 to 0.5 the range in use")

    def __call__(self, inputs: PairLogps) -> Sums:
        """Sums over pairs; differentiable in the policy's log-probabilities."""
        chosen = self.beta * (inputs.chosen - inputs.reference_chosen.detach())
        rejected = self.beta * (inputs.rejected - inputs.reference_rejected.detach())
        margin = chosen - rejected
        each = preference_nll(margin, inputs.probability)
        weight = inputs.weight.detach()
        metrics = {
            "loss": weighted_ratio(each, weight),
            "accuracy": preference_accuracy(margin, inputs.probability, weight),
            "chosen_reward": weighted_ratio(chosen, weight),
            "rejected_reward": weighted_ratio(rejected, weight),
            "margin": weighted_ratio(margin, weight),
            "chosen_logp": weighted_ratio(inputs.chosen, weight),
            "rejected_logp": weighted_ratio(inputs.rejected, weight),
        }
        return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=metrics)


DirectObjective = DPO
