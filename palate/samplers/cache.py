"""Keys and values of the active rows, and the two kinds of attention that read and write them: prefill and decoding step.

A row holds one request: the keys and values of its prompt and of its own tokens, at columns 0, 1, ..., its length - 1. Later columns hold
old content of other rows and are masked. Rows are dense: rows 0 to b - 1 are active.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

_BLOCK_ROWS = 64
"""Number of rows that a step's attention takes at once."""

_ROWS, _COLUMNS = 8, 16
"""In narrow types a step's rows and columns are multiples of these: oneDNN compiles a kernel for each new shape, which takes longer than
the product (361 against 89 microseconds for 32 rows whose columns grow by one per step). MKL's float32 products do not compile kernels."""

_GPU_COLUMNS = 64
"""On a GPU a step reads one block of all rows, whose columns are a multiple of this: more and smaller products would cost more."""

_SHORT = 512
"""Longest prompt, in tokens, whose attention may be held as one matrix."""


@dataclass(frozen=True)
class LayerRows:
    """One layer's keys (rows, KV, D, columns) and values (rows, KV, columns, D).

    Keys are stored transposed. A step's product of query and keys then reads them in memory order, which halves its time on a CPU (217
    against 503 microseconds for 256 rows of 60 columns).
    """

    keys: Tensor
    values: Tensor

    def picked(self, rows: Tensor, columns: int) -> LayerRows:
        """Return a copy of the first `columns` columns of some rows."""
        return LayerRows(self.keys[:, :, :, :columns][rows], self.values[:, :, :columns][rows])

    def write(self, rows: Tensor | slice, other: LayerRows) -> None:
        """Write `other` into the first columns of some rows."""
        self.keys[rows, :, :, : other.keys.shape[3]] = other.keys
        self.values[rows, :, : other.values.shape[2]] = other.values


