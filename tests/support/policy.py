"""Tokens for tests of policy losses."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.objectives.policy_gradient import PolicyTokens


def tokens(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor | None = None, completion: Tensor | None = None
) -> PolicyTokens:
    """Tokens that all count and belong to one completion, unless said otherwise."""
    every = torch.ones(len(logps), dtype=torch.bool) if mask is None else mask
    one = torch.zeros(len(logps), dtype=torch.long) if completion is None else completion
    return PolicyTokens(logps, old_logps, advantages, every, one)
