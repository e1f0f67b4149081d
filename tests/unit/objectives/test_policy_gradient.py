"""PPO's clipped surrogate and REINFORCE."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.advantages import leave_one_out
from palate.objectives.policy_gradient import PPOClip, Reinforce
from tests.support.policy import tokens


def _metric(sums, name):
    value, count = sums.metrics[name]
    return value / count


def _inputs(case):
    given = case["inputs"]
    return tokens(
        logps=torch.tensor(given["logp_new"], requires_grad=True),
        old_logps=torch.tensor(given["logp_old"]),
        advantages=torch.tensor(given["advantage"]),
        mask=torch.tensor(given["mask"], dtype=torch.bool),
    )


def test_ppo_clip(oracle, matches):
    case = oracle("ppo_clip_policy_loss")
    expected, inputs = case["expected"], _inputs(case)
    objective = PPOClip(clip=case["inputs"]["eps"])
    sums = objective(inputs)
    sums.mean().backward()
    one = torch.ones(1, dtype=torch.bool)
    alone = [
        objective(tokens(inputs.logps.detach()[i : i + 1], inputs.old_logps[i : i + 1], inputs.advantages[i : i + 1], one))
        for i in range(5)
    ]

    matches(sums.mean().detach(), expected["loss"])
    matches(_metric(sums, "clip_fraction"), expected["clipfrac"])
    matches(inputs.logps.grad, expected["grad_new_logp"])
    matches([x.loss.item() for x in alone], expected["per_token"])
    matches([_metric(x, "ratio").item() for x in alone], expected["ratio"])
    matches(_metric(sums, "ratio"), sum(expected["ratio"][:4]) / 4)
    matches(_metric(sums, "approx_kl"), (0.4**2 + 0.0 + 0.5**2 + 0.05**2) / 8)
    matches(sums.metrics["log_ratio_max"][0], 0.5)


def test_clipped_only_on_the_side_the_advantage_pushes_to(matches):
    """Ratios 2 and 1/2 against advantages of both signs: a token is clipped only where clipping makes the loss larger."""
    logps = torch.tensor([2.0, 2.0, 0.5, 0.5]).log().requires_grad_()
    sums = PPOClip(clip=0.2)(tokens(logps, torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.ones(4, dtype=torch.bool)))
    sums.loss.backward()

    matches(_metric(sums, "clip_fraction"), 0.5)
    matches(logps.grad, [0.0, 2.0, -0.5, 0.0])


def test_mean_over_all_places_would_be_another_number(oracle, differs):
    inputs = _inputs(oracle("ppo_clip_policy_loss"))
    sums = PPOClip()(inputs)

    differs(sums.loss / 5, oracle("ppo_clip_policy_loss")["expected"]["loss"])
    assert int(sums.count) == 4


@pytest.mark.parametrize("objective", [PPOClip(), Reinforce()])
def test_garbage_outside_the_mask_plays_no_part(objective):
    mask = torch.tensor([True, True, False, False, False])
    clean = torch.tensor([0.3, -0.2, 0.0, 0.0, 0.0])
    dirty = torch.tensor([0.3, -0.2, math.nan, math.inf, -1e30], requires_grad=True)
    a = objective(tokens(clean, torch.zeros(5), clean, mask))
    b = objective(tokens(dirty, torch.zeros(5), dirty.detach(), mask))
    b.loss.backward()

    torch.testing.assert_close(a.loss, b.loss.detach())
    assert all(torch.equal(a.metrics[name][0], b.metrics[name][0]) for name in a.metrics)
    assert dirty.grad[2:].tolist() == [0.0] * 3


@pytest.mark.parametrize("objective", [PPOClip(), Reinforce()])
@pytest.mark.parametrize("jump", [1e3, -1e3])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_absurd_ratios_stay_finite(objective, jump, advantage):
    logps = torch.tensor([jump], requires_grad=True, dtype=torch.float32)
    zero = torch.zeros(1, dtype=torch.float32)
    sums = objective(tokens(logps, zero, zero + advantage, torch.tensor([True])))
    sums.loss.backward()

    assert math.isfinite(sums.loss.item())
    assert float(logps.grad) == 0.0
    assert float(sums.metrics["log_ratio_max"][0]) == 1e3


@pytest.mark.parametrize("objective", [PPOClip(), Reinforce()])
def test_before_the_first_update_the_gradient_is_the_policy_gradient(objective, matches):
    logps = torch.tensor([-0.3, -1.7, -2.0], requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5])
    sums = objective(tokens(logps, logps.detach(), advantages, torch.ones(3, dtype=torch.bool)))
    sums.loss.backward()

    matches(logps.grad, (-advantages).tolist())
    assert float(_metric(sums, "ratio")) == 1.0
    assert float(_metric(sums, "approx_kl")) == 0.0
    assert sums.loss.item() == pytest.approx(-float(advantages.sum()))


def test_gradient_of_rloo(oracle, matches):
    case = oracle("rloo")
    advantages = leave_one_out(torch.tensor(case["inputs"]["rewards"]), torch.zeros(4, dtype=torch.long))
    logps = torch.zeros(4, requires_grad=True)
    sums = Reinforce()(tokens(logps, torch.zeros(4), advantages, torch.ones(4, dtype=torch.bool)))
    sums.mean().backward()

    matches(logps.grad, [-a / 4 for a in case["expected"]["advantage"]])


def test_no_gradient_reaches_old_logps_or_advantages():
    logps, old, advantages = (torch.zeros(2, requires_grad=True) for _ in range(3))
    PPOClip()(tokens(logps, old, advantages, torch.ones(2, dtype=torch.bool))).loss.backward()

    assert old.grad is None
    assert advantages.grad is None


@pytest.mark.parametrize("clip", [0.0, 1.0, -0.2, math.nan])
def test_settings_are_checked(clip):
    with pytest.raises(ConfigError, match="clip must lie between 0 and 1"):
        PPOClip(clip=clip)
