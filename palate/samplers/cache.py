"""Keys and values of the rows in flight, and the two kinds of forward pass that read and write them.

A row holds one request: its prompt's and its own tokens' keys and values, at columns 0, 1, ..., its length - 1. What
lies in later columns is left over from other rows and masked. Rows are dense: rows 0 to b - 1 are in flight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

_BLOCK_ROWS = 64
"""Rows that a step's attention takes at once."""

_ROWS, _COLUMNS = 8, 16
"""In narrow types a step's rows and columns are multiples of these: oneDNN compiles a kernel for each new shape, which takes longer than
the product (361 against 89 microseconds for 32 rows whose columns grow by one a step). MKL's float32 products need no such thing."""

_SHORT = 512
"""Tokens of a prompt up to which its attention may be held as one matrix."""


@dataclass(frozen=True)
class LayerRows:
    """One layer's keys (rows, KV, D, columns) and values (rows, KV, columns, D).

    Keys are stored transposed: a step's product of query and keys then reads them in their order in memory, which halves
    its time on a CPU (217 against 503 microseconds for 256 rows of 60 columns).
    """

    keys: Tensor
    values: Tensor

    def picked(self, rows: Tensor, columns: int) -> LayerRows:
        """A copy of the first `columns` columns of some rows."""
        return LayerRows(self.keys[:, :, :, :columns][rows], self.values[:, :, :columns][rows])

    def write(self, rows: Tensor | slice, other: LayerRows) -> None:
        """Put `other` into the first columns of some rows."""
        self.keys[rows, :, :, : other.keys.shape[3]] = other.keys
        self.values[rows, :, : other.values.shape[2]] = other.values


