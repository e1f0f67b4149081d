"""A judge of criteria beside people: from a run of `regrade` to its card, and from the card into a reward and a panel."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.core import Completion, ConfigError, DataError, Judgment, Message, Prompt
from palate.data.exchange import Exchange, RaterInfo, Vote, read_exchange, write_exchange
from palate.data.formats import sample_row
from palate.data.jsonl import write_rows
from palate.data.rubrics import GradeWord
from palate.evaluation.judge_report import report_on_judge
from palate.evaluation.judged_grades import judged_grades
from palate.judges.endpoint import OpenAIJudge
from palate.judges.judge_card import read_card
from palate.judges.rubric_grading import grader_name
from palate.rewards.batch import ScoringBatch, ScoringContext
from palate.rewards.rubric import RubricReward
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.stages.regrade import Regrade
from palate.testing.chat_answers import asked_pair, chat_answer, option_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.support.rubric_judges import asked_about, one_by_one
from tests.support.stages import ran, rows_of, summary_of

Serve = Callable[[Answer], CompletionsServer]
RUBRIC = [
    {"id": "rich", "text": "is rich", "weight": 2},
    {"id": "salty", "text": "is salty", "weight": -1},
    {"id": "new", "text": "is new", "weight": 1},
]
LENIENT, SHARP = 3.0, 4.0
"""Log-odds that the judge adds to everything, and how much surer than people it is."""


def odds(criterion: str, completion: str) -> float:
    """People's log-odds that a completion meets a criterion: the number that stands after the criterion's word."""
    words = completion.split()
    return float(words[words.index(criterion.removeprefix("is ")) + 1])


def answer(body: Mapping[str, Any]) -> tuple[int, object]:
    """Grades by its log-odds, and compares by richness where it sees no rubric."""
    if "Answer B" in body["messages"][-1]["content"]:
        first, second = (odds("is rich", text) for text in asked_pair(body))
        return 200, chat_answer(f"Verdict: {'A' if first >= second else 'B'}")
    completion, rest = asked_about(body)
    criterion = rest.split("The statement: ")[1].split("\n\n")[0]
    return 200, option_answer(SHARP * odds(criterion, completion) + LENIENT, first="yes", second="no")


def samples(folder: Path, prompts: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    folder.mkdir()
    write_rows(
        folder / "samples.jsonl",
        [
            sample_row(
                Prompt(f"p{k}", (Message("user", f"soup {k}?"),), {"rubric": RUBRIC}),
                [Completion(" ".join(f"{w} {draw.gauss(0, 1.5):.2f}" for w in ("rich", "salty", "new")), stop="eos") for _ in range(2)],
            )
            for k in range(prompts)
        ],
    )
    return str(folder)


def people(graded: Path, target: Path, unsure: int = 0) -> Exchange:
    """Two people who grade what a run graded, by their log-odds, in a file of their own; every so many grades one is unsure."""
    draw, votes = random.Random(1), []
    items = list(reversed(read_exchange(graded).items))
    for item in items:
        for who in ("ann", "bob"):
            grades: dict[str, GradeWord] = {}
            for number, one in enumerate(RUBRIC):
                met = draw.random() < 1 / (1 + math.exp(-odds(str(one["text"]), item.candidates[0].text)))
                grades[str(one["id"])] = "unsure" if unsure and (len(votes) + number) % unsure == 0 else "met" if met else "unmet"
            votes.append(Vote(Judgment(item.id, who, ()), grades=grades))
    found = Exchange(tuple(items), tuple(votes), (RaterInfo("ann"), RaterInfo("bob")))
    write_exchange(found, target)
    return found


def judge(server: CompletionsServer, **settings: Any) -> RubricReward:
    return RubricReward(model=OpenAIJudge(url=server.url, model="small"), ask="options", **settings)


@pytest.fixture(scope="module")
def server() -> Iterator[CompletionsServer]:
    """The judge of this module."""
    running = CompletionsServer(answer)
    yield running
    running.close()


@pytest.fixture(scope="module")
def run(server: CompletionsServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that graded; what people said of the same is in `people.jsonl` beside it."""
    folder = tmp_path_factory.mktemp("grades")
    done = ran(Regrade(samples(folder / "given", 60), judge(server)), folder / "graded", "regrade")
    people(done / "judgments.jsonl", folder / "people.jsonl")
    return done


@pytest.fixture(scope="module")
def measured(run: Path) -> tuple[Path, str]:
    """The card of the judge, and what the command line said of it."""
    card, said = run.with_name("card.json"), io.StringIO()
    with redirect_stdout(said):
        assert main(["judge-fit", str(run), "--people", str(run.with_name("people.jsonl")), "--out", str(card)]) == 0
    return card, said.getvalue()


NAME = grader_name("small", "options")


