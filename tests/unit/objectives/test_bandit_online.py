"""Which online methods end at the best policy of `E[reward] - beta KL`, and which end elsewhere: one token, three words.

With KL in the reward all advantages vanish at the optimum, and with them the noise: methods whose advantages are differences of
rewards settle there exactly. Methods that divide by a deviation have their fixed point there, but their steps do not get smaller on
the way. KL in the loss is another problem: k2's optimum is the same, k3's is not, and dividing rewards by a deviation changes their price.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from palate.objectives.advantages import Advantage, BatchMean, Episodes, GroupRelative, LeaveOneOut, ReinforcePlusPlus
from palate.objectives.kl import KLPenalty, KLTokens
from palate.objectives.policy_gradient import CISPO, GSPO, PolicyObjective, PPOClip, Reinforce, SequenceClip
from palate.objectives.reductions import TokenMean
from tests.support.policy import tokens

EXACT = 1e-4
"""Tolerance on probabilities, from stopping early. A KL coefficient 5 % off moves the best policy by 0.016."""

GROUPS, SIZE = 128, 4


@dataclass(frozen=True)
class Bandit:
    reference: Tensor
    reward: Tensor
    beta: float
    best: Tensor


@pytest.fixture
def bandit(oracle: Callable[[str], dict]) -> Bandit:
    case = oracle("kl_regularised_optimum_bandit")
    given = case["inputs"]
    return Bandit(
        torch.tensor(given["pi_ref"]).log(), torch.tensor(given["reward"]), given["beta"], torch.tensor(case["expected"]["pi_star"])
    )


@dataclass(frozen=True)
class Method:
    advantage: Advantage
    objective: PolicyObjective = Reinforce()
    kl: KLPenalty = KLPenalty()
    updates: int = 1
    lr: float = 8.0
    steps: int = 150
    cools: bool = False


def learned(bandit: Bandit, method: Method) -> Tensor:
    """Probabilities after sampling and plain gradient descent, without an optimiser that could hide a wrong gradient."""
    generator = torch.Generator().manual_seed(0)
    theta = bandit.reference.clone().requires_grad_()
    n = GROUPS * SIZE
    completion, group = torch.arange(n), torch.arange(GROUPS).repeat_interleave(SIZE)
    weights = TokenMean()(completion, torch.ones(n, dtype=torch.bool))
    for step in range(method.steps):
        old = theta.log_softmax(0).detach()
        words = torch.multinomial(old.exp(), n, replacement=True, generator=generator)
        taken = method.kl.in_reward(old[words], bandit.reference[words], bandit.beta)
        credit = method.advantage(Episodes(bandit.reward[words], taken, completion, group))
        for _ in range(method.updates):
            logps = theta.log_softmax(0)[words]
            sums = method.objective(tokens(logps, old[words], credit.advantages, credit.mask, completion), weights)
            loss = sums.loss
            if method.kl.place == "loss":
                loss = loss + method.kl.in_loss(KLTokens(logps, bandit.reference[words], credit.mask), bandit.beta, weights).loss
            (gradient,) = torch.autograd.grad(loss / sums.count, theta)
            with torch.no_grad():
                theta -= method.lr / (1 + step / 10 if method.cools else 1) * gradient
    return theta.softmax(0).detach()


@pytest.mark.parametrize("objective", [PPOClip(), Reinforce(), CISPO(), GSPO(), SequenceClip()], ids=lambda x: x.kind)
@pytest.mark.parametrize("advantage", [LeaveOneOut(), GroupRelative(scale="none"), BatchMean()], ids=lambda x: x.kind)
def test_differences_of_rewards_with_kl_in_the_reward_end_there(bandit, objective, advantage):
    torch.testing.assert_close(learned(bandit, Method(advantage, objective)), bandit.best, rtol=0, atol=EXACT)


@pytest.mark.parametrize("objective", [PPOClip(), PPOClip(clip_high=0.28, dual_clip=3.0), CISPO(), SequenceClip()], ids=lambda x: x.kind)
def test_they_do_so_with_several_updates_a_batch(bandit, objective):
    learned_policy = learned(bandit, Method(LeaveOneOut(), objective, updates=4, lr=2.0, steps=200))
    torch.testing.assert_close(learned_policy, bandit.best, rtol=0, atol=EXACT)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_any_estimator_in_the_reward_prices_the_same_kl_only_if_it_is_k1(bandit, estimator):
    """As a reward for single samples k2 and k3 are other functions of the policy: their best policy is another."""
    learned_policy = learned(bandit, Method(LeaveOneOut(), kl=KLPenalty(estimator=estimator), lr=2.0, steps=300))
    assert float((learned_policy - bandit.best).abs().max()) > 0.01


UNSETTLED = [ReinforcePlusPlus(), GroupRelative(), GroupRelative(scale="batch"), BatchMean(baseline="none")]


@pytest.mark.parametrize("advantage", UNSETTLED, ids=lambda x: "-".join(map(str, vars(x).values())))
def test_methods_that_do_not_settle_come_there_as_the_rate_falls(bandit, advantage):
    """Divided by a vanishing deviation, or without a baseline, advantages do not vanish at the optimum, so the learning rate has to."""
    assert float((learned(bandit, Method(advantage, lr=2.0, steps=300)) - bandit.best).abs().max()) > 0.01
    learned_policy = learned(bandit, Method(advantage, lr=3.0, steps=400, cools=True))
    torch.testing.assert_close(learned_policy, bandit.best, rtol=0, atol=0.01)


def shrunk(bandit: Bandit) -> Tensor:
    """Return the best policy for rewards with a quarter less difference, the effect of a mean of four that contains the completion."""
    return (bandit.reference + (SIZE - 1) / SIZE * bandit.reward / bandit.beta).softmax(0)


def test_a_prompt_mean_taken_off_before_the_price_of_kl_makes_kl_dearer(bandit):
    """With a baseline: its mean contains the completion itself, so the effective KL coefficient is k / (k - 1) times the set one."""
    learned_policy = learned(bandit, Method(ReinforcePlusPlus(baseline="prompt"), lr=4.0, steps=200, cools=True))

    torch.testing.assert_close(learned_policy, shrunk(bandit), rtol=0, atol=0.01)
    assert float((learned_policy - bandit.best).abs().max()) > 0.08


def test_k2_in_the_loss_has_the_same_optimum(bandit):
    kl = KLPenalty(estimator="k2", place="loss")
    learned_policy = learned(bandit, Method(LeaveOneOut(), kl=kl, lr=5.0, steps=300, cools=True))
    torch.testing.assert_close(learned_policy, bandit.best, rtol=0, atol=0.005)


def test_k3_in_the_loss_ends_at_another_policy(bandit):
    """Where `grad E[reward] = beta grad KL(reference || policy)`: `policy = beta reference / (c - reward)`, c by bisection."""
    reference = bandit.reference.exp()
    low, high = float(bandit.reward.max()), 100.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((bandit.beta * reference / (middle - bandit.reward)).sum()) > 1 else (low, middle)
    best = bandit.beta * reference / (low - bandit.reward)
    kl = KLPenalty(estimator="k3", place="loss")
    learned_policy = learned(bandit, Method(LeaveOneOut(), kl=kl, lr=5.0, steps=300, cools=True))

    assert float((best - bandit.best).abs().max()) > 0.03
    torch.testing.assert_close(learned_policy, best, rtol=0, atol=0.01)


def test_grpo_with_its_deviation_and_kl_in_the_loss_ends_elsewhere(bandit):
    """Rewards are divided by their group's deviation and KL is not, so the effective KL coefficient differs by prompt."""
    kl = KLPenalty(estimator="k2", place="loss")
    plain = learned(bandit, Method(GroupRelative(scale="none"), kl=kl, lr=5.0, steps=300, cools=True))
    scaled = learned(bandit, Method(GroupRelative(), kl=kl, lr=5.0, steps=300, cools=True))

    torch.testing.assert_close(plain, shrunk(bandit), rtol=0, atol=0.005)
    for other in (bandit.best, shrunk(bandit)):
        assert float((scaled - other).abs().max()) > 0.05
