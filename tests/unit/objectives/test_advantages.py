"""Rewards, advantages, baselines and whitening on padded tensors."""

from __future__ import annotations

import math

import pytest
import torch

from palate.objectives.advantages import gae, leave_one_out, token_rewards, whiten
from palate.objectives.kl import k1

JUNK = [math.nan, math.inf, -1e30]


def _padded(x, left, right):
    """Return `x` (b, t) between columns of garbage, which are False in a mask."""
    columns = [torch.full((len(x), 1), False if x.dtype == torch.bool else JUNK[i % 3], dtype=x.dtype) for i in range(left + right)]
    return torch.cat([*columns[:left], x, *columns[left:]], 1)


PADDINGS = [(0, 1), (0, 5), (3, 0), (2, 2)]


def test_kl_shaped_reward(oracle, matches):
    case = oracle("kl_shaped_reward")
    given = case["inputs"]
    logps, reference = torch.tensor([given["logp"]]), torch.tensor([given["ref_logp"]])
    rewards = token_rewards(torch.tensor([given["score"]]), given["beta"] * k1(logps, reference), torch.ones(1, 3, dtype=torch.bool))

    matches(rewards[0], case["expected"]["rewards"])
    matches(rewards.sum(), case["expected"]["sum"])


@pytest.mark.parametrize(("left", "right"), PADDINGS)
def test_the_score_stands_on_the_last_token_wherever_the_padding_is(left, right, matches):
    mask = torch.tensor([[True, True, True], [True, False, False], [False, True, True], [False, False, False]])
    zeros = torch.zeros(4, 3)
    scores = torch.tensor([1.0, 2.0, 3.0, math.nan])
    expected = [[0.0, 0.0, 1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]
    padded = token_rewards(scores, _padded(zeros, left, right), _padded(mask, left, right))

    matches(token_rewards(scores, zeros, mask), expected)
    matches(padded[:, left : left + 3], expected)
    assert float(padded.abs().sum()) == 6.0


@pytest.mark.parametrize(
    ("name", "gamma", "lam"), [("gamma1_lam095", 1.0, 0.95), ("gamma099_lam095", 0.99, 0.95), ("gamma1_lam1", 1.0, 1.0)]
)
@pytest.mark.parametrize(("left", "right"), [(0, 0), *PADDINGS])
def test_gae(oracle, matches, name, gamma, lam, left, right):
    case = oracle("gae")
    rewards, values = (torch.tensor(case["inputs"][key]) for key in ("rewards", "values"))
    mask = torch.ones(2, 4, dtype=torch.bool)
    advantages, returns = gae(*(_padded(x, left, right) for x in (rewards, values, mask)), gamma, lam)
    inside = slice(left, left + 4)

    matches(advantages[:, inside], case["expected"][name]["adv"])
    matches(returns[:, inside], case["expected"][name]["returns"])
    outside = ~_padded(mask, left, right)
    assert not advantages[outside].any()
    assert not returns[outside].any()


def test_gae_defaults_are_those_of_language_models(oracle, matches):
    case = oracle("gae")
    rewards, values = (torch.tensor(case["inputs"][key]) for key in ("rewards", "values"))

    matches(gae(rewards, values, torch.ones(2, 4, dtype=torch.bool))[0], case["expected"]["gamma1_lam095"]["adv"])


def test_gamma_and_lambda_one_give_the_reward_to_go_whatever_the_values():
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randn(3, 6, generator=generator)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    for scale in (0.0, 1.0, 100.0):
        values = scale * torch.randn(3, 6, generator=generator)
        torch.testing.assert_close(gae(rewards, values, torch.ones(3, 6, dtype=torch.bool), 1.0, 1.0)[1], to_go)


def test_one_padding_column_does_not_move_the_reward():
    """With V = 0, gamma 1 and lambda 0.95 the last token earns 1.0, not the 0.95 of a score that comes one token too late."""
    for width in (3, 4, 9):
        mask = (torch.arange(width) < 3)[None]
        zeros = torch.zeros(1, width)
        advantages, _ = gae(token_rewards(torch.ones(1), zeros, mask), zeros, mask, 1.0, 0.95)
        assert advantages[0, :3].tolist() == pytest.approx([0.95**2, 0.95, 1.0])


def test_gae_steps_over_holes():
    rewards, values = torch.tensor([[0.1, -0.2, 0.7]]), torch.tensor([[0.5, 0.3, 0.9]])
    full = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.9, 0.8)
    mask = torch.tensor([[True, False, True, False, True]])
    holes = [torch.full((1, 5), math.nan).masked_scatter(mask, x) for x in (rewards, values)]
    split = gae(*holes, mask, 0.9, 0.8)

    for a, b in zip(full, split, strict=True):
        torch.testing.assert_close(b[mask], a[0])
        assert b[~mask].tolist() == [0.0, 0.0]


