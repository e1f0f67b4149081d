"""Attention of prefills and steps, against torch's own function row by row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from palate.samplers import cache as module
from palate.samplers.cache import Cache, Prefill, Step, gpu_columns

HEADS, GROUPS, DIM = 4, 2, 8
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def states(tokens: int, heads: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Random (1, heads, tokens, D)."""
    return torch.randn(1, heads, tokens, DIM, generator=torch.Generator().manual_seed(seed)).to(dtype)


def expected(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention (H, t, D) of the last t of T positions, one sequence, in float32."""
    tokens, columns = query.shape[1], key.shape[1]
    mask = torch.ones(tokens, columns, dtype=torch.bool).tril(columns - tokens)
    return scaled_dot_product_attention(*(x.float()[None] for x in (query, key, value)), attn_mask=mask, scale=0.3, enable_gqa=True)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [2, 64, None])
@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 1, 3)])
def test_prefill_then_steps_are_causal_attention(
    dtype: torch.dtype, block: int | None, repeats: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of so many rows, or None: one block of all rows, as on a GPU."""
    if block is None:
        monkeypatch.setattr(module, "_is_one_block", lambda _: True)
    else:
        monkeypatch.setattr(module, "_BLOCK_ROWS", block)
    lengths = torch.tensor([7, 6, 5])
    cache = Cache()
    cache.reshape(sum(repeats) + 2, 12)
    prefill = Prefill(cache, lengths, torch.tensor(repeats), first_row=0)
    query, key, value = (states(18, heads, dtype, seed) for seed, heads in enumerate((HEADS, GROUPS, GROUPS)))
    out = prefill.attend(0, query, key, value, 0.3)
    ends = lengths.cumsum(0).tolist()
    sequences = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        parts = query[0, :, start:end], key[0, :, start:end], value[0, :, start:end]
        torch.testing.assert_close(out[0, start:end].transpose(0, 1).float(), expected(*parts), rtol=0, atol=TOLERANCE[dtype])
        sequences.append(parts[1:])
    rows = [sequences[prompt] for prompt, count in enumerate(repeats) for _ in range(count)]
    for step in range(3):
        held = torch.tensor([keys.shape[1] for keys, _ in rows])
        query, key, value = (states(len(rows), heads, dtype, 10 * step + seed) for seed, heads in enumerate((HEADS, GROUPS, GROUPS)))
        out = Step(cache, held, int(held.max())).attend(0, query, key, value, 0.3)
        rows = [(torch.cat((k, key[0, :, i, None]), 1), torch.cat((v, value[0, :, i, None]), 1)) for i, (k, v) in enumerate(rows)]
        for i, (k, v) in enumerate(rows):
            torch.testing.assert_close(out[0, i].float(), expected(query[0, :, i, None], k, v)[:, 0], rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("longest", "columns"), [(0, 64), (62, 64), (63, 64), (64, 112), (111, 112)])
def test_a_step_on_a_gpu_reads_the_longest_row_and_its_new_token(longest: int, columns: int) -> None:
    cache = Cache()
    cache.reshape(4, 100)
    assert gpu_columns(longest, cache) == columns


def test_rows_that_get_more_room_keep_what_they_hold() -> None:
    cache, lengths = Cache(), torch.tensor([7, 5])
    cache.reshape(3, 256)
    cache.lay_out(12, 0)
    key, value = (states(12, GROUPS, torch.float32, seed) for seed in (1, 2))
    Prefill(cache, lengths, torch.tensor([1, 1]), first_row=0).attend(0, states(12, HEADS, torch.float32, 0), key, value, 0.3)
    widths = []
    for columns, rows in ((40, 2), (12, 2), (256, 2)):
        cache.lay_out(columns, rows)
        widths.append(cache.layer(0).keys.shape[3])
        assert cache.layer(0).values.shape[2] == widths[-1]
        new = [states(2, heads, torch.float32, seed) for seed, heads in enumerate((HEADS, GROUPS, GROUPS), start=3)]
        out = Step(cache, lengths, 7).attend(0, *new, 0.3)
        for i, (start, end) in enumerate(((0, 7), (7, 12))):
            k, v = (torch.cat((old[0, :, start:end], one[0, :, i, None]), 1) for old, one in zip((key, value), new[1:], strict=True))
            torch.testing.assert_close(out[0, i], expected(new[0][0, :, i, None], k, v)[:, 0], rtol=0, atol=1e-5)
    assert widths == [48, 48, 272]
    cache.lay_out(12, 0)
    assert cache.layer(0).keys.shape[3] == 16
