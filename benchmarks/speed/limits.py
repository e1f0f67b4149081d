"""What the machine could do: its measured matmul rate, and the floating-point operations that a method needs."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.speed.workload import WARMUP, Work, shape
from palate.models.cpu import linear


def rates(size: int = 2048) -> dict[str, float]:
    """Floating-point operations a second of a square matrix product, the best of seven and of two ways to compute it, by dtype."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        seconds = []
        for product in (torch.mm, linear):
            for _ in range(8):
                begun = time.perf_counter()
                product(a, b)
                seconds.append(time.perf_counter() - begun)
        found[str(dtype).removeprefix("torch.")] = 2 * size**3 / min(seconds)
    return found


def needed_flops(work: Work, counts: dict[str, list[int]]) -> float:
    """Floating-point operations of a mean step: the prompt once for both sides, no padding, the head at targets only.

    A product forward costs 2 operations a weight and token, backward 4; causal attention half of a full square. A reward model has no
    vocabulary head. A reference forward counts where it is live.
    """
    model = shape(Path(work.model))
    d, layers = model["hidden_size"], model["num_hidden_layers"]
    head = d // model["num_attention_heads"]
    weights = layers * (
        d * head * (2 * model["num_attention_heads"] + 2 * model["num_key_value_heads"]) + 3 * d * model["intermediate_size"]
    )
    total = 0.0
    used = range(WARMUP * work.batch, (WARMUP + work.steps) * work.batch)
    for k in used:
        prompt, chosen, rejected = (counts[name][k] for name in ("prompt", "chosen", "rejected"))
        sides = [chosen] if work.stage == "sft" else [chosen, rejected]
        tokens = prompt + sum(sides)
        cells = prompt**2 / 2 + sum(side * prompt + side**2 / 2 for side in sides)
        targets = {"sft": tokens, "reward": 0}.get(work.stage, sum(sides))
        forward = 2 * weights * tokens + 4 * layers * d * cells + 2 * d * model["vocab_size"] * targets
        total += forward * (4 if work.stage == "dpo" else 3)
    return total / work.steps
