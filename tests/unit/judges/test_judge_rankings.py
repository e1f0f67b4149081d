"""Judges who see three completions or more at once: orders, soft labels, abstentions, what a run keeps, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, DataError, RunError
from palate.data.formats import read_preferences
from palate.judges.function_judge import FunctionJudge
from palate.judges.hybrid import Hybrid
from palate.judges.judge_ledger import Budget
from palate.judges.judge_orders import orders_of
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.judges.local_judge import LocalJudge
from palate.judges.verdicts import OptionProbabilities, SampledVerdicts, WrittenVerdict
from palate.raters.people import People
from palate.raters.rater import Rater
from palate.raters.simulated import Simulated
from palate.testing.chat_answers import asked_ranking, chat_answer, choice_answer
from palate.testing.completions_server import Answer, CompletionsServer
from palate.testing.models import tiny_policy
from palate.testing.templates import chat_tokenizer
from palate.testing.tokenizers import word_tokenizer
from palate.training.comparisons import judged_prompts
from palate.training.individual_judgments import rankings_of
from tests.unit.judges.conftest import collected, endpoint, rows, samples, worth

Serve = Callable[[Answer], CompletionsServer]
FOUR = {"completions_per_comparison": 4}


def by_worth(habit: float = 0.0, *, sharpness: float = 0.5) -> Answer:
    """A judge with half a logit per point, and a habit, in logits, for what stands first."""

    def answer(body: Any) -> tuple[int, object]:
        logits = [sharpness * worth(text) + habit * (place == 0) for place, text in enumerate(asked_ranking(body))]
        return 200, choice_answer(logits)

    return answer


def written_by_worth(body: Any) -> tuple[int, object]:
    """A judge who writes the ranking, the best first."""
    return 200, chat_answer(f"One says more.\nRanking: {' > '.join(labels_by([worth(text) for text in asked_ranking(body)]))}")


def labels_by(scores: Sequence[float]) -> list[str]:
    return ["ABCDEFGH"[place] for place in sorted(range(len(scores)), key=lambda place: -scores[place])]


def worths(prompt: int, completions: int) -> list[int]:
    """How good the completions of `samples` are."""
    return [(j * 7 + prompt) % 10 for j in range(completions)]


def expected(values: Sequence[int], habit: float, pair: tuple[int, int], design: str = "balanced") -> float:
    """The mean over orders of the probability that the first of two is better, for the judge of `by_worth`."""
    orders = orders_of(len(values), design)  # type: ignore[arg-type]
    logits = [[0.5 * values[k] + habit * (order[0] == k) for k in range(len(values))] for order in orders]
    return math.fsum(1 / (1 + math.exp(own[pair[1]] - own[pair[0]])) for own in logits) / len(orders)


def test_a_habit_for_the_first_place_vanishes_from_the_averaged_ranking(serve_model: Serve, tmp_path: Path) -> None:
    server, given = serve_model(by_worth(habit=1.0)), samples(tmp_path, completions=4)
    summary = collected(tmp_path / "run", given, JudgeRater(model=endpoint(server.url)), **FOUR)
    judgments, ranks, preferences = (rows(tmp_path / "run", name) for name in ("judgments", "rankings", "preferences"))
    assert len(server.asked) == len(judgments) == 6 * 4
    (name,) = {row["rater"] for row in judgments}
    assert name.startswith("small/helpful-ranking@")
    assert [tuple(row["order"]) for row in judgments[:4]] == list(orders_of(4, "balanced"))
    wrong = 0
    for k, row in enumerate(ranks):
        values = worths(k, 4)
        best_first = sorted(range(4), key=lambda number: -values[number])
        assert (row["comparison"], row["orders"]) == (f"p{k}/0-1-2-3", 4)
        assert row["ranking"] == [[number] for number in best_first]
        assert row["mean_ranks"] == pytest.approx([1 + sum(expected(values, 1.0, (j, i)) for j in range(4) if j != i) for i in range(4)])
        own = [one for one in judgments if one["comparison"] == row["comparison"]]
        wrong += sum([[one["order"][place] for place in tier] for tier in one["ranking"]] != row["ranking"] for one in own)
    assert wrong > 0  # single orders do show the habit
    assert len(preferences) == 6 * 6
    for row, (k, pair) in zip(preferences, itertools.product(range(6), itertools.combinations(range(4), 2)), strict=True):
        share = expected(worths(k, 4), 1.0, pair)
        assert row["id"] == f"p{k}/0-1-2-3/helpful/{pair[0]}-{pair[1]}"
        assert row["probability"] == pytest.approx(max(share, 1 - share), abs=1e-9)
        assert worth(row["chosen"][0]["content"]) > worth(row["rejected"][0]["content"])
        assert (row["raters"], row["votes"]) == ([name], [1])
    judges = summary["judges"]
    assert (judges["requests"], judges["comparisons"], "pairs" in judges) == (24, 6, False)
    assert judges["shown_first_ranked_first"] == {"share": 0.25, "chance": 0.25, "n": 24}  # the best is far ahead, so it stays on top
    assert 0 < judges["tau_between_orders"]["mean"] < 1
    assert judges["tau_between_orders"]["n"] == 6


@pytest.mark.parametrize("completions", [3, 4, 5])
@pytest.mark.parametrize("habit", [1.0, -3.0])
def test_completions_of_equal_worth_tie_under_a_habit(serve_model: Serve, tmp_path: Path, completions: int, habit: float) -> None:
    server, given = serve_model(by_worth(habit, sharpness=0.0)), samples(tmp_path, prompts=2, completions=completions)
    summary = collected(tmp_path / "run", given, JudgeRater(model=endpoint(server.url)), completions_per_comparison=completions)
    habits = summary["judges"]["shown_first_ranked_first"]
    assert (habits["share"], habits["chance"]) == (float(habit > 0), pytest.approx(1 / completions))
    assert summary["judges"]["tau_between_orders"]["mean"] < 0.2
    assert [row["ranking"] for row in rows(tmp_path / "run", "rankings")] == [[list(range(completions))]] * 2
    assert all(row["probability"] == pytest.approx(0.5, abs=1e-9) for row in rows(tmp_path / "run", "preferences"))
    assert all(row["votes"] == [0.5] for row in rows(tmp_path / "run", "preferences"))


def test_an_order_and_its_reverse_leave_a_habit_for_the_first_place(serve_model: Serve, tmp_path: Path) -> None:
    """What never stands first is marked down: the reason why balanced orders are the default."""
    server, given = serve_model(by_worth(1.0, sharpness=0.0)), samples(tmp_path, prompts=2, completions=3)
    judge = JudgeRater(model=endpoint(server.url), orders="reversed")
    collected(tmp_path / "run", given, judge, completions_per_comparison=3)
    assert len(server.asked) == 4
    assert [row["ranking"] for row in rows(tmp_path / "run", "rankings")] == [[[0, 2], [1]]] * 2


def test_a_ranking_is_a_prompts_ranking_for_plackett_luce(serve_model: Serve, tmp_path: Path) -> None:
    given = samples(tmp_path, completions=4)
    collected(tmp_path / "run", given, JudgeRater(model=endpoint(serve_model(by_worth(1.0)).url)), **FOUR)
    preferences = read_preferences(tmp_path / "run" / "preferences.jsonl").rows
    judged, reasons = judged_prompts(preferences, word_tokenizer(), 100)
    assert reasons == []
    assert len(judged) == 6
    for prompt in judged:
        (ranking,) = rankings_of(prompt)
        values = {pair.chosen: worth(one.chosen.text) for pair, one in zip(prompt.pairs, prompt.preferences, strict=True)}
        values |= {pair.rejected: worth(one.rejected.text) for pair, one in zip(prompt.pairs, prompt.preferences, strict=True)}
        assert [tier for (tier,) in ranking.tiers] == sorted(values, key=lambda branch: -values[branch])


def test_a_written_ranking_is_smoothed_and_its_reply_is_kept(serve_model: Serve, tmp_path: Path) -> None:
    judge = JudgeRater(model=endpoint(serve_model(written_by_worth).url), verdict=WrittenVerdict(), reasons_first=True)
    summary = collected(tmp_path / "run", samples(tmp_path, completions=3), judge, completions_per_comparison=3)
    assert {row["probability"] for row in rows(tmp_path / "run", "preferences")} == {0.75}
    for row in rows(tmp_path / "run", "judgments"):
        assert row["reason"].startswith("One says more.\nRanking: ")
        assert set(row["probabilities"]) <= {0.25, 0.75}
        assert len(row["probabilities"]) == 3
    assert summary["judges"]["tau_between_orders"] == {"mean": 1.0, "n": 6}
    assert summary["judges"]["shown_first_ranked_first"]["share"] == pytest.approx(1 / 3)


def test_a_written_habit_for_a_place_vanishes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that lifts what stands first by one and a half points, so that it often comes out on top of a better one."""
    (tmp_path / "my_ranker.py").write_text(
        "def judge(messages):\n"
        "    texts = messages[-1]['content'].split('=====\\n')[3::2]\n"
        "    scores = [int(text.split()[-1]) + 1.5 * (place == 0) for place, text in enumerate(texts)]\n"
        "    best = sorted(range(len(scores)), key=lambda place: -scores[place])\n"
        "    return 'Ranking: ' + ' > '.join('ABCDEFGH'[place] for place in best)\n"
    )
    monkeypatch.chdir(tmp_path)
    judge = JudgeRater(model=FunctionJudge(function="my_ranker:judge"), verdict=WrittenVerdict())
    collected(tmp_path / "run", samples(tmp_path, prompts=10, completions=5), judge, completions_per_comparison=5)
    assert len(rows(tmp_path / "run", "judgments")) == 10 * 10
    for k, row in enumerate(rows(tmp_path / "run", "rankings")):
        values = worths(k, 5)
        assert row["ranking"] == [[number] for number in sorted(range(5), key=lambda number: -values[number])]


