"""Objectives that learn from judgments without a reward model; `kind` chooses one."""

from palate.objectives.direct.anchored import BCOPair
from palate.objectives.direct.dpo import DPO
from palate.objectives.direct.margins import AOT, IPO, Hinge
from palate.objectives.direct.mixture import Mixture, PairPart
from palate.objectives.direct.pair_logps import PairLogps, PairSide, wpo_importance
from palate.objectives.direct.unpaired_losses import BCO, KTO, UnpairedLogps

PairObjective = PairPart | Mixture
"""Objectives on pairs."""

UnpairedObjective = KTO | BCO
"""Objectives on single completions, each judged desirable or not."""

DirectObjective = PairObjective | UnpairedObjective

__all__ = [
    "AOT", "BCO", "DPO", "IPO", "KTO", "BCOPair", "DirectObjective", "Hinge", "Mixture", "PairLogps", "PairObjective", "PairPart",
    "PairSide", "UnpairedLogps", "UnpairedObjective", "wpo_importance",
]  # fmt: skip
