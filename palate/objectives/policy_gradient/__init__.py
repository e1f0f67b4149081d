"""Policy gradients on sampled tokens, chosen by `kind`. A reduction decides how tokens add up to the loss of a batch."""

from palate.objectives.policy_gradient.policy_tokens import PolicyTokens
from palate.objectives.policy_gradient.ppo import PPOClip
from palate.objectives.policy_gradient.reinforce import CISPO, Reinforce
from palate.objectives.policy_gradient.sequence import GSPO, SequenceClip

PolicyObjective = PPOClip | Reinforce | CISPO | GSPO | SequenceClip

__all__ = ["CISPO", "GSPO", "PPOClip", "PolicyObjective", "PolicyTokens", "Reinforce", "SequenceClip"]
