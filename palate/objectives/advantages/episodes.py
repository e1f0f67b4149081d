"""Inputs and outputs of the rules of advantage: flat tokens of completions, with their rewards and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.objectives.reduce import check_shapes


@dataclass(frozen=True)
class PaddedEpisodes:
    """Flat tokens (n,) as rows (b, t), one completion per row, left-aligned.

    Attributes:
        mask: (b, t) bool, True where there is a token.
        places: (n,) long, position of each flat token in the flattened rows.
    """

    mask: Tensor
    places: Tensor

    def pad(self, flat: Tensor) -> Tensor:
        """Return flat values (n,) as (b, t), 0 where there is no token."""
        return flat.new_zeros(self.mask.numel()).index_copy(0, self.places, flat).view(self.mask.shape)

    def flat(self, padded: Tensor) -> Tensor:
        """Return padded values (b, t) as (n,)."""
        return padded.flatten()[self.places]


@dataclass(frozen=True)
class RewardParts:
    """What several rewards add to the reward of each completion, before shaping; the sum over k parts is the reward.

    Attributes:
        added: (b, k) weight times score of each part; NaN where the part has no score.
        weights: (b, k) how much each part counts, 0 or more.
    """

    added: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("RewardParts", vars(self))

    def split(self, sizes: Sequence[int]) -> list[RewardParts]:
        """Return the parts of successive completions, `sizes` of them each."""
        pieces = zip(torch.split(self.added, list(sizes)), torch.split(self.weights, list(sizes)), strict=True)
        return [RewardParts(added, weights) for added, weights in pieces]

    @staticmethod
    def joined(pieces: Sequence[RewardParts]) -> RewardParts:
        """Return the parts of all completions, in order."""
        return RewardParts(torch.cat([one.added for one in pieces]), torch.cat([one.weights for one in pieces]))


@dataclass(frozen=True)
class Episodes:
    """A whole batch (not a micro-batch) of b completions with n tokens in total, over which advantages are computed.

    Attributes:
        rewards: (b,) of whole completions; NaN for a completion without a score, which no baseline and no loss contains.
        penalties: (n,) subtracted from each token's reward, in reward units: the KL penalty where it is in the reward, else 0.
        completion: (n,) long, number of each token's completion, below b; the tokens of a completion are in order.
        group: (b,) long, number of each completion's prompt.
        values: (n,) expected reward from each token on, predicted before the token was chosen; None without a value model.
        parts: what each part of the reward adds for each completion; None where that is not known.
    """

    rewards: Tensor
    penalties: Tensor
    completion: Tensor
    group: Tensor
    values: Tensor | None = None
    parts: RewardParts | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("Episodes of completions", {"rewards": self.rewards, "group": self.group})
        if self.parts is not None:
            check_shapes("Episodes of parts", {"rewards": self.rewards, "part": self.parts.added[:, 0]})
        tokens = {"penalties": self.penalties, "completion": self.completion}
        check_shapes("Episodes of tokens", tokens if self.values is None else {**tokens, "values": self.values})

    @property
    def mask(self) -> Tensor:
        """Return (n,) bool, True for tokens of completions with a score."""
        return ~self.rewards.isnan()[self.completion]

    @property
    def penalised_rewards(self) -> Tensor:
        """Return rewards (b,) minus the penalties of all tokens; NaN stays NaN."""
        return self.rewards.detach() - self.summed(self.penalties.detach())

    def summed(self, tokens: Tensor) -> Tensor:
        """Return the sums (b,) of `tokens` (n,) over each completion."""
        return tokens.new_zeros(len(self.rewards)).index_add(0, self.completion, tokens)

    def rows(self) -> PaddedEpisodes:
        """Return the tokens as padded rows."""
        lengths = torch.bincount(self.completion, minlength=len(self.rewards))
        width = int(lengths.max()) if len(lengths) else 0
        order = self.completion.argsort(stable=True)
        within = torch.arange(len(order), device=order.device) - (lengths.cumsum(0) - lengths)[self.completion[order]]
        places = torch.empty_like(order)
        places[order] = self.completion[order] * width + within
        return PaddedEpisodes(torch.arange(width, device=lengths.device)[None] < lengths[:, None], places)


@dataclass(frozen=True)
class TokenCredit:
    """Advantage of each token, all (n,), without gradient.

    Attributes:
        advantages: how much better than expected; 0 where the mask is False.
        returns: targets of the value model; None from rules without a value model.
        mask: bool, True for tokens to learn from, which are those of completions with a score.
    """

    advantages: Tensor
    returns: Tensor | None
    mask: Tensor
