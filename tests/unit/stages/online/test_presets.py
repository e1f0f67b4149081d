"""Methods by name: each runs whole, and differs from the others where its paper says so."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from palate.objectives.advantages import GAE, Advantage, Episodes
from palate.objectives.kl import KLTokens
from palate.objectives.policy_gradient import PolicyObjective
from palate.objectives.reductions import Reduction, with_length
from palate.objectives.value import ValueObjective, ValueTokens
from palate.stages.online.presets import PRESETS
from tests.support.policy import tokens

every_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)


@every_preset
def test_parts_are_members_of_the_unions(preset):
    assert isinstance(preset.advantage, get_args(Advantage))
    assert isinstance(preset.objective, get_args(PolicyObjective))
    assert isinstance(preset.reduction, get_args(Reduction))
    assert preset.value is None or isinstance(preset.value, ValueObjective)
    assert (preset.value is not None) == isinstance(preset.advantage, GAE)
    assert preset.source


@every_preset
def test_a_step_of_every_method_from_scores_to_gradient(preset):
    """Good completions get likelier, and nothing but finite numbers comes out."""
    completion = torch.repeat_interleave(torch.arange(8), torch.tensor([2, 3, 1, 4, 2, 2, 3, 1]))
    scores, ended = torch.tensor([2.0, 0.0, 1.5, -2.0, 1.0, -1.0, 3.0, 0.5]), torch.arange(8) != 1
    old = -torch.rand(len(completion), generator=torch.Generator().manual_seed(0))
    state = preset.kl.control.start()
    rewards = preset.shaping.within(64)(scores, ended, torch.bincount(completion))
    taken = preset.kl.in_reward(old, old, state.coef)
    values = torch.zeros(len(completion)) if preset.advantage.needs_values else None
    credit = preset.advantage(Episodes(rewards, taken, completion, torch.arange(8) // 4, values))
    weights = with_length(preset.reduction, 64)(completion, credit.mask)
    logps = old.clone().requires_grad_()
    sums = preset.objective(tokens(logps, old, credit.advantages, credit.mask, completion), weights)
    loss = sums.loss
    if preset.kl.place == "loss":
        loss = loss + preset.kl.in_loss(KLTokens(logps, old, credit.mask), state.coef, weights).loss
    if preset.value is not None:
        loss = loss + preset.value(ValueTokens(values, values, credit.returns, credit.mask), weights).loss
    (loss / sums.count).backward()

    assert logps.grad.isfinite().all()
    assert (logps.grad[completion == 0] < 0).all()
    assert (logps.grad[completion == 3] > 0).all()


def test_what_tells_them_apart():
    grpo, doctor, dapo = PRESETS["deepseek-grpo"], PRESETS["dr-grpo"], PRESETS["dapo"]

    assert (grpo.kl.place, grpo.kl.estimator, grpo.kl.control.start().coef) == ("loss", "k3", 0.04)
    assert (grpo.reduction.kind, dapo.reduction.kind, doctor.reduction.kind) == ("sequence_mean", "token_mean", "constant_length")
    assert (grpo.advantage.scale, doctor.advantage.scale) == ("group", "none")
    assert (dapo.objective.clip, dapo.objective.clip_high) == (0.2, 0.28)
    assert [PRESETS[name].kl.control.start().coef for name in ("ziegler", "instructgpt", "n-plus", "dapo")] == [0.15, 0.02, 0.05, 0.0]
