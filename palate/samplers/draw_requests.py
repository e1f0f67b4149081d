"""Requests to the continuous sampler, and who is told what is drawn for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from palate.core import Sampling
from palate.samplers.ledger import SampledTokens
from palate.text.chat_text import Ids


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """A token as it was drawn.

    Attributes:
        token: its id.
        logp: its log-probability under the model at temperature 1, in nats; None unless the request counts the likeliest tokens.
        likeliest: the likeliest tokens at its place with theirs, the likeliest first.
    """

    token: int
    logp: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


class Listener(Protocol):
    """Who is told what was drawn. The sampler's thread calls, so every method must return at once."""

    def token(self, sample: int, drawn: DrawnToken) -> bool:
        """Take the next token of a sample; return whether it goes on."""
        ...

    def done(self, sample: int, tokens: SampledTokens) -> None:
        """Take a finished sample. One that the listener stopped has the stop reason "length"."""
        ...

    def failed(self, error: Exception) -> None:
        """Take the reason why nothing more comes."""
        ...


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """Samples of one prompt.

    Attributes:
        prompt: its token ids.
        n: number of samples.
        sampling: how they are drawn.
        stream: two numbers that seed it, 0 or more. Sample k depends on them, the prompt and k; what is drawn beside it changes it only by
            floating-point rounding.
        listens: whether the listener is told every token, not only finished samples.
        likeliest: number of likeliest tokens that it is told with each token; None for no log-probabilities.
    """

    prompt: Ids
    n: int
    sampling: Sampling
    stream: tuple[int, int]
    listens: bool = False
    likeliest: int | None = None


@dataclass(eq=False)
class DrawJob:
    """A request under way. `cancel` frees its rows at the next token, and nobody is told anything more."""

    number: int
    request: DrawRequest
    budget: int
    listener: Listener
    admitted: int = 0
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Stop drawing for it."""
        self.is_cancelled = True


@dataclass
class SamplerLoad:
    """What the sampler has to do, and what it has done."""

    active: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    drawn_tokens: int = 0
