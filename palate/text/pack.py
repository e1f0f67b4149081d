"""Pack token trees flat, without padding. A trunk is computed once, and its branches attend to it and to themselves.

A demonstration is a trunk with one branch, a preference pair has two branches, and a group of rollouts has n. What a stage learns
or scores is in branches: a trunk's tokens are never targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from palate.core import DataError
from palate.text.attention_plan import AttentionPlan, Ints, Spans, plan_attention


@dataclass(frozen=True)
class Branch:
    """One completion: token ids, and True where a token is learned."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Raises DataError for an empty branch or a mask of another length."""
        if not self.ids or len(self.ids) != len(self.learned):
            raise DataError(
                f"a branch needs tokens and a mask entry for each: got {len(self.ids)} tokens, {len(self.learned)} mask entries"
            )


@dataclass(frozen=True)
class Tree:
    """A prompt's tokens and the branches that continue it."""

    trunk: tuple[int, ...]
    branches: tuple[Branch, ...]
    source_name: str = field(default="", compare=False)
    """The name of the source that it is from, where examples of several sources are told apart."""

    def __post_init__(self) -> None:
        """Raises DataError without a trunk token or without a branch."""
        if not self.trunk or not self.branches:
            raise DataError(f"a tree needs a trunk token and a branch: got {len(self.trunk)} tokens and {len(self.branches)} branches")

    @property
    def tokens(self) -> int:
        """Trunk and branch tokens together."""
        return len(self.trunk) + sum(len(branch.ids) for branch in self.branches)


def longest_of(trees: Sequence[Tree]) -> int:
    """Return the most tokens of a sequence that joins a trunk with a branch, of any two of the trees; some objectives join them."""
    return max(len(tree.trunk) for tree in trees) + max(len(branch.ids) for tree in trees for branch in tree.branches)


class Segment(NamedTuple):
    """The flat token range of a trunk or a branch. For a trunk, `trunk_start == trunk_end`."""

    start: int
    end: int
    trunk_start: int
    trunk_end: int


@dataclass(frozen=True)
class PackedBatch:
    """Trees laid flat, with t tokens, n targets (all branch tokens in order) and b branches."""

    trees: tuple[Tree, ...]
    input_ids: Tensor
    """(t,) token ids."""
    position_ids: Tensor
    """(t,) positions; a branch continues those of its trunk."""
    segments: tuple[Segment, ...]
    """Trunk and branches of each tree, in flat order."""
    sources: Tensor
    """(n,) flat index of the hidden state that predicts each target. A branch's first target is predicted by the trunk's last token."""
    targets: Tensor
    """(n,) token ids to predict."""
    learned: Tensor
    """(n,) True where the target is learned."""
    branch: Tensor
    """(n,) branch number of each target."""
    last: Tensor
    """(b,) flat index of each branch's last token."""
    tree: Tensor
    """(b,) tree number of each branch."""
    layout: AttentionPlan
    """Which token attends to which."""
    limit: int | None = None
    """Tokens of one forward pass; None where the batch is one pass, whatever its size."""

    def parts(self) -> list[PackedBatch]:
        """The batch itself, or pieces of at most `limit` tokens if it has more than twice as many and a tree has more than two branches.

        Pieces cost a pass over the trunk each, and are computed again for gradients. So a tree that is hardly too large stays whole, and
        so does a pair. The branches of a tree stay in order. A branch that is too long with its trunk is a piece alone.
        """
        if self.limit is None or len(self.input_ids) <= 2 * self.limit or len(self.last) <= 2 * len(self.trees):
            return [self]
        return [pack(piece) for piece in _pieces(self.trees, self.limit)]


