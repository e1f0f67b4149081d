"""Objectives without a reference: a mean a token, or the likelihood of chosen completions, keeps the policy in place."""

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
"""Mean log-probabilities are held below it: the odds of a certain completion are infinite."""


def _check_weight(kind: str, name: str, value: float) -> None:
    if not value >= 0:
        raise ConfigError(f"{kind}: {name} must be >= 0, got {value}; 0 leaves the term out")


@dataclass(frozen=True, kw_only=True)
class SimPO:
    """Simple preference optimisation, per `sum weight`.

    `-log sigma(beta a_c - beta a_r - target_margin)` with `a` the mean log-probability a token. Meng et al. 2024 eq. 6. `target_margin` is
    the paper's gamma, in reward units: its `gamma / beta` ratio of 0.5 is a target_margin of 1 at beta 2.

    Attributes:
        beta: reward units for a nat a token.
        target_margin: by how much the reward of chosen is to exceed that of rejected; reward units, already times beta.
    """

    kind: Literal["simpo"] = "simpo"
    beta: float = 2.0
    target_margin: float = 1.0
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not self.beta > 0:
            raise ConfigError(f"simpo: beta must be > 0, got {self.beta}; 2 to 10 is the range in use, far above that of dpo")
        if not self.target_margin >= 0:
            raise ConfigError(f"simpo: target_margin must be >= 0, got {self.target_margin}; 0.3 to 1 times beta is the range in use")

    def losses(self, pairs: PairLogps) -> Tensor:
        """Of each pair (p,)."""
        return functional.softplus(self.target_margin + self.reward(pairs.rejected) - self.reward(pairs.chosen))

    def reward(self, side: PairSide) -> Tensor:
        """`beta` times the mean log-probability a token, (p,)."""
        return self.beta * side.mean_logp

    def __call__(self, pairs: PairLogps) -> Sums:
        """Sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class ORPO:
    """Odds-ratio preference optimisation, per `sum weight`.

    `-a_c - odds_weight log sigma(log odds(a_c) - log odds(a_r))` with `odds(a) = e^a / (1 - e^a)` and `a` the mean log-probability a token.
    Hong et al. 2024 eq. 4, 6 and 7; the likelihood is of the completion, without the prompt. Means are held below -1e-6.

    Attributes:
        odds_weight: weight of the odds-ratio term beside the likelihood; lambda in the paper.

    Metrics: besides the usual ones `nll`, the negative log-likelihood of the chosen side in nats a token.
    """

    kind: Literal["orpo"] = "orpo"
    odds_weight: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Checks the setting."""
        _check_weight(self.kind, "odds_weight", self.odds_weight)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Of each pair (p,)."""
        ratio = _log_odds(pairs.chosen.mean_logp) - _log_odds(pairs.rejected.mean_logp)
        return -pairs.chosen.mean_logp + self.odds_weight * functional.softplus(-ratio)

    def reward(self, side: PairSide) -> Tensor:
        """Log odds of the mean log-probability a token, (p,)."""
        return _log_odds(side.mean_logp)

    def __call__(self, pairs: PairLogps) -> Sums:
        """Sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs, {"nll": -pairs.chosen.mean_logp})


def _log_odds(mean_logp: Tensor) -> Tensor:
    held = mean_logp.clamp(max=_CERTAIN)
    return held - torch.log(-torch.expm1(held))


@dataclass(frozen=True, kw_only=True)
class CPO:
    """Contrastive preference optimisation, per `sum weight`.

    `-log sigma(beta (log pi(chosen) - log pi(rejected))) - nll_weight a_c` with `a_c` the chosen side's mean log-probability a token. Xu et
    al. 2024: DPO with a uniform reference and the likelihood of chosen completions.

    Attributes:
        beta: reward units for a nat of a completion's summed log-probability.
        nll_weight: weight of the likelihood term.

    Metrics: besides the usual ones `nll`, the negative log-likelihood of the chosen side in nats a token.
    """

    kind: Literal["cpo"] = "cpo"
    beta: float = 0.1
    nll_weight: float = 1.0
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_beta(self.kind, self.beta)
        _check_weight(self.kind, "nll_weight", self.nll_weight)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Of each pair (p,)."""
        contrast = functional.softplus(self.reward(pairs.rejected) - self.reward(pairs.chosen))
        return contrast - self.nll_weight * pairs.chosen.mean_logp

    def reward(self, side: PairSide) -> Tensor:
        """`beta log pi`, (p,)."""
        return self.beta * side.logp

    def __call__(self, pairs: PairLogps) -> Sums:
        """Sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs, {"nll": -pairs.chosen.mean_logp})


@dataclass(frozen=True, kw_only=True)
class ChosenNLL:
    """Negative log-likelihood of the better side, nats a token, per `sum weight`: a part for mixtures.

    `-a_c`. With dpo it is RPO (Liu et al. 2024) or the DPO+NLL of Pang et al. 2024; with dpo and bco_pair MPO (Wang et al. 2024).
    """

    kind: Literal["nll"] = "nll"
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def losses(self, pairs: PairLogps) -> Tensor:
        """Of each pair (p,)."""
        return -pairs.chosen.mean_logp

    def reward(self, side: PairSide) -> Tensor:
        """Mean log-probability a token, (p,)."""
        return side.mean_logp

    def __call__(self, pairs: PairLogps) -> Sums:
        """Sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)
