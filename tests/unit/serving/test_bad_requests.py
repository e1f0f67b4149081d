"""What cannot be answered gets one clear message in OpenAI's form, whatever is sent; and a client that goes away frees its rows."""

from __future__ import annotations

import json
import random
import socket
import threading
from typing import Any

import httpx
import pytest

from palate.models.causal import CausalPolicy
from palate.serving.api_keys import RequestRate
from palate.serving.serve_app import ApiGate
from tests.support.served_model import NAME, ModelServer, model_server
from tests.support.waiting import LIMIT_SECONDS, joined, wait_until

CHAT: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "rice"}], "max_tokens": 3}
TEXT: dict[str, Any] = {"model": NAME, "prompt": "rice", "max_tokens": 3}


def refusal(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, which has OpenAI's form."""
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("path", "change", "param", "message"),
    [
        ("chat/completions", {"n": 129}, "n", "less than or equal to 128; got 129"),
        ("chat/completions", {"n": 17}, "n", "n is 17, and this server draws 16 completions at a time"),
        ("chat/completions", {"n": 0}, "n", "greater than or equal to 1"),
        ("chat/completions", {"n": "2"}, "n", "valid integer"),
        ("chat/completions", {"temperature": -0.1}, "temperature", "greater than or equal to 0"),
        ("chat/completions", {"temperature": "hot"}, "temperature", "valid number"),
        ("chat/completions", {"top_p": 0}, "top_p", "greater than 0"),
        ("chat/completions", {"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ("chat/completions", {"frequency_penalty": 1}, "frequency_penalty", "this server cannot do that. Leave frequency_penalty out"),
        ("chat/completions", {"tools": [{}]}, "tools", "tools: this server cannot do that. Leave tools out; got [{}]."),
        ("chat/completions", {"temprature": 1}, "temprature", "Did you mean 'temperature'"),
        ("chat/completions", {"top_logprobs": 2}, None, "top_logprobs needs logprobs: true"),
        ("chat/completions", {"max_completion_tokens": 2, "max_tokens": 9}, None, "two names for one number, and they differ"),
        ("chat/completions", {"best_of": 2}, "best_of", "without a reward model"),
        ("chat/completions", {"weights": {"taste": 1}}, "best_of", "without a reward model"),
        ("chat/completions", {"n": 3, "best_of": 2}, None, "best_of is 2 and n is 3"),
        ("chat/completions", {"stop": ""}, "stop", "at least 1 character"),
        ("chat/completions", {"stop_token_ids": [5]}, "stop_token_ids", "5 is not an end of this model"),
        ("chat/completions", {"messages": []}, "messages", "at least 1 item"),
        ("chat/completions", {"messages": ["rice"]}, "messages", "a message is not a mapping"),
        ("chat/completions", {"messages": [{"role": "cook", "content": "x"}]}, "messages", "unknown role"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            "messages",
            "not end",
        ),
        ("chat/completions", {"messages": [{"role": "text", "content": "x"}]}, "messages", "not a chat's"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "not text"),
        ("chat/completions", {"messages": [{"role": "user", "content": "x<|close|>y"}]}, "messages", "a token of the chat template"),
        ("chat/completions", {"messages": [{"role": "user", "content": "x" * 500}]}, "messages", "leaves no room for a completion"),
        ("completions", {"prompt": ""}, "prompt", "no token"),
        ("completions", {"prompt": []}, "prompt", "at least 1 item"),
        ("completions", {"prompt": [999]}, "prompt", "a token id is not one of this model"),
        ("completions", {"prompt": [-1]}, "prompt", "a token id is not one of this model"),
        ("completions", {"prompt": {"text": "rice"}}, "prompt", "valid"),
        ("completions", {"prompt": "x" * 128}, "prompt", "leaves no room"),
        ("completions", {"echo": True}, "echo", "input should be False"),
    ],
)
def test_a_value_that_cannot_be_is_named(server: ModelServer, path: str, change: dict[str, Any], param: str | None, message: str) -> None:
    body = {**(CHAT if path.startswith("chat") else TEXT), **change}
    for stream in (False, True):
        error = refusal(server.post(f"/v1/{path}", {**body, "stream": stream}), 400)
        assert message in error["message"]
        assert error["param"] == param
        assert error["type"] == "invalid_request_error"


def test_nulls_are_absent(server: ModelServer) -> None:
    nulls = dict.fromkeys(("n", "temperature", "stop", "seed", "logit_bias", "tools", "stream_options", "user"))
    assert server.post("/v1/chat/completions", {**CHAT, **nulls}).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe{}", b'{"a": NaN}', b"[" * 100_000, b"null", b"[]", b'{"prompt": "\xff"}', b'"\\ud800"']
)
def test_what_is_not_json_is_refused(server: ModelServer, body: bytes) -> None:
    error = refusal(server.post("/v1/completions", content=body, headers={"Content-Type": "application/json"}), 400)
    assert "body" in error["message"] or "prompt" in error["message"]


def test_other_content_types_are_refused_since_any_page_can_send_them(server: ModelServer) -> None:
    answer = server.post("/v1/completions", content=json.dumps(TEXT).encode(), headers={"Content-Type": "text/plain"})
    assert refusal(answer, 415)["code"] == "unsupported_media_type"
    assert refusal(server.get("/v1/completions"), 405)
    assert refusal(server.get("/nowhere"), 404)


def test_a_body_of_ten_megabytes_is_refused(server: ModelServer) -> None:
    body = json.dumps({**TEXT, "prompt": "x" * 10_000_000}).encode()
    headers = {"Content-Type": "application/json"}
    whole = refusal(server.post("/v1/completions", content=body, headers=headers), 413)
    assert "larger than 4,194,304 bytes" in whole["message"]
    parts = (body[start : start + 65536] for start in range(0, len(body), 65536))
    assert refusal(server.post("/v1/completions", content=parts, headers=headers), 413) == whole
    text = server.get("/metrics").text
    assert all(f'palate_requests_total{{route="{route}",status="413"}}' in text for route in ("/v1/completions", "other"))
    assert server.post("/v1/completions", TEXT).status_code == 200


def test_strange_names_of_this_machine_are_refused(chat_policy: CausalPolicy) -> None:
    with model_server(chat_policy, gate=ApiGate(hosts=frozenset({"127.0.0.1"}))) as server:
        assert server.get("/v1/models").status_code == 200
        assert refusal(server.get("/v1/models", headers={"Host": "evil.example"}), 403)["code"] == "wrong_host"


def test_too_many_requests_have_to_wait(chat_policy: CausalPolicy) -> None:
    now = [0.0]
    with model_server(chat_policy, gate=ApiGate(rate=RequestRate(2, lambda: now[0]))) as server:
        assert [server.post("/v1/completions", TEXT).status_code for _ in range(2)] == [200, 200]
        answer = server.post("/v1/completions", TEXT)
        assert refusal(answer, 429)["type"] == "rate_limit"
        assert answer.headers["Retry-After"] == "30"
        now[0] += 30
        assert [server.post("/v1/completions", TEXT).status_code for _ in range(2)] == [200, 429]


def test_a_server_with_too_much_to_do_says_so(chat_policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    with model_server(chat_policy) as server:
        monkeypatch.setattr("palate.serving.serve_app.MOST_WAITING", -1)
        answer = server.post("/v1/completions", TEXT)
        assert refusal(answer, 429)["code"] == "busy"
        assert answer.headers["Retry-After"] == "2"


def test_a_client_that_leaves_a_stream_frees_its_rows(chat_policy: CausalPolicy) -> None:
    ends, chat_policy.end_ids = chat_policy.end_ids, frozenset()
    try:
        with model_server(chat_policy, slots=2) as server:
            load = server.serving.model.source.load
            for stream in (True, False):
                _left(server.url, {**TEXT, "max_tokens": 120, "n": 2, "stream": stream})
                before = load.drawn_tokens
                assert server.post("/v1/completions", {**TEXT, "n": 2}).status_code == 200
                wait_until(lambda: load.active == 0)
                assert load.drawn_tokens - before < 120
            wait_until(lambda: server.serving.metrics.left == 2)
    finally:
        chat_policy.end_ids = ends


def _left(url: str, body: dict[str, Any]) -> None:
    """Send a request and go away when it is under way."""
    content = json.dumps(body).encode()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), LIMIT_SECONDS) as connection:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        if body["stream"]:
            assert b"200 OK" in connection.recv(4096)


def test_many_clients_at_once_all_get_an_answer(chat_policy: CausalPolicy) -> None:
    with model_server(chat_policy, slots=8) as server:
        found: list[int] = []

        def ask(number: int) -> None:
            body = {"prompt": "rice", "max_tokens": 4, "seed": number, "n": 1 + number % 3, "stream": number % 2 == 0}
            answer = server.post("/v1/completions", body)
            found.append(answer.status_code)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        joined(*threads)
        assert found == [200] * 40


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**30, 0.5, -1e308, 1e-320, "", " ", "\u0000", "\u2028", "ä" * 300, "tiny", "<script>"),
    *([], [[]], {}, [None], {"": ""}, [0, 1], [[0], [1]], ["a", "a"], {"role": "user", "content": "x"}),
)


