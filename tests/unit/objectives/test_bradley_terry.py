"""Reward-model losses against the independent values, and against what common mistakes give."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives import AllPairs, BradleyTerry, PairScores, PickBest, PlackettLuce, RankedScores


def _scores(chosen, rejected, *, probability=None, margin=None, weight=None):
    chosen = torch.as_tensor(chosen)
    return PairScores(
        chosen=chosen,
        rejected=torch.tensor(rejected),
        probability=torch.ones(len(chosen)) if probability is None else torch.tensor(probability),
        margin=torch.zeros(len(chosen)) if margin is None else torch.tensor(margin),
        weight=torch.ones(len(chosen)) if weight is None else torch.tensor(weight),
    )


def _metric(sums, name):
    value, count = sums.metrics[name]
    return value / count


def _each(objective, inputs):
    fields = vars(inputs).items()
    return [objective(PairScores(**{name: x[i : i + 1] for name, x in fields})).loss.item() for i in range(len(inputs.chosen))]


def _ranked(rankings):
    group = [number for number, ranking in enumerate(rankings) for _ in ranking]
    return RankedScores(torch.tensor([score for ranking in rankings for score in ranking], requires_grad=True), torch.tensor(group))


def test_bt_loss(oracle, matches, differs):
    case = oracle("bt_loss")
    chosen = torch.tensor(case["inputs"]["chosen"], requires_grad=True)
    inputs = _scores(chosen, case["inputs"]["rejected"])
    sums = BradleyTerry()(inputs)
    loss = sums.mean()
    loss.backward()

    matches(loss.detach(), case["expected"]["loss"])
    matches(_each(BradleyTerry(), inputs), case["expected"]["per_pair"])
    matches(_metric(sums, "accuracy"), case["expected"]["accuracy"])
    matches(chosen.grad, case["expected"]["grad_chosen"])
    for wrong in case["common_wrong_answers"].values():
        differs(loss, wrong)


def test_bt_margin(oracle, matches, differs):
    case = oracle("bt_margin")
    inputs = _scores(case["inputs"]["chosen"], case["inputs"]["rejected"], margin=case["inputs"]["margin"])
    sums = BradleyTerry()(inputs)

    matches(sums.mean(), case["expected"]["loss"])
    matches(_each(BradleyTerry(), inputs), case["expected"]["per_pair"])
    differs(sums.mean(), case["common_wrong_answers"]["margin_added_instead_of_subtracted"])
    matches(_metric(sums, "accuracy"), 2 / 3)


def test_bt_soft_label(oracle, matches):
    case = oracle("bt_soft_label")
    first = torch.tensor(case["inputs"]["r1"], requires_grad=True)
    inputs = _scores(first, case["inputs"]["r2"], probability=case["inputs"]["p_first_preferred"])
    sums = BradleyTerry()(inputs)
    sums.mean().backward()

    matches(sums.mean().detach(), case["expected"]["loss"])
    matches(_each(BradleyTerry(), inputs), case["expected"]["per_pair"])
    matches(first.grad, case["expected"]["grad_r1"])
    # 0.9 agrees, 0.5 has no side, 0.2 disagrees.
    matches(_metric(sums, "accuracy"), 1 / 2)
    assert float(sums.metrics["accuracy"][1]) == 2.0


def test_reward_centering(oracle, matches, differs):
    case = oracle("reward_centering")
    inputs = _scores(case["inputs"]["chosen"], case["inputs"]["rejected"])
    sums = BradleyTerry(centering=case["inputs"]["coefficient"])(inputs)

    matches(sums.mean(), case["expected"]["total"])
    matches(_metric(sums, "nll"), case["expected"]["bt"])
    matches(sums.mean() - _metric(sums, "nll"), case["expected"]["aux"])
    differs(sums.mean() - _metric(sums, "nll"), case["common_wrong_answers"]["mean_of_squares_each"])


def test_weights_are_as_good_as_repeats():
    chosen, rejected = [2.0, 0.5], [1.0, 1.0]
    weighted = BradleyTerry(centering=0.1)(_scores(chosen, rejected, weight=[3.0, 1.0]))
    repeated = BradleyTerry(centering=0.1)(_scores([*chosen, 2.0, 2.0], [*rejected, 1.0, 1.0]))

    torch.testing.assert_close(weighted.mean(), repeated.mean())
    for name in weighted.metrics:
        torch.testing.assert_close(_metric(weighted, name), _metric(repeated, name))


def test_equal_scores_count_one_half():
    sums = BradleyTerry()(_scores([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]))

    assert float(_metric(sums, "accuracy")) == 0.5


def test_a_swapped_pair_with_the_other_probability_is_the_same_pair():
    given = BradleyTerry()(_scores([2.0, 0.5], [1.0, 1.0], probability=[0.7, 0.2]))
    swapped = BradleyTerry()(_scores([1.0, 1.0], [2.0, 0.5], probability=[0.3, 0.8]))

    torch.testing.assert_close(given.mean(), swapped.mean())
    torch.testing.assert_close(_metric(given, "accuracy"), _metric(swapped, "accuracy"))


def test_huge_differences_stay_finite():
    chosen = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = BradleyTerry()(_scores(chosen, [1e4, -1e4])).loss
    loss.backward()

    assert loss.item() == 2e4
    assert chosen.grad.tolist() == [-1.0, 0.0]


def test_plackett_luce(oracle, matches):
    case = oracle("plackett_luce_kwise")
    scores = case["inputs"]["rewards_best_first"]
    inputs = _ranked([scores])
    nll = PlackettLuce()(inputs).mean()
    nll.backward()
    shares = [math.exp(-PlackettLuce()(_ranked([list(ranking)])).loss.item()) for ranking in itertools.permutations(scores)]

    matches(nll.detach(), case["expected"]["nll"])
    matches(nll.neg().exp().detach(), case["expected"]["prob"])
    matches(inputs.scores.grad, case["expected"]["grad"])
    matches(sum(shares), case["expected"]["prob_sum_over_permutations"])


def test_plackett_luce_of_rankings_of_several_lengths_is_their_mean(matches):
    rankings = [[1.5, 0.7, 0.2, -1.0], [0.4, 0.1], [3.0], [0.0, 0.5, 1.0]]
    inputs = _ranked(rankings)
    sums = PlackettLuce()(inputs)
    sums.loss.backward()
    alone = [PlackettLuce()(_ranked([ranking])).loss.item() for ranking in rankings]

    matches(sums.loss.detach(), sum(alone))
    assert int(sums.count) == 3
    assert alone[2] == 0.0
    assert bool(inputs.scores.grad.isfinite().all())
    # shift-invariant: each ranking's gradient adds up to nothing
    matches(torch.zeros(4).index_add(0, inputs.group, inputs.scores.grad), [0.0] * 4)


@pytest.mark.parametrize("objective", [PlackettLuce(), AllPairs(), PickBest()])
def test_two_items_are_bradley_terry(objective, matches):
    rankings = [[2.0, 1.0], [0.5, 1.0], [-1.0, -3.0]]
    sums = objective(_ranked(rankings))
    pairs = BradleyTerry()(_scores([x[0] for x in rankings], [x[1] for x in rankings]))

    matches(sums.mean().detach(), pairs.mean().item())
    matches(_metric(sums, "accuracy"), _metric(pairs, "accuracy").item())


def test_pick_best_of_k(oracle, matches):
    case = oracle("pick_best_of_k")
    rewards, best = case["inputs"]["rewards"], case["inputs"]["best"]
    others = rewards[:best] + rewards[best + 1 :]
    for order in itertools.permutations(others):
        matches(PickBest()(_ranked([[rewards[best], *order]])).mean().detach(), case["expected"]["loss"])
    # beside a longer ranking the padding plays no part
    both = PickBest()(_ranked([[rewards[best], *others], [0.0] * 6]))
    matches(both.loss.detach() - math.log(6), case["expected"]["loss"])


def test_instructgpt_all_pairs(oracle, matches, differs):
    case = oracle("instructgpt_all_pairs")
    rankings = case["inputs"]["rankings_best_first"]
    sums = AllPairs()(_ranked(rankings))

    matches(sums.mean().detach(), case["expected"]["loss"])
    matches([AllPairs()(_ranked([ranking])).loss.item() for ranking in rankings], case["expected"]["prompt_losses"])
    differs(sums.mean().detach(), case["common_wrong_answers"]["flat_mean_over_all_pairs"])


def test_ranking_accuracy_is_a_mean_inside_each_ranking_first(matches):
    sums = AllPairs()(_ranked([[3.0, 2.0, 1.0, 1.0], [0.0, 1.0]]))

    matches(_metric(sums, "accuracy"), (5.5 / 6 + 0.0) / 2)


@pytest.mark.parametrize("objective", [PlackettLuce(), AllPairs(), PickBest()])
def test_no_rankings_at_all(objective):
    sums = objective(RankedScores(torch.zeros(0, requires_grad=True), torch.zeros(0, dtype=torch.long)))
    sums.loss.backward()

    assert sums.loss.item() == 0.0
    assert int(sums.count) == 0


@pytest.mark.parametrize("centering", [-0.1, math.nan])
def test_settings_are_checked(centering):
    with pytest.raises(ConfigError, match="centering must be >= 0"):
        BradleyTerry(centering=centering)
