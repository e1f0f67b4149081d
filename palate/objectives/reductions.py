"""From losses of tokens to the loss of a batch: the weight of each token, and the count that divides the sum.

Papers differ here more than in their formulas, so the reduction is a separate setting. A reduction returns weights and a count. Losses add
up `weight * loss` and pass the count on, so the result does not depend on how completions are spread over micro-batches. A completion
without a token that counts (because it was truncated and masked, for example) is not counted.
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
    """Weights of the tokens of a micro-batch in a loss.

    Attributes:
        weights: (n,) >= 0; 0 for tokens that do not count.
        count: 0-d, this micro-batch's part of the count that divides the weighted sum.
    """

    weights: Tensor
    count: Tensor

    @classmethod
    def equal(cls, mask: Tensor) -> TokenWeights:
        """Return weight 1 for every token of the mask (n,): the mean over tokens."""
        return cls(mask.to(torch.get_default_dtype()), mask.sum())

    def total(self, losses: Tensor) -> Tensor:
        """Return `sum weight * loss`, 0-d; differentiable in `losses` (n,), which must be finite (0 outside the mask)."""
        return (losses * self.weights).sum()


def _lengths(completion: Tensor, mask: Tensor) -> Tensor:
    """Return the number of tokens that count (k,), per completion."""
    check_shapes("reduction", {"completion": completion, "mask": mask})
    return torch.bincount(completion[mask])


@dataclass(frozen=True, kw_only=True)
class TokenMean:
    """Mean over all tokens of the batch: tokens have equal weights, so long completions weigh more.

    Source: Yu et al. 2025 (DAPO) eq. 8; also what PPO of Ziegler et al. 2019 does.
    """

    kind: Literal["token_mean"] = "token_mean"

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Return weights of 1, and the number of tokens."""
        check_shapes("reduction", {"completion": completion, "mask": mask})
        return TokenWeights.equal(mask)


@dataclass(frozen=True, kw_only=True)
class SequenceMean:
    """Mean over completions of the mean over their tokens: tokens of long completions weigh less.

    Source: Shao et al. 2024 (GRPO) eq. 3; Zheng et al. 2025 (GSPO).
    """

    kind: Literal["sequence_mean"] = "sequence_mean"

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Return weights of 1 / length, and the number of completions."""
        lengths = _lengths(completion, mask)
        shares = lengths.clamp_min(1).to(torch.get_default_dtype()).reciprocal()
        spread = shares[torch.where(mask, completion, 0)] if lengths.numel() else mask.to(torch.get_default_dtype())
        return TokenWeights(masked(spread, mask), (lengths > 0).sum())


@dataclass(frozen=True, kw_only=True)
class SequenceSum:
    """Mean over completions of the sum over their tokens: the gradient of `log pi(completion)`, as in REINFORCE.

    Source: Williams 1992; Ahmadian et al. 2024 (RLOO) sec. 2.3.
    """

    kind: Literal["sequence_sum"] = "sequence_sum"

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Return weights of 1, and the number of completions."""
        return TokenWeights(mask.to(torch.get_default_dtype()), (_lengths(completion, mask) > 0).sum())


@dataclass(frozen=True, kw_only=True)
class ConstantLength:
    """Sum over tokens, divided by the number of completions times a fixed length: length does not change the weight of a token.

    Source: Liu et al. 2025 (Dr. GRPO) sec. 3.2.

    Attributes:
        tokens: the fixed length; none takes the length of the longest completion that is sampled.
    """

    kind: Literal["constant_length"] = "constant_length"
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Check the setting."""
        if self.tokens is not None and self.tokens < 1:
            raise ConfigError(
                f"constant_length: tokens must be 1 or more, got {self.tokens}; use the longest completion that the sampler may draw"
            )

    def __call__(self, completion: Tensor, mask: Tensor) -> TokenWeights:
        """Return weights of 1 / tokens, and the number of completions. The length must be known."""
        if self.tokens is None:
            raise ConfigError("constant_length: tokens is not known; give it, or call with_length first")
        return TokenWeights(mask.to(torch.get_default_dtype()) / self.tokens, (_lengths(completion, mask) > 0).sum())


def with_length(reduction: Reduction, longest: int) -> Reduction:
    """Return the reduction for completions of at most `longest` tokens: a constant length that was left open is that."""
    return ConstantLength(tokens=longest) if isinstance(reduction, ConstantLength) and reduction.tokens is None else reduction


Reduction = TokenMean | SequenceMean | SequenceSum | ConstantLength
