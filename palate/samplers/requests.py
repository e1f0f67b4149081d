"""Requests of the decoding loop, and the interface of the two ways to run a model: active rows, each continuing one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from palate.core import Sampling
from palate.distributed.sharing import mine

Prompts = Sequence[tuple[int, ...]] | Mapping[int, tuple[int, ...]]
"""The token ids of prompts, by number."""


@dataclass(frozen=True, slots=True)
class SamplerCall:
    """One call of the sampler: `budgets` limit the tokens of a sample per prompt, and `streams` are the seeds of its random numbers."""

    prompts: tuple[tuple[int, ...], ...]
    budgets: tuple[int, ...]
    samples: int
    sampling: Sampling
    streams: tuple[tuple[int, int], ...]

    def share(self) -> SamplerCall:
        """Return the part of the call that this rank answers."""
        return replace(self, prompts=tuple(mine(self.prompts)), budgets=tuple(mine(self.budgets)), streams=tuple(mine(self.streams)))

    def rows(self, shares: Sequence[Share]) -> list[RowRequest]:
        """Return the samples of some shares, in order."""
        return [
            RowRequest(share.prompt, share.first + number, self.streams[share.prompt], self.budgets[share.prompt], self.sampling)
            for share in shares
            for number in range(share.count)
        ]

    @property
    def longest(self) -> int:
        """Return the number of tokens of the longest prompt and sample together."""
        return max(len(prompt) + budget for prompt, budget in zip(self.prompts, self.budgets, strict=True))


@dataclass(frozen=True, slots=True)
class Share:
    """Some of the samples of one prompt that are admitted together: `count` samples from number `first` on.

    `waiting` is the number of the prompt's samples after them, which are admitted later. `longest` is the largest number of tokens of the
    prompt and a sample together, and 0 where every row has room for the longest request of all.
    """

    prompt: int
    first: int
    count: int
    waiting: int = 0
    longest: int = 0


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One sample to draw: the numbers of its prompt and its own, the seed of its prompt (two numbers), its longest length, and how."""

    prompt: int
    sample: int
    stream: tuple[int, int]
    budget: int
    sampling: Sampling


class ActiveRows(Protocol):
    """Requests being decoded; their row numbers are 0 to b - 1 without gaps."""

    def places(self) -> int:
        """Return how many requests may be admitted now; 0 also while it is faster to wait for more."""
        ...

    def admit(self, shares: Sequence[Share]) -> Tensor:
        """Admit requests into the rows after the active ones, and return logits (new, v) of their first tokens."""
        ...

    def advance(self, tokens: Tensor) -> Tensor:
        """Return logits (b, v) of each row's next token, given its last token in `tokens` (b,)."""
        ...

    def keep(self, alive: Tensor) -> Tensor:
        """Drop the rows where `alive` (b,) is False; return for each new row i its former number (b',)."""
        ...


class Queue:
    """Waiting requests, prompt by prompt; the longest prompt comes first, so that active rows have similar lengths."""

    def __init__(self, lengths: Sequence[int], samples: int) -> None:
        self._order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        self._samples = samples
        self._taken = 0

    def __len__(self) -> int:
        """Return the number of waiting requests."""
        return len(self._order) * self._samples - self._taken

    def take(self, places: int) -> list[Share]:
        """Take the next `places` requests, or all if fewer wait."""
        shares = []
        places = min(places, len(self))
        while places > 0:
            place, first = divmod(self._taken, self._samples)
            count = min(places, self._samples - first)
            shares.append(Share(self._order[place], first, count, self._samples - first - count))
            self._taken += count
            places -= count
        return shares
