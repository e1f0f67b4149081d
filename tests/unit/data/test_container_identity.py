"""Any rows in any container say the same, and what is read, written and read again is the same."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import Message, Preference, UnpairedPreference
from palate.data.formats import preference_row, prompt_row, read_preferences, read_prompts, read_unpaired, unpaired_row
from palate.data.jsonl import write_rows
from tests.unit.data.test_round_trip import chat, plain, preferences

CONTAINERS = ("a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.tsv", "semicolons.csv", "a.parquet")
LONG = "word " * 40_000
Row = dict[str, object]


def save(path: Path, rows: Sequence[Row]) -> Path:
    """The rows in the container that the name says; a table holds lists and numbers as texts."""
    if path.suffix == ".parquet":
        names = dict.fromkeys(name for row in rows for name in row)  # Arrow takes the columns of the first row
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    elif path.suffix in (".csv", ".tsv"):
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [{name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()} for row in rows]
        separator = {"a.csv": ",", "a.tsv": "\t"}.get(path.name, ";")
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, columns, delimiter=separator)
            writer.writeheader()
            writer.writerows(cells)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8", newline="")
    else:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows).encode()
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def answer(text: str) -> list[Row]:
    """A turn of the assistant."""
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("name", CONTAINERS)
def test_preferences_are_the_same_in_every_container(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    @settings(max_examples=25)
    @given(rows=st.lists(preferences(), min_size=1, max_size=3, unique_by=lambda row: row.prompt.id))
    def check(rows: list[Preference]) -> None:
        folder = tmp_path_factory.mktemp("rows")
        is_plain = rows[0].prompt.conversation[0].role == "text"
        written = [preference_row(row) for row in rows if (row.prompt.conversation[0].role == "text") == is_plain]
        for row in written:
            row.update({key: str(value) for key, value in row.items() if key in ("answer", "level")})  # a table has no types
        mixed = {type(value) for row in written for key, value in row.items() if key in ("prompt", "chosen", "rejected")}
        if name == "a.parquet" and len(mixed) > 1:
            return  # a column has one type
        table = read_preferences(save(folder / name, written))
        assert not table.dropped
        again = [preference_row(row) for row in table.rows]
        assert again == written
        write_rows(folder / "again.jsonl", again)
        assert [preference_row(row) for row in read_preferences(folder / "again.jsonl").rows] == written

    check()


@pytest.mark.parametrize("name", CONTAINERS)
def test_labels_long_cells_and_fields_are_the_same_in_every_container(tmp_path: Path, name: str) -> None:
    turns = [{"role": "user", "content": "a\r\nb\rc\x00\ufeff d"}]
    rows: list[Row] = [
        {"id": "1", "prompt": turns, "completion": answer(LONG), "label": True, "weight": 0.5, "fields": {"note": "8.0"}},
        {
            "id": "2",
            "prompt": turns,
            "completion": answer(" 7\n"),
            "label": False,
            "weight": 1.0,
            "fields": {"note": "[{x"},
        },
    ]
    read: list[UnpairedPreference] = read_unpaired(save(tmp_path / name, rows)).rows
    assert [unpaired_row(row) for row in read] == rows
    assert read[0].prompt.conversation == (Message("user", "a\r\nb\rc\x00\ufeff d"),)


@settings(max_examples=20)
@given(st.lists(plain, min_size=1, max_size=3) | st.lists(chat, min_size=1, max_size=3))
def test_prompts_read_from_parquet_can_be_written(tmp_path_factory: pytest.TempPathFactory, prompts: Sequence[object]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows: list[Row] = [
        {"prompt": p if isinstance(p, str) else [{"role": t.role, "content": t.text} for t in p], "score": float("nan")} for p in prompts
    ]
    read = read_prompts(save(folder / "a.parquet", rows)).rows
    write_rows(folder / "b.jsonl", map(prompt_row, read))
    assert [prompt_row(row) for row in read_prompts(folder / "b.jsonl").rows] == [prompt_row(row) for row in read]
