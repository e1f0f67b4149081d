"""What stages find in each other's run directories, and how they read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from palate.core import DataError, Prompt
from palate.models.causal import CausalPolicy
from palate.stores.formats import Table, dropped_summary, read_prompts
from palate.stores.runs import Run
from palate.text.pack import PackedBatch, Tree, microbatches, pack
from palate.text.spans import prompt_ids
from palate.text.template import Unusable

T = TypeVar("T")
U = TypeVar("U")
NO_LIMIT = 1 << 30
"""Tokens of a model that names no limit."""


def model_at(path: str) -> str:
    """The model directory that a path means: `model/` of a run directory, or its `adapter/`, else the path itself (or a hub's name)."""
    return next((str(inside) for inside in (Path(path) / "model", Path(path) / "adapter") if inside.is_dir()), path)


def file_at(path: str, name: str) -> Path:
    """The file that a path means: `name` in a run directory, else the path itself."""
    inside = Path(path) / name
    return inside if inside.is_file() else Path(path)


def prompts_at(run: Run, path: str, limit: int | None) -> list[Prompt]:
    """Distinct prompts in file order, the dropped rows recorded in the run."""
    table = read_prompts(file_at(path, "prompts.jsonl"), limit=limit)
    run.dropped(path, [row.kind for row in table.dropped])
    distinct = {prompt.conversation: prompt for prompt in reversed(table.rows)}
    return list(distinct.values())[::-1]


def trees_of(run: Run, table: Table[T], make: Callable[[T], U], path: str) -> tuple[list[U], list[T]]:
    """What `make` makes of the rows that can be learned from, and those rows; the others are counted in the run, by reason.

    Raises:
        DataError: no row is left.
    """
    trees, kept, reasons = [], [], [row.kind for row in table.dropped]
    for row in table.rows:
        try:
            trees.append(make(row))
            kept.append(row)
        except Unusable as unusable:
            reasons.append(unusable.kind)
    run.dropped(path, reasons)
    if not trees:
        raise DataError(f"{path}: no row can be learned from ({dropped_summary(table)}; then: {sorted(set(reasons))[:3]})")
    return trees, kept


def packed(trees: Sequence[Tree], tokens_per_microbatch: int) -> Callable[[list[int]], list[PackedBatch]]:
    """A function from tree numbers to their micro-batches."""

    def batches(indices: list[int]) -> list[PackedBatch]:
        chosen = [trees[k] for k in indices]
        return [pack([chosen[k] for k in part]) for part in microbatches(chosen, tokens_per_microbatch)]

    return batches


def fitting(run: Run, prompts: Sequence[Prompt], policy: CausalPolicy, max_tokens: int) -> list[Prompt]:
    """Prompts that leave the model room for a completion of `max_tokens` (or half of what it takes); others are counted in the run.

    Raises:
        DataError: none is left.
    """
    if policy.max_tokens is None:
        return list(prompts)
    room = policy.max_tokens - min(max_tokens, policy.max_tokens // 2)
    kept = [prompt for prompt in prompts if len(prompt_ids(policy.tokenizer, prompt)) <= room]
    run.dropped("prompts too long", [f"prompt longer than {room} tokens, which is what the model takes"] * (len(prompts) - len(kept)))
    if not kept:
        raise DataError(
            f"all {len(prompts)} prompts are longer than {room} tokens: the model takes {policy.max_tokens}, and completions need the "
            "rest. Lower sampling.max_tokens or use shorter prompts"
        )
    return kept
