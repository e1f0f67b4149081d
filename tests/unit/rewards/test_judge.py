"""A judge behind an OpenAI-compatible API, on a real server."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Completion, ConfigError, Message, Prompt
from palate.judges.endpoint import OpenAIJudge
from palate.judges.instruction_files import CUT, Instructions, load_instructions
from palate.judges.verdicts import OptionProbabilities, WrittenVerdict, mark_in
from palate.rewards.batch import PartScores, ScoringContext
from palate.rewards.judge import JudgeReward
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.testing.chat_answers import chat_answer
from tests.support.waiting import LIMIT_SECONDS
from tests.unit.rewards.conftest import batch, prompt, reply

INSTRUCTIONS = """id: kind
scale: pointwise
user: "How kind is it? {prompt}=====

  {completion}

  ====={low}-{high}"
answer: Answer with the mark alone.
reason: "Write one line `Score: N` at the end."
verdict: Which mark?
options: ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]
"""

Outcome = Callable[..., PartScores]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "kind.yaml").write_text(INSTRUCTIONS)
    return str(tmp_path / "kind.yaml")


@pytest.fixture
def outcome(tmp_path: Path, file: str) -> Iterator[Outcome]:
    """What a judge says of texts, in a run of its own."""
    run = open_run_at(tmp_path / "run", RunPlan("online", "online"))
    opened = []

    def scores(url: str, *texts: str, part: dict[str, object] | None = None, **settings: object) -> PartScores:
        model = OpenAIJudge(url=url, model="small", **settings)  # type: ignore[arg-type]
        judge = JudgeReward(model=model, **{"instructions": file, **(part or {})})  # type: ignore[arg-type]
        opened.append(judge.open(ScoringContext("judge", None, None, run)))  # type: ignore[arg-type]
        return opened[-1].score(batch(*texts))

    yield scores
    for scorer in opened:
        scorer.close()


def chat(text: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def test_a_mark_counts_from_0_to_1(serve, monkeypatch, outcome: Outcome) -> None:
    def answer(handler, body) -> None:
        mark = {"one": 1, "two": 10, "three": 5.5}[body["messages"][0]["content"].split("=====")[1].strip()]
        reply(handler, chat(f"It is rather kind.\nScore: {mark}"))

    server = serve(answer)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    found = outcome(f"{server.url}/v1/", "one", "two", "three", key_variable="JUDGE_KEY")
    assert found.heads[""].tolist() == [0, 1, 0.5]
    assert {path for path, _, _ in server.asked} == {"/v1/chat/completions"}
    assert all(headers["Authorization"] == "Bearer secret" for _, headers, _ in server.asked)
    body = server.asked[0][2]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("small", 0, 512)
    assert body["messages"][0]["role"] == "user"
    assert body["messages"][0]["content"].startswith("How kind is it?")
    assert body["messages"][0]["content"].endswith("Write one line `Score: N` at the end.")


def test_equal_completions_are_asked_about_once_and_later_ones_not_again(serve, outcome: Outcome) -> None:
    server = serve(lambda handler, body: reply(handler, chat("Score: 10")))
    assert outcome(server.url, "one", "one", "two").heads[""].tolist() == [1, 1, 1]
    assert outcome(server.url, "two", "one").heads[""].tolist() == [1, 1]
    assert len(server.asked) == 2


def test_the_expected_mark_is_read_from_probabilities(serve, outcome: Outcome) -> None:
    likely = {"2": -0.6931471805599453, "5": -1.3862943611198906, " 4": -1.3862943611198906}
    server = serve(lambda handler, body: reply(handler, chat_answer("2", options=likely)))
    part = {"instructions": "helpful-pointwise", "verdict": OptionProbabilities(), "reasons_first": False}
    assert outcome(server.url, "one", part=part).heads[""].tolist() == pytest.approx([(3.25 - 1) / 4])
    assert server.asked[0][2]["logprobs"] is True


def instructions(user: str = "{prompt}|{completion}|{low}-{high}", options: tuple[str, ...] = ("0", "2.5")) -> Instructions:
    return Instructions(id="a", scale="pointwise", user=user, answer="", reason="", verdict="", options=options)


def asked(given: Instructions, of: Prompt, completion: Completion) -> str:
    (turn,) = given.question(of, (completion,), "", reasons_first=False)
    return turn.text.strip()


def test_what_the_judge_reads() -> None:
    conversation = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"))
    assert asked(instructions(), Prompt("a", conversation), Completion("{prompt} {low} {x}")) == (
        "user: one\n\nassistant: two\n\nuser: three|{prompt} {low} {x}|0-2.5"
    )


def test_a_completion_that_was_cut_off_does_not_look_finished() -> None:
    part = instructions("{prompt}{completion}")
    assert asked(part, prompt("q"), Completion("rice and")) == "user: qrice and"
    assert asked(part, prompt("q"), Completion("rice and", stop="length")) == "user: qrice and" + CUT


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
    found = mark_in(text, tuple(range(1, 11)))
    if isinstance(score, str):
        assert isinstance(found, str)
        assert score in found
    else:
        assert isinstance(found, float)
        assert (found - 1) / 9 == pytest.approx(score)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, chat(None), [], {"choices": [{"text": "7"}]}, "7", chat([{"text": "7"}])])
def test_answers_without_a_message(serve, answer, outcome: Outcome) -> None:
    server = serve(lambda handler, body: reply(handler, answer))
    assert "answered without a message" in outcome(server.url, "a").reasons[0]


@pytest.mark.parametrize(
    ("reason", "is_read"), [("length", False), ("content_filter", False), ("abort", False), ("STOP", True), (None, True)]
)
def test_a_reply_that_was_cut_off_has_no_grade(serve, reason, is_read, outcome: Outcome) -> None:
    answer = {"choices": [{"message": {"content": "Let me see.\nScore: 10\nBut wait, that"}, "finish_reason": reason}]}
    found = outcome(serve(lambda handler, body: reply(handler, answer)).url, "a", max_tokens=7)
    if is_read:
        assert found.heads[""].tolist() == [1]
    else:
        assert f"the reply was cut off (finish_reason: {reason})" in found.reasons[0]
        assert ("raise max_tokens" in found.reasons[0]) == (reason == "length")


def test_one_failed_request_is_a_reason_of_that_completion_alone(serve, outcome: Outcome) -> None:
    def answer(handler, body) -> None:
        bad = "bad" in body["messages"][0]["content"]
        reply(handler, {"error": "no"} if bad else chat("10"), 400 if bad else 200)

    found = outcome(serve(answer).url, "good", "bad", "fine")
    assert found.heads[""].tolist()[::2] == [1, 1]
    assert list(found.reasons) == [1]
    assert "answered 400" in found.reasons[1]


def test_requests_run_at_once(serve, outcome: Outcome) -> None:
    busy, most, lock, three = [0], [0], threading.Lock(), threading.Barrier(3)

    def answer(handler, body) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        three.wait(LIMIT_SECONDS)  # none is answered before three have come
        with lock:
            busy[0] -= 1
        reply(handler, chat("10"))

    found = outcome(serve(answer).url, *map(str, range(12)), concurrency=3)
    assert found.heads[""].tolist() == [1] * 12
    assert most[0] == 3


def test_requests_end_at_the_deadline(serve, outcome: Outcome) -> None:
    """The judge never answers, and yet there is an outcome."""
    is_over = threading.Event()
    server = serve(lambda handler, body: is_over.wait(LIMIT_SECONDS))
    found = outcome(server.url, *map(str, range(6)), concurrency=3, timeout_seconds=0.5)
    is_over.set()
    assert len(server.asked) <= 6
    assert len(found.reasons) == 6
    assert {reason.partition(": ")[2] for reason in found.reasons.values()} <= {
        "no answer within the deadline",
        "no whole answer within the deadline",
        "no whole answer within the deadline. Raise model.timeout_seconds, or lower model.concurrency",
    }


def test_settings_that_make_no_sense(tmp_path: Path, outcome: Outcome) -> None:
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigError, match="instructions helpful compare completions"):
        outcome(url, part={"instructions": "helpful"})
    with pytest.raises(ConfigError, match="ask about a principle"):
        outcome(url, part={"instructions": "principle-pointwise"})
    with pytest.raises(ConfigError, match="'1' and '10' can begin with the same token"):
        outcome(url, part={"verdict": OptionProbabilities(), "reasons_first": False})
    with pytest.raises(ConfigError, match="need reasons_first: false"):
        outcome(url, part={"verdict": OptionProbabilities()})
    with pytest.raises(ConfigError, match="http"):
        OpenAIJudge(url="ftp://x", model="small")
    bad = replace(load_instructions("helpful-pointwise"), id="bad")
    with pytest.raises(ConfigError, match="user lacks {completion}"):
        replace(bad, user="{prompt}")
    with pytest.raises(ConfigError, match="marks from the lowest to the highest"):
        replace(bad, options=("3", "1"))
    assert JudgeReward(model=OpenAIJudge(url=url, model="a"), instructions="x").verdict == WrittenVerdict()
