"""The one door of uploaded files: what a file is goes by its content, and what it may unpack to is limited before it is read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import IO

from palate.core import DataError
from palate.web.admission import MOST_CONTAINERS
from palate.web.unpacking import unpack

PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a ZIP archive, as spreadsheets and documents are",
    b"PK\x05\x06": "a ZIP archive, as spreadsheets and documents are",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x04\x22\x4d\x18": "LZ4",
    b"ARROW1": "Arrow",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"\xd0\xcf\x11\xe0": "a document of an old office program",
}
"""The first bytes of formats whose content can be a thousand times larger than the file."""

MOST_CELLS = 10_000_000
"""Most commas and line ends in a table. Each can be a cell or a row of its own."""

_PARQUET = b"PAR1"
_ENDINGS = (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z", ".xlsx", ".xls", ".ods")
_CHUNK = 2**20


def received(content: IO[bytes], name: str, folder: Path, most_bytes: int) -> Path:
    """Write an upload to a file in `folder` that can be read as it is, and return the file.

    Args:
        content: the upload.
        name: its name, which the sender chose. Only the ending counts.
        folder: an empty folder.
        most_bytes: the most that the file may unpack to.

    Raises:
        DataError: the file is packed, or unpacks to more than it may.
    """
    ending = "".join(PurePosixPath(name.replace("\\", "/")).suffixes[-2:]).lower()
    head = content.read(8)
    content.seek(0)
    kind = next((kind for first, kind in PACKED.items() if head.startswith(first)), "")
    if kind or ending.endswith(_ENDINGS):
        raise DataError(f"{name}: the file is packed{f' ({kind})' if kind else ''}. Unpack it, and give its rows as .jsonl or .csv.")
    if not re.fullmatch(r"(\.\w{1,12}){1,2}", ending):
        ending = ".jsonl"
    is_parquet = head.startswith(_PARQUET)
    if ending.endswith(".parquet") and not is_parquet:
        raise DataError(f"{name}: is not a Parquet file. Write it again, or give the rows as .jsonl.")
    file = folder / f"upload{'.parquet' if is_parquet else ending}"
    with file.open("wb") as copy:
        shutil.copyfileobj(content, copy)
    if not is_parquet:
        _check_size(file, name, is_table=ending.endswith((".csv", ".tsv")))
        return file
    lines = folder / "upload.jsonl"
    try:
        unpack(file, lines, most_bytes)
    except DataError as error:
        raise DataError(str(error).replace(str(file), name)) from error
    finally:
        file.unlink()  # readers of some kinds look for other files beside the one that they read
    return lines


def _check_size(file: Path, name: str, *, is_table: bool) -> None:
    """Refuse a text that is small as a file and large in memory, because it is made of empty lists or cells."""
    marks, most, what = (b",\n", MOST_CELLS, "cells") if is_table else (b"[{", MOST_CONTAINERS, "lists and objects")
    count = 0
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            count += sum(chunk.count(mark) for mark in marks)
    if count > most:
        raise DataError(f"{name}: holds up to {count} {what}, more than {most}. Give it in several files.")
