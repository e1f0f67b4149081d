"""What to ask next: variances of the oracle, selection probabilities that are what they claim, spread, and the live rule."""

import numpy as np
import pytest

from palate.agreement import ask_further, ensemble_disagreement, majority_ceiling, rater_noise_ceiling, select
from palate.agreement.selection import diverse_order, inclusion, neighbourly, novelty, systematic
from palate.core import DataError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("of", "key"), [("logit", "logit_var"), ("probability", "prob_var"), ("label", "label_var")])
def test_disagreement_of_the_oracle(oracle, of, key) -> None:
    case = oracle("query_selection_ensemble_variance")
    first, second = (np.array(case["inputs"][f"returns_{side}_by_pair_member"]) for side in ("first", "second"))
    assert ensemble_disagreement(first, second, of) == pytest.approx(case["expected"][key], abs=1e-9)
    with pytest.raises(DataError, match=r"must be \(pairs, members\) for both sides"):
        ensemble_disagreement(first, second[:, :1], of)


def test_the_ceiling_of_the_oracle(oracle) -> None:
    case = oracle("rater_noise_ceiling")
    found = rater_noise_ceiling(case["inputs"]["pairwise_agreement"])
    assert (found.error_rate, found.accuracy) == pytest.approx((case["expected"]["error_rate"], case["expected"]["accuracy_ceiling"]))
    again = (1 - found.error_rate) ** 2 + found.error_rate**2
    assert again == pytest.approx(case["expected"]["agreement_back"])
    assert majority_ceiling(found.error_rate, 1) == found.accuracy < majority_ceiling(found.error_rate, 3)
    assert majority_ceiling(0.2, 3) == pytest.approx(0.8**3 + 3 * 0.8**2 * 0.2)
    with pytest.raises(DataError, match="odd number of raters; got 2"):
        majority_ceiling(0.2, 2)
    for worse_than_coins in (0.0, 0.49):
        assert rater_noise_ceiling(worse_than_coins).accuracy == 0.5
    assert rater_noise_ceiling(1.0).accuracy == 1.0


def test_each_candidate_is_chosen_as_often_as_is_said() -> None:
    features = rng(1).normal(size=(30, 3))
    uncertainty = rng(2).gamma(1.0, size=30)
    draws = 3000
    times, said = np.zeros(30), np.zeros(30)
    generator = rng(3)
    for _ in range(draws):
        found = select(uncertainty, 10, generator, features)
        times[found.indices] += 1
        said[found.indices] = found.probability
    error = np.sqrt(said * (1 - said) / draws)
    assert (np.abs(times / draws - said) < 4.5 * error + 1e-9).all()
    assert said.sum() == pytest.approx(10)
    assert said.max() > 2 * said.min()


def test_weighting_by_the_probability_makes_means_unbiased() -> None:
    uncertainty = rng(4).gamma(1.0, size=300)
    value = uncertainty + rng(5).normal(size=300)  # what is uncertain is also large
    found = [select(uncertainty, 60, rng(k)) for k in range(400)]
    weighted = np.array([(value[one.indices] / one.probability).sum() / 300 for one in found])
    plain = np.array([value[one.indices].mean() for one in found])
    assert abs(weighted.mean() - value.mean()) < 4 * weighted.std() / 20
    assert plain.mean() - value.mean() > 0.2


def test_at_least_three_in_ten_are_random_and_no_candidate_comes_twice() -> None:
    for count in (1, 7, 33):
        found = select(rng(1).random(100), count, rng(2), rng(3).random((100, 2)))
        assert found.is_random.sum() >= 0.3 * count
        assert np.unique(found.indices).size == count
    with pytest.raises(DataError, match="the random part is needed to check the rest"):
        select(np.ones(10), 5, rng(), random_share=0.1)
    with pytest.raises(DataError, match="uncertainty must be finite"):
        select(np.array([1.0, np.nan]), 1, rng())


def test_few_candidates_are_all_taken_and_none_is_a_choice() -> None:
    found = select(np.ones(4), 9, rng())
    assert (found.indices.tolist(), found.probability.tolist()) == ([0, 1, 2, 3], [1.0] * 4)
    assert select(np.empty(0), 3, rng()).indices.size == 0


def test_what_stands_in_many_copies_is_not_asked_many_times() -> None:
    copies, lone = rng(1).normal(0, 0.01, (180, 4)), rng(2).normal(0, 3, (20, 4))
    features = np.concatenate([copies, lone])
    found = np.mean([(select(np.ones(200), 20, rng(k), features).indices >= 180).sum() for k in range(50)])
    blind = np.mean([(select(np.ones(200), 20, rng(k)).indices >= 180).sum() for k in range(50)])
    assert blind < 3
    assert found > 8
    assert novelty(copies).mean() == pytest.approx(1)


def test_a_draw_is_spread_over_neighbourhoods() -> None:
    groups = np.repeat(np.arange(14), 20)
    features = np.stack([groups % 4, groups // 4], axis=1) + rng(1).normal(0, 0.01, (280, 2))
    order = neighbourly(features)
    assert sorted(order) == list(range(280))

    def seen(spread: np.ndarray) -> float:
        return float(np.mean([len({int(groups[k]) for k in spread[systematic(np.full(280, 0.05), rng(s).random())]}) for s in range(40)]))

    assert seen(order) > 11 > seen(rng(2).permutation(280)) + 1


def test_probabilities_of_a_sample_are_proportional_up_to_certainty() -> None:
    assert inclusion(np.array([1.0, 1.0, 2.0]), 2) == pytest.approx([0.5, 0.5, 1.0])
    assert inclusion(np.array([1.0, 1.0, 100.0, 2.0]), 2) == pytest.approx([0.25, 0.25, 1.0, 0.5])
    assert inclusion(np.zeros(4), 2) == pytest.approx([0.5] * 4)
    assert inclusion(np.array([0.0, 3.0, 0.0]), 2) == pytest.approx([2 / 3] * 3)


@pytest.mark.parametrize(
    ("votes", "more"),
    [
        ([1, 0, 0], True),
        ([2, 0, 0], False),
        ([1, 0, 1], True),
        ([1, 1, 0], True),
        ([2, 0, 1], True),
        ([3, 0, 1], False),
        ([2, 1, 2], False),
    ],
)
def test_whether_a_further_rater_is_asked(votes, more) -> None:
    assert bool(ask_further(np.array(votes, dtype=float), overlap=2, most=5)) == more
    assert ask_further(np.array([votes, [0, 0, 0]], dtype=float), overlap=2, most=5).tolist() == [more, True]
    assert not ask_further(np.array([1.0, 0.0, 0.0]), overlap=1, most=3)


def test_what_is_uncertain_comes_first_and_what_is_alike_does_not_follow() -> None:
    uncertainty = np.array([0.9, 0.8, 0.5, 0.1])
    features = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    nobody = np.zeros(4, dtype=bool)
    assert diverse_order(uncertainty, features, nobody).tolist() == [0, 2, 3, 1], "the second is like the first, whatever its length"
    asked = np.array([True, False, False, False])
    assert diverse_order(uncertainty, features, asked).tolist() == [2, 3, 0, 1], "the first is being asked about already"
    assert diverse_order(np.zeros(3), features[:3], nobody[:3]).tolist() == [0, 1, 2]
    assert diverse_order(uncertainty[:0], features[:0], nobody[:0]).tolist() == []
