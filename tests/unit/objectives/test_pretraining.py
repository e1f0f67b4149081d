"""PPO-ptx: cross-entropy on other data beside the policy's loss, with its own count."""

from __future__ import annotations

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.kl import KLPenalty
from palate.objectives.policy_gradient import Reinforce
from palate.objectives.reduce import Totals
from palate.objectives.reductions import SequenceSum
from palate.objectives.supervised import CrossEntropy, PretrainingMix, TokenLogps
from tests.support.policy import tokens


def test_instructgpts_objective(oracle, matches):
    """One completion with its KL in the reward, one sequence of pretraining data as one token: the loss is minus the objective."""
    case = oracle("instructgpt_ppo_ptx")
    given = case["inputs"]
    policy, reference = torch.tensor([given["logp_rl"]]), torch.tensor([given["logp_sft"]])
    reward = given["reward"] - KLPenalty().in_reward(policy, reference, given["beta"])
    inputs = tokens(policy, policy, reward)
    online = Reinforce()(inputs, SequenceSum()(inputs.completion, inputs.mask))
    other = CrossEntropy()(TokenLogps(torch.tensor([given["pretrain_logp"]]), torch.ones(1)))
    mixed = PretrainingMix(coef=given["gamma"])(other, total=float(other.count), policy_total=float(online.count))

    matches(-(online.loss + mixed.loss) / (online.count + mixed.count), case["expected"]["objective"])
    assert PretrainingMix() == PretrainingMix(coef=given["gamma"])


@pytest.mark.parametrize("split", [[7], [1] * 7, [2, 5]])
def test_each_is_divided_by_its_own_count_however_both_are_cut(split, matches):
    generator = torch.Generator().manual_seed(0)
    logps, text = torch.randn(4, generator=generator), torch.randn(7, generator=generator)
    inputs = tokens(logps, torch.zeros(4), torch.ones(4))
    online = Reinforce()(inputs)
    totals, loss, count = Totals(), online.loss, online.count
    for part in text.split(split):
        other = CrossEntropy()(TokenLogps(part, torch.ones(len(part))))
        mixed = PretrainingMix(coef=3.0)(other, total=7.0, policy_total=float(online.count))
        totals.add(mixed)
        loss, count = loss + mixed.loss, count + mixed.count

    matches(loss / count, float(-logps.exp().mean() - 3.0 * text.mean()))
    assert totals.means()["pretraining_nll"] == pytest.approx(float(-text.mean()))


def test_data_without_tokens_and_weights_without_sense_are_refused():
    empty = CrossEntropy()(TokenLogps(torch.zeros(2), torch.zeros(2)))
    with pytest.raises(ValueError, match="must hold tokens to learn"):
        PretrainingMix()(empty, total=0.0, policy_total=3.0)
    with pytest.raises(ConfigError, match="coef must be > 0"):
        PretrainingMix(coef=0.0)
