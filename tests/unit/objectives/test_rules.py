"""The rules of advantage on flat tokens: golden values, completions without a score, batch order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.advantages import (
    GAE,
    BatchMean,
    Episodes,
    GroupDecoupled,
    GroupRelative,
    LeaveOneOut,
    ReinforcePlusPlus,
    RewardParts,
    whiten,
)

RULES = [
    GAE(),
    GAE(gamma=0.9, lam=0.8, whiten=False),
    LeaveOneOut(),
    GroupRelative(),
    GroupRelative(scale="batch"),
    GroupRelative(scale="none"),
    GroupDecoupled(),
    ReinforcePlusPlus(),
    ReinforcePlusPlus(baseline="prompt", gamma=0.9),
    BatchMean(),
    BatchMean(baseline="none"),
]


def name(rule) -> str:
    return "-".join(str(value) for value in vars(rule).values())


every_rule = pytest.mark.parametrize("rule", RULES, ids=name)


def episodes(lengths, rewards, group, *, penalties=None, values=None, parts=None) -> Episodes:
    completion = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    n = len(completion)
    taken = torch.zeros(n) if penalties is None else torch.as_tensor(penalties)
    value_tensor = torch.zeros(n) if values is None else torch.as_tensor(values)
    added = torch.as_tensor(rewards)[:, None] if parts is None else torch.as_tensor(parts)
    reward_parts = RewardParts(added, torch.ones_like(added))
    return Episodes(torch.as_tensor(rewards), taken, completion, torch.as_tensor(group), value_tensor, reward_parts)


def drawn(seed: int = 0) -> Episodes:
    generator = torch.Generator().manual_seed(seed)
    lengths = [3, 1, 5, 2, 4, 1, 6, 2]
    rewards, (penalties, values) = torch.randn(8, generator=generator), torch.randn(2, sum(lengths), generator=generator)
    return episodes(lengths, rewards, [0, 0, 0, 1, 1, 2, 2, 2], penalties=0.1 * penalties, values=values)


def of_completions(credit, e: Episodes) -> list[float]:
    """Return the advantage of each completion, which all its tokens must have."""
    first = torch.zeros(len(e.rewards)).index_copy(0, e.completion, credit.advantages)
    assert torch.equal(first[e.completion], credit.advantages)
    return first.tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (GAE(whiten=False), "gamma1_lam095"),
        (GAE(whiten=False, gamma=0.99), "gamma099_lam095"),
        (GAE(whiten=False, lam=1.0), "gamma1_lam1"),
    ],
)
def test_gae(oracle, matches, rule, expected):
    """Token rewards of the case are penalties here, all but the last one's part of the completion's reward."""
    case = oracle("gae")
    given = torch.tensor(case["inputs"]["rewards"])
    e = episodes([4, 4], [0.7, -0.3], [0, 1], values=torch.tensor(case["inputs"]["values"]).flatten())
    penalties = -given
    penalties[:, -1] += e.rewards
    credit = rule(replace(e, penalties=penalties.flatten()))

    matches(credit.advantages.view(2, 4), case["expected"][expected]["adv"])
    matches(credit.returns.view(2, 4), case["expected"][expected]["returns"])


def test_gae_whitens_tokens_of_the_whole_batch_and_leaves_returns_alone():
    e = drawn()
    plain, white = GAE(whiten=False)(e), GAE()(e)

    torch.testing.assert_close(white.advantages, whiten(plain.advantages, torch.ones_like(e.completion, dtype=torch.bool)))
    assert torch.equal(white.returns, plain.returns)


def test_gae_needs_values():
    with pytest.raises(ValueError, match="gae needs values"):
        GAE()(replace(drawn(), values=None))


def test_leave_one_out(oracle, matches):
    case = oracle("rloo")
    e = episodes([1, 2, 3, 1], case["inputs"]["rewards"], [0] * 4)

    matches(of_completions(LeaveOneOut()(e), e), case["expected"]["advantage"])


def test_grpo(oracle, matches, differs):
    case = oracle("grpo_advantage")
    expected = case["expected"]
    e = episodes([2, 1, 3, 1], case["inputs"]["rewards"], [0] * 4)
    scaled = of_completions(GroupRelative()(e), e)

    matches(scaled, expected["adv_unbiased_eps1e4"])
    differs(scaled[0], expected["adv_biased_eps0"][0])
    matches(of_completions(GroupRelative(scale="none")(e), e), expected["dr_grpo_adv"])
    matches(of_completions(GroupRelative(scale="batch")(e), e), expected["adv_unbiased_eps1e4"])


def decoupled(e: Episodes) -> list[float]:
    return of_completions(GroupDecoupled()(e), e)


def standardised(values) -> torch.Tensor:
    values = torch.as_tensor(values)
    return (values - values.mean()) / (values.std() + 1e-4)


def test_gdpo_normalises_each_part_in_its_group_and_then_the_batch(oracle, matches):
    """Of one part alone, and of that part and another of which the oracle's values are the negative."""
    case = oracle("grpo_advantage")
    given, expected = torch.tensor(case["inputs"]["rewards"]), torch.tensor(case["expected"]["adv_unbiased_eps1e4"])
    matches(decoupled(episodes([2, 1, 3, 1], given, [0] * 4)), standardised(expected).tolist())
    parts = torch.stack([given, -given[[1, 0, 3, 2]]], 1)
    both = expected - expected[[1, 0, 3, 2]]
    matches(decoupled(episodes([1] * 4, parts.sum(1), [0] * 4, parts=parts)), standardised(both).tolist())


