"""Making a live model break a rule: a real server that samples from a real, tiny model, and servers that do their worst."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from palate.core import Sampling
from palate.ratings import Project, Task
from palate.samplers import LocalSampler
from palate.testing import tiny_policy
from palate.web.probe_model import LONGEST_DIALOGUE, LONGEST_TURN, ProbeModel
from palate.web.service import WebSettings
from tests.support.rating_server import Client, RatingServer, open_rating_server
from tests.support.waiting import LIMIT_SECONDS, PAUSE_SECONDS, happened, joined, wait_until
from tests.unit.rewards.conftest import Server, reply
from tests.web.conftest import Sit, idle, intercept
from tests.web.test_judging import at_desk, ready, said, settled

Answering = Callable[[BaseHTTPRequestHandler, Any], None]
RULE = "Never speak of rice."


def chat(text: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


@pytest.fixture(scope="module")
def sampled() -> Answering:
    """Answers with what a tiny model says to the talk so far."""
    policy = tiny_policy()
    sampler, turn = LocalSampler(policy), threading.Lock()

    def answer(handler: BaseHTTPRequestHandler, body: Any) -> None:
        talk = "\n".join(one["content"] for one in body["messages"])
        ids = policy.tokenizer(talk)["input_ids"][-60:]
        with turn:
            (((sample,),)) = sampler.sample([ids], 1, Sampling(max_tokens=12), seed=len(body["messages"]))
        reply(handler, chat(policy.tokenizer.decode(sample.ids, skip_special_tokens=True).strip() or "rice"))

    return answer


class Stage:
    """What stands behind the address of the model: it can be changed while the server runs, and taken away."""

    def __init__(self) -> None:
        self.act: Answering = lambda handler, _: reply(handler, chat("so be it"))
        self.server = Server(lambda handler, body: self.act(handler, body))


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.server.close()


@pytest.fixture
def server(tmp_path: Path, stage: Stage) -> Iterator[RatingServer]:
    model = replace(ProbeModel.at(f"{stage.server.url}/v1", "tiny", "secret"), timeout_seconds=LIMIT_SECONDS, concurrency=2)
    with open_rating_server(tmp_path, WebSettings(probe=model)) as opened:
        yield opened


def patience(server: RatingServer, seconds: float) -> None:
    """From now on the server waits so long for the model."""
    model = server.service.settings.probe
    assert model is not None
    object.__setattr__(model, "timeout_seconds", seconds)


def probing(server: RatingServer, items: int = 2) -> Project:
    project = server.project("Probe", Task(kind="probe", rules=(RULE,), reason="optional"), items=items)
    server.account("bob", "rater", project)
    return project


def says(page: Page, text: str) -> None:
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")


def test_a_talk_with_a_real_model_becomes_a_judgment(server: RatingServer, sit: Sit, stage: Stage, sampled: Answering) -> None:
    stage.act = sampled
    project = probing(server)
    page = at_desk(sit, "bob", project)
    expect(page.get_by_text(RULE)).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_contain_text("Write to the model first")
    says(page, "what can we make for two guests")
    expect(page.locator("#dialogue .turn")).to_have_count(2)
    says(page, "please no salt")
    expect(page.locator("#dialogue .turn")).to_have_count(4)
    expect(page.locator("#message")).to_have_value("")
    shown = page.locator("#dialogue .turn p").all_inner_texts()
    page.reload()  # the talk is part of the draft
    expect(page.locator("#dialogue .turn")).to_have_count(4)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    settled(page)
    (entry,) = said(server, project)
    assert (entry.answer.broken, entry.answer.rule) == (True, RULE)
    assert [(turn.role, turn.text.strip()) for turn in entry.answer.dialogue] == [
        (role, text.strip()) for role, text in zip(["user", "assistant"] * 2, shown, strict=True)
    ]
    assert shown[::2] == ["what can we make for two guests", "please no salt"]
    expect(page.locator("#dialogue .turn")).to_have_count(0)  # the next item begins anew
    path, headers, body = stage.server.asked[-1]
    assert (path, headers["Authorization"], body["model"]) == ("/v1/chat/completions", "Bearer secret", "tiny")
    assert [one["role"] for one in body["messages"]] == ["user", "user", "assistant", "user"]  # the item's own turn stands first


def test_a_model_that_is_down_loses_nothing(server: RatingServer, sit: Sit, stage: Stage) -> None:
    project = probing(server)
    page = at_desk(sit, "bob", project)
    port = int(stage.server.url.rpartition(":")[2])
    stage.server.close()
    says(page, "are you there")
    expect(page.locator("#talkbox .hintline")).to_contain_text("cannot be reached")
    expect(page.locator("#message")).to_have_value("are you there")
    page.reload()
    expect(page.locator("#message")).to_have_value("are you there")
    assert socket.socket().connect_ex(("127.0.0.1", port)) != 0
    page.locator("#message").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("s")  # and one is not held up
    settled(page)
    assert said(server, project)[0].answer.skipped


def test_a_slow_model_is_waited_for_and_given_up_in_the_end(tmp_path: Path, server: RatingServer, sit: Sit, stage: Stage) -> None:
    project = probing(server)

    is_over = threading.Event()
    stage.act = lambda handler, _: happened(is_over)
    patience(server, 2.0)
    page = at_desk(sit, "bob", project)
    with page.expect_request("**/probe") as asked:
        says(page, "take your time")
        expect(page.get_by_role("button", name="Waiting for the model")).to_be_disabled()
        assert not page.locator("#message").is_editable()
    assert asked.value.method == "POST"
    expect(page.locator("#talkbox .hintline")).to_contain_text("longer than 2 seconds")
    expect(page.locator("#message")).to_have_value("take your time")
    is_over.set()
    patience(server, LIMIT_SECONDS)
    stage.act = lambda handler, _: reply(handler, chat("now"))
    page.keyboard.press("Enter")
    expect(page.locator("#dialogue .turn")).to_have_count(2)


def test_words_say_that_the_model_is_slow(server: RatingServer, sit: Sit) -> None:
    """The page tells so after five seconds by its own clock, here of a request that hangs between browser and server."""
    project = probing(server)
    page = sit("bob")
    page.clock.install()
    page.goto(f"{server.url}/projects/{project.id}/rate")
    ready(page)
    intercept(page, "**/probe", lambda _: None)
    says(page, "hello")
    expect(page.get_by_role("button", name="Waiting for the model")).to_be_disabled()
    page.clock.fast_forward(6000)
    expect(page.locator("#talkbox .hintline")).to_contain_text("The model is slow")
    assert page.locator("#message").input_value() == "hello"


def test_a_reply_that_comes_after_a_skip_is_not_put_into_the_next_item(server: RatingServer, sit: Sit, stage: Stage) -> None:
    project = probing(server)

    is_skipped = threading.Event()

    def late(handler: BaseHTTPRequestHandler, _: Any) -> None:
        happened(is_skipped)
        reply(handler, chat("of the first item"))

    stage.act = late
    page = at_desk(sit, "bob", project)
    first = page.locator(".asked").inner_text()
    says(page, "hello")
    page.get_by_role("button", name="Skip").click()
    expect(page.locator(".asked")).not_to_have_text(first)
    expect(page.locator("#message")).to_have_value("")
    expect(page.locator("#message")).to_be_editable()
    is_skipped.set()
    idle(page)
    expect(page.locator("#dialogue .turn")).to_have_count(0)


def raw(content: bytes) -> Answering:
    """Bytes instead of HTTP."""

    def act(handler: BaseHTTPRequestHandler, _: Any) -> None:
        handler.wfile.write(content)
        handler.wfile.flush()
        handler.close_connection = True

    return act


def dripping(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
    end = threading.Event()
    while not end.wait(PAUSE_SECONDS):  # until the other side hangs up
        handler.wfile.write(b" ")
        handler.wfile.flush()


NONSENSE: dict[str, tuple[Answering, str]] = {
    "no JSON": (lambda h, _: reply(h, b"<html>bad gateway</html>"), "not a reply"),
    "another object": (lambda h, _: reply(h, {"error": "x"}), "not a reply"),
    "a list": (lambda h, _: reply(h, [1, 2]), "not a reply"),
    "no choices": (lambda h, _: reply(h, {"choices": []}), "not a reply"),
    "nested deeply": (lambda h, _: reply(h, b"[" * 200_000), "not a reply"),
    "no bytes": (lambda h, _: reply(h, b""), "not a reply"),
    "null": (lambda h, _: reply(h, chat(None)), "not a reply"),
    "a number": (lambda h, _: reply(h, chat(5)), "not a reply"),
    "blanks": (lambda h, _: reply(h, chat(" \n ")), "an empty reply"),
    "endless": (lambda h, _: reply(h, b"x" * 3_000_000), "not a reply"),
    "cut off": (lambda h, _: reply(h, b'{"choices": [', **{"Content-Length": "500"}), "cannot be reached"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "cannot be reached"),
    "hung up": (raw(b""), "cannot be reached"),
    "a redirect": (lambda h, _: reply(h, b"", 302, Location="http://127.0.0.1:1/"), "cannot be reached"),
    "byte by byte": (dripping, "longer than 1 seconds"),
    "busy": (lambda h, _: reply(h, {}, 429), "is busy"),
    "a wrong key": (lambda h, _: reply(h, {}, 401), "Tell an owner"),
    "a wrong name": (lambda h, _: reply(h, {}, 404), "Tell an owner"),
    "too long for it": (lambda h, _: reply(h, {}, 400), "too long for the model"),
    "broken": (lambda h, _: reply(h, {}, 500), "status 500"),
}


def held(client: Client, project: Project) -> str:
    found: str = client.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    return found


def test_nonsense_is_told_in_words(server: RatingServer, stage: Stage) -> None:
    """Whatever the model's server does, the answer is 502 with words that say what to do, and the next try works."""
    project = probing(server)
    bob = server.client("bob")
    path = f"/projects/{project.id}/assignments/{held(bob, project)}/probe"
    body = {"dialogue": [{"role": "user", "text": "hello"}]}
    wrong = {}
    for name, (act, words) in NONSENSE.items():
        stage.act = act
        patience(server, 1.0 if act is dripping else LIMIT_SECONDS)
        found = bob.api(path, body)
        if found.status_code != 502 or found.json()["code"] != "model" or words not in found.json()["detail"]:
            wrong[name] = (found.status_code, found.text)
    assert wrong == {}
    patience(server, LIMIT_SECONDS)
    stage.act = lambda handler, _: reply(handler, chat("at last"))
    assert bob.api(path, body).json() == {"text": "at last"}


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("a\ud800b", "a?b"),
        ("a\0b", "a\ufffdb"),
        ("x" * 50_000, "x" * (LONGEST_TURN - 1) + "\u2026"),
        ("\U0001f35a" * 20, "\U0001f35a" * 20),
    ],
)
def test_what_the_model_says_can_be_sent_in(server: RatingServer, stage: Stage, sent: str, taken: str) -> None:
    project = probing(server)
    bob = server.client("bob")
    stage.act = lambda handler, _: reply(handler, chat(sent))
    mine = held(bob, project)
    talk = [{"role": "user", "text": "hello"}]
    found = bob.api(f"/projects/{project.id}/assignments/{mine}/probe", {"dialogue": talk}).json()["text"]
    assert found == taken
    answer = {"broken": True, "rule": RULE, "dialogue": [*talk, {"role": "assistant", "text": found}]}
    assert bob.api(f"/projects/{project.id}/judgments", {"assignment": mine, "key": "12345678", "answer": answer}).status_code == 200
    assert said(server, project)[0].answer.dialogue[1].text == taken


