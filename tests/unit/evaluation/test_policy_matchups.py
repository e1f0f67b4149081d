"""Which answers meet, who is asked about what, and how answers become votes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from palate.core import Completion, Judgment, Message, Prompt
from palate.evaluation.policy_answers import AnsweredPrompt
from palate.evaluation.policy_matchups import AskedQuestions, all_matchups, balanced, score_votes


def answered(*texts: tuple[str, ...], count: int = 1) -> list[AnsweredPrompt]:
    """One prompt per tuple, with a text of each policy, several times with a number where `count` is more than one."""
    prompts = []
    for k, own in enumerate(texts):
        each = tuple(
            tuple(Completion(text if count == 1 else f"{text} {n}", policy=f"p{number}") for n in range(count))
            for number, text in enumerate(own)
        )
        prompts.append(AnsweredPrompt(Prompt(f"q{k}", (Message("user", f"question {k}"),)), each))
    return prompts


def test_the_first_meets_the_first_and_every_pair_of_policies_meets() -> None:
    found = all_matchups(answered(("a", "b", "c"), ("d", "e", "f"), count=2))
    assert len(found) == 2 * 3 * 2
    assert [each.pair for each in found] == list(range(12))
    assert {(each.prompt, each.one, each.other, each.completion) for each in found} == {
        (prompt, *pair, k) for prompt in (0, 1) for pair in ((0, 1), (0, 2), (1, 2)) for k in (0, 1)
    }
    for each in found:
        one, other = each.completions
        assert (one.policy, other.policy) == (f"p{each.one}", f"p{each.other}")
        assert one.text.split()[1] == other.text.split()[1] == str(each.completion)
        assert "p0" not in each.comparison.id  # raters may see the id


@pytest.mark.parametrize("count", [1, 2, 4])
def test_in_a_balanced_design_all_pairs_meet_equally_often_and_not_in_the_order_of_the_file(count: int) -> None:
    every = all_matchups(answered(*[("a", "b", "c", "d")] * 60))
    found = balanced(every, count, random.Random(0))
    assert Counter(Counter(each.prompt for each in found).values()) == {count: 60}
    met = Counter((each.one, each.other) for each in found)
    assert len(met) == 6
    assert max(met.values()) - min(met.values()) <= 1
    by_place = [{(each.one, each.other) for each in found if each.prompt % 6 == rest} for rest in range(6)]
    assert all(len(pairs) > count for pairs in by_place)  # dealt out in the order of the file, each place would always have its own
    assert balanced(every, None, random.Random(0)) == every
    assert balanced(every, 6, random.Random(0)) == every


def test_equal_and_empty_answers_are_not_asked_about_and_count() -> None:
    questions = AskedQuestions.about(all_matchups(answered(("same", "same"), ("said", " \n"), ("", "said"), ("", " "), ("one", "other"))))
    assert [comparison.prompt.id for comparison, _ in questions.asks(("overall",))] == ["q4"]
    rows = questions.votes([], "overall", "last")
    assert list(zip(rows.prompt, rows.won, strict=True)) == [(0, 0.5), (1, 1.0), (2, 0.0), (3, 0.5)]
    assert rows.lengths[1] == (4, 2)


def test_a_question_that_several_pairs_have_is_asked_once_and_counts_for_each() -> None:
    questions = AskedQuestions.about(all_matchups(answered(("x", "x", "y"), ("x", "y", "x"))))
    asks = questions.asks(("overall",))
    assert len(asks) == 2
    said = [Judgment(comparison.id, "ann", ((1,), (0,)), order=(1, 0)) for comparison, _ in asks]  # the one that stands second in order: 0
    rows = questions.votes(said, "overall", "last")
    wins = {(prompt, one, other): won for prompt, one, other, won in zip(rows.prompt, rows.first, rows.second, rows.won, strict=True)}
    assert wins == {(0, 0, 1): 0.5, (0, 0, 2): 1.0, (0, 1, 2): 1.0, (1, 0, 1): 1.0, (1, 0, 2): 0.5, (1, 1, 2): 0.0}


def test_what_counts_is_a_person_s_last_answer_and_of_a_judge_the_side_or_the_mean_of_both_orders() -> None:
    questions = AskedQuestions.about(all_matchups(answered(("x", "y"))))
    ((comparison, _),) = questions.asks(("overall",))
    twice = [Judgment(comparison.id, "ann", ((0,), (1,)), order=(0, 1)), Judgment(comparison.id, "ann", ((0,), (1,)), order=(1, 0))]
    assert questions.votes(twice, "overall", "last").won == [0.0]
    assert questions.votes(twice, "overall", "side").won == [0.5]
    judged = [
        Judgment(comparison.id, "judge", ((0,), (1,)), order=(0, 1), probability=0.9),
        Judgment(comparison.id, "judge", ((0,), (1,)), order=(1, 0), probability=0.6),
    ]
    assert questions.votes(judged, "overall", "share").won == [pytest.approx(0.65)]
    assert questions.votes(judged, "overall", "side").won == [1.0]
    assert questions.votes(judged, "helpful", "side").won == []
    decided = [Judgment(comparison.id, "owner", ((0,), (1,)), order=(0, 1), is_decision=True)]
    assert questions.votes(decided, "overall", "last").won == []
    assert questions.votes([*twice, *judged], "overall", "last").won == [0.0, 0.0]


def test_the_higher_score_wins_and_a_difference_in_the_last_digits_is_a_tie() -> None:
    found = all_matchups(answered(("a", "b"), ("a", "b"), ("a", "a"), ("a", "b"), ("a", "b")))
    rows = score_votes(found, [[[2.0], [1.0]], [[-1.0], [3.0]], [[1.0], [4.0]], [[1.0], [None]], [[5.0], [5.0 + 1e-7]]])
    assert list(zip(rows.prompt, rows.won, strict=True)) == [(0, 1.0), (1, 0.0), (2, 0.5), (4, 0.5)]
