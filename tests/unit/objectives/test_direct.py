"""DPO and its variants against independent values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.direct.dpo import DPO, AlphaDivergence, ForwardKL, JensenShannon, LengthDesensitisedDPO, ReverseKL, RobustDPO
from palate.objectives.direct.pair_logps import PairLogps, PairSide
from tests.support.logps import pair_logps


def _inputs(case, *, probability=1.0):
    given = case["inputs"]
    names = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
    sides = [torch.tensor(given[name], requires_grad=True) for name in names]
    return pair_logps(*sides, torch.full((len(sides[0]),), probability))


def _rows(inputs, rows):
    def side(one):
        return PairSide(one.logp.detach()[rows], one.reference.detach()[rows], one.tokens[rows])

    return PairLogps(side(inputs.chosen), side(inputs.rejected), inputs.probability[rows], inputs.weight[rows])


def _metric(sums, name):
    value, count = sums.metrics[name]
    return value / count


def test_dpo(oracle, matches):
    case = oracle("dpo")
    expected, beta, inputs = case["expected"], case["inputs"]["beta"], _inputs(case)
    sums = DPO(beta=beta)(inputs)
    sums.mean().backward()
    alone = [DPO(beta=beta)(_rows(inputs, [i])) for i in range(2)]

    matches(sums.mean().detach(), expected["loss"])
    matches(_metric(sums, "accuracy"), expected["accuracy"])
    matches([x.loss.item() for x in alone], expected["per_pair"])
    matches([_metric(x, "chosen_reward").item() for x in alone], expected["chosen_rewards"])
    matches([_metric(x, "rejected_reward").item() for x in alone], expected["rejected_rewards"])
    matches([_metric(x, "margin").item() / beta for x in alone], expected["logits_h"])
    matches(_metric(sums, "chosen_logp"), -27.75)
    matches(_metric(sums, "rejected_logp"), -29.0)
    matches(inputs.chosen.logp.grad, expected["grad_policy_chosen"])
    matches(inputs.rejected.logp.grad, expected["grad_policy_rejected"])


def test_the_reference_never_learns(oracle):
    inputs = _inputs(oracle("dpo"))
    DPO()(inputs).loss.backward()

    assert inputs.chosen.reference.grad is None
    assert inputs.rejected.reference.grad is None


@pytest.mark.parametrize("as_setting", [False, True])
def test_a_soft_label_is_conservative_dpo_and_so_is_label_smoothing(oracle, matches, as_setting):
    case = oracle("cdpo")
    eps = case["inputs"]["eps"]
    inputs = _inputs(case, probability=1.0 if as_setting else 1 - eps)
    objective = DPO(beta=case["inputs"]["beta"], label_smoothing=eps if as_setting else 0.0)

    matches(objective(inputs).mean().detach(), case["expected"]["loss"])
    matches([objective(_rows(inputs, [i])).loss.item() for i in range(2)], case["expected"]["per_pair"])


def test_optimum_of_conservative_dpo(oracle):
    case = oracle("preference_loss_optima")
    beta, eps = case["inputs"]["beta"], case["inputs"]["eps"]
    zero = torch.zeros(1)
    for objective, probability in ((DPO(beta=beta), 1 - eps), (DPO(beta=beta, label_smoothing=eps), 1.0)):
        chosen = torch.tensor([case["expected"]["cdpo_optimal_h"]], requires_grad=True)
        objective(pair_logps(chosen, zero, zero, zero, zero + probability)).loss.backward()
        assert abs(float(chosen.grad)) < 1e-9


def test_robust_dpo(oracle, matches, differs):
    case = oracle("robust_dpo")
    given, inputs = case["inputs"], _inputs(case)
    objective = RobustDPO(beta=given["beta"], flip_probability=given["eps"])
    loss = objective(inputs).mean().detach()

    matches(loss, case["expected"]["loss"])
    matches([objective(_rows(inputs, [i])).loss.item() for i in range(2)], case["expected"]["per_pair"])
    differs(loss, case["common_wrong_answers"]["missing_1_minus_2eps"])


@pytest.mark.parametrize("flips", [0.05, 0.3])
def test_robust_dpo_is_unbiased_under_flipped_labels(oracle, matches, flips):
    inputs = _inputs(oracle("dpo"))
    noisy = replace(inputs, probability=torch.full((2,), 1 - flips))

    matches(RobustDPO(flip_probability=flips)(noisy).mean(), DPO()(inputs).mean().item())


def _slope(divergence, u):
    """`f'(u) - f'(1)` computed numerically from f."""
    functions = {
        "reverse_kl": lambda x: x * math.log(x),
        "forward_kl": lambda x: -math.log(x),
        "jensen_shannon": lambda x: x * math.log(x) - (x + 1) * math.log((x + 1) / 2),
        "alpha": lambda x: (
            (x ** (1 - divergence.alpha) - (1 - divergence.alpha) * x - divergence.alpha) / (divergence.alpha * (divergence.alpha - 1))
        ),
    }
    f, step = functions[divergence.kind], 1e-5
    return (f(u + step) - f(u - step) - f(1 + step) + f(1 - step)) / (2 * step)


DIVERGENCES = [ReverseKL(), ForwardKL(), JensenShannon(), AlphaDivergence(alpha=0.3), AlphaDivergence(alpha=0.7)]


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_divergences_are_the_derivatives_of_their_functions(divergence):
    ratios = [0.2, 0.7, 1.0, 1.9, 6.0]
    found = divergence.slope(torch.tensor(ratios).log())

    assert found.tolist() == pytest.approx([_slope(divergence, u) for u in ratios], abs=1e-7)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_dpo_with_a_divergence(oracle, divergence):
    inputs, beta = _inputs(oracle("dpo")), 0.3
    x, y = (side.log_ratio.detach().exp().tolist() for side in (inputs.chosen, inputs.rejected))
    expected = sum(math.log1p(math.exp(-beta * (_slope(divergence, a) - _slope(divergence, b)))) for a, b in zip(x, y, strict=True)) / 2

    assert DPO(beta=beta, divergence=divergence)(inputs).mean().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("divergence", [ForwardKL(), AlphaDivergence(alpha=0.9)])
def test_far_from_the_reference_nothing_overflows_and_the_gradient_keeps_its_sign(divergence):
    chosen = torch.tensor([-400.0], dtype=torch.float32, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float32)
    DPO(divergence=divergence)(pair_logps(chosen, zero, zero, zero)).loss.backward()

    assert math.isfinite(float(chosen.grad))
    assert float(chosen.grad) < 0


def test_alpha_lies_between_the_two_kls():
    log_ratio = torch.tensor([-2.0, 0.5, 3.0])
    torch.testing.assert_close(AlphaDivergence(alpha=1e-6).slope(log_ratio), ReverseKL().slope(log_ratio), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(AlphaDivergence(alpha=1.0).slope(log_ratio), ForwardKL().slope(log_ratio))


def _heads(chosen, rejected, reference_chosen, reference_rejected):
    """Sides of one pair from lists of token log-probabilities."""
    n = min(len(chosen), len(rejected))

    def side(policy, reference):
        sums = (torch.tensor([float(sum(x))]) for x in (policy, reference, policy[:n], reference[:n]))
        total, fixed, head, fixed_head = sums
        return PairSide(total, fixed, torch.tensor([float(len(policy))]), head, fixed_head)

    return PairLogps(side(chosen, reference_chosen), side(rejected, reference_rejected), torch.ones(1), torch.ones(1))


def test_tokens_that_only_the_longer_side_has_count_less():
    chosen, reference_chosen = [-1.0, -2.0, -0.5, -3.0], [-1.5, -2.2, -0.1, -4.0]
    rejected, reference_rejected = [-1.2, -0.3], [-1.0, -0.9]
    inputs = _heads(chosen, rejected, reference_chosen, reference_rejected)
    alpha, beta = 0.25, 0.2
    policy = -3.0 + alpha * -3.5 - (-1.5)
    reference = -3.7 + alpha * -4.1 - (-1.9)

    loss = LengthDesensitisedDPO(beta=beta, alpha=alpha)(inputs).mean().item()
    assert loss == pytest.approx(math.log1p(math.exp(-beta * (policy - reference))), rel=1e-12)
    assert LengthDesensitisedDPO(beta=beta, alpha=1.0)(inputs).mean().item() == pytest.approx(DPO(beta=beta)(inputs).mean().item())


def test_weights_are_as_good_as_repeats(oracle):
    inputs = _inputs(oracle("dpo"))
    weighted = DPO()(replace(inputs, weight=torch.tensor([2.0, 1.0])))
    repeated = DPO()(_rows(inputs, [0, 0, 1]))

    torch.testing.assert_close(weighted.mean().detach(), repeated.mean())
    for name in weighted.metrics:
        torch.testing.assert_close(_metric(weighted, name), _metric(repeated, name))


@pytest.mark.parametrize("probability", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_policy_equal_to_reference_gives_log_2(oracle, beta, probability, divergence):
    given = oracle("dpo")["inputs"]
    chosen, rejected = torch.tensor(given["policy_chosen"]), torch.tensor(given["policy_rejected"])
    sums = DPO(beta=beta, divergence=divergence)(pair_logps(chosen, rejected, chosen, rejected, torch.full((2,), probability)))

    assert float(sums.mean()) == pytest.approx(math.log(2), rel=1e-12)
    if probability != 0.5:
        assert float(_metric(sums, "accuracy")) == 0.5


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
@pytest.mark.parametrize("objective", [DPO, RobustDPO, LengthDesensitisedDPO])
def test_beta_is_checked(objective, beta):
    with pytest.raises(ConfigError, match="beta must be > 0"):
        objective(beta=beta)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DPO(label_smoothing=0.5),
        lambda: DPO(label_smoothing=-0.1),
        lambda: RobustDPO(flip_probability=0.5),
        lambda: LengthDesensitisedDPO(alpha=1.1),
        lambda: AlphaDivergence(alpha=0.0),
    ],
)
def test_settings_are_checked(make):
    with pytest.raises(ConfigError):
        make()


def test_hyper_parameters_are_named():
    with pytest.raises(TypeError):
        DPO(0.3)
