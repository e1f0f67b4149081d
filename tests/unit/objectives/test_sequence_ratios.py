"""Policy losses beyond PPO's: clip-higher, the dual clip, clipped weights (CISPO), ratios of whole completions (GSPO, SequenceClip)."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.policy_gradient import CISPO, GSPO, PPOClip, Reinforce, SequenceClip
from palate.objectives.reductions import SequenceMean, SequenceSum
from tests.support.policy import tokens

EVERY = [PPOClip(), PPOClip(clip_high=0.28, dual_clip=3.0), Reinforce(), CISPO(), GSPO(), SequenceClip()]
COMPLETION = torch.tensor([0, 0, 0, 1, 2, 2])


def _gradient(objective, log_ratios, advantages, completion=None, reduction=None):
    """Gradient of the mean loss in the log-probabilities, and the sums."""
    logps = torch.as_tensor(log_ratios).clone().requires_grad_()
    inputs = tokens(logps, torch.zeros(len(logps)), torch.as_tensor(advantages), None, completion)
    sums = objective(inputs, None if reduction is None else reduction(inputs.completion, inputs.mask))
    sums.mean().backward()
    return logps.grad, sums


def _metric(sums, name):
    value, count = sums.metrics[name]
    return float(value / count)


@pytest.mark.parametrize("objective", EVERY, ids=lambda x: x.kind)
@pytest.mark.parametrize("reduction", [SequenceMean(), SequenceSum()], ids=lambda x: x.kind)
def test_before_the_first_update_all_are_the_policy_gradient(objective, reduction, matches):
    advantages = torch.tensor([1.5, -0.5, 0.2])[COMPLETION]
    gradient, sums = _gradient(objective, torch.zeros(6), advantages, COMPLETION, reduction)
    each = reduction(COMPLETION, torch.ones(6, dtype=torch.bool)).weights
    if isinstance(objective, SequenceClip):  # a whole completion's log-probability is a sum, whose mean is not taken
        each = each * torch.bincount(COMPLETION)[COMPLETION]

    matches(gradient, (-advantages * each / 3).tolist())
    assert _metric(sums, "ratio") == 1.0
    assert _metric(sums, "approx_kl") == 0.0
    assert sums.metrics["log_ratio_max"][0] == 0.0


@pytest.mark.parametrize("objective", EVERY, ids=lambda x: x.kind)
def test_garbage_outside_the_mask_plays_no_part(objective):
    mask = torch.tensor([True, True, False, False, True, False])
    clean = torch.tensor([0.03, -0.02, 0.0, 0.0, 0.01, 0.0])
    dirty = torch.tensor([0.03, -0.02, math.nan, math.inf, 0.01, -1e30], requires_grad=True)
    a = objective(tokens(clean, torch.zeros(6), clean, mask, COMPLETION))
    b = objective(tokens(dirty, torch.zeros(6), dirty.detach(), mask, COMPLETION))
    b.loss.backward()

    torch.testing.assert_close(a.loss, b.loss.detach())
    assert all(torch.equal(a.metrics[name][0], b.metrics[name][0]) for name in a.metrics)
    assert dirty.grad[~mask].tolist() == [0.0] * 3


@pytest.mark.parametrize("objective", EVERY, ids=lambda x: x.kind)
@pytest.mark.parametrize("jump", [1e3, -1e3])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_absurd_ratios_stay_finite(objective, jump, advantage):
    gradient, sums = _gradient(objective, torch.full((2,), jump, dtype=torch.float32), torch.full((2,), advantage, dtype=torch.float32))

    assert math.isfinite(sums.loss.item())
    assert bool(gradient.isfinite().all())
    assert float(sums.metrics["log_ratio_max"][0]) == 1e3


def test_clip_higher_lets_a_good_token_go_further(matches):
    ratios = torch.tensor([1.25, 1.25, 0.75]).log()
    advantages = torch.tensor([1.0, -1.0, -1.0])

    matches(_gradient(PPOClip(clip=0.2), ratios, advantages)[0], [0.0, 1.25 / 3, 0.0])
    gradient, sums = _gradient(PPOClip(clip=0.2, clip_high=0.28), ratios, advantages)
    matches(gradient, [-1.25 / 3, 1.25 / 3, 0.0])
    assert _metric(sums, "clip_fraction") == pytest.approx(1 / 3)


def test_a_dual_clip_bounds_what_a_bad_token_costs(matches):
    ratios, advantages = torch.tensor([5.0, 2.0, 5.0]).log(), torch.tensor([-1.0, -1.0, 1.0])

    matches(_gradient(PPOClip(), ratios, advantages)[0], [5 / 3, 2 / 3, 0.0])
    gradient, sums = _gradient(PPOClip(dual_clip=3.0), ratios, advantages)
    matches(gradient, [0.0, 2 / 3, 0.0])
    matches(sums.loss.detach(), 3.0 + 2.0 - 1.2)
    assert _metric(sums, "clip_fraction") == pytest.approx(2 / 3)


def test_cispo_is_reinforce_up_to_its_limit_and_never_leaves_a_token_out(matches):
    ratios, advantages = torch.tensor([0.3, 1.0, 4.0, 9.0]), torch.tensor([1.0, -2.0, 0.5, -1.0])
    free, _ = _gradient(Reinforce(), ratios.log(), advantages)
    held, sums = _gradient(CISPO(limit=5.0), ratios.log(), advantages)

    matches(held[:3], free[:3].tolist())
    matches(held[3], float(free[3]) * 5 / 9)
    assert _metric(sums, "clip_fraction") == 0.25
    matches(_metric(sums, "ratio"), float(ratios.mean()))
    assert _gradient(PPOClip(), ratios.log(), advantages)[0][2] == 0.0


def test_gspo_takes_the_geometric_mean_of_a_completions_ratios(matches):
    log_ratios = torch.tensor([0.02, -0.01, 0.0, 0.05, -0.03, 0.01])
    advantages = torch.tensor([1.0, -2.0, 0.5])
    ratios = torch.tensor([0.01 / 3, 0.05, -0.01]).exp()
    gradient, sums = _gradient(GSPO(clip=0.1, clip_high=0.1), log_ratios, advantages[COMPLETION], COMPLETION, SequenceMean())

    matches(sums.mean().detach(), float(-(ratios * advantages).mean()))
    # each token moves its completion's ratio by ratio / length
    matches(gradient, (-(ratios * advantages)[COMPLETION] / torch.tensor([3, 3, 3, 1, 2, 2]) / 3).tolist())
    # held on the side its advantage pushes to: the first is above 1 and good, the last below 1 and good
    gradient, sums = _gradient(GSPO(), log_ratios, advantages[COMPLETION], COMPLETION, SequenceMean())
    assert [bool(x) for x in gradient] == [False, False, False, True, True, True]
    assert _metric(sums, "clip_fraction") == pytest.approx(3 / 6)


def test_a_whole_completions_ratio_is_the_product_of_its_tokens(matches):
    log_ratios = torch.tensor([0.02, -0.01, 0.04, 0.05, -0.2, -0.1])
    advantages = torch.tensor([1.0, -2.0, -0.5])
    ratios = torch.tensor([0.05, 0.05, -0.3]).exp()
    gradient, sums = _gradient(SequenceClip(), log_ratios, advantages[COMPLETION], COMPLETION, SequenceMean())

    matches(sums.mean().detach(), float(-(ratios[:2] * advantages[:2]).sum() + 0.5 * 0.8) / 3)
    matches(gradient, [*(-(ratios * advantages)[COMPLETION] / 3)[:4].tolist(), 0.0, 0.0])


def test_normalising_by_length_is_what_tells_the_two_apart():
    """A hundred tokens have each moved by 0.01: the product is far outside its range, and the mean is not."""
    log_ratios, advantages = torch.full((100,), 0.01), torch.ones(100)

    assert not _gradient(SequenceClip(clip=0.2), log_ratios, advantages)[0].any()
    assert bool(_gradient(GSPO(clip=0.2, clip_high=0.2), log_ratios, advantages)[0].all())


def test_no_gradient_reaches_old_logps_or_advantages():
    for objective in EVERY:
        logps, old, advantages = (torch.full((3,), 0.1, requires_grad=True) for _ in range(3))
        objective(tokens(logps, old, advantages)).loss.backward()
        assert old.grad is None
        assert advantages.grad is None
        assert logps.grad is not None


@pytest.mark.parametrize(
    ("objective", "setting", "message"),
    [
        (PPOClip, {"clip_high": 0.0}, "clip_high must be above 0"),
        (PPOClip, {"dual_clip": 1.0}, "dual_clip must be above 1"),
        (GSPO, {"clip": 0.0}, "clip must lie between 0 and 1"),
        (SequenceClip, {"clip_high": math.nan}, "clip_high must be above 0"),
        (CISPO, {"limit": 0.5}, "limit must be 1 or more"),
    ],
)
def test_settings_are_checked(objective, setting, message):
    with pytest.raises(ConfigError, match=message):
        objective(**setting)
