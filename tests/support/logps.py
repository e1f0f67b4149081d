"""Inputs of the direct objectives from plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.objectives.direct.pair_logps import PairLogps, PairSide


def pair_logps(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    probability: Tensor | None = None,
    weight: Tensor | None = None,
    lengths: tuple[Tensor, Tensor] | None = None,
) -> PairLogps:
    """Pairs of sums; certain labels, weight 1 and one token a side unless others are given."""
    ones = torch.ones_like(chosen.detach())
    tokens = lengths or (ones, ones)
    return PairLogps(
        PairSide(chosen, reference_chosen, tokens[0]),
        PairSide(rejected, reference_rejected, tokens[1]),
        ones if probability is None else probability,
        ones if weight is None else weight,
    )
