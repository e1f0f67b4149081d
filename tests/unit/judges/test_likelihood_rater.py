"""A model that judges by its own probabilities: what follows a completion, or how likely the model is to write it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, RunError
from palate.judges.function_judge import FunctionJudge
from palate.judges.likelihood_rater import LikelihoodRater, OwnWriting, WhatFollows
from palate.judges.local_judge import LocalJudge
from palate.testing.models import tiny_policy
from palate.testing.templates import chat_tokenizer
from tests.unit.judges.conftest import collected, rows, samples

WORLD = "tests.support.judged_world"
TEXT = "guest: {prompt} cook: {completion} guest:"
FOLLOWS = WhatFollows(text=TEXT, good=("thanks",), bad=("no", "never"))


def function(name: str) -> FunctionJudge:
    return FunctionJudge(function=f"{WORLD}:{name}", name=name)


def worths(row: dict[str, Any]) -> tuple[int, int]:
    number = int(row["comparison"].split("/")[0][1:])
    return number % 10, (7 + number) % 10


@pytest.mark.parametrize(("score", "per_point"), [(FOLLOWS, 0.5), (OwnWriting(), 1.0)])
def test_a_probability_is_the_difference_of_scores_by_the_temperature(
    score: OwnWriting | WhatFollows, per_point: float, tmp_path: Path
) -> None:
    name = "guests" if isinstance(score, WhatFollows) else "writer"
    rater = LikelihoodRater(model=function(name), score=score, temperature=2.0)
    summary = collected(tmp_path / "run", samples(tmp_path, prompts=9), rater)
    found = rows(tmp_path / "run", "judgments")
    for row in found:
        first, second = worths(row)
        assert row["probability"] == pytest.approx(1 / (1 + math.exp(-per_point * (first - second) / 2)), abs=1e-9)
        assert row["ranking"] == ([[0], [1]] if first > second else [[1], [0]])
        assert row["rater"].startswith(f"{name}/{score.kind}@")
    unread = sum(9 in worths({"comparison": f"p{k}/0-1"}) for k in range(9)) if name == "guests" else 0
    assert len(found) == 9 - unread
    assert [row["reason"].split("raised ")[-1] for row in rows(tmp_path / "run", "abstentions")] == ["ValueError: too good"] * unread
    assert summary["judges"]["abstained_questions"] == unread


def test_all_dimensions_get_the_answer_that_was_asked_once(tmp_path: Path) -> None:
    rater = LikelihoodRater(model=function("writer"))
    summary = collected(tmp_path / "run", samples(tmp_path, prompts=5, completions=3), rater, dimensions=("helpful", "honest"))
    assert summary["judges"]["requests"] == 15
    by_dimension = {
        name: [(row["comparison"], row["probability"]) for row in rows(tmp_path / "run", "judgments") if row["dimension"] == name]
        for name in ("helpful", "honest")
    }
    assert by_dimension["helpful"] == by_dimension["honest"]
    assert len(by_dimension["helpful"]) == 15


def test_other_words_are_another_rater(tmp_path: Path) -> None:
    given = samples(tmp_path)
    names = set()
    for number, text in enumerate((TEXT, TEXT.replace("cook:", "chef:"))):
        rater = LikelihoodRater(model=function("guests"), score=WhatFollows(text=text, good=("thanks",), bad=("no",)), name="letters")
        collected(tmp_path / str(number), given, rater)
        names |= {row["rater"] for row in rows(tmp_path / str(number), "judgments")}
    assert len(names) == 2
    assert all(name.startswith("guests/letters@") for name in names)


def test_a_local_model_judges_by_its_own_writing(tmp_path: Path) -> None:
    tiny_policy("llama", chat_tokenizer()).save(tmp_path / "tiny")
    rater = LikelihoodRater(model=LocalJudge(model=str(tmp_path / "tiny"), dtype="float32"))
    summary = collected(tmp_path / "run", samples(tmp_path), rater)
    judgments = rows(tmp_path / "run", "judgments")
    assert {row["rater"].split("@")[0] for row in judgments} == {"tiny/writing"}
    assert all(0 < row["probability"] < 1 for row in judgments)
    assert summary["judges"]["tokens_in"] > 0
    assert summary["judges"]["cost"] == 0


def test_settings_that_cannot_judge_are_refused() -> None:
    with pytest.raises(ConfigError, match="lacks {completion}"):
        WhatFollows(text="{prompt}", good=("a",), bad=("b",))
    with pytest.raises(ConfigError, match="each hold a text"):
        WhatFollows(text=TEXT, good=("a",), bad=("a",))
    with pytest.raises(ConfigError, match="must be 1, got 2"):
        LikelihoodRater(model=function("writer")).check(2)
    with pytest.raises(ConfigError, match="temperature 0"):
        LocalJudge(model="x").check((), 3)


def test_a_model_that_can_read_nothing_stops_the_run(tmp_path: Path) -> None:
    rater = LikelihoodRater(model=function("guests"), score=WhatFollows(text="{prompt} {completion}", good=("thanks",), bad=("no",)))
    with pytest.raises(RunError, match="scored none of the 6 pairs, for example: .* they do not read text"):
        collected(tmp_path / "run", samples(tmp_path), rater)
