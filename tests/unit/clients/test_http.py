"""Requests that are sent again: the pauses double with jitter, and are not shorter than the server asks."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from palate.clients import http
from palate.clients.http import Endpoint, RequestFailed
from palate.testing.completions_server import Answer, CompletionsServer


class Watch:
    """A clock that runs on only in pauses, and notes them."""

    def __init__(self) -> None:
        self.now, self.pauses = 1000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(http, "time", made)
    return made


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Endpoint]]:
    servers: list[CompletionsServer] = []

    def start(answer: Answer) -> Endpoint:
        servers.append(CompletionsServer(answer))
        return Endpoint.of("test", servers[-1].url)

    yield start
    for server in servers:
        server.close()


def failing(*answers: Any) -> Answer:
    """Gives these answers, and then an empty object."""
    left = list(answers)
    return lambda body: left.pop(0) if left else (200, {})


def test_pauses_double_up_to_the_longest_with_jitter(serve, watch: Watch) -> None:
    endpoint = serve(failing(*[(500, {})] * 9))
    assert endpoint.post({}, {}, watch.now + 1000) == {}
    longest = [0.1 * 2**k for k in range(6)] + [5.0] * 3
    assert len(watch.pauses) == 9
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(watch.pauses, longest, strict=True))
    assert len({pause / bound for pause, bound in zip(watch.pauses, longest, strict=True)}) == 9


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_is_as_long_as_the_server_asks(serve, watch: Watch, status: int) -> None:
    endpoint = serve(failing((status, {}, {"Retry-After": "7"}), (status, {}, {"Retry-After": "soon"})))
    endpoint.post({}, {}, watch.now + 1000)
    assert watch.pauses[0] == 7
    assert watch.pauses[1] <= 0.2


def test_the_server_may_name_a_time(serve, watch: Watch) -> None:
    when = datetime.now(UTC) + timedelta(hours=2)
    endpoint = serve(failing((429, {}, {"Retry-After": format_datetime(when, usegmt=True)})))
    endpoint.post({}, {}, watch.now + 10000)
    assert 3600 < watch.pauses[0] <= 7200


def test_a_pause_beyond_the_deadline_fails_at_once(serve, watch: Watch) -> None:
    endpoint = serve(failing((429, {}, {"Retry-After": "60"})))
    with pytest.raises(RequestFailed, match="answered 429"):
        endpoint.post({}, {}, watch.now + 30)
    assert watch.pauses == []


def test_an_answer_that_breaks_off_is_tried_again_and_says_that_it_was_sent(serve, watch: Watch) -> None:
    seen: list[RequestFailed] = []
    endpoint = serve(failing((200, b'{"a": ', {"Content-Length": "40"}), (500, {})))
    assert endpoint.post({}, {}, watch.now + 1000, before_retry=seen.append) == {}
    assert [(error.kind, error.is_sent) for error in seen] == [("unreachable", True), ("status", False)]


def test_what_is_raised_before_a_retry_ends_the_attempts(serve, watch: Watch) -> None:
    def refuse(error: RequestFailed) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        serve(failing((500, {}))).post({}, {}, watch.now + 1000, before_retry=refuse)
    assert watch.pauses == []
