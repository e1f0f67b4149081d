"""Objectives of the margin alone: losses that are not logistic, and margins compared as distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.direct.dpo import check_beta
from palate.objectives.direct.pair_logps import NO_NEEDS, Need, PairLogps, PairSide, pair_sums
from palate.objectives.reduce import Sums


@dataclass(frozen=True, kw_only=True)
class IPO:
    """Identity preference optimisation, per `sum weight`.

    `(h - 1 / (2 tau))^2`: the margin has a finite target instead of growing without end. Azar et al. 2023 eq. 17. The paper sums
    log-probabilities over tokens. TRL takes the mean over each side's tokens, which the authors confirmed. A given tau means something else
    in each.

    Attributes:
        tau: how strongly the policy is held to the reference; the target is `1 / (2 tau)` nats (or nats per token).
        reduction: sum or average of the log-ratios of a completion's tokens.
    """

    kind: Literal["ipo"] = "ipo"
    tau: float = 0.1
    reduction: Literal["sum", "average"] = "sum"
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        if not self.tau > 0:
            raise ConfigError(f"ipo: tau must be > 0, got {self.tau}; use 0.1, or a value from 0.01 to 1")

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,), squared nats."""
        return ((self.reward(pairs.chosen) - self.reward(pairs.rejected)) / self.tau - 1 / (2 * self.tau)).square()

    def reward(self, side: PairSide) -> Tensor:
        """Return `tau log(pi / ref)`, (p,); the target of a margin is 1/2."""
        return self.tau * (side.log_ratio if self.reduction == "sum" else side.mean_log_ratio)

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """Hinge loss on the margin, per `sum weight`.

    `max(0, 1 - beta h)`: a pair whose margin is at least `1 / beta` nats has no gradient. Liu et al. 2023 (RSO), the normalised form of
    SLiC-HF (Zhao et al. 2023), which takes log-probabilities without a reference and adds the likelihood of a target text.

    Attributes:
        beta: one over the sufficient margin, in nats.
    """

    kind: Literal["hinge"] = "hinge"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        return functional.relu(1 - self.beta * pairs.difference)

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class EXO:
    """Reverse KL from the policy's preference to the smoothed label, per `sum weight`.

    `q log(q / (1 - e)) + (1 - q) log((1 - q) / e)` with `q = sigma(beta h)`. DPO is the forward KL of the same two distributions.
    Ji et al. 2024 eq. 16, two completions per prompt.

    Attributes:
        beta: as in dpo.
        label_smoothing: e in the formula, the probability that the label gives to the rejected side; above 0, because the loss grows with
            log(1 / e).
    """

    kind: Literal["exo"] = "exo"
    beta: float = 0.1
    label_smoothing: float = 1e-3
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the settings."""
        check_beta(self.kind, self.beta)
        if not 0 < self.label_smoothing < 0.5:
            raise ConfigError(f"exo: label_smoothing must lie between 0 and 0.5, got {self.label_smoothing}; use 0.001")

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,), nats."""
        margin = self.beta * pairs.difference
        won = margin.sigmoid() * (functional.logsigmoid(margin) - math.log1p(-self.label_smoothing))
        lost = (-margin).sigmoid() * (functional.logsigmoid(-margin) - math.log(self.label_smoothing))
        return won + lost

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class AOT:
    """Alignment by optimal transport, paired form, per `sum weight`.

    The policy's margins `log pi(chosen) - log pi(rejected)` of a step should dominate the reference's margins as a distribution. The loss
    compares the k-th smallest of one with the k-th smallest of the other, `-log sigma(beta (m_(k) - m_ref_(k)))`. Melnyk et al. 2024
    sec. 3, logistic cost. It sorts the whole optimizer step, which costs a second forward pass. With one pair per step it is DPO.

    Attributes:
        beta: as in dpo.
    """

    kind: Literal["aot"] = "aot"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"baselines"})

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def baselines(self, pairs: PairLogps) -> tuple[Tensor, Tensor]:
        """Return baselines of both sides (p,), which give a pair the reference margin of its rank; a pair of weight 0 has no rank."""
        margin = (pairs.chosen.logp - pairs.rejected.logp).detach()
        reference = (pairs.chosen.reference - pairs.rejected.reference).detach()
        counts = (pairs.weight > 0).nonzero()[:, 0]
        ranked = counts[margin[counts].argsort(stable=True)]
        partner = reference.index_put((ranked,), reference[counts].sort().values)
        return partner - reference, reference.new_zeros(len(reference))

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        return functional.softplus(-self.beta * (pairs.chosen.above_baseline - pairs.rejected.above_baseline))

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)
