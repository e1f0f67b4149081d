from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import DataError, RunError
from palate.data.jsonl import RowWriter, read_lines, read_rows, write_rows

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
rows_of_json = st.lists(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), values, max_size=4), max_size=5)


@settings(max_examples=30)  # each example waits for the disk
@given(rows=rows_of_json)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    directory = tmp_path_factory.mktemp("rows")
    assert write_rows(directory / "at once.jsonl", rows) == len(rows)
    with RowWriter(directory / "one by one.jsonl") as writer:
        for row in rows:
            writer.append(row)
    expected = list(enumerate(rows, start=1))
    assert list(read_rows(directory / "at once.jsonl")) == expected
    assert list(read_rows(directory / "one by one.jsonl")) == expected


def test_line_separators_of_unicode_do_not_split_a_row(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"text": "one\u2028two\u0085three\nfour"}])
    assert len((tmp_path / "a.jsonl").read_bytes().split(b"\n")) == 2
    assert [row for _, row in read_rows(tmp_path / "a.jsonl")] == [{"text": "one\u2028two\u0085three\nfour"}]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at character 8"),
        (b"[1, 2]", "not a JSON object: list"),
        (b'{"a": NaN}', "not JSON: NaN is not a JSON number"),
        (b'{"a": "\xff"}', "not UTF-8: byte 8 of the line"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
    ],
)
def test_a_faulty_line_is_named_by_its_number(tmp_path: Path, line: bytes, fault: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
    lines = list(read_lines(file))
    assert [(found.number, found.row) for found in lines if not found.fault] == [(1, {"a": 1}), (4, {"a": 2})]
    assert fault in lines[1].fault
    with pytest.raises(DataError, match=rf"a\.jsonl:3: .*{fault[:8]}"):
        list(read_rows(file))


def test_a_missing_file_and_a_broken_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read"):
        list(read_rows(tmp_path / "gone.jsonl"))
    (tmp_path / "a.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: cannot be read"):
        list(read_rows(tmp_path / "a.jsonl.gz"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\ud800"])
def test_what_json_does_not_have_is_refused_with_row_and_column(tmp_path: Path, value: object) -> None:
    write_rows(tmp_path / "a.jsonl", [{"old": 1}])
    with pytest.raises(DataError, match=r"a\.jsonl: row 2 .*column reward"):
        write_rows(tmp_path / "a.jsonl", [{"fine": 1.5}, {"fine": 1, "reward": value}])
    assert list(read_rows(tmp_path / "a.jsonl")) == [(1, {"old": 1})]
    with RowWriter(tmp_path / "a.jsonl") as writer:
        with pytest.raises(DataError, match="row 2 .*column reward"):
            writer.append({"reward": value})
        writer.append({"new": 1})
    assert list(read_rows(tmp_path / "a.jsonl")) == [(1, {"old": 1}), (2, {"new": 1})]


def test_a_failure_while_writing_leaves_the_former_content_and_no_litter(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, object]]:
        yield {"new": 1}
        raise KeyboardInterrupt

    write_rows(tmp_path / "a.jsonl", [{"old": 1}])
    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / "a.jsonl", failing())
    assert list(read_rows(tmp_path / "a.jsonl")) == [(1, {"old": 1})]
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_file_cut_anywhere_goes_on_after_its_last_whole_row(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"n": n, "text": "\u00e9 }"} for n in range(3)]
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    content = b"".join(lines)
    file = tmp_path / "a.jsonl"
    for cut in range(len(content) + 1):
        file.write_bytes(content[:cut])
        # A row whose closing brace was written is whole, with or without its newline.
        whole = sum(cut >= len(b"".join(lines[: n + 1])) - 1 for n in range(3))
        with RowWriter(file) as writer:
            assert writer.rows_done == whole
            for row in rows[whole:]:
                writer.append(row)
            assert writer.rows_done == 3
        assert file.read_bytes() == content


def test_a_reader_at_work_keeps_the_former_content(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"old": 1}])
    with (tmp_path / "a.jsonl").open() as before:
        write_rows(tmp_path / "a.jsonl", [{"new": 1}, {"new": 2}])
        assert before.read() == '{"old": 1}\n'
    assert list(read_rows(tmp_path / "a.jsonl")) == [(1, {"new": 1}), (2, {"new": 2})]
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_rows_written_before_a_kill_stand(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    code = (
        "import sys; from pathlib import Path; from palate.data.jsonl import RowWriter\n"
        "writer = RowWriter(Path(sys.argv[1]))\n"
        "for n in range(5): writer.append({'n': n})\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"ready"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    with RowWriter(file) as writer:
        assert writer.rows_done == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_says_what_stands_and_what_to_do() -> None:
    with (
        RowWriter(Path("/dev/full")) as writer,
        pytest.raises(RunError, match=r"no space left on the device of /dev/full\. Earlier rows are kept\. Free some space"),
    ):
        writer.append({"a": 1})


def test_a_disk_that_fills_up_in_the_middle_of_a_row_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RowWriter(tmp_path / "a.jsonl")
    writer.append({"n": 0})

    class Full:
        """The file as it is when 4 more bytes fit."""

        def __init__(self) -> None:
            self.left = 4
            self.closed = False

        def write(self, data: bytes) -> int:
            if not self.left:
                raise OSError(28, os.strerror(28))
            part, self.left = data[: self.left], 0
            return file.write(part)

        def truncate(self, size: int) -> int:
            return file.truncate(size)

    file = writer._file
    monkeypatch.setattr(writer, "_file", Full())
    with pytest.raises(RunError, match="no space left"):
        writer.append({"n": 1})
    monkeypatch.setattr(writer, "_file", file)
    writer.append({"n": 2})
    writer.close()
    assert [row for _, row in read_rows(tmp_path / "a.jsonl")] == [{"n": 0}, {"n": 2}]


def test_other_failures_of_the_system_are_not_called_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    (tmp_path / "b").touch()
    for path, reason in ((tmp_path / "a.jsonl", "Is a directory"), (tmp_path / "b" / "c.jsonl", "File exists")):
        for write in (RowWriter, lambda path: write_rows(path, [{"a": 1}])):
            with pytest.raises(RunError) as caught:
                write(path)
            assert str(caught.value) == f"{path} cannot be written ({reason}). Name a folder in which you may write."
    with pytest.raises(FileNotFoundError):  # that of another file
        write_rows(tmp_path / "d.jsonl", ({"a": line} for line in (tmp_path / "none" / "e").open()))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl", "b"]
