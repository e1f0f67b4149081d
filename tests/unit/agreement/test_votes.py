"""The table of votes, judgments of pairs and rankings, and what a table knows beside them."""

import math

import numpy as np
import pytest

from palate.agreement import PAIR_ANSWERS, Votes, VoteTable, pair_answer
from palate.core import Comparison, Completion, DataError, Judgment, Message, Prompt

FIRST, TIE, SECOND = range(3)


def judgment(ranking, order=(0, 1), rater="anna", comparison="c", **more) -> Judgment:
    return Judgment(comparison, rater, ranking, order=order, **more)


def test_an_answer_is_about_completions_not_about_sides() -> None:
    assert pair_answer(judgment(((0,), (1,)))) == FIRST
    assert pair_answer(judgment(((0,), (1,)), order=(1, 0))) == SECOND
    assert pair_answer(judgment(((1,), (0,)), order=(1, 0))) == FIRST
    assert pair_answer(judgment(((0, 1),), order=(1, 0))) == TIE


def test_a_raters_last_answer_counts() -> None:
    votes = Votes.of([("a", "anna", 0), ("a", "ben", 2), ("a", "anna", 1)])
    assert votes.counts().tolist() == [[0, 1, 1]]
    assert (votes.items, votes.raters, len(votes)) == (("a",), ("anna", "ben"), 2)


def test_a_ranking_is_its_pairs() -> None:
    votes = Votes.of_judgments([judgment(((2,), (0, 1)), order=(2, 0, 1))])  # best: completion 1; 2 and 0 tie
    found = dict(zip(votes.items, (PAIR_ANSWERS[a] for a in votes.answer), strict=True))
    assert found == {"c/overall/0-1": "second", "c/overall/0-2": "tie", "c/overall/1-2": "first"}


@pytest.mark.parametrize(
    ("ranking", "order"), [(((0,),), (0, 1)), (((0,), (0,)), (0, 1)), (((0,), (2,)), (0, 1)), (((0,), (1,)), (0, 0)), (((0,),), (0,))]
)
def test_a_ranking_that_is_none_is_refused(ranking, order) -> None:
    with pytest.raises(DataError, match="judgment of c by anna: the ranking"):
        Votes.of_judgments([judgment(ranking, order)])


def test_codes_without_names_are_refused() -> None:
    item = np.array([0, 1])
    with pytest.raises(DataError, match=r"rater codes must lie in 0\.\.0, got 0\.\.1"):
        Votes(item, item, item, ("a", "b"), ("anna",))
    with pytest.raises(DataError, match="need one length, got answer of shape"):
        Votes(item, item, item[:1], ("a", "b"), ("anna", "ben"))
    with pytest.raises(DataError, match="the answers first, tie, second or broken, kept or unmet, met, got no, yes"):
        VoteTable.of(Votes.of([("a", "anna", 1)], ("no", "yes")))


def test_a_survey_of_judgments_knows_sides_lengths_policies_tests_and_times() -> None:
    prompt = Prompt("p", (Message("user", "hi"),))
    sides = Completion("one two three", policy="sft"), Completion("one", policy="ppo")
    told = [
        judgment(((0,), (1,)), order=(1, 0), seconds=4.0, dimension="honest"),
        judgment(((0, 1),), rater="ben"),
        judgment(((1,), (0,)), order=None, rater="ben", comparison="unseen"),
    ]
    table = VoteTable.of_judgments(told, [Comparison("c", prompt, sides)], {"c": ((1,), (0,))})
    assert table.votes.items == ("c/honest", "c/overall", "unseen/overall")
    assert table.votes.answer.tolist() == [SECOND, TIE, SECOND]
    assert table.shown.tolist() == [1, 0, -1]
    assert table.words[:2].tolist() == [[3, 1], [3, 1]]
    assert np.isnan(table.words[2]).all()
    assert [[table.policies[k] for k in row] for row in table.policy[:2]] == [["sft", "ppo"]] * 2
    assert table.policy[2].tolist() == [-1, -1]
    assert table.gold.tolist() == [SECOND, SECOND, -1]
    assert [table.dimensions[k] for k in table.dimension] == ["honest", "overall", "overall"]
    assert table.seconds[0] == 4.0
    assert math.isnan(table.seconds[1])


def test_an_undone_judgment_leaves_neither_its_side_nor_its_time() -> None:
    told = [judgment(((0,), (1,)), seconds=9.0), judgment(((0,), (1,)), order=(1, 0), seconds=2.0)]
    table = VoteTable.of_judgments(told)
    assert (table.votes.answer.tolist(), table.shown.tolist(), table.seconds.tolist()) == ([SECOND], [1], [2.0])
    old = table.earlier
    assert (old.answer.tolist(), old.shown.tolist(), old.next_answer.tolist(), old.next_shown.tolist()) == ([FIRST], [0], [SECOND], [1])


def test_votes_of_nobody_in_particular_are_as_many_votes() -> None:
    told = [judgment(((0,), (1,)), rater="unknown"), judgment(((1,), (0,)), rater="unknown"), judgment(((0,), (1,)), rater="unknown-1")]
    table = VoteTable.of_judgments(told)
    assert (len(table.votes), table.earlier.item.size, len(table.anonymous)) == (3, 0, 3)
    assert not table.is_named.any()
