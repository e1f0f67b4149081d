"""Direct preference optimisation, with other divergences, smoothed or robust labels, and less sensitivity to length."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.direct.pair_logps import NO_NEEDS, Need, PairLogps, PairSide, pair_sums
from palate.objectives.reduce import Sums

_STEEP = 20.0
"""Above this exponent `exp` continues along its tangent, so a single pair cannot overflow and its gradient keeps its sign."""


def check_beta(kind: str, beta: float) -> None:
    """Raise ConfigError unless beta is above 0."""
    if not beta > 0:
        raise ConfigError(f"{kind}: beta must be > 0, got {beta}; use 0.1, or a value from 0.01 to 0.5")


@dataclass(frozen=True)
class ReverseKL:
    """`f'(u) = log u`: plain DPO."""

    kind: Literal["reverse_kl"] = "reverse_kl"

    def slope(self, log_ratio: Tensor) -> Tensor:
        """Return `f'(u) - f'(1)` at `u = exp(log_ratio)`, same shape."""
        return log_ratio


@dataclass(frozen=True)
class ForwardKL:
    """`f'(u) = -1/u`: it makes the policy cover the reference, and is steep where the policy loses probability."""

    kind: Literal["forward_kl"] = "forward_kl"

    def slope(self, log_ratio: Tensor) -> Tensor:
        """Return `f'(u) - f'(1)` at `u = exp(log_ratio)`, same shape; linear in the log-ratio below -20."""
        return 1 - _tame_exp(-log_ratio)


@dataclass(frozen=True)
class JensenShannon:
    """`f'(u) = log(2u / (1 + u))`: it is bounded above, so the reward of certainty is finite."""

    kind: Literal["jensen_shannon"] = "jensen_shannon"

    def slope(self, log_ratio: Tensor) -> Tensor:
        """Return `f'(u) - f'(1)` at `u = exp(log_ratio)`, same shape."""
        return functional.logsigmoid(log_ratio) + math.log(2)


@dataclass(frozen=True)
class AlphaDivergence:
    """`f'(u) = (1 - u^-alpha) / alpha`, between reverse KL (alpha to 0) and forward KL (1).

    Attributes:
        alpha: above 0 and at most 1.
    """

    kind: Literal["alpha"] = "alpha"
    alpha: float = 0.5

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"alpha divergence: alpha must lie above 0 and be at most 1, got {self.alpha}; use reverse_kl for 0")

    def slope(self, log_ratio: Tensor) -> Tensor:
        """Return `f'(u) - f'(1)` at `u = exp(log_ratio)`, same shape; linear in the log-ratio below -20 / alpha."""
        return (1 - _tame_exp(-self.alpha * log_ratio)) / self.alpha


Divergence = ReverseKL | ForwardKL | JensenShannon | AlphaDivergence


def _tame_exp(exponent: Tensor) -> Tensor:
    return exponent.clamp(max=_STEEP).exp() * (1 + (exponent - _STEEP).clamp(min=0))


@dataclass(frozen=True, kw_only=True)
class DPO:
    """Direct preference optimisation, per `sum weight`.

    `w BCE(s_chosen - s_rejected, p)` with `s = beta (f'(u) - f'(1))`, `u = pi / ref`. With reverse KL `s = beta log(pi / ref)`, and p = 1
    is Rafailov et al. 2023 eq. 7; other divergences are Wang et al. 2024 (f-DPO) table 1. A label p is first smoothed to
    `p (1 - e) + (1 - p) e`: conservative DPO (Mitchell 2023 eq. 3). The loss is log 2 where policy and reference are equal.

    Attributes:
        beta: how strongly the policy is held to the reference; a higher beta moves it less.
        label_smoothing: share of labels assumed to be wrong, from 0 to below 0.5.
        divergence: how distance from the reference is measured.

    Metrics: `accuracy` of the implicit rewards (equal ones count one half), `chosen_reward`, `rejected_reward`
    and their difference `margin`, `chosen_logp`, `rejected_logp` (watch them: both fall when probability
    moves away from the data).
    """

    kind: Literal["dpo"] = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0
    divergence: Divergence = field(default_factory=ReverseKL)
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the settings."""
        check_beta(self.kind, self.beta)
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"dpo: label_smoothing must be from 0 to below 0.5, got {self.label_smoothing}; at 0.5 labels have no information"
            )

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        margin = self.reward(pairs.chosen) - self.reward(pairs.rejected)
        wrong = self.label_smoothing
        return (1 - wrong) * functional.softplus(-margin) + wrong * functional.softplus(margin)

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta (f'(u) - f'(1))`, (p,)."""
        return self.beta * self.divergence.slope(side.log_ratio)

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class RobustDPO:
    """DPO's loss, made unbiased under labels that are sometimes flipped, per `sum weight`.

    `[(1 - e) l(h) - e l(-h)] / (1 - 2e)` with `l(h) = -log sigma(beta h)`: its mean over labels flipped with probability e is DPO's loss
    on clean labels. It is negative on pairs that are far apart. Chowdhury et al. 2024 eq. 12.

    Attributes:
        beta: as in dpo.
        flip_probability: share of labels that are flipped, from 0 to below 0.5.
    """

    kind: Literal["robust_dpo"] = "robust_dpo"
    beta: float = 0.1
    flip_probability: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the settings."""
        check_beta(self.kind, self.beta)
        if not 0 <= self.flip_probability < 0.5:
            raise ConfigError(f"robust_dpo: flip_probability must be from 0 to below 0.5, got {self.flip_probability}; use 0.1")

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,); may be negative."""
        margin, flips = self.beta * pairs.difference, self.flip_probability
        return ((1 - flips) * functional.softplus(-margin) - flips * functional.softplus(margin)) / (1 - 2 * flips)

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class LengthDesensitisedDPO:
    """DPO in which the tokens beyond the length of the shorter side count less, per `sum weight`.

    `-log sigma(beta h)` on `log p(head) + alpha log p(tail)`, under both policy and reference. The head of a side is its first n tokens,
    where n is the length of the shorter side. alpha = 1 is DPO. Liu et al. 2024 (LD-DPO).

    Attributes:
        beta: as in dpo.
        alpha: weight of the tokens of the tail, 0 to 1.
    """

    kind: Literal["ld_dpo"] = "ld_dpo"
    beta: float = 0.1
    alpha: float = 0.5
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"heads"})

    def __post_init__(self) -> None:
        """Check the settings."""
        check_beta(self.kind, self.beta)
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"ld_dpo: alpha must lie between 0 and 1, got {self.alpha}; use 0.5, or 1 for plain dpo")

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        return functional.softplus(self.reward(pairs.rejected) - self.reward(pairs.chosen))

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta` times the log-ratio of head and weighted tail, (p,)."""
        assert side.head is not None, "the caller must measure heads for an objective whose needs name them"
        assert side.reference_head is not None
        head = side.head - side.reference_head.detach()
        return self.beta * (head + self.alpha * (side.log_ratio - head))

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)
