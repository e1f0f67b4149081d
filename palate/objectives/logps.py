"""Log-probabilities of chosen tokens from hidden states, without ever holding logits for all of them.

The language-model head turns (n, d) hidden states into (n, v) logits, by far the largest tensor of a step. Only n numbers of
it are wanted, so it is computed `chunk` rows at a time and thrown away; the backward pass computes it again. The products run in
the type of `hidden`, everything after them in float32 (float64 for float64).

Largest temporary: two blocks of (chunk, v) in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from palate.core import ConfigError
from palate.objectives.cpu_products import linear

BLOCK_CELLS = 1 << 22
"""Logits of a block: 16 MiB of float32."""
_FLOOR = -1e4
"""Stands in for -inf where it is multiplied by a probability of 0; `exp` of it is 0 in any type."""


def token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None, temperature: float = 1.0, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of its distribution, both (n,), nats, float32; the entropy is detached.

    `log_softmax((hidden @ weight.T + bias) / temperature)` at the targets. Differentiable once in hidden, weight and bias.
    Logits of -inf have probability 0 and add nothing to the entropy.

    Args:
        hidden: (n, d), states that predict the targets.
        weight: (v, d) of the language-model head; cast to the type of `hidden` for the products.
        targets: (n,) long, token ids.
        bias: (v,) or None.
        temperature: the logits are divided by it; use the one that was sampled with.
        chunk: rows worked on at once; none takes as many as keep a block in the processor's cache.

    Raises:
        ConfigError: temperature or chunk is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f"token_logps: temperature must be > 0, got {temperature}; greedy sampling leaves nothing to learn from")
    chunk = _rows_at_once(len(weight), chunk)
    hidden, weight, bias = _leaves(hidden, weight, bias)
    logps, entropy = _TokenLogps.apply(hidden, weight, bias, targets, temperature, chunk)  # type: ignore[no-untyped-call]
    return logps, entropy


def summed_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, *, bias: Tensor | None = None, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """`sum -w logp` (0-d) and the log-probabilities (n,) detached, both float32.

    The gradient is formed in the forward pass, while each block of logits is at hand: one product fewer than `token_logps`. It costs
    memory of the size of the weight until the backward pass. No gradient flows to `weights`.

    Args:
        hidden: (n, d), states that predict the targets.
        weight: (v, d) of the language-model head; cast to the type of `hidden` for the products.
        targets: (n,) long, token ids.
        weights: (n,), how much each token counts; 0 leaves it out.
        bias: (v,) or None.
        chunk: rows worked on at once; none takes as many as keep a block in the processor's cache.

    Raises:
        ConfigError: chunk is not positive.
    """
    chunk = _rows_at_once(len(weight), chunk)
    hidden, weight, bias = _leaves(hidden, weight, bias)
    total, logps = _SummedNll.apply(hidden, weight, bias, targets, weights, chunk)  # type: ignore[no-untyped-call]
    return total, logps


def _rows_at_once(vocabulary: int, chunk: int | None) -> int:
    """Rows of a block: between 128, below which products are slow, and 1,024."""
    if chunk is None:
        return min(1024, max(128, BLOCK_CELLS // vocabulary))
    if chunk < 1:
        raise ConfigError(f"log-probabilities: chunk must be at least 1 row, got {chunk}; leave it out")
    return chunk


def _leaves(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors as the functions below need them: detached when no gradient is recorded, so that none is formed."""
    if torch.is_grad_enabled():
        return hidden, weight, bias
    return hidden.detach(), weight.detach(), None if bias is None else bias.detach()


def _wide(hidden: Tensor) -> torch.dtype:
    """Type of everything after the products."""
    return torch.promote_types(hidden.dtype, torch.float32)


