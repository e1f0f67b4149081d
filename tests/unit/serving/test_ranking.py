"""Best of n: the reward model ranks what was drawn, by the dimensions and weights of the request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from palate.core import Completion, Message, Prompt, StopReason
from palate.models.causal import CausalPolicy
from palate.models.scalar import scalar_from
from palate.rewards.combination import RewardModels
from palate.samplers import SampledTokens
from palate.serving.answer_scores import AnswerScorer
from palate.text.sampled_texts import completions_of
from palate.text.spans import prompt_ids
from tests.support.served_model import NAME, ModelServer, model_server

CHAT: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "rice"}], "max_tokens": 40, "seed": 2, "temperature": 1.5}


@pytest.fixture(scope="module")
def models(chat_policy: CausalPolicy, tmp_path_factory: pytest.TempPathFactory) -> RewardModels:
    folder = tmp_path_factory.mktemp("reward")
    scalar_from(chat_policy, ("taste", "kind"), seed=3).save(folder)
    return RewardModels.load([str(folder)])


@pytest.fixture(scope="module")
def ranked(chat_policy: CausalPolicy, models: RewardModels) -> Iterator[ModelServer]:
    with model_server(chat_policy, scorer=AnswerScorer(models)) as running:
        yield running


def answers(server: ModelServer, **fields: Any) -> list[dict[str, Any]]:
    answer = server.post("/v1/chat/completions", {**CHAT, **fields})
    assert answer.status_code == 200, answer.text
    choices: list[dict[str, Any]] = answer.json()["choices"]
    return choices


def expected(
    policy: CausalPolicy, models: RewardModels, texts: list[dict[str, Any]], weights: dict[str, float]
) -> list[tuple[bool, float]]:
    """Whether each answer ended, and its weighted score."""
    stops: dict[str, StopReason] = {"stop": "eos", "length": "length"}
    prompt = Prompt("p", (Message("user", "rice"),))
    tokens = [SampledTokens(tuple(one["token_ids"]), (0.0,) * len(one["token_ids"]), stops[one["finish_reason"]]) for one in texts]
    completions = completions_of(policy.tokenizer, prompt.conversation, prompt_ids(policy.tokenizer, prompt), tokens)
    scores = models.score([prompt], [completions]).scores.tolist()
    total = [sum(weights.get(name, 0) * value for name, value in zip(models.heads, row, strict=True)) for row in scores]
    return [(one["finish_reason"] == "stop", value) for one, value in zip(texts, total, strict=True)]


@pytest.mark.parametrize("weights", [{"taste": 1.0, "kind": 1.0}, {"taste": -2.0}, {"kind": 3.0, "taste": 0.5}])
def test_the_best_are_those_of_all_that_are_drawn(
    ranked: ModelServer, chat_policy: CausalPolicy, models: RewardModels, weights: dict[str, float]
) -> None:
    drawn = answers(ranked, n=8, return_token_ids=True)
    assert len({one["finish_reason"] for one in drawn}) == 2
    assert all("score" not in one for one in drawn)
    values = expected(chat_policy, models, drawn, weights)
    order = sorted(range(8), key=lambda k: (not values[k][0], -values[k][1]))
    best = answers(ranked, n=3, best_of=8, weights=weights)
    assert [one["message"]["content"] for one in best] == [drawn[k]["message"]["content"] for k in order[:3]]
    assert [one["score"] for one in best] == pytest.approx([values[k][1] for k in order[:3]], abs=1e-4)
    assert best[0]["scores"].keys() == {"taste", "kind"}
    assert [one["index"] for one in best] == [0, 1, 2]


def test_without_weights_all_dimensions_count_alike(ranked: ModelServer) -> None:
    (best,) = answers(ranked, best_of=4)
    assert best["score"] == pytest.approx(sum(best["scores"].values()), abs=1e-5)
    (other,) = answers(ranked, best_of=4, dimensions=["kind"])
    assert other["score"] == pytest.approx(other["scores"]["kind"], abs=1e-6)


def test_all_drawn_tokens_are_counted(ranked: ModelServer) -> None:
    one = ranked.post("/v1/chat/completions", {**CHAT, "n": 8}).json()["usage"]
    best = ranked.post("/v1/chat/completions", {**CHAT, "best_of": 8}).json()["usage"]
    assert best == one


def test_a_stream_sends_the_best(ranked: ModelServer) -> None:
    (best,) = answers(ranked, best_of=8)
    lines = ranked.post("/v1/chat/completions", {**CHAT, "best_of": 8, "stream": True}).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines[:-2]]
    assert "".join(part["delta"].get("content", "") for part in parts) == best["message"]["content"]
    assert parts[-1]["score"] == pytest.approx(best["score"], abs=1e-5)


def test_score(ranked: ModelServer, models: RewardModels) -> None:
    texts = ["rice today", "no"]
    body = {"messages": CHAT["messages"], "completions": texts, "weights": {"taste": 2, "kind": -1}}
    answer = ranked.post("/v1/score", body).json()
    table = models.score([Prompt("p", (Message("user", "rice"),))], [[Completion(text) for text in texts]]).scores.tolist()
    assert answer["dimensions"] == ["taste", "kind"]
    assert [one["score"] for one in answer["data"]] == pytest.approx([2 * a - b for a, b in table], abs=1e-5)
    assert [list(one["scores"].values()) for one in answer["data"]] == [pytest.approx(row, abs=1e-5) for row in table]
    long = ranked.post("/v1/score", {"prompt": "so", "completions": ["x" * 500, "what"]}).json()["data"]
    assert long[0]["score"] is None
    assert "too long for the reward model" in long[0]["reason"]
    assert long[1]["score"] is not None


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("chat/completions", {"best_of": 4, "weights": {"tast": 1}}, "Did you mean 'taste'"),
        ("chat/completions", {"best_of": 4, "dimensions": ["salt"]}, "no dimension 'salt'"),
        ("chat/completions", {"best_of": 4, "dimensions": ["taste"], "weights": {"kind": 1}}, "taste has no weight"),
        ("chat/completions", {"best_of": 100}, "draws 16 completions at a time"),
        ("score", {"completions": []}, "at least 1 item"),
        ("score", {"prompt": "so", "completions": ["a"], "weights": {"taste": 0}}, "not all 0"),
        ("score", {"completions": ["a"], "messages": []}, "either as messages or as prompt"),
    ],
)
def test_what_cannot_be_ranked_is_refused(ranked: ModelServer, path: str, fields: dict[str, Any], message: str) -> None:
    answer = ranked.post(f"/v1/{path}", {**(CHAT if path.startswith("chat") else {}), **fields})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_without_a_reward_model_nothing_is_scored(server: ModelServer) -> None:
    answer = server.post("/v1/score", {"prompt": "so", "completions": ["what"]})
    assert answer.status_code == 400
    assert "--reward" in answer.json()["error"]["message"]
