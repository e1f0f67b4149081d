"""From losses of tokens to the loss of a batch: what each token weighs, and what the sum is divided by.

Papers differ here more than in their formulas, so it is a choice of its own. A reduction gives weights and a count; losses add up
`weight * loss` and hand the count on, so the result is the same however whole completions are spread over micro-batches. A
completion none of whose tokens counts (one that was cut off and masked, say) is in no count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.objectives.reduce import check_shapes, masked


@dataclass(frozen=True)
class TokenWeights:
    """What the tokens of a micro-batch weigh in a loss.

    Attributes:
        weights: (n,) >= 0, and 0 for tokens that do not count.
        count: 0-d, this micro-batch's part of what the weighted sum is divided by.
    """

    weights: Tensor
    count: Tensor

    @classmethod
    def equal(cls, mask: Tensor) -> TokenWeights:
        """Every token of the mask (n,) weighs 1: the mean over tokens."""
        return cls(mask.to(torch.get_default_dtype()), mask.sum())

    def total(self, losses: Tensor) -> Tensor:
        """`sum weight * loss`, 0-d; differentiable in `losses` (n,), which must be finite (0 outside the mask)."""
        return (losses * self.weights).sum()


def _lengths(completion: Tensor, mask: Tensor) -> Tensor:
    """Tokens that count (k,) of each completion by its number; 0 for those without."""
    check_shapes("reduction", {"completion": completion, "mask": mask})
    return torch.bincount(completion[mask])


@dataclass(frozen=True, kw_only=True)
class TokenMean:
    """Mean over all tokens of the batch: each token weighs the same, so long completions weigh more.

    Source: Yu et al. 2025 (DAPO) eq. 8; also what PPO of Ziegler et al. 2019 does.
    """

    kind: Literal["token_mean"] = "token_mean"

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Weights 1, counted in tokens."""
        check_shapes("reduction", {"completion": completion, "mask": mask})
        return TokenWeights.equal(mask)


@dataclass(frozen=True, kw_only=True)
class SequenceMean:
    """Mean over completions of the mean over each one's tokens: tokens of long completions weigh less.

    Source: Shao et al. 2024 (GRPO) eq. 3; Zheng et al. 2025 (GSPO).
    """

    kind: Literal["sequence_mean"] = "sequence_mean"

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Weights 1 / length, counted in completions."""
        lengths = _lengths(completion, mask)
        shares = lengths.clamp_min(1).to(torch.get_default_dtype()).reciprocal()
        spread = shares[torch.where(mask, completion, 0)] if lengths.numel() else mask.to(torch.get_default_dtype())
        return TokenWeights(masked(spread, mask), (lengths > 0).sum())


@dataclass(frozen=True, kw_only=True)
class SequenceSum:
    """Mean over completions of the sum over each one's tokens: the gradient of `log pi(completion)`, as REINFORCE has it.

    Source: Williams 1992; Ahmadian et al. 2024 (RLOO) eq. 9.
    """

    kind: Literal["sequence_sum"] = "sequence_sum"

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Weights 1, counted in completions."""
        return TokenWeights(mask.to(torch.get_default_dtype()), (_lengths(completion, mask) > 0).sum())


@dataclass(frozen=True, kw_only=True)
class ConstantLength:
    """Sum over tokens, divided by completions times a fixed length: no token's weight depends on its completion's length.

    Source: Liu et al. 2025 (Dr. GRPO) sec. 3.2.

    Attributes:
        tokens: that length; usually the longest completion that may be sampled.
    """

    kind: Literal["constant_length"] = "constant_length"
    tokens: int = 64

    def __post_init__(self) -> None:
        """Checks the setting."""
        if self.tokens < 1:
            raise ConfigError(f"constant_length: tokens must be 1 or more, got {self.tokens}; the longest completion sampled is usual")

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Weights 1 / tokens, counted in completions."""
        return TokenWeights(mask.to(torch.get_default_dtype()) / self.tokens, (_lengths(completion, mask) > 0).sum())


Reduction = TokenMean | SequenceMean | SequenceSum | ConstantLength
