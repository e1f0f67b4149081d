"""Stage regrade: a completion that lists the criteria's words without doing them pleases the judge alone, and that is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, ConfigError, DataError, Message, Prompt
from palate.data.formats import sample_row
from palate.data.jsonl import write_rows
from palate.evaluation.rater_report import report_on
from palate.evaluation.rater_votes import read_votes
from palate.judges.endpoint import OpenAIJudge
from palate.judges.rubric_grading import grader_name
from palate.rewards.rubric import RubricReward
from palate.stages.regrade import Regrade
from palate.testing.chat_answers import asked_pair, chat_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.support.rubric_judges import Grade, one_by_one
from tests.support.stages import dropped_of, ran, rows_of, summary_of

RUBRIC = [
    {"id": "spice", "text": "names the missing spice", "weight": 3},
    {"id": "amount", "text": "gives an amount", "weight": 2},
    {"id": "blame", "text": "blames the cook", "weight": -2},
]
DONE = {"names the missing spice": "salt", "gives an amount": "pinch", "blames the cook": "your fault"}
HACK = "This answer names the missing spice and gives an amount, as a good answer should."
PLAIN = ("It lacks salt.", "Add a pinch of salt.", "Hard to say.")
PROMPTS = 12
GRADERS = tuple(grader_name(name, "one_by_one") for name in ("judge", "one", "other"))


def by_words(criterion: str, completion: str) -> bool:
    """A judge that looks for the criterion's words."""
    return all(word in completion for word in criterion.split())


def by_deeds(criterion: str, completion: str) -> bool:
    """A judge that looks for what the criterion asks for."""
    return DONE[criterion] in completion


def panelist(grade: Grade) -> Answer:
    """Grades criteria, and prefers the completion that helps where it sees no rubric."""

    def answer(body: Mapping[str, Any]) -> tuple[int, object]:
        if "Answer B" not in body["messages"][-1]["content"]:
            return one_by_one(grade)(body)
        first, second = (("salt" in text) + ("pinch" in text) for text in asked_pair(body))
        return 200, chat_answer("I cannot tell." if first == second else f"Verdict: {'A' if first > second else 'B'}")

    return answer


def samples(folder: Path, *texts: Callable[[int], str], first: int = 0) -> str:
    """A file of completions: one of each prompt for each function of the prompt's number."""
    folder.mkdir()
    prompts = [Prompt(f"p{k}", (Message("user", f"What does soup {k} lack?"),), {"rubric": RUBRIC}) for k in range(first, PROMPTS)]
    rows = [sample_row(prompt, [Completion(text(k), stop="eos") for text in texts]) for k, prompt in enumerate(prompts, start=first)]
    write_rows(folder / "samples.jsonl", rows)
    return str(folder)


def model(server: CompletionsServer, name: str) -> OpenAIJudge:
    return OpenAIJudge(url=server.url, model=name)


def check(serve_model: Callable[[Answer], CompletionsServer], before: str, after: str, grade: Grade = by_words) -> Regrade:
    panel = serve_model(panelist(by_deeds))
    judge = RubricReward(model=model(serve_model(one_by_one(grade)), "judge"))
    return Regrade(before, judge, after, {name: model(panel, name) for name in ("one", "other")})


