"""Products by convolution are those of a linear layer, gradients too."""

import pytest
import torch
from torch.nn.functional import linear as plain

from palate.models import cpu
from palate.models.cpu import FastLinear, use_fast_products


@pytest.fixture
def convolving(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where convolutions are faster."""
    monkeypatch.setattr(cpu, "convolves", lambda: True)
    monkeypatch.setattr(cpu, "WORTH", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.usefixtures("convolving")
@pytest.mark.parametrize("shape", [(40,), (1, 57), (3, 16), (5,)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_convolution_of_width_one_is_a_linear_layer(shape: tuple[int, ...], with_bias: bool) -> None:
    torch.manual_seed(0)
    given = [torch.randn(*shape, 24), torch.randn(16, 24), torch.randn(16) if with_bias else None]
    gradient = torch.randn(*shape, 16)
    results = []
    for product, dtype in ((cpu.linear, torch.float32), (plain, torch.float64)):
        leaves = [None if x is None else x.detach().to(dtype, copy=True).requires_grad_() for x in given]
        out = product(*leaves)  # type: ignore[arg-type]
        out.backward(gradient.to(dtype))
        results.append([out, *(x.grad for x in leaves if x is not None)])
    for ours, expected in zip(*results, strict=True):
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


def test_small_products_other_types_and_one_thread_take_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "convolves", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    calls = []
    monkeypatch.setattr(cpu, "conv2d", lambda *given: (calls.append(1), torch.conv2d(*given))[1])
    small, large = (torch.randn(cpu.WORTH // (64 * 64) - less, 64, dtype=torch.float32) for less in (1, 0))
    weight = torch.randn(64, 64, dtype=torch.float32)
    cpu.linear(small, weight)
    cpu.linear(large.double(), weight.double())
    assert not calls
    cpu.linear(large, weight)
    assert len(calls) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    cpu.linear(large, weight)
    assert len(calls) == 1


def test_layers_keep_their_names_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "convolves", lambda: True)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    use_fast_products(module)
    assert [type(layer) for layer in module] == [FastLinear, torch.nn.ReLU, FastLinear]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    x = torch.randn(64, 4)
    torch.testing.assert_close(module(x), plain(plain(x, *module[0].parameters()).relu(), *module[2].parameters()), rtol=1e-5, atol=1e-6)
