"""Answers of another server: each request is a thread that reads a stream, and the event loop gets what it reads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from palate.clients.http import RequestFailed
from palate.core import Completion, ConfigError, Prompt, StopReason
from palate.samplers.draw_requests import SamplerLoad
from palate.serving.answer_sources import DrawnAnswer, DrawPlan, TextDelta
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import DrawBody, TextBody
from palate.serving.prompt_questions import PromptQuestion, given_prompts, text_prompt
from palate.serving.upstream_answers import StreamedAnswers
from palate.serving.upstream_server import UpstreamServer, api_error

FRESH_SECONDS = 2.0
"""How long what was found about the other server's state counts."""


class UpstreamSource:
    """Another server's answers. See `AnswerSource`."""

    def __init__(self, server: UpstreamServer, *, slots: int) -> None:
        """Begin, without a request. Raises ConfigError where `slots`, the number of requests at a time, is below 1."""
        if slots < 1:
            raise ConfigError(f"slots is {slots}: the server needs at least 1 request at a time")
        self.server, self.load = server, SamplerLoad()
        self._pool = ThreadPoolExecutor(slots, "palate upstream")
        self._lock, self._open = threading.Lock(), set[UpstreamDraw]()
        self._state: tuple[float, asyncio.Future[str]] | None = None

    @property
    def facts(self) -> Mapping[str, object]:
        """See `AnswerSource.facts`. Only the other server knows how long a prompt may be."""
        return {}

    def chat_question(self, prompt: Prompt) -> PromptQuestion:
        """See `AnswerSource.chat_question`."""
        return PromptQuestion(prompt, (), is_chat=True)

    def text_questions(self, body: TextBody, name: str) -> list[PromptQuestion]:
        """See `AnswerSource.text_questions`. Token ids are refused, because nobody here knows what they say."""
        questions = []
        for own, given in given_prompts(body, name):
            if not isinstance(given, str):
                message = "prompt: this server has no tokenizer, because another server draws for it. Send texts, or ask that server."
                raise ApiError(400, message, "invalid_value", param="prompt")
            questions.append(PromptQuestion(text_prompt(own, given), (), is_chat=False))
        return questions

    def check(self, body: DrawBody) -> None:
        """See `AnswerSource.check`. The other server checks its own limits."""

    def draw(self, question: PromptQuestion, body: DrawBody, plan: DrawPlan) -> UpstreamDraw:
        """See `AnswerSource.draw`."""
        return UpstreamDraw(self, question, body, plan)

    def completions(self, question: PromptQuestion, answers: Sequence[DrawnAnswer], policy: str) -> list[Completion]:
        """See `AnswerSource.completions`. Their tokens are unknown here."""
        del question
        stops: Mapping[str, StopReason] = {"stop": "eos", "length": "length"}
        return [Completion(one.text, stop=stops.get(one.finish, "unknown"), policy=policy) for one in answers]

    async def fault(self) -> str:
        """See `AnswerSource.fault`. The other server is asked once in `FRESH_SECONDS`, and after each failure."""
        now, state = time.monotonic(), self._state
        if state is None or (state[1].done() and now - state[0] > FRESH_SECONDS):
            self._state = state = now, asyncio.ensure_future(asyncio.to_thread(self.server.fault))
        fault = await asyncio.shield(state[1])
        return f"The upstream server cannot be used: {fault}." if fault else ""

    def forget_state(self) -> None:
        """Ask again when somebody next wants to know the other server's state; any thread may."""
        self._state = None

    def begin(self, draw: UpstreamDraw, n: int) -> None:
        """Read the answers of a draw in a thread, as soon as one is free."""
        with self._lock:
            self.load.waiting += n
            self._open.add(draw)
        self._pool.submit(self._run, draw, n)

    def close(self) -> None:
        """See `AnswerSource.close`."""
        with self._lock:
            under_way = list(self._open)
        for draw in under_way:
            draw.cancel()
        self._pool.shutdown()

    def _run(self, draw: UpstreamDraw, n: int) -> None:
        with self._lock:
            self.load.waiting -= n
            self.load.active += n
        try:
            draw.run()
        finally:
            with self._lock:
                self.load.active -= n
                self.load.prompt_tokens += draw.read_tokens
                self.load.drawn_tokens += draw.drawn_tokens
                self._open.discard(draw)


class UpstreamDraw:
    """One request at the other server. See `OpenDraw`."""

    def __init__(self, source: UpstreamSource, question: PromptQuestion, body: DrawBody, plan: DrawPlan) -> None:
        self._source, self._n = source, plan.n
        self._content = source.server.content(question, body, plan)
        self._stream = source.server.stream(is_chat=question.is_chat)
        self._answers = StreamedAnswers(plan, is_chat=question.is_chat)
        self._queue: asyncio.Queue[TextDelta | DrawnAnswer | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    @property
    def read_tokens(self) -> int:
        """See `OpenDraw.read_tokens`."""
        return self._answers.read_tokens

    @property
    def drawn_tokens(self) -> int:
        """See `OpenDraw.drawn_tokens`."""
        return self._answers.drawn_tokens

    def __enter__(self) -> UpstreamDraw:
        """Ask."""
        self._source.begin(self, self._n)
        return self

    def __exit__(self, *_: object) -> None:
        """End the request, which ends the drawing there."""
        self.cancel()

    async def events(self) -> AsyncIterator[TextDelta | DrawnAnswer]:
        """See `OpenDraw.events`."""
        while (event := await self._queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def cancel(self) -> None:
        """End the request; any thread may."""
        self._stream.cancel()

    def run(self) -> None:
        """Read the stream; called in a thread."""
        try:
            for value in self._stream.values(self._content):
                for event in self._answers.push(value):
                    self._put(event)
            self._answers.end()
            self._put(None)
        except RequestFailed as failure:
            self._source.forget_state()
            ended = ApiError(503, "The server ends: send the request again.", "closing", kind="server_error")
            self._put(ended if self._stream.is_cancelled else api_error(self._source.server, failure))
        except Exception as error:  # noqa: BLE001  # whatever breaks, the request that waits is told
            self._put(error)

    def _put(self, event: TextDelta | DrawnAnswer | Exception | None) -> None:
        with suppress(RuntimeError):  # the event loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)