def test_a_run_that_grades_gives_a_card(run: Path, measured: tuple[Path, str]) -> None:
    card, said = measured
    assert said.startswith(f"{NAME} is calibrated for overall, on 360 criteria of completions that people graded (720 grades).")
    for words in (
        "all criteria",
        "rich",
        "another person",
        "always",
        "temperature: ",
        "tested on 180 of other prompts:",
        'It says "met" more',
    ):
        assert words in said, words
    for words in ("flips", "longer", "pairs", "shown first"):
        assert words not in said, words
    calibration = read_card(card).calibration_of(NAME, "overall")
    assert calibration.temperature == pytest.approx(SHARP, rel=0.5)
    assert calibration.threshold > 0.8, "a lenient judge says yes where people are even"
    figures = json.loads(card.read_text())["dimensions"]["overall"]["figures"]
    assert {one["criterion"]: one["agreement"]["pairs"] for one in figures["grades"]["criteria"]} == dict.fromkeys(
        ("rich", "salty", "new"), 120
    )
    summary = summary_of(run)
    assert summary["uncalibrated"] == [NAME]
    assert "gain" not in json.dumps(summary)
    assert set(summary["scores"]) == {"judge"}
    assert set(rows_of(run, "regrade.jsonl")[0]) == {
        "id",
        "prompt",
        "before",
        "after",
        "scores",
        "grades",
        "pairs",
        "after_wins",
    }
    assert summary["completions"] == {"before": 120, "after": 0}


def test_a_card_makes_grades_the_shares_of_people(server: CompletionsServer, run: Path, measured: tuple[Path, str], tmp_path: Path) -> None:
    card, _ = measured
    calibration = read_card(card).calibration_of(NAME, "overall")
    given, part = samples(tmp_path / "more", 3, seed=5), judge(server, calibration=str(card))
    again = ran(Regrade(given, part), tmp_path / "again", "regrade")
    plain = ran(Regrade(given, judge(server)), tmp_path / "plain", "regrade")
    for after, before in zip(rows_of(again, "regrade.jsonl"), rows_of(plain, "regrade.jsonl"), strict=True):
        for one, other in zip(after["grades"]["judge"]["before"], before["grades"]["judge"]["before"], strict=True):
            assert one == {name: pytest.approx(calibration.of_probability(grade)) for name, grade in other.items()}
    assert summary_of(again)["uncalibrated"] == []
    assert summary_of(again)["judges"] == {"calibrated": True, "calibrated_by_judge": {NAME: True}}
    assert main(["judge-fit", str(again), "--people", str(run.with_name("people.jsonl"))]) == 2
    with open_run_at(tmp_path / "reward", RunPlan("r", "rerank")).active() as of:
        scorer = part.open(ScoringContext("taste", None, None, of))  # type: ignore[arg-type]
        (prompt, completion), *_ = [(Prompt("p", (Message("user", "?"),), {"rubric": RUBRIC[:1]}), Completion("rich 1.00", stop="eos"))]
        found = scorer.score(ScoringBatch((prompt,), ((completion,),)))
        scorer.close()
        assert of.record.notes == {}
    raw = 1 / (1 + math.exp(-SHARP - LENIENT))
    assert found.heads[""].item() == pytest.approx(calibration.of_probability(raw), abs=1e-4)
    assert part.is_calibrated


