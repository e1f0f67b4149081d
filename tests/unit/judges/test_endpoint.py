"""A judge behind an API: what is sent, what is tried again and what that costs, and replies that hold no answer."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, Message
from palate.judges.endpoint import EndpointModel, OpenAIJudge
from palate.judges.judge_ledger import LEDGER, Budget, JudgeLedger
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.judges.option_tokens import option_logps, same_first_token
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.testing.chat_answers import chat_answer, option_answer
from tests.support.waiting import LIMIT_SECONDS
from tests.unit.judges.conftest import endpoint

Ask = Callable[..., list[JudgeReply | NoReply]]


def question(text: str = "which?", options: tuple[str, ...] = (), draw: int = 0) -> JudgeQuestion:
    return JudgeQuestion((Message("user", text),), options, draw)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Asks a model with these settings, in the run of a folder."""
    models: list[EndpointModel] = []

    def replies(settings: OpenAIJudge, *questions: JudgeQuestion, folder: str = "run", seed: int = 0) -> list[JudgeReply | NoReply]:
        models.append(settings.open(open_run_at(tmp_path / folder, RunPlan("a", "collect", seed=seed))))
        return list(models[-1].replies(questions))

    yield replies
    for model in models:
        model.close()


def test_what_is_sent(serve_model, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server = serve_model(lambda body: (200, option_answer(0.0) if "logprobs" in body else chat_answer("hm")))
    settings = endpoint(server.url, key_variable="JUDGE_KEY", extra={"chat_template_kwargs": {"enable_thinking": False}}, temperature=0.7)
    begun = JudgeQuestion((Message("user", "a"), Message("assistant", "I say (")))
    ask(settings, question(options=("A", "B")), question(draw=1), question(draw=2), begun)
    by_text = {json.dumps(body["messages"][-1]) + str("logprobs" in body): body for _, _, body in server.asked}
    assert len(server.asked) == 4
    options = next(body for body in by_text.values() if "logprobs" in body)
    assert (options["max_tokens"], options["top_logprobs"], options["temperature"], "seed" in options) == (1, 20, 0, False)
    seeds = {body.get("seed") for _, _, body in server.asked}
    assert len(seeds) == 4  # draws 0, 1, 2, and none where nothing is drawn
    assert all(seed is None or 0 <= seed < 2**31 for seed in seeds)
    continued = next(body for _, _, body in server.asked if body["messages"][-1]["role"] == "assistant")
    assert continued["continue_final_message"] is True
    assert continued["add_generation_prompt"] is False
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for _, _, body in server.asked)
    headers = [headers for _, headers, _ in server.asked]
    assert {one["Authorization"] for one in headers} == {"Bearer secret"}
    assert len({one["Idempotency-Key"] for one in headers}) == 4


def test_a_field_of_extra_replaces_and_null_leaves_out(serve_model, ask: Ask) -> None:
    server = serve_model(lambda body: (200, chat_answer("hm")))
    ask(endpoint(server.url, extra={"max_tokens": None, "max_completion_tokens": 9}), question())
    assert "max_tokens" not in server.asked[0][2]
    assert server.asked[0][2]["max_completion_tokens"] == 9


def test_what_changes_an_answer_asks_again_and_nothing_else_does(serve_model, ask: Ask) -> None:
    server = serve_model(lambda body: (200, chat_answer("hm")))
    settings = endpoint(server.url)
    ask(settings, question(), question())
    ask(replace(settings, concurrency=2, timeout_seconds=5.0, price_in=3.0), question())
    assert len(server.asked) == 1
    for count, changed in enumerate([replace(settings, max_tokens=3), replace(settings, model="big")], start=2):
        ask(changed, question())
        assert len(server.asked) == count


