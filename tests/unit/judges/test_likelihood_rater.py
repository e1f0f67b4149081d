"""A model that judges by its own probabilities: what follows a completion, or how likely the model is to write it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, RunError
from palate.data.jsonl import write_rows
from palate.judges.function_judge import FunctionJudge
from palate.judges.likelihood_rater import LikelihoodRater, OwnWriting, WhatFollows, WhatIsNamed
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


PRINCIPLES = """\
name: ours
principles:
  - {id: safe, dimension: harmless, text: 'is it safe ?', critique: c, revision: r}
  - {id: kind, dimension: harmless, text: 'is it kind ?', critique: c, revision: r}
  - {id: 'true', dimension: honest, text: 'is it true ?', critique: c, revision: r}
"""
PRINCIPLED = WhatFollows(text="guest: {prompt} cook: {completion} guest: {principle}", good=("yes",), bad=("no",))


def test_each_principle_of_the_dimension_is_a_rater(tmp_path: Path) -> None:
    """On safety the model sees half a nat per point of worth, on kindness none, and on truth the opposite."""
    (tmp_path / "ours.yaml").write_text(PRINCIPLES)
    rater = LikelihoodRater(
        model=function("principled"), score=PRINCIPLED, principles=str(tmp_path / "ours.yaml"), temperature=2.0, clamp=(0.2, 0.8)
    )
    directory = tmp_path / "both"
    summary = collected(directory, samples(tmp_path), rater, dimensions=("harmless", "overall"), raters_per_comparison=2)
    found = rows(directory, "judgments")
    for row in found:
        first, second = worths(row)
        principle = row["rater"].partition("#")[2]
        per_point = {"safe": 0.5, "kind": 0.0, "true": -0.5}[principle]
        assert row["probability"] == pytest.approx(min(max(1 / (1 + math.exp(-per_point * (first - second) / 2)), 0.2), 0.8), abs=1e-9)
        assert row["rater"].startswith("principled/follows@")
    asked = {
        dimension: [row["rater"].partition("#")[2] for row in found if row["dimension"] == dimension]
        for dimension in ("harmless", "overall")
    }
    assert sorted(set(asked["harmless"])) == ["kind", "safe"]
    assert sorted(set(asked["overall"])) == ["kind", "safe", "true"]
    assert len(asked["harmless"]) == len(asked["overall"]) == 12
    assert set(summary["judges"]["by_rater"]) == {row["rater"] for row in found}
    for row in rows(directory, "preferences"):
        own = [one for one in found if f"{one['comparison']}/{one['dimension']}" == row["id"]]
        mean = sum(one["probability"] for one in own) / 2
        assert max(mean, 1 - mean) == pytest.approx(row.get("probability", 1.0), abs=1e-9)
        assert sorted(row["raters"]) == sorted(one["rater"] for one in own)


def test_a_complaint_that_names_a_word_of_the_completion_speaks_against_it(tmp_path: Path) -> None:
    """Completions read "answer 3 7": each number is named as often as it says, whether it stands there once or twice."""
    score = WhatIsNamed(text="guest: {prompt} cook: {completion} guest: no , i dislike")
    summary = collected(tmp_path / "run", samples(tmp_path), LikelihoodRater(model=function("complainers"), score=score))
    for row in rows(tmp_path / "run", "judgments"):
        number = int(row["comparison"].split("/")[0][1:])
        first, second = (0.1 + sum({number, worth}) / 100 for worth in worths(row))
        assert row["probability"] == pytest.approx(second / (first + second), abs=1e-9)
        assert row["rater"].startswith("complainers/named@")
    assert summary["judges"]["pairs"] == 6
    with pytest.raises(ConfigError, match="named: text lacks {prompt} and {completion}"):
        WhatIsNamed(text="no , i dislike")


def test_a_completion_without_words_is_not_judged_by_what_is_named(tmp_path: Path) -> None:
    tiny_policy("llama", chat_tokenizer()).save(tmp_path / "tiny")
    score = WhatIsNamed(text="guest: {prompt} cook: {completion} guest: no , i dislike")
    row = {"id": "p", "prompt": [{"role": "user", "content": "question"}]}
    texts = ("answer one", "answer two", " ")
    write_rows(tmp_path / "samples.jsonl", [{**row, "completions": [{"text": text, "stop": "eos", "tokens": 3} for text in texts]}])
    rater = LikelihoodRater(model=LocalJudge(model=str(tmp_path / "tiny"), dtype="float32"), score=score)
    collected(tmp_path / "run", str(tmp_path), rater)
    assert [one["comparison"] for one in rows(tmp_path / "run", "judgments")] == ["p/0-1"]
    abstentions = rows(tmp_path / "run", "abstentions")
    assert {one["comparison"] for one in abstentions} == {"p/0-2", "p/1-2"}
    assert all("adds no token" in one["reason"] for one in abstentions)


def test_principles_and_the_text_that_asks_about_them_need_each_other(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(PRINCIPLES)
    ours = str(tmp_path / "ours.yaml")
    with pytest.raises(ConfigError, match="name a constitution in principles"):
        LikelihoodRater(model=function("principled"), score=PRINCIPLED)
    for score in (FOLLOWS, OwnWriting()):
        with pytest.raises(ConfigError, match="write {principle} into score.text"):
            LikelihoodRater(model=function("principled"), score=score, principles=ours)
    rater = LikelihoodRater(model=function("principled"), score=PRINCIPLED, principles=ours)
    rater.check(2, ("harmless", "overall"))
    with pytest.raises(ConfigError, match="must be at most 1, got 2: ours has no more principles about honest"):
        rater.check(2, ("harmless", "honest"))
    with pytest.raises(ConfigError, match="no principle of ours is about helpful; there are harmless, honest"):
        rater.check(1, ("helpful",))


def test_a_constitution_that_an_earlier_stage_writes_is_checked_when_it_is_there(tmp_path: Path) -> None:
    rater = LikelihoodRater(model=function("principled"), score=PRINCIPLED, principles=str(tmp_path / "ours.yaml"))
    rater.check(9, ("helpful",))
    (tmp_path / "ours.yaml").write_text(PRINCIPLES)
    with pytest.raises(ConfigError, match="no principle of ours is about helpful"):
        rater.check(1, ("helpful",))


def test_other_words_are_another_rater(tmp_path: Path) -> None:
    given = samples(tmp_path)
    names = set()
    for number, text in enumerate((TEXT, TEXT.replace("cook:", "chef:"))):
        rater = LikelihoodRater(model=function("guests"), score=WhatFollows(text=text, good=("thanks",), bad=("no",)), name="letters")
        collected(tmp_path / str(number), given, rater)
        names |= {row["rater"] for row in rows(tmp_path / str(number), "judgments")}
    assert len(names) == 2
    assert all(name.startswith("guests/letters@") for name in names)
    for number, text in enumerate((PRINCIPLES, PRINCIPLES.replace("is it safe", "is it really safe"))):
        (tmp_path / "ours.yaml").write_text(text)
        rater = LikelihoodRater(model=function("principled"), score=PRINCIPLED, principles=str(tmp_path / "ours.yaml"))
        collected(tmp_path / f"principled-{number}", given, rater, dimensions=("honest",))
        names |= {row["rater"] for row in rows(tmp_path / f"principled-{number}", "judgments")}
    assert len(names) == 4


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
    with pytest.raises(ConfigError, match="must be at most 1, got 2"):
        LikelihoodRater(model=function("writer")).check(2, ("helpful",))
    with pytest.raises(ConfigError, match="temperature 0"):
        LocalJudge(model="x").check((), 3)


def test_a_model_that_can_read_nothing_stops_the_run(tmp_path: Path) -> None:
    rater = LikelihoodRater(model=function("guests"), score=WhatFollows(text="{prompt} {completion}", good=("thanks",), bad=("no",)))
    with pytest.raises(RunError, match="scored none of the 6 pairs, for example: .* they do not read text"):
        collected(tmp_path / "run", samples(tmp_path), rater)
