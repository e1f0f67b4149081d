"""Distance from the reference: estimators of KL, how its price is set, and where it is paid."""

from palate.objectives.kl.controls import AdaptiveKL, BudgetKL, FixedKL, KLControl, KLPrice, KLState, TargetKL
from palate.objectives.kl.estimators import Estimator, k1, k2, k3
from palate.objectives.kl.penalty import KLPenalty, KLTokens

__all__ = [
    "AdaptiveKL", "BudgetKL", "Estimator", "FixedKL", "KLControl", "KLPenalty", "KLPrice", "KLState", "KLTokens", "TargetKL",
    "k1", "k2", "k3",
]  # fmt: skip
