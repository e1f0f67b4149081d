"""Rows of data as packed trees: tokenised once into the run's state, and cut into micro-batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from palate.core import DataError, Demonstration
from palate.data.formats import Dropped
from palate.runs.run import Run
from palate.text.pack import PackedBatch, Tree, microbatches, pack
from palate.text.template import Unusable
from palate.text.treefile import TreeFile, write_trees


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
