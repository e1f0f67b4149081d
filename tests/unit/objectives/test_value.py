"""The clipped value loss."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.reduce import Totals
from palate.objectives.value import ClippedValue, ValueTokens, explained_variance


def _inputs(case):
    given = case["inputs"]
    return ValueTokens(
        values=torch.tensor(given["value"], requires_grad=True),
        old_values=torch.tensor(given["old_value"]),
        returns=torch.tensor(given["returns"]),
        mask=torch.tensor(given["mask"], dtype=torch.bool),
    )


def test_clipped_value_loss(oracle, matches):
    case = oracle("clipped_value_loss")
    inputs = _inputs(case)
    objective = ClippedValue(clip=case["inputs"]["eps"])
    sums = objective(inputs)
    one = torch.ones(1, dtype=torch.bool)
    fields = {name: x.detach() for name, x in vars(inputs).items() if name != "mask"}
    alone = [objective(ValueTokens(**{name: x[i : i + 1] for name, x in fields.items()}, mask=one)) for i in range(4)]

    matches(sums.mean().detach(), case["expected"]["loss"])
    matches([2 * x.loss.item() for x in alone], case["expected"]["per_token_max_sq"])
    assert int(sums.count) == 3
    matches(sums.metrics["error"][0], 0.5**2 + 0.6**2 + 0.1**2)


def test_gradient_stops_where_the_held_value_is_the_worse_one(matches):
    # first: moved 0.5 towards its return, held back to 0.2: the held one is worse, no gradient; second: moved away
    values = torch.tensor([0.5, -0.5], requires_grad=True)
    sums = ClippedValue(clip=0.2)(ValueTokens(values, torch.zeros(2), torch.ones(2), torch.ones(2, dtype=torch.bool)))
    sums.loss.backward()

    matches(values.grad, [0.0, -1.5])
    matches(sums.loss.detach(), 0.5 * 0.8**2 + 0.5 * 1.5**2)
    assert float(sums.metrics["clip_fraction"][0]) == 1.0


def test_clip_fraction_counts_where_the_held_value_is_the_worse_one(matches):
    # moved past its return, held at 0.2: the free one is worse, not counted; moved towards it: held, counted; not moved: equal
    values, ones = torch.tensor([1.5, 0.5, 0.0]), torch.ones(3, dtype=torch.bool)
    sums = ClippedValue(clip=0.2)(ValueTokens(values, torch.zeros(3), torch.tensor([0.3, 1.0, 1.0]), ones))

    matches(sums.metrics["clip_fraction"][0], 1.0)
    matches(sums.mean(), 0.5 * (1.2**2 + 0.8**2 + 1.0) / 3)


def test_infinite_clip_is_plain_regression(oracle, matches):
    inputs = _inputs(oracle("clipped_value_loss"))
    loss = ClippedValue(clip=math.inf)(inputs).loss
    loss.backward()

    matches(loss.detach(), 0.5 * (0.5**2 + 0.6**2 + 0.1**2))
    matches(inputs.values.grad, [-0.5, 0.6, -0.1, 0.0])


def test_garbage_outside_the_mask_plays_no_part():
    mask = torch.tensor([True, False])
    values = torch.tensor([0.5, math.nan], requires_grad=True)
    sums = ClippedValue()(ValueTokens(values, torch.tensor([0.4, math.inf]), torch.tensor([1.0, math.nan]), mask))
    sums.loss.backward()

    assert sums.loss.item() == pytest.approx(0.125)
    assert values.grad.tolist() == [-0.5, 0.0]


def test_explained_variance_over_micro_batches():
    generator = torch.Generator().manual_seed(0)
    returns = torch.randn(20, generator=generator) + 3
    values = returns + 0.5 * torch.randn(20, generator=generator) - 1
    totals = Totals()
    for rows in torch.arange(20).split([3, 9, 8]):
        ones = torch.ones(len(rows), dtype=torch.bool)
        totals.add(ClippedValue()(ValueTokens(values[rows], values[rows], returns[rows], ones)))
    expected = 1 - (values - returns).var() / returns.var()

    assert explained_variance(totals.means()) == pytest.approx(float(expected), rel=1e-9)


def test_explained_variance_of_equal_returns_is_undefined():
    assert math.isnan(explained_variance({"residual": 0.0, "residual_squared": 1.0, "return": 2.0, "return_squared": 4.0}))


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan])
def test_settings_are_checked(clip):
    with pytest.raises(ConfigError, match="clip must be > 0"):
        ClippedValue(clip=clip)