def test_samples_are_shares_and_reasons_come_before_options(serve_model: Serve, tmp_path: Path) -> None:
    given = samples(tmp_path, completions=3)
    sampling = JudgeRater(model=endpoint(serve_model(written_by_worth).url, temperature=1.0), verdict=SampledVerdicts(n=3))
    collected(tmp_path / "sampled", given, sampling, completions_per_comparison=3)
    assert {row["probability"] for row in rows(tmp_path / "sampled", "preferences")} == {(3 + 0.5) / 4}

    def answer(body: Any) -> tuple[int, object]:
        if "logprobs" not in body:
            return written_by_worth(body)
        assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
        assert body["messages"][-1]["content"] == "Which is the best one? Answer with A, B or C alone."
        return by_worth()(body)

    judge = JudgeRater(model=endpoint(serve_model(answer).url), reasons_first=True, clamp=(0.4, 0.6))
    collected(tmp_path / "reasoned", given, judge, completions_per_comparison=3)
    assert all(row["probability"] == pytest.approx(0.6) for row in rows(tmp_path / "reasoned", "preferences"))


def test_a_local_model_ranks_by_its_own_probabilities(tmp_path: Path) -> None:
    policy = tiny_policy("llama", chat_tokenizer())
    policy.save(tmp_path / "tiny")
    (tmp_path / "short.yaml").write_text(
        "{id: short, scale: ranking, user: '{prompt} {completions}', each: '{label} {completion}', answer: '', reason: '', "
        "verdict: 'best ?', options: [A, B, C]}"
    )
    judge = JudgeRater(
        model=LocalJudge(model=str(tmp_path / "tiny"), dtype="float32"),
        instructions=(str(tmp_path / "short.yaml"),),
        verdict=OptionProbabilities(min_mass=0.0),
    )
    summary = collected(tmp_path / "run", samples(tmp_path, completions=3), judge, completions_per_comparison=3)
    judgments = rows(tmp_path / "run", "judgments")
    assert {row["rater"].split("@")[0] for row in judgments} == {"tiny/short"}
    assert len(judgments) == 6 * 6
    assert all(0 < one < 1 for row in judgments for one in row["probabilities"])
    for one, _, other in (row["probabilities"] for row in judgments):  # Luce: odds multiply
        through = one / (1 - one) * other / (1 - other)
        assert any(row["probabilities"][1] == pytest.approx(through / (1 + through)) for row in judgments)
    assert summary["judges"]["tokens_in"] > 0


