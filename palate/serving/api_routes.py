"""The routes: models, completions, chats, scores, health and metrics."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from palate.core import Completion, Message, PalateError, Prompt
from palate.serving.answer_sources import TextDelta
from palate.serving.answering import Asked
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import SEEDS, ChatBody, DrawBody, ScoreBody, TextBody
from palate.serving.prompt_questions import PromptQuestion, chat_prompt
from palate.serving.replies import END, ReplyForm, SentAnswer, event
from palate.serving.serve_app import ClientGone, Serving, json_reply, read_body, serving_of, while_there


class StreamReply(Response):
    """A stream of events. When the client goes away it stops, and what it draws is given up."""

    def __init__(self, parts: AsyncGenerator[bytes], on_gone: Callable[[], None]) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._parts, self._on_gone = parts, on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts as they come."""
        del scope

        async def send_all() -> None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(self._parts) as parts:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await while_there(receive, send_all())
        except ClientGone:
            self._on_gone()


async def health(request: Request) -> Response:
    """Return whether the server can answer, and what it has to do. 503 says that it cannot now."""
    model = serving_of(request).model
    fault, load = await model.source.fault(), model.source.load
    body = {"status": "fault" if fault else "ok", "model": model.name, "active": load.active, "waiting": load.waiting}
    return json_reply({**body, **({"fault": fault} if fault else {})}, 503 if fault else 200)


async def metrics(request: Request) -> Response:
    """Return the figures that Prometheus collects."""
    serving = serving_of(request)
    serving.gate.caller(request)
    return PlainTextResponse(serving.metrics.text(serving.model.source.load), media_type="text/plain; version=0.0.4")


async def models(request: Request) -> Response:
    """Return the one model."""
    serving = serving_of(request)
    serving.gate.caller(request)
    return json_reply({"object": "list", "data": [_model(serving)]})


async def model(request: Request) -> Response:
    """Return a model by name."""
    serving = serving_of(request)
    serving.gate.caller(request)
    serving.check_model(request.path_params["name"])
    return json_reply(_model(serving))


async def completions(request: Request) -> Response:
    """Continue prompts."""
    serving, begun = serving_of(request), time.perf_counter()
    key = serving.gate.caller(request)
    body = await read_body(request, TextBody)
    name = f"cmpl-{serving.token()}"
    serving.check_can_take(body.model)
    questions = serving.model.source.text_questions(body, name)
    return await _answered(request, _Call(serving, body, questions, name, key, begun))


async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    serving, begun = serving_of(request), time.perf_counter()
    key = serving.gate.caller(request)
    body = await read_body(request, ChatBody)
    name = f"chatcmpl-{serving.token()}"
    serving.check_can_take(body.model)
    question = await serving.model.chat_question(chat_prompt(body.messages, name))
    return await _answered(request, _Call(serving, body, [question], name, key, begun))


async def score(request: Request) -> Response:
    """Score completions by the reward model."""
    serving = serving_of(request)
    serving.gate.caller(request)
    body = await read_body(request, ScoreBody)
    serving.check_model(body.model)
    scorer = serving.model.scorer
    if scorer is None:
        raise ApiError(400, "This server scores nothing: it was started without a reward model (--reward).", "no_reward")
    combination = scorer.combination(body.dimensions, body.weights)
    prompt = chat_prompt(body.messages, "score") if body.messages else Prompt("score", (Message("text", body.prompt),))
    found = await scorer.scores(prompt, [Completion(text) for text in body.completions], combination)
    data = [
        {"index": number, "score": one.score, "scores": dict(one.scores), **({"reason": one.reason} if one.reason else {})}
        for number, one in enumerate(found)
    ]
    return json_reply({"object": "list", "model": serving.model.name, "dimensions": list(combination.dimensions), "data": data})


@dataclass(frozen=True)
class _Call:
    """One request for completions.

    Attributes:
        serving: what handlers need.
        body: how to answer.
        questions: what to answer.
        name: names the request.
        key: the name of its key.
        begun: when it came, on the performance counter.
    """

    serving: Serving
    body: DrawBody
    questions: Sequence[PromptQuestion]
    name: str
    key: str
    begun: float

    def form(self) -> ReplyForm:
        """Return how its answers are written."""
        serving, body = self.serving, self.body
        is_chat = self.questions[0].is_chat
        return ReplyForm(
            self.name,
            int(serving.clock()),
            serving.model.name,
            is_chat,
            body.return_token_ids,
        )


