"""Judges as raters of stage collect: both orders, soft labels, abstentions, what the summary says, and exact continuation."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, DataError, RunError
from palate.judges.function_judge import FunctionJudge
from palate.judges.judge_ledger import Budget
from palate.judges.judge_rater import JudgeRater
from palate.judges.verdicts import OptionProbabilities, SampledVerdicts, WrittenVerdict
from palate.testing.chat_answers import asked_pair, chat_answer, option_answer
from tests.unit.judges.conftest import collected, endpoint, rows, samples, worth


def by_worth(bias: float = 0.0):
    """A judge with half a logit per point, and a bias for what it sees first."""

    def answer(body: Any) -> tuple[int, object]:
        first, second = asked_pair(body)
        return 200, option_answer((worth(first) - worth(second)) / 2 + bias)

    return answer


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_both_orders_are_asked_and_the_label_is_their_mean(serve_model, tmp_path: Path) -> None:
    server = serve_model(by_worth(bias=1.0))
    summary = collected(tmp_path / "run", samples(tmp_path), JudgeRater(model=endpoint(server.url)))
    judgments, preferences = rows(tmp_path / "run", "judgments"), rows(tmp_path / "run", "preferences")
    assert len(server.asked) == len(judgments) == 12
    (name,) = {row["rater"] for row in judgments}
    assert name.startswith("small/helpful@")
    assert [row["order"] for row in judgments[:2]] == [[0, 1], [1, 0]]
    for k, row in enumerate(preferences):
        difference = (k % 10 - (7 + k) % 10) / 2
        share = (sigmoid(difference + 1) + 1 - sigmoid(-difference + 1)) / 2
        assert row["probability"] == pytest.approx(max(share, 1 - share), abs=1e-12)
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert worth(chosen) > worth(rejected)
        assert row["raters"] == [name]
        assert row["votes"] == [1]
    assert summary["questions"] == 6
    assert "agreement" not in summary
    judges = summary["judges"]
    assert (judges["requests"], judges["tokens_in"], judges["tokens_out"]) == (12, 1200, 12)
    assert judges["abstentions"] == {}


@pytest.mark.parametrize("bias", [1.0, -3.0])
def test_a_bias_for_a_side_leaves_no_trace_in_the_label(serve_model, tmp_path: Path, bias: float) -> None:
    """Completions of equal worth get one half, and who stands first in the file does not matter."""
    server = serve_model(by_worth(bias))
    given = Path(samples(tmp_path, prompts=10))
    table = [json.loads(line) for line in (given / "samples.jsonl").read_text().splitlines()]
    labels: list[dict[str, float]] = []
    for turn in (False, True):
        for row in table:
            row["completions"] = row["completions"][::-1] if turn else row["completions"]
        folder = tmp_path / str(turn)
        folder.mkdir()
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
        collected(folder / "run", str(folder), JudgeRater(model=endpoint(server.url)))
        labels.append({row["chosen"][0]["content"]: row["probability"] for row in rows(folder / "run", "preferences")})
    assert labels[0].keys() == labels[1].keys()
    assert all(labels[0][text] == pytest.approx(labels[1][text], abs=1e-9) for text in labels[0])


def test_equal_completions_under_a_bias_are_even(serve_model, tmp_path: Path) -> None:
    server = serve_model(lambda body: (200, option_answer(1.0)))
    summary = collected(tmp_path / "run", samples(tmp_path, prompts=25), JudgeRater(model=endpoint(server.url)))
    assert all(row["probability"] == pytest.approx(0.5, abs=1e-9) for row in rows(tmp_path / "run", "preferences"))
    assert all(row["votes"] == [0.5] for row in rows(tmp_path / "run", "preferences"))
    assert summary["judges"]["flips"] == {"share": 1.0, "n": 25}


def test_a_judge_that_always_prefers_one_side_is_warned_about(serve_model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve_model(lambda body: (200, option_answer(1.0)))
    collected(tmp_path / "run", samples(tmp_path, prompts=25), JudgeRater(model=endpoint(server.url)))
    assert "prefers what it sees first in all 25 pairs" in capsys.readouterr().err


def test_a_missing_order_is_an_abstention_and_not_a_tie(serve_model, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        first, second = asked_pair(body)
        if first.startswith("answer 2 ") and worth(first) > worth(second):
            return 200, chat_answer("I", options={"I": -0.01, "Sorry": -5.0})
        return by_worth()(body)

    summary = collected(tmp_path / "run", samples(tmp_path), JudgeRater(model=endpoint(serve_model(answer).url)))
    assert len(rows(tmp_path / "run", "judgments")) == 10
    (row,) = rows(tmp_path / "run", "abstentions")
    assert (row["comparison"], row["kind"], row["dimension"]) == ("p2/0-1", "no_verdict", "helpful")
    assert row["order"] == [1, 0]
    assert "'I'" in row["reason"]
    assert summary["ties"] == 0
    assert summary["questions"] == 5
    assert summary["judges"]["abstentions"] == {"no_verdict": 1}
    assert summary["judges"]["abstained_questions"] == 1


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (chat_answer("Both have their merits."), "no_verdict", "the reply holds no verdict"),
        (chat_answer("Verdict: A, I think, because", finish="length"), "cut", "raise max_tokens"),
        (chat_answer(None, finish="length"), "cut", "cut off"),
        (chat_answer(None, refusal="I will not."), "refused", "I will not."),
    ],
)
def test_replies_without_a_verdict(serve_model, tmp_path: Path, reply: dict[str, object], kind: str, told: str) -> None:
    def answer(body: Any) -> tuple[int, object]:
        return 200, reply if "answer 0 " in body["messages"][-1]["content"] else chat_answer("Verdict: A")

    judge = JudgeRater(model=endpoint(serve_model(answer).url), verdict=WrittenVerdict(), reasons_first=True)
    summary = collected(tmp_path / "run", samples(tmp_path), judge)
    assert summary["judges"]["abstentions"] == {kind: 2}
    assert summary["questions"] == 5
    assert all(told in row["reason"] for row in rows(tmp_path / "run", "abstentions"))


def test_written_verdicts_are_votes_and_are_smoothed(serve_model, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        first, second = asked_pair(body)
        return 200, chat_answer(f"A is short.\n**Verdict: {'A' if worth(first) > worth(second) else 'B'}**")

    judge = JudgeRater(model=endpoint(serve_model(answer).url), verdict=WrittenVerdict(), reasons_first=True)
    collected(tmp_path / "run", samples(tmp_path), judge)
    assert {row["probability"] for row in rows(tmp_path / "run", "preferences")} == {0.75}


def test_samples_are_drawn_apart_and_their_share_is_smoothed(serve_model, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        first, second = asked_pair(body)
        is_first = (worth(first) > worth(second)) == (body["seed"] not in seeds[:1])
        return 200, chat_answer("Verdict: A" if is_first else "Verdict: B")

    seeds: list[int] = []
    server = serve_model(lambda body: (200, chat_answer("A")))
    judge = JudgeRater(model=endpoint(server.url, temperature=1.0), verdict=SampledVerdicts(n=4))
    collected(tmp_path / "first", samples(tmp_path), judge)
    seeds = sorted({body["seed"] for _, _, body in server.asked})
    assert len(seeds) == 4
    assert len(server.asked) == 6 * 2 * 4
    server.answer = answer
    collected(tmp_path / "run", samples(tmp_path), judge)
    assert {row["probability"] for row in rows(tmp_path / "run", "preferences")} == {(3 + 0.5) / 5}


def test_reasons_come_first_and_the_probabilities_are_clamped(serve_model, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        if "logprobs" not in body:
            return 200, chat_answer("<think>hm</think>The first says more.\nVerdict: A")
        assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
        assert body["messages"][2]["content"] == "The first says more.\nVerdict: A"
        return by_worth()(body)

    server = serve_model(answer)
    judge = JudgeRater(model=endpoint(server.url), reasons_first=True, clamp=(0.4, 0.6))
    collected(tmp_path / "run", samples(tmp_path), judge)
    assert len(server.asked) == 24
    assert {row["probability"] for row in rows(tmp_path / "run", "preferences")} == {0.6}


def test_marks_of_single_completions_become_judgments_of_pairs(serve_model, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        mark = worth(body["messages"][-1]["content"].split("=====\n")[3].strip()) // 3 + 1
        return 200, chat_answer(str(mark), options={str(mark): math.log(0.7), str(mark + 1): math.log(0.3)}, finish="length")

    judge = JudgeRater(model=endpoint(serve_model(answer).url), instructions=("helpful-pointwise",))
    collected(tmp_path / "run", samples(tmp_path), judge)
    marks = {row["completion"]: row["mark"] for row in rows(tmp_path / "run", "marks")}
    assert marks == {text: pytest.approx(worth(text) // 3 + 1.3) for text in marks}
    judgments = rows(tmp_path / "run", "judgments")
    assert len(judgments) == 6
    for row in judgments:
        k = int(row["comparison"].split("/")[0][1:])
        first, second = (worth(f"{(j * 7 + k) % 10}") // 3 for j in (0, 1))
        gap = first - second
        expected = {0: 0.5, 1: 0.7 * 0.3 * 0.5 + (1 - 0.7 * 0.3), -1: 0.3 * 0.7 * 0.5}.get(gap, float(gap > 0))
        assert row["probability"] == pytest.approx(expected)
        assert row["strength"] == pytest.approx(abs(gap))
        assert "order" not in row


def test_a_run_that_was_stopped_asks_only_what_has_no_answer(serve_model, tmp_path: Path) -> None:
    answered: list[str] = []

    def fails_later(body: Any) -> tuple[int, object]:
        if len(answered) >= 9:
            return 400, {"error": "out of order"}
        answered.append(json.dumps(body))
        return by_worth()(body)

    server = serve_model(fails_later)
    judge = JudgeRater(model=endpoint(server.url, concurrency=1))
    given = samples(tmp_path)
    with pytest.raises(RunError, match="gave no answer to 2 of 11 requests"):
        collected(tmp_path / "run", given, judge)
    server.answer = by_worth()
    before = len(server.asked)
    collected(tmp_path / "run", given, judge)
    assert len(server.asked) - before == 3
    collected(tmp_path / "straight", given, judge)
    for name in ("judgments", "preferences", "abstentions"):
        assert (tmp_path / "run" / f"{name}.jsonl").read_bytes() == (tmp_path / "straight" / f"{name}.jsonl").read_bytes()
    assert (tmp_path / "run" / "summary.json").read_bytes() == (tmp_path / "straight" / "summary.json").read_bytes()


def test_a_spent_budget_stops_the_run_and_a_larger_one_continues_it(serve_model, tmp_path: Path) -> None:
    server = serve_model(by_worth())
    given = samples(tmp_path)
    prices = {"price_in": 1000.0, "price_out": 10000.0}
    price = 100 * 1000 / 1e6 + 1 * 10000 / 1e6
    with pytest.raises(RunError, match=r"the budget is spent .*of 1\.4.*Raise from\.model\.budget"):
        collected(tmp_path / "run", given, JudgeRater(model=endpoint(server.url, **prices, budget=Budget(cost=1.4))))
    paid = len(server.asked)
    assert 0 < paid * price <= 1.4
    summary = collected(tmp_path / "run", given, JudgeRater(model=endpoint(server.url, **prices, budget=Budget(cost=100.0))))
    assert len(server.asked) == 12
    assert summary["judges"]["cost"] == pytest.approx(12 * price)


def test_a_server_without_log_probabilities_is_an_error_and_not_another_mode(serve_model, tmp_path: Path) -> None:
    server = serve_model(lambda body: (200, chat_answer("A")))
    with pytest.raises(RunError, match="the server gives no log-probabilities"):
        collected(tmp_path / "run", samples(tmp_path), JudgeRater(model=endpoint(server.url)))


def test_a_judge_without_any_verdict_ends_the_run(serve_model, tmp_path: Path) -> None:
    judge = JudgeRater(model=endpoint(serve_model(lambda body: (200, chat_answer("Both are nice."))).url), verdict=WrittenVerdict())
    with pytest.raises(DataError, match="abstained on all 6 questions, for example: the reply holds no verdict: 'Both are nice.'"):
        collected(tmp_path / "run", samples(tmp_path), judge)
    assert len(rows(tmp_path / "run", "abstentions")) == 12


def test_a_function_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_judge.py").write_text(
        "def judge(messages, options):\n"
        "    parts = messages[-1]['content'].split('=====\\n')\n"
        "    first, second = (int(parts[k].split()[-1]) for k in (3, 5))\n"
        "    return {'A': -0.1, 'B': -2.4} if first > second else {'B': -0.1, 'A': -2.4}\n"
    )
    monkeypatch.chdir(tmp_path)
    judge = JudgeRater(model=FunctionJudge(function="my_judge:judge"))
    collected(tmp_path / "run", samples(tmp_path), judge)
    expected = 1 / (1 + math.exp(-2.3))
    assert {row["rater"].split("/")[0] for row in rows(tmp_path / "run", "judgments")} == {"my_judge:judge"}
    assert all(row["probability"] == pytest.approx(expected) for row in rows(tmp_path / "run", "preferences"))


@pytest.mark.parametrize(
    ("settings", "raters", "message"),
    [
        ({"instructions": ("helpfull",)}, 1, "Did you mean 'helpful'"),
        ({"instructions": ("honest",)}, 1, "none of honest is about helpful"),
        ({"instructions": ("principle",)}, 1, "name a constitution in principles"),
        ({"verdict": SampledVerdicts(n=3)}, 1, "3 samples at temperature 0 are one"),
        ({}, 2, "raters_per_comparison must be at most 1"),
    ],
)
def test_what_a_judge_cannot_do(tmp_path: Path, settings: dict[str, Any], raters: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        collected(tmp_path / "run", samples(tmp_path), JudgeRater(model=endpoint(), **settings), raters_per_comparison=raters)


def test_bounds_of_a_clamp_are_around_one_half() -> None:
    with pytest.raises(ConfigError, match="clamp must be"):
        JudgeRater(model=endpoint(), clamp=(0.6, 0.4))
    assert JudgeRater(model=endpoint()).verdict == OptionProbabilities()


CONSTITUTION = """principles:
  - {id: plain, dimension: helpful, text: "Which answer is the plainer one?", critique: c, revision: r}
  - {id: brief, dimension: helpful, text: "Which answer is the briefer one?", critique: c, revision: r}
  - {id: kind, dimension: harmless, text: "Which answer is the kinder one?", critique: c, revision: r}
