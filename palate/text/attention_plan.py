"""Plan which token attends to which, once per batch, as a few batched calls that segments of similar shape share.

Pure index arithmetic. `palate.models.attention` does the floating-point part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

Ints = npt.NDArray[np.int64]

CALL_AREA = 5_000
"""The cost of one more batched call, in query-key cells per head. A block is split only if that saves more."""
BLOCK_AREA = 400_000
"""The most cells per head of one batched call, unless one segment is larger, so that its weights stay in the cache."""
COARSE_CALL_AREA = 40_000
"""The cost of a call if products of a new shape need preparation; see `AttentionPlan.coarse`."""


def round_up(n: int, parts: int) -> int:
    """`n` rounded up to a multiple of a grain: the power of two at or below `n`, divided by `parts`, but at least 16.

    On CPUs a bfloat16 product of a new shape costs half a millisecond and half a megabyte. Without rounding, every step would pay
    that again.
    """
    grain = max(16, (1 << max(n, 1).bit_length() - 1) // parts)
    return -(-n // grain) * grain


@dataclass(frozen=True)
class Spans:
    """For each of n segments: its queries, and the one or two ranges of tokens that hold its keys.

    The keys are the `trunk` tokens from `trunk_start`, then the segment's own `length` tokens from `start`. A query sees
    every key up to its own token: key `j` of query `i` counts when `j <= trunk + i`.
    """

    start: Ints
    length: Ints
    trunk_start: Ints
    trunk: Ints


@dataclass(frozen=True)
class Block:
    """One batched call: `rows` segments, padded to `queries` and `keys`. Its slots begin at the two offsets."""

    rows: int
    queries: int
    keys: int
    query_offset: int
    key_offset: int
    mask: Tensor
    """(rows, 1, queries, keys) float32: 0 where the query sees the key, -inf elsewhere. A single row if all rows are equal."""


@dataclass(frozen=True)
class AttentionPlan:
    """The slots of all blocks, flat: block after block, segment after segment. Shapes: t tokens, s query slots and u key slots.

    A padded slot repeats the last token of its segment. No real query sees a padded key. The output of a padded query is never read,
    so no gradient reaches a key through padding.
    """

    tokens: int
    spans: Spans
    blocks: tuple[Block, ...]
    query_tokens: Ints
    """(s,) token of each query slot."""
    key_tokens: Ints
    """(u,) token of each key slot."""
    query_padding: npt.NDArray[np.bool_]
    """(s,) True where the query slot is padding."""

    @property
    def area(self) -> int:
        """Query-key cells per head that the blocks compute, including padding."""
        return sum(block.rows * block.queries * block.keys for block in self.blocks)

    def coarse(self) -> AttentionPlan:
        """The same attention in fewer blocks of rounded sizes, with more padding and shapes that repeat."""
        return plan_attention(self.spans, self.tokens, is_coarse=True)


def plan_attention(spans: Spans, tokens: int, *, is_coarse: bool = False) -> AttentionPlan:
    """The plan for `spans`, which together have each of `tokens` tokens exactly once as a query."""
    blocks: list[Block] = []
    query_tokens, key_tokens, query_padding = [], [], []
    query_offset = key_offset = 0
    for rows in _groups(spans.length, spans.length + spans.trunk, COARSE_CALL_AREA if is_coarse else CALL_AREA):
        start, length, trunk_start, trunk = (a[rows, None] for a in (spans.start, spans.length, spans.trunk_start, spans.trunk))
        sizes = int(length.max()), int((length + trunk).max())
        i, j = (np.arange(round_up(size, 4) if is_coarse else size) for size in sizes)
        own = np.minimum(j - trunk, length - 1)  # a padded slot repeats the segment's last token
        query_tokens.append((start + np.minimum(i, length - 1)).ravel())
        key_tokens.append(np.where(j < trunk, trunk_start + j, start + own).ravel())
        query_padding.append((i >= length).ravel())
        mask = _mask(trunk if np.any(trunk != trunk[0]) else trunk[:1], i, len(j))
        blocks.append(Block(len(rows), len(i), len(j), query_offset, key_offset, mask))
        query_offset += len(rows) * len(i)
        key_offset += len(rows) * len(j)
    flat = np.concatenate
    return AttentionPlan(tokens, spans, tuple(blocks), flat(query_tokens), flat(key_tokens), flat(query_padding))


def _mask(trunk: Ints, i: Ints, keys: int) -> Tensor:
    """The mask (rows, 1, queries, keys): query `i` sees the first `trunk + i + 1` keys. Rows are windows of one step function."""
    seen = int(trunk.max()) + len(i)
    step = np.zeros(seen + keys, np.float32)
    step[seen:] = -np.inf
    return torch.from_numpy(sliding_window_view(step, keys)[seen - 1 - trunk - i])[:, None]


def _groups(queries: Ints, keys: Ints, call_area: int) -> list[Ints]:
    """Segment numbers in groups of similar shape. A group is split as long as that saves more than a call costs."""
    done: list[Ints] = []
    open_groups = [np.lexsort((queries, keys))]
    while open_groups:
        group = open_groups.pop()
        area = len(group) * int(queries[group].max()) * int(keys[group].max())
        best, cut = min((_best_cut(group, queries, keys), _best_cut(group, keys, queries)), key=lambda option: option[0])
        if area - best > call_area:
            open_groups += [cut[1], cut[0]]
        else:
            parts = min(len(group), -(-area // BLOCK_AREA))
            done += np.array_split(group, parts)
    return done


def _best_cut(group: Ints, by: Ints, other: Ints) -> tuple[int, tuple[Ints, Ints]]:
    """(least area, two groups) of the best cut of `group` in the order of `by`."""
    order = group[np.argsort(by[group], kind="stable")]
    if len(order) < 2:
        return int(by[order].max() * other[order].max()), (order, order[:0])
    width, height = by[order], other[order]
    below = np.maximum.accumulate(height)[:-1]
    above = np.maximum.accumulate(height[::-1])[::-1][1:]
    count = np.arange(1, len(order))
    areas = count * width[:-1] * below + (len(order) - count) * width[-1] * above
    at = int(areas.argmin())
    return int(areas[at]), (order[: at + 1], order[at + 1 :])
