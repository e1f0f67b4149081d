"""The client of OpenAI-compatible APIs, on a real server: attempts, kinds of failure, and many conversations at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from palate.clients.chat import ChatClient, ChatReply, chat_endpoint
from palate.clients.http import RequestFailed, bearer
from palate.core import ConfigError, Message
from tests.support.waiting import LIMIT_SECONDS
from tests.unit.rewards.conftest import Server, reply

HELLO = (Message("system", "brief"), Message("user", "hello"))


class Replies:
    """A server that gives these (status, body) in turn, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = [(200, {"choices": [{"message": {"content": "hi"}}]})]
        self.server = Server(self._answer)

    def _answer(self, handler: BaseHTTPRequestHandler, _: Any) -> None:
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        reply(handler, body, status)


@pytest.fixture
def replies() -> Iterator[Replies]:
    running = Replies()
    yield running
    running.server.close()


def client(url: str, **settings: Any) -> ChatClient:
    return ChatClient(chat_endpoint("url", url), "small", **settings)


def deadline() -> float:
    return time.monotonic() + LIMIT_SECONDS


def test_a_request_holds_the_conversation_the_model_and_the_options(replies: Replies) -> None:
    model = client(f"{replies.server.url}/v1", headers=bearer("secret"), options={"temperature": 0})
    assert model.reply(HELLO, deadline()).text == "hi"
    ((path, headers, body),) = replies.server.asked
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer secret")
    messages = [{"role": "system", "content": "brief"}, {"role": "user", "content": "hello"}]
    assert body == {"model": "small", "messages": messages, "temperature": 0}
    assert "secret" not in repr(model)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions"])
def test_an_address_is_the_base_of_the_api_or_the_whole_path(path: str) -> None:
    assert chat_endpoint("url", f"http://host{path}").path == "/v1/chat/completions"


def test_an_address_that_cannot_be_used_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(ConfigError, match="--model_url: url must be http://host/path"):
        chat_endpoint("--model_url", "ftp://host")


@pytest.mark.parametrize(("attempts", "count"), [(1, 1), (2, 2)])
def test_attempts_limit_the_retries(replies: Replies, attempts: int, count: int) -> None:
    replies.answers = [(503, {})]
    with pytest.raises(RequestFailed, match="answered 503") as failure:
        client(replies.server.url).reply(HELLO, deadline(), attempts=attempts)
    assert (failure.value.kind, failure.value.status, len(replies.server.asked)) == ("status", 503, count)


def test_without_a_limit_a_temporary_failure_is_tried_again(replies: Replies) -> None:
    replies.answers = [(429, {}), *replies.answers]
    assert client(replies.server.url).reply(HELLO, deadline()).text == "hi"
    assert len(replies.server.asked) == 2


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {}, "invalid"),
        (200, b"<html>", "invalid"),
        (200, {"choices": [{"message": {"content": None}}]}, "invalid"),
        (404, {}, "status"),
    ],
)
def test_a_failure_that_stays_is_not_tried_again(replies: Replies, status: int, body: object, kind: str) -> None:
    replies.answers = [(status, body)]
    with pytest.raises(RequestFailed) as failure:
        client(replies.server.url).reply(HELLO, deadline())
    assert (failure.value.kind, failure.value.is_temporary, len(replies.server.asked)) == (kind, False, 1)


def test_a_server_that_is_down_is_unreachable_and_a_past_deadline_is_a_timeout(replies: Replies) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RequestFailed) as failure:
        client(url).reply(HELLO, deadline(), attempts=1)
    assert failure.value.kind == "unreachable"
    with pytest.raises(RequestFailed) as failure:
        client(replies.server.url).reply(HELLO, time.monotonic())
    assert (failure.value.kind, replies.server.asked) == ("timeout", [])


def test_a_failed_conversation_does_not_touch_the_others() -> None:
    def answer(handler: BaseHTTPRequestHandler, body: Any) -> None:
        text = body["messages"][0]["content"]
        reply(handler, {"choices": [{"message": {"content": text.upper()}}]}, 400 if text == "b" else 200)

    server = Server(answer)
    found = client(server.url, concurrency=2).replies([(Message("user", text),) for text in "abc"], deadline())
    server.close()
    assert [one.text if isinstance(one, ChatReply) else one.status for one in found] == ["A", 400, "C"]