"""


def test_several_principles_are_several_raters_and_their_mean_is_the_label(serve_model, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        first, second = asked_pair(body)
        size = {"plainer": 1.0, "briefer": 3.0}[next(word for word in ("plainer", "briefer") if word in body["messages"][-1]["content"])]
        return 200, option_answer(size if worth(first) > worth(second) else -size)

    (tmp_path / "constitution.yaml").write_text(CONSTITUTION)
    judge = JudgeRater(model=endpoint(serve_model(answer).url), principles=str(tmp_path / "constitution.yaml"))
    summary = collected(tmp_path / "both", samples(tmp_path), judge, raters_per_comparison=2)
    raters = {row["rater"].partition("#")[2] for row in rows(tmp_path / "both", "judgments")}
    assert raters == {"plain", "brief"}
    expected = (sigmoid(1.0) + sigmoid(3.0)) / 2
    assert all(row["probability"] == pytest.approx(expected) for row in rows(tmp_path / "both", "preferences"))
    assert summary["agreement"] == 1.0
    assert summary["doubly_judged"] == 6
    assert summary["judges"]["flips"] == {"share": 0.0, "n": 12}
    given = samples(tmp_path, prompts=30)
    collected(tmp_path / "one", given, judge)
    drawn = [row["rater"].partition("#")[2] for row in rows(tmp_path / "one", "judgments")]
    assert drawn[::2] == drawn[1::2]  # both orders under one principle
    assert set(drawn) == {"plain", "brief"}
    with pytest.raises(ConfigError, match="no principle of .* is about honest; there are helpful, harmless"):
        collected(tmp_path / "none", given, judge, dimensions=("honest",))