def test_busy_and_broken_servers_are_asked_again(serve_model, ask: Ask) -> None:
    calls: list[int] = []

    def answer(body: Any) -> tuple[int, object] | tuple[int, object, dict[str, str]]:
        calls.append(1)
        match len(calls):
            case 1:
                return 429, {"error": "slow down"}, {"Retry-After": "0"}
            case 2:
                return 503, b"<html>bad gateway</html>"
            case 3:
                return 200, b'{"choices": [', {"Content-Length": "500"}
        return 200, chat_answer("hm", usage=(7, 2))

    server = serve_model(answer)
    (reply,) = ask(endpoint(server.url, price_in=1e6, price_out=1e6, budget=Budget(cost=5000.0)), question())
    assert isinstance(reply, JudgeReply)
    assert (reply.text, reply.tokens_in, reply.tokens_out, reply.cost) == ("hm", 7, 2, 9.0)
    assert len(calls) == 4


def test_an_answer_that_broke_off_is_charged_and_a_refused_request_is_not(serve_model, tmp_path: Path) -> None:
    calls: list[int] = []

    def answer(body: Any) -> tuple[int, object] | tuple[int, object, dict[str, str]]:
        calls.append(1)
        if len(calls) == 1:
            return 500, {}
        return (200, b"{", {"Content-Length": "9"}) if len(calls) == 2 else (200, chat_answer("hm", usage=(7, 2)))

    settings = endpoint(serve_model(answer).url, max_tokens=10)
    model = settings.open(open_run_at(tmp_path / "run", RunPlan("a", "collect")))
    list(model.replies([question()]))
    model.close()
    lost, ledger = len("which?") + 64 + 10, JudgeLedger(tmp_path / "run" / LEDGER)
    assert ledger.spent().tokens == lost + 9
    ledger.close()


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((200, b"<html>hello</html>"), "invalid", "something that is not JSON"),
        ((404, {"error": "no such model"}), "status", "answered 404"),
        ((401, {"error": "who are you"}), "status", "answered 401"),
        ((200, b"data: {}", {"Content-Type": "text/event-stream"}), "invalid", "neither a page nor a stream"),
        ((200, {"choices": []}), "invalid", "without a message"),
        ((200, chat_answer(None, refusal="I cannot judge this.")), "refused", "I cannot judge this."),
    ],
)
def test_what_is_not_an_answer(serve_model, ask: Ask, answer: tuple[int, object], kind: str, told: str) -> None:
    server = serve_model(lambda body: answer)
    (reply,) = ask(endpoint(server.url), question())
    assert isinstance(reply, NoReply)
    assert reply.kind == kind
    assert told in reply.reason
    assert len(server.asked) == 1


def test_a_failure_comes_with_its_own_remedy(serve_model, ask: Ask) -> None:
    """A server that breaks off was started, and its address is right."""
    half = (200, b'{"choices": ', {"Content-Length": "40"})
    for answer, words, settings in (
        (half, "the answer broke off after 12 bytes (tried once). Look at the server's log", {}),
        ((503, {}), "(tried once). Look at the server's log", {}),
        ((429, {}), "(tried once). Lower model.concurrency", {}),
        ((404, {}), "or set model.scoring to chat", {"scoring": "generative_scoring"}),
    ):
        (reply,) = ask(endpoint(serve_model(lambda body, answer=answer: answer).url, attempts=1, **settings), question(options=("A", "B")))
        assert isinstance(reply, NoReply)
        assert words in reply.reason


def test_a_server_that_is_not_there(ask: Ask) -> None:
    (reply,) = ask(endpoint(attempts=2), question())
    assert isinstance(reply, NoReply)
    assert reply.kind == "unreachable"
    assert "tried 2 times" in reply.reason


def test_a_server_that_does_not_answer(serve_model, ask: Ask) -> None:
    is_over = threading.Event()
    server = serve_model(lambda body: (200, is_over.wait(LIMIT_SECONDS)))
    (reply,) = ask(endpoint(server.url, timeout_seconds=0.5), question())
    is_over.set()
    assert isinstance(reply, NoReply)
    assert reply.kind == "timeout"


def test_failures_are_asked_again_by_the_next_process(serve_model, ask: Ask) -> None:
    server = serve_model(lambda body: (400, {}))
    assert isinstance(ask(endpoint(server.url), question())[0], NoReply)
    server.answer = lambda body: (200, chat_answer("hm"))
    (reply,) = ask(endpoint(server.url), question())
    assert isinstance(reply, JudgeReply)


