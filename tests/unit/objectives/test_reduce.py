"""Sums divide once: any cut of a batch into micro-batches gives the same totals."""

from __future__ import annotations

import pytest
import torch

from palate.objectives.bradley_terry import AllPairs, BradleyTerry, PairScores, PromptPairs
from palate.objectives.crowd import CrowdBT, CrowdPairs
from palate.objectives.direct.dpo import DPO
from palate.objectives.policy_gradient import CISPO, GSPO, PPOClip, Reinforce, SequenceClip
from palate.objectives.rankings import PickBest, PlackettLuce, RankedScores
from palate.objectives.reduce import Sums, Totals, masked
from palate.objectives.supervised import CrossEntropy, TokenLogps
from palate.objectives.ties import Davidson, RaoKupper, TiePairs
from palate.objectives.value import ClippedValue, PlainValue, ValueTokens
from tests.support.logps import pair_logps
from tests.support.policy import tokens

N = 12
ROWS = torch.arange(N)


def _draw(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(N, generator=generator, dtype=torch.float64) for _ in range(6)]


def _pairs(rows):
    chosen, rejected, probability, margin, weight, _ = (x[rows] for x in _draw(0))
    return BradleyTerry(centering=0.1)(PairScores(chosen, rejected, probability.sigmoid(), margin, weight.abs()))


def _scores(rows):
    chosen, rejected, probability, margin, weight, _ = (x[rows] for x in _draw(0))
    # every third is a tie
    return PairScores(chosen, rejected, torch.where(rows % 3 == 0, 0.5, probability.sigmoid()), margin, weight.abs())


def _ties(objective):
    return lambda rows: objective(TiePairs(_scores(rows), torch.tensor([0.3], dtype=torch.float64)))


def _crowd(rows):
    return CrowdBT()(CrowdPairs(_scores(rows), _draw(7)[0][rows % 4], _draw(7)[1][rows]))


