"""Servers that score, real ones: good, broken, slow and hostile."""

import math
import re
import socket
import threading

import pytest

from palate.clients import http as http_client
from palate.core import Completion, ConfigError, Message, Prompt
from palate.rewards.batch import PartScores, ScoringBatch, ScoringContext
from palate.rewards.remote import HTTPReward
from tests.support.waiting import LIMIT_SECONDS, PAUSE_SECONDS
from tests.unit.rewards.conftest import batch, reply

CONTEXT = ScoringContext("far", None, None)  # type: ignore[arg-type]
IS_OVER = threading.Event()
"""Ends the answers that never end, once the test has seen enough."""


def outcome(url: str, scored: ScoringBatch, **settings: object) -> PartScores:
    return HTTPReward(url=url, **settings).open(CONTEXT).score(scored)  # type: ignore[arg-type]


def test_what_is_sent_and_what_comes_back(serve, monkeypatch) -> None:
    server = serve(lambda handler, body: reply(handler, {"scores": [len(text) for text in body["completions"]]}))
    monkeypatch.setenv("FAR_KEY", "secret")
    scored = ScoringBatch(
        (
            Prompt("a", (Message("system", "brief"), Message("user", "one")), {"level": 3, "odd": math.nan}),
            Prompt("b", (Message("user", "two"),)),
        ),
        ((Completion("yes", (5, 2), stop="eos"), Completion("no", stop="length")), (Completion("é"),)),
    )
    found = outcome(f"{server.url}/score?v=1", scored, key_variable="FAR_KEY")
    assert found.heads[""].tolist() == [3, 2, 1]
    (path, headers, body) = server.asked[0]
    assert path == "/score?v=1"
    assert headers["Authorization"] == "Bearer secret"
    first = [{"role": "system", "content": "brief"}, {"role": "user", "content": "one"}]
    assert body == {
        "prompts": ["one", "one", "two"],
        "conversations": [first, first, [{"role": "user", "content": "two"}]],
        "completions": ["yes", "no", "é"],
        "completion_ids": [[5, 2], [], []],
        "ended": [True, False, None],
        "fields": [{"level": 3, "odd": "nan"}, {"level": 3, "odd": "nan"}, {}],
    }


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        ({"scores": [1.0]}, 200, "gave 1 scores for 2 completions"),
        ({"scores": [1.0, None]}, 200, "gave 'None' (NoneType), not a number"),
        ({"scores": [1.0, "2"]}, 200, "gave '2' (str), not a number"),
        (b'{"scores": [1.0, NaN]}', 200, "gave nan"),
        (b'{"scores": [1.0, 1e999]}', 200, "gave inf"),
        (b'{"scores": [1.0, ' + b"9" * 400 + b"]}", 200, "not one finite number"),
        ({"scores": "12"}, 200, "not a list of 2 scores"),
        ({"score": [1, 2]}, 200, "answered without scores"),
        ([1, 2], 200, "answered without scores"),
        (b"<html>", 200, "answered with something that is not JSON: '<html>'"),
        (b"", 200, "answered with something that is not JSON"),
        (b"\xff\xfe", 200, "answered with something that is not JSON"),
        (b"[" * 100_000, 200, "answered with something that is not JSON"),
        (b"who are you", 403, "answered 403: 'who are you'"),
        (b"nothing here", 404, "answered 404"),
    ],
)
def test_answers_that_are_no_scores(serve, value, status, reason) -> None:
    server = serve(lambda handler, body: reply(handler, value, status))
    found = outcome(server.url, batch("a", "b"))
    assert reason in found.reasons[1]
    assert found.heads[""].isnan()[1]
    assert len(server.asked) == 1  # asked again it would say the same


@pytest.mark.parametrize("status", [500, 503, 429])
def test_what_may_pass_is_tried_again(serve, clock, status) -> None:
    server = serve(lambda handler, body: reply(handler, {"scores": [1]}, status if len(server.asked) < 3 else 200))
    found = outcome(server.url, batch("a"))
    assert not found.reasons
    assert len(server.asked) == 3


