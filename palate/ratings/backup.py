"""Copies of a database while it is used, and putting one back. A copy is a SQLite file, whichever database it came from."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, Connection, Table, delete, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from palate.core import ConfigError, DataError, RunError
from palate.ratings import schema
from palate.ratings.database import Database, Store, make_engine
from palate.ratings.versions import check_version, current, is_older, upgrade

ROWS = 500
"""Rows copied at a time."""


def backup(store: Store, path: Path) -> None:
    """Nothing; `path` is a complete SQLite database with the ratings as they were at one moment. Others go on writing meanwhile.

    The copy is written beside `path`, and takes the name in one step: an older one there is never half replaced.

    Raises:
        ConfigError: the folder is missing.
        RunError: no space is left, or the folder cannot be written; what was at `path` is untouched.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder. Make it, or name another path for the backup.")
    neighbour = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if store.database.file is not None:
            _copy_file(store.database.file, neighbour)
        else:
            _export(store.database, neighbour)
        with neighbour.open("rb+") as file:
            os.fsync(file.fileno())
        neighbour.replace(path)
    except (sqlite3.Error, OSError, RunError) as error:
        cause = getattr(error.__cause__, "orig", None) if isinstance(error, RunError) else error
        if not isinstance(cause, sqlite3.Error | OSError):  # the server that is read, not the copy
            raise
        raise RunError(f"The backup {path} could not be written: {cause}. Free some space, or choose another folder.") from error
    finally:
        for rest in ("", "-wal", "-shm", "-journal", ".lock"):
            Path(f"{neighbour}{rest}").unlink(missing_ok=True)


def restore(store: Store, path: Path, *, replace: bool = False) -> None:
    """Nothing; the ratings are what they were when the backup was made.

    It is one transaction: whoever reads meanwhile sees the former content or the new one. A backup of an older schema is brought to this
    one. Two things do not come back: sessions with one-time links, and the names of people whom this database knows as erased.

    Args:
        store: the ratings.
        path: the backup.
        replace: what is there may go; without it, only an empty database is written.

    Raises:
        ConfigError: something is there, and `replace` does not say that it may go.
        DataError: `path` is no backup, is damaged, or was made by a newer version.
        RunError: no space is left; the ratings are what they were.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Give the path of a backup.")
    with store.database.read() as connection:
        erased = {row.id: row.erased for row in connection.execute(select(schema.accounts).where(schema.accounts.c.erased.is_not(None)))}
    with tempfile.TemporaryDirectory(prefix="palate-restore-") as folder:
        copy = Path(folder) / "copy.db"
        try:
            _copy_file(path, copy)
            _prepare(copy, path, erased)
        except (sqlite3.Error, DatabaseError) as error:
            if "full" in str(error):
                raise RunError(
                    f"The backup could not be looked through: no space is left in {folder}. Free some, or set TMPDIR."
                ) from error
            raise DataError(f"{path} is not a backup of ratings, or is damaged ({error}). Choose another file.") from error
        if store.database.file is not None:
            with store.database.exclusive():
                with store.database.read() as connection:
                    _check_room(connection, replace=replace)
                _overwrite(copy, store.database.file)
        else:
            _import(copy, store.database, replace=replace)


def _check_room(connection: Connection, *, replace: bool) -> None:
    """Nothing when the ratings may be replaced: they are empty, or `replace` says so. Raises ConfigError otherwise."""
    tables = (schema.projects, schema.accounts)
    counts = {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}
    if any(counts.values()) and not replace:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ConfigError(f"The database is not empty ({told}); nothing was restored. Restore into a new one: --ratings with another name.")


def _copy_file(source: Path, target: Path) -> None:
    """Nothing; `target` holds what `source` held at one moment, in one file."""
    if not source.is_file():
        raise FileNotFoundError(source)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")


def _overwrite(source: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(source)) as new, closing(sqlite3.connect(target)) as old:
            old.execute("PRAGMA synchronous=FULL")
            new.backup(old)
    except sqlite3.Error as error:
        raise RunError(f"The backup could not be put back: {error}. The ratings are what they were; free some space, try again.") from error


def _prepare(copy: Path, path: Path, erased: dict[str, float]) -> None:
    """Nothing; the copy is whole, has this package's schema, no sessions, and no names of the erased."""
    database = Database(make_engine(URL.create("sqlite+pysqlite", database=str(copy))), copy)
    try:
        with database.write() as connection:
            fault = connection.execute(text("PRAGMA integrity_check")).scalar_one()
            if fault != "ok":
                raise DataError(f"{path} is damaged ({fault}). Choose another backup.")
            if is_older(current(connection)):
                upgrade(connection)
            try:
                check_version(connection, str(path))
            except ConfigError as error:
                raise DataError(str(error)) from error
            connection.execute(delete(schema.sessions))
            connection.execute(delete(schema.links))
            for account, moment in erased.items():
                gone = {"name": None, "name_key": None, "password_hash": None, "erased": moment}
                connection.execute(update(schema.accounts).where(schema.accounts.c.id == account).values(gone))
    finally:
        database.close()


def _export(database: Database, target: Path) -> None:
    """Nothing; `target` is a SQLite database with the rows of a server, all of one moment."""
    copy = Database(make_engine(URL.create("sqlite+pysqlite", database=str(target))), target)
    try:
        with database.read() as source, copy.write() as connection:
            upgrade(connection, current(source))
            for table in schema.metadata.sorted_tables:
                _copy_rows(table, source, connection)
    finally:
        copy.close()
    with closing(sqlite3.connect(target)) as plain:
        plain.execute("PRAGMA journal_mode=DELETE")


def _import(source: Path, database: Database, *, replace: bool) -> None:
    """Nothing; a server's rows are those of the SQLite database, in one transaction. Raises ConfigError as `restore`."""
    copy = Database(make_engine(URL.create("sqlite+pysqlite", database=str(source))), source)
    tables = schema.metadata.sorted_tables
    try:
        with copy.read() as rows, database.write() as connection:
            connection.execute(text("LOCK TABLE projects, accounts"))  # nobody begins between the look and the writing
            _check_room(connection, replace=replace)
            for name in schema.APPEND_ONLY:
                connection.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER USER"))
            connection.execute(text(f"TRUNCATE {', '.join(table.name for table in tables)}"))
            for table in tables:
                _copy_rows(table, rows, connection)
            for name in schema.APPEND_ONLY:
                connection.execute(text(f"ALTER TABLE {name} ENABLE TRIGGER USER"))
            _count_on(connection)
    finally:
        copy.close()


def _copy_rows(table: Table, source: Connection, target: Connection) -> None:
    # An undo refers to an earlier row of its own table, so rows go in the order of their keys.
    rows = source.execute(select(table).order_by(*table.primary_key.columns)).mappings()
    for page in rows.partitions(ROWS):
        target.execute(insert(table), [dict(row) for row in page])


def _count_on(connection: Connection) -> None:
    """Nothing; numbers that a server gives go on after the largest one there."""
    for name in ("judgments", "failed_logins", "audit_log"):
        table = schema.metadata.tables[name]
        last = connection.execute(select(func.max(table.c.number))).scalar_one()
        sequence = connection.execute(select(func.pg_get_serial_sequence(name, "number"))).scalar_one()
        connection.execute(select(func.setval(sequence, last or 1, last is not None)))
