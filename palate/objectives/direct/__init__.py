"""Direct alignment: learning from judgments without a reward model. One family a file, chosen by `kind`."""

from palate.objectives.direct.anchored import NCA, SPPO, APODown, APOZero, BCOPair
from palate.objectives.direct.dpo import DPO, AlphaDivergence, ForwardKL, JensenShannon, LengthDesensitisedDPO, ReverseKL, RobustDPO
from palate.objectives.direct.margins import AOT, EXO, IPO, Hinge
from palate.objectives.direct.mixture import Mixture, PairPart
from palate.objectives.direct.pair_logps import Need, PairLogps, PairSide, wpo_importance
from palate.objectives.direct.reference_free import CPO, ORPO, ChosenNLL, SimPO
from palate.objectives.direct.unpaired_losses import BCO, KTO, UnpairedLogps

PairObjective = PairPart | Mixture
"""Objectives on pairs."""

UnpairedObjective = KTO | BCO
"""Objectives on single completions, each judged desirable or not."""

DirectObjective = PairObjective | UnpairedObjective

__all__ = [
    "AOT",
    "BCO",
    "CPO",
    "DPO",
    "EXO",
    "IPO",
    "KTO",
    "NCA",
    "ORPO",
    "SPPO",
    "APODown",
    "APOZero",
    "AlphaDivergence",
    "BCOPair",
    "ChosenNLL",
    "DirectObjective",
    "ForwardKL",
    "Hinge",
    "JensenShannon",
    "LengthDesensitisedDPO",
    "Mixture",
    "Need",
    "PairLogps",
    "PairObjective",
    "PairPart",
    "PairSide",
    "ReverseKL",
    "RobustDPO",
    "SimPO",
    "UnpairedLogps",
    "UnpairedObjective",
    "wpo_importance",
]