def test_retries_end_at_the_deadline(serve, clock) -> None:
    server, start = serve(lambda handler, body: reply(handler, b"broken", 500)), clock.now
    found = outcome(server.url, batch("a", "b"), timeout_seconds=60.0)
    assert 55 < clock.now - start < 60  # the longest pause is 5 s
    tries = len(server.asked)
    assert 15 < tries < 40  # pauses differ by chance
    assert found.reasons == dict.fromkeys((0, 1), f"127.0.0.1: answered 500: 'broken' (tried {tries} times until the deadline)")


def test_a_refused_connection(clock) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = outcome(f"http://127.0.0.1:{port}", batch("a"), timeout_seconds=60.0)
    assert "ConnectionRefusedError" in found.reasons[0]


def drip_body(handler, body) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while not IS_OVER.wait(PAUSE_SECONDS):  # or until the client hangs up
        handler.wfile.write(b" ")


def drip_headers(handler, body) -> None:
    while not IS_OVER.wait(PAUSE_SECONDS):
        handler.wfile.write(b"H")


@pytest.mark.parametrize("answer", [drip_body, drip_headers, lambda handler, body: IS_OVER.wait(LIMIT_SECONDS)])
def test_a_slow_server_is_left_at_the_deadline(serve, answer) -> None:
    """None of these answers ever ends, and yet there is an outcome."""
    IS_OVER.clear()
    found = outcome(serve(answer).url, batch("a"), timeout_seconds=0.5)
    IS_OVER.set()
    assert list(found.reasons) == [0]
    assert re.fullmatch("127.0.0.1: no (whole )?answer within the deadline", found.reasons[0])


def test_a_server_that_hangs_up(serve, clock) -> None:
    server = serve(lambda handler, body: handler.connection.shutdown(socket.SHUT_RDWR))
    assert "tried" in outcome(server.url, batch("a"), timeout_seconds=60.0).reasons[0]


def test_redirects_are_not_followed(serve) -> None:
    other = serve(lambda handler, body: reply(handler, {"scores": [9]}))
    for status in (301, 302, 307, 308):
        server = serve(lambda handler, body, status=status: reply(handler, b"", status, Location=other.url))
        assert f"redirects to '{other.url}', which is not followed" in outcome(server.url, batch("a")).reasons[0]
    assert other.asked == []


def test_a_proxy_in_the_environment_is_not_asked(serve, monkeypatch) -> None:
    other = serve(lambda handler, body: reply(handler, {"scores": [9]}))
    server = serve(lambda handler, body: reply(handler, {"scores": [1]}))
    monkeypatch.setenv("http_proxy", other.url)
    assert outcome(server.url, batch("a")).heads[""].tolist() == [1]


def test_a_flood_is_not_read_to_its_end(serve, monkeypatch) -> None:
    sent = []

    def flood(handler, body) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b" " * 100_000)
            sent.append(100_000)

    monkeypatch.setattr(http_client, "MAX_BYTES", 1_000_000)
    found = outcome(serve(flood).url, batch("a"))
    assert "answered with more than 1000000 bytes" in found.reasons[0]
    assert sum(sent) < 100_000_000


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "http://host/path"),
        ("file:///etc/passwd", "http://host/path"),
        ("host:80", "http://host/path"),
        ("http://", "http://host/path"),
        ("http://host:port/", "cannot be read"),
        ("http://me:secret@host/", "no user name or password"),
        ("http://host/a b", "http://host/path"),
        ("http://host/\r\nX: y", "http://host/path"),
    ],
)
def test_addresses_that_are_refused(url, message) -> None:
    with pytest.raises(ConfigError, match=message):
        HTTPReward(url=url)


def test_a_key_that_is_not_there(monkeypatch) -> None:
    monkeypatch.delenv("FAR_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"rewards.far: the environment variable FAR_KEY holds no key"):
        HTTPReward(url="http://127.0.0.1:1", key_variable="FAR_KEY").open(CONTEXT)
