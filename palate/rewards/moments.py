"""Mean and standard deviation of all scores so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and summed squared deviation of all scores so far."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, scores: Tensor) -> Moments:
        """Those with the scores that are not NaN. Source: Chan et al. 1979."""
        found = scores[~scores.isnan()].double()
        if not len(found):
            return self
        mean, count = float(found.mean()), self.count + len(found)
        gap = mean - self.mean
        squares = self.squares + float((found - mean).square().sum()) + gap**2 * self.count * len(found) / count
        return Moments(count, self.mean + gap * len(found) / count, squares)

    def standardised(self, scores: Tensor) -> Tensor:
        """Scores less the mean, over the standard deviation; as good as equal scores are only centred."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        return (scores - self.mean) / (deviation if deviation > 1e-6 * max(1.0, abs(self.mean)) else 1.0)
