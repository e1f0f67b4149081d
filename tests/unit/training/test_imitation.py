"""Rows become trees once: what cannot be used is counted and told, and a resumed run reads what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.core import DataError, Demonstration, Message
from palate.data.formats import Dropped
from palate.runs.record import RunPlan, read_record
from palate.runs.run import Run, open_run
from palate.testing import word_tokenizer
from palate.text.spans import demonstration_tree
from palate.text.treefile import TreeFile
from palate.training.imitation import trees_of

TOKENIZER = word_tokenizer()


def row(number: int, words: int) -> Demonstration:
    return Demonstration((Message("text", "the cook"), Message("text", " has" * words)), (1,), f"a.jsonl:{number}")


ROWS = [row(1, 1), Dropped("a.jsonl:2", "empty completion"), row(3, 90), row(4, 2), row(5, 91)]


def made(run: Run, rows: list[Demonstration | Dropped] | Iterator[Demonstration | Dropped]) -> TreeFile:
    return trees_of(run, rows, lambda row: (demonstration_tree(TOKENIZER, row, 20),), "a.jsonl")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path, RunPlan("sft", "sft"))


def test_rows_that_cannot_be_used_are_counted_in_the_run(run: Run) -> None:
    trees = made(run, ROWS)
    assert list(trees) == [demonstration_tree(TOKENIZER, row(0, words), 20) for words in (1, 2)]
    record = read_record(run.directory)
    assert record is not None
    assert record.dropped == {"a.jsonl": {"empty completion": 1, "too long": 2}}


def test_a_resumed_run_reads_what_was_written(run: Run) -> None:
    first = list(made(run, ROWS))

    def untouched() -> Iterator[Demonstration]:
        raise AssertionError("read again")
        yield

    assert list(made(run, untouched())) == first


def test_when_no_row_is_left_the_first_one_and_the_remedy_are_named(run: Run) -> None:
    told = r"2 x too long; 1 x empty completion; the first, a\.jsonl:2, says: empty completion\. .*raise max_tokens"
    with pytest.raises(DataError, match=told):
        made(run, [row for row in ROWS if not (isinstance(row, Demonstration) and row.source[-1] in "14")])