def test_leave_one_out(oracle, matches):
    case = oracle("rloo")
    rewards = torch.tensor(case["inputs"]["rewards"])
    advantages = leave_one_out(rewards, torch.zeros(4, dtype=torch.long))

    matches(advantages, case["expected"]["advantage"])
    matches(rewards - advantages, case["expected"]["baseline"])
    matches(advantages, (4 / 3 * (rewards - rewards.mean())).tolist())


def test_the_unscorable_are_in_nobodys_baseline(matches):
    nan = math.nan
    rewards = torch.tensor([1.0, nan, 3.0, nan, 5.0, nan, nan, 1.0, 2.0, 6.0])
    group = torch.tensor([0, 0, 0, 1, 1, 1, 2, 3, 3, 3])

    matches(leave_one_out(rewards, group), [-2.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, -3.0, -1.5, 4.5])


def test_equal_rewards_give_exactly_nothing():
    for dtype in (torch.float32, torch.float64):
        rewards, group = torch.full((7,), 0.1, dtype=dtype), torch.zeros(7, dtype=torch.long)
        assert torch.equal(leave_one_out(rewards, group), torch.zeros(7, dtype=dtype))
    assert leave_one_out(torch.tensor([3.0]), torch.tensor([0])).tolist() == [0.0]


def test_leave_one_out_follows_a_permutation_and_ignores_a_shift():
    rewards, group = torch.randn(10, generator=torch.Generator().manual_seed(2)), torch.arange(10) // 5
    order = torch.tensor([3, 1, 9, 4, 0, 7, 2, 8, 5, 6])

    torch.testing.assert_close(leave_one_out(rewards[order], group[order]), leave_one_out(rewards, group)[order])
    torch.testing.assert_close(leave_one_out(rewards + 100, group), leave_one_out(rewards, group))


@pytest.mark.parametrize(("left", "right"), [(0, 0), *PADDINGS])
def test_whitening(oracle, matches, differs, left, right):
    case = oracle("masked_whitening")
    values, some = torch.tensor(case["inputs"]["values"]), torch.tensor(case["inputs"]["mask"], dtype=torch.bool)
    every, expected = torch.ones_like(some), case["expected"]
    wide, wide_some, wide_every = (_padded(x, left, right) for x in (values, some, every))

    matches(whiten(wide, wide_every, shift_mean=False)[wide_every], expected["unmasked_biased_keepmean"])
    matches(whiten(wide, wide_every)[wide_every], expected["unmasked_biased_shift"])
    white = whiten(wide, wide_some)
    matches(white[wide_some], expected["masked_biased_shift"])
    differs(white[wide_some][0], expected["masked_unbiased_shift"][0])
    assert float(white[~wide_some].abs().sum()) == 0.0


def test_the_unbiased_variant_differs_by_a_known_factor(oracle, matches):
    case = oracle("masked_whitening")
    values, mask = torch.tensor(case["inputs"]["values"]), torch.tensor(case["inputs"]["mask"], dtype=torch.bool)

    # 1e-8 beside the variance makes the factor inexact in the seventh digit
    scaled = whiten(values, mask)[mask] * math.sqrt(5 / 6)
    torch.testing.assert_close(scaled, torch.tensor(case["expected"]["masked_unbiased_shift"]), rtol=1e-6, atol=1e-9)
    spread = whiten(values, torch.ones_like(mask), shift_mean=False) - values.mean()
    unbiased = torch.tensor(case["expected"]["unmasked_unbiased_keepmean"]) - values.mean()
    torch.testing.assert_close(spread.flatten() * math.sqrt(8 / 9), unbiased, rtol=1e-6, atol=1e-9)


def test_whitening_nothing_or_one_thing_gives_zeros():
    x = torch.tensor([[4.0, math.nan]])

    assert whiten(x, torch.tensor([[False, False]])).tolist() == [[0.0, 0.0]]
    assert whiten(x, torch.tensor([[True, False]])).tolist() == [[0.0, 0.0]]


def test_nothing_differentiable_comes_out():
    x, mask = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, dtype=torch.bool)

    outputs = [token_rewards(x[:, 0], x, mask), *gae(x, x, mask), leave_one_out(x[0], torch.zeros(3, dtype=torch.long)), whiten(x, mask)]
    assert not any(output.requires_grad for output in outputs)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="gae needs tensors of one shape"):
        gae(torch.zeros(2, 3), torch.zeros(2, 1), torch.ones(2, 3, dtype=torch.bool))
