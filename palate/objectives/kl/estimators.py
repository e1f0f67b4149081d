"""Three estimators of KL(policy || reference), and their sums for the record.

The estimators take log-probabilities of tokens *sampled from the policy*. As a figure k1 and k3 say the same on average. In the
reward, where no gradient flows through them, k1 alone prices KL(policy || reference). As a loss k1's gradient is zero on average, k2's is
that of KL(policy || reference), k3's that of KL(reference || policy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor


def k1(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`l = logp - reference`, nats, shape of `logps`: unbiased, may be negative for single tokens."""
    return logps - reference_logps


def k2(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`l^2 / 2`, nats, shape of `logps`: never negative, biased, its gradient is that of KL(policy || reference)."""
    return 0.5 * (logps - reference_logps).square()


def k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """`exp(-l) - 1 + l`, nats, shape of `logps`: unbiased and never negative (Schulman 2020)."""
    log_ratio = logps - reference_logps
    return (-log_ratio).expm1() + log_ratio


Estimator = Literal["k1", "k2", "k3"]

ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
