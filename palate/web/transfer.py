"""Files that enter and leave a project through the pages and the API: the kinds that `palate exchange` reads and writes."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from palate.core import ConfigError, DataError
from palate.data.exchange import WRITABLE, Exchange, read_exchange, write_exchange
from palate.data.exchange.contents import is_shown
from palate.ratings import ImportResult, Project
from palate.web.display import media_file
from palate.web.service import Service
from palate.web.uploads import received

Upload = tuple[ImportResult, Exchange, tuple[str, ...]]
"""What was added, what the file held, and notes for the person who uploaded it."""

ENDINGS = dict.fromkeys(("palate", "trl", "mt-bench", "hh"), "jsonl") | {"csv": "csv"}
"""Endings of the files that an export writes. Kinds that are not listed end in `.json`."""
CONTENT_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8", "json": "application/json", "zip": "application/zip"}
WITHOUT_PEOPLE = frozenset({"mt-bench-pairs", "mt-bench-single", "alpaca-outputs", "alpaca-leaderboard"})
"""Kinds of files that hold no judgments of people, so pages do not offer them."""
EXPORT_KINDS = tuple(shape.name for shape in WRITABLE if shape.name not in WITHOUT_PEOPLE)
MAX_NAMED = 3
"""Missing files that a note names."""


def import_file(service: Service, project: Project, content: IO[bytes], name: str) -> Upload:
    """Add the items and judgments of an uploaded file to the project.

    Raises:
        DataError: the file cannot be read, or a row is invalid. The message names row and field, and nothing was added.
    """
    with _empty_folder() as folder:
        return _import(service, project, received(content, name, folder, service.settings.limits.upload), name)


def import_rows(service: Service, project: Project, rows: Iterable[Mapping[str, object]]) -> Upload:
    """Add rows that were sent as JSON, like `import_file`. The first row decides their kind."""
    with _empty_folder() as folder:
        file = folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return _import(service, project, file, "items")


def export_file(service: Service, project: Project, kind: str) -> FileResponse:
    """Return the project at one moment as a file. A kind with several files comes as a ZIP.

    Raises:
        DataError: the kind does not exist, or it cannot hold the project; the message says why.
    """
    folder = Path(tempfile.mkdtemp(prefix="palate-export-"))
    clean_up = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        file = _write(service.ratings.as_exchange(project.id), folder, kind)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ConfigError | DataError):
            raise DataError(str(error).replace(f"{folder}/", "")) from error
        raise
    return FileResponse(file, media_type=CONTENT_TYPES[file.suffix[1:]], filename=file.name, background=clean_up)


def _write(exchange: Exchange, folder: Path, kind: str) -> Path:
    file = folder / f"judgments.{ENDINGS.get(kind, 'json')}"
    written = write_exchange(exchange, file, kind)
    if not written.beside:
        return file
    archive_path = folder / "judgments.zip"
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (file, *written.beside):
            archive.write(path, path.name)
    return archive_path


def _import(service: Service, project: Project, file: Path, name: str) -> Upload:
    try:
        exchange = read_exchange(file)
        notes = upload_notes(exchange, service.settings.media)
        return service.ratings.import_exchange(exchange, project.name, service.clock()), exchange, notes
    except DataError as error:
        raise DataError(str(error).replace(str(file), name)) from error


@contextmanager
def _empty_folder() -> Iterator[Path]:
    """A folder for one file. It is empty because readers of some kinds look for other files beside it."""
    with tempfile.TemporaryDirectory(prefix="palate-import-") as folder:
        yield Path(folder)


def upload_notes(exchange: Exchange, media_folder: Path | None) -> tuple[str, ...]:
    """Return notes for the person who uploads items, one sentence each: missing media, empty prompts, blank completions.

    Args:
        exchange: the content of the upload.
        media_folder: the folder from which media are served; None if there is none.

    Raises:
        DataError: the items name media, and none of them exists.
    """
    candidates = [candidate for item in exchange.items for candidate in item.candidates]
    names = list(dict.fromkeys(candidate.media for candidate in candidates if candidate.media and is_shown(candidate.media)))
    missing = [name for name in names if media_file(media_folder, name) is None]
    if missing and len(missing) == len(names):
        where = f"none of them is in the media folder {media_folder}" if media_folder else "the server was started without --media"
        raise DataError(f"The items name {len(names)} media files such as {missing[0]!r}, and {where}. Nothing was added.")
    prompts = sum(bool(item.conversation) and not item.conversation[-1].text.strip() for item in exchange.items)
    blank = sum(not candidate.text.strip() and not candidate.media for candidate in candidates)
    notes = []
    if missing:
        first, more = ", ".join(missing[:MAX_NAMED]), ", ..." if len(missing) > MAX_NAMED else ""
        notes.append(f"{len(missing)} of {len(names)} media files are missing in the media folder: {first}{more}")
    if prompts:
        notes.append(f"{prompts} {'prompt is' if prompts == 1 else 'prompts are'} empty")
    if blank:
        notes.append(f"{blank} {'completion is' if blank == 1 else 'completions are'} blank")
    return tuple(notes)
