"""The attention function named "palate", and the attention of packed trees.

`transformers` passes unknown keywords of `forward` down to the attention function, so Palate needs no model code of its own. The function
registered here calls the object passed as `tree=` and returns its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, PreTrainedModel

from palate.core import ModelError
from palate.models.angles import beginnings, joined, short_angles
from palate.models.cpu import keeps_kernels
from palate.models.devices import moved
from palate.models.fused import BLOCK, fused_attention, takes_kernel, tree_mask
from palate.text.attention_plan import AttentionPlan, Block, Ints, round_up
from palate.text.pack import PackedBatch

NAME = "palate"
"""Name under which `tree_attention` is registered with transformers."""


class Attends(Protocol):
    """Computes attention for a forward pass: of a packed batch, a prefill, or a decoding step."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return the attention output (1, T, H, D) of query (1, H, T, D), key and value (1, KV, T, D)."""
        ...


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    *,
    scaling: float,
    tree: Attends | None = None,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Return the attention output of `tree`, and None for the weights. transformers passes further keywords, which are ignored."""
    if tree is None:
        raise ModelError(
            f'attention "{NAME}" of {type(module).__name__} was called without `tree=`; call the model through CausalPolicy or '
            'ScalarModel, or set plain attention first with `module.set_attn_implementation("sdpa")`'
        )
    layer: int = module.layer_idx  # type: ignore[assignment]  # every attention module of transformers numbers its layer
    return tree.attend(layer, query, key, value, scaling), None


AttentionInterface.register(NAME, tree_attention)


class PackedAttention:
    """Attention of a packed batch: every segment attends to its trunk and to itself, with exact gradients.

    The plan is the same in every layer. The result is deterministic on a CPU, because one thread sums each output row and each gradient row
    in a fixed order.
    """

    def __init__(self, plan: AttentionPlan) -> None:
        """Store `plan`. The first layer shows the number of heads, from which the row numbers follow."""
        self._plan = plan
        self._rows: _HeadRows | None = None
        self._mask: BlockMask | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:  # noqa: ARG002  # layers are alike
        """Return the attention output (1, T, H, D) in the dtype of `value`; T may exceed the plan's tokens, and is 0 after them."""
        if takes_kernel(self._plan.tokens, query, key, value, by_products):
            if self._mask is None:
                self._mask = tree_mask(self._plan, query.shape[2], query.device)
            with torch.autocast(value.device.type, enabled=False):
                return fused_attention(query, key, value, self._mask, scaling)
        return self.by_products(query, key, value, scaling)

    def by_products(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return the same without a fused kernel."""
        heads, kv_heads = query.shape[1], key.shape[1]
        if self._rows is None or (self._rows.heads, self._rows.kv_heads) != (heads, kv_heads):
            is_narrow = all(x.dtype.itemsize < 4 for x in (query, key, value))
            plan = self._plan.coarse() if is_narrow else self._plan
            self._rows = _head_rows(plan, heads, kv_heads, query.shape[2], query.device)
        with torch.autocast(value.device.type, enabled=False):  # autocast would compute products in another type than their operands
            output: Tensor = _PackedAttend.apply(query, key, value, self._rows, scaling)  # type: ignore[no-untyped-call]
        return output


def by_products(plan: AttentionPlan, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return attention without a fused kernel, to compare one with."""
    return PackedAttention(plan).by_products(query, key, value, query.shape[3] ** -0.5)


@dataclass(frozen=True)
class _HeadRows:
    """The plan as row numbers of (token, head) matrices; slots are ordered by block, key head, segment, group and place."""

    plan: AttentionPlan
    heads: int
    kv_heads: int
    masks: tuple[Tensor, ...]
    """The mask of each block of the plan."""
    query: Tensor
    """(s * H,) row of the query matrix (T * H, D) in each query slot."""
    key: Tensor
    """(u * KV,) row of the key matrix (T * KV, D) in each key slot."""
    query_padding: Tensor
    """Query slots that are padding."""
    query_slot: Tensor
    """(T * H,) slot of each query row."""
    key_slot: Tensor
    """Slots of each key row, row after row, including padded slots, whose gradient is 0."""
    key_end: Tensor
    """(T * KV + 1,) start of each key row's slots in `key_slot`."""


def _head_rows(plan: AttentionPlan, heads: int, kv_heads: int, places: int, device: torch.device) -> _HeadRows:
    """Return the rows of matrices that hold `places` tokens; tokens after the plan's have no attention in either direction."""
    group = heads // kv_heads
    of_query = [_block_rows(plan.query_tokens, b.query_offset, (b.rows, b.queries), kv_heads, group) for b in plan.blocks]
    of_key = [_block_rows(plan.key_tokens, b.key_offset, (b.rows, b.keys), kv_heads, 1) for b in plan.blocks]
    pad_query = [_block_mask(plan.query_padding, b.query_offset, (b.rows, b.queries), kv_heads, group) for b in plan.blocks]
    query, key = np.concatenate(of_query), np.concatenate(of_key)
    query_padding = np.concatenate(pad_query)
    query_slot = np.empty(plan.tokens * heads, np.int64)
    query_used = np.flatnonzero(~query_padding)
    query_slot[query[query_used]] = query_used
    key_end = np.zeros(places * kv_heads + 1, np.int64)
    np.cumsum(np.bincount(key, minlength=places * kv_heads), out=key_end[1:])
    key_slot = np.argsort(key, kind="stable")
    masks = tuple(moved(block.mask, device) for block in plan.blocks)
    numbers = (query, key, np.flatnonzero(query_padding), query_slot, key_slot, key_end)
    return _HeadRows(plan, heads, kv_heads, masks, *(moved(torch.from_numpy(x), device) for x in numbers))


def _block_rows(tokens: Ints, offset: int, shape: tuple[int, int], kv_heads: int, group: int) -> Ints:
    """Return the row numbers of one block, flat (KV, rows, group, places)."""
    rows = tokens[offset : offset + shape[0] * shape[1]].reshape(1, shape[0], 1, shape[1]) * (kv_heads * group)
    return (rows + np.arange(kv_heads * group).reshape(kv_heads, 1, group, 1)).ravel()


def _block_mask(padding: np.ndarray, offset: int, shape: tuple[int, int], kv_heads: int, group: int) -> np.ndarray:
    """Return True for padding, flat (KV, rows, group, places)."""
    mask = padding[offset : offset + shape[0] * shape[1]].reshape(1, shape[0], 1, shape[1])
    return np.broadcast_to(mask, (kv_heads, shape[0], group, shape[1])).ravel()


def packed_states(module: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """Return hidden states (T, d) of the flat tokens, whatever else is in the batch; T may exceed their number."""
    limit = short_angles(module)
    if limit is None or int(batch.position_ids.max()) < limit:
        return _states(module, batch)
    early = beginnings(batch, limit)
    return joined(_states(module, early)[: len(early.input_ids)], _states(module, batch), batch, limit)


def _states(module: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """Return hidden states (T, d) of one forward pass; padding rounds T up to whole blocks, or so that shapes repeat."""
    ids, positions = batch.input_ids, batch.position_ids
    tokens, more = len(ids), 0
    if ids.device.type == "cuda":
        more = -tokens % BLOCK
    elif keeps_kernels(module.dtype, tokens, module.config.get_text_config().hidden_size):
        more = round_up(tokens, 16) - tokens
    if more:
        ids, positions = (torch.nn.functional.pad(x, (0, more)) for x in (ids, positions))
    tree = PackedAttention(batch.layout)
    states: Tensor = module.base_model(input_ids=ids[None], position_ids=positions[None], tree=tree, use_cache=False)[0]
    return states[0]


class _PackedAttend(torch.autograd.Function):
    """Batched matrix products and one softmax per block; `embedding_bag` sums a key's gradient over its slots.

    Products run in the type of their operands: with about forty keys or more, bfloat16 is three to four times as fast as float32, and with
    fewer it is as fast. The softmax runs in float32 (float64 for float64), and its result enters the next product in the operands' type.

    Measured on CPUs: the backward pass of `scaled_dot_product_attention` is slower. `torch.embedding` copies rows several times faster than
    `index_select`. A batched product of short sequences is slow when its second factor is a transposed view. The softmax is slower in
    bfloat16 than in float32 including both conversions, and its backward pass is faster.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rows: _HeadRows, scaling: float) -> Tensor:
        """Return the output (1, T, H, D)."""
        dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), value.dtype)
        wide = torch.promote_types(dtype, torch.float32)
        q = torch.embedding(_flat(query), rows.query).to(dtype).mul_(scaling)
        k, v = (torch.embedding(_flat(x), rows.key).to(dtype) for x in (key, value))
        out = torch.empty_like(q)
        weights = []
        for block, mask in zip(rows.plan.blocks, rows.masks, strict=True):
            qb, ob = (_queries(x, block, rows) for x in (q, out))
            kb, vb = (_keys(x, block, rows) for x in (k, v))
            scores = torch.bmm(qb, kb.transpose(1, 2).contiguous()).to(wide)
            scores.view(rows.kv_heads, block.rows, -1, block.queries, block.keys).add_(mask)
            weight = torch.softmax(scores, -1).to(dtype)
            torch.bmm(weight, vb, out=ob)
            if any(ctx.needs_input_grad):
                weights.append(weight)
        ctx.save_for_backward(q, k, v, *weights)
        ctx.rows, ctx.scaling, ctx.dtypes = rows, scaling, (query.dtype, key.dtype, value.dtype)
        return _of_tokens(out, rows, query.shape[2]).view(1, query.shape[2], rows.heads, -1).to(value.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key and value."""
        q, k, v, *weights = ctx.saved_tensors
        rows: _HeadRows = ctx.rows
        d_out = torch.embedding(grads[0].reshape(-1, q.shape[1]), rows.query).to(q.dtype).index_fill_(0, rows.query_padding, 0.0)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for block, weight in zip(rows.plan.blocks, weights, strict=True):
            qb, db, dqb = (_queries(x, block, rows) for x in (q, d_out, dq))
            kb, vb, dkb, dvb = (_keys(x, block, rows) for x in (k, v, dk, dv))
            torch.bmm(weight.transpose(1, 2), db, out=dvb)
            d_weight = torch.bmm(db, vb.transpose(1, 2).contiguous())
            d_scores = torch._softmax_backward_data(d_weight, weight, -1, weight.dtype)
            torch.bmm(d_scores, kb, out=dqb)
            torch.bmm(d_scores.transpose(1, 2), qb, out=dkb)
        tokens = grads[0].shape[1]
        d_query = _of_tokens(dq, rows, tokens).mul_(ctx.scaling)
        summed = (d_query, *(_summed(x, rows) for x in (dk, dv)))
        shaped = (x.view(1, tokens, -1, q.shape[1]).transpose(1, 2) for x in summed)
        return *(x.to(dtype) for x, dtype in zip(shaped, ctx.dtypes, strict=True)), None, None


def _flat(x: Tensor) -> Tensor:
    """Return (1, heads, T, D) as (T * heads, D): a view where the memory order is token by token, as after projections."""
    return x.transpose(1, 2).reshape(-1, x.shape[-1])


def _queries(x: Tensor, block: Block, rows: _HeadRows) -> Tensor:
    """Return the block's query slots as (KV * rows, group * queries, D)."""
    start, count = block.query_offset * rows.heads, block.rows * block.queries * rows.heads
    return x[start : start + count].view(rows.kv_heads * block.rows, -1, x.shape[1])


def _keys(x: Tensor, block: Block, rows: _HeadRows) -> Tensor:
    """Return the block's key slots as (KV * rows, keys, D)."""
    start, count = block.key_offset * rows.kv_heads, block.rows * block.keys * rows.kv_heads
    return x[start : start + count].view(rows.kv_heads * block.rows, block.keys, x.shape[1])


def _of_tokens(slots: Tensor, rows: _HeadRows, tokens: int) -> Tensor:
    """Return (tokens * H, D): the content of each query row's slot, and 0 for tokens after the plan's."""
    rows_of_plan = torch.embedding(slots, rows.query_slot)
    return (
        torch.nn.functional.pad(rows_of_plan, (0, 0, 0, tokens * rows.heads - len(rows_of_plan)))
        if tokens > rows.plan.tokens
        else rows_of_plan
    )


def _summed(slots: Tensor, rows: _HeadRows) -> Tensor:
    """Return (T * KV, D): for each key row the sum over its slots."""
    return torch.nn.functional.embedding_bag(rows.key_slot, slots, rows.key_end, mode="sum", include_last_offset=True)
