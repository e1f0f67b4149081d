"""Objectives that give each side of a pair a target of its own, and not only their difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from palate.objectives.direct.dpo import check_beta
from palate.objectives.direct.pair_logps import NO_NEEDS, Need, PairLogps, PairSide, pair_sums
from palate.objectives.reduce import Sums, per_unit


@dataclass(frozen=True, kw_only=True)
class APOZero:
    """Anchored preference optimisation, zero: raises chosen and lowers rejected completions, per `sum weight`.

    `1 - sigma(beta x_c) + sigma(beta x_r)` with `x = log(pi / ref)`; use it for data that are better than the model. D'Oosterlinck et al.
    2024.

    Attributes:
        beta: how fast the gradient fades as the log-ratio grows.
    """

    kind: Literal["apo_zero"] = "apo_zero"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,), 0 to 2."""
        return (-self.reward(pairs.chosen)).sigmoid() + self.reward(pairs.rejected).sigmoid()

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class APODown:
    """Anchored preference optimisation, down: lowers both sides, rejected ones more, per `sum weight`.

    `sigma(beta x_c) + 1 - sigma(beta (x_c - x_r))` with `x = log(pi / ref)`; use it for a model that is better than its data.
    D'Oosterlinck et al. 2024.

    Attributes:
        beta: how fast the gradient fades as the log-ratio grows.
    """

    kind: Literal["apo_down"] = "apo_down"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,), 0 to 2."""
        return self.reward(pairs.chosen).sigmoid() + (-self.beta * pairs.difference).sigmoid()

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class NCA:
    """Noise-contrastive alignment on pairs, per `sum weight`.

    `-log sigma(r_c) - log sigma(-r_c) / 2 - log sigma(-r_r) / 2` with `r = beta log(pi / ref)`: it tells completions from noise one by
    one, which keeps the likelihood of chosen ones from falling. Chen et al. 2024 (NCA), two completions per prompt.

    Attributes:
        beta: as in dpo.
    """

    kind: Literal["nca"] = "nca"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        chosen, rejected = self.reward(pairs.chosen), self.reward(pairs.rejected)
        return functional.softplus(-chosen) + functional.softplus(chosen) / 2 + functional.softplus(rejected) / 2

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class SPPO:
    """Self-play preference optimisation with the label in place of the win rate (its hard form), per `sum weight`.

    `(x_c - 1 / (2 beta))^2 + (x_r + 1 / (2 beta))^2` with `x = log(pi / ref)`: each side has its own target. A soft label p moves the
    targets to `(2p - 1) / (2 beta)` and its negative. Wu et al. 2024 with eta = 1 / beta.

    Attributes:
        beta: one over the step size of the self-play; the targets are plus and minus `1 / (2 beta)` nats.
    """

    kind: Literal["sppo"] = "sppo"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,), squared nats."""
        target = 1 / (2 * self.beta)
        return (pairs.chosen.log_ratio - target).square() + (pairs.rejected.log_ratio + target).square()

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,); the targets are 1/2 and -1/2."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)


@dataclass(frozen=True, kw_only=True)
class BCOPair:
    """Binary classifier optimisation on pairs, per `sum weight`.

    `-log sigma(r_c - d) - log sigma(d - r_r)` with `r = beta log(pi / ref)` and d half the sum of the mean rewards of both sides. Jung
    et al. 2024. d is a mean over the whole optimizer step, which costs a second forward pass. It is not a running mean, so a
    resumed run needs only its step.

    Attributes:
        beta: as in dpo.
    """

    kind: Literal["bco_pair"] = "bco_pair"
    beta: float = 0.1
    is_unpaired: ClassVar[Literal[False]] = False
    needs_reference: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"baselines"})

    def __post_init__(self) -> None:
        """Check the setting."""
        check_beta(self.kind, self.beta)

    def baselines(self, pairs: PairLogps) -> tuple[Tensor, Tensor]:
        """Return `d / beta` for both sides (p,), nats."""
        both = (pairs.chosen.log_ratio + pairs.rejected.log_ratio).detach() / 2
        shift = per_unit((pairs.weight * both).sum(), pairs.weight.sum()).expand_as(both)
        return shift, shift

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        chosen, rejected = self.beta * pairs.chosen.above_baseline, self.beta * pairs.rejected.above_baseline
        return functional.softplus(-chosen) + functional.softplus(rejected)

    def reward(self, side: PairSide) -> Tensor:
        """Return `beta log(pi / ref)`, (p,)."""
        return self.beta * side.log_ratio

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs)
