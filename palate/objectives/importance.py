"""Importance weights for samples of another engine, whose log-probabilities differ a little from the learner's."""

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
    """Weight of each token, `min(exp(learner - engine), limit)`, which multiplies its advantage.

    An engine with other kernels, another precision or older weights samples from a distribution that differs a little from the one the
    learner computes. The policy loss takes its ratios against the *learner's* log-probabilities; these weights correct the difference, and
    the limit bounds their variance. A token without a log-probability from the engine (NaN) has weight 1.

    Source: Ionides 2008 (truncated importance sampling); Yao et al. 2025 for language models, limit 2.

    Attributes:
        limit: the largest weight.

    Metrics: `engine_ratio` (mean weight before truncation), `engine_gap` (mean absolute difference, nats per token), `engine_gap_max`,
    `engine_clip_fraction` (share of tokens at the limit), `engine_missing` (share of tokens without an engine log-probability).
    """

    kind: Literal["truncated_importance"] = "truncated_importance"
    limit: float = 2.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 1 <= self.limit < math.inf:
            raise ConfigError(f"truncated_importance: limit must be 1 or more and finite, got {self.limit}; use 2")

    def __call__(self, learner_logps: Tensor, engine_logps: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Ratio]]:
        """Return weights (n,), 0 outside the mask and without gradient, and metrics.

        Args:
            learner_logps: (n,) nats under the learner before any update.
            engine_logps: (n,) nats as the engine reported them; NaN where it reported none.
            mask: (n,) bool, True where the token counts.
        """
        check_shapes("TruncatedImportance", {"learner_logps": learner_logps, "engine_logps": engine_logps, "mask": mask})
        difference = learner_logps.detach() - engine_logps.detach()
        reported = mask & ~difference.isnan()
        ratios = masked(difference, reported).exp()
        metrics: dict[str, Ratio] = {
            "engine_ratio": masked_ratio(ratios, reported),
            "engine_gap": masked_ratio(difference.abs(), reported),
            "engine_gap_max": maximum_ratio(difference.abs(), reported),
            "engine_clip_fraction": masked_ratio((ratios > self.limit).to(ratios.dtype), mask),
            "engine_missing": masked_ratio((mask & ~reported).to(ratios.dtype), mask),
        }
        return masked(torch.clamp_max(ratios, self.limit), mask), metrics