def _prompts(rows):
    return AllPairs()(PromptPairs(_scores(rows), rows // 2))


def _direct(rows):
    a, b, c, d, probability, weight = (x[rows] for x in _draw(1))
    return DPO()(pair_logps(a * 10, b * 10, c * 10, d * 10, probability.sigmoid(), weight.abs()))


def _tokens(rows):
    logps, weights, *_ = (x[rows] for x in _draw(2))
    return CrossEntropy()(TokenLogps(logps, weights.abs()))


def _policy(objective):
    def sums(rows):
        logps, old, advantages, mask, *_ = (x[rows] for x in _draw(3))
        return objective(tokens(logps, old, advantages, mask > -0.5, rows))

    return sums


def _value(objective):
    def sums(rows):
        values, old, returns, mask, *_ = (x[rows] for x in _draw(4))
        return objective(ValueTokens(values, old, returns, mask > -0.5))

    return sums


OBJECTIVES = {
    "bradley_terry": _pairs,
    "bradley_terry_noise": lambda rows: BradleyTerry(random=0.1, label_smoothing=0.1)(_scores(rows)),
    "rao_kupper": _ties(RaoKupper()),
    "davidson": _ties(Davidson()),
    "crowd_bt": _crowd,
    "dpo": _direct,
    "cross_entropy": _tokens,
    "ppo_clip": _policy(PPOClip()),
    "reinforce": _policy(Reinforce()),
    "cispo": _policy(CISPO()),
    "gspo": _policy(GSPO()),
    "sequence_clip": _policy(SequenceClip()),
    "clipped_value": _value(ClippedValue()),
    "plain_value": _value(PlainValue()),
}


def _totals(parts):
    totals = Totals()
    for part in parts:
        totals.add(part)
    return totals.means()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("cut", [[12], [1] * 12, [4, 4, 4], [1, 6, 5]])
def test_any_cut_gives_the_same_totals(name, cut):
    whole = OBJECTIVES[name](ROWS)
    parts = [OBJECTIVES[name](rows) for rows in ROWS.split(cut)]

    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    torch.testing.assert_close(sum(part.count for part in parts), whole.count)
    assert _totals(parts) == pytest.approx(_totals([whole]), rel=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_of_a_batch_plays_no_part(name):
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(5))

    assert _totals([OBJECTIVES[name](shuffled)]) == pytest.approx(_totals([OBJECTIVES[name](ROWS)]), rel=1e-12)


def test_prompts_with_all_their_pairs_may_be_cut_between_prompts_and_interleaved():
    whole, mixed = _prompts(ROWS), _prompts(torch.randperm(N, generator=torch.Generator().manual_seed(5)))
    parts = [_prompts(rows) for rows in ROWS.split([4, 2, 6])]

    assert _totals(parts) == pytest.approx(_totals([whole]), rel=1e-12)
    assert _totals([mixed]) == pytest.approx(_totals([whole]), rel=1e-12)
    assert int(whole.count) == 6


@pytest.mark.parametrize("objective", [PlackettLuce(), PickBest()])
def test_rankings_may_be_cut_between_groups_interleaved_and_renumbered(objective):
    scores, weights, *_ = _draw(6)
    group = torch.tensor([7, 7, 7, 3, 3, 9, 9, 9, 9, 1, 1, 1])
    weight = weights.abs()[group]
    whole = objective(RankedScores(scores, group, weight))
    parts = [objective(RankedScores(scores[rows], group[rows], weight[rows])) for rows in ROWS.split([3, 2, 7])]
    interleaved = torch.tensor([9, 0, 5, 3, 10, 1, 6, 4, 2, 7, 8, 11])  # order inside each group is kept
    mixed = objective(RankedScores(scores[interleaved], group[interleaved], weight[interleaved]))

    assert _totals(parts) == pytest.approx(_totals([whole]), rel=1e-12)
    assert _totals([mixed]) == pytest.approx(_totals([whole]), rel=1e-12)
    assert float(whole.count) == pytest.approx(sum(float(weights.abs()[number]) for number in (7, 3, 9, 1)))


def test_mean_of_micro_batch_means_would_be_another_number():
    parts = [_policy(PPOClip())(rows) for rows in ROWS.split([1, 6, 5])]
    of_means = sum(float(part.mean()) for part in parts) / 3

    assert _totals(parts)["loss"] != pytest.approx(of_means, rel=1e-2)


def test_max_metrics_keep_the_largest():
    parts = [Sums(torch.tensor(0.0), torch.tensor(1), {"drift_max": (torch.tensor(x), torch.tensor(3))}) for x in (0.2, 0.7, 0.1)]

    assert _totals(parts)["drift_max"] == 0.7


def test_what_counted_nothing_is_left_out_and_moves_nothing():
    zeros = torch.zeros(2, requires_grad=True)
    empty = PPOClip()(tokens(zeros, zeros.detach(), torch.ones(2), torch.zeros(2, dtype=torch.bool)))
    empty.mean().backward()

    assert empty.mean().item() == 0.0
    assert zeros.grad.tolist() == [0.0, 0.0]
    assert _totals([empty]) == {}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_of_nothing_is_allowed(name):
    sums = OBJECTIVES[name](ROWS[:0])

    assert sums.loss.item() == 0.0
    assert float(sums.count) == 0.0


def test_metrics_carry_no_gradient():
    logps = torch.zeros(3, requires_grad=True)
    sums = PPOClip()(tokens(logps, torch.ones(3), torch.ones(3)))

    assert sums.loss.requires_grad
    assert not sums.count.requires_grad
    assert not any(value.requires_grad or count.requires_grad for value, count in sums.metrics.values())


def test_masked_nan_has_neither_value_nor_gradient():
    x = torch.tensor([1.0, float("nan")], requires_grad=True)
    total = masked(x * x, torch.tensor([True, False])).sum()
    total.backward()

    assert total.item() == 1.0
    assert float(x.grad[0]) == 2.0


def test_shapes_that_would_broadcast_are_refused():
    column, row = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(ValueError, match=r"PairScores needs tensors of one shape.*\(3, 1\)"):
        PairScores(column, row, row, row, row)


def test_masks_must_be_boolean():
    x = torch.zeros(3)
    with pytest.raises(ValueError, match="boolean mask"):
        tokens(x, x, x, torch.ones(3, dtype=torch.long))
