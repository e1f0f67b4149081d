"""What the rules of advantage take, and what they give: completions laid flat, with their rewards and groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from palate.objectives.reduce import check_shapes


@dataclass(frozen=True)
class PaddedEpisodes:
    """Flat tokens (n,) as rows (b, t), one completion a row, left-aligned.

    Attributes:
        mask: (b, t) bool, True where a token stands.
        places: (n,) long, where each flat token stands in the flattened rows.
    """

    mask: Tensor
    places: Tensor

    def pad(self, flat: Tensor) -> Tensor:
        """(n,) as (b, t), 0 where no token stands."""
        return flat.new_zeros(self.mask.numel()).index_copy(0, self.places, flat).view(self.mask.shape)

    def flat(self, padded: Tensor) -> Tensor:
        """(b, t) as (n,)."""
        return padded.flatten()[self.places]


@dataclass(frozen=True)
class Episodes:
    """b completions of n tokens in all: the whole batch that advantages are formed over, not a micro-batch.

    Attributes:
        rewards: (b,) of whole completions; NaN for one that could not be scored, which then teaches nothing and is in no baseline.
        penalties: (n,) what is taken off each token's reward, in reward units: the price of KL where that is in the reward, else 0.
        completion: (n,) long, number of each token's completion, below b; a completion's tokens stand in order.
        group: (b,) long, number of each completion's prompt.
        values: (n,) expected reward from each token on, before it was chosen; None without a value model.
    """

    rewards: Tensor
    penalties: Tensor
    completion: Tensor
    group: Tensor
    values: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("Episodes of completions", {"rewards": self.rewards, "group": self.group})
        tokens = {"penalties": self.penalties, "completion": self.completion}
        check_shapes("Episodes of tokens", tokens if self.values is None else {**tokens, "values": self.values})

    @property
    def mask(self) -> Tensor:
        """(n,) bool: tokens of completions that could be scored."""
        return ~self.rewards.isnan()[self.completion]

    @property
    def paid(self) -> Tensor:
        """(b,) rewards less the penalties of all tokens; NaN stays NaN."""
        return self.rewards.detach() - self.summed(self.penalties.detach())

    def summed(self, tokens: Tensor) -> Tensor:
        """(b,) sums over each completion of (n,)."""
        return tokens.new_zeros(len(self.rewards)).index_add(0, self.completion, tokens)

    def rows(self) -> PaddedEpisodes:
        """The tokens as padded rows."""
        lengths = torch.bincount(self.completion, minlength=len(self.rewards))
        width = int(lengths.max()) if len(lengths) else 0
        order = self.completion.argsort(stable=True)
        within = torch.arange(len(order), device=order.device) - (lengths.cumsum(0) - lengths)[self.completion[order]]
        places = torch.empty_like(order)
        places[order] = self.completion[order] * width + within
        return PaddedEpisodes(torch.arange(width, device=lengths.device)[None] < lengths[:, None], places)


@dataclass(frozen=True)
class TokenCredit:
    """What each token is credited with, all (n,), without gradient.

    Attributes:
        advantages: how much better than expected; 0 where the mask is False.
        returns: what a value model is to learn; None by rules that have none.
        mask: bool, True where there is something to learn from: tokens of completions that could be scored.
    """

    advantages: Tensor
    returns: Tensor | None
    mask: Tensor
