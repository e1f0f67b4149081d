"""The KL penalty in reward and loss, and its coefficient: fixed, adaptive, on target, within a budget."""

from __future__ import annotations

import json
import math

import pytest
import torch

from palate.core import ConfigError, TrainingError
from palate.objectives.kl import AdaptiveKL, BudgetKL, FixedKL, KLPenalty, KLState, KLTokens, TargetKL, k1, k3
from palate.objectives.reductions import SequenceMean, TokenWeights

CONTROLS = [FixedKL(), AdaptiveKL(), TargetKL(), BudgetKL(), BudgetKL(price=AdaptiveKL())]


def every(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def test_in_the_reward_it_is_a_price_of_each_token(oracle, matches):
    given = oracle("kl_shaped_reward")["inputs"]
    logps, reference = torch.tensor(given["logp"], requires_grad=True), torch.tensor(given["ref_logp"])
    price = KLPenalty().in_reward(logps, reference, given["beta"])

    matches(price, [0.03, -0.075, 0.015])
    assert not price.requires_grad
    assert (price >= 0).tolist() == [True, False, True]
    matches(KLPenalty(estimator="k3").in_reward(logps, reference, 2.0), (2 * k3(logps, reference)).tolist())


def test_in_the_loss_nothing_is_taken_off_the_reward():
    logps = torch.tensor([-1.0, -2.0])
    assert KLPenalty(estimator="k3", place="loss").in_reward(logps, logps - 3, 0.5).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("estimator", "divergence"), [("k2", "grad_KL_p_q"), ("k3", "grad_KL_q_p")])
def test_which_divergence_the_loss_regularises(oracle, matches, differs, estimator, divergence):
    case = oracle("kl_estimator_loss_gradients")
    theta = torch.tensor(case["inputs"]["theta"], requires_grad=True)
    p = theta.detach().softmax(0)
    reference = torch.tensor(case["inputs"]["q"]).log()
    # every word once, with its probability as its weight: the expectation under the policy
    exact = TokenWeights(p, torch.tensor(1))
    KLPenalty(estimator=estimator, place="loss").in_loss(KLTokens(theta.log_softmax(0), reference, every(p)), 2.0, exact).loss.backward()
    other = {"grad_KL_p_q": "grad_KL_q_p", "grad_KL_q_p": "grad_KL_p_q"}[divergence]

    matches(theta.grad / 2, case["expected"][divergence])
    differs(theta.grad[0] / 2, case["expected"][other][0])


def test_k1_in_the_loss_is_refused():
    with pytest.raises(ConfigError, match="no gradient on average"):
        KLPenalty(estimator="k1", place="loss")


def test_the_loss_is_weighted_as_the_policys(matches):
    logps, reference = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-1.2, -1.5, -0.6])
    mask, completion = torch.tensor([True, True, True]), torch.tensor([0, 0, 1])
    tokens, penalty = KLTokens(logps, reference, mask), KLPenalty(estimator="k3", place="loss")
    each = k3(logps, reference)

    matches(penalty.in_loss(tokens, 0.5).mean(), float(0.5 * each.mean()))
    weighted = penalty.in_loss(tokens, 0.5, SequenceMean()(completion, mask))
    matches(weighted.mean(), float(0.5 * ((each[0] + each[1]) / 2 + each[2]) / 2))
    value, count = weighted.metrics["kl_loss"]
    matches(value / count, float(each.mean()))


@pytest.mark.parametrize("estimator", ["k2", "k3"])
@pytest.mark.parametrize("jump", [1e3, -1e3])
def test_garbage_and_absurd_ratios_stay_finite_in_the_loss(estimator, jump):
    logps = torch.tensor([jump, math.nan, -0.3], requires_grad=True, dtype=torch.float32)
    reference = torch.tensor([0.0, math.inf, -0.3], dtype=torch.float32)
    sums = KLPenalty(estimator=estimator, place="loss").in_loss(KLTokens(logps, reference, torch.tensor([True, False, True])), 1.0)
    sums.loss.backward()

    assert math.isfinite(sums.loss.item())
    assert logps.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_state_comes_back_from_its_numbers(control):
    state = control.start()
    for observed in (3.0, 8.0, 20.0):
        state = control.after(state, observed, 256)

    assert KLState(**json.loads(json.dumps(vars(state)))) == state
    assert control.after(KLState(**vars(state)), 7.0, 256) == control.after(state, 7.0, 256)


def test_target_kl_moves_the_price_by_a_power_of_the_miss():
    control = TargetKL(init_coef=0.1, target=4.0, gain=0.5, limit=1.5, floor=0.01, ceiling=1.0)
    state, history = control.start(), []
    for observed in (4.0, 5.76, 2.56, 400.0, 0.0, -1.0):
        state = control.after(state, observed, 1)
        history.append(state.coef)

    assert history == pytest.approx([0.1, 0.12, 0.096, 0.144, 0.096, 0.064])
    low, high = KLState(0.011), KLState(0.9)
    assert control.after(low, 0.0, 1).coef == 0.01
    assert control.after(high, 100.0, 1).coef == 1.0


def test_target_kl_finds_the_price_of_its_target(oracle):
    """On the model of three words the best policy is known for each coefficient, and so is the coefficient that gives 0.4 nats."""
    case = oracle("kl_regularised_optimum_bandit")["inputs"]
    reference, reward = torch.tensor(case["pi_ref"]).log(), torch.tensor(case["reward"])

    def kl(coef: float) -> float:
        best = (reference + reward / coef).log_softmax(0)
        return float((best.exp() * k1(best, reference)).sum())

    for control in (TargetKL(target=0.4, init_coef=0.05), TargetKL(target=0.4, init_coef=4.0)):
        state = control.start()
        for _ in range(60):
            state = control.after(state, kl(state.coef), 64)
        assert kl(state.coef) == pytest.approx(0.4, abs=1e-3)


def test_a_budget_says_when_it_is_spent_and_stays_spent():
    control = BudgetKL(nats=5.0, price=FixedKL(coef=0.1))
    state, history = control.start(), []
    for observed in (1.0, 5.0, 5.1, 2.0):
        state = control.after(state, observed, 8)
        history.append((state.coef, state.is_spent))

    assert history == [(0.1, False), (0.1, False), (0.1, True), (0.1, True)]


def test_a_budget_leaves_the_price_to_another_control():
    budget, price = BudgetKL(nats=5.0, price=AdaptiveKL()), AdaptiveKL()
    state = alone = price.start()
    for observed in (1.0, 20.0, 6.5):
        state, alone = budget.after(state, observed, 512), price.after(alone, observed, 512)
        assert state.coef == alone.coef


@pytest.mark.parametrize("control", [TargetKL(), BudgetKL(), AdaptiveKL()])
@pytest.mark.parametrize("observed", [math.nan, math.inf])
def test_a_kl_that_is_no_number_stops_the_run(control, observed):
    with pytest.raises(TrainingError, match="observed KL"):
        control.after(control.start(), observed, 64)


@pytest.mark.parametrize(
    ("control", "setting", "message"),
    [
        (TargetKL, {"target": 0.0}, "target must be > 0"),
        (TargetKL, {"limit": 1.0}, "limit must be above 1"),
        (TargetKL, {"init_coef": 9.0}, "must lie between floor"),
        (BudgetKL, {"nats": 0.0}, "nats must be > 0"),
        (BudgetKL, {"nats": math.nan}, "nats must be > 0"),
    ],
)
def test_settings_are_checked(control, setting, message):
    with pytest.raises(ConfigError, match=message):
        control(**setting)
