"""The command that carries judgments between files and databases."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say
from palate.core import ConfigError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.data.exchange import Exchange
    from palate.data.formats.dropped import Dropped
    from palate.ratings import Ratings

SUFFIXES = (".db", ".sqlite", ".sqlite3")
"""Endings of a database's file; one that is there is known by its first bytes."""


def exchange(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate exchange`; returns the exit status."""
    from palate.data.exchange import join_items, read_exchange

    found = exchange_parser().parse(words)
    if _same(found.source, found.target):
        raise ConfigError(f"{found.target} would be read and replaced; give another file to write.")
    if found.project is not None and not (is_database(found.source) or is_database(found.target)):
        raise ConfigError("--project names a project of a database; give one as SOURCE or TARGET.")
    said = _read_database(found) if is_database(found.source) else read_exchange(found.source, found.kind)
    if found.items:
        said = join_items(said, read_exchange(found.items))
    if is_database(found.target):
        _write_database(said, found)
    else:
        _write_file(said, found)
    _tell("dropped", said.dropped)
    return 0


def is_database(word: str) -> bool:
    """Whether the word names a database of ratings rather than a file of judgments."""
    if "://" in word:
        return word.startswith(("postgresql", "sqlite"))
    file = Path(word)
    if file.is_file():
        with file.open("rb") as opened:
            return opened.read(16) == b"SQLite format 3\0"
    return file.suffix.lower() in SUFFIXES


def exchange_parser() -> Parser:
    """What `palate exchange` takes."""
    from palate.data.exchange import READABLE, WRITABLE

    parser = Parser("exchange", COMMANDS["exchange"])
    parser.add_argument("source", help="a file of judgments (JSON lines, JSON, CSV, Parquet), or a database of ratings")
    parser.add_argument(
        "target", help="the file to write, replaced when all of it is written; or a database, to which what is new is added"
    )
    read, written = ([shape.name for shape in shapes] for shapes in (READABLE, WRITABLE))
    parser.add_argument("--from", dest="kind", choices=read, help="how SOURCE is written (default: as its first row is)")
    parser.add_argument("--to", choices=written, help="how TARGET is written (default: palate, which loses nothing)")
    parser.add_argument(
        "--items", metavar="FILE", help="the file that was judged elsewhere: its items, joined by id, with what the tool never saw"
    )
    parser.add_argument("--project", metavar="NAME", help="the database's project (default: its only one; or the one that SOURCE names)")
    return parser


def _same(source: str, target: str) -> bool:
    return source == target or ("://" not in source + target and Path(source).resolve() == Path(target).resolve())


def _opened(url: str, *, create: bool) -> AbstractContextManager[Ratings]:
    try:
        from palate.ratings import use_ratings
    except ImportError as error:
        raise ConfigError(f"A database of ratings needs {error.name}: pip install 'palate[label]'.") from error
    return use_ratings(url, create=create)


def _read_database(found: argparse.Namespace) -> Exchange:
    if found.kind is not None:
        raise ConfigError(f"--from says how a file is written; {found.source} is a database. Leave it out.")
    with _opened(found.source, create=False) as ratings:
        projects = ratings.projects()
        chosen = [one for one in projects if found.project in (None, one.name)]
        if len(chosen) != 1:
            names = ", ".join(repr(one.name) for one in projects) or "none"
            said = "there are several" if found.project is None else f"there is no project {found.project!r}"
            raise ConfigError(f"{found.source}: {said if projects else 'there is no project'}. Name one by --project; there are {names}.")
        return ratings.as_exchange(chosen[0].id)


def _write_database(said: Exchange, found: argparse.Namespace) -> None:
    if found.to is not None:
        raise ConfigError(f"--to says how a file is written; {found.target} is a database. Leave it out.")
    name = found.project or said.name
    if not name:
        raise ConfigError("SOURCE names no project: give the one to add to, or to make, by --project NAME.")
    with _opened(found.target, create=True) as ratings:
        done = ratings.import_exchange(said, name, time.time())
    say(f"{found.target}: {done}")


def _write_file(said: Exchange, found: argparse.Namespace) -> None:
    from palate.data.exchange import WRITABLE, write_exchange

    kind = found.to or "palate"
    done = write_exchange(said, found.target, kind)
    counts = f"{len(said.items)} items, {len(said.votes)} judgments, {len(said.raters)} raters"
    say(f"{found.target}: {done.rows} rows ({counts})" + "".join(f"; {path}" for path in done.beside))
    if lost := next(shape.loses for shape in WRITABLE if shape.name == kind):
        say(f"not kept by {kind}: {lost}")
    _tell("left out", done.left_out)


def _tell(what: str, rows: Iterable[Dropped]) -> None:
    rows = tuple(rows)
    for reason, count in Counter(row.kind for row in rows).most_common():
        first = next(row for row in rows if row.kind == reason)
        say(f"{what}: {count} x {reason}; the first is {first.source}")
