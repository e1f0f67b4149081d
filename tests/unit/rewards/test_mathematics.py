"""Ensembles, the multiplier of a constraint, running moments: against independent values."""

import itertools
import math

import pytest
import torch

from palate.core import ConfigError
from palate.rewards.composition import Moments
from palate.rewards.ensemble import ENSEMBLES, Mean, MeanMinusDeviations, SoftMin, UncertaintyWeighted, Worst, read_ensemble
from palate.rewards.part import Constraint


def close(actual: torch.Tensor | float, expected: object) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize(
    ("ensemble", "name"),
    [(Mean(), "mean"), (Worst(), "wco_min"), (UncertaintyWeighted(coefficient=0.5), "uwo_lambda_05"), (SoftMin(beta=1.0), "kl_dro_beta1")],
)
def test_ensembles(oracle, ensemble, name) -> None:
    case = oracle("reward_ensemble_aggregation")
    scores = torch.tensor(case["inputs"]["member_scores"], dtype=torch.float64)
    assert case["inputs"]["uwo_lambda"] == 0.5
    close(ensemble(scores), case["expected"][name])
    close(ensemble(scores[:, None].expand(-1, 2, -1)), [case["expected"][name]] * 2)


def test_the_mean_less_standard_deviations(oracle) -> None:
    case = oracle("reward_ensemble_aggregation")
    scores = torch.tensor(case["inputs"]["member_scores"], dtype=torch.float64)
    mean, variance = (torch.tensor(case["expected"][name], dtype=torch.float64) for name in ("mean", "var_biased"))
    close(MeanMinusDeviations(deviations=1.5)(scores), (mean - 1.5 * variance.sqrt()).tolist())
    close(MeanMinusDeviations()(scores[:2]), Worst()(scores[:2]).tolist())


def test_a_rule_is_read_from_a_word_with_its_number() -> None:
    assert {word: read_ensemble(word) for word in ENSEMBLES} == dict(ENSEMBLES)
    assert read_ensemble("uwo=0.25") == UncertaintyWeighted(coefficient=0.25)
    assert read_ensemble("mean_minus_sd=2") == MeanMinusDeviations(deviations=2.0)
    assert read_ensemble("soft_min=0.1") == SoftMin(beta=0.1)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("worst", "there is no rule 'worst'"),
        ("wco=1", "wco takes no number"),
        ("uwo=", "uwo= needs a number behind ="),
        ("uwo=-1", "coefficient must be >= 0"),
        ("mean_minus_sd=nan", "deviations must be >= 0"),
    ],
)
def test_a_rule_that_makes_no_sense_has_one_message(word, told) -> None:
    with pytest.raises(ConfigError, match=told):
        read_ensemble(word)


def test_the_soft_minimum_lies_between_minimum_and_mean() -> None:
    scores = torch.randn(4, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = [SoftMin(beta=beta)(scores) for beta in (1e-4, 0.1, 1.0, 1e5)]
    assert all((lower <= higher + 1e-9).all() for lower, higher in itertools.pairwise(found))
    torch.testing.assert_close(found[0], scores.amin(0), atol=2e-4, rtol=0)
    torch.testing.assert_close(found[-1], scores.mean(0), atol=1e-4, rtol=0)


def test_the_multiplier_of_a_constraint(oracle) -> None:
    case = oracle("safe_rlhf_lagrange_multiplier")
    constraint = Constraint(min_score=0.25, rate=case["inputs"]["alpha"], init_multiplier=case["inputs"]["lambda0"])
    found = [constraint.init_multiplier]
    for shortfall in case["inputs"]["J_C"]:
        found.append(constraint.next_multiplier(found[-1], 0.25 - shortfall))
    close(torch.tensor(found[1:], dtype=torch.float64), case["expected"]["lam"])


def test_a_multiplier_stays_within_bounds_and_comes_back() -> None:
    constraint = Constraint(min_score=0.0, rate=5.0, max_multiplier=10.0)
    multiplier = constraint.init_multiplier
    for _ in range(50):
        multiplier = constraint.next_multiplier(multiplier, -1e6)
    assert multiplier == pytest.approx(10.0)
    for _ in range(500):
        multiplier = constraint.next_multiplier(multiplier, 1e6)
    assert 0 < multiplier < 1e-5
    assert constraint.next_multiplier(multiplier, -1e6) > multiplier


def test_moments_of_batches_are_those_of_the_whole() -> None:
    scores = torch.randn(100, generator=torch.Generator().manual_seed(1)).double() * 3 + 1000
    moments = Moments()
    for part in scores.split([1, 7, 52, 40]):
        moments = moments.joined(torch.cat((part, torch.tensor([math.nan]))))
    assert moments.count == 100
    close(moments.mean, float(scores.mean()))
    close(moments.squares, float((scores - scores.mean()).square().sum()))
    close(moments.standardised(scores).std(correction=0), 1.0)


def test_equal_scores_are_centred_only() -> None:
    scores = torch.full((5,), 0.1)
    assert Moments().joined(scores).standardised(scores).abs().max() < 1e-6
    assert Moments().joined(torch.tensor([math.nan])) == Moments()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constraint(min_score=math.inf),
        lambda: Constraint(min_score=0, rate=0),
        lambda: Constraint(min_score=0, init_multiplier=0),
        lambda: Constraint(min_score=0, init_multiplier=11),
        lambda: SoftMin(beta=0),
        lambda: UncertaintyWeighted(coefficient=-1),
    ],
)
def test_settings_that_make_no_sense(make) -> None:
    with pytest.raises(ConfigError):
        make()
