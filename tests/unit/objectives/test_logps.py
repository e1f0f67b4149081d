"""The chunked head: same numbers and gradients as a plain log-softmax, without its memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from palate.core import ConfigError
from palate.objectives.logps import summed_nll, token_logps

N, D, V = 11, 5, 17


def _draw(dtype=torch.float64, n=N, d=D, v=V):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((n, d), (v, d), (v,)))
    targets = torch.randint(0, v, (n,), generator=generator)
    upstream = torch.randn(n, generator=generator, dtype=torch.float64)
    leaves = [x.to(dtype).requires_grad_() for x in (hidden, weight, bias)]
    return leaves, targets, upstream


def _plain(hidden, weight, bias, targets, temperature):
    logits = hidden @ weight.T + (0 if bias is None else bias)
    log_softmax = (logits / temperature).log_softmax(-1)
    entropy = torch.special.entr(log_softmax.exp()).sum(-1)
    return log_softmax.gather(1, targets[:, None])[:, 0], entropy


@pytest.mark.parametrize("chunk", [1, 4, 11, 1024])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("has_bias", [True, False])
def test_token_logps_equal_a_plain_log_softmax(chunk, temperature, has_bias):
    (hidden, weight, bias), targets, upstream = _draw()
    inputs = [hidden, weight, bias] if has_bias else [hidden, weight]
    used = bias if has_bias else None
    plain, plain_entropy = _plain(hidden, weight, used, targets, temperature)
    expected = torch.autograd.grad(plain, inputs, upstream)
    logps, entropy = token_logps(hidden, weight, targets, bias=used, temperature=temperature, chunk=chunk)
    gradients = torch.autograd.grad(logps, inputs, upstream)

    torch.testing.assert_close(logps, plain)
    torch.testing.assert_close(entropy, plain_entropy.detach())
    assert not entropy.requires_grad
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("chunk", [1, 4, 1024])
@pytest.mark.parametrize("has_bias", [True, False])
def test_summed_nll_equals_a_plain_log_softmax(chunk, has_bias):
    (hidden, weight, bias), targets, upstream = _draw()
    inputs = [hidden, weight, bias] if has_bias else [hidden, weight]
    used, weights = bias if has_bias else None, upstream.abs() * (torch.arange(N) % 3 > 0)
    plain, _ = _plain(hidden, weight, used, targets, 1.0)
    expected = torch.autograd.grad(-3 * (weights * plain).sum(), inputs)
    total, logps = summed_nll(hidden, weight, targets, weights, bias=used, chunk=chunk)
    gradients = torch.autograd.grad(3 * total, inputs)

    torch.testing.assert_close(total, -(weights * plain).sum())
    torch.testing.assert_close(logps, plain.detach())
    assert not logps.requires_grad
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_numeric_gradients():
    (hidden, weight, bias), targets, upstream = _draw(n=4, d=3, v=5)

    assert torch.autograd.gradcheck(lambda h, w, b: token_logps(h, w, targets, bias=b, temperature=0.8, chunk=3)[0], (hidden, weight, bias))
    assert torch.autograd.gradcheck(lambda h, w, b: summed_nll(h, w, targets, upstream, bias=b, chunk=3)[0], (hidden, weight, bias))


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_gradients_only_for_who_asks(frozen):
    (hidden, weight, bias), targets, upstream = _draw()
    leaves = [x.detach() if i == frozen else x for i, x in enumerate((hidden, weight, bias))]
    token_logps(leaves[0], leaves[1], targets, bias=leaves[2])[0].sum().backward()
    summed_nll(leaves[0], leaves[1], targets, upstream, bias=leaves[2])[0].backward()

    assert [x.grad is not None for x in leaves] == [i != frozen for i in range(3)]
    with _Largest() as seen:
        summed_nll(leaves[0], leaves[1], targets, upstream, bias=leaves[2])
    assert seen.products == (3 if frozen == 2 else 2)  # logits, and the gradients of hidden and of weight


def test_bf16_within_the_rounding_of_its_products():
    """A bf16 product is rounded to 8 bits: each logit is off by at most 2^-8 of the largest, a log-probability by twice that."""
    (hidden, weight, bias), targets, upstream = _draw(torch.bfloat16, n=64, d=32, v=200)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight, bias)]
    plain, plain_entropy = _plain(*exact, targets, 1.0)
    expected = torch.autograd.grad(plain, exact, upstream[:64])
    logps, entropy = token_logps(hidden, weight, targets, bias=bias, chunk=10)
    gradients = torch.autograd.grad(logps, (hidden, weight, bias), upstream.float())
    largest = (exact[0] @ exact[1].T).abs().max().item()
    error, entropy_error = (logps - plain).detach(), entropy - plain_entropy.detach()

    assert logps.dtype == entropy.dtype == torch.float32
    assert float(error.abs().max()) < 2 * 2**-8 * largest
    assert float(entropy_error.abs().max()) < 2 * 2**-8 * largest
    # Summed over tokens the roundings cancel: the mean is far closer than any one of them.
    assert abs(float(error.mean())) < 2**-10 * largest
    for mine, theirs in zip(gradients, expected, strict=True):
        assert mine.dtype == torch.bfloat16
        assert float((mine - theirs).norm() / theirs.norm()) < 2e-2


def test_bf16_softmax_runs_in_float32():
    """With 4096 equal logits the normaliser is log 4096; summed in bf16 it would stall at 256."""
    hidden, weight = torch.zeros(2, 4, dtype=torch.bfloat16), torch.zeros(4096, 4, dtype=torch.bfloat16)
    logps, entropy = token_logps(hidden, weight, torch.tensor([0, 7]))

    assert logps.tolist() == pytest.approx([-math.log(4096)] * 2, rel=1e-6)
    assert entropy.tolist() == pytest.approx([math.log(4096)] * 2, rel=1e-6)


def test_the_products_run_in_the_type_of_hidden_and_gradients_in_that_of_their_parameter():
    (hidden, weight, _), targets, upstream = _draw(torch.float32)
    narrow = hidden.detach().bfloat16().requires_grad_()
    for loss in (token_logps(narrow, weight, targets)[0].sum(), summed_nll(narrow, weight, targets, upstream)[0]):
        gradients = torch.autograd.grad(loss, (narrow, weight))
        assert [x.dtype for x in gradients] == [torch.bfloat16, torch.float32]


def test_autocast_changes_nothing():
    (hidden, weight, _), targets, upstream = _draw(torch.float32)
    plain = [token_logps(hidden, weight, targets)[0], summed_nll(hidden, weight, targets, upstream)[0]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = [token_logps(hidden, weight, targets)[0], summed_nll(hidden, weight, targets, upstream)[0]]

    for mine, theirs in zip(cast, plain, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(cast, plain, strict=True):
        gradients, expected = (torch.autograd.grad(x.sum(), (hidden, weight)) for x in (mine, theirs))
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


def test_minus_infinite_logits_have_no_probability_and_no_entropy():
    (hidden, weight, bias), targets, upstream = _draw()
    targets = targets % 10
    closed = bias.detach().clone()
    closed[10:] = -torch.inf
    closed.requires_grad_()
    logps, entropy = token_logps(hidden, weight, targets, bias=closed, chunk=3)
    gradients = torch.autograd.grad(logps, (hidden, weight, closed), upstream)
    open_logps, open_entropy = token_logps(hidden, weight[:10], targets, bias=bias[:10], chunk=3)

    torch.testing.assert_close(logps, open_logps)
    torch.testing.assert_close(entropy, open_entropy)
    assert all(bool(x.isfinite().all()) for x in gradients)
    assert float(gradients[1][10:].abs().sum()) == 0.0


def test_an_impossible_target_that_does_not_count():
    (hidden, weight, bias), _, _ = _draw()
    closed = bias.detach().clone()
    closed[10:] = -torch.inf
    targets, weights = torch.arange(N), (torch.arange(N) < 10).double()
    total, logps = summed_nll(hidden, weight, targets, weights, bias=closed)
    total.backward()

    assert float(logps[10]) == -math.inf
    assert math.isfinite(total.item())
    assert bool(hidden.grad.isfinite().all())


def test_entropy_is_never_negative_and_zero_for_certainty():
    hidden = torch.tensor([[0.0], [1.0], [1e4]])
    _, entropy = token_logps(hidden, torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0, 0]))

    assert float(entropy[0]) == pytest.approx(math.log(2))
    assert float(entropy[2]) == 0.0
    assert float(entropy.min()) >= 0


def test_extreme_logits_stay_exact():
    hidden, weight = torch.tensor([[1e4]], dtype=torch.float32), torch.tensor([[1.0], [-1.0]], dtype=torch.float32)

    assert token_logps(hidden, weight, torch.tensor([1]))[0].tolist() == [-2e4]
    assert summed_nll(hidden, weight, torch.tensor([1]), torch.ones(1))[0].item() == 2e4


def test_no_tokens_at_all():
    (hidden, weight, bias), _, _ = _draw(n=0)
    targets = torch.zeros(0, dtype=torch.long)
    logps, entropy = token_logps(hidden, weight, targets, bias=bias)
    total, _ = summed_nll(hidden, weight, targets, torch.zeros(0), bias=bias)
    (logps.sum() + total).backward()

    assert logps.shape == entropy.shape == (0,)
    assert float(weight.grad.abs().sum()) == 0.0


class _Largest(TorchDispatchMode):
    """Records the largest tensor that any operation makes, and the number of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.products += func.name().startswith(("aten::mm", "aten::addmm"))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


