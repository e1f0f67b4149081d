"""Files that come in and go out by the pages and the API: what `palate exchange` reads and writes, of one project."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from palate.core import ConfigError, DataError
from palate.data.exchange import WRITABLE, Exchange, read_exchange, write_exchange
from palate.ratings import ImportResult, Project
from palate.web.service import Service
from palate.web.upload_checks import remarks

Taken = tuple[ImportResult, Exchange, tuple[str, ...]]

ENDINGS = {"palate": "jsonl", "trl": "jsonl", "mt-bench": "jsonl", "hh": "jsonl", "csv": "csv"}
"""Endings of the files written; the others are `.json`."""
TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8", "json": "application/json", "zip": "application/zip"}
KINDS = tuple(shape.name for shape in WRITABLE)


def take_file(service: Service, project: Project, content: IO[bytes], name: str) -> Taken:
    """What was added of an uploaded file, what the file said, and what is odd about it.

    Raises:
        DataError: it cannot be read, or a row is at fault; the message names row and field. Nothing was added.
    """
    ending = "".join(PurePosixPath(name.replace("\\", "/")).suffixes[-2:]).lower()
    if ending.endswith((".gz", ".zip")):  # it can hold a thousand times of what a request may bring
        raise DataError(f"{name}: is packed. Unpack it first.")
    if not re.fullmatch(r"(\.\w{1,12}){0,2}", ending):
        ending = ".jsonl"
    with _folder() as folder:
        file = folder / f"upload{ending or '.jsonl'}"
        with file.open("wb") as copy:
            shutil.copyfileobj(content, copy)
        return _take(service, project, file, name)


def take_rows(service: Service, project: Project, rows: Iterable[Mapping[str, object]]) -> Taken:
    """As `take_file`, of rows sent as JSON; the first tells of which kind they are."""
    with _folder() as folder:
        file = folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return _take(service, project, file, "items")


def export_file(service: Service, project: Project, kind: str) -> FileResponse:
    """The project as a file to keep, of one moment; several in a ZIP where the kind has several.

    Raises:
        DataError: there is no such kind, or it cannot hold the project; the message says what.
    """
    folder = Path(tempfile.mkdtemp(prefix="palate-export-"))
    away = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        file = _written(service.ratings.as_exchange(project.id), folder, kind)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ConfigError | DataError):
            raise DataError(str(error).replace(f"{folder}/", "")) from error
        raise
    return FileResponse(file, media_type=TYPES[file.suffix[1:]], filename=file.name, background=away)


def _written(exchange: Exchange, folder: Path, kind: str) -> Path:
    file = folder / f"judgments.{ENDINGS.get(kind, 'json')}"
    done = write_exchange(exchange, file, kind)
    if not done.beside:
        return file
    packed = folder / "judgments.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in (file, *done.beside):
            archive.write(one, one.name)
    return packed


def _take(service: Service, project: Project, file: Path, name: str) -> Taken:
    try:
        exchange = read_exchange(file)
        odd = remarks(exchange, service.settings.media)
        return service.ratings.import_exchange(exchange, project.name, service.clock()), exchange, odd
    except DataError as error:
        raise DataError(str(error).replace(str(file), name)) from error


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder: some kinds of files look for others beside them."""
    with tempfile.TemporaryDirectory(prefix="palate-import-") as folder:
        yield Path(folder)
