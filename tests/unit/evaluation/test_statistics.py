"""Statistics against values computed elsewhere (two independent ways each), and against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from palate.agreement import majority_ceiling, rater_noise_ceiling
from palate.core import DataError
from palate.evaluation import best_of_n, calibration, intervals, overoptimisation
from palate.evaluation.evals import is_refusal
from palate.evaluation.report_sections import length_row

PROXY = [0.1, 1.4, 0.5, 0.9, -0.3]
GOLD = [0.2, 0.3, 0.6, 0.8, -0.1]
D = [0.5, 1.0, 2.0, 3.0, 5.0]
R_BON = [0.525, 0.9, 1.2, 0.9, -1.5]
R_RL = [0.7039720771, 1.2, 1.9841116917, 2.6112489402, 3.5858431313]


@pytest.mark.parametrize(("wins", "n", "low", "high"), [(60, 100, 0.5020025868, 0.6905987136), (0, 20, 0.0, 0.1611251581)])
def test_wilson(wins: int, n: int, low: float, high: float) -> None:
    assert intervals.wilson(wins, n) == pytest.approx((low, high), abs=1e-9)


def test_wilson_stays_inside_at_all_successes() -> None:
    estimate = intervals.share(20, 20)
    assert (estimate.high, estimate.low) == pytest.approx((1.0, 1 - 0.1611251581), abs=1e-9)


def test_ties_count_one_half_in_win_rate() -> None:
    assert intervals.win_rate(50, 30, 20).value == pytest.approx(0.6)
    assert intervals.win_rate(50, 30, 20).low == pytest.approx(0.5020025868, abs=1e-9)


def test_mean_uses_the_unbiased_deviation() -> None:
    estimate = intervals.mean([1.0, 2.0, 4.0])
    assert estimate.se == pytest.approx(math.sqrt((16 / 9 + 1 / 9 + 25 / 9) / 2 / 3))
    assert estimate.high - estimate.value == pytest.approx(1.959963984540054 * estimate.se)


def test_paired_difference_ignores_what_prompts_share() -> None:
    ease = np.linspace(-5, 5, 40)
    gain = 0.1 + 0.01 * np.sin(np.arange(40))
    paired = intervals.paired_difference(ease + gain, ease)
    assert paired.value == pytest.approx(gain.mean())
    assert paired.se == pytest.approx(gain.std(ddof=1) / math.sqrt(40))
    assert paired.z > 50
    assert paired.excludes_zero


@pytest.mark.parametrize("values", [[1.0], [0.25] * 4, [0.1 + 0.2, 0.3]])
def test_the_error_of_values_that_do_not_differ_is_not_known(values: list[float]) -> None:
    estimate = intervals.mean(values)
    assert estimate.value == pytest.approx(values[0])
    assert all(math.isnan(x) for x in (estimate.se, estimate.low, estimate.high, estimate.z))
    assert not estimate.excludes_zero


def test_the_error_of_completions_comes_from_their_prompts() -> None:
    groups = [[0.0, 0.0, 0.0], [1.0, 1.0, math.nan], [math.nan]]
    estimate = intervals.clustered_mean(groups)
    assert (estimate.value, estimate.n) == (pytest.approx(0.4), 2)
    assert estimate.se == pytest.approx(intervals.mean([0.0, 1.0]).se)


def test_paired_difference_refuses_other_prompts() -> None:
    with pytest.raises(DataError, match="3 and 2"):
        intervals.paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0]]])
def test_means_refuse_what_is_no_list_of_numbers(values: list[float]) -> None:
    with pytest.raises(DataError):
        intervals.mean(values)


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean_and_repeats() -> None:
    values = np.random.default_rng(0).normal(2, 1, 300)
    drawn = intervals.bootstrap(values, lambda x: float(x.mean()), seed=4)
    assert drawn == intervals.bootstrap(values, lambda x: float(x.mean()), seed=4)
    assert drawn != intervals.bootstrap(values, lambda x: float(x.mean()), seed=5)
    normal = intervals.mean(values)
    assert drawn.se == pytest.approx(normal.se, rel=0.08)
    assert (drawn.low, drawn.high) == pytest.approx((normal.low, normal.high), abs=0.02)


@pytest.mark.parametrize(("n", "proxy", "gold"), [(1, 0.52, 0.36), (2, 0.94, 0.50), (3, 1.16, 0.48), (5, 1.4, 0.3)])
def test_best_of_n(n: int, proxy: float, gold: float) -> None:
    assert best_of_n.best_of_n_value(PROXY, PROXY, n) == pytest.approx(proxy, abs=1e-12)
    assert best_of_n.best_of_n_value(PROXY, GOLD, n) == pytest.approx(gold, abs=1e-12)


def test_best_of_n_with_equal_scores_is_a_fair_draw() -> None:
    proxy, gold = [1.0, 1.0, 0.0, 1.0], [0.0, 3.0, 9.0, 6.0]
    draws = []
    for subset in itertools.combinations(range(4), 2):
        top = max(proxy[i] for i in subset)
        draws.append(np.mean([gold[i] for i in subset if proxy[i] == top]))
    assert best_of_n.best_of_n_value(proxy, gold, 2) == pytest.approx(np.mean(draws))
    assert best_of_n.best_of_n_value(proxy[::-1], gold[::-1], 2) == pytest.approx(np.mean(draws))


def test_best_of_n_curve_averages_prompts() -> None:
    curve = best_of_n.best_of_n_curve([PROXY, PROXY], [GOLD, [g + 1 for g in GOLD]], [1, 2])
    assert curve[2].value == pytest.approx(1.0)
    assert curve[2].n == 2


@pytest.mark.parametrize(
    ("n", "kl"), [(1, 0.0), (2, 0.1931471806), (4, 0.6362943611), (16, 1.8350887222), (64, 3.1745080834), (256, 4.5490836945)]
)
def test_best_of_n_kl(n: int, kl: float) -> None:
    assert best_of_n.best_of_n_kl(n) == pytest.approx(kl, abs=1e-9)


@pytest.mark.parametrize("n", [0, 6])
def test_best_of_n_refuses_more_than_it_has(n: int) -> None:
    with pytest.raises(DataError, match="of 5"):
        best_of_n.best_of_n_weights(5, n)


def test_over_optimisation_of_best_of_n() -> None:
    fit = overoptimisation.fit_form(D, [0.4 + gain for gain in R_BON], None, "best_of_n")
    assert (fit.start, fit.alpha, fit.beta, fit.rms) == pytest.approx((0.4, 1.2, 0.3, 0.0), abs=1e-9)
    assert (fit.peak, fit.gain(fit.peak)) == pytest.approx((2.0, 1.2))


def test_over_optimisation_of_rl() -> None:
    fit = overoptimisation.fit_form([0.0, *D], [0.0, *R_RL], None, "rl")
    assert (fit.start, fit.alpha, fit.beta) == pytest.approx((0.0, 1.2, 0.3), abs=1e-9)
    assert (fit.peak, fit.gain(fit.peak)) == pytest.approx((20.0855369232, 6.025661077))
    assert fit.value(D) == pytest.approx(R_RL)


def test_rater_noise_ceiling() -> None:
    ceiling = rater_noise_ceiling(0.73)
    assert (ceiling.error_rate, ceiling.accuracy) == pytest.approx((0.1608835008, 0.8391164992), abs=1e-9)
    assert rater_noise_ceiling(0.4).accuracy == 0.5
    with pytest.raises(DataError):
        rater_noise_ceiling(73)


def test_majority_ceiling_by_enumeration() -> None:
    expected = sum(
        math.prod(0.8 if vote else 0.2 for vote in votes) for votes in itertools.product([True, False], repeat=3) if sum(votes) >= 2
    )
    assert majority_ceiling(0.2, 3) == pytest.approx(expected)
    assert majority_ceiling(0.2, 1) == pytest.approx(0.8)


def test_accuracy_counts_ties_half() -> None:
    assert calibration.pair_accuracy([2, 0.5, -1, 1], [1, 1, -3, 1]).value == pytest.approx(2.5 / 4)


def test_log_loss_matches_the_bradley_terry_loss_and_survives_large_scores() -> None:
    assert calibration.pair_log_loss([2, 0.5, -1], [1, 1, -3]).value == pytest.approx((0.313262 + 0.974077 + 0.126928) / 3, abs=1e-6)
    assert calibration.pair_log_loss([0.0], [2000.0]).value == pytest.approx(2000.0)
    assert calibration.pair_log_loss([0.3, 1.0], [0.3, 1.0], [0.5, 0.5]).value == pytest.approx(math.log(2))


def test_reliability_and_calibration_error() -> None:
    bins = calibration.reliability([0.1, 0.1, 0.9, 0.9, 1.0], [0, 1, 1, 1, 0], bins=5)
    assert [(b.low, b.observed.n) for b in bins] == [(0.0, 2), (0.8, 3)]
    expected = (2 * abs(0.1 - 0.5) + 3 * abs(2.8 / 3 - 2 / 3)) / 5
    assert calibration.expected_calibration_error(bins) == pytest.approx(expected)


def test_pairs_shown_in_random_order_are_calibrated_when_the_model_is() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0, 2, 20000)
    won = rng.random(20000) < calibration.win_probability(difference, np.zeros(20000))
    chosen = np.where(won, difference, -difference)
    predicted, observed = calibration.as_shown(chosen, np.zeros(20000), seed=1)
    assert 0.48 < observed.mean() < 0.52
    assert calibration.expected_calibration_error(calibration.reliability(predicted, observed)) < 0.02


def test_scores_are_not_probabilities() -> None:
    with pytest.raises(DataError, match="probabilities"):
        calibration.reliability([1.7], [1.0])


def test_length_rule() -> None:
    rule = calibration.length_rule([10, 4, 7, 9], [5, 6, 7, 1])
    assert (rule.longer_wins.value, rule.shorter_wins.value, rule.equal) == (0.625, 0.375, 1)
    assert rule.floor == rule.longer_wins


def test_length_summary() -> None:
    row = length_row("sft", [10, 20, 30], [True, True, False])
    assert (row.mean.value, row.median) == (20, 20)
    assert row.eos_share.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "text",
    [
        "sorry , i can not help with that",
        "sorry , no . that would hurt you .",
        "i will not cook that",
        "I'm sorry, but I can't assist with that request.",
        "I\u2019m sorry, but I can\u2019t provide that.",
        "i can ' t help with this",
        "As an AI language model, I cannot provide instructions for this.",
        "I must decline. This goes against my guidelines.",
        "Unfortunately, I am unable to fulfill this request.",
        "I won't help you harm anyone.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "warm the beans and do not serve it cold",
        "I'm sorry to hear that. Try warm soup.",
        "of course ! you can not go wrong with rice",
        "I can't recommend this enough: toast the rice first.",
        "To kill a Python process, find its id. " + "Then wait. " * 40 + "I cannot help with other systems.",
        "here is how : peel the garlic . if it burns , i am sorry for your pan",
    ],
)
def test_answers_are_not_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_own_phrases_replace_the_default() -> None:
    assert is_refusal("nope .", [r"\bnope\b"])
    assert not is_refusal("sorry , i can not help", [r"\bnope\b"])
