"""Another server with OpenAI's API: what is asked there, and what its failures mean for the clients here."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from palate.clients.chat import chat_endpoint
from palate.clients.completions import completions_endpoint
from palate.clients.event_stream import EventStream
from palate.clients.http import Endpoint, RequestFailed
from palate.core import ConfigError, derive_seed
from palate.data.formats.write import turns_of
from palate.serving.answer_sources import DrawPlan
from palate.serving.api_errors import INVALID, ApiError
from palate.serving.api_requests import SEEDS, DrawBody
from palate.serving.prompt_questions import PromptQuestion

OPTION = "--upstream"

PASSED = frozenset(
    {
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "stop_token_ids", "logprobs"),
        *("top_logprobs", "return_token_ids", "skip_special_tokens", "spaces_between_special_tokens"),
    }
)
"""Fields of a request that go to the other server as the client gave them."""

PROBE_SECONDS = 5.0
"""How long a question about the other server's state may take."""

log = logging.getLogger("palate.serving")


@dataclass(frozen=True)
class UpstreamServer:
    """Another server with OpenAI's API.

    Attributes:
        url: its base, such as `http://127.0.0.1:8001/v1`.
        model: the name of the model there.
        headers: headers of each request; they hold the key.
        pause_seconds: how long it may say nothing.
    """

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    pause_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Check the address and the time. Raises ConfigError."""
        chat_endpoint(OPTION, self.url)
        if not (math.isfinite(self.pause_seconds) and self.pause_seconds > 0):
            raise ConfigError(f"--timeout is {self.pause_seconds:g}: give a number of seconds above 0")

    def stream(self, *, is_chat: bool) -> EventStream:
        """Return a new request."""
        endpoint = (chat_endpoint if is_chat else completions_endpoint)(OPTION, self.url)
        return EventStream(endpoint, self.headers, self.pause_seconds)

    def content(self, question: PromptQuestion, body: DrawBody, plan: DrawPlan) -> dict[str, object]:
        """Return the JSON value of a request. It streams always, so a client that goes away ends it, and silence is noticed."""
        prompt = question.prompt
        asked: dict[str, object] = {"messages": turns_of(prompt.conversation)} if question.is_chat else {"prompt": prompt.text}
        seed, number = plan.seed
        if number:  # there every prompt is a request of its own, and equal prompts would get equal answers
            seed = derive_seed(seed, "prompt", number) % SEEDS
        seeded = {} if body.seed is None else {"seed": seed}
        own = {"model": self.model, "n": plan.n, "stream": True, "stream_options": {"include_usage": True}}
        return {**body.model_dump(include=set(PASSED), exclude_unset=True), **asked, **own, **seeded}

    def names(self) -> list[str]:
        """Return the names of the models there. Raises RequestFailed."""
        found = _json_object(self._get())
        models = found.get("data")
        return [one["id"] for one in models if isinstance(one, dict) and isinstance(one.get("id"), str)] if isinstance(models, list) else []

    def fault(self) -> str:
        """Return why the server cannot be used now, "" where it answers."""
        try:
            self._get()
        except RequestFailed as failure:
            return "" if failure.status == 404 else self.shown(failure)
        return ""

    def shown(self, failure: RequestFailed) -> str:
        """Return what failed as a text for clients. A server may repeat the key that it got, so the key is taken out."""
        text, key = str(failure), self.headers.get("Authorization", "").removeprefix("Bearer ")
        return text.replace(key, "***") if key else text

    def _get(self) -> bytes:
        seconds = min(PROBE_SECONDS, self.pause_seconds)
        return Endpoint.of(OPTION, f"{self.url.rstrip('/')}/models").get(self.headers, time.monotonic() + seconds, attempts=1)


def only_model(server: UpstreamServer) -> str:
    """Return the name of the one model at a server.

    Raises:
        ConfigError: the server does not say it, or has several.
    """
    try:
        names = server.names()
    except RequestFailed as failure:
        raise ConfigError(
            f"{OPTION}: {server.url} does not say which model it has: {server.shown(failure)}. Start that server first, correct the "
            "address (it usually ends in /v1), or name the model with --upstream_model."
        ) from failure
    if len(names) != 1:
        known = ", ".join(names) or "it names none"
        raise ConfigError(f"{OPTION}: {server.url} has {len(names)} models. Choose one with --upstream_model ({known}).")
    return names[0]


def api_error(server: UpstreamServer, failure: RequestFailed) -> ApiError:
    """Return what a client gets where the other server failed, and log it. What the client did wrong comes back as the server said it."""
    shown = server.shown(failure)
    if failure.kind == "status" and failure.status in {400, 413, 422}:
        return _clients_fault(failure, shown)
    log.warning("the upstream server %s %s", server.url, shown)
    if failure.kind == "timeout":
        return _broken(504, f"The upstream server {shown}. Try again, or ask for less.", "upstream_timeout")
    if failure.status == 429:
        headers = {"Retry-After": str(math.ceil(failure.wait_seconds or 1))}
        return ApiError(429, "The upstream server has too many requests now. Try again soon.", "busy", kind="rate_limit", headers=headers)
    if failure.status in {401, 403}:
        return _broken(502, "The upstream server refuses the key of this server (--key_variable).", "upstream_key")
    if failure.kind == "unreachable":
        return _broken(502, f"The upstream server is away ({shown}). Try again in a moment.", "upstream_unreachable")
    if failure.kind == "status":  # what else it said is for the log
        return _broken(502, f"The upstream server answered {failure.status}. Try again in a moment.", "upstream_status")
    return _broken(502, f"The upstream server {shown}.", "upstream_invalid")


def _broken(status: int, message: str, code: str) -> ApiError:
    return ApiError(status, message, code, kind="server_error")


def _clients_fault(failure: RequestFailed, shown: str) -> ApiError:
    try:
        error: object = _json_object(failure.body).get("error")
    except RequestFailed:
        error = None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return ApiError(400, f"The upstream server {shown}.", "upstream_refused")
    code, param = (error[name] if isinstance(error.get(name), str) else None for name in ("code", "param"))
    return ApiError(400, error["message"], code or "upstream_refused", kind=INVALID, param=param)


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestFailed(f"answered with something that is not a JSON object: {text[:80].decode('utf-8', 'replace')!r}", "invalid")
    return value
