"""Loss and accuracy of each source of rows, where examples are from several.

A micro-batch mixes sources, and stays as it is: the objective is computed again on the rows of each source, from the log-probabilities or
scores that are there. Sums of a source add up over micro-batches and ranks like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from palate.data.data_sources import metric_word
from palate.objectives.reduce import MAXIMUM, Sums, Totals
from palate.text.pack import PackedBatch, Tree


class SourcedExample(Protocol):
    """An example, a dataclass, that knows the source of its tree."""

    @property
    def tree(self) -> Tree:
        """Its tokens."""
        ...

    @property
    def source_name(self) -> str:
        """The name of its source; "" where there is one alone."""
        ...


E = TypeVar("E", bound=SourcedExample)
B = TypeVar("B")


def told_apart(examples: Sequence[E]) -> list[E]:
    """Return the examples with trees that name their source, where they are from several; else as they are."""
    if len({example.source_name for example in examples}) < 2:
        return list(examples)
    return [replace(cast("Any", example), tree=replace(example.tree, source_name=example.source_name)) for example in examples]


def with_sources(sums: Sums, batch: PackedBatch, branch: Tensor, of_rows: Callable[[Tensor], Sums]) -> Sums:
    """Return the sums of a micro-batch with those of each source; as they are where no tree names its source.

    Args:
        sums: the objective on the whole micro-batch.
        batch: its trees.
        branch: (r,) the branch of each row that the objective counts: a token, a pair, a judged completion.
        of_rows: returns the objective on the rows with these numbers, ascending.
    """
    names = [tree.source_name for tree in batch.trees]
    if not any(names):
        return sums
    numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
    source = torch.tensor([numbers[name] for name in names], device=batch.tree.device)[batch.tree[branch]]
    with torch.no_grad():
        own = {name: of_rows((source == k).nonzero()[:, 0]) for name, k in numbers.items() if (source == k).any()}
    return replace(sums, by_source=own)


def taken(batch: B, rows: Tensor) -> B:
    """Return some rows of a dataclass of tensors, and of dataclasses in it, that have one entry per row. Trees stay whole."""
    parts: dict[str, Any] = {}
    for item in fields(cast("Any", batch)):
        value = getattr(batch, item.name)
        if isinstance(value, Tensor):
            parts[item.name] = value[rows]
        elif is_dataclass(value) and not isinstance(value, PackedBatch | type):
            parts[item.name] = taken(value, rows)
    return cast("B", replace(cast("Any", batch), **parts))


def statistics(totals: Totals) -> dict[str, float]:
    """Return metrics as `thing/mean`, or `thing/max` where the maximum is kept; loss and accuracy of a source as `thing_of_<name>/mean`."""
    found = {f"{name.removesuffix(MAXIMUM)}/{'max' if name.endswith(MAXIMUM) else 'mean'}": value for name, value in totals.means().items()}
    for source, own in totals.by_source.items():
        means, word = own.means(), metric_word(source)
        names = {"loss": f"loss_of_{word}/mean", "accuracy": f"accuracy_of_{word}/mean"}
        found |= {name: means[thing] for thing, name in names.items() if thing in means}
    return found