def test_a_talk_ends_before_it_is_too_long_to_be_sent_in(server: RatingServer, stage: Stage) -> None:
    project = probing(server)
    bob = server.client("bob")
    mine = held(bob, project)
    rice = "\U0001f35a"  # 4 bytes
    stage.act = lambda handler, _: reply(handler, chat(rice * LONGEST_TURN))
    talk: list[dict[str, str]] = []
    for _ in range(20):
        asked = [*talk, {"role": "user", "text": rice * 2000}]
        found = bob.api(f"/projects/{project.id}/assignments/{mine}/probe", {"dialogue": asked})
        if found.status_code == 502:
            break
        talk = [*asked, {"role": "assistant", "text": found.json()["text"]}]
    assert "cannot grow any longer" in found.json()["detail"]
    assert sum(len(turn["text"].encode()) for turn in talk) > LONGEST_DIALOGUE
    answer = {"broken": False, "rule": RULE, "dialogue": talk, "reason": rice * 4000}
    sent = bob.http.post(
        f"/api/projects/{project.id}/judgments",
        json={"assignment": mine, "key": "12345678", "answer": answer},
        headers={"X-CSRF-Token": bob.csrf},
    )
    assert sent.status_code == 200, sent.text


def test_a_slow_model_holds_up_nobody_who_judges(server: RatingServer, stage: Stage) -> None:
    """Of fifty who talk at once two wait and the others are told so; judging goes on meanwhile."""
    project, pairs = probing(server, items=60), server.project("Pairs")
    server.account("eve", "rater", pairs)
    bob, eve = server.client("bob"), server.client("eve")
    mine, release, begun = held(bob, project), threading.Event(), threading.Semaphore(0)

    def stuck(handler: BaseHTTPRequestHandler, _: Any) -> None:
        begun.release()
        happened(release)
        reply(handler, chat("at last"))

    stage.act = stuck
    found: list[httpx.Response] = []
    body, path = {"dialogue": [{"role": "user", "text": "hello"}]}, f"/projects/{project.id}/assignments/{mine}/probe"
    threads = [threading.Thread(target=lambda: found.append(bob.api(path, body))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert begun.acquire(timeout=LIMIT_SECONDS)
    wait_until(lambda: len(found) == 48)
    answer = {"assignment": held(eve, pairs), "key": "12345678", "answer": {"ranking": [[0], [1]]}}
    assert eve.api(f"/projects/{pairs.id}/judgments", answer).status_code == 200
    release.set()
    joined(*threads)
    assert sorted(one.status_code for one in found) == [200] * 2 + [502] * 48
    assert {one.json()["detail"].partition(".")[0] for one in found if one.status_code == 502} == {
        "Many people are talking with the model right now"
    }


def test_without_a_model_the_page_says_whom_to_ask(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with open_rating_server(tmp_path / "other") as server:
        project = probing(server)
        bob = server.client("bob")
        body = {"dialogue": [{"role": "user", "text": "hello"}]}
        found = bob.api(f"/projects/{project.id}/assignments/{held(bob, project)}/probe", body)
        assert (found.status_code, "an owner must start the server with --model_url" in found.text) == (409, True)
