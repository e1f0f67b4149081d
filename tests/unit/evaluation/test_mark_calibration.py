"""Marks of single completions measured on people: their scale in nats, what they are worth beside rules, and people's own marks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.core import DataError, Message
from palate.data.exchange import Exchange
from palate.data.marks import Mark, has_marks, read_marks
from palate.evaluation.judge_report import JudgedDimension, findings, report_on_judge, verdict
from palate.evaluation.marked_pairs import exchange_of_marks
from palate.judges.judge_card import NO_MARKS, MarkCalibration, read_card
from tests.support.marked_world import JUDGE, MarkOf, world


def measured(marks: Sequence[Mark], people: Exchange, people_marks: Sequence[Mark] = ()) -> JudgedDimension:
    report = report_on_judge(exchange_of_marks(marks), people, marks=(*marks, *people_marks))
    (one,) = report.dimensions
    return one


def test_the_scale_of_marks_is_recovered_in_nats() -> None:
    marks, people, worth = world(lambda rng, quality, words: 6 + 1.5 * quality, prompts=160)
    found = measured(marks, people).marks
    assert found is not None
    assert found.calibration.temperature == pytest.approx(1.5, rel=0.15)
    assert found.calibration.threshold == pytest.approx(np.mean([mark.value for mark in marks]))
    assert found.slope.low < 1 / 1.5 < found.slope.high
    assert found.fitted + found.tested == 480
    assert found.calibrated.log_loss.high < found.constant.log_loss.value == pytest.approx(math.log(2))
    assert found.over_constant.low > 0
    assert found.over_longer is not None
    assert found.over_longer.low > 0
    assert found.calibrated.log_loss.value < found.implied.log_loss.low
    one, other = ("question 0", marks[0].completion), ("question 0", marks[1].completion)
    gap = found.calibration.score(marks[0].value) - found.calibration.score(marks[1].value)
    assert gap == pytest.approx(worth[one] - worth[other], rel=0.15)


def test_a_score_is_zero_at_the_threshold_and_one_a_temperature_above() -> None:
    fitted = MarkCalibration(temperature=2.0, threshold=3.0)
    assert (fitted.score(3.0), fitted.score(5.0), fitted.score(2.0)) == (0.0, 1.0, -0.5)


def test_fewer_than_fifty_pairs_do_not_calibrate_marks_and_the_card_says_so(tmp_path: Path) -> None:
    marks, people, _ = world(lambda rng, quality, words: quality, prompts=60)
    few = [mark for mark in marks if int(mark.prompt[0].text.split()[1]) < 16]
    whole = exchange_of_marks(marks)
    report = report_on_judge(whole, people, marks=few)
    (one,) = report.dimensions
    words = "people judged 48 pairs of completions that it marked, and calibration takes 50; 2 are missing"
    assert one.marks_missing == words
    assert verdict(JUDGE, one).endswith(f"Its marks are not: {words}.")
    report.card.write(tmp_path / "card.json")
    entry = read_card(tmp_path / "card.json").dimensions["overall"]
    assert entry.calibration is not None
    assert (entry.marks, entry.marks_missing) == (None, words)


def test_a_judge_without_marks_is_not_blamed_for_that() -> None:
    marks, people, _ = world(lambda rng, quality, words: quality, prompts=60)
    (one,) = report_on_judge(exchange_of_marks(marks), people).dimensions
    assert (one.marks, one.marks_missing) == (None, NO_MARKS)
    assert "marks" not in verdict(JUDGE, one)


@pytest.mark.parametrize(
    ("mark_of", "words"),
    [
        (lambda rng, quality, words: 4.0, "it gives both completions of every pair the same mark"),
        (lambda rng, quality, words: float(rng.integers(1, 6)), "its marks do not tell what people prefer"),
        (lambda rng, quality, words: -quality, "its marks do not tell what people prefer"),
    ],
)
def test_marks_that_tell_nothing_are_not_calibrated(mark_of: MarkOf, words: str) -> None:
    marks, people, _ = world(mark_of)
    assert words in measured(marks, people).marks_missing


def test_people_who_never_contradict_the_marks_leave_their_scale_open() -> None:
    marks, people, worth = world(lambda rng, quality, words: quality)
    sure = []
    for item, vote in zip(people.items, people.votes[::2], strict=True):
        first, second = (worth[item.conversation[0].text, candidate.text] for candidate in item.candidates)
        sure.append(replace(vote, judgment=replace(vote.judgment, ranking=((0,), (1,)) if first > second else ((1,), (0,)))))
    assert "people never contradict its marks" in measured(marks, replace(people, votes=tuple(sure))).marks_missing


def test_marks_that_only_count_words_are_not_better_than_the_length_rule() -> None:
    marks, people, _ = world(lambda rng, quality, words: words / 10, prompts=150, taste=0.5)
    one = measured(marks, people)
    assert one.marks is not None
    assert one.marks.over_constant.low > 0
    assert any(sentence.startswith("Its marks cannot be told from the length rule") for sentence in findings(one))
    good, people, _ = world(lambda rng, quality, words: quality, prompts=150, taste=0.5)
    assert not any("length rule" in sentence for sentence in findings(measured(good, people)))


def test_marks_of_others_do_not_count_as_those_of_the_judge() -> None:
    marks, people, _ = world(lambda rng, quality, words: quality)
    noise = [Mark(mark.prompt, mark.completion, "eve", float(k % 7)) for k, mark in enumerate(marks)]
    alone, mixed = (report_on_judge(exchange_of_marks(marks), people, marks=given).dimensions[0].marks for given in (marks, marks + noise))
    assert alone is not None
    assert alone == mixed


def likert(rng: np.random.Generator, worth: float) -> float:
    """A person's mark from 1 to 7."""
    return float(np.clip(np.round(4 + worth + rng.normal(0, 0.5)), 1, 7))


