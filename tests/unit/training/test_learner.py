"""The learner: any split of a batch gives the same step; what is not finite moves nothing; schedules."""

import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from palate.core import ConfigError, RunError, TrainingError
from palate.distributed.ranks import Ranks, working_together
from palate.objectives.reduce import Sums
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from tests.support.quantised import needs_bitsandbytes

STEPS = 6
Batch = tuple[Tensor, Tensor, Tensor]


def learner(seed: int = 0, dtype: torch.dtype = torch.float32, **optimizer: object) -> Learner:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return Learner({"net": net}, AdamW(**{"lr": 0.01, "weight_decay": 0.1, **optimizer}), STEPS, dtype=dtype)  # type: ignore[arg-type]


def batch(step: int = 0) -> Batch:
    """Eight rows with ragged weights, one of them 0."""
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(8, 4, generator=generator), torch.randn(8, generator=generator)
    return x, y, torch.tensor([0.0, 0.5, 1.0, 3.0, 1.0, 7.5, 0.25, 1.0])


def cut(whole: Batch, sizes: list[int]) -> list[Batch]:
    return list(zip(*(column.split(sizes) for column in whole), strict=True))


def loss_of(one: Learner) -> object:
    def loss(part: Batch) -> Sums:
        x, y, weight = part
        net = one.modules["net"]
        error = (net(x.to(net[0].weight.dtype))[:, 0].float() - y).square()  # type: ignore[index, union-attr]
        seen = error.detach()
        metrics = {"error": ((weight * seen).sum(), weight.sum()), "worst_max": (seen.max(), weight.sum())}
        return Sums((weight * error).sum(), weight.sum(), metrics)

    return loss


def steps(one: Learner, count: int, sizes: list[int], start: int = 0) -> list[dict[str, float]]:
    return [one.step(cut(batch(start + k), sizes), loss_of(one)) for k in range(count)]  # type: ignore[arg-type]


def weights(one: Learner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in one.modules["net"].state_dict().items()}


@pytest.mark.parametrize("sizes", [[4, 4], [2, 2, 2, 2], [1] * 8, [1, 5, 2]], ids=str)
def test_any_split_into_micro_batches_gives_the_same_steps(sizes: list[int]) -> None:
    whole, parts = learner(), learner()
    # Clipped and not clipped: the norm is that of the whole batch's mean gradient.
    for one, two in zip(steps(whole, 3, [8]), steps(parts, 3, sizes), strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-7)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=0, atol=1e-6)