def _blocks(n: int, chunk: int) -> Iterator[slice]:
    """Rows in blocks of at most `chunk`."""
    return (slice(start, min(start + chunk, n)) for start in range(0, n, chunk))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Logits (rows, v) in the wide type, a tensor of their own that may be written to."""
    # Under autocast the forward pass would run in another type than the backward pass, which is outside of it.
    with torch.autocast(hidden.device.type, enabled=False):
        logits = linear(hidden, weight).to(_wide(hidden))
    if bias is not None:
        logits += bias
    return logits if temperature == 1.0 else logits.div_(temperature)


class _Gradients:
    """Gradients of the head, added block by block in the wide type; those nobody asked for are None."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, needed: tuple[bool, ...]) -> None:
        wide = _wide(hidden)
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if needed[1] else None
        self.bias = torch.zeros(bias.shape, dtype=wide, device=bias.device) if bias is not None and needed[2] else None

    def add(self, rows: slice, logits: Tensor, hidden: Tensor, weight: Tensor) -> None:
        """Takes in the gradient of a block of logits (rows, v); `hidden` is the block, `weight` in the type of `hidden`."""
        if self.bias is not None:
            self.bias += logits.sum(0)
        narrow = logits.to(hidden.dtype)
        if self.hidden is not None:
            with torch.autocast(hidden.device.type, enabled=False):
                self.hidden[rows] = linear(narrow, weight.T)
        if self.weight is not None and narrow.dtype == self.weight.dtype:
            self.weight.addmm_(narrow.T, hidden)
        elif self.weight is not None:
            self.weight += narrow.T @ hidden


class _TokenLogps(torch.autograd.Function):
    """See `token_logps`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logps, entropy, log_normaliser = (torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device) for _ in range(3))
        narrow = weight.to(hidden.dtype)
        for rows in _blocks(len(hidden), chunk):
            logits = _logits(hidden[rows], narrow, bias, temperature)
            top = logits.amax(1, keepdim=True)
            likelihood = logits.sub_(top).exp()
            total = likelihood.sum(1)
            log_normaliser[rows] = top[:, 0] + total.log()
            logps[rows] = logits.gather(1, targets[rows, None])[:, 0] - total.log()
            energy = torch.einsum("nv,nv->n", likelihood, logits.clamp_min_(_FLOOR))
            entropy[rows] = total.log() - energy / total
        ctx.save_for_backward(hidden, weight, bias, targets, log_normaliser)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropy)
        return logps, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_normaliser = ctx.saved_tensors
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad)
        narrow = weight.to(hidden.dtype)
        for rows in _blocks(len(hidden), ctx.chunk):
            scale = (grad[rows, None] / ctx.temperature).to(log_normaliser.dtype)
            logits = _logits(hidden[rows], narrow, bias, ctx.temperature)
            logits.sub_(log_normaliser[rows, None]).exp_().mul_(-scale).scatter_add_(1, targets[rows, None], scale)
            gradients.add(rows, logits, hidden[rows], narrow)
        return gradients.hidden, _as(gradients.weight, weight), _as(gradients.bias, bias), None, None, None


class _SummedNll(torch.autograd.Function):
    """See `summed_nll`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logps = torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device)
        weights = weights.to(logps.dtype)
        narrow = weight.to(hidden.dtype)
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad)
        for rows in _blocks(len(hidden), chunk):
            logits = _logits(hidden[rows], narrow, bias, 1.0)
            logits.sub_(logits.amax(1, keepdim=True))
            chosen = logits.gather(1, targets[rows, None])
            total = logits.exp_().sum(1, keepdim=True)
            logps[rows] = (chosen - total.log())[:, 0]
            scale = weights[rows, None]
            logits.mul_(scale / total).scatter_add_(1, targets[rows, None], -scale)
            gradients.add(rows, logits, hidden[rows], narrow)
        ctx.save_for_backward(gradients.hidden, _as(gradients.weight, weight), _as(gradients.bias, bias))
        ctx.mark_non_differentiable(logps)
        # A token left out may have log-probability -inf: 0 * inf would be NaN.
        return -torch.where(weights == 0, weights, weights * logps).sum(), logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _logps: Tensor) -> tuple[Tensor | None, ...]:
        formed = (None if saved is None else saved * grad.to(saved.dtype) for saved in ctx.saved_tensors)
        return (*formed, None, None, None)


def _as(gradient: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    """The gradient in the type of its parameter."""
    return gradient if gradient is None or parameter is None else gradient.to(parameter.dtype)
