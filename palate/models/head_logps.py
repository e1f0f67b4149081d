"""Log-probabilities of a packed batch's targets from the hidden states of one forward pass."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional

from palate.models.cpu import keeps_kernels, linear
from palate.objectives.logps import token_logps
from palate.text.attention_plan import round_up
from palate.text.pack import PackedBatch


def head_logps(
    states: Tensor, batch: PackedBatch, weight: Tensor, bias: Tensor | None, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probability and entropy (n,) of every target, nats, float32, and the states (n, d) that predict them.

    Args:
        states: (T, d), the hidden states of the batch's tokens.
        batch: the batch, on the device of the states.
        weight: (v, d) of the language-model head.
        bias: (v,) or None.
        temperature: divides the logits.
    """
    sources, targets = rounded_up(states, weight, batch.sources, batch.targets)
    states = states.index_select(0, sources)
    logps, entropy = token_logps(states, weight, targets, bias=bias, temperature=temperature, linear=linear)
    count = len(batch.targets)
    return logps[:count], entropy[:count], states[:count]


def rounded_up(states: Tensor, weight: Tensor, *columns: Tensor) -> Iterator[Tensor]:
    """Yield columns (n,) of targets; where kernels are kept, zeros at the end round n up so that shapes repeat."""
    n = len(columns[0])
    keeps = states.device.type != "cuda" and keeps_kernels(states.dtype, n, weight.shape[1])
    more = round_up(n, 16) - n if keeps else 0
    return (functional.pad(column, (0, more)) for column in columns)
