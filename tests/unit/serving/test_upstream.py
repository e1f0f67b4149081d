"""A server before another one: what that one draws passes through, rules and ranking work over it, and its failures are one message."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from palate.core import ConfigError
from palate.data.formats import read_preferences, read_samples
from palate.data.jsonl import read_rows
from palate.models.causal import CausalPolicy
from palate.models.scalar import scalar_from
from palate.rewards.combination import RewardModels
from palate.serving.answer_scores import AnswerScorer
from palate.serving.api_keys import ApiKeys, add_key
from palate.serving.audit_log import AUDIT, INFERENCES, AuditLog, InferenceLog
from palate.serving.content_rules import ContentRules
from palate.serving.feedback import FeedbackStore
from palate.serving.feedback_rows import write_feedback_files
from palate.serving.local_source import LocalSource
from palate.serving.serve_app import ApiGate, Serving
from palate.serving.serve_options import ServeOptions
from palate.serving.server import app_of, opened
from palate.web.listener import listen
from tests.support.cut_connections import Relay, saying
from tests.support.rule_files import HERE, has_letter, rule_file
from tests.support.served import served
from tests.support.served_model import NAME, ModelServer, front_server, model_server
from tests.support.waiting import LIMIT_SECONDS, happened, wait_until

CHAT: dict[str, Any] = {
    "model": NAME,
    "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "so what"}],
    "max_tokens": 12,
    "seed": 2,
    "temperature": 1.5,
}
TEXT: dict[str, Any] = {"model": NAME, "prompt": "so what", "max_tokens": 12, "seed": 4}
NO_TIME = 0.0
PATHS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}


@pytest.fixture(scope="module")
def front(server: ModelServer) -> Iterator[ModelServer]:
    with front_server(server.api) as running:
        yield running


def parts_of(answer: httpx.Response) -> list[dict[str, Any]]:
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(one.removeprefix("data: ")) for one in events]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("chat", {"n": 3, "return_token_ids": True}),
        ("chat", {"n": 2, "logprobs": True, "top_logprobs": 2}),
        ("text", {"n": 2, "logprobs": 1, "temperature": 0.5, "top_k": 3}),
        ("text", {"stop": ["a", "e"], "max_tokens": 60, "skip_special_tokens": False}),
        ("text", {"prompt": ["so", "so"], "temperature": 1.5}),
    ],
)
def test_what_the_upstream_draws_passes_through(server: ModelServer, front: ModelServer, kind: str, fields: dict[str, Any]) -> None:
    body = {**(CHAT if kind == "chat" else TEXT), **fields}
    direct, through = (one.post(PATHS[kind], body).json() for one in (server, front))
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    own = len(direct["choices"]) // prompts
    assert through["choices"][:own] == direct["choices"][:own]
    assert len(through["choices"]) == len(direct["choices"])
    assert through["usage"]["prompt_tokens"] == direct["usage"]["prompt_tokens"] > 0
    if prompts == 1:
        assert through["usage"] == direct["usage"]
    else:  # equal prompts get answers of their own
        assert through["choices"][0]["text"] != through["choices"][1]["text"]
    parts = parts_of(front.post(PATHS[kind], {**body, "stream": True, "stream_options": {"include_usage": True}}))
    assert parts[-1]["usage"] == through["usage"]
    texts, logps = [""] * len(through["choices"]), list[float]()
    for choice in (choice for part in parts for choice in part["choices"]):
        texts[choice["index"]] += choice["delta"].get("content", "") if kind == "chat" else choice["text"]
        if choice["index"] == 0 and choice["logprobs"]:
            found = choice["logprobs"]
            logps += [one["logprob"] for one in found["content"]] if kind == "chat" else found["token_logprobs"]
    assert texts == [choice["message"]["content"] if kind == "chat" else choice["text"] for choice in through["choices"]]
    if fields.get("logprobs"):
        whole = through["choices"][0]["logprobs"]
        assert logps == ([one["logprob"] for one in whole["content"]] if kind == "chat" else whole["token_logprobs"])


def test_ranking_rules_store_and_feedback_work_over_it(server: ModelServer, chat_policy: CausalPolicy, tmp_path: Path) -> None:
    scalar_from(chat_policy, ("taste",), seed=3).save(tmp_path / "reward")
    rules = [{"id": "letter", "text": "no early letter", "question": "is there one", "program": f"{HERE}:has_letter"}]
    drawn = [one["message"]["content"] for one in server.post(PATHS["chat"], {**CHAT, "n": 8}).json()["choices"]]
    kept = [text for text in drawn if not has_letter(text)]
    assert 2 <= len(kept) < 8
    with ExitStack() as stack:
        inferences = InferenceLog(tmp_path, lambda: 7.0)
        feedback = stack.enter_context(FeedbackStore(tmp_path, inferences, lambda: 8.0))
        opened_rules = ContentRules.open(rule_file(tmp_path, rules), "output")
        parts: dict[str, Any] = {"output_rules": opened_rules, "audit": AuditLog(tmp_path, lambda: 5.0), "inferences": inferences}
        parts["scorer"] = AnswerScorer(RewardModels.load([str(tmp_path / "reward")]))
        front = stack.enter_context(front_server(server.api, of=lambda model: Serving(model, feedback=feedback), **parts))
        answer = front.post(PATHS["chat"], {**CHAT, "n": len(kept), "best_of": 8}).json()
        choices = answer["choices"]
        assert sorted(one["message"]["content"] for one in choices) == sorted(kept)
        order = [(one["finish_reason"] != "stop", -one["score"]) for one in choices]
        assert order == sorted(order)
        assert answer["usage"]["completion_tokens"] > sum(len(text) for text in kept)  # a token a byte, and those that were dropped
        said = {"inference_id": answer["id"], "metric_name": "comparison", "value": {"chosen": 1, "rejected": 0}, "rater": "ann"}
        assert front.post("/feedback", said).status_code == 200
        assert f"palate_drawn_tokens_total {answer['usage']['completion_tokens']}" in front.get("/metrics").text
    assert [row["text"] for _, row in read_rows(tmp_path / AUDIT)] == drawn
    list(write_feedback_files(tmp_path, tmp_path))
    (preference,) = read_preferences(tmp_path / "preferences.jsonl").rows
    assert (preference.chosen.text, preference.rejected.text) == tuple(choices[k]["message"]["content"] for k in (1, 0))
    (sample,) = read_samples(tmp_path / INFERENCES).rows
    assert [one.text for one in sample[1]] == [one["message"]["content"] for one in choices]


@contextmanager
def steps_of(upstream: ModelServer) -> Iterator[threading.Event]:
    """The upstream draws a token, and goes on only while this event is set."""
    source, goes_on = upstream.serving.model.source, threading.Event()
    assert isinstance(source, LocalSource)
    sampler, flush = source.sampler, source.sampler._after_step

    def step() -> None:
        flush()
        happened(goes_on)

    sampler._after_step = step
    try:
        yield goes_on
    finally:
        goes_on.set()


def test_an_upstream_that_dies_in_a_stream_is_an_event_and_the_server_goes_on(
    chat_policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = "palate.serving.upstream_source.FRESH_SECONDS"
    monkeypatch.setattr(fresh, 1e9)  # a failure counts at once
    body = {**TEXT, "max_tokens": 60, "n": 2, "stream": True}
    with model_server(chat_policy) as upstream:
        relay = Relay(upstream.url)
        with front_server(f"{relay.url}/v1") as front, steps_of(upstream) as goes_on:
            assert front.get("/health").status_code == 200
            with httpx.stream("POST", f"{front.url}/v1/completions", json=body, timeout=LIMIT_SECONDS) as stream:
                lines = stream.iter_lines()
                assert json.loads(next(lines).removeprefix("data: "))["choices"]
                relay.cut()
                *_, last = (line for line in lines if line)
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_unreachable"
            goes_on.set()
            answer = front.post("/v1/completions", TEXT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
            health = front.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "fault")
            assert "The upstream server cannot be used: " in health.json()["fault"]
            monkeypatch.setattr(fresh, 0.05)
            relay.mend()
            assert front.post("/v1/completions", TEXT).status_code == 200
            wait_until(lambda: front.get("/health").status_code == 200)
        relay.cut()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_drawing_there(chat_policy: CausalPolicy, stream: bool) -> None:
    content = json.dumps({**TEXT, "max_tokens": 60, "n": 2, "stream": stream}).encode()
    with model_server(chat_policy) as upstream, front_server(upstream.api) as front, steps_of(upstream) as goes_on:
        load, address = upstream.serving.model.source.load, front.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), LIMIT_SECONDS) as connection:
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall(head.encode() + content)
            wait_until(lambda: load.active)
        wait_until(lambda: upstream.serving.metrics.left == 1)
        goes_on.set()
        wait_until(lambda: load.active == load.waiting == 0)
        assert load.drawn_tokens < 60
        wait_until(lambda: front.serving.model.source.load.active == 0)


def said(status: str, content: bytes, kind: str = "application/json", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


def event(index: int = 0, finish: object = "stop", **fields: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": index, "text": "x", "finish_reason": finish, **fields}]}).encode() + b"\n\n"


STREAM = "text/event-stream"
FAULT = b'{"error": {"message": "prompt: too long.", "param": "prompt", "code": "context_length_exceeded"}}'


@pytest.mark.parametrize(
    ("upstream", "status", "code", "message"),
    [
        (b"", 504, "upstream_timeout", "sent nothing for 0.2 s"),
        (said("200 OK", b"<html>hello</html>", "text/html"), 502, "upstream_invalid", "not a stream of events"),
        (said("200 OK", b"data: {no\n\n", STREAM), 502, "upstream_invalid", "not JSON"),
        (said("200 OK", b"data: [1]\n\n", STREAM), 502, "upstream_invalid", "not a JSON object"),
        (said("200 OK", b'data: {"choices": 3}\n\n', STREAM), 502, "upstream_invalid", "without choices"),
        (said("200 OK", event(text=7), STREAM), 502, "upstream_invalid", "without text"),
        (said("200 OK", event(index=2), STREAM), 502, "upstream_invalid", "answer 2; 2 were asked for"),
        (said("200 OK", event() + b"data: [DONE]\n\n", STREAM), 502, "upstream_unreachable", "before 1 of 2 answers were whole"),
        (said("200 OK", b'data: {"error": {"message": "out of memory"}}\n\n', STREAM), 502, "upstream_invalid", "out of memory"),
        (said("500 Oh", b"secret-key"), 502, "upstream_status", "answered 500"),
        (said("401 No", b"secret-key is wrong"), 502, "upstream_key", "--key_variable"),
        (said("429 Slow", b"{}", extra="Retry-After: 7\r\n"), 429, "busy", "too many requests"),
        (said("400 Bad", FAULT), 400, "context_length_exceeded", "prompt: too long."),
        (said("400 Bad", b"[secret-key]"), 400, "upstream_refused", "answered 400: '[***]'"),
        (b"what is this\r\n\r\n", 502, "upstream_unreachable", "away"),
    ],
)
def test_what_an_upstream_does_wrong_is_one_message(
    upstream: bytes, status: int, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with saying(upstream) as url, front_server(f"{url}/v1", silence=0.2, key="secret-key") as front:
        answer = front.post("/v1/completions", {**TEXT, "n": 2})
        assert answer.status_code == status
        error = answer.json()["error"]
        assert (error["code"], message in error["message"]) == (code, True), error
        assert front.get("/v1/models").json()["data"][0]["id"] == NAME
        if status == 429:
            assert answer.headers["Retry-After"] == "7"
    assert "secret-key" not in caplog.text + answer.text


def test_the_command_finds_the_model_and_sends_the_key(chat_policy: CausalPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys.jsonl"
    monkeypatch.setenv("UPSTREAM_KEY", add_key(keys, "front"))
    with model_server(chat_policy, gate=ApiGate(ApiKeys(keys))) as upstream:
        options = ServeOptions(upstream=upstream.api, key_variable="UPSTREAM_KEY")
        with opened(options) as serving, served(app_of(serving)) as url:
            front = ModelServer(url, serving)
            assert front.get("/v1/models").json()["data"][0]["id"] == NAME
            assert front.post(PATHS["chat"], CHAT).status_code == 200
            assert "no tokenizer" in front.post(PATHS["text"], {"prompt": [3, 4]}).json()["error"]["message"]
        with pytest.raises(ConfigError, match="does not say which model it has"), opened(ServeOptions(upstream=upstream.api)):
            pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ServeOptions("little", upstream="http://x/v1"), "Leave out 'little' or --upstream"),
        (ServeOptions("little", key_variable="K"), "Name its address too"),
        (ServeOptions(upstream="http://x/v1", context=8), "--context and --dtype"),
        (ServeOptions(upstream="x"), "url must be http://host/path"),
        (ServeOptions(upstream="http://me:secret@x/v1"), "no user name or password"),
        (ServeOptions(upstream="http://x/v1", key_variable="PALATE_NO_KEY"), "PALATE_NO_KEY holds no key"),
        (ServeOptions(upstream="http://x/v1", timeout=NO_TIME), "--timeout is 0"),
        (ServeOptions(upstream="http://x/v1", upstream_model="m", slots=0), "slots is 0"),
    ],
)
def test_options_of_an_upstream_that_cannot_be_are_named(options: ServeOptions, message: str) -> None:
    from palate.serving.server import serve_model

    with listen("127.0.0.1", 0) as listener, pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        serve_model(options, listener, print)