def test_peoples_own_marks_calibrate_too_and_have_a_distance() -> None:
    marks, _, worth = world(lambda rng, quality, words: 50 + 10 * quality)
    rng = np.random.default_rng(1)
    theirs = [
        Mark(mark.prompt, mark.completion, who, likert(rng, worth[mark.prompt[0].text, mark.completion]))
        for mark in marks
        for who in ("ann", "bob")
    ]
    one = measured(marks, exchange_of_marks(theirs), theirs)
    assert one.agreement.pairs == 300
    assert one.marks is not None
    assert one.marks.over_constant.low > 0
    distance = one.distance
    assert distance is not None
    assert (distance.completions, distance.marks) == (300, 600)
    assert distance.judge.high < distance.constant.low
    assert distance.judge.value < distance.people.value < distance.constant.value
    assert distance.over_constant.low > 0
    assert distance.over_longer.low > 0
    assert measured(marks, exchange_of_marks(theirs), theirs[:98]).distance is None, "49 completions are too few"


def test_a_distance_in_marks_is_by_hand_that_of_the_held_out_half() -> None:
    """All people say 2 or 4, and a line through the judge's marks says it exactly; the constant, their median, is 1 from each."""
    prompts = [(Message("user", f"q {k}"),) for k in range(40)]
    marks = [Mark(prompt, f"{j}", JUDGE, 10.0 * (1 + j)) for prompt in prompts for j in range(2)]
    theirs = [Mark(mark.prompt, mark.completion, who, mark.value / 5) for mark in marks for who in ("ann", "bob")]
    people = exchange_of_marks(theirs)
    distance = measured(marks, people, theirs).distance
    assert distance is not None
    assert (distance.judge.value, distance.people.value, distance.constant.value) == (pytest.approx(0, abs=1e-12), 0, 1)
    assert distance.constant.n == 20


def test_marks_imply_pairs_with_ties_and_probabilities() -> None:
    prompt = (Message("user", "q"),)
    plain = [Mark(prompt, text, "ann", value) for text, value in (("a", 3), ("b", 5), ("c", 3))]
    found = exchange_of_marks(plain)
    said = {tuple(c.text for c in item.candidates): vote.judgment.ranking for item, vote in zip(found.items, found.votes, strict=True)}
    assert said == {("a", "b"): ((1,), (0,)), ("a", "c"): ((0, 1),), ("b", "c"): ((0,), (1,))}
    shares = [((1.0, 0.5), (3.0, 0.5)), ((2.0, 1.0),)]
    judge = [Mark(prompt, text, JUDGE, 2.0, shares=own) for text, own in zip("ab", shares, strict=True)]
    (vote,) = exchange_of_marks(judge).votes
    assert (vote.judgment.probability, vote.judgment.ranking) == (0.5, ((0, 1),))
    with pytest.raises(DataError, match="there are 1 marks, and no rater marked two completions of one prompt"):
        exchange_of_marks(plain[:1])
    again = [*plain, Mark(prompt, "a", "ann", 9)]
    assert exchange_of_marks(again).votes[0].judgment.ranking == ((0,), (1,)), "a rater's last mark counts"


def test_a_file_of_marks_is_read_with_its_faults(tmp_path: Path) -> None:
    file = tmp_path / "marks.jsonl"
    row = {"prompt": "What now?", "completion": "rice", "rater": "ann", "mark": 4, "dimension": "help"}
    file.write_text(
        json.dumps({"prompt": "What now?", "completion": "x", "rater": "j/i@1", "reason": "cut"}) + "\n" + json.dumps(row) + "\n"
    )
    assert has_marks(file)
    (mark,) = read_marks(tmp_path)
    assert (mark.key, mark.value, mark.dimension) == ((("What now?",), "rice"), 4.0, "help")
    for change, words in (
        ({"mark": "good"}, "`mark`"),
        ({"rater": "ann@example.org"}, "is an email address"),
        ({"shares": {"high": 1.0}}, "is not a number"),
    ):
        file.write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
        with pytest.raises(DataError, match=rf"marks.jsonl:2: .*{words}"):
            read_marks(file)
    (tmp_path / "judgments.jsonl").write_text(json.dumps({"comparison": "a", "rater": "ann", "ranking": [[0], [1]]}) + "\n")
    assert read_marks(tmp_path / "judgments.jsonl") == ()
