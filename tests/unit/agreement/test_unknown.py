"""What is not known, and what names do not decide: names of sides, total habits, few raters, answers that were given again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.agreement import Votes, VoteTable, advice, analyse, dawid_skene, krippendorff_alpha, length_bias, raw_agreement, side_bias
from palate.core import Comparison, Completion, Judgment, Prompt


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[Judgment], list[Comparison]]:
    """Pairs of texts of three policies, judged by up to four raters, now and then again, with ties, strengths and unknown orders."""
    judgments, comparisons = [], []
    for k in range(draw(st.integers(3, 12))):
        sides = [Completion("w " * draw(st.integers(1, 6)) + name, policy=name) for name in draw(st.permutations("abc"))[:2]]
        comparisons.append(Comparison(f"i{k}", Prompt("p", ()), tuple(sides)))
        for rater in draw(st.lists(st.sampled_from(["r0", "r1", "r2", "unknown"]), max_size=5)):
            ranking = draw(st.sampled_from([((0,), (1,)), ((1,), (0,)), ((0, 1),)]))
            order = draw(st.sampled_from([None, (0, 1), (1, 0)]))
            strength = draw(st.sampled_from([None, 1.0, 3.0]))
            judgments.append(Judgment(f"i{k}", rater, ranking, order=order, strength=strength))
    return judgments, comparisons


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == (pytest.approx(other, rel=1e-5, abs=1e-6) if isinstance(other, float) else other)


@settings(max_examples=25)
@given(given_judgments=judged(), turns=st.lists(st.booleans(), min_size=12, max_size=12))
def test_no_figure_depends_on_which_completion_is_called_the_first(
    given_judgments: tuple[list[Judgment], list[Comparison]], turns: list[bool]
) -> None:
    judgments, comparisons = given_judgments
    if not judgments:
        return
    turned = {one.id: is_turned for one, is_turned in zip(comparisons, turns, strict=False)}
    swapped = [one.renumbered(one.comparison, (1, 0)) if turned[one.comparison] else one for one in judgments]
    sides = [one.swapped() if turned[one.id] else one for one in comparisons]
    plain, again = (
        analyse(VoteTable.of_judgments(rows, texts), rng()).plain() | {"answers": []}
        for rows, texts in ((judgments, comparisons), (swapped, sides))
    )
    assert alike(plain, again), json.dumps([plain, again])


def drawn_sides(votes: int, seed: int, raters: int = 3) -> tuple[Votes, np.ndarray]:
    """Votes for whatever stands first, on sides that are drawn."""
    shown = rng(seed).integers(0, 2, votes)
    return Votes.of((f"i{k // raters}", f"r{k % raters}", int(2 * shown[k])) for k in range(votes)), shown


def test_a_total_habit_has_a_bound_and_a_sentence() -> None:
    votes, shown = drawn_sides(150, 1)
    policy = np.array([[k % 3, (k + 1) % 3] for k in range(50)])
    table = VoteTable.of(votes, shown=shown, policy=policy, policies=("a", "b", "c"))
    found = side_bias(table, rng())
    assert (found.logit.value, found.logit.high) == (math.inf, math.inf)
    assert 1.5 < found.logit.low < math.log(0.975 / 0.025) * 2
    assert (found.share.value, found.share.high) == (1.0, 1.0)
    assert found.share.low == pytest.approx(1 / (1 + 3.8415 / 50), rel=1e-3)  # Wilson's for 50 comparisons
    report = analyse(table, rng())
    assert any("at least" in line and "shown first" in line for line in advice(report))
    assert report.plain()["side"]["logit"]["low"] > 1.5
    other = side_bias(replace(table, shown=1 - shown), rng())
    assert (other.logit.value, other.logit.high) == (-math.inf, pytest.approx(-found.logit.low, rel=1e-3))


def test_without_policies_the_bound_is_that_of_so_many_comparisons() -> None:
    votes, shown = drawn_sides(60, 2)
    found = side_bias(VoteTable.of(votes, shown=shown), rng())
    least = 0.025 ** (1 / 20)  # 20 comparisons, all one way
    assert found.logit.low == pytest.approx(math.log(least / (1 - least)), rel=1e-3)


def test_a_habit_that_quality_explains_as_well_stays_unknown() -> None:
    votes = Votes.of((f"i{k}", f"r{r}", 0) for k in range(60) for r in range(2))
    table = VoteTable.of(votes, np.zeros(120, dtype=np.int64), policy=np.tile([0, 1], (60, 1)), policies=("a", "b"))
    found = side_bias(table, rng())
    assert math.isnan(found.logit.value)
    assert found.logit.n == 60
    assert not any("shown first" in line for line in advice(analyse(table, rng())))


def test_a_total_taste_for_length_has_a_bound() -> None:
    answers = rng(3).integers(0, 2, 40)
    votes = Votes.of((f"i{k}", f"r{k % 3}", int(2 * answers[k])) for k in range(40))
    words = np.where(answers[:, None] == [0, 1], 30.0, 20.0)
    shown = rng(4).integers(0, 2, 40)
    for table in (VoteTable.of(votes, words=words), VoteTable.of(votes, shown=shown, words=words)):
        found = length_bias(table)
        assert found.logit.value == math.inf
        assert 1 < found.logit.low < 10


@pytest.mark.parametrize(("raters", "is_known"), [(1, False), (4, False), (5, True)])
def test_an_error_for_other_raters_needs_raters(raters: int, is_known: bool) -> None:
    draw = rng(5)
    votes = Votes.of((f"i{k}", f"r{k % raters}", int(2 * draw.integers(0, 2))) for k in range(80))
    words = draw.integers(5, 50, (80, 2)).astype(float)
    table = VoteTable.of(votes, shown=draw.integers(0, 2, 80), words=words)
    for found in (side_bias(table, rng()), length_bias(table)):
        assert math.isnan(found.rater_se) != is_known
    unnamed = replace(table, anonymous=frozenset({0}))
    assert math.isnan(side_bias(unnamed, rng()).rater_se)


def test_full_agreement_of_a_few_is_no_certainty() -> None:
    counts = np.tile([3.0, 0.0, 0.0], (4, 1))
    mirror = np.array([2, 1, 0])
    agreement, alpha = raw_agreement(counts, rng()), krippendorff_alpha(counts, rng(), mirror=mirror)
    assert (agreement.value, alpha.value) == (1.0, 1.0)
    assert agreement.low == pytest.approx(0.510, abs=1e-3)  # Wilson's for 4 of 4
    assert 0 < alpha.low < 0.2
    against = np.tile([1.0, 0.0, 1.0], (4, 1))
    lowest = krippendorff_alpha(against, rng(), mirror=mirror)
    assert lowest.low == lowest.value < 0 < lowest.high


def test_one_ranking_alone_has_no_interval() -> None:
    counts = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    for found in (raw_agreement(counts, rng(), cluster=np.zeros(3, int)), krippendorff_alpha(counts, rng(), cluster=np.zeros(3, int))):
        assert not math.isnan(found.value)
        assert math.isnan(found.low)


def both_orders(flips: bool) -> list[Judgment]:
    """Two judges of 40 pairs, each in both orders: they take the first shown, or the first completion."""
    return [
        Judgment(f"i{k}", who, ((0,), (1,)) if flips or order == (0, 1) else ((1,), (0,)), order=order)
        for k in range(40)
        for who in ("ann", "bob")
        for order in ((0, 1), (1, 0))
    ]


def test_answers_that_were_given_again_are_counted_and_compared() -> None:
    flipping, steady = (analyse(VoteTable.of_judgments(both_orders(flips=flips)), rng()) for flips in (True, False))
    for report, same in ((flipping, 0.0), (steady, 1.0)):
        assert report.votes == 80
        assert report.repeats is not None
        assert (report.repeats.earlier, report.repeats.same.value, report.repeats.turned.value) == (80, same, same)
    assert flipping.side.share.value == 1.0
    assert any("another answer in 100% of the cases" in line for line in advice(flipping))
    assert any("lean to what is shown first" in line for line in advice(flipping))
    assert steady.side.share.value == 0.5
    assert analyse(VoteTable.of_judgments(both_orders(flips=True)[::2]), rng()).repeats is None


def test_rules_have_answers_of_their_own() -> None:
    rows = [(f"i{k}", who, k % 4 == 0 if who == "ann" else k % 5 == 0, 2.0) for k in range(20) for who in ("ann", "ben")]
    table = VoteTable.of_verdicts([*rows, ("i0", "ann", False, None), ("g", "ann", True, None)], {"g": True})
    report = analyse(table, rng())
    assert (report.names, sum(report.answers), report.votes) == (("broken", "kept"), 40, 40)
    assert report.repeats is not None
    assert report.repeats.earlier == 1
    counts = table.without_tests().votes.counts()
    assert report.alpha.value == pytest.approx(krippendorff_alpha(counts, rng()).value)  # yes is not no by another name
    assert report.by_rater[0].gold.value == 1.0
    assert all(rater.ties == 0 for rater in report.by_rater)


def test_dawid_skene_learns_the_same_whatever_the_names() -> None:
    answers = rng(6).choice(3, (30, 4), p=[0.6, 0.2, 0.2])
    votes = Votes.of((f"i{k}", f"r{r}", int(answers[k, r])) for k in range(30) for r in range(4))
    turned = rng(7).integers(0, 2, 30)[votes.item] == 1
    other = replace(votes, answer=np.where(turned, 2 - votes.answer, votes.answer))
    one, two = (dawid_skene(each, mirror=each.mirror) for each in (votes, other))
    assert one.accuracy() == pytest.approx(two.accuracy())
    assert np.diff(one.objective).min() > -1e-9
    assert dawid_skene(votes).accuracy() != pytest.approx(dawid_skene(other).accuracy(), abs=1e-3)