def test_gdpo_tells_apart_what_a_sum_makes_equal(differs):
    """Two parts of which one varies ten times as much: in the sum of two groups it decides alone."""
    wide, narrow = torch.tensor([0.0, 10.0, 0.0, 10.0, 10.0, 0.0]), torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    parts, group = torch.stack([wide, narrow], 1), [0] * 6
    e = episodes([1] * 6, parts.sum(1), group, parts=parts)
    apart, together = decoupled(e), of_completions(GroupRelative()(e), e)
    assert apart[0] == pytest.approx(apart[1], abs=1e-3), "good in one part each; 1e-4 is added to each deviation"
    assert together[1] - together[0] > 1.5
    assert apart[3] > apart[1] > apart[2]


def test_gdpo_weighs_parts_after_they_are_normalised(matches):
    given = torch.tensor([1.0, 0.0, 0.0, 0.5])
    parts, weights = torch.stack([2.0 * given, -0.5 * given[[3, 2, 1, 0]]], 1), torch.tensor([2.0, 0.5]).expand(4, -1)
    e = episodes([1] * 4, parts.sum(1), [0] * 4, parts=parts)
    e = replace(e, parts=RewardParts(parts, weights))
    normalised = [(column - column.mean()) / (column.std() + 1e-4) for column in parts.unbind(1)]
    matches(decoupled(e), standardised(2.0 * normalised[0] + 0.5 * normalised[1]).tolist())


def test_gdpo_takes_what_shaping_adds_for_a_part_and_leaves_out_what_has_no_score(matches):
    given = torch.tensor([1.0, 0.0, 0.25, 0.5, 9.0])
    shaped = given + torch.tensor([0.0, -1.0, 0.0, 0.0, math.nan])
    e = episodes([1] * 5, shaped, [0] * 5, parts=given[:, None])
    extra = torch.tensor([0.0, -1.0, 0.0, 0.0])
    columns = [(column - column.mean()) / (column.std() + 1e-4) for column in (given[:4], extra)]
    matches(decoupled(e), [*standardised(columns[0] + columns[1]).tolist(), 0.0])
    with pytest.raises(ValueError, match="group_decoupled needs the parts of the reward"):
        GroupDecoupled()(replace(e, parts=None))


