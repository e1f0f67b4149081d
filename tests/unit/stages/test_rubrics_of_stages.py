"""Rubrics in the stages: grades of a judge behind a real server decide what rerank keeps, pair prefers and online learns from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Completion, ConfigError, DataError, Message, Prompt, Sampling
from palate.data.formats import read_samples, sample_row
from palate.data.jsonl import write_rows
from palate.judges.endpoint import OpenAIJudge
from palate.pipeline.table import Stage
from palate.rewards.rubric import RubricReward
from palate.stages.evaluate import Evaluate
from palate.stages.online import Online
from palate.stages.pair import Pair
from palate.stages.rerank import Rerank
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.support.rubric_judges import one_by_one, together
from tests.support.stages import column_of, ran, rows_of, summary_of

RUBRIC = [{"id": "rice", "text": "rice", "weight": 2, "dimension": "taste"}, {"id": "salt", "text": "salt", "weight": -1}]


def holds(criterion: str, completion: str) -> bool:
    return criterion in completion.split()


def part(server: CompletionsServer, **settings: Any) -> RubricReward:
    return RubricReward(model=OpenAIJudge(url=server.url, model="small"), **settings)


def prompts(folder: Path, *, rubrics: int = 9) -> str:
    """A file of nine prompts, of which the first have a rubric."""
    texts = [f"the cook has {one} and {other}" for one in ("rice", "beans", "salt") for other in ("rice", "beans", "salt")]
    rows = [{"prompt": text, **({"rubric": RUBRIC} if k < rubrics else {})} for k, text in enumerate(texts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "prompts.jsonl")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    tiny_policy("qwen3", word_tokenizer()).save(folder)
    return str(folder)


def test_rerank_keeps_the_completion_that_follows_the_rubric(
    serve_model: Callable[[Answer], CompletionsServer], base: str, tmp_path: Path
) -> None:
    rubric = [{"id": "please", "text": "please", "weight": 2}, {"id": "rice", "text": "rice", "weight": -1}]
    (tmp_path / "rubrics.json").write_text(json.dumps({"default": rubric}))
    server = serve_model(one_by_one(lambda criterion, completion: criterion in completion))
    reward = part(server, file=str(tmp_path / "rubrics.json"))
    stage = Rerank(base, prompts(tmp_path, rubrics=0), rewards={"r": reward}, n=16, sampling=Sampling(max_tokens=48))
    run = ran(stage, tmp_path / "run", "rerank")
    kept = [
        (group[0].text, row["completions"][0]["score"])
        for (_, group), row in zip(read_samples(run / "samples.jsonl").rows, rows_of(run, "samples.jsonl"), strict=True)
        if group[0].stop == "eos"
    ]
    assert len(kept) > 4
    assert [score for _, score in kept] == [max(0.0, (2 * ("please" in text) - ("rice" in text)) / 2) for text, _ in kept]
    assert max(score for _, score in kept) == 1.0, [text for text, _ in kept]
    curve = summary_of(run)["curve"]["score"]
    assert curve[-1] > curve[0] + 0.2
    assert summary_of(run)["uncalibrated"] == ["r"]


def test_pair_prefers_what_meets_the_rubric(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    prompt = Prompt("p", (Message("user", "what now"),), {"rubric": RUBRIC})
    group = [Completion(text, stop="eos") for text in ("beans", "rice and salt", "rice and beans")]
    write_rows(tmp_path / "samples.jsonl", [sample_row(prompt, group)])
    run = ran(
        Pair(str(tmp_path / "samples.jsonl"), rewards={"r": part(serve_model(together(holds)), ask="together")}), tmp_path / "run", "pair"
    )
    (row,) = rows_of(run, "preferences.jsonl")
    assert row["chosen"][-1]["content"] == "rice and beans"
    assert row["rejected"][-1]["content"] == "beans"
    assert row["margin"] == 1.0
    assert summary_of(run)["uncalibrated"] == ["r"]


def test_evaluate_says_the_score_and_its_parts(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    def gives_up(criterion: str, completion: str) -> bool | None:
        return None if completion == "beans" else holds(criterion, completion)

    texts = ("rice", "rice and salt", "beans")
    given = [Prompt(f"p{k}", (Message("user", f"what now {k}"),), {"rubric": RUBRIC}) for k in range(3)]
    rows = [sample_row(prompt, [Completion(text, stop="eos")]) for prompt, text in zip(given, texts, strict=True)]
    write_rows(tmp_path / "samples.jsonl", rows)
    asked = [{"id": prompt.id, "prompt": [{"role": "user", "content": prompt.text}], "rubric": RUBRIC} for prompt in given]
    write_rows(tmp_path / "prompts.jsonl", asked)
    stage = Evaluate(
        str(tmp_path / "prompts.jsonl"), completions=str(tmp_path / "samples.jsonl"), rewards={"r": part(serve_model(one_by_one(gives_up)))}
    )
    run = ran(stage, tmp_path / "run", "evaluate")
    measured = rows_of(run, "completions.jsonl")
    assert [row["score"] for row in measured] == [1.0, 0.5, None]
    assert measured[2]["parts"] == {"r_uncalibrated": None, "r_uncalibrated/taste": None, "r_uncalibrated/missing_grades": 1.0}
    means = summary_of(run)["means"]
    assert summary_of(run)["uncalibrated"] == ["r"]
    assert (means["score"]["mean"], means["score"]["n"]) == (0.75, 2)
    assert means["score/r_uncalibrated/taste"]["mean"] == 1.0


def online(base: str, file: str, server: CompletionsServer, **part_settings: Any) -> Online:
    judge = {"kind": "openai", "url": server.url, "model": "small"}
    settings = {
        "model": base, "prompts": file, "rewards": {"r": {"kind": "rubric", "model": judge, **part_settings}}, "iterations": 2,
        "prompts_per_iteration": 4, "samples_per_prompt": 2, "epochs_per_batch": 1, "minibatches": 1, "sampling": {"max_tokens": 6},
        "method": {"value_trunk": "shared"},
    }  # fmt: skip
    return read_config(Online, Settings(settings, {(): "here"}))


def test_online_learns_from_the_rubrics(serve_model: Callable[[Answer], CompletionsServer], base: str, tmp_path: Path) -> None:
    run = ran(online(base, prompts(tmp_path), serve_model(together(holds)), ask="together"), tmp_path / "run", "online")
    assert len(column_of(run, "online/score_r_uncalibrated_taste/mean")) == 2
    assert column_of(run, "online/score_r_uncalibrated_missing_grades/mean") == [0.0, 0.0]
    assert column_of(run, "online/unscored_r_uncalibrated/share") == [0.0, 0.0]
    assert summary_of(run)["uncalibrated"] == ["r"]


@pytest.mark.parametrize("name", ["online", "rerank"])
def test_prompts_without_a_rubric_stop_a_stage_before_anything_is_asked(
    serve_model: Callable[[Answer], CompletionsServer], base: str, tmp_path: Path, name: str
) -> None:
    server = serve_model(one_by_one(holds))
    file = prompts(tmp_path, rubrics=7)
    stage: Stage = Rerank(base, file, rewards={"r": part(server)}, n=2, sampling=Sampling(max_tokens=4))
    if name == "online":
        stage = online(base, file, server)
    with pytest.raises(DataError, match=r"rewards.r: 2 of 9 prompts have no rubric that can be used.\n.*prompts.jsonl:8.*prompts.jsonl:9"):
        ran(stage, tmp_path / "run", name)
    assert not server.asked


def test_a_stage_takes_one_reward(base: str) -> None:
    rewards = {"r": part_of_nobody()}
    for stage in (Rerank(base, "p"), Rerank(base, "p", "m", rewards), Pair("s"), Evaluate("p", model="m", reward="r", rewards=rewards)):
        with pytest.raises(ConfigError, match="and not both"):
            stage.check()


def part_of_nobody() -> RubricReward:
    return RubricReward(model=OpenAIJudge(url="http://127.0.0.1:1/v1", model="m"))
