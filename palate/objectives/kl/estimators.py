"""Three estimators of KL(policy || reference), and their sums for the record.

The estimators take log-probabilities of tokens *sampled from the policy*. As a figure k1 and k3 say the same on average. In the
reward, where no gradient flows through them, k1 alone prices KL(policy || reference). As a loss k1's gradient is zero on average, k2's is
that of KL(policy || reference), k3's that of KL(reference || policy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from palate.objectives.reduce import Ratio, check_shapes, masked, masked_ratio
from palate.objectives.reductions import SequenceSum


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


def kl_ratios(logps: Tensor, reference_logps: Tensor, completion: Tensor, mask: Tensor) -> dict[str, Ratio]:
    """The distance from the reference for the record, whichever estimator is trained on: k1 and k3, a completion and a token.

    Args:
        logps: (n,) nats under the policy that sampled.
        reference_logps: (n,) nats under the reference.
        completion: (n,) long, number of each token's completion.
        mask: (n,) bool, True where the token counts.

    Metrics: `kl` and `kl_k3` (nats a completion), `kl_token` and `kl_k3_token` (nats a token).
    """
    check_shapes("kl_ratios", {"logps": logps, "reference_logps": reference_logps, "completion": completion, "mask": mask})
    completions = SequenceSum()(completion, mask).count
    metrics: dict[str, Ratio] = {}
    for name, estimate in (("kl", k1), ("kl_k3", k3)):
        nats = masked(estimate(logps.detach(), reference_logps.detach()), mask)
        metrics[name] = (nats.sum(), completions)
        metrics[f"{name}_token"] = masked_ratio(nats, mask)
    return metrics
