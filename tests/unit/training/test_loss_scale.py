"""float16: the loss is scaled, and a step whose gradient overflows is computed again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from palate.objectives.logps import summed_nll
from palate.objectives.reduce import Sums
from palate.training import loss_scale
from palate.training.learner import Learner, NotFiniteError
from palate.training.loss_scale import FALL, HIGHEST, LOWEST, START, STEPS_TO_RISE, LossScale
from palate.training.optimizer import AdamW


def scale() -> LossScale:
    return LossScale(torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_are_not_scaled(dtype: torch.dtype) -> None:
    other = LossScale(dtype)
    assert not other.must_repeat(1.0, math.inf)
    assert (other.factor, other.may_repeat, other.state(), other.remedy) == (1.0, False, {}, "")


def test_the_factor_falls_with_an_overflow_and_rises_after_many_steps_without() -> None:
    one = scale()
    assert one.must_repeat(1.0, math.inf)
    assert one.must_repeat(1.0, math.nan)
    assert one.factor == START / FALL**2
    for _ in range(STEPS_TO_RISE - 1):
        assert not one.must_repeat(1.0, 1.0)
    assert one.factor == START / FALL**2
    assert not one.must_repeat(1.0, 1.0)
    assert one.factor == 2 * START / FALL**2
    for _ in range(STEPS_TO_RISE * 40):
        one.must_repeat(1.0, 1.0)
    assert one.factor == HIGHEST


def test_a_step_is_not_computed_again_where_that_cannot_help() -> None:
    assert not scale().must_repeat(math.inf, math.inf)
    one = scale()
    while one.must_repeat(1.0, math.inf):
        assert one.factor >= LOWEST
    assert one.factor == LOWEST


def learner(weight: float = 1.0, **optimizer: float) -> tuple[Learner, nn.Linear]:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, weight)
    settings = {"lr": 1e-3, "warmup": 0.0, "max_grad_norm": 1e9, **optimizer}
    return Learner({"net": net}, AdamW(**settings, decay="constant"), 10, dtype=torch.float16), net  # type: ignore[arg-type]


def step(one: Learner, size: float, count: float = 1.0) -> dict[str, float]:
    """A step whose gradient is `size` before it is divided by `count`."""

    def loss(x: Tensor) -> Sums:
        return Sums(one.modules["net"](x).sum().float() * size, torch.tensor(count), {})

    return one.step(iter([torch.ones(1, 1, dtype=torch.float16)]), loss)


def test_a_gradient_that_is_0_without_the_factor_is_learned() -> None:
    one, net = learner()
    size = 1e-8  # below the smallest number of float16, and not below it when it is scaled
    one._scale.factor = 2.0**10
    assert step(one, size)["gradient/norm"] == pytest.approx(size, rel=1e-2)
    one.release()
    assert float(net.weight.detach()) < 1.0


def test_a_gradient_that_overflows_is_computed_again_and_learned() -> None:
    one, net = learner()
    one._scale.factor = HIGHEST
    metrics = step(one, 1000.0, count=4.0)
    assert metrics["gradient/norm"] == pytest.approx(250.0, rel=1e-3)
    assert metrics["loss/mean"] == pytest.approx(250.0, rel=1e-3)
    assert one.steps_done == 1
    assert one._scale.factor == HIGHEST / FALL**6 or HIGHEST / FALL**6 < one._scale.factor < 65504 / 1000
    one.release()
    assert float(net.weight.detach()) < 1.0


def test_a_loss_that_is_not_finite_names_bfloat16() -> None:
    one, _ = learner(weight=60000.0)
    with pytest.raises(NotFiniteError, match="try dtype bfloat16"):
        one.step([torch.full((1, 1), 2.0, dtype=torch.float16)], lambda x: Sums(one.modules["net"](x).sum().float(), torch.tensor(1.0), {}))
    assert one.steps_done == 0


def test_a_checkpoint_holds_the_factor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "STEPS_TO_RISE", 3)
    straight, first = learner()[0], learner()[0]
    for _ in range(2):
        step(straight, 1.0)
        step(first, 1.0)
    first.save(tmp_path / "learner", {})
    second = learner()[0]
    second.load(tmp_path / "learner")
    step(straight, 1.0)
    step(second, 1.0)
    assert straight._scale.factor == second._scale.factor == 2 * START
    wide = Learner({"net": nn.Linear(1, 1, bias=False)}, AdamW(), 10)
    assert wide.load(tmp_path / "learner") is not None
    assert wide._scale.factor == 1.0


def test_a_sum_of_gradients_of_the_head_may_be_beyond_float16() -> None:
    """600 tokens whose states are 200 each pull the same row by more than 65504 together; a thousandth of it is an ordinary number."""
    hidden = torch.full((600, 1), 200.0, dtype=torch.float16)
    weight = torch.zeros(4, 1, dtype=torch.float16, requires_grad=True)
    total, _ = summed_nll(hidden, weight, torch.zeros(600, dtype=torch.long), torch.ones(600), chunk=100)
    (total / 1000).backward()
    assert weight.grad is not None
    assert float(weight.grad[0, 0]) == pytest.approx(-0.75 * 600 * 200 / 1000, rel=1e-2)
