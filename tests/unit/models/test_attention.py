"""Attention of packed trees against the formula."""

import random

import pytest
import torch
from torch import Tensor

from palate.core import ModelError
from palate.models.attention import PackedAttention, tree_attention
from palate.testing import random_trees
from palate.text.pack import PackedBatch, pack

SHAPES = {
    "one branch": [(3, [4]), (1, [1]), (7, [2])],
    "ragged": [(5, [1, 9, 3]), (1, [2, 2]), (30, [4]), (2, [17, 1, 1, 1]), (9, [40, 41])],
    "many": [(random.Random(k).randint(1, 12), [random.Random(k + j).randint(1, 30) for j in range(1 + k % 8)]) for k in range(12)],
}


def _formula(batch: PackedBatch, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Compute attention of all tokens to all tokens, with a mask on what a token may not see."""
    group, tokens = q.shape[1] // k.shape[1], q.shape[2]
    may_see = torch.zeros(tokens, tokens, dtype=torch.bool)
    for start, end, trunk_start, trunk_end in batch.segments:
        for token in range(start, end):
            may_see[token, trunk_start:trunk_end] = True
            may_see[token, start : token + 1] = True
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    logits = (q @ k.transpose(2, 3) * scaling).masked_fill(~may_see, float("-inf"))
    return (torch.softmax(logits, -1) @ v).transpose(1, 2)


def _inputs(tokens: int, heads: int, kv_heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, h, tokens, 6, generator=generator).to(dtype).requires_grad_() for h in (heads, kv_heads, kv_heads)]


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (3, 1)])
def test_equals_the_formula(shapes, heads) -> None:
    batch = pack(random_trees(shapes, 50))
    inputs = _inputs(len(batch.input_ids), *heads)
    ours = PackedAttention(batch.layout).attend(0, *inputs, 0.3)
    theirs = _formula(batch, *inputs, 0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    for mine, plain in zip(torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, inputs, direction), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=2e-6)


def test_gradients_by_finite_differences() -> None:
    batch = pack(random_trees([(2, [3, 1]), (1, [2]), (3, [1, 4])], 50))
    inputs = _inputs(len(batch.input_ids), 2, 1, torch.float64)
    attention = PackedAttention(batch.layout)
    assert torch.autograd.gradcheck(lambda *qkv: attention.attend(0, *qkv, 0.3), inputs)


def test_autocast_changes_nothing_inside() -> None:
    batch = pack(random_trees(SHAPES["ragged"], 50))
    query, key, value = _inputs(len(batch.input_ids), 4, 2)
    attention = PackedAttention(batch.layout)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention.attend(0, query, key, value.bfloat16(), 0.3)  # autocast projects to bfloat16, rotary embedding makes float32
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.float().sum(), (query, key))
    assert [x.dtype for x in grads] == [torch.float32] * 2
    assert torch.equal(out, attention.attend(0, query, key, value.bfloat16().float(), 0.3).bfloat16())


def test_layout_of_inputs_does_not_matter() -> None:
    batch = pack(random_trees(SHAPES["ragged"], 50))
    inputs = _inputs(len(batch.input_ids), 4, 2)
    by_token = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    attention = PackedAttention(batch.layout)
    assert torch.equal(attention.attend(0, *inputs, 0.3), attention.attend(0, *by_token, 0.3))


def test_same_bits_on_every_run() -> None:
    batch = pack(random_trees(SHAPES["many"], 50))
    inputs = _inputs(len(batch.input_ids), 4, 2)

    def run() -> list[Tensor]:
        out = PackedAttention(batch.layout).attend(0, *inputs, 0.3)
        return [out, *torch.autograd.grad(out.square().sum(), inputs)]

    first = run()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_bfloat16_stays_within_its_rounding_of_the_formula(shapes) -> None:
    """Relative to the largest value: 2^-7 of the output, 2^-6 of each gradient. Weights are rounded (2^-9), scores of up to 4 as well."""
    batch = pack(random_trees(shapes, 50))
    inputs = _inputs(len(batch.input_ids), 4, 2, torch.bfloat16)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    ours, theirs = PackedAttention(batch.layout).attend(0, *inputs, 0.3), _formula(batch, *wide, 0.3)
    assert ours.dtype == torch.bfloat16
    assert _gap(ours, theirs) < 2**-7
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    for mine, plain in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, wide, direction.double()), strict=True
    ):
        assert mine.dtype == torch.bfloat16
        assert _gap(mine, plain) < 2**-6


def _gap(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.double() - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_behind_the_plans_change_nothing(dtype: torch.dtype) -> None:
    batch = pack(random_trees(SHAPES["ragged"], 50))
    tokens = len(batch.input_ids)
    more = _inputs(tokens + 5, 4, 2, dtype)
    exact = [x.detach()[:, :, :tokens].clone().requires_grad_() for x in more]
    long, short = (PackedAttention(batch.layout).attend(0, *x, 0.3) for x in (more, exact))
    assert torch.equal(long[:, :tokens], short)
    assert not long[:, tokens:].any()
    direction = torch.randn(long.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    of_long, of_short = torch.autograd.grad(long, more, direction), torch.autograd.grad(short, exact, direction[:, :tokens])
    for mine, plain in zip(of_long, of_short, strict=True):
        assert torch.equal(mine[:, :, :tokens], plain)
        assert not mine[:, :, tokens:].any()


def test_huge_logits_stay_finite() -> None:
    batch = pack(random_trees(SHAPES["ragged"], 50))
    inputs = _inputs(len(batch.input_ids), 4, 2)
    out = PackedAttention(batch.layout).attend(0, *inputs, 1e4)
    grads = torch.autograd.grad(out.sum(), inputs)
    assert all(x.isfinite().all() for x in (out, *grads))


def test_the_call_without_a_tree_says_what_to_do() -> None:
    q, k, v = _inputs(3, 2, 2)
    with pytest.raises(ModelError, match="tree="):
        tree_attention(torch.nn.Linear(1, 1), q, k, v, None, scaling=1.0)
