"""What the decoding loop asks of the two ways to run a model: rows in flight, each continuing one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from palate.core import Sampling


@dataclass(frozen=True, slots=True)
class SamplerCall:
    """One call of the sampler: `budgets` are the most tokens a sample of each prompt may have, `streams` what its numbers come from."""

    prompts: tuple[tuple[int, ...], ...]
    budgets: tuple[int, ...]
    samples: int
    sampling: Sampling
    streams: tuple[tuple[int, int], ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and sample together."""
        return max(len(prompt) + budget for prompt, budget in zip(self.prompts, self.budgets, strict=True))


@dataclass(frozen=True, slots=True)
class Share:
    """Some of the samples of one prompt, admitted together: `count` from number `first` on."""

    prompt: int
    first: int
    count: int


class ActiveRows(Protocol):
    """Requests being decoded; row numbers are 0 to b - 1 without holes."""

    def places(self) -> int:
        """How many requests may be admitted now; 0 also where admitting them would not pay yet."""
        ...

    def admit(self, shares: Sequence[Share]) -> Tensor:
        """Logits (new, v) of the first token of the requests admitted, which take the rows after those in flight."""
        ...

    def advance(self, tokens: Tensor) -> Tensor:
        """Logits (b, v) of each row's next token, after its last one in `tokens` (b,)."""
        ...

    def keep(self, alive: Tensor) -> Tensor:
        """Drop the rows where `alive` (b,) is False; element i of the result (b',) is the former number of row i."""
        ...


class Queue:
    """Requests that wait, prompt after prompt, longest prompt first so that rows in flight are of like length."""

    def __init__(self, lengths: Sequence[int], samples: int) -> None:
        self._order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        self._samples = samples
        self._taken = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._order) * self._samples - self._taken

    def take(self, places: int) -> list[Share]:
        """The next `places` requests, or all if fewer wait."""
        shares = []
        places = min(places, len(self))
        while places > 0:
            place, first = divmod(self._taken, self._samples)
            count = min(places, self._samples - first)
            shares.append(Share(self._order[place], first, count))
            self._taken += count
            places -= count
        return shares
