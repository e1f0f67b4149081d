"""The machine's limits: its matmul and memory rates, and the operations and bytes that decoding needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palate.samplers.onednn import Weight

WIDTH = {"float32": 4, "bfloat16": 2}
"""Bytes per number, by dtype."""


@dataclass(frozen=True)
class Rates:
    """Floating-point operations per second of a square product by dtype, with torch and with packed weights, and bytes read per second."""

    plain: dict[str, float]
    packed: dict[str, float]
    read: float


def rates(size: int = 2048) -> Rates:
    """Measure each limit as the best of several tries."""
    plain, packed = {}, {}
    for dtype in WIDTH:
        a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
        with torch.inference_mode():
            weight = Weight.of(b)
            plain[dtype] = 2 * size**3 / quickest(lambda a=a, b=b: torch.mm(a, b))  # type: ignore[misc]
            packed[dtype] = 2 * size**3 / quickest(lambda a=a, weight=weight: weight(a))  # type: ignore[misc]
    much = torch.ones(64 << 20)
    return Rates(plain, packed, 4 * much.numel() / quickest(much.sum))


def quickest(act: Callable[[], Any]) -> float:
    """Return the best seconds of seven tries, after a warm-up."""
    seconds = []
    for _ in range(8):
        begun = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


@dataclass(frozen=True)
class Needs:
    """The least that the prompts and completions of one call need: floating-point operations and bytes read."""

    flops: float
    bytes_read: float


def needs(model: dict[str, Any], prompts: Sequence[int], completions: Sequence[int], slots: int, dtype: str) -> Needs:
    """Return it for prompts and completions of these numbers of tokens, one completion per prompt.

    A product costs 2 operations a weight and token, the head at the prompt's last token and each of the completion's; attention 4 a cell
    and query dimension. Read are all weights once a step, of which there are as many as tokens for each slot, and at least as many as in
    the longest completion; and a row's keys and values once for each new token.
    """
    d, layers = model["hidden_size"], model["num_hidden_layers"]
    head = d // model["num_attention_heads"]
    keys = head * model["num_key_value_heads"]
    weights = layers * (2 * d * d + 2 * d * keys + 3 * d * model["intermediate_size"])
    vocabulary = d * model["vocab_size"]
    flops, cells = 0.0, 0.0
    for prompt, completion in zip(prompts, completions, strict=True):
        seen = sum(range(prompt + 1, prompt + completion))
        cells += seen
        flops += 2 * weights * (prompt + completion - 1) + 2 * vocabulary * completion + 4 * layers * d * (prompt**2 / 2 + seen)
    steps = max(sum(completions) / slots, max(completions))
    return Needs(flops, WIDTH[dtype] * (steps * (weights + vocabulary) + 2 * layers * keys * cells))
