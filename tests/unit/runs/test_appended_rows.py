"""Files that another process appends to are followed: each row once, and all again where the file begins anew."""

from pathlib import Path

import pytest

from palate.data.jsonl import RowWriter, write_rows
from palate.runs.appended_rows import AppendedRows


def test_each_row_comes_once_and_a_half_written_one_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    rows = AppendedRows(file)
    assert rows.take() == (False, [])
    with file.open("a") as out:
        out.write('{"step": 0}\n{"st')
    assert rows.take() == (False, [{"step": 0}])
    assert rows.take() == (False, [])
    with file.open("a") as out:
        out.write('ep": 1}\n\n{"step": 2}\n')
    assert rows.take() == (False, [{"step": 1}, {"step": 2}])


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    write_rows(file, [{"step": k} for k in range(1000)])
    rows = AppendedRows(file)
    assert len(rows.take()[1]) == 1000
    with file.open("r+b") as old:
        old.write(b"x" * 9000)  # whoever read the file whole would find these
    with RowWriter(file) as writer:
        writer.append({"step": 1000})
    assert rows.take() == (False, [{"step": 1000}])
    assert rows.fault == ""


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_file_that_was_written_anew_is_read_from_its_beginning(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    write_rows(file, [{"step": k, "loss": 1.0} for k in range(5)])
    rows = AppendedRows(file)
    rows.take()
    new = [{"step": k, "loss": 1.0 if k < kept else 2.0} for k in range(kept)]
    write_rows(file, new)
    assert rows.take() == (True, new)
    more = [{"step": k, "loss": 2.0} for k in range(kept, 9)]
    write_rows(file, [*new, *more])  # longer than it ever was
    is_new, found = rows.take()
    assert (new if not is_new else []) + found == [*new, *more]


def test_a_file_of_another_run_that_is_longer_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    write_rows(file, [{"step": k, "loss": 1.0} for k in range(3)])
    rows = AppendedRows(file)
    rows.take()
    other = [{"step": k, "loss": 2.0} for k in range(9)]
    write_rows(file, other)
    assert rows.take() == (True, other)
    file.unlink()
    assert rows.take() == (True, [])
    assert rows.take() == (False, [])


def test_a_line_that_is_not_a_row_is_named_and_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 0}\n[1]\n\xff\n{"step": NaN}\n{"step": 3}\n')
    rows = AppendedRows(file)
    assert rows.take() == (False, [{"step": 0}, {"step": 3}])
    assert rows.fault == "line 2 of metrics.jsonl is not a row: not a JSON object: list"
