"""From scores to rewards: missing eos, soft limits of length, clipping, whitening."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError, TrainingError
from palate.objectives.advantages import whiten
from palate.objectives.shaping import KeepReward, MaskCompletion, ReplaceReward, Shaping, SoftOverlong, SubtractReward

NAN = math.nan
SCORES = torch.tensor([0.5, 2.0, NAN, -3.0])
ENDED = torch.tensor([True, False, True, True])
LENGTHS = torch.tensor([3, 9, 2, 5])


def shaped(shaping: Shaping, scores=SCORES, ended=ENDED, lengths=LENGTHS) -> list[float]:
    return shaping(scores, ended, lengths).tolist()


@pytest.mark.parametrize(
    ("missing_eos", "expected"),
    [
        (ReplaceReward(), [0.5, -3.0, NAN, -3.0]),
        (ReplaceReward(reward=-4.0), [0.5, -4.0, NAN, -3.0]),
        (SubtractReward(cost=0.5), [0.5, 1.5, NAN, -3.0]),
        (MaskCompletion(), [0.5, NAN, NAN, -3.0]),
        (KeepReward(), [0.5, 2.0, NAN, -3.0]),
    ],
    ids=lambda x: getattr(x, "kind", ""),
)
def test_what_a_missing_end_costs(missing_eos, expected):
    assert shaped(Shaping(missing_eos=missing_eos)) == pytest.approx(expected, nan_ok=True)


def test_a_replaced_reward_needs_no_score():
    assert shaped(Shaping(), torch.full((4,), NAN)) == pytest.approx([NAN, -1.0, NAN, NAN], nan_ok=True)


def test_a_soft_limit_of_length_grows_over_its_buffer_and_is_full_at_the_limit():
    """Yu et al. 2025 eq. 13: ((limit - buffer) - length) / buffer inside the buffer, -1 beyond the limit."""
    lengths = torch.tensor([1, 12, 13, 15, 16, 20])

    assert SoftOverlong(max_tokens=16, buffer=4)(lengths).tolist() == pytest.approx([0.0, 0.0, -0.25, -0.75, -1.0, -1.0])
    assert SoftOverlong(max_tokens=16, buffer=4, penalty=3.0)(lengths)[3] == pytest.approx(-2.25)
    whole = Shaping(missing_eos=KeepReward(), overlong=SoftOverlong(max_tokens=10, buffer=6))
    assert shaped(whole) == pytest.approx([0.5, 2.0 - 5 / 6, NAN, -3.0 - 1 / 6], nan_ok=True)


def test_rewards_are_clipped_after_all_that_is_taken_off_them():
    assert shaped(Shaping(missing_eos=SubtractReward(cost=0.5), clip=1.4)) == pytest.approx([0.5, 1.4, NAN, -1.4], nan_ok=True)


def test_whitened_rewards_keep_their_mean_and_the_unscorable_stay_out(oracle, matches):
    case = oracle("masked_whitening")
    values = torch.tensor(case["inputs"]["values"]).flatten()
    every = torch.ones(9, dtype=torch.bool)
    shaping = Shaping(missing_eos=KeepReward(), whiten=True)

    matches(shaping(values, every, torch.ones(9)), case["expected"]["unmasked_biased_keepmean"])
    more = torch.cat([values, torch.tensor([NAN, NAN])])
    white = shaping(more, torch.ones(11, dtype=torch.bool), torch.ones(11))
    matches(white[:9], case["expected"]["unmasked_biased_keepmean"])
    assert white[9:].isnan().all()
    assert float(white[:9].mean()) == pytest.approx(float(values.mean()))
    assert float(whiten(values, every).mean()) == pytest.approx(0.0, abs=1e-12)


def test_no_gradient_enters():
    scores = torch.ones(4, requires_grad=True)
    assert not Shaping(overlong=SoftOverlong(), clip=1.0, whiten=True).within(64)(scores, ENDED, LENGTHS).requires_grad


@pytest.mark.parametrize(
    ("part", "setting", "message"),
    [
        (SubtractReward, {"cost": -1.0}, "cost must be >= 0"),
        (SoftOverlong, {"buffer": 0}, "buffer 0 must be above 0"),
        (SoftOverlong, {"buffer": 65, "max_tokens": 64}, "within max_tokens 64"),
        (SoftOverlong, {"max_tokens": 0}, "max_tokens must be 1 or more"),
        (SoftOverlong, {"penalty": math.inf}, "penalty must be >= 0"),
        (Shaping, {"clip": 0.0}, "clip must be > 0"),
    ],
)
def test_settings_are_checked(part, setting, message):
    with pytest.raises(ConfigError, match=message):
        part(**setting)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="Shaping needs tensors of one shape"):
        Shaping()(SCORES[:, None], ENDED, LENGTHS)


def test_a_completion_that_was_cut_off_is_never_paid_more_than_a_whole_one():
    ended = torch.tensor([True, True, False, True, False])
    scores = torch.tensor([-5.0, -7.0, 3.0, math.nan, -9.0])
    assert ReplaceReward()(scores, ended)[~scores.isnan()].tolist() == [-5, -7, -7, -7]
    assert ReplaceReward()(scores + 10, ended)[2] == -1
    assert ReplaceReward()(scores, torch.zeros(5, dtype=torch.bool)).tolist() == [-1] * 5
    assert Shaping().metrics(scores, ended) == {"missing_eos_excess/mean": 5.0}
    assert Shaping().metrics(scores, torch.ones(5, dtype=torch.bool)) == {}
    assert Shaping(missing_eos=KeepReward()).metrics(scores, ended) == {}


def test_lengths_that_are_left_open_are_those_of_the_longest_completion():
    assert SoftOverlong().within(110) == SoftOverlong(max_tokens=110, buffer=27)
    assert SoftOverlong().within(64) == SoftOverlong(max_tokens=64, buffer=16)
    assert SoftOverlong(max_tokens=80, buffer=5).within(110) == SoftOverlong(max_tokens=80, buffer=5)
    with pytest.raises(ConfigError, match="charges completions of more than 48 tokens, and sampling.max_tokens is 40"):
        SoftOverlong(max_tokens=64).within(40)
    with pytest.raises(ConfigError, match="buffer 20 must be above 0 and within max_tokens 10"):
        SoftOverlong(buffer=20).within(10)
    with pytest.raises(ConfigError, match="are not known"):
        SoftOverlong()(torch.tensor([1]))


def test_shaping_that_makes_a_reward_infinite_is_refused():
    with pytest.raises(TrainingError, match="infinite in float32"):
        Shaping(missing_eos=SubtractReward(cost=1e39))(torch.zeros(2, dtype=torch.float32), ENDED[:2], LENGTHS[:2])
