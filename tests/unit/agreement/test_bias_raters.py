"""Sides, lengths and single raters: what was put into a made-up crowd is found again, real votes give the known figures."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.proportion import proportion_confint

from palate.agreement import Estimate, Votes, VoteTable, analyse, dawid_skene, length_bias, rater_reports, side_bias
from palate.agreement.estimates import share
from palate.agreement.raters import guessing, pace
from palate.testing import shared_data
from palate.testing.synthetic_votes import llmfao, made_up


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(side: float, seed: int) -> VoteTable:
    """Votes on completions all alike, by raters who all lean to what is shown first."""
    return quality_free(made_up(4000, rng(seed)), side, seed)


def quality_free(table: VoteTable, side: float, seed: int) -> VoteTable:
    won = rng(seed).random(len(table.votes)) < 1 / (1 + np.exp(-side))
    left = np.where(won, 0, 2)
    answer = np.where(table.shown == 0, left, 2 - left)
    return replace(table, votes=replace(table.votes, answer=answer))


def test_the_side_bias_is_that_of_the_votes_whoever_stands_where() -> None:
    found = side_bias(balanced(0.4, 1), rng())
    assert found.policies == 12
    assert abs(found.logit.value - 0.4) < 3 * found.logit.se
    assert found.logit.se == pytest.approx(2 / 4000**0.5 * 1.02, rel=0.2)  # independent votes: 1 / sqrt(n p (1 - p))
    assert found.logit.low < 0.4 < found.logit.high
    assert found.share.value == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.025)


def test_intervals_of_the_side_bias_hold_the_truth_as_often_as_they_say() -> None:
    found = [side_bias(balanced(0.3, seed), rng(seed), resamples=60).logit for seed in range(60)]
    assert 50 <= sum(one.low < 0.3 < one.high for one in found) <= 60


def test_strength_is_not_mistaken_for_a_side() -> None:
    table = made_up(20_000, rng(2), side=0.0)
    better = table.policy[:, 0] > table.policy[:, 1]
    turned = replace(table, shown=np.where(better[table.votes.item], 0, 1))  # the stronger policy is always shown first
    with_policies = side_bias(turned, rng(), resamples=20)
    without = side_bias(replace(turned, policy=np.full_like(turned.policy, -1)), rng(), resamples=20)
    assert without.logit.value > 0.5
    assert abs(with_policies.logit.value) < 0.1


def test_the_error_grows_where_votes_of_an_item_go_together() -> None:
    table = balanced(0.0, 4)
    same = table.votes.answer[np.searchsorted(table.votes.item, table.votes.item)]
    side = table.shown[np.searchsorted(table.votes.item, table.votes.item)]
    together = replace(table, shown=side, votes=replace(table.votes, answer=same))
    assert side_bias(together, rng()).logit.se > 1.8 * side_bias(table, rng()).logit.se  # five votes as one: sqrt(5)


def test_the_length_bias_is_found_with_the_policies_taken_out() -> None:
    table = made_up(40_000, rng(5), length=0.08, side=0.3)
    true = np.ones(len(table.votes), dtype=bool)
    true[table.votes.rater % 10 == 0] = False
    votes = table.votes.selected(true)
    looked = replace(table, votes=votes, shown=table.shown[true], seconds=table.seconds[true], strength=table.strength[true])
    found = length_bias(looked)
    assert found.policies == 12
    # Unseen differences of quality between pairs (deviation 1) flatten the curve by about sqrt(1 + pi / 8).
    assert found.logit.value == pytest.approx(0.08 / (1 + np.pi / 8) ** 0.5, rel=0.1)
    assert found.logit.low > 0
    assert found.share.value > 0.55
    none = length_bias(made_up(20_000, rng(6), length=0.0))
    assert abs(none.logit.value) < 3 * none.logit.se


def test_errors_equal_those_of_statsmodels_by_item_and_by_rater() -> None:
    generator = rng(11)
    n = 1500
    rows = [(f"i{i}", f"r{r}") for i, r in dict.fromkeys(zip(generator.integers(0, 200, n), generator.integers(0, 12, n), strict=True))]
    votes = Votes.of(
        (item, rater, int(a)) for (item, rater), a in zip(rows, generator.choice(3, len(rows), p=[0.5, 0.1, 0.4]), strict=True)
    )
    words = generator.integers(5, 60, (len(votes.items), 2)).astype(float)
    words[:30, 1] = words[:30, 0]  # of equal length: no share, but odds
    words[30:40, 1] = np.nan
    table = VoteTable.of(votes, shown=generator.integers(0, 2, len(votes)), words=words)
    decided = votes.answer != 1
    first_won = (votes.answer == 2 * table.shown).astype(float)
    side = side_bias(table, rng())
    fitted = sm.OLS(first_won[decided], np.ones(decided.sum())).fit(cov_type="cluster", cov_kwds={"groups": votes.item[decided]})
    assert (side.share.value, side.share.se) == pytest.approx((fitted.params[0], fitted.bse[0]), rel=1e-9)
    used = decided & ~np.isnan(words[votes.item]).any(axis=1)
    more = (words[votes.item, table.shown] - words[votes.item, 1 - table.shown])[used] / 10
    design = np.stack([np.ones(more.size), more], axis=1)
    found = length_bias(table)
    for cluster, error in ((votes.item, found.logit.se), (votes.rater, found.rater_se)):
        theirs = sm.Logit(first_won[used], design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": cluster[used]})
        small = np.sqrt((more.size - 2) / (more.size - 1))  # they correct for two coefficients, too
        assert (found.logit.value, error) == pytest.approx((theirs.params[1], theirs.bse[1] * small), rel=1e-6)
    assert found.logit.n == np.unique(votes.item[used]).size
    assert [found.logit.low, found.logit.high] == pytest.approx([found.logit.value + sign * 1.959964 * found.logit.se for sign in (-1, 1)])
    side_alone = sm.Logit(first_won[decided], np.ones(decided.sum())).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": votes.rater[decided]}
    )
    assert (side.logit.value, side.rater_se) == pytest.approx((side_alone.params[0], side_alone.bse[0]), rel=1e-6)
    unlike = more != 0
    longer = np.where(more > 0, first_won[used], 1 - first_won[used])[unlike]
    fitted = sm.OLS(longer, np.ones(longer.size)).fit(cov_type="cluster", cov_kwds={"groups": votes.item[used][unlike]})
    assert (found.share.value, found.share.se) == pytest.approx((fitted.params[0], fitted.bse[0]), rel=1e-9)
    assert found.share.n == np.unique(votes.item[used][unlike]).size


def test_with_one_policy_unknown_no_strength_is_taken_out(crowd) -> None:
    assert length_bias(crowd).policies == 12
    policy = crowd.policy.copy()
    policy[crowd.votes.item[crowd.votes.answer != 1][0], 0] = -1
    assert length_bias(replace(crowd, policy=policy)).policies == 0


def test_what_is_not_known_is_said_to_be_not_known() -> None:
    table = VoteTable.of(Votes.of([("a", "anna", 0), ("a", "ben", 1)]))
    for bias in (side_bias(table, rng()), length_bias(table)):
        assert (bias.share.n, bias.policies) == (0, 0)
        assert np.isnan(bias.logit.value)
    (anna, ben) = rater_reports(table)
    assert (anna.gold, anna.first_shown, anna.seconds, anna.is_guessing) == (None, None, None, False)
    assert (ben.ties, ben.agreement.value) == (1.0, 0.0)
    assert pace(table.seconds) is None


def test_side_bias_of_real_votes() -> None:
    found = side_bias(llmfao(shared_data("llmfao").parent), rng())
    assert found.policies == 59
    assert found.logit.value == pytest.approx(0.188, abs=1e-3)
    assert found.logit.se == pytest.approx(0.041, abs=0.005)
    assert found.share.value == pytest.approx(0.533, abs=1e-3)
    assert found.rater_se > found.logit.se  # raters differ in their habits


def test_who_guesses_is_found_and_nobody_else(crowd) -> None:
    found = {one.rater for one in rater_reports(crowd) if one.is_guessing}
    assert found == {f"rater-{k}" for k in range(0, 100, 10)}


@pytest.mark.parametrize(
    ("agreement", "expected", "votes", "guesses"),
    [
        ((0.4, 0.3, 0.5), 0.35, 30, True),
        ((0.4, 0.3, 0.5), 0.25, 30, False),  # better than chance
        ((0.6, 0.3, 0.9), 0.35, 30, False),  # may be as good as the crowd's 0.7
        ((0.2, 0.1, 0.3), 0.35, 30, True),  # says the opposite
        ((0.4, 0.3, 0.5), 0.35, 9, False),
        ((0.4, 0.3, 0.5), 0.35, 10, True),
    ],
)
def test_guessing_is_agreement_by_chance_below_the_crowds(agreement, expected, votes, guesses) -> None:
    value, low, high = agreement
    assert guessing(Estimate(value, 0.05, low, high, votes), expected, 0.7) is guesses


def test_the_side_of_a_rater_is_what_was_shown_not_the_items_own() -> None:
    votes = Votes.of([("a", "anna", 0), ("b", "anna", 2), ("c", "anna", 2), ("d", "anna", 1), ("e", "anna", 0)])
    table = VoteTable.of(votes, shown=np.array([0, 1, 0, 0, -1]))
    (anna,) = rater_reports(table)
    assert anna.first_shown is not None
    assert (anna.first_shown.value, anna.first_shown.n) == (pytest.approx(2 / 3), 3)
    assert anna.ties == pytest.approx(0.2)


def test_a_rater_is_compared_with_the_others_of_each_item() -> None:
    votes = Votes.of([("a", "anna", 0), ("a", "ben", 0), ("a", "cleo", 2), ("b", "anna", 1), ("b", "ben", 1), ("c", "anna", 0)])
    anna = next(one for one in rater_reports(VoteTable.of(votes)) if one.rater == "anna")
    assert anna.votes == 3
    assert (anna.agreement.value, anna.agreement.n) == (pytest.approx((0.5 + 1) / 2), 2)
    assert anna.expected == pytest.approx(0.5 * 0.25 + 0.5 * 0.5)  # half first where others say it a quarter of the time, half tie


def test_reliability_is_that_of_the_one_coin_model(crowd) -> None:
    of = dict(zip(crowd.votes.raters, dawid_skene(crowd.votes, "one_coin", mirror=crowd.votes.mirror).accuracy(), strict=True))
    assert {one.rater: one.reliability for one in rater_reports(crowd)} == pytest.approx(of)


def test_the_crowds_agreement_weighs_raters_by_their_votes() -> None:
    """Many who vote once, and differ, do not lower what the busy ones agree on: then who guesses would pass for one of them."""
    rows = [(f"i{k}", who, 2 * (k % 2)) for k in range(80) for who in ("ann", "ben", "cid", "dora")]
    rows += [(f"i{k}", "dice", 2 * (k // 2 % 2)) for k in range(80)]
    rows += [(f"i{k}", f"new {k}", 1) for k in range(40)]
    reports = {one.rater: one for one in rater_reports(VoteTable.of(Votes.of(rows)))}
    dice = reports["dice"]
    assert np.mean([one.agreement.value for one in reports.values()]) < dice.agreement.high
    assert dice.is_guessing


def test_a_share_has_wilsons_interval() -> None:
    found = share(8, 10)
    assert (found.se, found.low, found.high) == pytest.approx((0.4 / 10**0.5, 0.4901625, 0.9433178), abs=1e-6)
    assert (share(0, 5).low, share(0, 5).high) == pytest.approx((0, 0.4344825), abs=1e-6)
    for successes, n in ((3, 7), (20, 21), (2.5, 4)):
        low, high = proportion_confint(successes, n, method="wilson")
        assert (share(successes, n).low, share(successes, n).high) == pytest.approx((low, high))


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_few_votes_that_all_say_the_same_determine_no_habit(pairs: int) -> None:
    votes = Votes.of((f"i{k}", who, 0) for k in range(pairs) for who in ("ann", "ben"))
    words = np.tile([30.0, 10.0], (pairs, 1))
    for policy in (None, np.tile([0, 1], (pairs, 1))):
        table = VoteTable.of(votes, shown=np.zeros(2 * pairs, dtype=np.int64), words=words, policy=policy, policies=("a", "b"))
        for found in (side_bias(table, rng(), resamples=20), length_bias(table)):
            assert (found.share.value, found.share.n, found.logit.n) == (1.0, pairs, pairs)
            assert np.isnan(found.logit.value) or found.logit.low < 0  # the bound of five pairs: chance explains them
        assert len(analyse(table, rng()).by_rater) == 2


def test_hidden_tests_and_times_by_rater() -> None:
    votes = Votes.of([("a", "anna", 0), ("b", "anna", 2), ("c", "anna", 0), ("a", "ben", 2)])
    table = replace(VoteTable.of(votes, seconds=np.array([1.0, 9.0, 4.0, np.nan])), gold=np.array([0, 1, -1]))
    anna, ben = rater_reports(table)
    assert (anna.gold.value, anna.gold.n, ben.gold.value) == (0.5, 2, 0.0)
    assert anna.gold.high < 1 < anna.gold.high + 0.2
    assert (anna.seconds, ben.seconds) == (4.0, None)
    assert pace(table.seconds).median == 4.0
    spread = pace(np.arange(101.0))
    assert (spread.votes, spread.quarter, spread.median, spread.three_quarters, spread.p95) == (101, 25, 50, 75, 95)
    assert [one.votes for one in (anna, ben)] == [3, 1]
    even = replace(table, seconds=np.array([1.0, 9.0, np.nan, 2.0]))
    assert rater_reports(even)[0].seconds == 5.0
