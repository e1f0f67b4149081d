"""Flex attention of packed trees against the products, by torch's version without a kernel; and where the kernel is chosen."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from palate.models import fused
from palate.models.attention import PackedAttention, by_products
from palate.models.fused import BLOCK, fused_attention, gap_to, takes_kernel, tree_mask, two_branches
from palate.testing import random_trees
from palate.text.attention_plan import AttentionPlan
from palate.text.pack import pack

CPU = torch.device("cpu")
Shapes = list[tuple[int, list[int]]]


def shapes_of(seed: int) -> Shapes:
    """Some trees: with one branch or several, shorter and longer than blocks; the first ones end a token after a block, or with it."""
    if seed < 2:
        return [(BLOCK + 1 - seed, [200, 200])]
    rng = random.Random(seed)
    return [(rng.randint(1, 200), [rng.randint(1, 150) for _ in range(rng.randint(1, 4))]) for _ in range(rng.randint(1, 4))]


def plan_of(shapes: Shapes) -> AttentionPlan:
    return pack(random_trees(shapes, 50)).layout


def inputs_of(places: int, heads: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, count, places, 16, generator=generator).requires_grad_() for count in (heads[0], heads[1], heads[1])]


@pytest.fixture
def gradients_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch refuses gradients of flex attention on CPUs, because its CPU kernel has none; the version without a kernel does."""
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("more", [0, 37])
@pytest.mark.usefixtures("gradients_on_cpu")
def test_outputs_and_gradients_are_those_of_the_products(seed: int, heads: tuple[int, int], more: int) -> None:
    plan = plan_of(shapes_of(seed))
    places = plan.tokens + more
    inputs = inputs_of(places, heads)
    ours = fused_attention(*inputs, tree_mask(plan, places, CPU), 0.25)
    theirs = PackedAttention(plan).attend(0, *inputs, 0.25)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not ours[:, plan.tokens :].any()
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    for mine, plain in zip(torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, inputs, direction), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("more", [0, 130])
def test_blocks_say_exactly_where_the_mask_has_something(seed: int, more: int) -> None:
    """Kernels leave out the blocks that are not listed, and do not ask the mask in the full ones."""
    plan = plan_of(shapes_of(seed))
    places = plan.tokens + more
    mask = tree_mask(plan, places, CPU)
    index = torch.arange(places)
    sees = mask.mask_mod(index, index, index[:, None], index[None]).numpy()
    count = -(-places // BLOCK)
    for row in range(count):
        partial, full = (
            set(columns[0, 0, row, : numbers[0, 0, row]].tolist())
            for numbers, columns in ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices))
        )
        assert not partial & full
        for column in range(count):
            cells = sees[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
            assert (column in partial | full) == bool(cells.any())
            if column in full:
                assert cells.all()
                assert cells.shape[1] == BLOCK


def test_some_blocks_are_left_out_and_some_are_full() -> None:
    mask = tree_mask(plan_of([(400, [300, 300]), (300, [300])]), 1700, CPU)
    assert int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()) < 60  # of 14 x 14
    assert int(mask.full_kv_num_blocks.sum()) > 10


@pytest.mark.usefixtures("gradients_on_cpu")
def test_what_is_tried_on_a_device_before_the_kernel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert two_branches(360).tokens == 360
    assert gap_to(by_products, CPU, torch.float32, (4, 2, 16), 3 * BLOCK) < 1e-5
    assert gap_to(by_products, CPU, torch.bfloat16, (7, 1, 64), 3 * BLOCK) < fused.GAP
    wrong = monkeypatch.context
    with wrong() as patch:
        patch.setattr(fused, "tree_mask", lambda plan, places, device: tree_mask(two_branches(places - 30), places, device))
        assert gap_to(by_products, CPU, torch.bfloat16, (4, 2, 16), 3 * BLOCK) > fused.GAP


@pytest.mark.usefixtures("gradients_on_cpu")
def test_a_kernel_that_fails_or_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fused._is_right.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fused._is_right(CPU, torch.bfloat16, (4, 2, 16), by_products)
    with pytest.warns(fused.FusedAttentionWarning, match=r"off by .* of the largest number"):
        assert not fused._is_right(CPU, torch.bfloat16, (4, 2, 16), lambda plan, q, k, v: 2 * by_products(plan, q, k, v))
    monkeypatch.setattr(fused, "flex_attention", lambda *_args, **_named: 1 / 0)
    with pytest.warns(fused.FusedAttentionWarning, match="ZeroDivisionError"):
        assert not fused._is_right(CPU, torch.bfloat16, (8, 2, 16), by_products)
    fused._is_right.cache_clear()


def test_on_a_cpu_the_kernel_is_not_used() -> None:
    query, key, value = (x.detach().bfloat16() for x in inputs_of(512, (4, 2)))
    assert not takes_kernel(512, query, key, value, by_products)


def test_blocks_are_listed_with_the_chosen_first() -> None:
    counts, columns = fused._listed(np.array([[False, True, True], [False, False, False]]), CPU)
    assert counts.tolist() == [[[2, 0]]]
    assert columns.tolist() == [[[[1, 2, 0], [0, 1, 2]]]]
