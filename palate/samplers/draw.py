"""From logits to tokens: temperature, top-k, top-p, min-p, and the log-probability under the distribution that is sampled.

Sampling inverts the CDF: it needs one uniform number per token, not one per entry of the vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from palate.core import ConfigError, Sampling, TrainingError

_BLOCK = 512
"""Size of the blocks of entries that are summed before the search; a cumulative sum over 32,000 entries takes three times as long."""

_NUCLEUS_START = 64
"""Number of entries first tried as the nucleus of top-p; it grows eightfold until the nucleus fits, which avoids a full sort."""


def check_sampling(sampling: Sampling) -> None:
    """Raise `ConfigError` for a setting that does not describe a distribution."""
    temperature, top_p, top_k, max_tokens = sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens
    rules = [
        (temperature >= 0 and np.isfinite(temperature), "temperature", temperature, "0 (greedy) or a positive number"),
        (0 < top_p <= 1, "top_p", top_p, "above 0 and at most 1 (1 keeps everything)"),
        (0 <= sampling.min_p <= 1, "min_p", sampling.min_p, "0 (keeps everything) to 1 (keeps the likeliest)"),
        (top_k >= 0, "top_k", top_k, "0 (keeps everything) or a positive number of tokens"),
        (max_tokens >= 1, "max_tokens", max_tokens, "at least 1"),
    ]
    for is_valid, name, value, rule in rules:
        if not is_valid:
            raise ConfigError(f"sampling.{name} is {value}: it must be {rule}")


def request_uniforms(seed: int, prompt: int, sample: int, length: int) -> np.ndarray:
    """Return uniform numbers in [0, 1), float64 (length,), for the token positions of one request.

    They depend only on the arguments, and a longer row starts with the shorter one. So a completion depends neither on its batch nor on the
    number of samples requested.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, prompt, sample]))).random(length)


def drawing_device(device: torch.device) -> torch.device:
    """Return where the tokens of a model on this device are drawn: there, or on the CPU where the device has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Draw tokens (b,) and return them with their log-probabilities (b,) in nats, from logits (b, v) and uniforms (b,).

    The distribution starts as softmax(logits / temperature). Then, in this order:
    - keep the `top_k` largest entries (exactly `top_k`, also with ties) and renormalise,
    - keep the smallest set whose mass reaches `top_p`,
    - keep entries with at least `min_p` times the largest probability (Nguyen et al. 2024) and renormalise.

    The log-probabilities are those of the final distribution. Temperature 0 is greedy decoding: the largest logit has the whole mass, so
    every log-probability is 0. A token of probability zero is never drawn.

    Raises:
        TrainingError: the probability of a drawn token is NaN, as with logits that are NaN or infinite.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        best, tokens = logits.max(-1)
        _require_finite(best)
        return tokens, torch.zeros_like(best)
    entries: Tensor | None = None
    if 0 < sampling.top_k < logits.shape[-1]:
        logits, entries = logits.topk(sampling.top_k)
    if sampling.temperature != 1:
        logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature  # at most 0: no overflow at small temperatures
    probabilities = torch.softmax(logits, -1)
    if sampling.top_p < 1:
        probabilities, nucleus = _nucleus(probabilities, sampling.top_p)
        entries = nucleus if entries is None else entries.gather(-1, nucleus)
    if sampling.min_p > 0:
        probabilities = probabilities * (probabilities >= sampling.min_p * probabilities.amax(-1, keepdim=True))
    drawn, mass = _inverse_cdf(probabilities, uniforms)
    logps = (probabilities.gather(-1, drawn) / mass).log()[:, 0].float()
    _require_finite(logps)
    return (drawn if entries is None else entries.gather(-1, drawn))[:, 0], logps


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the largest probabilities (b, w) in descending order, 0 outside the smallest set of mass `top_p`, and their entries (b, w)."""
    size = probabilities.shape[-1]
    width = min(_NUCLEUS_START, size)
    while True:
        largest, entries = probabilities.topk(width)
        reached = largest.cumsum(-1, dtype=torch.float64)
        if width == size or bool((reached[:, -1] >= top_p).all()):
            before = reached - largest  # mass of the more probable entries: an entry belongs to the nucleus while this is below top_p
            return largest * (before < top_p), entries
        width = min(8 * width, size)


def _inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entry (b, 1) where each row's running sum first exceeds uniform * total, and the total (b, 1), float64.

    The search has two levels, blocks and then the entries of one block, with running sums in float64. The threshold stays below the row's
    last running sum, so the search ends at an entry of non-zero probability.
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
    """Return `values`, or the largest float64 below `bound` where they reach it."""
    return torch.minimum(values, torch.nextafter(bound, torch.zeros_like(bound)))


def _require_finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise TrainingError(
            "the policy's logits are not finite (NaN or infinite), so no token can be drawn: the weights have diverged. "
            "Go back to an earlier checkpoint, or lower the learning rate"
        )
