"""What a packed file may unpack to, at the door where files come in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.core import DataError
from palate.web import uploads
from palate.web.uploads import received

MEGABYTE = 2**20


def parquet(**columns: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()


def taken(content: bytes, name: str, folder: Path, most_bytes: int = MEGABYTE) -> Path:
    return received(io.BytesIO(content), name, folder, most_bytes)


def test_a_parquet_file_becomes_lines(tmp_path: Path) -> None:
    content = parquet(prompt=["p", "q"], completions=[["a", "b"], ["c", "d"]], n=[1, None])
    file = taken(content, "x.PARQUET", tmp_path)
    assert file.read_text() == '{"prompt": "p", "completions": ["a", "b"], "n": 1}\n{"prompt": "q", "completions": ["c", "d"], "n": null}\n'
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


TEXT = "x" * MEGABYTE
BOMBS = {
    "a page of the dictionary": lambda: parquet(prompt=pa.DictionaryArray.from_arrays([0] * 300, [TEXT])),
    "one cell": lambda: parquet(prompt=[TEXT * 20]),
    "nested lists": lambda: parquet(prompt=[[[TEXT] * 4] * 5]),
    "many rows": lambda: parquet(prompt=[""] * 200_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_parquet_file_that_holds_much_is_refused(tmp_path: Path, name: str) -> None:
    content = BOMBS[name]()
    assert len(content) < 100_000
    with pytest.raises(DataError, match=r"^b.parquet: unpacks to more than 1048576 bytes"):
        taken(content, "b.parquet", tmp_path)
    assert not (tmp_path / "upload.parquet").exists()


def test_a_damaged_parquet_file_is_told_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^b.parquet: not a readable Parquet file"):
        taken(parquet(prompt=["p"])[:-9] + b"12345PAR1", "b.parquet", tmp_path)
    with pytest.raises(DataError, match="is not a Parquet file"):
        taken(b'{"prompt": "p"}', "b.parquet", tmp_path)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", "{}")
    return file.getvalue()


PACKED = {
    "gzip": gzip.compress(b"{}", mtime=0),
    "bzip2": bz2.compress(b"{}"),
    "xz": lzma.compress(b"{}"),
    "zip": zipped(),
    "zstandard": b"\x28\xb5\x2f\xfd...",
    "arrow": b"ARROW1..",
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a"])
def test_a_packed_file_is_known_by_its_content(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(DataError, match="is packed"):
        taken(PACKED[kind], name, tmp_path)


@pytest.mark.parametrize("name", ["a.gz", "a.jsonl.gz", "a.zip", "a.xlsx", "a.ods", "A.ZST"])
def test_and_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is packed"):
        taken(b"{}", name, tmp_path)


@pytest.mark.parametrize(("name", "line"), [("a.jsonl", b'{"a": []}\n'), ("a.json", b"[],"), ("a.csv", b",,,\n")])
def test_a_text_of_empty_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: bytes) -> None:
    monkeypatch.setattr(uploads, "MOST_CONTAINERS", 100)
    monkeypatch.setattr(uploads, "MOST_CELLS", 100)
    assert taken(line * 20, name, tmp_path).read_bytes() == line * 20
    with pytest.raises(DataError, match="more than 100"):
        taken(line * 200, name, tmp_path)