def test_a_panel_takes_cards_of_its_grades(server: CompletionsServer, measured: tuple[Path, str], tmp_path: Path) -> None:
    card, _ = measured
    own = RubricReward(model=OpenAIJudge(url=server.url, model="trained"), ask="options")
    before, after = samples(tmp_path / "one", 8, seed=2), samples(tmp_path / "two", 8, seed=3)
    panel = {"held": OpenAIJudge(url=server.url, model="small")}
    found = summary_of(ran(Regrade(before, own, after, panel, (str(card),)), tmp_path / "run", "regrade"))
    trained = grader_name("trained", "options")
    assert found["uncalibrated"][0] == trained
    assert [name.split("@")[0] for name in found["uncalibrated"][1:]] == ["small/overall"]
    assert found["judges"]["calibrated_by_judge"] == {trained: False, NAME: True}
    rows = rows_of(tmp_path / "run", "regrade.jsonl")
    calibration = read_card(card).calibration_of(NAME, "overall")
    for side in ("before", "after"):
        for one, other in zip(rows[0]["grades"]["held"][side], rows[0]["grades"]["judge"][side], strict=True):
            assert one["rich"] == pytest.approx(calibration.of_probability(other["rich"]), abs=1e-6)
    asked = len(server.asked)
    for stage, words in (
        (Regrade(before, own, after, panel, (str(card), str(card))), "are both cards of small/rubric@"),
        (Regrade(before, own, after, {"x": OpenAIJudge(url=server.url, model="else")}, (str(card),)), "and the judges are else/rubric@"),
        (
            Regrade(before, RubricReward(model=own.model, calibration=str(card)), after, panel),
            "rubric.calibration: .* is the card of small",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            ran(stage, tmp_path / words[:9].replace(" ", ""), "regrade")
    assert len(server.asked) == asked, "cards are read before anything is asked"


def test_another_way_of_asking_is_another_judge(measured: tuple[Path, str], tmp_path: Path) -> None:
    card, _ = measured
    assert len({grader_name("small", asking) for asking in ("one_by_one", "options", "together")}) == 3
    part = RubricReward(model=OpenAIJudge(url="http://127.0.0.1:1/v1", model="small"), calibration=str(card))
    with open_run_at(tmp_path / "r", RunPlan("r", "rerank")).active() as of, pytest.raises(ConfigError, match="another version"):
        part.open(ScoringContext("taste", None, None, of))  # type: ignore[arg-type]


def test_a_judge_that_says_yes_or_no_is_calibrated_as_certain(serve_model: Serve, tmp_path: Path) -> None:
    """It is right as often as people, so a yes is worth about their share of yes where it says yes."""
    server = serve_model(one_by_one(lambda criterion, completion: odds(criterion, completion) > 0))
    part = RubricReward(model=OpenAIJudge(url=server.url, model="small"))
    run = ran(Regrade(samples(tmp_path / "given", 60), part), tmp_path / "graded", "regrade")
    theirs = people(run / "judgments.jsonl", tmp_path / "people.jsonl", unsure=7)
    report = report_on_judge(read_exchange(run / "judgments.jsonl"), theirs)
    (one,) = report.dimensions
    assert one.fitted is not None
    assert not one.has_probabilities
    sure = sum(word != "unsure" for vote in theirs.votes for word in vote.grades.values())
    assert one.agreement.votes == sure < 720, "who is unsure does not vote"
    yes = [vote.grades[str(c["id"])] for vote in theirs.votes for c in RUBRIC if odds(str(c["text"]), next(i for i in theirs.items if i.id == vote.judgment.comparison).candidates[0].text) > 0]  # noqa: E501  # fmt: skip
    share = yes.count("met") / (yes.count("met") + yes.count("unmet"))
    assert one.fitted.calibration.of_probability(1.0) == pytest.approx(share, abs=0.06)


def test_a_judge_that_grades_nothing_is_one_message(tmp_path: Path) -> None:
    dead = RubricReward(model=OpenAIJudge(url="http://127.0.0.1:9/v1", model="m", attempts=1))
    with pytest.raises(DataError, match="judge scored no completion, so there is nothing to measure. For example: 3 of 3 .* refused"):
        ran(Regrade(samples(tmp_path / "given", 3), dead), tmp_path / "run", "regrade")


def graded(exchange: Exchange, keep: int) -> Exchange:
    """The votes on the first completions alone."""
    items = exchange.items[:keep]
    known = {item.id for item in items}
    return Exchange(items, tuple(vote for vote in exchange.votes if vote.judgment.comparison in known), exchange.raters)


def test_few_grades_one_answer_and_no_common_criterion_are_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = read_exchange(run / "judgments.jsonl"), people(run / "judgments.jsonl", tmp_path / "people.jsonl")
    few = report_on_judge(mine, graded(theirs, 16))
    assert few.dimensions[0].missing == "people graded 48 of its criteria, and calibration takes 50; 2 are missing"
    assert report_on_judge(mine, graded(theirs, 17)).dimensions[0].missing == "what people judged has 9 prompts; a split needs 10"
    always = tuple(Vote(Judgment(item.id, NAME, ()), grades={"rich": "met", "new": "met"}) for item in mine.items)
    same = report_on_judge(Exchange(mine.items, always, mine.raters), theirs).dimensions[0]
    assert same.missing == "it gives the same answer to every criterion (met)"
    assert same.agreement.constant_answer in {"always met", "always not met"}
    write_exchange(Exchange(mine.items, (), mine.raters), tmp_path / "none.jsonl")
    (other, *_) = mine.items
    changed = Exchange(
        (type(other)("x", other.conversation, other.candidates, "rubric", fields={"rubric": [{**RUBRIC[0], "text": "else"}]}),),
        (Vote(Judgment("x", "ann", ()), grades={"rich": "met"}),), (RaterInfo("ann"),),
    )  # fmt: skip
    write_exchange(changed, tmp_path / "changed.jsonl")
    capsys.readouterr()
    for file, words in (
        ("changed.jsonl", "graded no criterion in common (360 and 1 questions)"),
        ("none.jsonl", "no grade of a criterion by any person"),
    ):
        assert main(["judge-fit", str(run), "--people", str(tmp_path / file)]) == 3
        said = capsys.readouterr().err
        assert words in said
        assert said.count("palate:") == 1


def test_the_grades_of_a_completion_are_one_comparison_and_people_are_counted(server: CompletionsServer, tmp_path: Path) -> None:
    run = ran(Regrade(samples(tmp_path / "given", 12), judge(server)), tmp_path / "graded", "regrade")
    theirs = people(run / "judgments.jsonl", tmp_path / "people.jsonl")
    found = judged_grades(read_exchange(run / "judgments.jsonl"), theirs)
    assert found.kinds == {"person": 144}
    assert not found.table.is_by_prompt
    assert len(set(found.table.cluster.tolist())) == 24
    assert sorted(found.by_criterion) == ["new", "rich", "salty"]
