"""Trees come back from disk as they were, one at a time, and a half-written file is no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.text.pack import Branch, Tree
from palate.text.treefile import TreeFile, write_trees

ids = st.integers(0, 2**31 - 1)
branches = st.lists(st.tuples(ids, st.booleans()), min_size=1, max_size=4).map(
    lambda pairs: Branch(tuple(i for i, _ in pairs), tuple(learned for _, learned in pairs))
)
trees = st.builds(Tree, st.lists(ids, min_size=1, max_size=4).map(tuple), st.lists(branches, min_size=1, max_size=3).map(tuple))


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


@given(st.lists(st.tuples(names, trees), max_size=5))
def test_trees_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Tree]]) -> None:
    folder = tmp_path_factory.mktemp("trees") / "trees"
    written = [tree for _, tree in rows]
    for read in (write_trees(folder, rows), TreeFile(folder)):
        assert [read.name(k) for k in range(len(rows))] == [name for name, _ in rows]
        assert list(read) == written
        assert [read[k] for k in reversed(range(len(written)))] == written[::-1]
        assert read[-2:] == written[-2:]
        assert read.tokens == sum(tree.tokens for tree in written)
        assert read.learned == sum(sum(branch.learned) for tree in written for branch in tree.branches)


def test_outside_its_length_there_is_no_tree(tmp_path: Path) -> None:
    read = write_trees(tmp_path / "trees", [("a:1", Tree((1,), (Branch((2,), (True,)),)))])
    assert read[-1] == read[0]
    for index in (1, -2):
        with pytest.raises(IndexError):
            read[index]


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, Tree]]:
        yield "a:1", Tree((1,), (Branch((2,), (True,)),))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trees(tmp_path / "trees", broken())
    assert list(tmp_path.iterdir()) == []