def test_batch_scale_divides_every_group_by_one_number(matches):
    e = episodes([1] * 6, [1.0, 2.0, 3.0, 10.0, 10.0, 40.0], [0, 0, 0, 1, 1, 1])
    deviation = float(e.rewards.std()) + 1e-4

    matches(of_completions(GroupRelative(scale="batch")(e), e), [x / deviation for x in (-1.0, 0.0, 1.0, -10.0, -10.0, 20.0)])


def test_reinforce_plus_plus(oracle, matches):
    """Rewards of the case are on last tokens; its second completion's reward is 0.5."""
    case = oracle("reinforce_pp")
    given = case["inputs"]
    kl = torch.tensor([*given["token_kl"][0], *given["token_kl"][1]])
    e = episodes([3, 2], [given["token_rewards"][0][-1], given["token_rewards"][1][-1]], [0, 1], penalties=given["beta"] * kl)

    matches(ReinforcePlusPlus()(e).advantages, [*case["expected"]["advantage"][0], *case["expected"]["advantage"][1]])


def test_reinforce_plus_plus_with_a_baseline_loses_the_prompts_mean_first(matches):
    e = episodes([1, 1, 1, 1], [1.0, 3.0, 11.0, 17.0], [0, 0, 1, 1])

    matches(ReinforcePlusPlus(baseline="prompt")(e).advantages, [-1.0 / 5**0.5, 1.0 / 5**0.5, -3.0 / 5**0.5, 3.0 / 5**0.5])
    assert ReinforcePlusPlus(baseline="prompt").needs_siblings
    assert not ReinforcePlusPlus().needs_siblings


def test_plain_reinforce(matches):
    e = episodes([2, 1, 1], [1.0, 2.0, 6.0], [0, 0, 1], penalties=[0.5, 0.5, 0.0, 0.0])

    matches(of_completions(BatchMean()(e), e), [-8 / 3, -2 / 3, 10 / 3])
    matches(of_completions(BatchMean(baseline="none")(e), e), [0.0, 2.0, 6.0])


@pytest.mark.parametrize("rule", [LeaveOneOut(), GroupRelative(scale="none"), BatchMean()], ids=name)
def test_the_price_of_kl_is_paid_from_the_completions_reward(rule):
    e = drawn()
    paid = e.rewards - torch.zeros(8).index_add(0, e.completion, e.penalties)

    torch.testing.assert_close(rule(e).advantages, rule(replace(e, rewards=paid, penalties=torch.zeros_like(e.penalties))).advantages)


@every_rule
def test_order_of_the_batch_and_names_of_prompts_play_no_part(rule):
    e = drawn()
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    at = torch.cat([(e.completion == number).nonzero()[:, 0] for number in order])
    moved = Episodes(
        e.rewards[order],
        e.penalties[at],
        torch.argsort(order)[e.completion[at]],
        torch.tensor([4, 0, 2])[e.group[order]],
        e.values[at],
        RewardParts(e.parts.added[order], e.parts.weights[order]),
    )
    here, there = rule(e), rule(moved)

    torch.testing.assert_close(there.advantages, here.advantages[at])
    if here.returns is not None:
        torch.testing.assert_close(there.returns, here.returns[at])


@every_rule
def test_completions_may_be_interleaved(rule):
    """Tokens of a completion are in order, but not adjacent."""
    e = drawn()
    within = torch.cat([torch.arange(int((e.completion == k).sum())) for k in range(8)])
    at = (within * 8 + e.completion).argsort()
    mixed = Episodes(e.rewards, e.penalties[at], e.completion[at], e.group, e.values[at], e.parts)

    torch.testing.assert_close(rule(mixed).advantages, rule(e).advantages[at])


