"""DPO against the independent values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from palate.core import ConfigError
from palate.objectives import DPO, PairLogps


def _inputs(case, *, probability=1.0):
    given = case["inputs"]
    chosen = torch.tensor(given["policy_chosen"], requires_grad=True)
    return PairLogps(
        chosen=chosen,
        rejected=torch.tensor(given["policy_rejected"], requires_grad=True),
        reference_chosen=torch.tensor(given["ref_chosen"], requires_grad=True),
        reference_rejected=torch.tensor(given["ref_rejected"], requires_grad=True),
        probability=torch.full((len(chosen),), probability),
        weight=torch.ones(len(chosen)),
    )


def _alone(inputs, i):
    return PairLogps(**{name: x.detach()[i : i + 1] for name, x in vars(inputs).items()})


def _metric(sums, name):
    value, count = sums.metrics[name]
    return value / count


def test_dpo(oracle, matches):
    case = oracle("dpo")
    expected, beta, inputs = case["expected"], case["inputs"]["beta"], _inputs(case)
    sums = DPO(beta=beta)(inputs)
    sums.mean().backward()
    alone = [DPO(beta=beta)(_alone(inputs, i)) for i in range(2)]

    matches(sums.mean().detach(), expected["loss"])
    matches(_metric(sums, "loss"), expected["loss"])
    matches(_metric(sums, "accuracy"), expected["accuracy"])
    matches([x.loss.item() for x in alone], expected["per_pair"])
    matches([_metric(x, "chosen_reward").item() for x in alone], expected["chosen_rewards"])
    matches([_metric(x, "rejected_reward").item() for x in alone], expected["rejected_rewards"])
    matches([_metric(x, "margin").item() / beta for x in alone], expected["logits_h"])
    matches(_metric(sums, "chosen_logp"), -27.75)
    matches(_metric(sums, "rejected_logp"), -29.0)
    matches(inputs.chosen.grad, expected["grad_policy_chosen"])
    matches(inputs.rejected.grad, expected["grad_policy_rejected"])


def test_the_reference_never_learns(oracle):
    inputs = _inputs(oracle("dpo"))
    DPO()(inputs).loss.backward()

    assert inputs.reference_chosen.grad is None
    assert inputs.reference_rejected.grad is None


def test_a_soft_label_is_conservative_dpo(oracle, matches):
    case = oracle("cdpo")
    inputs = _inputs(case, probability=1 - case["inputs"]["eps"])
    objective = DPO(beta=case["inputs"]["beta"])

    matches(objective(inputs).mean().detach(), case["expected"]["loss"])
    matches([objective(_alone(inputs, i)).loss.item() for i in range(2)], case["expected"]["per_pair"])


def test_optimum_of_conservative_dpo(oracle):
    case = oracle("preference_loss_optima")
    beta, eps = case["inputs"]["beta"], case["inputs"]["eps"]
    chosen = torch.tensor([case["expected"]["cdpo_optimal_h"]], requires_grad=True)
    zero = torch.zeros(1)
    DPO(beta=beta)(PairLogps(chosen, zero, zero, zero, zero + 1 - eps, zero + 1)).loss.backward()

    assert abs(float(chosen.grad)) < 1e-9


def test_weights_are_as_good_as_repeats(oracle):
    inputs = _inputs(oracle("dpo"))
    weighted = DPO()(replace(inputs, weight=torch.tensor([2.0, 1.0])))
    repeated = DPO()(PairLogps(**{name: x.detach()[[0, 0, 1]] for name, x in vars(inputs).items()}))

    torch.testing.assert_close(weighted.mean().detach(), repeated.mean())
    for name in weighted.metrics:
        torch.testing.assert_close(_metric(weighted, name), _metric(repeated, name))


@pytest.mark.parametrize("probability", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_policy_equal_to_reference_gives_log_2(oracle, beta, probability):
    given = oracle("dpo")["inputs"]
    chosen, rejected = torch.tensor(given["policy_chosen"]), torch.tensor(given["policy_rejected"])
    same = PairLogps(chosen, rejected, chosen, rejected, torch.full((2,), probability), torch.ones(2))
    sums = DPO(beta=beta)(same)

    assert float(sums.mean()) == pytest.approx(math.log(2), rel=1e-12)
    if probability != 0.5:
        assert float(_metric(sums, "accuracy")) == 0.5


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
def test_settings_are_checked(beta):
    with pytest.raises(ConfigError, match="beta must be > 0"):
        DPO(beta=beta)


def test_hyper_parameters_are_named():
    with pytest.raises(TypeError):
        DPO(0.3)
