"""Statistics of raters: numpy and the standard library only."""

from palate.agreement.ceiling import NoiseCeiling, majority_ceiling, rater_noise_ceiling

__all__ = ["NoiseCeiling", "majority_ceiling", "rater_noise_ceiling"]
