"""The application: OpenAI's routes, scores, health and metrics; who may ask, and what every refusal looks like."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from palate.core import PalateError
from palate.serving.answering import ServedModel
from palate.serving.api_errors import ApiError, parsed
from palate.serving.api_keys import ApiKeys, RequestRate
from palate.serving.feedback import FeedbackStore
from palate.serving.model_follower import ModelFollower
from palate.serving.serving_metrics import ServingMetrics
from palate.web.request_limits import Limits, RequestLimits

Body = TypeVar("Body", bound=BaseModel)
T = TypeVar("T")
log = logging.getLogger("palate.serving")

MOST_WAITING = 4096
"""Samples that may wait for a row; with more, requests are refused for a moment."""

LIMITS = Limits(body=4 << 20, uploads=r"(?!)", strangers=r"(?!)")
"""Largest body of a request, and how long it may take."""

CLOSED = 499
"""The status of a request whose client went away; nobody sees it."""


class ClientGone(Exception):  # noqa: N818 (nobody made an error)
    """The client closed the connection before its answer was whole."""


@dataclass(frozen=True)
class ApiGate:
    """Who may ask, and how often.

    Attributes:
        keys: the keys that are known; None lets everybody ask.
        rate: how often each may ask; None sets no limit.
        hosts: names under which browsers may call the server; None allows all. A page elsewhere could otherwise let its own name mean this
            machine.
    """

    keys: ApiKeys | None = None
    rate: RequestRate | None = None
    hosts: frozenset[str] | None = None

    def check_host(self, request: Request) -> None:
        """Refuse a browser that calls the server by another name. Raises ApiError."""
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if self.hosts is not None and name not in self.hosts:
            raise ApiError(403, "This server answers to the name of this machine only. Use the address that it printed.", "wrong_host")

    def caller(self, request: Request) -> str:
        """Return the name of the key of a request, "" where no keys are needed.

        Raises:
            ApiError: the request may not be answered now.
        """
        self.check_host(request)
        caller = ""
        if self.keys is not None:
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            known = self.keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
            if known is None:
                raise ApiError(
                    401, "This API key is unknown. Send one that `palate serve --new_key` made, as `Authorization: Bearer KEY`.",
                    "invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
            caller = known
        if self.rate is not None:
            wait = self.rate.wait_seconds(caller or (request.client.host if request.client else ""))
            if wait:
                headers = {"Retry-After": str(math.ceil(wait))}
                raise ApiError(
                    429, f"Too many requests. Send the next one in {wait:.1f} s.", "rate_limit", kind="rate_limit", headers=headers
                )
        return caller


@dataclass
class Serving:
    """What every handler needs.

    Attributes:
        model: answers; another one may take its place.
        gate: says who may ask.
        feedback: keeps what users say; None where nothing is kept.
        follower: brings another model when a link names one; None where nothing is followed.
        metrics: counts.
        clock: seconds since 1970.
        token: a source of names that nobody can guess.
    """

    model: ServedModel
    gate: ApiGate = ApiGate()
    feedback: FeedbackStore | None = None
    follower: ModelFollower | None = None
    metrics: ServingMetrics = field(default_factory=ServingMetrics)
    clock: Callable[[], float] = time.time
    token: Callable[[], str] = lambda: secrets.token_hex(12)

    def check_model(self, name: str | None) -> None:
        """Refuse a request for another model. Raises ApiError."""
        if name is not None and name != self.model.name:
            message = f"There is no model {name[:100]!r} here. This server has {self.model.name!r}."
            raise ApiError(404, message, "model_not_found", param="model")

    def check_can_take(self, name: str | None) -> None:
        """Refuse a request for another model, and any while too many wait. Raises ApiError."""
        self.check_model(name)
        if self.model.source.load.waiting > MOST_WAITING:
            raise ApiError(
                429, "The server has too many requests now. Try again soon.", "busy", kind="rate_limit", headers={"Retry-After": "2"}
            )


def serving_of(request: Request) -> Serving:
    """Return what the handlers of this application need."""
    serving: Serving = request.app.state.serving
    return serving


def create_serve_app(serving: Serving, routes: Sequence[BaseRoute], limits: Limits = LIMITS) -> Starlette:
    """Return the application with its routes."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        following = None
        if serving.follower is not None:
            following = asyncio.create_task(serving.follower.follow(lambda: serving.model, lambda model: setattr(serving, "model", model)))
        yield
        if following is not None:
            following.cancel()

    paths: dict[object, str] = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
    middleware = [
        Middleware(CountedRequests, metrics=serving.metrics, paths=paths),
        Middleware(RequestLimits, limits=limits, refusal=refusal_reply),
    ]
    handlers: dict[type[Exception], ExceptionHandler] = {
        ApiError: _on_api_error,
        ClientGone: _on_client_gone,
        PalateError: _on_failure,
        HTTPException: _on_http_error,
        Exception: _on_failure,
    }
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)
    app.state.serving = serving
    return app


@dataclass(frozen=True)
class CountedRequests:
    """ASGI middleware that counts responses by route and status. `paths` are those of the routes, by the function that answers."""

    app: ASGIApp
    metrics: ServingMetrics
    paths: Mapping[object, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count its response."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests[self.paths.get(scope.get("endpoint"), "other"), message["status"]] += 1
            await send(message)

        await self.app(scope, receive, counting)


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Return the request's body.

    Raises:
        ApiError: it is not JSON of this form. The content type must say JSON, because any page can make a browser send other types.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "Send JSON with the header `Content-Type: application/json`.", "unsupported_media_type")
    return parsed(await request.body(), kind)


async def while_there(receive: Receive, work: Awaitable[T]) -> T:
    """Return what `work` returns; cancel it when the client goes away.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


def json_reply(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON value."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")


def refusal_reply(message: str, status: int) -> Response:
    """Return what a body that is too large gets, before the application sees it."""
    return json_reply(ApiError(status, message, "body").body, status, {"Connection": "close"})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return json_reply(error.body, error.status, error.headers)


async def _on_client_gone(request: Request, _: Exception) -> Response:
    serving_of(request).metrics.left += 1
    return Response(status_code=CLOSED)


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: "This address does not exist. The API is below /v1.", 405: "This address does not accept such a request."}.get(
        error.status_code, str(error.detail)
    )
    code = "body" if error.status_code in {408, 413} else "http"  # as `refusal_reply`
    return json_reply(ApiError(error.status_code, message, code).body, error.status_code, dict(error.headers or {}))


async def _on_failure(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = str(error) if isinstance(error, PalateError) else "Something broke on the server; its log says what. Try again in a moment."
    return json_reply(ApiError(500, message, "broken", kind="server_error").body, 500)
