"""Objectives without a reference: a mean over tokens, or the likelihood of chosen completions, keeps the policy in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.direct.dpo import check_beta
from palate.objectives.direct.pair_logps import NO_NEEDS, Need, PairLogps, PairSide, pair_sums
from palate.objectives.reduce import Sums

_CERTAIN = -1e-6
"""Upper limit of mean log-probabilities, because the odds of a certain completion are infinite."""


def _check_weight(kind: str, name: str, value: float) -> None:
    if not value >= 0:
        raise ConfigError(f"{kind}: {name} must be >= 0, got {value}; use 0 to leave the term out")


@dataclass(frozen=True, kw_only=True)
class SimPO:
    """Simple preference optimisation, per `sum weight`.

    `-log sigma(beta a_c - beta a_r - target_margin)` with `a` the mean log-probability per token. Meng et al. 2024 eq. 6. `target_margin`
    is the paper's gamma, in reward units: its ratio `gamma / beta` of 0.5 is a target_margin of 1 at beta 2.

    Attributes:
        beta: reward units per nat per token.
        target_margin: by how much the reward of chosen should exceed that of rejected; in reward units, beta included.
    """

    kind: Literal["simpo"] = "simpo"
    beta: float = 2.0
    target_margin: float = 1.0
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.beta > 0:
            raise ConfigError(f"simpo: beta must be > 0, got {self.beta}; use 2 to 10, which is far above the beta of dpo")
        if not self.target_margin >= 0:
            raise ConfigError(f"simpo: target_margin must be >= 0, got {self.target_margin}; use 0.3 to 1 times beta")

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        return functional.softplus(self.target_margin + self.reward(pairs.rejected) - self.reward(pairs.chosen))

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta` times the mean log-probability per token, (p,)."""
        return self.beta * side.mean_logp

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class ORPO:
    """Odds-ratio preference optimisation, per `sum weight`.

    `-a_c - odds_weight log sigma(log odds(a_c) - log odds(a_r))` with `odds(a) = e^a / (1 - e^a)` and `a` the mean log-probability per
    token. Hong et al. 2024 eq. 4, 6 and 7; the likelihood is that of the completion, without the prompt. Means are clamped to at most
    -1e-6.

    Attributes:
        odds_weight: weight of the odds-ratio term relative to the likelihood; lambda in the paper.

    Metrics: those of `DPO`, and `nll`, the negative log-likelihood of the chosen side in nats per token.
    """

    kind: Literal["orpo"] = "orpo"
    odds_weight: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        _check_weight(self.kind, "odds_weight", self.odds_weight)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        ratio = _log_odds(pairs.chosen.mean_logp) - _log_odds(pairs.rejected.mean_logp)
        return -pairs.chosen.mean_logp + self.odds_weight * functional.softplus(-ratio)

    def reward(self, side: PairSide) -> Tensor:
        """Return the log odds of the mean log-probability per token, (p,)."""
        return _log_odds(side.mean_logp)

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs, {"nll": -pairs.chosen.mean_logp})


def _log_odds(mean_logp: Tensor) -> Tensor:
    clamped = mean_logp.clamp(max=_CERTAIN)
    return clamped - torch.log(-torch.expm1(clamped))


@dataclass(frozen=True, kw_only=True)
class CPO:
    """Contrastive preference optimisation, per `sum weight`.

    `-log sigma(beta (log pi(chosen) - log pi(rejected))) - nll_weight a_c` with `a_c` the chosen side's mean log-probability per token. Xu
    et al. 2024: DPO with a uniform reference, plus the likelihood of chosen completions.

    Attributes:
        beta: reward units per nat of a completion's summed log-probability.
        nll_weight: weight of the likelihood term.

    Metrics: those of `DPO`, and `nll`, the negative log-likelihood of the chosen side in nats per token.
    """

    kind: Literal["cpo"] = "cpo"
    beta: float = 0.1
    nll_weight: float = 1.0
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the settings."""
        check_beta(self.kind, self.beta)
        _check_weight(self.kind, "nll_weight", self.nll_weight)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        contrast = functional.softplus(self.reward(pairs.rejected) - self.reward(pairs.chosen))
        return contrast - self.nll_weight * pairs.chosen.mean_logp

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log pi`, (p,)."""
        return self.beta * side.logp

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs, {"nll": -pairs.chosen.mean_logp})


@dataclass(frozen=True, kw_only=True)
class ChosenNLL:
    """Negative log-likelihood of the better side, nats per token, per `sum weight`; use it as a part of a mixture.

    `-a_c`. With dpo it is RPO (Liu et al. 2024) or the DPO+NLL of Pang et al. 2024; with dpo and bco_pair MPO (Wang et al. 2024).
    """

    kind: Literal["nll"] = "nll"
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        return -pairs.chosen.mean_logp

    def reward(self, side: PairSide) -> Tensor:
        """Return the mean log-probability per token, (p,)."""
        return side.mean_logp

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)