async def _answered(request: Request, call: _Call) -> Response:
    serving, body = call.serving, call.body
    seed = secrets.randbelow(SEEDS) if body.seed is None else body.seed % SEEDS
    asked = [Asked(serving.model, question, body, seed, number, key=call.key) for number, question in enumerate(call.questions)]
    if not body.stream:
        return json_reply(await while_there(request.receive, _whole(call, asked)))
    parts = _parts(call, asked)
    first = await while_there(request.receive, anext(parts))  # what is wrong with the request comes before the stream begins

    async def all_parts() -> AsyncGenerator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    def on_gone() -> None:
        serving.metrics.left += 1

    return StreamReply(all_parts(), on_gone)


async def _whole(call: _Call, asked: Sequence[Asked]) -> dict[str, object]:
    tasks = [asyncio.ensure_future(_choices(call, one)) for one in asked]
    try:
        choices = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    call.serving.metrics.answered.add(time.perf_counter() - call.begun)
    return call.form().whole([choice for own in choices for choice in own], _usage(asked))


async def _choices(call: _Call, asked: Asked) -> list[SentAnswer]:
    """Return the answers to a question."""
    refusal = await _refusal(call, asked)
    if refusal is not None:
        return [refusal] * call.body.n
    choices = await asked.answers()
    call.serving.metrics.refused["output"] += sum(choice.finish == "content_filter" for choice in choices)
    return choices


async def _refusal(call: _Call, asked: Asked) -> SentAnswer | None:
    """Return what is sent where the question breaks a rule, and count that."""
    refusal = await asked.refusal()
    call.serving.metrics.refused["input"] += refusal is not None
    return refusal


async def _parts(call: _Call, asked: Sequence[Asked]) -> AsyncGenerator[bytes]:
    """Yield the events of a stream; a failure after the first one is an event too."""
    form, metrics, is_first = call.form(), call.serving.metrics, True
    try:
        for number, one in enumerate(asked):
            async for part in _question_parts(call, form, one, number * call.body.n):
                if is_first:
                    metrics.first_token.add(time.perf_counter() - call.begun)
                is_first = False
                yield part
    except (ApiError, PalateError) as error:
        if is_first:
            raise
        known = error if isinstance(error, ApiError) else ApiError(500, str(error), "broken", kind="server_error")
        yield event(known.body)
        return
    metrics.answered.add(time.perf_counter() - call.begun)
    if call.body.stream_options.include_usage:
        yield form.usage_part(_usage(asked))
    yield END


async def _question_parts(call: _Call, form: ReplyForm, asked: Asked, start: int) -> AsyncIterator[bytes]:
    """Yield the events of one question; its choices count from `start`."""
    refusal = await _refusal(call, asked) if asked.streams_directly else None
    if asked.streams_directly and refusal is None:
        begun = set[int]()
        async for one in asked.stream():
            if isinstance(one, TextDelta):
                yield form.part(start + one.sample, one.text, one.logprobs, is_first=one.sample not in begun)
                begun.add(one.sample)
            else:
                sample, choice = one
                if sample not in begun:
                    yield form.part(start + sample, "", is_first=True)
                yield form.last_part(start + sample, choice)
        return
    choices = [refusal] * call.body.n if refusal is not None else await _choices(call, asked)
    for sample, choice in enumerate(choices):
        yield form.part(start + sample, choice.text, choice.logprobs, is_first=True)
        yield form.last_part(start + sample, choice)


def _usage(asked: Sequence[Asked]) -> dict[str, int]:
    """Return the tokens that were read and drawn."""
    read, drawn = sum(one.read_tokens for one in asked), sum(one.drawn_tokens for one in asked)
    return {"prompt_tokens": read, "completion_tokens": drawn, "total_tokens": read + drawn}


def _model(serving: Serving) -> dict[str, object]:
    scorer = serving.model.scorer
    own = {**serving.model.source.facts, "dimensions": list(scorer.dimensions) if scorer else []}
    return {"id": serving.model.name, "object": "model", "created": 0, "owned_by": "palate", **own}


API_ROUTES = (
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/score", score, methods=["POST"]),
    Route("/v1/models", models),
    Route("/v1/models/{name:path}", model),
    Route("/health", health),
    Route("/metrics", metrics),
)
"""The routes, the busiest first: each request is compared with one after the other."""