class Cache:
    """Memory for `rows` requests of `columns` tokens in every layer; the next call reuses it.

    The cache makes a layer when the first forward pass shows the shape of its keys and values, so it does not read the model's
    configuration.

    Attributes:
        rows: number of rows.
        columns: the most tokens of a row. All rows have memory for so many.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.columns = 0
        self._width = 0  # columns from one line of keys to the next; see `lay_out`
        self._memory: dict[tuple[int, str], Tensor] = {}
        self._layers: dict[int, LayerRows] = {}

    def reshape(self, rows: int, columns: int) -> None:
        """Drop the content and make room for other sizes."""
        self.rows, self.columns = _up(rows, _ROWS), _up(columns, _COLUMNS)
        self._width = self.columns
        self._layers = {}

    def lay_out(self, columns: int, rows: int) -> None:
        """Let each row have room for `columns` tokens only, so that what a step reads is close together.

        The first `rows` rows keep their content; while there are any, room only grows. This is for a CPU: a step reads the first columns of
        every line of keys. Long lines are on pages of their own, and lines of a power of two share places of the processor's cache. With
        272 in place of 4096 columns a step of a small model took three quarters of the time.
        """
        width = _up(min(columns, self.columns) + _COLUMNS, 2 * _COLUMNS) - _COLUMNS  # an odd multiple, so never a power of two above it
        if width == self._width or (rows and width < self._width):
            return
        held, self._width = min(width, self._width), width
        for number, layer in self._layers.items():
            kept = layer.picked(torch.arange(rows), held)  # a copy, for both lie in the same memory
            self._layers[number] = self._laid_out(number, layer.keys.shape[2], layer.values)
            self._layers[number].write(slice(0, rows), kept)

    @property
    def grain(self) -> tuple[int, int]:
        """Return the numbers whose multiples a step takes as rows and columns."""
        layer = next(iter(self._layers.values()))
        return (_ROWS, _COLUMNS) if layer.keys.dtype.itemsize < 4 and layer.keys.device.type == "cpu" else (1, 1)

    def layer(self, number: int) -> LayerRows:
        """Return the rows of a layer that a forward pass has prepared."""
        return self._layers[number]

    def layers(self) -> list[tuple[int, LayerRows]]:
        """Return all layers with their numbers."""
        return list(self._layers.items())

    def prepare(self, number: int, key: Tensor, value: Tensor) -> LayerRows:
        """Return the rows of a layer whose key and value are (1, KV, T, D); make them if they do not exist."""
        if number not in self._layers:
            self._layers[number] = self._laid_out(number, key.shape[3], value)
        return self._layers[number]

    def move(self, sources: Tensor, targets: Tensor, columns: int) -> None:
        """Copy the first `columns` columns of rows `sources` (m,) over those of rows `targets` (m,)."""
        for layer in self._layers.values():
            layer.write(targets, layer.picked(sources, columns))

    def _laid_out(self, number: int, key_dim: int, value: Tensor) -> LayerRows:
        """Return the rows of a layer whose keys have `key_dim` numbers, and whose values are like `value` (., KV, ., D)."""
        heads, dim = value.shape[1], value.shape[3]
        keys = self._room((number, "keys"), (self.rows, heads, key_dim, self._width), value)
        return LayerRows(keys, self._room((number, "values"), (self.rows, heads, self._width, dim), value))

    def _room(self, name: tuple[int, str], shape: tuple[int, ...], like: Tensor) -> Tensor:
        used = torch.Size(shape).numel()
        size = used // self._width * max(self._width, self.columns)  # lines may grow later
        memory = self._memory.get(name)
        if memory is None or memory.numel() < size or memory.dtype != like.dtype or memory.device != like.device:
            memory = like.new_zeros(size)  # zeros: a masked column must be finite, for 0 * NaN is NaN
            self._memory[name] = memory
        return memory[:used].view(shape)


def _up(number: int, grain: int) -> int:
    """Return the next multiple of `grain`."""
    return -(-number // grain) * grain


def _is_one_block(device: torch.device) -> bool:
    """Return whether a step takes all rows at once, as on a GPU."""
    return device.type == "cuda"


def gpu_columns(longest: int, cache: Cache) -> int:
    """Return the columns that a step on a GPU reads where the longest row holds `longest` tokens."""
    return min(_up(longest + 1, _GPU_COLUMNS), cache.columns)


class Prefill:
    """Causal attention of several packed prompts, which writes their keys and values into the cache.

    The prompts should have similar lengths, because attention pads them to the longest. `first_row` is the cache row of the first request,
    and `repeats` is the number of rows that each prompt fills.
    """

    def __init__(self, cache: Cache, lengths: Tensor, repeats: Tensor, first_row: int) -> None:
        self._cache = cache
        width = int(lengths.max())
        column = torch.arange(width, device=lengths.device)
        ends = lengths.cumsum(0)
        self._real = column < lengths[:, None]  # (p, width)
        self._source = torch.where(self._real, (ends - lengths)[:, None] + column, 0)  # (p, width) index of the flat token
        self._prompt = torch.arange(len(lengths), device=lengths.device).repeat_interleave(repeats)  # (rows,)
        self._rows = slice(first_row, first_row + len(self._prompt))
        self.positions = column.expand(len(lengths), width)[self._real]  # (t,)
        self.last = ends - 1  # (p,) flat position of each prompt's last token

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return the attention output (1, T, H, D) of query (1, H, T, D), key and value (1, KV, T, D)."""
        q, k, v = (tensor[0][:, self._source].transpose(0, 1) for tensor in (query, key, value))  # (p, heads, width, D)
        rows = self._cache.prepare(layer, key, value)
        is_once = len(self._prompt) == len(k)
        repeated = LayerRows(k.transpose(2, 3), v) if is_once else LayerRows(k[self._prompt].transpose(2, 3), v[self._prompt])
        rows.write(self._rows, repeated)
        return _causal(q, k, v, scaling).transpose(1, 2)[self._real][None]


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Return causal attention (p, H, t, D) of query (p, H, t, D) to key and value (p, KV, t, D).

    In bfloat16 on a CPU plain products are two to four times as fast as torch's own function; for long prompts they need too much memory.
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
    """Attention of one new token per row to the row's earlier tokens and itself; it appends its key and value to the cache.

    `lengths` (b,) are the numbers of tokens that rows 0 to b - 1 already hold, and `longest` is the largest. The step takes rows in blocks
    and reads each block up to its longest row. Reading keys and values is the main cost of attention here, and neighbouring rows have
    similar lengths. On a GPU all rows are one block, and nothing here waits for the GPU.
    """

    def __init__(self, cache: Cache, lengths: Tensor, longest: int) -> None:
        self._cache = cache
        self._lengths = lengths
        self._rows = torch.arange(len(lengths), device=lengths.device)
        rows, columns = cache.grain
        self._padding = -len(lengths) % rows
        seen = functional.pad(lengths, (0, self._padding))  # the rows after the last one are unused, and see one column
        block_rows = _BLOCK_ROWS
        if _is_one_block(lengths.device):
            block_rows, widths = len(seen), [gpu_columns(longest, cache)]
        else:
            widths = [_up(int(block.max()) + 1, columns) for block in seen.split(block_rows)]
        column = torch.arange(max(widths), device=lengths.device)
        self._blocks = [
            (slice(start, start + block_rows), width, column[:width] > seen[start : start + block_rows, None])
            for start, width in zip(range(0, len(seen), block_rows), widths, strict=True)
        ]  # rows, columns, and which entries (rows, columns) are hidden
        self._bias: list[Tensor] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output (1, b, H, D) of query (1, H, b, D), key and value (1, KV, b, D)."""
        heads, batch, dim = query.shape[1:]
        groups = key.shape[1]
        stored = self._cache.layer(layer)
        stored.keys[self._rows, :, :, self._lengths] = key[0].transpose(0, 1)
        stored.values[self._rows, :, self._lengths] = value[0].transpose(0, 1)
        queries = functional.pad(query[0].transpose(0, 1), (0, 0, 0, 0, 0, self._padding)).reshape(-1, groups, heads // groups, dim)
        parts = []
        for (rows, columns, _), bias in zip(self._blocks, self._mask(groups, query.dtype), strict=True):
            keys = stored.keys[: len(queries)][rows, :, :, :columns].flatten(0, 1)  # (rows * KV, D, columns), a view
            values = stored.values[: len(queries)][rows, :, :columns].flatten(0, 1)  # (rows * KV, columns, D), a view
            scores = torch.baddbmm(bias, queries[rows].flatten(0, 1), keys, alpha=scaling)
            weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
            parts.append(torch.bmm(weights, values))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(len(queries), heads, -1)[None, :batch]

    def _mask(self, groups: int, dtype: torch.dtype) -> list[Tensor]:
        """Return for each block (rows * KV, 1, columns): 0 for visible entries, -inf elsewhere; the same in every layer."""
        if not self._bias or self._bias[0].shape[0] != self._blocks[0][2].shape[0] * groups:
            self._bias = []
            for _, columns, is_hidden in self._blocks:
                bias = torch.zeros_like(is_hidden, dtype=dtype).masked_fill_(is_hidden, -torch.inf)
                self._bias.append(bias[:, None].expand(-1, groups, -1).reshape(-1, 1, columns))
        return self._bias
