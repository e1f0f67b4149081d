"""Rankings: Plackett-Luce and pick-best against the independent values, of several lengths, with weights and with ties."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.rankings import PickBest, PlackettLuce, RankedScores
from tests.support.pairs import metric, pair_scores, ranked_scores


def test_plackett_luce(oracle, matches):
    case = oracle("plackett_luce_kwise")
    scores = case["inputs"]["rewards_best_first"]
    inputs = ranked_scores([scores])
    nll = PlackettLuce()(inputs).mean()
    nll.backward()
    shares = [math.exp(-PlackettLuce()(ranked_scores([ranking])).loss.item()) for ranking in itertools.permutations(scores)]

    matches(nll.detach(), case["expected"]["nll"])
    matches(nll.neg().exp().detach(), case["expected"]["prob"])
    matches(inputs.scores.grad, case["expected"]["grad"])
    matches(sum(shares), case["expected"]["prob_sum_over_permutations"])


def test_rankings_of_several_lengths_are_their_mean(matches):
    rankings = [[1.5, 0.7, 0.2, -1.0], [0.4, 0.1], [3.0], [0.0, 0.5, 1.0]]
    inputs = ranked_scores(rankings)
    sums = PlackettLuce()(inputs)
    sums.loss.backward()
    alone = [PlackettLuce()(ranked_scores([ranking])).loss.item() for ranking in rankings]

    matches(sums.loss.detach(), sum(alone))
    assert int(sums.count) == 3
    assert alone[2] == 0.0
    assert bool(inputs.scores.grad.isfinite().all())
    # shift-invariant: each ranking's gradient adds up to nothing
    matches(torch.zeros(4).index_add(0, inputs.group, inputs.scores.grad), [0.0] * 4)


@pytest.mark.parametrize("objective", [PlackettLuce(), PickBest()])
def test_weights_are_as_good_as_repeats(objective, matches):
    one, other = [1.5, 0.7, 0.2], [0.4, 0.9]
    weighted = objective(ranked_scores([one, other], [3.0, 1.0]))
    repeated = objective(ranked_scores([one, one, one, other]))

    matches(weighted.mean().detach(), repeated.mean().item())
    matches(metric(weighted, "accuracy"), metric(repeated, "accuracy").item())


@pytest.mark.parametrize("objective", [PlackettLuce(), PickBest()])
def test_two_items_are_bradley_terry(objective, matches):
    rankings = [[2.0, 1.0], [0.5, 1.0], [-1.0, -3.0]]
    sums = objective(ranked_scores(rankings))
    pairs = BradleyTerry()(pair_scores([x[0] for x in rankings], [x[1] for x in rankings]))

    matches(sums.mean().detach(), pairs.mean().item())
    matches(metric(sums, "accuracy"), metric(pairs, "accuracy").item())


@pytest.mark.parametrize("objective", [PlackettLuce(), PickBest()])
def test_two_tied_items_are_a_label_of_one_half(objective, matches):
    sums = objective(ranked_scores([[2.0, 0.5], [0.5, 2.0]], [0.5, 0.5]))
    pair = BradleyTerry()(pair_scores([2.0], [0.5], probability=[0.5]))

    matches(sums.loss.detach(), pair.loss.item())
    assert float(sums.count) == 1.0


def test_pick_best_of_k(oracle, matches):
    case = oracle("pick_best_of_k")
    rewards, best = case["inputs"]["rewards"], case["inputs"]["best"]
    others = rewards[:best] + rewards[best + 1 :]
    for order in itertools.permutations(others):
        matches(PickBest()(ranked_scores([[rewards[best], *order]])).mean().detach(), case["expected"]["loss"])
    # beside a longer ranking the padding plays no part
    both = PickBest()(ranked_scores([[rewards[best], *others], [0.0] * 6]))
    matches(both.loss.detach() - math.log(6), case["expected"]["loss"])


def test_accuracy_is_a_mean_inside_each_ranking_first(matches):
    matches(metric(PlackettLuce()(ranked_scores([[3.0, 2.0, 1.0, 1.0], [0.0, 1.0]])), "accuracy"), (5.5 / 6 + 0.0) / 2)


@pytest.mark.parametrize("objective", [PlackettLuce(), PickBest()])
def test_no_rankings_at_all(objective):
    sums = objective(RankedScores(torch.zeros(0, requires_grad=True), torch.zeros(0, dtype=torch.long), torch.zeros(0)))
    sums.loss.backward()

    assert sums.loss.item() == 0.0
    assert int(sums.count) == 0
