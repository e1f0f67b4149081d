"""Judgments say the same in every container: what one shape holds as JSON lines, it holds as a table or as Parquet."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.exchange import Exchange, read_exchange
from palate.data.jsonl import read_rows
from tests.support.fuzz import good_files

FLAT = ("trl.jsonl", "mt-bench.jsonl", "flat.jsonl", "counted.jsonl", "items.jsonl", "annotated.json", "hh.jsonl", "argilla.json")
"""Good files whose rows have no column of several types."""

Row = dict[str, Any]


def rows_of(file: Path) -> list[Row]:
    """The rows of a good file, each with an id of its own."""
    rows: list[Row] = json.loads(file.read_text()) if file.suffix == ".json" else [dict(row) for _, row in read_rows(file)]
    return [row if {"id", "idx", "question_id"} & row.keys() else {**row, "id": f"row-{k}"} for k, row in enumerate(rows)]


def contents(exchange: Exchange) -> tuple[object, ...]:
    """Items and votes; further columns of a table are texts."""
    items = [replace(item, fields={name: str(value) for name, value in item.fields.items()}) for item in exchange.items]
    return items, [vote.judgment for vote in exchange.votes], exchange.raters


def save(path: Path, rows: list[Row]) -> Path:
    names = dict.fromkeys(name for row in rows for name in row)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(names), delimiter=";" if path.stem == "b" else ",")
            writer.writeheader()
            writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items() if v is not None} for row in rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", FLAT)
def test_a_shape_is_the_same_in_every_container(name: str, tmp_path: Path) -> None:
    rows = rows_of(next(file for file in good_files(tmp_path) if file.name == name))
    wanted = contents(read_exchange(save(tmp_path / "a.jsonl", rows)))
    assert wanted[0]
    for container in ("a.csv", "b.csv", *(["a.parquet"] if name not in ("items.jsonl", "argilla.json") else [])):
        if container.endswith(".csv") and name == "argilla.json":
            continue  # its fields are objects, which no table has
        assert contents(read_exchange(save(tmp_path / container, rows))) == wanted, container


def test_columns_of_a_vote_that_are_not_read_are_named_once(tmp_path: Path) -> None:
    vote = {"question_id": 1, "model_a": "a", "model_b": "b", "winner": "tie", "judge": "ann", "turn": 1, "note": None}
    file = save(tmp_path / "a.jsonl", [vote, {**vote, "judge": "bob", "note": "x", "ms": 3}, {**vote, "judge": "cid", "note": "y"}])
    assert [(row.source, row.reason) for row in read_exchange(file).dropped] == [(str(file), "columns that are not read: note, ms")]


def test_further_columns_of_an_annotated_pair_are_fields(tmp_path: Path) -> None:
    row = {"idx": 1, "instruction": "Name a side dish.", "response1": "a", "response2": "b", "annotator1": 1, "level": 3, "note": None}
    (item,) = read_exchange(save(tmp_path / "a.jsonl", [row])).items
    assert item.fields == {"instruction": "Name a side dish.", "level": 3}
