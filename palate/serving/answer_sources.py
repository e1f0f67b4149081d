"""Where answers come from: the model of this process, or another server. The API, rules, ranking and feedback know only this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from palate.core import Completion, Prompt
from palate.samplers.draw_requests import SamplerLoad
from palate.samplers.ledger import SampledTokens
from palate.serving.api_requests import DrawBody, TextBody
from palate.serving.prompt_questions import PromptQuestion

FinishReason = Literal["stop", "length", "content_filter"]

Logprobs = Mapping[str, object]
"""Log-probabilities of tokens, in OpenAI's form."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of one sample, and the log-probabilities of its tokens, where the request asks for them."""

    sample: int
    text: str
    logprobs: Logprobs | None = None


@dataclass(frozen=True)
class DrawnAnswer:
    """A finished sample.

    Attributes:
        sample: its number.
        text: what it says, without the end token and without a stop text.
        finish: whether the model ended it or a stop text came ("stop"), or it was cut.
        ids: its tokens; None where nobody says them.
        tokens: its tokens as this process drew them; None for an answer of another server.
        logprobs: the log-probabilities of its tokens, where the request asks for them.
        is_stopped: whether a stop text ended it; then the text lacks some of the tokens.
    """

    sample: int
    text: str
    finish: FinishReason
    ids: tuple[int, ...] | None = None
    tokens: SampledTokens | None = None
    logprobs: Logprobs | None = None
    is_stopped: bool = False


@dataclass(frozen=True)
class DrawPlan:
    """How often a question is answered.

    Attributes:
        n: number of answers.
        seed: two numbers that seed them: one of the request, and the number of the question in it.
        streams: whether text is wanted while it is drawn.
    """

    n: int
    seed: tuple[int, int]
    streams: bool = False


class OpenDraw(Protocol):
    """Answers under way. Use it as a context: what is not finished at its end is given up."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """Give up what is not finished."""
        ...

    def events(self) -> AsyncIterator[TextDelta | DrawnAnswer]:
        """Yield texts as they come (where they are wanted), and each sample when it is finished; end with the last sample.

        Raises:
            PalateError: the sampler failed.
            ApiError: the other server failed.
        """
        ...

    @property
    def read_tokens(self) -> int:
        """Tokens of the prompt; known at the end."""
        ...

    @property
    def drawn_tokens(self) -> int:
        """Tokens of all answers; known at the end."""
        ...


class AnswerSource(Protocol):
    """Draws answers for all requests."""

    @property
    def load(self) -> SamplerLoad:
        """What it has to do."""
        ...

    @property
    def facts(self) -> Mapping[str, object]:
        """What `/v1/models` says about it."""
        ...

    def chat_question(self, prompt: Prompt) -> PromptQuestion:
        """Return the question of a chat. Raises ApiError where the model cannot read it."""
        ...

    def text_questions(self, body: TextBody, name: str) -> list[PromptQuestion]:
        """Return the questions of `/v1/completions`. Raises ApiError where the model cannot read one."""
        ...

    def check(self, body: DrawBody) -> None:
        """Refuse what cannot be drawn. Raises ApiError."""
        ...

    def draw(self, question: PromptQuestion, body: DrawBody, plan: DrawPlan) -> OpenDraw:
        """Draw answers. Raises ApiError where the question cannot be answered."""
        ...

    def completions(self, question: PromptQuestion, answers: Sequence[DrawnAnswer], policy: str) -> list[Completion]:
        """Return answers as completions, written by `policy`."""
        ...

    async def fault(self) -> str:
        """Return why it cannot draw now, "" where it can."""
        ...

    def close(self) -> None:
        """End its threads. What is under way fails."""
        ...


async def drawn_answers(draw: OpenDraw) -> list[DrawnAnswer]:
    """Return all samples in their order. Raises as `OpenDraw.events`."""
    found = [event async for event in draw.events() if isinstance(event, DrawnAnswer)]
    return sorted(found, key=lambda one: one.sample)
