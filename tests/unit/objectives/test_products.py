"""Products by convolution are those of a linear layer, gradients too."""

import pytest
import torch
from torch.nn.functional import linear as plain

from palate.models.linear import FastLinear, use_fast_products
from palate.objectives import products


@pytest.fixture
def convolving(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where convolutions are faster."""
    monkeypatch.setattr(products, "convolves", lambda: True)


@pytest.mark.usefixtures("convolving")
@pytest.mark.parametrize("shape", [(40,), (1, 57), (3, 16), (5,)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_convolution_of_width_one_is_a_linear_layer(shape: tuple[int, ...], with_bias: bool) -> None:
    torch.manual_seed(0)
    given = [torch.randn(*shape, 24), torch.randn(16, 24), torch.randn(16) if with_bias else None]
    gradient = torch.randn(*shape, 16)
    found = []
    for product, dtype in ((products.linear, torch.float32), (plain, torch.float64)):
        leaves = [None if x is None else x.to(dtype).requires_grad_() for x in given]
        out = product(*leaves)  # type: ignore[arg-type]
        out.backward(gradient.to(dtype))
        found.append([out, *(x.grad for x in leaves if x is not None)])
    for ours, expected in zip(*found, strict=True):
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


def test_few_rows_and_other_types_take_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "convolves", lambda: True)
    calls = []
    monkeypatch.setattr(products, "conv2d", lambda *_: calls.append(1))
    products.linear(torch.randn(products.FEW_ROWS - 1, 4), torch.randn(3, 4))
    products.linear(torch.randn(64, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64))
    assert not calls


def test_layers_keep_their_names_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.models.linear.convolves", lambda: True)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    use_fast_products(module)
    assert [type(layer) for layer in module] == [FastLinear, torch.nn.ReLU, FastLinear]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    x = torch.randn(64, 4)
    torch.testing.assert_close(module(x), plain(plain(x, *module[0].parameters()).relu(), *module[2].parameters()), rtol=1e-5, atol=1e-6)