class Cache:
    """Room for `rows` requests of `columns` tokens in every layer; the memory is used again by the next call.

    Layers are made when the first forward pass shows the shape of their keys and values, so that nothing need be known
    about the model's configuration.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.columns = 0
        self._memory: dict[tuple[int, str], Tensor] = {}
        self._layers: dict[int, LayerRows] = {}

    def reshape(self, rows: int, columns: int) -> None:
        """Forget what was stored and make room for other sizes."""
        self.rows, self.columns = _up(rows, _ROWS), _up(columns, _COLUMNS)
        self._layers = {}

    @property
    def grain(self) -> tuple[int, int]:
        """Rows and columns that a step takes are multiples of these."""
        layer = next(iter(self._layers.values()))
        return (_ROWS, _COLUMNS) if layer.keys.dtype.itemsize < 4 and layer.keys.device.type == "cpu" else (1, 1)

    def layer(self, number: int) -> LayerRows:
        """The rows of a layer that a forward pass has prepared."""
        return self._layers[number]

    def layers(self) -> list[tuple[int, LayerRows]]:
        """All layers with their numbers."""
        return list(self._layers.items())

    def prepare(self, number: int, key: Tensor, value: Tensor) -> LayerRows:
        """The rows of a layer whose key and value are (1, KV, T, D), made now if need be."""
        if number not in self._layers:
            heads = key.shape[1]
            keys = self._room((number, "keys"), (self.rows, heads, key.shape[3], self.columns), key)
            values = self._room((number, "values"), (self.rows, heads, self.columns, value.shape[3]), value)
            self._layers[number] = LayerRows(keys, values)
        return self._layers[number]

    def move(self, sources: Tensor, targets: Tensor, columns: int) -> None:
        """Copy the first `columns` columns of rows `sources` (m,) over those of rows `targets` (m,)."""
        for layer in self._layers.values():
            layer.write(targets, layer.picked(sources, columns))

    def _room(self, name: tuple[int, str], shape: tuple[int, ...], like: Tensor) -> Tensor:
        size = torch.Size(shape).numel()
        memory = self._memory.get(name)
        if memory is None or memory.numel() < size or memory.dtype != like.dtype or memory.device != like.device:
            memory = like.new_zeros(size)  # zeros: a masked column must be finite, for 0 * NaN is NaN
            self._memory[name] = memory
        return memory[:size].view(shape)


def _up(number: int, grain: int) -> int:
    """The next multiple of the grain."""
    return -(-number // grain) * grain


class Prefill:
    """Attention of several prompts packed one after another, each causal; writes their keys and values into the cache.

    The prompts should be of like length, for attention runs on them padded to the longest. `first_row` is the row of the
    cache that the first request takes, and `repeats` how many rows each prompt fills.
    """

    def __init__(self, cache: Cache, lengths: Tensor, repeats: Tensor, first_row: int) -> None:
        self._cache = cache
        width = int(lengths.max())
        column = torch.arange(width, device=lengths.device)
        ends = lengths.cumsum(0)
        self._real = column < lengths[:, None]  # (p, width)
        self._source = torch.where(self._real, (ends - lengths)[:, None] + column, 0)  # (p, width) flat token of a place
        self._prompt = torch.arange(len(lengths), device=lengths.device).repeat_interleave(repeats)  # (rows,)
        self._rows = slice(first_row, first_row + len(self._prompt))
        self.positions = column.expand(len(lengths), width)[self._real]  # (t,)
        self.last = ends - 1  # (p,) flat position of each prompt's last token

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output (1, T, H, D) of query (1, H, T, D), key and value (1, KV, T, D)."""
        q, k, v = (tensor[0][:, self._source].transpose(0, 1) for tensor in (query, key, value))  # (p, heads, width, D)
        rows = self._cache.prepare(layer, key, value)
        is_once = len(self._prompt) == len(k)
        repeated = LayerRows(k.transpose(2, 3), v) if is_once else LayerRows(k[self._prompt].transpose(2, 3), v[self._prompt])
        rows.write(self._rows, repeated)
        return _causal(q, k, v, scaling).transpose(1, 2)[self._real][None]


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Causal attention (p, H, t, D) of query (p, H, t, D) to key and value (p, KV, t, D).

    In bfloat16 on a CPU plain products are two to four times as fast as torch's own function; for long prompts they would hold too much.
    """
    prompts, heads, width, dim = query.shape
    groups = key.shape[1]
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or width > _SHORT:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=heads != groups)
    bias = torch.full((width, width), -torch.inf, dtype=query.dtype).triu_(1).repeat(heads // groups, 1)
    queries = query.reshape(prompts * groups, -1, dim)
    scores = torch.baddbmm(bias, queries, key.flatten(0, 1).transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    return torch.bmm(weights, value.flatten(0, 1)).view(prompts, heads, width, -1)


class Step:
    """Attention of one new token a row to the row's earlier tokens and itself; appends its key and value to the cache.

    `lengths` (b,) are the tokens that rows 0 to b - 1 hold already. Rows are taken in blocks, each read as far as its longest row: reading
    keys and values is what attention costs here, and neighbours are of like length.
    """

    def __init__(self, cache: Cache, lengths: Tensor) -> None:
        self._cache = cache
        self._lengths = lengths
        self._rows = torch.arange(len(lengths), device=lengths.device)
        rows, columns = cache.grain
        self._more = -len(lengths) % rows
        seen = functional.pad(lengths, (0, self._more))  # the rows after the last one mean nothing, and see one column
        widths = [_up(int(block.max()) + 1, columns) for block in seen.split(_BLOCK_ROWS)]
        column = torch.arange(max(widths), device=lengths.device)
        self._blocks = [
            (slice(start, start + _BLOCK_ROWS), width, column[:width] > seen[start : start + _BLOCK_ROWS, None])
            for start, width in zip(range(0, len(seen), _BLOCK_ROWS), widths, strict=True)
        ]  # rows, columns, and where (rows, columns) is hidden
        self._bias: list[Tensor] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output (1, b, H, D) of query (1, H, b, D), key and value (1, KV, b, D)."""
        heads, batch, dim = query.shape[1:]
        groups = key.shape[1]
        stored = self._cache.layer(layer)
        stored.keys[self._rows, :, :, self._lengths] = key[0].transpose(0, 1)
        stored.values[self._rows, :, self._lengths] = value[0].transpose(0, 1)
        queries = functional.pad(query[0].transpose(0, 1), (0, 0, 0, 0, 0, self._more)).reshape(-1, groups, heads // groups, dim)
        parts = []
        for (rows, columns, _), bias in zip(self._blocks, self._mask(groups, query.dtype), strict=True):
            keys = stored.keys[: len(queries)][rows, :, :, :columns].flatten(0, 1)  # (rows * KV, D, columns), a view
            values = stored.values[: len(queries)][rows, :, :columns].flatten(0, 1)  # (rows * KV, columns, D), a view
            scores = torch.baddbmm(bias, queries[rows].flatten(0, 1), keys, alpha=scaling)
            weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
            parts.append(torch.bmm(weights, values))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(len(queries), heads, -1)[None, :batch]

    def _mask(self, groups: int, dtype: torch.dtype) -> list[Tensor]:
        """For each block (rows * KV, 1, columns): 0 where seen, -inf elsewhere; the same in every layer."""
        if not self._bias or self._bias[0].shape[0] != self._blocks[0][2].shape[0] * groups:
            self._bias = []
            for _, columns, is_hidden in self._blocks:
                bias = torch.zeros_like(is_hidden, dtype=dtype).masked_fill_(is_hidden, -torch.inf)
                self._bias.append(bias[:, None].expand(-1, groups, -1).reshape(-1, 1, columns))
        return self._bias
