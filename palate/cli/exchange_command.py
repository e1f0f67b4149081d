"""`palate exchange`: convert judgments between files of other tools and the database."""

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
"""Endings of a database's file. An existing file is recognised by its first bytes."""


def exchange(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate exchange`; returns the exit status."""
    from palate.data.exchange import join_items, read_exchange

    options = exchange_parser().parse(words)
    if _same(options.source, options.target):
        raise ConfigError(f"{options.target} is also the source. Give another file to write.")
    if options.project is not None and not (is_database(options.source) or is_database(options.target)):
        raise ConfigError("--project names a project of a database. Give a database as SOURCE or TARGET.")
    if is_database(options.source):
        if options.kind is not None:
            raise ConfigError(f"--from is for files, and {options.source} is a database. Leave out --from.")
        judgments = read_project(options.source, options.project)
    else:
        judgments = read_exchange(options.source, options.kind)
    if options.items:
        judgments = join_items(judgments, read_exchange(options.items))
    if is_database(options.target):
        _write_database(judgments, options)
    else:
        _write_file(judgments, options)
    _report("dropped", judgments.dropped)
    return 0


def is_database(word: str) -> bool:
    """Return whether the word names a database of ratings rather than a file of judgments."""
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
        "target",
        help="the file to write, which is replaced only when complete; or a database, which keeps its judgments and gets the new ones",
    )
    read, written = ([shape.name for shape in shapes] for shapes in (READABLE, WRITABLE))
    parser.add_argument("--from", dest="kind", choices=read, help="the shape of SOURCE (default: that of its first row)")
    parser.add_argument("--to", choices=written, help="the shape of TARGET (default: palate, which loses nothing)")
    parser.add_argument(
        "--items", metavar="FILE", help="the items as they were before another tool had them: adds what the tool did not keep"
    )
    parser.add_argument("--project", metavar="NAME", help="the database's project (default: the only one, or the one that SOURCE names)")
    return parser


def _same(source: str, target: str) -> bool:
    return source == target or ("://" not in source + target and Path(source).resolve() == Path(target).resolve())


def opened_ratings(url: str, *, create: bool) -> AbstractContextManager[Ratings]:
    """A context with an open database of ratings. Raises ConfigError where it cannot be opened."""
    from palate.ratings import use_ratings

    return use_ratings(url, create=create)


def read_project(source: str, name: str | None) -> Exchange:
    """Return what a database holds about a project, by default the only one. Raises ConfigError if there is no such project."""
    with opened_ratings(source, create=False) as ratings:
        projects = ratings.projects()
        chosen = [project for project in projects if name in (None, project.name)]
        if len(chosen) != 1:
            names = ", ".join(repr(project.name) for project in projects) or "none"
            problem = "there are several" if name is None else f"there is no project {name!r}"
            raise ConfigError(f"{source}: {problem if projects else 'there is no project'}. Choose one with --project: {names}.")
        return ratings.as_exchange(chosen[0].id)


def _write_database(judgments: Exchange, options: argparse.Namespace) -> None:
    if options.to is not None:
        raise ConfigError(f"--to is for files, and {options.target} is a database. Leave out --to.")
    name = options.project or judgments.name
    if not name:
        raise ConfigError("SOURCE does not name a project. Give --project NAME to choose or create one.")
    with opened_ratings(options.target, create=True) as ratings:
        done = ratings.import_exchange(judgments, name, time.time())
    say(f"{options.target}: {done}")


def _write_file(judgments: Exchange, options: argparse.Namespace) -> None:
    from palate.data.exchange import WRITABLE, write_exchange

    kind = options.to or "palate"
    done = write_exchange(judgments, options.target, kind)
    counts = f"{len(judgments.items)} items, {len(judgments.votes)} judgments, {len(judgments.raters)} raters"
    say(f"{options.target}: {done.rows} rows ({counts})" + "".join(f"; {path}" for path in done.beside))
    if lost := next(shape.loses for shape in WRITABLE if shape.name == kind):
        say(f"not kept by {kind}: {lost}")
    _report("left out", done.left_out)


def _report(what: str, rows: Iterable[Dropped]) -> None:
    rows = tuple(rows)
    for reason, count in Counter(row.kind for row in rows).most_common():
        first = next(row for row in rows if row.kind == reason)
        say(f"{what}: {count} x {reason}; the first is {first.source}")
