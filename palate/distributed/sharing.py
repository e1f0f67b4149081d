"""How work on a model is shared out over ranks: by micro-batch, or by prompt. All ranks get all results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import TypeVar, cast

from palate.distributed.ranks import ranks
from palate.text.pack import Tree, cut_by_tokens

P = TypeVar("P")
T = TypeVar("T")


def mine(parts: Iterable[P]) -> Iterator[P]:
    """Yield this rank's share of some parts: every world-th. Where the longest come first, shares are about equal."""
    group = ranks()
    return islice(parts, group.rank, None, group.world)


def shared(parts: Iterable[P], measure: Callable[[P], T]) -> list[T]:
    """Return what `measure` gives for each part, in order. Each rank measures its share, and all get all results."""
    return rejoined([measure(part) for part in mine(parts)])


def rejoined(results: list[T]) -> list[T]:
    """Return the results of all parts, in order, from those of this rank's share."""
    shares = ranks().gather(results)
    rounds = zip_longest(*shares, fillvalue=_NOTHING)
    return [cast("T", result) for results in rounds for result in results if result is not _NOTHING]


_NOTHING = object()


def microbatches(trees: Sequence[Tree], tokens_per_microbatch: int) -> list[list[int]]:
    """Return the numbers of trees in micro-batches of at most `tokens_per_microbatch` tokens, so many that every rank has work."""
    world = ranks().world
    even = -(-sum(tree.tokens for tree in trees) // world)
    return cut_by_tokens(trees, min(tokens_per_microbatch, even) if world > 1 else tokens_per_microbatch)
