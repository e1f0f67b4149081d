"""Weighted sums of several objectives on the same pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from palate.core import ConfigError
from palate.objectives.direct.anchored import NCA, SPPO, APODown, APOZero, BCOPair
from palate.objectives.direct.dpo import DPO, LengthDesensitisedDPO, RobustDPO
from palate.objectives.direct.margins import AOT, EXO, IPO, Hinge
from palate.objectives.direct.pair_logps import Need, PairLogps, PairSide, pair_sums
from palate.objectives.direct.reference_free import CPO, ORPO, ChosenNLL, SimPO
from palate.objectives.reduce import Sums

PairPart = (
    DPO
    | RobustDPO
    | LengthDesensitisedDPO
    | IPO
    | Hinge
    | EXO
    | AOT
    | APOZero
    | APODown
    | NCA
    | SPPO
    | BCOPair
    | SimPO
    | ORPO
    | CPO
    | ChosenNLL
)
"""Every objective on pairs except mixtures."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Several losses on the same pairs, each with a weight, per `sum weight`.

    `sum_i weights_i loss_i`. `{kind: mixture, parts: [dpo, nll], weights: [1, 0.1]}`; rewards and accuracy are those of the first part.

    Attributes:
        parts: the objectives, each a kind or `kind` with its settings; at most one of aot and bco_pair.
        weights: one per part, above 0.

    Metrics: those of `DPO`, and `loss_<kind>` of each part, before its weight and as if the label were certain.
    """

    kind: Literal["mixture"] = "mixture"
    parts: tuple[PairPart, ...]
    weights: tuple[float, ...]
    is_unpaired: ClassVar[Literal[False]] = False

    def __post_init__(self) -> None:
        """Check parts and weights."""
        kinds = [part.kind for part in self.parts]
        if len(kinds) < 2 or len(set(kinds)) < len(kinds):
            raise ConfigError(f"mixture: needs two or more parts of different kinds, got {', '.join(kinds) or 'none'}")
        if len(self.weights) != len(kinds) or not all(0 < weight < math.inf for weight in self.weights):
            raise ConfigError(f"mixture: needs one weight above 0 for each of the {len(kinds)} parts, got {list(self.weights)}")
        if len(self._with_baselines) > 1:
            raise ConfigError(
                "mixture: aot and bco_pair each need their own baseline of the whole step, and a step has only one; use one of them"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether any part compares the policy with a reference."""
        return any(part.needs_reference for part in self.parts)

    @property
    def needs(self) -> frozenset[Need]:
        """What any part needs beside the sums of both sides."""
        return frozenset(need for part in self.parts for need in part.needs)

    @property
    def _with_baselines(self) -> list[AOT | BCOPair]:
        return [part for part in self.parts if isinstance(part, AOT | BCOPair)]

    def baselines(self, pairs: PairLogps) -> tuple[Tensor, Tensor]:
        """Return the baselines of the part that needs them."""
        return self._with_baselines[0].baselines(pairs)

    def losses(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair (p,)."""
        return sum((w * part.losses(pairs) for part, w in zip(self.parts, self.weights, strict=True)), pairs.chosen.logp.new_zeros(()))

    def reward(self, side: PairSide) -> Tensor:
        """Return the reward of the first part, (p,)."""
        return self.parts[0].reward(side)

    def __call__(self, pairs: PairLogps) -> Sums:
        """Return sums over pairs; differentiable in the policy's log-probabilities."""
        return pair_sums(self, pairs, {f"loss_{part.kind}": part.losses(pairs) for part in self.parts})
