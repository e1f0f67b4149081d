"""Bounds for a judge's probabilities, which are too sure after reasons."""

from __future__ import annotations

from palate.core import ConfigError


def check_clamp(clamp: tuple[float, float]) -> None:
    """Raise ConfigError unless the bounds are probabilities around one half."""
    low, high = clamp
    if not 0 <= low <= 0.5 <= high <= 1:
        raise ConfigError(f"clamp must be a least probability up to 0.5 and a largest from 0.5, got {low} and {high}; [0, 1] changes none")


def clamped(probability: float, clamp: tuple[float, float]) -> float:
    """Return the probability within the bounds. Source: Bai et al. 2022b, section 4.1, which takes 0.4 and 0.6 after reasons."""
    low, high = clamp
    return min(max(probability, low), high)
