"""The mathematics: tensors in, sums and counts out. Imports nothing but torch and the core."""

from palate.objectives.advantages import gae, leave_one_out, token_rewards, whiten
from palate.objectives.bradley_terry import AllPairs, BradleyTerry, PairScores, PromptPairs, preference_nll
from palate.objectives.crowd import CrowdBT, CrowdPairs
from palate.objectives.direct import DPO, DirectObjective, PairLogps
from palate.objectives.kl import AdaptiveKL, FixedKL, KLControl, k1, k2, k3
from palate.objectives.learned import LearnedNumbers
from palate.objectives.logps import summed_nll, token_logps
from palate.objectives.policy_gradient import PolicyObjective, PolicyTokens, PPOClip, Reinforce
from palate.objectives.rankings import PickBest, PlackettLuce, RankedScores
from palate.objectives.reduce import Sums, Totals
from palate.objectives.reward import JudgmentObjective, RankingObjective, RewardObjective
from palate.objectives.supervised import CrossEntropy, SupervisedObjective, TokenLogps
from palate.objectives.ties import Davidson, RaoKupper, TiePairs
from palate.objectives.value import ClippedValue, ValueObjective, ValueTokens, explained_variance

__all__ = [
    "DPO",
    "AdaptiveKL",
    "AllPairs",
    "BradleyTerry",
    "ClippedValue",
    "CrossEntropy",
    "CrowdBT",
    "CrowdPairs",
    "Davidson",
    "DirectObjective",
    "FixedKL",
    "JudgmentObjective",
    "KLControl",
    "LearnedNumbers",
    "PPOClip",
    "PairLogps",
    "PairScores",
    "PickBest",
    "PlackettLuce",
    "PolicyObjective",
    "PolicyTokens",
    "PromptPairs",
    "RankedScores",
    "RankingObjective",
    "RaoKupper",
    "Reinforce",
    "RewardObjective",
    "Sums",
    "SupervisedObjective",
    "TiePairs",
    "TokenLogps",
    "Totals",
    "ValueObjective",
    "ValueTokens",
    "explained_variance",
    "gae",
    "k1",
    "k2",
    "k3",
    "leave_one_out",
    "preference_nll",
    "summed_nll",
    "token_logps",
    "token_rewards",
    "whiten",
]