def test_the_gradient_is_that_of_the_weighted_mean() -> None:
    one, (x, y, weight) = learner(max_grad_norm=1e6), batch()
    error = (one.modules["net"](x)[:, 0] - y).square()
    mean = float((weight * error).sum().detach() / weight.sum())
    gradients = torch.autograd.grad((weight * error).sum() / weight.sum(), list(one.modules["net"].parameters()))
    (metrics,) = steps(one, 1, [3, 5])
    assert metrics["gradient/norm"] == pytest.approx(float(torch.cat([g.flatten() for g in gradients]).norm()), rel=1e-5)
    assert metrics["loss/mean"] == metrics["error/mean"] == pytest.approx(mean, rel=1e-5)
    assert metrics["worst/max"] == pytest.approx(float(error.detach().max()), rel=1e-5)
    for parameter, gradient in zip(one.modules["net"].parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


def test_long_gradients_are_scaled_down() -> None:
    one = learner(max_grad_norm=0.01)
    (metrics,) = steps(one, 1, [8])
    assert metrics["gradient/norm"] > 0.1  # as it was before
    left = torch.cat([parameter.grad.flatten() for parameter in one.modules["net"].parameters()])  # type: ignore[union-attr]
    assert float(left.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("broken", ["loss", "gradient", "infinite"])
def test_what_is_not_finite_stops_training_and_leaves_the_weights(broken: str) -> None:
    one, twin = learner(), learner()
    steps(one, 1, [8])
    steps(twin, 1, [8])
    before = weights(one)

    def loss(part: Batch) -> Sums:
        sums = loss_of(one)(part)  # type: ignore[operator]
        net_output = one.modules["net"](part[0])
        match broken:
            case "loss":
                extra = net_output.sum() * math.nan
            case "infinite":
                extra = net_output.sum() * math.inf
            case _:  # the root of 0 is finite, its slope is not
                extra = (net_output - net_output.detach()).square().sum().sqrt()
        return Sums(sums.loss + extra, sums.count, {})

    with pytest.raises(TrainingError, match=r"step 1: the loss is .* weights did not change"):
        one.step(cut(batch(1), [4, 4]), loss)
    assert one.steps_done == 1
    for name, value in before.items():
        assert torch.equal(weights(one)[name], value)
    assert steps(one, 2, [8], start=1) == steps(twin, 2, [8], start=1)  # nothing of it is left in the optimizer either


def test_a_batch_without_anything_to_learn_is_an_error() -> None:
    one = learner()
    before = weights(one)
    x, y, weight = batch()
    with pytest.raises(TrainingError, match="nothing to learn from \\(count 0"):
        one.step([(x, y, weight * 0)], loss_of(one))  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="nothing to learn from"):
        one.step([], loss_of(one))  # type: ignore[arg-type]
    assert all(torch.equal(weights(one)[name], value) for name, value in before.items())


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_six_steps_are_three_a_checkpoint_and_three_to_the_bit(decay: str, tmp_path: Path) -> None:
    straight, first = learner(decay=decay, warmup=0.5), learner(decay=decay, warmup=0.5)
    expected = steps(straight, 6, [3, 5])
    found = steps(first, 3, [3, 5])
    first.save(tmp_path / "learner", {"kl": 0.1})
    second = learner(seed=99, decay=decay, warmup=0.5)
    assert second.load(tmp_path / "learner") == {"steps_done": 3, "kl": 0.1}
    assert found + steps(second, 3, [3, 5], start=3) == expected
    assert second.steps_done == 6
    for name, value in weights(straight).items():
        assert torch.equal(weights(second)[name], value)


def test_in_bfloat16_steps_too_small_for_it_still_add_up() -> None:
    """Sixteen bits hold 8 of a weight: a hundred steps of a ten-thousandth of it would each be rounded away."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    narrow = Learner({"net": net}, AdamW(lr=1e-4, decay="constant", warmup=0.0), 100, dtype=torch.bfloat16)
    assert net.weight.dtype == torch.bfloat16
    for _ in range(100):
        narrow.step([torch.ones(1, 1, dtype=torch.bfloat16)], lambda x: Sums(net(x).sum().float(), torch.tensor(1.0), {}))
    narrow.release()
    assert net.weight.dtype == torch.float32
    assert float(net.weight.detach()) == pytest.approx(0.99, abs=1e-5)


def test_in_bfloat16_gradients_of_micro_batches_add_up_in_float32() -> None:
    """1 and 512 times 1/512: in bfloat16 the sum stays 1 from the first addition on."""
    narrow = Learner({"net": nn.Linear(1, 1, bias=False)}, AdamW(max_grad_norm=1e9), 1, dtype=torch.bfloat16)

    def loss(x: Tensor) -> Sums:
        return Sums(narrow.modules["net"](x).sum().float(), torch.tensor(1.0), {})

    parts = [torch.full((1, 1), value, dtype=torch.bfloat16) for value in (1.0, *[1 / 512] * 512)]
    assert narrow.step(parts, loss)["gradient/norm"] == pytest.approx(2 / 513, rel=1e-6)


def test_in_bfloat16_losses_stay_near_those_of_float32() -> None:
    wide, narrow = learner(), learner(dtype=torch.bfloat16)
    for one, two in zip(steps(wide, STEPS, [3, 5]), steps(narrow, STEPS, [3, 5]), strict=True):
        assert 0 < abs(two["loss/mean"] - one["loss/mean"]) < 0.01 * one["loss/mean"]


def test_in_bfloat16_six_steps_are_three_a_checkpoint_and_three_to_the_bit(tmp_path: Path) -> None:
    straight, first = learner(dtype=torch.bfloat16), learner(dtype=torch.bfloat16)
    expected = steps(straight, 6, [3, 5])
    found = steps(first, 3, [3, 5])
    first.save(tmp_path / "learner", {})
    second = learner(seed=99, dtype=torch.bfloat16)
    second.load(tmp_path / "learner")
    assert found + steps(second, 3, [3, 5], start=3) == expected
    straight.release()
    second.release()
    for name, value in weights(straight).items():
        assert value.dtype == torch.float32
        assert torch.equal(weights(second)[name], value)


def test_what_is_frozen_is_neither_moved_nor_saved(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    net[0].requires_grad_(requires_grad=False)
    one = Learner({"net": net}, AdamW(), STEPS)
    before = weights(one)
    steps(one, 1, [8])
    moved = {name for name, value in weights(one).items() if not torch.equal(value, before[name])}
    assert moved == {"1.weight", "1.bias"}
    one.save(tmp_path / "learner", {})
    names = load_file(tmp_path / "learner" / "tensors.safetensors")
    assert {name.rpartition("net.")[2] for name in names} == moved


def test_without_a_checkpoint_nothing_is_loaded(tmp_path: Path) -> None:
    one = learner()
    assert one.load(tmp_path / "learner") is None
    assert one.steps_done == 0


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    learner().save(tmp_path / "learner", {})
    other = Learner({"value": nn.Linear(4, 1)}, AdamW(), STEPS)
    with pytest.raises(RunError, match=r"to another model: value\.weight is missing in it and \(1, 4\) in the model"):
        other.load(tmp_path / "learner")


def test_so_is_one_of_another_size(tmp_path: Path) -> None:
    learner().save(tmp_path / "learner", {})
    wide = Learner({"net": nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1))}, AdamW(), STEPS)
    with pytest.raises(RunError, match=r"to another model: net\.0\.weight is \(8, 4\) in it and \(9, 4\) in the model"):
        wide.load(tmp_path / "learner")
    shallow = Learner({"net": nn.Sequential(nn.Linear(4, 8))}, AdamW(), STEPS)
    with pytest.raises(RunError, match=r"to another model: net\.2\.bias is \(1,\) in it and missing in the model"):
        shallow.load(tmp_path / "learner")


# lr 1, 100 steps, the first 5 of them a rise: the rate at some steps, by hand.
SCHEDULES = {
    "constant": {0: 0.2, 3: 0.8, 4: 1.0, 5: 1.0, 99: 1.0},
    "linear": {0: 0.2, 3: 0.8, 4: 1.0, 5: 1.0, 24: 76 / 95, 99: 1 / 95},
    "cosine": {0: 0.2, 4: 1.0, 5: 1.0, 24: (1 - math.cos(math.pi * 76 / 95)) / 2, 99: (1 - math.cos(math.pi / 95)) / 2},
}


@pytest.mark.parametrize("decay", SCHEDULES)
def test_schedules(decay: str) -> None:
    optimizer = AdamW(lr=1.0, warmup=0.05, decay=decay)  # type: ignore[arg-type]
    for step, rate in SCHEDULES[decay].items():
        assert optimizer.lr_at(step, 100) == pytest.approx(rate, rel=1e-12)
    rates = [optimizer.lr_at(step, 100) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert all(0 < rate <= 1 for rate in rates)


def test_without_a_rise_the_first_step_has_the_full_rate() -> None:
    assert [AdamW(lr=1.0, warmup=0.0).lr_at(step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert AdamW(lr=1.0).lr_at(0, 1) == 1.0


def test_the_rate_that_is_logged_is_the_rate_that_was_used() -> None:
    one = learner(warmup=0.5, weight_decay=0.0)
    logged = [found["learning_rate/value"] for found in steps(one, STEPS, [8])]
    assert logged == pytest.approx([0.01 * rate for rate in (1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3)])


def test_only_matrices_decay() -> None:
    net = nn.Linear(2, 2)
    groups = AdamW(weight_decay=0.3).build(net.parameters()).param_groups
    assert {tuple(p.shape): group["weight_decay"] for group in groups for p in group["params"]} == {(2, 2): 0.3, (2,): 0.0}


@pytest.mark.parametrize("setting", [{"lr": 0.0}, {"max_grad_norm": -1.0}, {"warmup": 1.0}, {"warmup": -0.1}])
def test_optimizers_that_learn_nothing_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        AdamW(**setting)  # type: ignore[arg-type]


@needs_bitsandbytes
@pytest.mark.parametrize("state", ["8bit", "paged_8bit"])
def test_eight_bit_state_moves_the_weights_nearly_alike_and_is_saved(state: str, tmp_path: Path) -> None:
    def made(state: str) -> Learner:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 2048), nn.Tanh(), nn.Linear(2048, 1))  # 8,192 numbers are worth 8 bits, 2,048 are not
        return Learner({"net": net}, AdamW(lr=0.01, weight_decay=0.1, state=state), STEPS)  # type: ignore[arg-type]

    exact, narrow = made("float32"), made(state)
    first = weights(exact)
    steps(exact, STEPS, [8])
    steps(narrow, 3, [8])
    narrow.save(tmp_path / "c", {})
    saved = load_file(tmp_path / "c" / "tensors.safetensors")
    assert saved["optimizer.state1.net.0.weight"].dtype == torch.uint8
    assert saved["optimizer.state1.net.2.weight"].dtype == torch.float32
    steps(narrow, 3, [8], start=3)
    resumed = made(state)
    assert resumed.load(tmp_path / "c") is not None
    steps(resumed, 3, [8], start=3)
    for name, value in weights(narrow).items():
        assert torch.equal(weights(resumed)[name], value)
        moved = (weights(exact)[name] - first[name]).abs().mean()
        assert (value - weights(exact)[name]).abs().mean() < 0.1 * moved
    narrow.load(tmp_path / "c")  # also after other steps
    steps(narrow, 3, [8], start=3)
    assert torch.equal(weights(narrow)["0.weight"], weights(resumed)["0.weight"])


@needs_bitsandbytes
def test_several_ranks_refuse_an_eight_bit_state() -> None:
    class Two(Ranks):
        world = 2

    with (
        working_together(Two()),
        pytest.raises(ConfigError, match="optimizer.state is 8bit, which one process alone can do. With 2 ranks"),
    ):
        AdamW(state="8bit").check()


def test_an_eight_bit_state_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="optimizer.state 8bit needs bitsandbytes, which is not installed: pip install"):
        learner(state="8bit")


def test_weights_from_before_the_first_step_have_no_state(tmp_path: Path) -> None:
    one, other = learner(), learner()
    one.save(tmp_path / "c", {})
    steps(one, 2, [8])
    one.load(tmp_path / "c")
    for step, two in zip(steps(one, 2, [8]), steps(other, 2, [8]), strict=True):
        assert step == two
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_a_loss_without_a_gradient_is_a_step_without_one() -> None:
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    learner = Learner({"module": module}, AdamW(lr=1e-2), 1)
    metrics = learner.step([1], lambda _: Sums(torch.tensor(3.0), torch.tensor(2.0), {}))
    assert metrics["loss/mean"] == 1.5
    assert metrics["gradient/norm"] == 0
    assert torch.equal(module.weight, before)
