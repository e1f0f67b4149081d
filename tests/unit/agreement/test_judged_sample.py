"""A sample of pairs of which some were suspected: the win rate on all pairs, its interval, and the curve that says when to stop."""

import math

import numpy as np
import pytest

from palate.agreement.estimates import Estimate
from palate.agreement.judged_sample import (
    KNOWN,
    RANDOM,
    TARGETED,
    UNASKED,
    JudgedSample,
    choose_pairs,
    corrected_rate,
    gain_curve,
    inclusion_probabilities,
    pooled_variances,
    prediction_weight,
)
from palate.core import DataError

NAN = math.nan


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def judged(rng: np.random.Generator, pairs: int = 64, count: int = 32, answers: float = 1.0) -> tuple[JudgedSample, float]:
    """Pairs of a policy whose suspected answers are worse than the others, and the mean of all verdicts."""
    truth = rng.normal(0.8, 1.2, pairs)
    verdicts = (rng.random(pairs) < sigmoid(truth)).astype(float)
    predicted = sigmoid(truth + rng.normal(0.5, 1.5, pairs))
    choice = choose_pairs(rng.normal(0, 1, pairs) - truth, np.zeros(pairs, dtype=bool), count, rng)
    is_in = np.isin(choice, (TARGETED, RANDOM)) & (rng.random(pairs) < answers)
    return JudgedSample(choice, predicted, np.where(is_in, verdicts, NAN)), float(verdicts.mean())


def test_half_are_the_most_suspected_and_half_are_drawn() -> None:
    suspicion = np.arange(20.0)
    is_known = np.zeros(20, dtype=bool)
    is_known[19] = True
    choice = choose_pairs(suspicion, is_known, 8, np.random.default_rng(0))
    assert choice[19] == KNOWN
    assert np.flatnonzero(choice == TARGETED).tolist() == [15, 16, 17, 18]
    assert (choice == RANDOM).sum() == 4
    assert inclusion_probabilities(choice)[[0, 17, 19]].tolist() == [4 / 15, 1.0, 1.0]


def test_few_pairs_are_all_asked_about_and_none_is_asked_where_all_are_known() -> None:
    choice = choose_pairs(np.zeros(3), np.zeros(3, dtype=bool), 8, np.random.default_rng(0))
    assert sorted(choice.tolist()) == [TARGETED, TARGETED, TARGETED]
    assert inclusion_probabilities(choice).tolist() == [1.0, 1.0, 1.0]
    choice = choose_pairs(np.zeros(3), np.ones(3, dtype=bool), 8, np.random.default_rng(0))
    assert choice.tolist() == [KNOWN] * 3


def test_each_pair_that_is_not_suspected_is_drawn_with_its_probability() -> None:
    rng, suspicion = np.random.default_rng(1), np.array([9.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    counts = np.zeros(7)
    for _ in range(2000):
        counts += choose_pairs(suspicion, np.zeros(7, dtype=bool), 4, rng) == RANDOM
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:] / 2000 == pytest.approx(np.full(5, 0.4), abs=0.035)


def test_equal_suspicion_is_broken_by_lot() -> None:
    rng = np.random.default_rng(2)
    targeted = sum(choose_pairs(np.zeros(4), np.zeros(4, dtype=bool), 2, rng) == TARGETED for _ in range(1000))
    assert targeted / 1000 == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_answers_stand_for_their_group() -> None:
    choice = np.array([KNOWN, TARGETED, TARGETED, RANDOM, RANDOM, UNASKED, UNASKED, UNASKED])
    verdicts = np.array([0.5, 0.0, NAN, 1.0, 0.5, NAN, NAN, NAN])
    predicted = np.array([0.5, 0.9, 0.7, 0.8, 0.6, 0.7, 0.5, 0.9])
    sample = JudgedSample(choice, predicted, verdicts)
    plain = corrected_rate(sample, 0.0)
    assert plain is not None
    assert plain.value == pytest.approx((1 * 0.5 + 2 * 0.0 + 5 * 0.75) / 8)
    assert plain.n == 3
    helped = corrected_rate(sample, 0.5)
    assert helped is not None
    # Suspected: 0 - .5 * .9 + .5 * .8. Random: .75 - .5 * .7 + .5 * .7.
    assert helped.value == pytest.approx((1 * 0.5 + 2 * -0.05 + 5 * 0.75) / 8)


def test_a_group_without_an_answer_leaves_the_rate_unknown() -> None:
    choice = np.array([TARGETED, RANDOM, UNASKED])
    assert corrected_rate(JudgedSample(choice, np.full(3, 0.5), np.array([NAN, 1.0, NAN])), 0.0) is None
    assert corrected_rate(JudgedSample(choice, np.full(3, 0.5), np.array([1.0, NAN, NAN])), 0.0) is None


def test_answers_that_agree_leave_an_interval_with_a_width() -> None:
    rate = corrected_rate(JudgedSample(np.full(8, RANDOM), np.full(8, 0.5), np.ones(8)), 0.0)
    assert rate is not None
    assert (rate.value, rate.low < 0.9) == (1.0, True)


def test_the_rate_is_right_on_average_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    truth = float(sigmoid(rng.normal(0.8, 1.2, 1_000_000)).mean())
    found, naive, covered = [], [], []
    for _ in range(500):
        samples = [judged(rng, answers=0.7)[0] for _ in range(3)]
        rate = corrected_rate(samples[0], prediction_weight(samples))
        assert rate is not None
        found.append(rate.value)
        naive.append(float(np.nanmean(samples[0].verdicts)))
        covered.append(rate.low <= truth <= rate.high)
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3 * error
    assert abs(np.mean(naive) - truth) > 10 * np.std(naive) / math.sqrt(len(naive))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_predictions_that_say_something_make_it_more_exact() -> None:
    rng = np.random.default_rng(4)
    plain, helped, weights = [], [], []
    for _ in range(300):
        truth = rng.normal(0.5, 2.5, 64)
        verdicts = (rng.random(64) < sigmoid(truth)).astype(float)
        choice = choose_pairs(np.zeros(64), np.zeros(64, dtype=bool), 32, rng)
        sample = JudgedSample(choice, sigmoid(truth), np.where(np.isin(choice, (TARGETED, RANDOM)), verdicts, NAN))
        samples = [sample, sample]
        weights.append(prediction_weight(samples))
        one, other = corrected_rate(sample, 0.0), corrected_rate(sample, weights[-1])
        assert one is not None
        assert other is not None
        plain.append(one.se)
        helped.append(other.se)
    assert np.mean(weights) > 0.7
    assert np.mean(helped) < 0.93 * np.mean(plain)


def test_predictions_are_not_used_with_few_answers_or_where_they_are_all_alike() -> None:
    rng = np.random.default_rng(5)
    few = JudgedSample(np.full(19, RANDOM), np.linspace(0, 1, 19), np.linspace(0, 1, 19))
    assert prediction_weight([few]) == 0
    assert prediction_weight([few, few]) == pytest.approx(1)
    alike = JudgedSample(np.full(40, RANDOM), np.full(40, 0.7), rng.random(40))
    assert prediction_weight([alike]) == 0
    against = JudgedSample(np.full(40, RANDOM), np.linspace(1, 0, 40), np.linspace(0, 1, 40))
    assert prediction_weight([against]) == 0


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="three flat columns"):
        JudgedSample(np.zeros(3, dtype=np.int64), np.zeros(2), np.zeros(3))


