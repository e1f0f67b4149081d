"""The objectives of reward models, by what they learn from."""

from __future__ import annotations

from palate.objectives.bradley_terry import AllPairs, BradleyTerry
from palate.objectives.crowd import CrowdBT
from palate.objectives.rankings import PickBest, PlackettLuce
from palate.objectives.ties import Davidson, RaoKupper

RankingObjective = PlackettLuce | PickBest
"""From whole rankings of a prompt's completions."""

JudgmentObjective = RaoKupper | Davidson | CrowdBT
"""From single judgments; they learn numbers beside the model."""

RewardObjective = BradleyTerry | AllPairs | PlackettLuce | PickBest | RaoKupper | Davidson | CrowdBT
"""All of them; the first two learn from preferences."""
