"""What a judge's figures say about judges whose flaws are known, and about those without any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palate.agreement.judge_agreement import CONSTANTS, agreement_with_people, clustered_mean
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.judge_habits import JudgeHabits, flips, habits_of
from palate.core import Comparison, Completion, Judgment, Message, Prompt
from tests.support.simulated_judges import JUDGE, Pool, answers, judged

PAIR = ((0,), (1,))
TURNED = ((1,), (0,))
TIE = ((0, 1),)


def measured(pool: Pool, seed: int = 0) -> JudgeHabits:
    return habits_of(answers(pool, seed), np.random.default_rng(seed))


@pytest.mark.parametrize("is_soft", [True, False])
def test_each_planted_flaw_is_found_and_only_that(is_soft: bool) -> None:
    pool = Pool(pairs=500, is_soft=is_soft)
    longer = measured(replace(pool, length=1.0))
    first = measured(replace(pool, side=1.0))
    own = measured(replace(pool, own=3.0), seed=1)
    assert [habits.found for habits in (longer, first, own)] == [("length",), ("side",), ("own",)]
    assert longer.length.beyond.low > 0
    assert first.side.judge.low > 0
    assert own.own.beyond.low > 0
    assert own.policies == ("judge-7b",)
    assert first.flips is not None
    assert first.flips.to_first > 10 * max(first.flips.to_second, 1)


def test_a_judge_that_shuns_length_and_the_first_side_is_found_too() -> None:
    assert measured(Pool(pairs=500, length=-1.0)).length.beyond.high < 0
    assert measured(Pool(pairs=500, side=-1.0)).side.judge.high < 0


@pytest.mark.slow
def test_a_sharper_judge_is_not_blamed_for_a_taste_that_people_share() -> None:
    """People like length as quality, and the judge sees quality more sharply. A regression on their single votes blames it in each case."""
    tastes = [measured(Pool(pairs=400, sharpness=2.0, taste=0.2), seed).length.beyond for seed in range(8)]
    assert sum(taste.excludes_zero for taste in tastes) <= 2
    assert abs(np.mean([taste.value for taste in tastes])) < 0.01


@pytest.mark.slow
def test_clean_judges_raise_few_alarms() -> None:
    """5 % of clean cards may name a habit; `python -m benchmarks.judges` counts over more seeds."""
    pool = Pool(pairs=150)
    assert sum(bool(measured(pool, seed).found) for seed in range(10)) <= 2


def question(number: int, words: tuple[int, int] = (1, 2), policies: tuple[str, str] = ("", "")) -> Comparison:
    completions = tuple(Completion(f"{k} " * n, policy=policy) for k, (n, policy) in enumerate(zip(words, policies, strict=True)))
    return Comparison(f"q{number}", Prompt(f"q{number}", (Message("user", f"{number}?"),)), completions)


def table(judge: list[Judgment], people: list[Judgment], comparisons: list[Comparison]) -> JudgeAnswers:
    return JudgeAnswers.of_judgments(judge, people, comparisons, {}, lambda policy: policy == "mine")


def both(name: str, one: tuple, other: tuple, **further: object) -> list[Judgment]:
    """A judge's answers in both orders, as tiers of places shown."""
    return [Judgment(name, JUDGE, tiers, order=order, **further) for tiers, order in ((one, (0, 1)), (other, (1, 0)))]


def test_flips_are_counted_by_kind_and_over_pairs_in_both_orders_only() -> None:
    judge = [
        *both("q0", PAIR, TURNED),  # completion 0 both times
        *both("q1", PAIR, PAIR),  # what is shown first
        *both("q2", TURNED, TURNED),  # what is shown second
        *both("q3", PAIR, TIE),
        Judgment("q4", JUDGE, PAIR, order=(0, 1)),
        Judgment("q5", JUDGE, TIE, is_consistent=False),
        Judgment("q6", JUDGE, PAIR, is_consistent=True),
    ]
    found = flips(table(judge, [], [question(k) for k in range(7)]))
    assert found is not None
    assert (found.share.value, found.share.n) == (4 / 6, 6)
    assert (found.to_first, found.to_second, found.to_tie, found.unknown) == (1, 1, 1, 1)
    assert flips(table(judge[8:9], [], [])) is None


