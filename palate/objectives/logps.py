"""Log-probabilities of chosen tokens from hidden states, without holding the logits of all rows at once.

The language-model head turns (n, d) hidden states into (n, v) logits, by far the largest tensor of a step. A step needs only n numbers of
it. So these functions compute `chunk` rows at a time and discard them, and the backward pass computes them again. Products run in the
type of `hidden`. Everything after them runs in float32 (float64 for float64).

The largest temporaries are two blocks of (chunk, v) in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.core import ConfigError

Linear = Callable[[Tensor, Tensor], Tensor]
"""Computes `x @ weight.T`: torch's own function, or a faster one that the caller passes."""

BLOCK_CELLS = 1 << 22
"""Logits in a block: 16 MiB of float32."""
_FLOOR = -1e4
"""Stands in for -inf where it is multiplied by a probability of 0; `exp` of it is 0 in any type."""


def token_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
    linear: Linear = functional.linear,
) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target and the entropy of its distribution, both (n,), nats, float32; the entropy is detached.

    `log_softmax((hidden @ weight.T + bias) / temperature)` at the targets. It is differentiable once in hidden, weight and bias.
    A logit of -inf has probability 0 and adds nothing to the entropy.

    Args:
        hidden: (n, d), states that predict the targets.
        weight: (v, d) of the language-model head; cast to the type of `hidden` for the products.
        targets: (n,) long, token ids.
        bias: (v,) or None.
        temperature: divides the logits; use the temperature of sampling.
        chunk: rows worked on at once; None takes as many as keep a block in the processor's cache.
        linear: computes the products.

    Raises:
        ConfigError: temperature or chunk is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f"token_logps: temperature must be > 0, got {temperature}; greedy sampling leaves nothing to learn from")
    products = _Products(rows_at_once(len(weight), chunk), linear)
    hidden, weight, bias = _leaves(hidden, weight, bias)
    logps, entropy = _TokenLogps.apply(hidden, weight, bias, targets, temperature, products)  # type: ignore[no-untyped-call]
    return logps, entropy


def summed_nll(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    bias: Tensor | None = None,
    chunk: int | None = None,
    linear: Linear = functional.linear,
) -> tuple[Tensor, Tensor]:
    """Return `sum -w logp` (0-d) and the log-probabilities (n,) detached, both float32.

    The forward pass forms the gradient while it holds each block of logits, which takes one product fewer than `token_logps`. Until the
    backward pass this needs memory of the size of the weight. No gradient flows to `weights`.

    Args:
        hidden: (n, d), states that predict the targets.
        weight: (v, d) of the language-model head; cast to the type of `hidden` for the products.
        targets: (n,) long, token ids.
        weights: (n,), how much each token counts; 0 leaves it out.
        bias: (v,) or None.
        chunk: rows worked on at once; None takes as many as keep a block in the processor's cache.
        linear: computes the products.

    Raises:
        ConfigError: chunk is not positive.
    """
    products = _Products(rows_at_once(len(weight), chunk), linear)
    hidden, weight, bias = _leaves(hidden, weight, bias)
    total, logps = _SummedNll.apply(hidden, weight, bias, targets, weights, products)  # type: ignore[no-untyped-call]
    return total, logps


@dataclass(frozen=True)
class _Products:
    """How products are computed: `chunk` rows at once, by `linear`."""

    chunk: int
    linear: Linear