def test_replies_come_in_the_order_of_the_questions(serve_model, ask: Ask) -> None:
    first = threading.Event()

    def answer(body: Any) -> tuple[int, object]:
        number = body["messages"][0]["content"]
        if number == "0":
            first.wait(LIMIT_SECONDS)
        elif number == "5":
            first.set()
        return 200, chat_answer(number)

    found = ask(endpoint(serve_model(answer).url, concurrency=8), *(question(str(k)) for k in range(6)))
    assert [reply.text for reply in found if isinstance(reply, JudgeReply)] == list("012345")


def test_a_server_that_does_not_count_tokens_is_charged_at_the_most(serve_model, ask: Ask) -> None:
    (reply,) = ask(endpoint(serve_model(lambda body: (200, chat_answer("hm", usage=None))).url, max_tokens=10), question())
    assert isinstance(reply, JudgeReply)
    assert (reply.tokens_in, reply.tokens_out) == (len("which?") + 64, 10)


def test_log_probabilities_of_options() -> None:
    tokens = [("A", math.log(0.5)), (" A", math.log(0.1)), (" B", math.log(0.2)), ("I", math.log(0.1)), ("", math.log(0.01))]
    found = option_logps(("A", "B", "C"), tokens)
    assert found == (pytest.approx(math.log(0.6)), pytest.approx(math.log(0.2)), -math.inf)
    assert option_logps(("first", "fourth"), [("f", -0.1), ("fir", -1.0)]) == (-1.0, -math.inf)


@pytest.mark.parametrize(
    ("options", "pair"), [(("A", "B"), None), (("1", "5", "10"), ("1", "10")), (("yes", "no", "neither"), ("no", "neither")), ((), None)]
)
def test_options_that_can_begin_alike(options: tuple[str, ...], pair: tuple[str, str] | None) -> None:
    assert same_first_token(options) == pair


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://x"}, "http"),
        ({"price_in": -1.0}, "price_in"),
        ({"budget": Budget(cost=3.0)}, "has no meaning without prices"),
        ({"timeout_seconds": math.inf}, "finite"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        endpoint(**settings)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_KEY holds no key"):
        endpoint(key_variable="NO_SUCH_KEY").open(open_run_at(tmp_path / "run", RunPlan("a", "collect")))


def test_vllm_scores_the_tokens_of_options(serve_model, ask: Ask) -> None:
    """Its answers are probabilities of the first label among all tokens; a token is a character here."""
    probabilities = {ord("A"): 0.3, ord("B"): 0.1}

    def answer(body: Any) -> tuple[int, object]:
        if "label_token_ids" in body:
            assert body["query"] + body["items"][0] == [1, 2, 3]
            assert body["apply_softmax"] is False
            return 200, {"data": [{"index": 0, "object": "score", "score": probabilities[body["label_token_ids"][0]]}]}
        if "prompt" in body:
            return 200, {"tokens": [ord(letter) for letter in body["prompt"]]}
        assert body.keys() == {"model", "messages", "add_generation_prompt"}
        return 200, {"tokens": [1, 2, 3]}

    server = serve_model(answer)
    settings = endpoint(server.url, scoring="generative_scoring", price_in=1e6)
    (reply,) = ask(settings, question(options=("A", "B")))
    assert isinstance(reply, JudgeReply)
    assert reply.logps == (pytest.approx(math.log(0.3)), pytest.approx(math.log(0.1)))
    assert (reply.tokens_in, reply.tokens_out, reply.cost) == (6, 2, 6.0)
    assert [path for path, _, _ in server.asked] == ["/tokenize"] * 3 + ["/generative_scoring"] * 2
    settings.check(("1", "10"), 1)
    (none,) = ask(settings, question(options=("1", "10")))
    assert isinstance(none, NoReply)
    assert "begins the options '1' and '10' with the same token" in none.reason
