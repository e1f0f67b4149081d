"""KL estimators, their gradients, and the controllers."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError, TrainingError
from palate.objectives.kl import AdaptiveKL, FixedKL, KLState, k1, k2, k3


def test_kl_estimators(oracle, matches, differs):
    case = oracle("kl_estimators")
    p, q = (torch.tensor(case["inputs"][key]) for key in ("p_policy", "q_ref"))
    expected = case["expected"]
    estimates = {"k1": k1(p.log(), q.log()), "k2": k2(p.log(), q.log()), "k3": k3(p.log(), q.log())}

    for name, estimate in estimates.items():
        matches(estimate, expected[name])
        matches((p * estimate).sum(), expected[f"E_{name}"])
    for name in ("k1", "k3"):
        matches((p * estimates[name]).sum(), expected["true_KL_p_q"])
        for wrong in case["common_wrong_answers"].values():
            differs((p * estimates[name]).sum(), wrong)
    assert min(estimates["k1"]) < 0 <= min(estimates["k3"])


@pytest.mark.parametrize(("estimator", "name"), [(k1, "k1"), (k2, "k2"), (k3, "k3")])
def test_gradients_of_the_estimators_as_losses(oracle, matches, estimator, name):
    case = oracle("kl_estimator_loss_gradients")
    theta = torch.tensor(case["inputs"]["theta"], requires_grad=True)
    logps = theta.log_softmax(0)
    samples = logps.exp().detach()  # drawn from the policy, then constants
    (samples * estimator(logps, torch.tensor(case["inputs"]["q"]).log())).sum().backward()

    matches(theta.grad, case["expected"][f"E_grad_{name}"])


def test_which_divergence_each_gradient_belongs_to(oracle, matches):
    case = oracle("kl_estimator_loss_gradients")
    expected, q = case["expected"], torch.tensor(case["inputs"]["q"])
    gradients = []
    for reverse in (True, False):
        theta = torch.tensor(case["inputs"]["theta"], requires_grad=True)
        p = theta.softmax(0)
        ((p * (p / q).log()).sum() if reverse else (q * (q / p).log()).sum()).backward()
        gradients.append(theta.grad)

    matches(gradients[0], expected["grad_KL_p_q"])
    matches(gradients[1], expected["grad_KL_q_p"])
    assert expected["E_grad_k2"] == expected["grad_KL_p_q"]
    assert expected["E_grad_k3"] == expected["grad_KL_q_p"]


def test_k3_keeps_its_digits_near_zero():
    small = torch.tensor([1e-5], dtype=torch.float32)

    assert float(k3(small, torch.zeros(1, dtype=torch.float32))) == pytest.approx(5e-11, abs=1e-11)


def test_adaptive_controller(oracle):
    case = oracle("adaptive_kl_controller")
    given = case["inputs"]
    control = AdaptiveKL(init_coef=given["beta0"], target=given["target"], horizon=given["horizon"])
    state, seen = control.start(), []
    for observed in given["observed_kl"]:
        state = control.after(state, observed, given["n_steps"])
        seen.append(state.coef)

    assert seen == pytest.approx(case["expected"]["beta_after"], rel=1e-6)
    assert AdaptiveKL() == control


def test_fixed_controller():
    control = FixedKL(coef=0.05)

    assert control.after(control.start(), 1e9, 512).coef == 0.05 == FixedKL().coef


@pytest.mark.parametrize("observed", [math.nan, math.inf])
def test_a_kl_that_is_no_number_stops_the_run(observed):
    with pytest.raises(TrainingError, match="observed KL"):
        AdaptiveKL().after(KLState(0.1), observed, 512)


def test_a_batch_too_large_for_the_horizon_is_refused():
    control = AdaptiveKL(horizon=1000)

    assert control.after(KLState(0.1), 0.0, 4999).coef > 0
    with pytest.raises(ConfigError, match="raise horizon above 1000"):
        control.after(KLState(0.1), 0.0, 5000)


@pytest.mark.parametrize("setting", [{"init_coef": 0.0}, {"target": -1.0}, {"horizon": 0}, {"target": math.nan}])
def test_settings_of_the_adaptive_controller_are_checked(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        AdaptiveKL(**setting)


@pytest.mark.parametrize("coef", [-0.1, math.nan, math.inf])
def test_settings_of_the_fixed_controller_are_checked(coef):
    with pytest.raises(ConfigError, match="coef must be >= 0"):
        FixedKL(coef=coef)
