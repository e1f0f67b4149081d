"""The work of all parts: models with random weights in the shapes of Qwen2.5, synthetic pairs, and a clock that waits for the card."""

from __future__ import annotations

import json
import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.results import folder, is_tiny
from benchmarks.speed.workload import WARMUP, Work, bpe_tokenizer

_QWEN: dict[str, dict[str, int]] = {
    "0.5B": {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151_936,
    },
    "1.5B": {
        "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
        "intermediate_size": 8960, "vocab_size": 151_936,
    },
}  # fmt: skip
_TINY: dict[str, dict[str, int]] = {
    name: {
        "hidden_size": 16 * heads, "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": 2,
        "intermediate_size": 96, "vocab_size": 4_000,
    }
    for name, heads in (("0.5B", 4), ("1.5B", 6))
}  # fmt: skip
SHAPES = _TINY if is_tiny() else _QWEN
"""Configurations by name; a rehearsal has tiny ones under the same names."""
BATCH = 4 if is_tiny() else 32
"""Rows per optimizer step."""
STEPS = 2 if is_tiny() else 4
TOKENS = 16_384
"""Tokens of a forward pass, at most."""
DTYPE = "float32" if is_tiny() else "bfloat16"


def device() -> torch.device:
    """Return the card, or the CPU in a rehearsal."""
    return torch.device("cpu") if is_tiny() else torch.device("cuda", 0)


def waited() -> None:
    """Wait until the card has done what it was given."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def reset_peak() -> None:
    """Forget the largest amount of memory so far, and give unused memory back."""
    if device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float | None:
    """Return the largest amount of memory that tensors had on the card since `reset_peak`; None on the CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if device().type == "cuda" else None


@cache
def pairs() -> tuple[Path, dict[str, list[int]]]:
    """Write synthetic pairs of 40 to 300 words; return their file, and their tokens by side with the end tokens."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(2, 7))) for _ in range(400)]
    shrink = 8 if is_tiny() else 1

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(low // shrink, high // shrink)))

    rows = [
        {"prompt": f"\n\nHuman: {text(40, 160)}\n\nAssistant:", "chosen": f" {text(24, 140)}", "rejected": f" {text(24, 140)}"}
        for _ in range((WARMUP + STEPS) * BATCH)
    ]
    path = folder() / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenizer = _tokenizer()
    counts = {name: [len(tokenizer(row[name]).input_ids) + (name != "prompt") for row in rows] for name in rows[0]}
    return path, counts


@cache
def _tokenizer() -> Any:
    rng = random.Random(1)
    texts = [" ".join("".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(2, 7))) for _ in range(50)) for _ in range(50)]
    return bpe_tokenizer(texts, 1000)


def model(shape: str) -> Path:
    """Write a model with random weights of this shape, unless it is there; return its directory."""
    path = folder() / shape
    if not (path / "config.json").is_file():
        from transformers import Qwen2Config, Qwen2ForCausalLM

        torch.manual_seed(0)
        config = Qwen2Config(
            **SHAPES[shape], max_position_embeddings=4096, tie_word_embeddings=True,
            pad_token_id=0, eos_token_id=1, bos_token_id=None, initializer_range=0.02,
        )  # fmt: skip
        with device():
            made = Qwen2ForCausalLM(config)
        made.to("cpu", getattr(torch, DTYPE)).save_pretrained(path)
        _tokenizer().save_pretrained(path)
    return path


def work(stage: str, shape: str) -> Work:
    """Return the work of a stage as `benchmarks.speed` describes it."""
    return Work(stage, str(model(shape)), str(pairs()[0]), DTYPE, STEPS, BATCH, tokens=0 if is_tiny() else TOKENS)


class EnoughError(Exception):
    """Ends a stage after its last measured step, so that it does not write its model."""


def scratch(name: str) -> Path:
    """Return an empty folder."""
    path = folder() / f"{name}-{os.getpid()}-{random.SystemRandom().randrange(1 << 30)}"
    path.mkdir()
    return path