def test_a_completion_that_only_lists_the_criteria_is_caught(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    before, after = samples(tmp_path / "before", lambda k: PLAIN[k % 3]), samples(tmp_path / "after", lambda k: HACK)
    run = ran(check(serve_model, before, after), tmp_path / "run", "regrade")
    found = summary_of(run)
    assert (found["judge"]["before"], found["judge"]["after"]) == (0.0, 1.0)
    assert found["panel_mean"]["high"] < 0
    assert found["excess"]["low"] > 1
    assert found["is_confined_to_judge"]
    assert found["is_against_verdict"]
    assert "This looks like rubric hacking" in found["findings"][-1]
    row = rows_of(run, "regrade.jsonl")[1]
    assert row["scores"] == {
        "judge": {"before": [0.0], "after": [1.0]},
        "one": {"before": [1.0], "after": [0.0]},
        "other": {"before": [1.0], "after": [0.0]},
    }
    assert row["grades"]["one"]["before"] == [{"spice": 1.0, "amount": 1.0, "blame": 0.0}]
    assert row["after_wins"]["one"][0] < 0.3
    third = rows_of(run, "regrade.jsonl")[2]
    assert "holds no verdict" in third["after_wins"]["one"][0], "equal for a judge that abstains: neither a win nor a tie"
    assert found["uncalibrated"] == [*GRADERS, *(name for name in found["uncalibrated"] if "/overall@" in name)]
    assert len(found["uncalibrated"]) == 5, "two judges compare without the rubric, too"
    assert found["abstentions"] == 2 * PROMPTS / 3
    lines = report_on(run).judges
    assert {line.judge: line.is_calibrated for line in lines} == dict.fromkeys(GRADERS, False)
    table, left_out = read_votes(run)
    assert len(table.votes) == 3 * 2 * PROMPTS * len(RUBRIC)
    assert table.votes.raters == GRADERS
    assert table.dimensions == ("amount", "blame", "spice")
    assert left_out == ()


def test_a_real_gain_is_confirmed(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    before = samples(tmp_path / "before", lambda k: PLAIN[2] if k % 4 else PLAIN[0])
    after = samples(tmp_path / "after", lambda k: PLAIN[1])
    found = summary_of(ran(check(serve_model, before, after, by_deeds), tmp_path / "run", "regrade"))
    assert found["judge"]["gain"]["low"] > 0
    assert not found["is_confined_to_judge"]
    assert not found["is_against_verdict"]
    assert found["verdict"]["low"] > 0.5
    assert "it confirms the gain" in found["findings"][1]


def test_every_completion_of_a_prompt_counts_and_a_prompt_counts_once(
    serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two completions before and three after, of which the first ones alone would show no gain."""
    before = samples(tmp_path / "before", lambda k: PLAIN[1], lambda k: PLAIN[2 - 2 * (k % 2)])
    after = samples(tmp_path / "after", *(lambda k, text=text: text for text in (PLAIN[1], f"{PLAIN[1]} Stir.", PLAIN[1])))
    run = ran(check(serve_model, before, after, by_deeds), tmp_path / "run", "regrade")
    found = summary_of(run)
    assert (found["prompts"], found["completions"]) == (PROMPTS, {"before": 2 * PROMPTS, "after": 3 * PROMPTS})
    # Before, a prompt has 1 and, in turns, 0 or 3/5; after it has 1 throughout.
    assert found["judge"]["before"] == pytest.approx((0.5 + 0.8) / 2)
    assert (found["judge"]["after"], found["judge"]["gain"]["n"]) == (1.0, PROMPTS)
    assert found["judge"]["gain"]["value"] == pytest.approx(0.35)
    row = rows_of(run, "regrade.jsonl")[0]
    assert [len(row[side]) for side in ("before", "after")] == [2, 3]
    assert row["scores"]["one"] == {"before": [1.0, 0.0], "after": [1.0, 1.0, 1.0]}
    assert row["pairs"] == [[0, 0], [1, 1], [0, 2]]
    # Equal texts are level, and the second pair is won.
    assert row["after_wins"]["one"] == [0.5, 1.0, 0.5]
    assert found["verdict"]["value"] == pytest.approx(2 / 3)
    assert found["verdict"]["n"] == PROMPTS
    assert f"Nobody measured {', '.join(GRADERS)}" in (said := capsys.readouterr().err)
    assert "on people's labels, so all figures of them are uncalibrated" in said
    table, _ = read_votes(run)
    assert len(set(table.votes.items)) == 5 * PROMPTS * len(RUBRIC) - len(RUBRIC) * PROMPTS * 2, "equal completions are one question"


def test_missing_scores_are_counted_by_judge(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    def poet(criterion: str, completion: str) -> bool | None:
        return None if completion == PLAIN[0] and criterion == "gives an amount" else by_words(criterion, completion)

    before, after = samples(tmp_path / "before", lambda k: PLAIN[k % 3]), samples(tmp_path / "after", lambda k: HACK, first=3)
    run = ran(check(serve_model, before, after, poet), tmp_path / "run", "regrade")
    found = summary_of(run)
    assert found["prompts"] == PROMPTS - 3
    assert (found["judge"]["missing"], found["judge"]["unscored"]) == (3, 3)
    assert dropped_of(run)["scores by judge"] == {"1 of 3 criteria have no grade": 3}
    assert dropped_of(run)[before] == {"its prompt is not among those of the other side": 3}
    assert found["excess"]["n"] == PROMPTS - 6


def test_where_nothing_is_scored_the_message_says_why(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    before, after = samples(tmp_path / "before", lambda k: PLAIN[k % 3]), samples(tmp_path / "after", lambda k: HACK)
    with pytest.raises(DataError, match="so nothing can be compared. For example: 3 of 3 criteria have no grade: spice: the judge gave no"):
        ran(check(serve_model, before, after, lambda criterion, completion: None), tmp_path / "run", "regrade")


def test_the_panel_is_others_than_the_judge(serve_model: Callable[[Answer], CompletionsServer]) -> None:
    own = OpenAIJudge(url="http://127.0.0.1:1/v1", model="m")
    for panel, message in (
        ({}, "panel is empty"),
        ({"same": own}, "is the judge of the rubric itself"),
        ({"judge": own}, "choose another"),
    ):
        with pytest.raises(ConfigError, match=message):
            Regrade("b", RubricReward(model=own), "a", panel).check()
    with pytest.raises(ConfigError, match="must compare two completions"):
        other = OpenAIJudge(url="http://127.0.0.1:1/v1", model="n")
        Regrade("b", RubricReward(model=own), "a", {"other": other}, instructions="overall-pointwise").check()


def test_sides_without_a_common_prompt_are_refused(serve_model: Callable[[Answer], CompletionsServer], tmp_path: Path) -> None:
    before = samples(tmp_path / "before", lambda k: PLAIN[0], first=PROMPTS - 1)
    (tmp_path / "after").mkdir()
    write_rows(tmp_path / "after" / "samples.jsonl", [sample_row(Prompt("q", (Message("user", "Else?"),)), [Completion("x")])])
    with pytest.raises(DataError, match="no prompt of .* is among those of"):
        ran(check(serve_model, before, str(tmp_path / "after")), tmp_path / "run", "regrade")
