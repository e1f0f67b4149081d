"""How tokens add up to a batch's loss: the papers' normalisers, exact under any split of whole completions."""

from __future__ import annotations

import math
from itertools import chain

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.kl import KLPenalty, KLTokens
from palate.objectives.policy_gradient import CISPO, GSPO, PPOClip, Reinforce, SequenceClip
from palate.objectives.reduce import Totals
from palate.objectives.reductions import ConstantLength, SequenceMean, SequenceSum, TokenMean, with_length
from palate.objectives.value import ClippedValue, ValueTokens
from tests.support.policy import tokens

REDUCTIONS = [TokenMean(), SequenceMean(), SequenceSum(), ConstantLength(tokens=7)]
OBJECTIVES = [PPOClip(), PPOClip(clip_high=0.3, dual_clip=3.0), Reinforce(), CISPO(), GSPO(), SequenceClip()]


@pytest.fixture
def grpo(oracle):
    """Tokens of two completions, laid flat, with GRPO's loss of each part."""
    case = oracle("grpo_token_loss_and_normalisations")
    given = case["inputs"]
    new, old, reference = (torch.tensor([*chain(*given[key])]) for key in ("logp_new", "logp_old", "logp_ref"))
    completion = torch.tensor([0, 0, 1, 1, 1, 1])
    inputs = tokens(new.requires_grad_(), old, torch.tensor(given["advantage"])[completion], None, completion)
    kl = KLPenalty(estimator="k3", place="loss")

    def loss(reduction):
        weights = reduction(completion, inputs.mask)
        policy = PPOClip(clip=given["eps"])(inputs, weights)
        kl_sums = kl.in_loss(KLTokens(new, reference, inputs.mask), given["beta"], weights)
        assert torch.equal(policy.count, kl_sums.count)
        return (policy.loss + kl_sums.loss) / policy.count

    return loss, case


@pytest.mark.parametrize(
    ("reduction", "name"),
    [(SequenceMean(), "grpo"), (TokenMean(), "token_mean_dapo_bnpo"), (ConstantLength(tokens=5), "dr_grpo")],
)
def test_three_papers_give_three_numbers_on_the_same_tokens(grpo, matches, differs, reduction, name):
    loss, case = grpo
    others = {"grpo", "token_mean_dapo_bnpo", "dr_grpo"} - {name}

    matches(loss(reduction).detach(), case["expected"][name])
    for other in others:
        differs(loss(reduction), case["expected"][other])


def test_the_mean_over_completions_of_their_sums(grpo, matches):
    loss, case = grpo
    matches(loss(SequenceSum()).detach(), sum(chain(*case["expected"]["per_token"])) / 2)


LENGTHS = [3, 1, 5, 2, 4, 1, 6, 2]
COMPLETION = torch.repeat_interleave(torch.arange(8), torch.tensor(LENGTHS))
CUT_OFF = (2, 5)
"""Completions that are masked as a whole."""


def _batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    columns = {name: torch.randn(len(COMPLETION), generator=generator) for name in ("moved", "old", "advantages", "returns", "keep")}
    whole = torch.tensor([number not in CUT_OFF for number in range(8)])
    return {**columns, "mask": whole[COMPLETION] & (columns["keep"] > -1.5)}


def _step(objective, reduction, parts):
    """Gradient and metrics of one optimizer step over micro-batches of whole completions."""
    batch = _batch()
    logps = (batch["old"] + 0.3 * batch["moved"]).requires_grad_()
    totals, count = Totals(), 0.0
    for part in parts:
        at = torch.isin(COMPLETION, torch.tensor(part)).nonzero()[:, 0]
        inputs = tokens(logps[at], batch["old"][at], batch["advantages"][at], batch["mask"][at], COMPLETION[at])
        weights = reduction(inputs.completion, inputs.mask)
        sums = objective(inputs, weights)
        value = ClippedValue()(ValueTokens(logps[at], inputs.old_logps, batch["returns"][at], inputs.mask), weights)
        kl = KLPenalty(estimator="k3", place="loss").in_loss(KLTokens(logps[at], batch["returns"][at], inputs.mask), 0.1, weights)
        (sums.loss + 0.5 * value.loss + kl.loss).backward()
        totals.add(sums)
        count += float(sums.count)
    return logps.grad / count, totals.means(), count


