"""From rewards to advantages: the rules, chosen by `kind`, and the functions that they use."""

from palate.objectives.advantages.episodes import Episodes, RewardParts, TokenCredit
from palate.objectives.advantages.formulas import from_group_mean, gae, leave_one_out, token_rewards, whiten
from palate.objectives.advantages.groups import BatchMean, GroupDecoupled, GroupRelative, LeaveOneOut
from palate.objectives.advantages.token_rules import GAE, ReinforcePlusPlus

Advantage = GAE | LeaveOneOut | GroupRelative | GroupDecoupled | ReinforcePlusPlus | BatchMean

__all__ = [
    "GAE", "Advantage", "BatchMean", "Episodes", "GroupDecoupled", "GroupRelative", "LeaveOneOut", "ReinforcePlusPlus", "RewardParts",
    "TokenCredit",
    "from_group_mean", "gae", "leave_one_out", "token_rewards", "whiten",
]  # fmt: skip
