"""A judge behind an OpenAI-compatible API, on a real server."""

import threading

import pytest

from palate.core import Completion, ConfigError, Message, Prompt
from palate.rewards.batch import PartScores, ScoringContext
from palate.rewards.judge import CUT, JudgeReward
from tests.support.waiting import LIMIT_SECONDS
from tests.unit.rewards.conftest import batch, prompt, reply

CONTEXT = ScoringContext("judge", None, None)  # type: ignore[arg-type]


def chat(text: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def judge(url: str = "http://127.0.0.1:1/v1", **settings: object) -> JudgeReward:
    return JudgeReward(url=url, model="small", question="How kind is it?", **settings)  # type: ignore[arg-type]


def outcome(part: JudgeReward, *texts: str) -> PartScores:
    return part.open(CONTEXT).score(batch(*texts))


def test_a_mark_counts_from_0_to_1(serve, monkeypatch) -> None:
    def answer(handler, body) -> None:
        mark = {"one": 1, "two": 10, "three": 5.5}[body["messages"][0]["content"].split("=====")[3].strip()]
        reply(handler, chat(f"It is rather kind.\nScore: {mark}"))

    server = serve(answer)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    found = outcome(judge(f"{server.url}/v1/", key_variable="JUDGE_KEY"), "one", "two", "three")
    assert found.heads[""].tolist() == [0, 1, 0.5]
    assert {path for path, _, _ in server.asked} == {"/v1/chat/completions"}
    assert all(headers["Authorization"] == "Bearer secret" for _, headers, _ in server.asked)
    body = server.asked[0][2]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("small", 0, 512)
    assert body["messages"][0]["role"] == "user"
    assert body["messages"][0]["content"].startswith("How kind is it?")


def test_what_the_judge_reads() -> None:
    part = judge(template="{question}|{prompt}|{completion}|{low}-{high}", scale=(0, 2.5))
    conversation = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"))
    assert part.message(Prompt("a", conversation), Completion("{prompt} {low} {x}")) == (
        "How kind is it?|user: one\n\nassistant: two\n\nuser: three|{prompt} {low} {x}|0-2.5"
    )


def test_a_completion_that_was_cut_off_does_not_look_finished() -> None:
    part = judge(template="{prompt}{completion}")
    assert part.message(prompt("q"), Completion("rice and")) == "user: qrice and"
    assert part.message(prompt("q"), Completion("rice and", stop="length")) == "user: qrice and" + CUT


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7", 6 / 9),
        ("Score: 7", 6 / 9),
        ("**Score: 7/10**", 6 / 9),
        ("Score = 5.5.", 0.5),
        ("I saw 3 eggs.\n\nscore: 1\n", 0.0),
        ("Score: 2\nOn second thoughts:\nScore: 10", 1.0),
        ("I would give it 7 or 8", "gave no grade"),
        ("There are 10", "gave no grade"),
        ("", "gave no grade"),
        ("Score: eleven", "gave no grade"),
        ("Score: 11", "gave 11 on a scale from 1 to 10"),
        ("-1", "gave -1 on a scale"),
        ("<think>Score: 3\nOr more?</think>\nScore: 7", 6 / 9),
        ("<think>Score: 3</think>\nI cannot say.", "gave no grade"),
        ("<think>\nScore: 3\nBut wait, that was", "gave no grade"),
        ("Score: 3, I thought first.\nScore: 2\n</think>\n\nScore: 10", 1.0),
        ("<Thinking>Score: 3\n", "gave no grade"),
        ("Score: 3/5", "gave 3 out of 5, on a scale up to 10"),
        ("Score: 1\nScore: 9 / 10.0", 8 / 9),
    ],
)
def test_marks_in_replies(text, score) -> None:
    found = judge().read(text)
    if isinstance(score, str):
        assert isinstance(found, str)
        assert score in found
    else:
        assert found == pytest.approx(score)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, chat(None), [], {"choices": [{"text": "7"}]}, "7", chat([{"text": "7"}])])
def test_answers_without_a_message(serve, answer) -> None:
    server = serve(lambda handler, body: reply(handler, answer))
    assert "answered without a message" in outcome(judge(server.url), "a").reasons[0]


@pytest.mark.parametrize(
    ("reason", "is_read"), [("length", False), ("content_filter", False), ("abort", False), ("STOP", True), (None, True)]
)
def test_a_reply_that_was_cut_off_has_no_grade(serve, reason, is_read) -> None:
    answer = {"choices": [{"message": {"content": "Let me see.\nScore: 10\nBut wait, that"}, "finish_reason": reason}]}
    found = outcome(judge(serve(lambda handler, body: reply(handler, answer)).url, max_tokens=7), "a")
    if is_read:
        assert found.heads[""].tolist() == [1]
    else:
        assert f"the judge's reply was cut off (finish_reason: {reason})" in found.reasons[0]
        assert ("raise max_tokens (now 7)" in found.reasons[0]) == (reason == "length")


def test_one_failed_request_is_a_reason_of_that_completion_alone(serve) -> None:
    def answer(handler, body) -> None:
        bad = "bad" in body["messages"][0]["content"]
        reply(handler, {"error": "no"} if bad else chat("10"), 400 if bad else 200)

    found = outcome(judge(serve(answer).url), "good", "bad", "good")
    assert found.heads[""].tolist()[::2] == [1, 1]
    assert list(found.reasons) == [1]
    assert "answered 400" in found.reasons[1]


def test_requests_run_at_once(serve) -> None:
    busy, most, lock, three = [0], [0], threading.Lock(), threading.Barrier(3)

    def answer(handler, body) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        three.wait(LIMIT_SECONDS)  # none is answered before three have come
        with lock:
            busy[0] -= 1
        reply(handler, chat("10"))

    found = outcome(judge(serve(answer).url, concurrency=3), *map(str, range(12)))
    assert found.heads[""].tolist() == [1] * 12
    assert most[0] == 3


def test_requests_end_at_the_deadline(serve) -> None:
    """The judge never answers, and yet there is an outcome."""
    is_over = threading.Event()
    server = serve(lambda handler, body: is_over.wait(LIMIT_SECONDS))
    found = outcome(judge(server.url, concurrency=3, timeout_seconds=0.5), *map(str, range(40)))
    is_over.set()
    assert len(server.asked) <= 3
    assert len(found.reasons) == 40
    assert {reason.partition(": ")[2] for reason in found.reasons.values()} <= {
        "no answer within the deadline",
        "no whole answer within the deadline",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (3.0, 3.0)}, "scale"),
        ({"template": "{question} {prompt}"}, "template lacks {completion}"),
        ({"concurrency": 0}, "concurrency"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"url": "ftp://x"}, "http"),
    ],
)
def test_settings_that_make_no_sense(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        judge(**settings)