@pytest.mark.parametrize("objective", ["token_logps", "summed_nll"])
def test_logits_are_never_whole_and_never_kept(objective):
    n, v, chunk = 64, 50, 8
    (hidden, weight, bias), targets, upstream = _draw(n=n, d=4, v=v)
    saved_sizes: list[int] = []
    with _Largest() as largest, saved_tensors_hooks(lambda x: saved_sizes.append(x.numel()) or x, lambda x: x):
        if objective == "token_logps":
            loss = token_logps(hidden, weight, targets, bias=bias, chunk=chunk)[0].sum()
        else:
            loss = summed_nll(hidden, weight, targets, upstream, bias=bias, chunk=chunk)[0]
        loss.backward()

    assert largest.numel == chunk * v
    assert saved_sizes
    assert max(saved_sizes) <= n * 4


def test_nothing_is_formed_without_gradients():
    (hidden, weight, _), targets, upstream = _draw()
    with torch.no_grad():
        total, _ = summed_nll(hidden, weight, targets, upstream)
        logps, _ = token_logps(hidden, weight, targets)

    assert not total.requires_grad
    assert not logps.requires_grad
    with _Largest() as seen:
        summed_nll(hidden, weight, targets, upstream)
    with torch.no_grad(), _Largest() as unseen:
        summed_nll(hidden, weight, targets, upstream)
    assert (seen.products, unseen.products) == (3, 1)


def test_settings_are_checked():
    (hidden, weight, _), targets, upstream = _draw()
    with pytest.raises(ConfigError, match="temperature must be > 0"):
        token_logps(hidden, weight, targets, temperature=0.0)
    with pytest.raises(ConfigError, match="chunk must be at least 1"):
        summed_nll(hidden, weight, targets, upstream, chunk=0)