def test_a_missing_order_is_an_abstention_and_never_a_tie(serve_model: Serve, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        shown = asked_ranking(body)
        if shown[0].startswith("answer 2 ") and worth(shown[0]) == max(map(worth, shown)):
            return 200, chat_answer("Ranking: A > B")
        return written_by_worth(body)

    judge = JudgeRater(model=endpoint(serve_model(answer).url), verdict=WrittenVerdict())
    summary = collected(tmp_path / "run", samples(tmp_path, completions=4), judge, **FOUR)
    (row,) = rows(tmp_path / "run", "abstentions")
    assert (row["comparison"], row["dimension"], row["kind"]) == ("p2/0-1-2-3", "helpful", "no_verdict")
    assert row["order"][0] == 1
    assert sorted(row["order"]) == [0, 1, 2, 3]
    assert row["reason"] == "the ranking leaves out C, D: 'A > B'"
    assert (summary["questions"], summary["ties"]) == (5, 0)
    assert (summary["judges"]["abstentions"], summary["judges"]["abstained_questions"]) == ({"no_verdict": 1}, 1)
    with pytest.raises(DataError, match="abstained on all 6 questions, for example: the reply holds no ranking"):
        silent = JudgeRater(model=endpoint(serve_model(lambda body: (200, chat_answer("fine"))).url), verdict=WrittenVerdict())
        collected(tmp_path / "none", samples(tmp_path, completions=4), silent, **FOUR)


def test_a_run_that_was_stopped_asks_only_what_has_no_answer_and_a_cache_costs_nothing(serve_model: Serve, tmp_path: Path) -> None:
    server, given = serve_model(by_worth()), samples(tmp_path, completions=3)
    prices = {"price_in": 1000.0, "price_out": 10000.0, "cache": str(tmp_path / "cache"), "concurrency": 1}
    price = 100 * 1000 / 1e6 + 1 * 10000 / 1e6
    with pytest.raises(RunError, match=r"the budget is spent .*Raise from\.model\.budget"):
        collected(
            tmp_path / "run", given, JudgeRater(model=endpoint(server.url, **prices, budget=Budget(cost=3.0))), completions_per_comparison=3
        )
    asked = len(server.asked)
    assert 0 < asked < 36
    judge = JudgeRater(model=endpoint(server.url, **prices, budget=Budget(cost=100.0)))
    summary = collected(tmp_path / "run", given, judge, completions_per_comparison=3)
    assert len(server.asked) == 36
    assert summary["judges"]["cost"] == pytest.approx(36 * price)
    cached = collected(tmp_path / "again", given, judge, completions_per_comparison=3)
    assert (len(server.asked), cached["judges"]["cost"]) == (36, 0.0)
    for name in ("judgments", "rankings", "preferences"):
        assert (tmp_path / "run" / f"{name}.jsonl").read_bytes() == (tmp_path / "again" / f"{name}.jsonl").read_bytes()


def test_prompts_are_asked_about_different_completions_once(serve_model: Serve, tmp_path: Path) -> None:
    table = [
        {"id": "few", "prompt": "a?", "completions": ["x 1", "y 2", "x 1"]},
        {"id": "three", "prompt": "b?", "completions": ["x 1", "y 2", "x 1", "z 3", {"text": "w 4", "stop": "length"}]},
        {"id": "many", "prompt": "c?", "completions": [f"x {k}" for k in range(9)]},
        {"id": "later", "prompt": "d?", "completions": [f"x {k}" for k in range(4)]},
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    judge = JudgeRater(model=endpoint(serve_model(by_worth()).url))
    summary = collected(tmp_path / "run", str(tmp_path), judge, limit=2, **FOUR)
    names = [row["comparison"] for row in rows(tmp_path / "run", "rankings")]
    assert names[0] == "three/0-1-3"
    assert names[1].startswith("many/")
    assert len(names) == 2
    assert len(names[1].split("/")[1].split("-")) == 4
    assert (summary["equal_completions"], summary["unfinished_completions"], summary["small_prompts"]) == (2, 1, 1)
    (tmp_path / "samples.jsonl").write_text(json.dumps(table[0]) + "\n")
    with pytest.raises(DataError, match="no prompt has three different finished completions"):
        collected(tmp_path / "none", str(tmp_path), judge, **FOUR)


CONSTITUTION = """principles:
  - {id: plain, dimension: helpful, text: "Which answer is the plainer one?", critique: c, revision: r}
  - {id: brief, dimension: helpful, text: "Which answer is the briefer one?", critique: c, revision: r}
"""


def test_principles_are_raters_of_rankings(serve_model: Serve, tmp_path: Path) -> None:
    def answer(body: Any) -> tuple[int, object]:
        sign = 1.0 if "plainer" in body["messages"][-1]["content"] else -1.0
        return 200, choice_answer([sign * worth(text) for text in asked_ranking(body)])

    (tmp_path / "constitution.yaml").write_text(CONSTITUTION)
    judge = JudgeRater(model=endpoint(serve_model(answer).url), principles=str(tmp_path / "constitution.yaml"))
    summary = collected(tmp_path / "run", samples(tmp_path, completions=3), judge, completions_per_comparison=3, raters_per_comparison=2)
    assert {row["rater"].partition("@")[0] for row in rows(tmp_path / "run", "judgments")} == {"small/principle-ranking"}
    assert {row["rater"].partition("#")[2] for row in rows(tmp_path / "run", "rankings")} == {"plain", "brief"}
    assert all(row["probability"] == pytest.approx(0.5) for row in rows(tmp_path / "run", "preferences"))
    assert (summary["agreement"], summary["doubly_judged"]) == (0.0, 18)


def test_a_judge_that_ranks_places_is_warned_about(serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve_model(lambda body: (200, choice_answer([3.0, 2.0, 1.0])))
    given = samples(tmp_path, prompts=25, completions=3)
    collected(tmp_path / "run", given, JudgeRater(model=endpoint(server.url)), completions_per_comparison=3)
    assert "gives the places the same ranking in all 25 comparisons" in capsys.readouterr().err


JUDGE = JudgeRater(model=endpoint())


@pytest.mark.parametrize(
    ("rater", "settings", "message"),
    [
        (People(), {}, "from: people answers questions about pairs"),
        (Simulated(gold="x:y"), {}, "from: simulated answers questions about pairs"),
        (LikelihoodRater(model=FunctionJudge(function="x:y")), {}, "from: likelihood answers questions about pairs"),
        (
            Hybrid(judge=JudgeRater(model=endpoint(), instructions=("helpful",)), people=People()),
            {},
            "have scale: pairwise, and 4 completions are compared at once; use instructions with scale: ranking",
        ),
        (JUDGE, {"pairs_per_prompt": 2}, "pairs_per_prompt is for pairs"),
        (JUDGE, {"completions_per_comparison": 9}, "completions_per_comparison must be 2 to 8, got 9"),
        (JUDGE, {"completions_per_comparison": 1}, "completions_per_comparison must be 2 to 8, got 1"),
        (JUDGE, {"raters_per_comparison": 2}, "raters_per_comparison must be at most 1"),
        (JUDGE, {"dimensions": ("polite",)}, "there are no instructions 'polite-ranking'"),
        (JudgeRater(model=endpoint(), instructions=("helpful",)), {}, "have scale: pairwise, and 4 completions are compared at once"),
        (JudgeRater(model=endpoint(), instructions=("helpful-pointwise",)), {}, "have scale: pointwise, and 4 completions"),
        (
            JudgeRater(model=endpoint(), instructions=("helpful-ranking",)),
            {"completions_per_comparison": 2},
            "have scale: ranking, and 2 completions are compared at once; set completions_per_comparison to 3 or more",
        ),
    ],
)
def test_what_cannot_rank_is_refused_in_one_message(tmp_path: Path, rater: Rater, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        collected(tmp_path / "run", samples(tmp_path, completions=4), rater, **{**FOUR, **settings})  # type: ignore[arg-type]


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(
        "{id: short, scale: ranking, user: '{prompt} {completions}', each: '{label} {completion}', answer: '', reason: '', "
        "verdict: 'best?', options: [A, B, C]}"
    )
    judge = JudgeRater(model=endpoint(), instructions=(str(tmp_path / "short.yaml"),))
    with pytest.raises(ConfigError, match=r"short have 3 labels \(options\) for 4 completions; add labels"):
        collected(tmp_path / "run", samples(tmp_path, completions=4), judge, **FOUR)
