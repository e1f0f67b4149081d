"""When another engine sampled: weights that correct for its log-probabilities being a little off the learner's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.reduce import Ratio, check_shapes, masked, masked_ratio, maximum_ratio


@dataclass(frozen=True, kw_only=True)
class TruncatedImportance:
    """Weight of each token, `min(exp(learner - engine), limit)`: a factor of its advantage.

    An engine with other kernels, another precision or older weights samples from a distribution a little beside the one that the
    learner computes. Ratios of the policy loss are against the *learner's* log-probabilities; these weights correct for the rest,
    and the limit bounds their variance. A token for which the engine gave no number (NaN) weighs 1.

    Source: Ionides 2008 (truncated importance sampling); Yao et al. 2025 for language models, limit 2.

    Attributes:
        limit: the largest weight.

    Metrics: `engine_ratio` (mean weight before truncation), `engine_gap` (mean absolute difference, nats a token), `engine_gap_max`,
    `engine_clip_fraction` (tokens at the limit), `engine_missing` (tokens without a number).
    """

    kind: Literal["truncated_importance"] = "truncated_importance"
    limit: float = 2.0

    def __post_init__(self) -> None:
        """Checks the setting."""
        if not 1 <= self.limit < math.inf:
            raise ConfigError(f"truncated_importance: limit must be 1 or more and finite, got {self.limit}; 2 is usual")

    def __call__(self, learner_logps: Tensor, engine_logps: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Ratio]]:
        """Weights (n,), 0 outside the mask and without gradient, and metrics.

        Args:
            learner_logps: (n,) nats under the learner before any update.
            engine_logps: (n,) nats as the engine told them; NaN where it told none.
            mask: (n,) bool, True where the token counts.
        """
        check_shapes("TruncatedImportance", {"learner_logps": learner_logps, "engine_logps": engine_logps, "mask": mask})
        difference = learner_logps.detach() - engine_logps.detach()
        told = mask & ~difference.isnan()
        ratios = masked(difference, told).exp()
        metrics: dict[str, Ratio] = {
            "engine_ratio": masked_ratio(ratios, told),
            "engine_gap": masked_ratio(difference.abs(), told),
            "engine_gap_max": maximum_ratio(difference.abs(), told),
            "engine_clip_fraction": masked_ratio((ratios > self.limit).to(ratios.dtype), mask),
            "engine_missing": masked_ratio((mask & ~told).to(ratios.dtype), mask),
        }
        return masked(torch.clamp_max(ratios, self.limit), mask), metrics