def _pieces(trees: Sequence[Tree], limit: int) -> list[list[Tree]]:
    """Cut trees into lists of at most `limit` tokens that keep the order of branches."""
    pieces: list[list[Tree]] = [[]]
    room = limit
    for tree in trees:
        own: list[Branch] = []
        for branch in tree.branches:
            if len(branch.ids) + (0 if own else len(tree.trunk)) > room and (own or pieces[-1]):
                if own:
                    pieces[-1].append(Tree(tree.trunk, tuple(own)))
                pieces.append([])
                own, room = [], limit
            room -= len(branch.ids) + (0 if own else len(tree.trunk))
            own.append(branch)
        pieces[-1].append(Tree(tree.trunk, tuple(own)))
    return pieces


def pack(trees: Sequence[Tree], limit: int | None = None) -> PackedBatch:
    """The batch of `trees`, in order, to be computed in passes of at most `limit` tokens. Raises DataError if there is no tree."""
    if not trees:
        raise DataError("nothing to pack: the list of trees is empty")
    pieces = [ids for tree in trees for ids in (tree.trunk, *(branch.ids for branch in tree.branches))]
    num_branches = np.array([len(tree.branches) for tree in trees])
    length = np.array([len(ids) for ids in pieces])
    end = np.cumsum(length)
    start, tokens = end - length, int(end[-1])

    trunk_of_tree = np.cumsum(num_branches + 1) - num_branches - 1
    trunk_of = np.repeat(trunk_of_tree, num_branches + 1)  # per segment, the segment number of its trunk
    is_branch = np.arange(len(pieces)) != trunk_of
    trunk = np.where(is_branch, length[trunk_of], 0)
    trunk_start = np.where(is_branch, start[trunk_of], start)

    input_ids = np.fromiter(chain.from_iterable(pieces), np.int64, tokens)
    position_ids = np.arange(tokens) - np.repeat(start - trunk, length)
    branch_length = length[is_branch]
    target_index = np.flatnonzero(np.repeat(is_branch, length))
    sources = target_index - 1
    sources[np.cumsum(branch_length) - branch_length] = end[trunk_of[is_branch]] - 1
    learned = np.fromiter(chain.from_iterable(b.learned for tree in trees for b in tree.branches), np.bool_, len(sources))
    tensor = torch.from_numpy
    return PackedBatch(
        trees=tuple(trees),
        input_ids=tensor(input_ids),
        position_ids=tensor(position_ids),
        segments=tuple(map(Segment, start.tolist(), end.tolist(), trunk_start.tolist(), (trunk_start + trunk).tolist())),
        sources=tensor(sources),
        targets=tensor(input_ids[target_index]),
        learned=tensor(learned),
        branch=tensor(np.repeat(np.arange(len(branch_length)), branch_length)),
        last=tensor(end[is_branch] - 1),
        tree=tensor(np.repeat(np.arange(len(trees)), num_branches)),
        layout=plan_attention(_spans(Spans(start, length, trunk_start, trunk), trunk_of_tree[num_branches == 1]), tokens),
        limit=limit,
    )


def _spans(segments: Spans, lonely: Ints) -> Spans:
    """The segments as attention sees them. A trunk with one branch (its number is in `lonely`) is one plain sequence."""
    length = segments.length.copy()
    length[lonely] += length[lonely + 1]
    keep = np.ones(len(length), np.bool_)
    keep[lonely + 1] = False
    return Spans(segments.start[keep], length[keep], segments.trunk_start[keep], segments.trunk[keep])


def cut_by_tokens(trees: Sequence[Tree], tokens_per_microbatch: int) -> list[list[int]]:
    """Indices of trees, the longest first, in micro-batches of at most `tokens_per_microbatch` tokens.

    A larger tree is alone in its micro-batch, and `pack` with this limit computes it in parts. Every tree is in exactly one micro-batch.
    """
    cut: list[list[int]] = []
    room = 0
    sizes = [tree.tokens for tree in trees]
    for index in sorted(range(len(trees)), key=lambda i: (-sizes[i], i)):
        if not cut or sizes[index] > room:
            cut.append([])
            room = tokens_per_microbatch
        cut[-1].append(index)
        room -= sizes[index]
    return cut
