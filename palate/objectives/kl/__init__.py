"""KL from the reference: estimators, the penalty in the reward or in the loss, and how its coefficient is set."""

from palate.objectives.kl.controls import AdaptiveKL, BudgetKL, FixedKL, KLControl, KLPrice, KLState, TargetKL
from palate.objectives.kl.penalty import Estimator, KLPenalty, KLTokens, k1, k2, k3

__all__ = [
    "AdaptiveKL", "BudgetKL", "Estimator", "FixedKL", "KLControl", "KLPenalty", "KLPrice", "KLState", "KLTokens", "TargetKL",
    "k1", "k2", "k3",
]  # fmt: skip
