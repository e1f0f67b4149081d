"""Between the sampler's thread and the server's event loop: what was drawn, as texts, and a request that can be given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from palate.samplers.continuous import ContinuousSampler
from palate.samplers.draw_requests import DrawJob, DrawnToken, DrawRequest
from palate.samplers.ledger import SampledTokens
from palate.serving.answer_sources import DrawnAnswer, FinishReason, TextDelta
from palate.serving.text_stream import TextStream, whole_text
from palate.serving.token_logprobs import LogprobsForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PART_SECONDS = 0.02
"""The shortest time between two parts of a stream. A fast model draws several tokens in it, and they share what a part costs: detokenising,
JSON, and a packet. A screen shows hardly more."""


@dataclass(frozen=True, slots=True)
class _DrawnText:
    """More text of a sample, and the tokens that it comes from."""

    sample: int
    text: str
    tokens: tuple[DrawnToken, ...] = ()


@dataclass(frozen=True, slots=True)
class _DrawnSample:
    """A finished sample, with its tokens where log-probabilities are asked for."""

    answer: DrawnAnswer
    tokens: tuple[DrawnToken, ...] = ()


@dataclass(frozen=True)
class TextSettings:
    """How tokens become text.

    Attributes:
        is_chat: the text is an assistant's turn, without white space around it.
        hidden: ids without a text: ends, and special tokens where these are left out.
        stops: texts that end a completion.
        streams: whether text is wanted while it is drawn.
    """

    is_chat: bool
    hidden: frozenset[int] = frozenset()
    stops: tuple[str, ...] = ()
    streams: bool = False


Event = _DrawnText | _DrawnSample | Exception


class Outbox:
    """Events of all requests, which go to the event loop once per step of the sampler.

    Attributes:
        clock: seconds, which pace the parts of streams.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: list[tuple[asyncio.Queue[Event], Event]] = []

    def open(self) -> None:
        """Deliver to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def put(self, queue: asyncio.Queue[Event], event: Event) -> None:
        """Take an event; called by the sampler's thread."""
        self._events.append((queue, event))

    def flush(self) -> None:
        """Send what was taken; called by the sampler's thread."""
        events, self._events = self._events, []
        if events and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, events)


def _deliver(events: list[tuple[asyncio.Queue[Event], Event]]) -> None:
    for queue, event in events:
        queue.put_nowait(event)


@dataclass
class _Sample:
    """One sample under way.

    Attributes:
        stream: makes its text.
        unread: tokens that are not yet text.
        unsent: text that is not sent.
        drawn: all tokens, where log-probabilities are asked for.
        counted: how many of these are sent.
        due: when the next part may be sent.
    """

    stream: TextStream
    unread: list[int] = field(default_factory=list)
    unsent: str = ""
    drawn: list[DrawnToken] = field(default_factory=list)
    counted: int = 0
    due: float = 0.0

    def read(self) -> None:
        """Make text of the tokens so far."""
        self.unsent += self.stream.push(*self.unread)
        self.unread.clear()

    def part(self, sample: int) -> _DrawnText | None:
        """Return what is not sent, which then counts as sent; None where there is nothing."""
        text, tokens = self.unsent, tuple(self.drawn[self.counted :])
        self.unsent, self.counted = "", len(self.drawn)
        return _DrawnText(sample, text, tokens) if text or tokens else None


class Drawing:
    """One request at the sampler. Use it as a context: what is not finished at its end is given up, and its rows are free."""

    def __init__(
        self, sampler: ContinuousSampler, outbox: Outbox, tokenizer: PreTrainedTokenizerBase, request: DrawRequest, texts: TextSettings
    ) -> None:
        """Submit the request. Raises as `ContinuousSampler.submit`."""
        self._outbox, self._tokenizer, self._texts = outbox, tokenizer, texts
        self._form = LogprobsForm(tokenizer, texts.is_chat)
        self.read_tokens, self.drawn_tokens = len(request.prompt), 0
        listens = texts.streams or bool(texts.stops) or request.likeliest is not None
        self._request = replace(request, listens=listens)
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._samples = [self._new_sample() for _ in range(request.n)] if listens else []
        self._job: DrawJob = sampler.submit(self._request, self)

    def __enter__(self) -> Drawing:
        """Return the drawing itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is not finished."""
        self._job.cancel()

    async def events(self) -> AsyncIterator[TextDelta | DrawnAnswer]:
        """Yield texts as they come (where they are wanted), and each sample when it is finished; end with the last sample.

        Raises:
            PalateError: the sampler failed.
        """
        left, has_logprobs = self._request.n, self._request.likeliest is not None
        while left:
            event = await self._queue.get()
            if isinstance(event, Exception):
                raise event
            logprobs = self._form(event.tokens) if has_logprobs else None
            if isinstance(event, _DrawnText):
                yield TextDelta(event.sample, event.text, logprobs)
                continue
            left -= 1
            self.drawn_tokens += len(event.answer.ids or ())
            yield replace(event.answer, logprobs=logprobs)

    def token(self, sample: int, drawn: DrawnToken) -> bool:
        """Take a token; see `Listener`."""
        own = self._samples[sample]
        own.unread.append(drawn.token)
        if self._request.likeliest is not None:
            own.drawn.append(drawn)
        now = self._outbox.clock()
        is_due = self._texts.streams and now >= own.due
        if is_due or self._texts.stops:
            own.read()
        if is_due and self._send(sample):
            own.due = now + PART_SECONDS
        return not own.stream.is_stopped

    def done(self, sample: int, tokens: SampledTokens) -> None:
        """Take a finished sample; see `Listener`."""
        if not self._samples:
            texts = self._texts
            text = whole_text(self._tokenizer, self._request.prompt, tokens.ids, is_chat=texts.is_chat, hidden=texts.hidden)
            answer = DrawnAnswer(sample, text, _finish(tokens, is_stopped=False), tokens.ids, tokens)
            self._outbox.put(self._queue, _DrawnSample(answer))
            return
        own = self._samples[sample]
        own.read()
        own.unsent += own.stream.end()
        if self._texts.streams:
            self._send(sample)
        is_stopped = own.stream.is_stopped
        finish = _finish(tokens, is_stopped=is_stopped)
        answer = DrawnAnswer(sample, own.stream.text, finish, tokens.ids, tokens, is_stopped=is_stopped)
        self._outbox.put(self._queue, _DrawnSample(answer, tuple(own.drawn)))

    def _send(self, sample: int) -> bool:
        """Send what a sample has; return whether there was something."""
        part = self._samples[sample].part(sample)
        if part is not None:
            self._outbox.put(self._queue, part)
        return part is not None

    def failed(self, error: Exception) -> None:
        """Take the reason why nothing more comes; see `Listener`."""
        self._outbox.put(self._queue, error)

    def _new_sample(self) -> _Sample:
        texts = self._texts
        return _Sample(TextStream(self._tokenizer, self._request.prompt, is_chat=texts.is_chat, hidden=texts.hidden, stops=texts.stops))


def _finish(tokens: SampledTokens, *, is_stopped: bool) -> FinishReason:
    return "stop" if is_stopped or tokens.stop == "eos" else "length"
