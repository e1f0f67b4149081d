"""The loop that one would write with transformers alone: padded batches, autocast, AdamW. It computes the same losses on the same rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from benchmarks.gpu.work import DTYPE, device, waited
from benchmarks.speed.workload import WARMUP, Work

ROWS = 8
"""Rows of a micro-batch, both sides of a pair counted as one."""


def plain_steps(one: Work) -> list[float]:
    """Return the seconds of each measured optimizer step."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(one.model)
    torch.manual_seed(0)
    auto, more = (AutoModelForSequenceClassification, {"num_labels": 1}) if one.stage == "reward" else (AutoModelForCausalLM, {})
    module = auto.from_pretrained(one.model, dtype=torch.float32, **more).to(device())
    reference = auto.from_pretrained(one.model, dtype=getattr(torch, DTYPE)).to(device()).eval() if one.stage.startswith("dpo") else None
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    module.train()
    size = min(ROWS, one.batch)
    rows = [_ids(tokenizer, row, one.stage) for row in one.pairs]
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    references = [] if reference is None else [_reference_logps(reference, part) for part in parts]
    del reference
    ends = []
    per_step = one.batch // size
    for step in range(WARMUP + one.steps):
        for k in range(step * per_step, (step + 1) * per_step):
            with torch.autocast(device().type, getattr(torch, DTYPE), enabled=DTYPE != "float32"):
                loss = _loss(module, parts[k], one.stage, references[k] if references else None)
            torch.autograd.backward(loss / per_step)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        waited()
        ends.append(time.perf_counter())
    return [after - before for before, after in zip(ends[WARMUP - 1 :], ends[WARMUP:], strict=False)]


Row = tuple[list[int], list[list[int]]]
"""A prompt's ids, and those of its completions."""


def _ids(tokenizer: Any, row: dict[str, str], stage: str) -> Row:
    sides = ("chosen",) if stage == "sft" else ("chosen", "rejected")
    return tokenizer(row["prompt"]).input_ids, [[*tokenizer(row[side]).input_ids, tokenizer.eos_token_id] for side in sides]


def _padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids and mask (b, w) of all sequences, chosen ones first, and which targets (b, w - 1) are of completions."""
    sequences = [(prompt, sides[k]) for k in range(len(rows[0][1])) for prompt, sides in rows]
    width = max(len(prompt) + len(side) for prompt, side in sequences)
    ids, mask, learned = (torch.zeros(len(sequences), width, dtype=torch.long) for _ in range(3))
    for k, (prompt, side) in enumerate(sequences):
        end = len(prompt) + len(side)
        ids[k, :end], mask[k, :end], learned[k, len(prompt) : end] = torch.tensor(prompt + side), 1, 1
    return ids.to(device()), mask.to(device()), learned[:, 1:].bool().to(device())


def _loss(module: Any, rows: Sequence[Row], stage: str, reference: Tensor | None) -> Tensor:
    ids, mask, learned = _padded(rows)
    if stage == "sft":
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        return cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100).flatten(), ignore_index=-100)
    if stage == "reward":
        chosen, rejected = module(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()[:, 0].chunk(2)
        return -logsigmoid(chosen - rejected).mean()
    assert reference is not None
    chosen, rejected = (_logps(module, ids, mask, learned) - reference).chunk(2)
    return -logsigmoid(0.1 * (chosen - rejected)).mean()


def _logps(module: Any, ids: Tensor, mask: Tensor, learned: Tensor) -> Tensor:
    """Return the log-probability of each completion (b,)."""
    logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return cast("Tensor", (each * learned).sum(1))


@torch.no_grad()
def _reference_logps(module: Any, rows: Sequence[Row]) -> Tensor:
    return _logps(module, *_padded(rows))