def rows_at_once(vocabulary: int, chunk: int | None = None) -> int:
    """Return the number of rows in a block: `chunk`, or from 128, below which products are slow, to 1,024."""
    if chunk is None:
        return min(1024, max(128, BLOCK_CELLS // vocabulary))
    if chunk < 1:
        raise ConfigError(f"log-probabilities: chunk must be at least 1 row, got {chunk}; leave it out to let Palate choose")
    return chunk


def _leaves(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the tensors, detached when torch records no gradient, so that the functions below form none."""
    if torch.is_grad_enabled():
        return hidden, weight, bias
    return hidden.detach(), weight.detach(), None if bias is None else bias.detach()


def _wide(hidden: Tensor) -> torch.dtype:
    """Return the type of everything after the products."""
    return torch.promote_types(hidden.dtype, torch.float32)


def _blocks(n: int, chunk: int) -> Iterator[slice]:
    """Yield n rows in blocks of at most `chunk`."""
    return (slice(start, min(start + chunk, n)) for start in range(0, n, chunk))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, linear: Linear) -> Tensor:
    """Return logits (rows, v) in the wide type, as a new tensor that the caller may write to."""
    # Under autocast the forward pass would run in another type than the backward pass, which runs outside of autocast.
    with torch.autocast(hidden.device.type, enabled=False):
        logits = linear(hidden, weight).to(_wide(hidden))
    if bias is not None:
        logits += bias
    return logits if temperature == 1.0 else logits.div_(temperature)


class _Gradients:
    """Gradients of the head, added block by block in the wide type; None where autograd does not need one."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, needed: tuple[bool, ...], linear: Linear) -> None:
        wide = _wide(hidden)
        self._linear = linear
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if needed[1] else None
        self.bias = torch.zeros(bias.shape, dtype=wide, device=bias.device) if bias is not None and needed[2] else None

    def add(self, rows: slice, logits: Tensor, hidden: Tensor, weight: Tensor) -> None:
        """Add the gradient of a block of logits (rows, v); `hidden` is the block, and `weight` has the type of `hidden`."""
        if self.bias is not None:
            self.bias += logits.sum(0)
        narrow = logits.to(hidden.dtype)
        if self.hidden is not None:
            with torch.autocast(hidden.device.type, enabled=False):
                self.hidden[rows] = self._linear(narrow, weight.T)
        if self.weight is not None and narrow.dtype == self.weight.dtype:
            self.weight.addmm_(narrow.T, hidden)
        elif self.weight is not None:
            self.weight += narrow.T @ hidden


class _TokenLogps(torch.autograd.Function):
    """See `token_logps`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, products: _Products
    ) -> tuple[Tensor, Tensor]:
        logps, entropy, log_normaliser = (torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device) for _ in range(3))
        narrow = weight.to(hidden.dtype)
        for rows in _blocks(len(hidden), products.chunk):
            logits = _logits(hidden[rows], narrow, bias, temperature, products.linear)
            top = logits.amax(1, keepdim=True)
            likelihood = logits.sub_(top).exp()
            total = likelihood.sum(1)
            log_normaliser[rows] = top[:, 0] + total.log()
            logps[rows] = logits.gather(1, targets[rows, None])[:, 0] - total.log()
            energy = torch.einsum("nv,nv->n", likelihood, logits.clamp_min_(_FLOOR))
            entropy[rows] = total.log() - energy / total
        ctx.save_for_backward(hidden, weight, bias, targets, log_normaliser)
        ctx.temperature, ctx.products = temperature, products
        ctx.mark_non_differentiable(entropy)
        return logps, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_normaliser = ctx.saved_tensors
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad, ctx.products.linear)
        narrow = weight.to(hidden.dtype)
        for rows in _blocks(len(hidden), ctx.products.chunk):
            scale = (grad[rows, None] / ctx.temperature).to(log_normaliser.dtype)
            logits = _logits(hidden[rows], narrow, bias, ctx.temperature, ctx.products.linear)
            logits.sub_(log_normaliser[rows, None]).exp_().mul_(-scale).scatter_add_(1, targets[rows, None], scale)
            gradients.add(rows, logits, hidden[rows], narrow)
        return gradients.hidden, _as(gradients.weight, weight), _as(gradients.bias, bias), None, None, None


class _SummedNll(torch.autograd.Function):
    """See `summed_nll`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, products: _Products
    ) -> tuple[Tensor, Tensor]:
        logps = torch.empty(len(hidden), dtype=_wide(hidden), device=hidden.device)
        weights = weights.to(logps.dtype)
        narrow = weight.to(hidden.dtype)
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad, products.linear)
        for rows in _blocks(len(hidden), products.chunk):
            logits = _logits(hidden[rows], narrow, bias, 1.0, products.linear)
            logits.sub_(logits.amax(1, keepdim=True))
            chosen = logits.gather(1, targets[rows, None])
            total = logits.exp_().sum(1, keepdim=True)
            logps[rows] = (chosen - total.log())[:, 0]
            scale = weights[rows, None]
            logits.mul_(scale / total).scatter_add_(1, targets[rows, None], -scale)
            gradients.add(rows, logits, hidden[rows], narrow)
        # A sum over many tokens may be beyond float16, and the caller may scale it down.
        narrowed = (gradients.weight, gradients.bias)
        if weight.dtype != torch.float16:
            narrowed = _as(gradients.weight, weight), _as(gradients.bias, bias)
        ctx.save_for_backward(gradients.hidden, *narrowed)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(logps)
        # A token left out may have log-probability -inf: 0 * inf would be NaN.
        return -torch.where(weights == 0, weights, weights * logps).sum(), logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _logps: Tensor) -> tuple[Tensor | None, ...]:
        formed = (
            None if saved is None else (saved * grad.to(saved.dtype)).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*formed, None, None, None)


def _as(gradient: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    """Return the gradient in the type of its parameter."""
    return gradient if gradient is None or parameter is None else gradient.to(parameter.dtype)
