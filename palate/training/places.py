"""What stages find in each other's run directories, and how they read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from palate.core import DataError, Demonstration, Prompt
from palate.data.formats import Dropped, read_prompts
from palate.models.causal import CausalPolicy
from palate.rewards.learned import Card
from palate.runs.run import Run
from palate.text.pack import PackedBatch, Tree, microbatches, pack
from palate.text.spans import prompt_ids
from palate.text.template import Unusable
from palate.text.treefile import TreeFile, write_trees

NO_LIMIT = 1 << 30
"""Tokens of a model that names no limit."""


def model_at(path: str) -> str:
    """The model directory that a path means: `model/` of a run directory, or its `adapter/`, else the path itself (or a hub's name)."""
    return next((str(inside) for inside in (Path(path) / "model", Path(path) / "adapter") if inside.is_dir()), path)


def trusted(run: Run, path: str, accuracy: float, spread: float) -> Card | None:
    """The card of the reward model at `path`; None, and a warning, where it has none and so cannot be checked.

    Raises:
        TrainingError: its accuracy or its spread is too low to be trusted.
    """
    card = Card.read_from(model_at(path))
    if card is not None:
        card.require_trust(accuracy, spread)
    elif not run.is_resumed:
        run.warn(0, {"card": f"{path} has no card.json, so nobody knows how good it is: it is taken as it is"}, {})
    return card


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


def trees_of(
    run: Run, rows: Iterable[Demonstration | Dropped], make: Callable[[Demonstration], Iterable[Tree]], path: str, folder: str = "trees"
) -> TreeFile:
    """What `make` makes of the rows, tokenised once into the run's state; rows that cannot be used are counted in the run, by reason.

    A resumed run reads what was written before.

    Raises:
        DataError: no row is left.
    """
    directory = run.state / folder
    if directory.is_dir():
        return TreeFile(directory)
    reasons: Counter[str] = Counter()
    first: list[Dropped] = []

    def trees() -> Iterator[tuple[str, Tree]]:
        for row in rows:
            run.check_stop()
            try:
                if not isinstance(row, Dropped):
                    yield from ((row.source, tree) for tree in make(row))
                    continue
                dropped = row
            except Unusable as unusable:
                dropped = Dropped(row.source, unusable.reason)
            reasons[dropped.kind] += 1
            first[:] = first or [dropped]

    found = write_trees(directory, trees())
    run.dropped(path, reasons.elements())
    if not found:
        told = "; ".join(f"{count} x {kind}" for kind, count in reasons.most_common())
        raise DataError(
            f"{path}: no row can be learned from: {told}; the first, {first[0].source}, says: {first[0].reason}. "
            "Rows too long need a higher max_tokens (as far as the model goes), or to be shorter; docs/data.md explains the other reasons"
        )
    return found


def packed(trees: Sequence[Tree], tokens_per_microbatch: int) -> Callable[[list[int]], Iterator[PackedBatch]]:
    """A function from tree numbers to their micro-batches, packed one after another."""

    def batches(indices: list[int]) -> Iterator[PackedBatch]:
        chosen = [trees[k] for k in indices]
        return (pack([chosen[k] for k in part]) for part in microbatches(chosen, tokens_per_microbatch))

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
