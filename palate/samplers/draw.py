"""From logits to tokens: temperature, top-k, top-p, min-p, and the log-probability under the distribution truly sampled.

Inverse-CDF sampling: one uniform number per token drawn, not one per entry of the vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from palate.core import ConfigError, Sampling, TrainingError

_BLOCK = 512
"""Vocabulary entries whose mass is summed before the search: a cumulative sum over 32,000 entries costs three times as much."""

_NUCLEUS_START = 64
"""Entries that are first tried as the nucleus of top-p; widened eightfold until the nucleus fits, so that no full sort is needed."""


def check_sampling(sampling: Sampling) -> None:
    """Nothing; raises `ConfigError` for a setting that describes no distribution."""
    temperature, top_p, top_k, max_tokens = sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens
    rules = [
        (temperature >= 0 and np.isfinite(temperature), "temperature", temperature, "0 (greedy) or a positive number"),
        (0 < top_p <= 1, "top_p", top_p, "above 0 and at most 1 (1 keeps everything)"),
        (0 <= sampling.min_p <= 1, "min_p", sampling.min_p, "0 (keeps everything) to 1 (keeps the likeliest)"),
        (top_k >= 0, "top_k", top_k, "0 (keeps everything) or a positive number of tokens"),
        (max_tokens >= 1, "max_tokens", max_tokens, "at least 1"),
    ]
    for is_met, name, got, rule in rules:
        if not is_met:
            raise ConfigError(f"sampling.{name} is {got}: it must be {rule}")


def request_uniforms(seed: int, prompt: int, sample: int, length: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 (length,), for the token positions of one request.

    They depend on nothing but the arguments, and a longer row starts with the shorter one; so a completion does not
    depend on the batch it was drawn in, nor on how many samples were asked for.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, prompt, sample]))).random(length)


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Drawn tokens (b,) and their log-probabilities (b,) in nats, from logits (b, v) and uniforms (b,).

    The distribution is softmax(logits / temperature), cut to the `top_k` largest entries (ties at the edge: exactly
    `top_k` stay), renormalised, cut to the smallest set whose mass reaches `top_p`, cut to what has at least `min_p` times
    the largest probability (Nguyen et al. 2024), renormalised; the log-probabilities are those of this last distribution.
    Temperature 0 is greedy decoding: the whole mass lies on the largest logit, so every log-probability is 0. A token of
    probability zero is never drawn.

    Raises:
        TrainingError: a drawn token's probability is not a number, as with logits that are NaN or infinite.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        best, tokens = logits.max(-1)
        _require_finite(best)
        return tokens, torch.zeros_like(best)
    kept: Tensor | None = None
    if 0 < sampling.top_k < logits.shape[-1]:
        logits, kept = logits.topk(sampling.top_k)
    if sampling.temperature != 1:
        logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature  # from 0 down: no overflow at small temperatures
    probabilities = torch.softmax(logits, -1)
    if sampling.top_p < 1:
        probabilities, nucleus = _nucleus(probabilities, sampling.top_p)
        kept = nucleus if kept is None else kept.gather(-1, nucleus)
    if sampling.min_p > 0:
        probabilities = probabilities * (probabilities >= sampling.min_p * probabilities.amax(-1, keepdim=True))
    place, mass = _inverse_cdf(probabilities, uniforms)
    logps = (probabilities.gather(-1, place) / mass).log()[:, 0].float()
    _require_finite(logps)
    return (place if kept is None else kept.gather(-1, place))[:, 0], logps


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The largest probabilities (b, w) in falling order, 0 outside the smallest set of mass `top_p`, and their entries (b, w)."""
    size = probabilities.shape[-1]
    width = min(_NUCLEUS_START, size)
    while True:
        largest, entries = probabilities.topk(width)
        reached = largest.cumsum(-1, dtype=torch.float64)
        if width == size or bool((reached[:, -1] >= top_p).all()):
            before = reached - largest  # mass of what is more probable: an entry is needed as long as this is short of top_p
            return largest * (before < top_p), entries
        width = min(8 * width, size)


def _inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The entry (b, 1) where the running sum of each row first exceeds uniform * total, and the total (b, 1), float64.

    Two levels, blocks and then entries of one block, with running sums in float64. The threshold is kept below the
    row's last running sum, so the search ends at an entry that raised the sum: one of non-zero probability.
    """
    rows, size = probabilities.shape
    width = min(_BLOCK, size)
    padding = -size % width
    blocks = (torch.nn.functional.pad(probabilities, (0, padding)) if padding else probabilities).view(rows, -1, width)
    running = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    mass = running[:, -1:]
    threshold = _below(uniforms[:, None].double() * mass, mass)
    block = torch.searchsorted(running, threshold, right=True).clamp_(max=blocks.shape[1] - 1)
    inside = blocks.gather(1, block[:, :, None].expand(-1, 1, width))[:, 0].cumsum(-1, dtype=torch.float64)
    start = torch.where(block > 0, running.gather(1, (block - 1).clamp_(min=0)), 0.0)
    entry = torch.searchsorted(inside, _below(threshold - start, inside[:, -1:]), right=True).clamp_(max=width - 1)
    return (block * width + entry).clamp_(max=size - 1), mass


def _below(values: Tensor, bound: Tensor) -> Tensor:
    """`values`, or the largest float64 below `bound` where they reach it."""
    return torch.minimum(values, torch.nextafter(bound, torch.zeros_like(bound)))


def _require_finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise TrainingError(
            "the policy's logits are not finite (NaN or infinite), so no token can be drawn: the weights have diverged; "
            "go back to an earlier checkpoint, or lower the learning rate"
        )
