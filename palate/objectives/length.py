"""A reward model's scores and the length of completions: their correlation over a batch, and its slope in each score."""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1e-8
"""A standard deviation below this counts as none: nothing is correlated with a constant."""


def length_correlation(scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the correlation of each column of scores with the lengths, and its derivative in every score; both without gradient.

    With standardised scores u and lengths z of b completions (deviations divided by b), the correlation is `r = mean u z`, and

        dr / ds_i = (z_i - r u_i) / (b sd(s)).

    A sum of scores times these slopes has the gradient of r. So r over a whole batch can be learned from in micro-batches, and any split of
    the batch gives the same gradient.

    Args:
        scores: (b, h).
        lengths: (b,) tokens of each completion.

    Returns:
        Correlations (h,) and slopes (b, h), float32. Both are 0 where scores or lengths do not vary.
    """
    scores, lengths = scores.detach().double(), lengths.detach().double()
    z, _ = _standardised(lengths[:, None])
    u, deviation = _standardised(scores)
    correlation = (u * z).mean(0)
    slopes = (z - correlation * u) / (len(scores) * torch.where(deviation > SMALL, deviation, torch.inf))
    return correlation.float(), slopes.float()


def _standardised(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values (b, h) with mean 0 and deviation 1 in each column, or 0 where they do not vary; and the deviations (h,)."""
    centred = values - values.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return centred / torch.where(deviation > SMALL, deviation, torch.inf), deviation