def rates(values: list[float], se: float = 0.02) -> list[Estimate]:
    return [Estimate(value, se, value - 2 * se, value + 2 * se, 32) for value in values]


def test_the_curve_is_the_fit_by_least_squares() -> None:
    t, values = np.array([2.0, 4.0, 6.0, 8.0]), [0.62, 0.68, 0.66, 0.6]
    counts, errors = np.array([9, 16, 25, 36]), np.array([0.1, 0.05, 0.1, 0.02])
    estimates = [Estimate(value, se, 0, 1, int(n)) for value, se, n in zip(values, errors, counts, strict=True)]
    curve = gain_curve([2, 4, 6, 8], estimates)
    assert curve is not None
    scale = np.sqrt(counts)  # an answer is worth the same at each check, whatever the errors of the rates
    design = np.stack([np.sqrt(t), t], 1)
    solution, *_ = np.linalg.lstsq(design * scale[:, None], (np.array(values) - 0.5) * scale, rcond=None)
    assert curve.values == pytest.approx(0.5 + design @ solution)
    assert curve.best == int(np.argmax(curve.values))
    assert curve.fall == pytest.approx(curve.values.max() - curve.values[-1])
    assert pooled_variances(errors, counts) == pytest.approx(np.mean(errors**2 * counts) / counts)
    step = design[curve.best] - design[-1]
    covariance = np.linalg.inv(design.T @ (design / pooled_variances(errors, counts)[:, None]))
    assert curve.fall_se == pytest.approx(math.sqrt(step @ covariance @ step))


def test_it_is_over_when_the_curve_has_fallen_and_its_top_is_far_enough_back() -> None:
    t = np.arange(2, 22, 2)
    shape = 0.5 + 0.2 * np.sqrt(t) - 0.035 * t  # the top is at t = 8.2
    curve = gain_curve(t[:7].tolist(), rates(shape[:7].tolist()))
    assert curve is not None
    assert (t[curve.best], curve.has_fallen) == (8, True)
    assert curve.is_over(3)
    assert not curve.is_over(4)


def test_a_fall_within_its_error_is_none() -> None:
    t = [2, 4, 6, 8, 10]
    values = [0.6, 0.66, 0.65, 0.66, 0.64]
    sure, unsure = gain_curve(t, rates(values, 0.002)), gain_curve(t, rates(values, 0.2))
    assert sure is not None
    assert unsure is not None
    assert (sure.has_fallen, unsure.has_fallen) == (True, False)
    assert not unsure.is_over(1)


def test_a_rising_curve_and_few_points_stop_nothing() -> None:
    curve = gain_curve([2, 4, 6], rates([0.6, 0.68, 0.72]))
    assert curve is not None
    assert (curve.best, curve.fall, curve.fall_se, curve.is_over(1)) == (2, 0.0, 0.0, False)
    assert gain_curve([2, 4], rates([0.6, 0.5])) is None
