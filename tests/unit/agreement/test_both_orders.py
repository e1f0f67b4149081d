"""A judge who saw each pair in both orders is one rater with one vote per pair, and its biases count each of its answers."""

import numpy as np
import pytest

from palate.agreement.advice import advice
from palate.agreement.analysis import analyse
from palate.agreement.vote_table import VoteTable
from palate.core import Judgment


def judged(pair: int, order: tuple[int, int], probability: float, rater: str = "judge") -> Judgment:
    ranking = ((0,), (1,)) if probability > 0.5 else ((1,), (0,))
    return Judgment(f"pair-{pair}", rater, ranking, order=order, probability=probability)


def person(pair: int, order: tuple[int, int], first: bool) -> Judgment:
    return Judgment(f"pair-{pair}", "ann", ((0,), (1,)) if first else ((1,), (0,)), order=order)


def table(*judgments: Judgment) -> VoteTable:
    return VoteTable.of_judgments(judgments)


@pytest.mark.parametrize(
    ("shown_first", "shown_second", "answer"),
    [(0.9, 0.8, 0), (0.6, 0.9, 2), (0.9, 0.6, 0), (0.7, 0.7, 1), (0.2, 0.1, 0), (0.1, 0.2, 2), (0.9, 0.1, 0)],
)
def test_the_vote_is_the_side_that_the_mean_favours(shown_first: float, shown_second: float, answer: int) -> None:
    """`shown_first` and `shown_second` are the probabilities of whichever completion stands first."""
    found = table(judged(1, (0, 1), shown_first), judged(1, (1, 0), shown_second))
    assert found.votes.answer.tolist() == [answer]


def test_a_judge_does_not_count_double_and_its_flips_and_side_show() -> None:
    """It takes what stands first in 6 of 10 pairs, and looks in 4."""
    rows = []
    for pair in range(10):
        probabilities = (0.9, 0.8) if pair < 6 else (0.9, 0.1)
        rows += [judged(pair, order, one) for order, one in zip(((0, 1), (1, 0)), probabilities, strict=True)]
        rows.append(person(pair, (1, 0), first=False))
    report = analyse(table(*rows), np.random.default_rng(0))
    assert (report.votes, report.items, report.doubles, report.raters) == (20, 10, 10, 2)
    assert report.averaged == 10
    assert report.agreement.value == 1.0
    assert report.repeats is not None
    assert report.repeats.turned is not None
    assert report.repeats.turned.value == pytest.approx(0.4)
    by_rater = {rater.rater: rater for rater in report.by_rater}
    assert by_rater["judge"].votes == 10
    first_shown = by_rater["judge"].first_shown
    assert first_shown is not None
    assert first_shown.value == pytest.approx((6 * 2 + 4) / 20)


def test_of_a_person_who_answers_again_the_last_answer_counts() -> None:
    found = table(person(1, (0, 1), first=True), person(1, (1, 0), first=True))
    assert found.votes.answer.tolist() == [2]
    assert found.last is None


def leaning(pairs: int, orders: tuple[tuple[int, int], ...]) -> list[Judgment]:
    """A judge who takes what stands first in three of four answers."""
    return [judged(pair, order, 0.2 if (pair + place) % 4 == 3 else 0.8) for pair in range(pairs) for place, order in enumerate(orders)]


def test_who_saw_every_order_is_not_told_to_draw_the_orders_at_random() -> None:
    """The same habit of a judge who saw each pair once is named, and so is that of a person who stands beside a judge."""
    both, once = leaning(200, ((0, 1), (1, 0))), leaning(200, ((0, 1),))
    cases = [(both, True), (once, False), ([*both, *once[:50]], False), ([*both, person(1, (0, 1), first=True)], False)]
    for said, saw_all in cases:
        report = analyse(table(*said), np.random.default_rng(0))
        assert report.saw_all_orders is saw_all
        assert report.side.logit.low > 0
        assert any("Show sides in random order" in line for line in advice(report)) is not saw_all
    unknown = [Judgment("pair-1", "file", ((0,), (1,)))]
    assert not table(*unknown).saw_all_orders
    assert not table().saw_all_orders