def test_the_label_is_the_mean_over_raters_of_the_mean_of_their_answers() -> None:
    soft = [
        Judgment("q0", f"{JUDGE}#a", PAIR, order=(0, 1), probability=0.9),
        Judgment("q0", f"{JUDGE}#a", TURNED, order=(1, 0), probability=0.3),  # 0.7 for completion 0
        Judgment("q0", f"{JUDGE}#b", TURNED, order=(0, 1), probability=0.2),
    ]
    found = table(soft, [], [question(0)])
    assert found.label == pytest.approx([(0.8 + 0.2) / 2])
    assert found.verdict.tolist() == [1]
    assert table(soft[:2], [], []).verdict.tolist() == [0]
    assert found.judge.shown_first == pytest.approx([0.9, 0.3, 0.2])


def test_agreement_is_counted_by_votes_and_beside_floors_and_ceiling() -> None:
    comparisons = [question(k, words=(3, 1)) for k in range(4)]
    judge = [judgment for k in range(3) for judgment in both(f"q{k}", PAIR, TURNED)] + both("q3", PAIR, PAIR)
    people = [
        Judgment("q0", "ann", PAIR), Judgment("q0", "bob", PAIR), Judgment("q0", "cid", TURNED),
        Judgment("q1", "ann", TURNED), Judgment("q2", "ann", TIE), Judgment("q3", "ann", TIE), Judgment("q3", "bob", TIE),
        Judgment("q9", "ann", PAIR),
    ]  # fmt: skip
    found = agreement_with_people(table(judge, people, comparisons), np.random.default_rng(0))
    assert (found.pairs, found.votes) == (4, 7)
    assert found.judge.with_ties.value == pytest.approx(4 / 7)  # two on q0, both ties on q3
    assert found.judge.decided.value == pytest.approx(2 / 4)
    assert found.majority.with_ties.value == 1.0  # q0 and q3 have two votes or more
    assert found.people.with_ties.value == pytest.approx((0.5 + 0.5 + 0 + 1 + 1) / 5)
    assert found.people.decided.value == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.constant_answer == CONSTANTS[0]
    assert found.constant.with_ties.value == pytest.approx(3 / 7)  # in both orders every constant answer is a tie
    assert found.constant.decided.value == 0.5
    assert found.longer.with_ties.value == pytest.approx(2 / 7)
    assert found.over_constant.value == pytest.approx(0.0)
    assert found.over_longer.value == pytest.approx(0.0)


def test_a_constant_answer_in_one_order_is_the_side_shown() -> None:
    judge = [Judgment(f"q{k}", JUDGE, PAIR, order=(k % 2, 1 - k % 2)) for k in range(6)]
    people = [Judgment(f"q{k}", "ann", PAIR) for k in range(6)]
    found = agreement_with_people(table(judge, people, [question(k) for k in range(6)]), np.random.default_rng(0))
    assert found.judge.with_ties.value == found.constant.with_ties.value == 0.5


def test_what_is_not_known_stays_unknown() -> None:
    comparisons, judge, people = judged(Pool(pairs=120), 0)
    bare = [replace(one, completions=tuple(replace(side, text="", policy="") for side in one.completions)) for one in comparisons]
    found = habits_of(table(judge, people, bare), np.random.default_rng(0))
    assert (found.length.beyond.n, found.own.beyond.n, found.length.judge.n) == (0, 0, 0)
    assert agreement_with_people(table(judge, people, bare), np.random.default_rng(0)).longer.decided.n == 0
    single = [one for one in people if one.rater != people[1].rater][::2]
    assert habits_of(table(judge, single[:60], comparisons), np.random.default_rng(0)).length.beyond.n == 0


def test_intervals_of_clustered_means_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shift = np.repeat(rng.normal(0, 0.15, 60), 5)
        values = (rng.random(300) < np.clip(0.7 + shift, 0, 1)).astype(np.float64)
        found = clustered_mean(values, np.repeat(np.arange(60), 5), rng, resamples=300)
        held += found.low <= 0.7 <= found.high
    assert 0.90 <= held / 200 <= 0.99


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ([both("q0", PAIR, PAIR), both("q1", PAIR, PAIR)], "what is shown first"),
        ([both("q0", TURNED, TURNED), both("q1", TURNED, TURNED)], "what is shown second"),
        ([both("q0", TIE, TIE), both("q1", TIE, TIE)], "a tie"),
        ([[Judgment("q0", JUDGE, PAIR)], [Judgment("q1", JUDGE, PAIR)]], "the completion that the file calls the first"),
        ([both("q0", PAIR, PAIR, probability=0.8), both("q1", PAIR, PAIR, probability=0.7)], ""),
        ([both("q0", PAIR, PAIR), both("q1", PAIR, TURNED)], ""),
    ],
)
def test_a_judge_that_always_says_the_same_is_known(judge: list[list[Judgment]], said: str) -> None:
    assert table([one for pair in judge for one in pair], [], [question(0), question(1)]).same_answer == said
