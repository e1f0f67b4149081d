"""Objectives on single completions, each judged desirable or not, without pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.direct.dpo import check_beta
from palate.objectives.reduce import Ratio, Sums, check_shapes, masked_ratio, per_unit, weighted_ratio


@dataclass(frozen=True)
class UnpairedLogps:
    """Judged completions, all (n,); log-probabilities in nats, summed over completion tokens.

    Attributes:
        logp: under the policy.
        reference: under the reference; no gradient flows here.
        desirable: bool, True where the rater wants the completion.
        weight: >= 0, the weight of the judgment.
        baseline: value of the whole step that the log-ratio is compared with, nats; no gradient flows here.
    """

    logp: Tensor
    reference: Tensor
    desirable: Tensor
    weight: Tensor
    baseline: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("UnpairedLogps", vars(self))
        if self.desirable.dtype != torch.bool:
            raise ValueError(f"UnpairedLogps needs a boolean `desirable`, got {self.desirable.dtype}; write `desirable.bool()`")

    @property
    def log_ratio(self) -> Tensor:
        """Return `log policy - log reference`, nats."""
        return self.logp - self.reference.detach()

    @property
    def signed(self) -> Tensor:
        """Return how far the log-ratio lies on the judged side of the baseline, nats."""
        above = self.log_ratio - self.baseline.detach()
        return torch.where(self.desirable, above, -above)


@dataclass(frozen=True, kw_only=True)
class KTO:
    """Kahneman-Tversky optimisation, per `sum weight`.

    Desirable: `w_D (1 - sigma(beta (x - z)))`; undesirable: `w_U (1 - sigma(beta (z - x)))`; `x = log(pi / ref)`, summed. z estimates
    `KL(pi || ref)` as `max(0, mean x)` over the whole optimizer step, without gradient. That mean is over these prompts, each followed by a
    completion of *another* prompt.
    Ethayarajh et al. 2024 (version 5) eq. 8.

    Attributes:
        beta: how fast the value saturates with the log-ratio.
        desirable_weight: factor of the loss of desirable completions, w_D.
        undesirable_weight: factor of the loss of undesirable completions, w_U; choose both so that w_D n_D / (w_U n_U) is between 1 and
            3/2.

    Metrics: `accuracy` (share of completions on their side of the baseline; at the baseline one half), `desirable_reward` and
    `undesirable_reward` (beta times log-ratio), `desirable_logp`, `undesirable_logp`, `baseline` (z, nats per completion).
    """

    kind: Literal["kto"] = "kto"
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    is_unpaired: ClassVar[Literal[True]] = True
    needs_reference: ClassVar[bool] = True
    needs_mismatched: ClassVar[Literal[True]] = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_beta(self.kind, self.beta)
        for name, value in (("desirable_weight", self.desirable_weight), ("undesirable_weight", self.undesirable_weight)):
            if not value > 0:
                raise ConfigError(f"kto: {name} must be > 0, got {value}; use 1 for both where both are equally frequent")

    def baseline(self, mismatched: Tensor) -> Tensor:
        """Return z (0-d, nats) from log-ratios (m,) of completions that belong to other prompts; 0 if there are none."""
        return per_unit(mismatched.sum(), torch.tensor(float(len(mismatched)))).clamp(min=0.0)

    def __call__(self, inputs: UnpairedLogps) -> Sums:
        """Return sums over completions; differentiable in the policy's log-probabilities."""
        factor = torch.where(inputs.desirable, self.desirable_weight, self.undesirable_weight)
        return _sums(inputs, factor * (-self.beta * inputs.signed).sigmoid(), self.beta)


@dataclass(frozen=True, kw_only=True)
class BCO:
    """Binary classifier optimisation on unpaired judgments, per `sum weight`.

    Desirable: `-log sigma(r - d)`; undesirable: `-log sigma(d - r)`; `r = beta log(pi / ref)`, and d is halfway between the mean rewards
    of both kinds over the whole optimizer step (not a running mean), without gradient. Jung et al. 2024, without their density-ratio
    weights for prompts that differ between the kinds.

    Attributes:
        beta: as in dpo.

    Metrics: as `KTO`.
    """

    kind: Literal["bco"] = "bco"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[True]] = True
    needs_reference: ClassVar[bool] = True
    needs_mismatched: ClassVar[Literal[False]] = False

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def baseline(self, log_ratio: Tensor, desirable: Tensor, weight: Tensor) -> Tensor:
        """Return `d / beta` (0-d, nats) from the log-ratios (n,) of the step; the mean of one kind where the other is missing."""
        means = []
        for kind in (desirable, ~desirable):
            total, count = weighted_ratio(log_ratio, weight * kind)
            if count > 0:
                means.append(total / count)
        return torch.stack(means).mean() if means else log_ratio.new_zeros(())

    def __call__(self, inputs: UnpairedLogps) -> Sums:
        """Return sums over completions; differentiable in the policy's log-probabilities."""
        return _sums(inputs, functional.softplus(-self.beta * inputs.signed), self.beta)


def _sums(inputs: UnpairedLogps, each: Tensor, beta: float) -> Sums:
    weight, reward = inputs.weight.detach(), beta * inputs.log_ratio
    desirable, undesirable = weight * inputs.desirable, weight * ~inputs.desirable
    metrics: dict[str, Ratio] = {
        "accuracy": weighted_ratio((1 + torch.sign(inputs.signed)) / 2, weight),
        "desirable_reward": weighted_ratio(reward, desirable),
        "undesirable_reward": weighted_ratio(reward, undesirable),
        "desirable_logp": weighted_ratio(inputs.logp, desirable),
        "undesirable_logp": weighted_ratio(inputs.logp, undesirable),
        "baseline": masked_ratio(inputs.baseline, weight > 0),
    }
    return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=metrics)