@every_rule
def test_a_completion_that_could_not_be_scored_is_as_if_it_were_not_there(rule):
    """No baseline, whitening or deviation contains it; its advantages are 0, and its tokens do not count."""
    e = drawn()
    lost = torch.tensor([1, 6])
    valid = ~torch.isin(torch.arange(8), lost)
    at = valid[e.completion]
    without = Episodes(
        e.rewards[valid],
        e.penalties[at],
        (valid.cumsum(0) - 1)[e.completion[at]],
        e.group[valid],
        None if e.values is None else e.values[at],
        RewardParts(e.parts.added[valid], e.parts.weights[valid]),
    )
    credit = rule(replace(e, rewards=torch.where(valid, e.rewards, math.nan)))

    torch.testing.assert_close(credit.advantages[at], rule(without).advantages)
    assert not credit.advantages[~at].any()
    assert torch.equal(credit.mask, at)
    if credit.returns is not None:
        torch.testing.assert_close(credit.returns[at], rule(without).returns)
        assert not credit.returns[~at].any()


def test_the_unscorable_are_in_nobodys_baseline(matches):
    nan = math.nan
    e = episodes([1] * 7, [1.0, nan, 3.0, nan, 5.0, nan, nan], [0, 0, 0, 1, 1, 1, 2])

    matches(of_completions(LeaveOneOut()(e), e), [-2.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    matches(of_completions(GroupRelative(scale="none")(e), e), [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    deviation = 2.0**0.5 + 1e-4  # divided by n - 1 of the two that were scored
    matches(of_completions(GroupRelative()(e), e), [-1.0 / deviation, 0.0, 1.0 / deviation, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rule", [LeaveOneOut(), GroupRelative(), GroupRelative(scale="batch"), GroupRelative(scale="none"), BatchMean()], ids=name
)
def test_equal_rewards_give_exactly_nothing(rule, dtype):
    """0.1 seven times over has a mean that is not 0.1 in floating point; divided by 1e-4 the difference would change the policy."""
    e = episodes([1] * 7, torch.full((7,), 0.1, dtype=dtype), [0] * 7, penalties=torch.zeros(7, dtype=dtype))

    assert torch.equal(rule(e).advantages, torch.zeros(7, dtype=dtype))


@pytest.mark.parametrize("rule", [LeaveOneOut(), GroupRelative(), GroupRelative(scale="none")], ids=name)
def test_a_completion_alone_teaches_nothing(rule):
    e = episodes([2, 1, 1], [3.0, 1.0, 2.0], [0, 1, 1])

    assert rule(e).advantages[:2].tolist() == [0.0, 0.0]
    assert rule(e).mask.all()


@every_rule
def test_nothing_differentiable_comes_out(rule):
    e = drawn()
    tensors = {name: getattr(e, name).requires_grad_() for name in ("rewards", "penalties", "values")}
    credit = rule(replace(e, **tensors))

    assert not credit.advantages.requires_grad
    assert credit.returns is None or not credit.returns.requires_grad


@every_rule
def test_a_batch_in_which_nothing_could_be_scored_teaches_nothing(rule):
    credit = rule(replace(drawn(), rewards=torch.full((8,), math.nan)))

    assert not credit.advantages.any()
    assert not credit.mask.any()


@every_rule
def test_only_gae_needs_a_value_model(rule):
    assert rule.needs_values == isinstance(rule, GAE)
    if not rule.needs_values:
        assert rule(replace(drawn(), values=None)).returns is None


def test_shapes_are_checked():
    e = drawn()
    with pytest.raises(ValueError, match="Episodes of tokens needs tensors of one shape"):
        replace(e, penalties=e.penalties[:3])
    with pytest.raises(ValueError, match="Episodes of completions"):
        replace(e, group=e.group[:3])


@pytest.mark.parametrize("setting", [{"gamma": 1.1}, {"lam": -0.1}, {"gamma": math.nan}])
def test_settings_are_checked(setting):
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} must lie between 0 and 1"):
        GAE(**setting)
    if "gamma" in setting:
        with pytest.raises(ConfigError, match="gamma"):
            ReinforcePlusPlus(**setting)