SPLITS = [[[k] for k in range(8)], [[0, 1], [2, 3], [4, 5], [6, 7]], [[2, 5], [7, 0, 3], [6, 4, 1]]]


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda x: x.kind)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda x: x.kind)
@pytest.mark.parametrize("split", SPLITS)
def test_any_split_of_whole_completions_gives_the_same_step(objective, reduction, split):
    """Ragged lengths, tokens left out, two completions masked as a whole; policy, value and KL under one reduction."""
    whole, parts = _step(objective, reduction, [list(range(8))]), _step(objective, reduction, split)

    torch.testing.assert_close(parts[0], whole[0], rtol=1e-12, atol=1e-15)
    assert parts[1] == pytest.approx(whole[1], rel=1e-12)
    assert parts[2] == whole[2]


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda x: x.kind)
def test_completions_that_were_cut_off_and_masked_leave_the_count_too(reduction):
    batch = _batch()
    counted = ~torch.isin(COMPLETION, torch.tensor(CUT_OFF))
    whole, without = reduction(COMPLETION, batch["mask"]), reduction(COMPLETION[counted], batch["mask"][counted])

    assert float(whole.count) == float(without.count)
    assert torch.equal(whole.weights[counted], without.weights)
    assert not whole.weights[~batch["mask"]].any()


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda x: x.kind)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda x: x.kind)
def test_a_batch_of_completions_that_were_all_cut_off_moves_nothing(objective, reduction):
    logps, nothing = torch.full((5,), math.nan, requires_grad=True), torch.zeros(5, dtype=torch.bool)
    inputs = tokens(logps, torch.zeros(5), torch.ones(5), nothing, torch.tensor([0, 0, 1, 1, 1]))
    sums = objective(inputs, reduction(inputs.completion, nothing))
    sums.loss.backward()

    assert sums.mean().item() == 0.0
    assert logps.grad.tolist() == [0.0] * 5
    assert float(sums.count) == 0.0


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda x: x.kind)
def test_numbers_and_order_of_completions_play_no_part(reduction):
    mask = _batch()["mask"]
    order = torch.randperm(len(COMPLETION), generator=torch.Generator().manual_seed(3))
    here, there = reduction(COMPLETION, mask), reduction(3 * COMPLETION[order] + 2, mask[order])

    assert torch.equal(there.weights, here.weights[order])
    assert torch.equal(there.count, here.count)


def test_a_mean_of_sequence_means_weighs_each_completion_the_same(matches):
    weights = SequenceMean()(COMPLETION, torch.ones_like(COMPLETION, dtype=torch.bool))
    matches(torch.zeros(8).index_add(0, COMPLETION, weights.weights), [1.0] * 8)


def test_without_a_reduction_tokens_count_the_same():
    batch = _batch()
    inputs = tokens(batch["old"], batch["old"], batch["advantages"], batch["mask"], COMPLETION)
    plain, named = PPOClip()(inputs), PPOClip()(inputs, TokenMean()(COMPLETION, batch["mask"]))

    assert torch.equal(plain.loss, named.loss)
    assert torch.equal(plain.count, named.count)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="tokens must be 1 or more"):
        ConstantLength(tokens=0)


def test_a_constant_length_that_is_left_open_is_that_of_the_longest_completion():
    assert with_length(ConstantLength(), 9) == ConstantLength(tokens=9)
    assert with_length(ConstantLength(tokens=5), 9) == ConstantLength(tokens=5)
    assert with_length(TokenMean(), 9) == TokenMean()
    with pytest.raises(ConfigError, match="tokens is not known"):
        ConstantLength()(torch.tensor([0]), torch.tensor([True]))
