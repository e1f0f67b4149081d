"""The rubric part of a reward: scores, what has none, and what is refused before anything is asked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, ConfigError, DataError, Message, Prompt
from palate.judges.endpoint import OpenAIJudge
from palate.judges.rubric_grading import Asking, grader_name
from palate.rewards.batch import PartScores, ScoringBatch, ScoringContext
from palate.rewards.composition import Composition
from palate.rewards.rubric import RubricReward
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.testing.chat_answers import chat_answer, option_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.support.rubric_judges import asked_about, one_by_one, together

OWN = [
    {"id": "salt", "text": "salt", "weight": 3},
    {"id": "rice", "text": "rice", "weight": 1},
    {"id": "rude", "text": "idiot", "weight": -2},
]
TEXTS = ("salt and rice", "salt, idiot", "idiot", "rice")
WANTED = [1.0, 0.25, 0.0, 0.25]


def holds(criterion: str, completion: str) -> bool:
    return criterion in completion


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "runs", RunPlan("rubric", "rubric"))


def judge(server: CompletionsServer) -> OpenAIJudge:
    return OpenAIJudge(url=server.url, model="small")


def prompt(identity: str = "p", **fields: object) -> Prompt:
    return Prompt(identity, (Message("user", "What is missing?"),), fields, f"prompts.jsonl:{identity}")


def batch(*texts: str, of: Prompt | None = None) -> ScoringBatch:
    return ScoringBatch((of or prompt(rubric=OWN),), (tuple(Completion(text, stop="eos") for text in texts),))


def scored(part: RubricReward, run: Run, what: ScoringBatch) -> PartScores:
    scorer = part.open(ScoringContext("taste", None, None, run))  # type: ignore[arg-type]
    try:
        return scorer.score(what)
    finally:
        scorer.close()


@pytest.mark.parametrize(("ask", "requests"), [("one_by_one", 12), ("together", 4)])
def test_a_score_is_the_signed_weights_of_what_a_completion_meets(
    serve_model: Callable[[Answer], CompletionsServer], run: Run, ask: Asking, requests: int
) -> None:
    server = serve_model(together(holds) if ask == "together" else one_by_one(holds))
    part = RubricReward(model=judge(server), ask=ask)
    found = scored(part, run, batch(*TEXTS))
    assert found.heads[""].tolist() == WANTED
    assert not found.reasons
    assert len(server.asked) == requests
    assert scored(part, run, batch(*TEXTS)).heads[""].tolist() == WANTED
    assert len(server.asked) == requests, "the ledger has the answers"


def test_probabilities_of_options_are_grades(serve_model: Callable[[Answer], CompletionsServer], run: Run) -> None:
    def answer(body: Any) -> tuple[int, object]:
        completion, rest = asked_about(body)
        return 200, option_answer(2.0 if rest.split("The statement: ")[1].split("\n")[0] in completion else -2.0, first="yes", second="no")

    found = scored(RubricReward(model=judge(serve_model(answer)), ask="options"), run, batch("salt"))
    yes = 1 / (1 + math.exp(-2))
    assert found.heads[""].tolist() == [pytest.approx((3 * yes + (1 - yes) - 2 * (1 - yes)) / 4, abs=1e-3)]


@pytest.mark.parametrize("ask", ["one_by_one", "together"])
def test_a_missing_grade_is_a_missing_score_and_is_never_averaged_away(
    serve_model: Callable[[Answer], CompletionsServer], run: Run, ask: Asking
) -> None:
    def poet(criterion: str, completion: str) -> bool | None:
        return None if criterion == "rice" and completion == "salt, idiot" else criterion in completion

    server = serve_model(together(poet) if ask == "together" else one_by_one(poet))
    found = scored(RubricReward(model=judge(server), ask=ask), run, batch(*TEXTS))
    scores = found.heads[""].tolist()
    assert math.isnan(scores[1])
    assert [scores[0], *scores[2:]] == [WANTED[0], *WANTED[2:]]
    assert list(found.reasons) == [1]
    assert found.reasons[1].startswith("1 of 3 criteria have no grade: rice: ")
    assert found.details["missing_grades"].tolist() == [0.0, pytest.approx(1 / 3), 0.0, 0.0]


def test_an_endpoint_that_gives_prose_scores_nothing(serve_model: Callable[[Answer], CompletionsServer], run: Run) -> None:
    server = serve_model(lambda body: (200, chat_answer("A fine answer, all in all, which I would recommend.")))
    found = scored(RubricReward(model=judge(server), ask="together"), run, batch(*TEXTS))
    assert found.heads[""].isnan().all()
    assert sorted(found.reasons) == [0, 1, 2, 3]
    assert "3 of 3 criteria have no grade" in found.reasons[0]


def test_dimensions_and_the_criteria_of_the_default_are_recorded(
    serve_model: Callable[[Answer], CompletionsServer], run: Run, tmp_path: Path
) -> None:
    default = [
        {"id": "has salt", "text": "salt", "weight": 1, "dimension": "taste"},
        {"id": "rude", "text": "idiot", "weight": -1, "dimension": "taste"},
    ]
    (tmp_path / "rubrics.json").write_text(json.dumps({"default": default, "prompts": {"own": OWN}}))
    part = RubricReward(model=judge(serve_model(one_by_one(holds))), file=str(tmp_path / "rubrics.json"))
    what = ScoringBatch((prompt(), prompt("own")), ((Completion("salt"),), (Completion("rice"),)))
    found = scored(part, run, what)
    assert found.heads[""].tolist() == [1.0, 0.25]
    assert set(found.details) == {"taste", "has_salt", "rude", "missing_grades"}
    assert found.details["has_salt"][0] == 1.0
    assert found.details["has_salt"][1].isnan(), "a rubric of one prompt has no metrics by criterion"


def test_details_are_in_the_table_and_not_in_the_reward(serve_model: Callable[[Answer], CompletionsServer], run: Run) -> None:
    rubric = [{"id": "salt", "text": "salt", "weight": 1, "dimension": "taste"}]
    parts = {"r": RubricReward(model=judge(serve_model(one_by_one(holds))))}
    composition = Composition.load(parts, run=run)
    found = composition.score([prompt(rubric=rubric)], [[Completion("salt"), Completion("rice")]])
    composition.close()
    assert found.rewards.tolist() == [1.0, 0.0]
    assert found.metrics() == {
        f"{figure}_r_uncalibrated{detail}": value
        for figure, detail, value in (
            ("score", "/mean", 0.5), ("score", "_taste/mean", 0.5), ("score", "_missing_grades/mean", 0.0),
            ("part", "/mean", 0.5), ("unscored", "/share", 0.0),
        )
    }  # fmt: skip
    (note,) = run.record.notes[f"rewards.r ({grader_name('small', 'one_by_one')})"]
    assert note.startswith("uncalibrated, because nobody measured it on people's labels.")


def test_prompts_without_a_rubric_are_refused_before_anything_is_asked(
    serve_model: Callable[[Answer], CompletionsServer], run: Run
) -> None:
    server = serve_model(one_by_one(holds))
    composition = Composition.load({"r": RubricReward(model=judge(server))}, run=run)
    with pytest.raises(DataError, match=r"rewards.r: 1 of 2 prompts have no rubric.*\n.*no column 'rubric': prompts.jsonl:q"):
        composition.check_prompts([prompt(rubric=OWN), prompt("q")])
    composition.close()
    assert not server.asked


def test_a_part_outside_a_run_is_refused(serve_model: Callable[[Answer], CompletionsServer]) -> None:
    with pytest.raises(ConfigError, match="rewards.r: a model's answers are kept in a run's directory"):
        Composition.load({"r": RubricReward(model=OpenAIJudge(url="http://127.0.0.1:1/v1", model="m"))})


def test_a_bad_file_is_refused_when_the_part_is_opened(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("default: []\n")
    part = RubricReward(model=OpenAIJudge(url="http://127.0.0.1:1/v1", model="m"), file=str(tmp_path / "r.yaml"))
    with pytest.raises(DataError, match="default: `rubric` is empty"):
        Composition.load({"r": part}, run=run)
