"""Random token trees."""

from __future__ import annotations

import random
from collections.abc import Sequence

from palate.text.pack import Branch, Tree


def random_trees(shapes: Sequence[tuple[int, Sequence[int]]], vocabulary: int, seed: int = 0) -> list[Tree]:
    """One tree for each (trunk length, branch lengths); random ids below `vocabulary`, about three tokens in four learned."""
    rng = random.Random(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(count))

    def branch(count: int) -> Branch:
        return Branch(ids(count), tuple(rng.random() < 0.75 for _ in range(count)))

    return [Tree(ids(trunk), tuple(branch(length) for length in lengths)) for trunk, lengths in shapes]
