"""Reward-model losses against the independent values, and against what common mistakes give."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.bradley_terry import AllPairs, BradleyTerry, PairScores, PromptPairs
from tests.support.pairs import all_pairs, metric, pair_scores


def _each(objective, inputs):
    fields = vars(inputs).items()
    return [objective(PairScores(**{name: x[i : i + 1] for name, x in fields})).loss.item() for i in range(len(inputs.chosen))]


def test_bt_loss(oracle, matches, differs):
    case = oracle("bt_loss")
    chosen = torch.tensor(case["inputs"]["chosen"], requires_grad=True)
    inputs = pair_scores(chosen, case["inputs"]["rejected"])
    sums = BradleyTerry()(inputs)
    loss = sums.mean()
    loss.backward()

    matches(loss.detach(), case["expected"]["loss"])
    matches(_each(BradleyTerry(), inputs), case["expected"]["per_pair"])
    matches(metric(sums, "accuracy"), case["expected"]["accuracy"])
    matches(chosen.grad, case["expected"]["grad_chosen"])
    for wrong in case["common_wrong_answers"].values():
        differs(loss, wrong)


def test_bt_margin(oracle, matches, differs):
    case = oracle("bt_margin")
    inputs = pair_scores(case["inputs"]["chosen"], case["inputs"]["rejected"], margin=case["inputs"]["margin"])
    sums = BradleyTerry()(inputs)

    matches(sums.mean(), case["expected"]["loss"])
    matches(_each(BradleyTerry(), inputs), case["expected"]["per_pair"])
    differs(sums.mean(), case["common_wrong_answers"]["margin_added_instead_of_subtracted"])
    matches(metric(sums, "accuracy"), 2 / 3)


def test_bt_soft_label(oracle, matches):
    case = oracle("bt_soft_label")
    first = torch.tensor(case["inputs"]["r1"], requires_grad=True)
    inputs = pair_scores(first, case["inputs"]["r2"], probability=case["inputs"]["p_first_preferred"])
    sums = BradleyTerry()(inputs)
    sums.mean().backward()

    matches(sums.mean().detach(), case["expected"]["loss"])
    matches(_each(BradleyTerry(), inputs), case["expected"]["per_pair"])
    matches(first.grad, case["expected"]["grad_r1"])
    # 0.9 agrees, 0.5 has no side, 0.2 disagrees.
    matches(metric(sums, "accuracy"), 1 / 2)
    assert float(sums.metrics["accuracy"][1]) == 2.0


def test_reward_centering(oracle, matches, differs):
    case = oracle("reward_centering")
    inputs = pair_scores(case["inputs"]["chosen"], case["inputs"]["rejected"])
    sums = BradleyTerry(centering=case["inputs"]["coefficient"])(inputs)

    matches(sums.mean(), case["expected"]["total"])
    matches(metric(sums, "nll"), case["expected"]["bt"])
    matches(sums.mean() - metric(sums, "nll"), case["expected"]["aux"])
    differs(sums.mean() - metric(sums, "nll"), case["common_wrong_answers"]["mean_of_squares_each"])


def test_weights_are_as_good_as_repeats():
    chosen, rejected = [2.0, 0.5], [1.0, 1.0]
    weighted = BradleyTerry(centering=0.1)(pair_scores(chosen, rejected, weight=[3.0, 1.0]))
    repeated = BradleyTerry(centering=0.1)(pair_scores([*chosen, 2.0, 2.0], [*rejected, 1.0, 1.0]))

    torch.testing.assert_close(weighted.mean(), repeated.mean())
    for name in weighted.metrics:
        torch.testing.assert_close(metric(weighted, name), metric(repeated, name))


def test_equal_scores_count_one_half():
    sums = BradleyTerry()(pair_scores([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]))

    assert float(metric(sums, "accuracy")) == 0.5


def test_a_swapped_pair_with_the_other_probability_is_the_same_pair():
    given = BradleyTerry()(pair_scores([2.0, 0.5], [1.0, 1.0], probability=[0.7, 0.2]))
    swapped = BradleyTerry()(pair_scores([1.0, 1.0], [2.0, 0.5], probability=[0.3, 0.8]))

    torch.testing.assert_close(given.mean(), swapped.mean())
    torch.testing.assert_close(metric(given, "accuracy"), metric(swapped, "accuracy"))


def test_huge_differences_stay_finite():
    chosen = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = BradleyTerry()(pair_scores(chosen, [1e4, -1e4])).loss
    loss.backward()

    assert loss.item() == 2e4
    assert chosen.grad.tolist() == [-1.0, 0.0]


def test_christiano_segment_loss_10pct(oracle, matches, differs):
    case = oracle("christiano_segment_loss_10pct")
    first, second = (torch.tensor(case["inputs"][name]).sum(1) for name in ("segment1_rewards", "segment2_rewards"))
    inputs = pair_scores(first, second, probability=case["inputs"]["mu_first"])
    objective = BradleyTerry(random=case["inputs"]["eps"])
    certain = [objective(pair_scores(a[None], b[None])).loss.neg().exp().item() for a, b in zip(first, second, strict=True)]

    matches(certain, case["expected"]["p_first"])
    matches(_each(objective, inputs), case["expected"]["per_pair"])
    matches(objective(inputs).mean(), case["expected"]["loss"])
    matches(objective(inputs).loss, case["expected"]["loss_sum"])
    differs(objective(inputs).mean(), case["common_wrong_answers"]["eps_as_flip_probability"])


def test_a_coins_toss_bounds_what_one_judgment_can_cost():
    scores = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = BradleyTerry(random=0.1)(pair_scores(scores, [1e4, -1e4])).loss
    loss.backward()

    assert loss.item() == pytest.approx(-math.log(0.05) - math.log(0.95))
    assert scores.grad.tolist() == [0.0, 0.0]


def test_label_smoothing_is_a_label_that_may_be_turned_round(matches):
    # With e = 0.1 a label of 1 becomes 0.9 and one of 0.2 becomes 0.26; a tie stays a tie.
    smooth = BradleyTerry(label_smoothing=0.1)(pair_scores([2.0, 0.5, 1.0], [1.0, 1.0, 0.0], probability=[1.0, 0.2, 0.5]))
    soft = BradleyTerry()(pair_scores([2.0, 0.5, 1.0], [1.0, 1.0, 0.0], probability=[0.9, 0.26, 0.5]))

    matches(smooth.loss, soft.loss.item())
    assert float(metric(smooth, "accuracy")) == 1.0  # of the labels as they were given


def test_bradley_terry_mle(oracle, matches):
    case = oracle("bradley_terry_mle")
    wins = torch.tensor(case["inputs"]["wins_row_beats_col"], dtype=torch.float64)
    first, second = wins.nonzero().T
    strength = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([strength], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = BradleyTerry()(pair_scores(strength[first], strength[second], weight=wins[first, second].tolist())).loss
        value.backward()
        return value

    optimizer.step(loss)
    matches((strength - strength.mean()).detach(), case["expected"]["log_strength"])
    matches(torch.sigmoid(strength[0] - strength[1]).detach(), case["expected"]["p_0_beats_1"])
    matches(-loss().detach(), case["expected"]["log_likelihood"])


def test_instructgpt_all_pairs(oracle, matches, differs):
    case = oracle("instructgpt_all_pairs")
    rankings = case["inputs"]["rankings_best_first"]
    sums = AllPairs()(all_pairs(rankings))

    matches(sums.mean(), case["expected"]["loss"])
    matches([AllPairs()(all_pairs([ranking])).loss.item() for ranking in rankings], case["expected"]["prompt_losses"])
    assert torch.bincount(all_pairs(rankings).prompt).tolist() == case["expected"]["n_pairs"]
    differs(sums.mean(), case["common_wrong_answers"]["flat_mean_over_all_pairs"])


def test_a_prompt_with_one_pair_is_bradley_terry(matches):
    pairs = pair_scores([2.0, 0.5], [1.0, 1.0], probability=[0.9, 0.5], margin=[0.5, 0.0])

    matches(AllPairs()(PromptPairs(pairs, torch.tensor([4, 2]))).loss, BradleyTerry()(pairs).loss.item())


def test_accuracy_of_all_pairs_is_a_mean_inside_each_prompt_first(matches):
    matches(metric(AllPairs()(all_pairs([[3.0, 2.0, 1.0, 1.0], [0.0, 1.0]])), "accuracy"), (5.5 / 6 + 0.0) / 2)


def test_weights_of_all_pairs_act_inside_a_prompt(matches):
    inputs = pair_scores([1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 9.0], weight=[3.0, 1.0, 5.0, 0.0])
    sums = AllPairs()(PromptPairs(inputs, torch.tensor([0, 0, 1, 2])))
    alone = _each(BradleyTerry(), pair_scores([1.0, 2.0, 0.0], [0.0, 0.0, 1.0]))

    matches(sums.loss, (3 * alone[0] + alone[1]) / 4 + alone[2])
    assert int(sums.count) == 2  # the third has nothing that counts


@pytest.mark.parametrize(
    "setting", [{"centering": -0.1}, {"centering": math.nan}, {"label_smoothing": 0.5}, {"label_smoothing": -0.1}, {"random": 1.0}]
)
def test_settings_are_checked(setting):
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} must"):
        BradleyTerry(**setting)
