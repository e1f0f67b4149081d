"""From token ids to the logits of what follows: by the model's own code, or where a model is known faster by ours."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn.functional import linear

from palate.models.attention import Attends
from palate.models.causal import CausalPolicy
from palate.samplers.llama import LlamaForward


class Forward(Protocol):
    """One pass over tokens (1, t) packed one after another."""

    def logits(self, ids: Tensor, positions: Tensor, tree: Attends, wanted: Tensor | None = None) -> Tensor:
        """Logits (w, v) at the places `wanted` (w,), or at all t; ids and positions (1, t), attention as `tree` computes it."""
        ...


class ModuleForward:
    """Whatever model the policy holds, by the code it came with."""

    def __init__(self, policy: CausalPolicy) -> None:
        self._policy = policy
        self._weight, self._bias = policy.head

    def logits(self, ids: Tensor, positions: Tensor, tree: Attends, wanted: Tensor | None = None) -> Tensor:
        """See `Forward.logits`."""
        hidden = self._policy.hidden(ids, positions, tree)
        return linear(hidden if wanted is None else hidden[wanted], self._weight, self._bias)


def forward_of(policy: CausalPolicy, longest: int) -> Forward:
    """The faster of the two for this policy, for sequences of up to `longest` tokens. Made anew when its weights have changed."""
    return LlamaForward.of(policy, longest) or ModuleForward(policy)