def test_no_malformed_request_breaks_the_server(server: ModelServer) -> None:
    rng = random.Random(7)
    names = [*CHAT, *TEXT, "n", "stop", "seed", "logprobs", "top_logprobs", "top_p", "best_of", "weights", "stream", "stream_options", "x"]
    with httpx.Client(base_url=server.url, timeout=LIMIT_SECONDS) as client:
        for _ in range(150):
            base = dict(rng.choice((CHAT, TEXT)))
            for _ in range(rng.randrange(1, 4)):
                base[rng.choice(names)] = rng.choice(VALUES)
            content = bytearray(json.dumps(base).encode())
            if rng.random() < 0.3:
                content[rng.randrange(len(content))] = rng.randrange(256)
            path = rng.choice(("completions", "chat/completions", "score"))
            answer = client.post(f"/v1/{path}", content=bytes(content), headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (content, answer.text)
        assert client.get("/health").json()["status"] == "ok"


def test_health_and_metrics(chat_policy: CausalPolicy) -> None:
    with model_server(chat_policy) as server:
        server.post("/v1/completions", {**TEXT, "n": 2})
        server.post("/v1/completions", {**TEXT, "n": 0})
        server.post("/v1/completions", {**TEXT, "stream": True})
        assert server.get("/health").json() == {"status": "ok", "model": NAME, "active": 0, "waiting": 0}
        lines = server.get("/metrics").text.splitlines()
        assert 'palate_requests_total{route="/v1/completions",status="200"} 2' in lines
        assert 'palate_requests_total{route="/v1/completions",status="400"} 1' in lines
        assert "palate_first_token_seconds_count 1" in lines
        assert "palate_answer_seconds_count 2" in lines
        assert f"palate_drawn_tokens_total {server.serving.model.source.load.drawn_tokens}" in lines
