"""Keep token trees on disk: write them once, and read them one at a time, so that a data set need not fit in memory.

`trees.bin` holds a record of int32 per tree:

- the number of branches, the tokens of the trunk, and the tokens of each branch;
- all ids in that order, where a learned token is stored as its complement `~id`, which is negative;
- the name of the row that the tree was made of, as UTF-8 padded with zeros.

`offsets.npy` says where each record begins. It is the only part that stays in memory (8 bytes per tree).
"""

from __future__ import annotations

import json
import shutil
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np

from palate.core import Message, Prompt
from palate.text.pack import Branch, Tree

_BYTES = 4


class TreeFile(Sequence[Tree]):
    """The trees in a directory that `write_trees` wrote, in the order written.

    Attributes:
        tokens: the tokens of all trees together, including trunks.
        learned: the learned tokens of all trees.
        sources: how many trees are of each source of rows, in the order written; {} where there is one source.
        prompts: the first few prompts of the rows.
    """

    def __init__(self, directory: Path) -> None:
        numbers = json.loads((directory / "numbers.json").read_text(encoding="utf-8"))
        self.tokens, self.learned = int(numbers["tokens"]), int(numbers["learned"])
        self.sources: dict[str, int] = numbers.get("sources", {})
        self._ends = list(accumulate(self.sources.values()))
        self.prompts = [_prompt(fields) for fields in numbers.get("prompts", [])]
        self._offsets = np.load(directory / "offsets.npy")
        # Read, not memory-mapped: mapped pages count as the process's memory until the system needs them.
        self._file = (directory / "trees.bin").open("rb", buffering=0)

    def __len__(self) -> int:
        """The number of trees."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Tree: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tree]: ...

    def __getitem__(self, index: int | slice) -> Tree | list[Tree]:
        """One tree, or a list of them."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        (trunk, *lengths), tokens, _ = self._record(index)
        learned = tokens < 0
        ids, masks = np.where(learned, ~tokens, tokens).tolist(), learned.tolist()
        cuts = pairwise(np.cumsum([trunk, *lengths]).tolist())
        branches = tuple(Branch(tuple(ids[a:b]), tuple(masks[a:b])) for a, b in cuts)
        return Tree(tuple(ids[:trunk]), branches, self._source_name(index))

    def name(self, index: int) -> str:
        """The name of the row that a tree was made of."""
        return self._record(index)[2].tobytes().rstrip(b"\0").decode("utf-8")

    def _source_name(self, index: int) -> str:
        if len(self.sources) < 2:
            return ""
        return list(self.sources)[bisect_right(self._ends, range(len(self))[index])]

    @property
    def source_names(self) -> list[str]:
        """The name of each tree's source; "" for those of one source alone."""
        return [name for name, count in self.sources.items() for _ in range(count)]

    def _record(self, index: int) -> tuple[list[int], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(lengths of trunk and branches, their tokens, the bytes of the name)."""
        start, end = map(int, self._offsets[range(len(self))[index] :][:2])
        self._file.seek(start * _BYTES)
        values = np.frombuffer(self._file.read((end - start) * _BYTES), np.int32)
        head = 2 + int(values[0])
        lengths = values[1:head].tolist()
        return lengths, values[head : head + sum(lengths)], values[head + sum(lengths) :]


def write_trees(
    directory: Path, trees: Iterable[tuple[str, Tree]], sources: Mapping[str, int] | None = None, prompts: Iterable[Prompt] = ()
) -> TreeFile:
    """Write trees, each with the name of its row, and return them as read back. `directory` appears when all are written.

    `sources` and `prompts` are kept with them as they are when all trees are read.
    """
    fresh = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    offsets, tokens, learned = array("q", [0]), 0, 0
    try:
        with (fresh / "trees.bin").open("wb") as file:
            for name, tree in trees:
                record = _record(name, tree)
                file.write(record.tobytes())
                offsets.append(offsets[-1] + len(record))
                tokens += tree.tokens
                learned += sum(sum(branch.learned) for branch in tree.branches)
        np.save(fresh / "offsets.npy", np.frombuffer(offsets, np.int64))
        numbers = {"tokens": tokens, "learned": learned, "sources": sources or {}, "prompts": [asdict(prompt) for prompt in prompts]}
        (fresh / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    fresh.replace(directory)
    return TreeFile(directory)


def _prompt(fields: Mapping[str, Any]) -> Prompt:
    """Return the prompt of its fields as JSON gives them, which knows no tuples."""
    return Prompt(**{**fields, "conversation": tuple(Message(**turn) for turn in fields["conversation"])})


def _record(name: str, tree: Tree) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    head = (len(tree.branches), len(tree.trunk), *(len(branch.ids) for branch in tree.branches))
    ids = ((~i if is_learned else i) for branch in tree.branches for i, is_learned in zip(branch.ids, branch.learned, strict=True))
    letters = name.encode("utf-8")
    letters += bytes(-len(letters) % _BYTES)
    return np.fromiter(chain(head, tree.trunk, ids, np.frombuffer(letters, np.int32).tolist()), np.int32)
