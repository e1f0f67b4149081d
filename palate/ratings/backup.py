"""Backing up a database while it is in use, and restoring it. A backup is a SQLite file, whichever database it came from."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, Connection, Table, UniqueConstraint, delete, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from palate.core import ConfigError, DataError, RunError
from palate.ratings import schema
from palate.ratings.columns import LongText, ShortText, storable
from palate.ratings.database import Database, Store, make_engine
from palate.ratings.versions import check_version, current, is_older, upgrade

PAGE_ROWS = 500
"""Rows copied at a time."""


def backup(store: Store, path: Path) -> None:
    """Write the ratings as they were at one moment to `path`, as a complete SQLite database. Others can go on writing meanwhile.

    The copy is written beside `path` and renamed in one step, so an older backup is never half replaced.

    Raises:
        ConfigError: the folder is missing.
        RunError: no space is left, or the folder cannot be written. A file at `path` does not change.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder. Make it, or name another path for the backup.")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if store.database.file is not None:
            _copy_file(store.database.file, draft)
        else:
            _export(store.database, draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (sqlite3.Error, OSError, RunError) as error:
        cause = getattr(error.__cause__, "orig", None) if isinstance(error, RunError) else error
        if not isinstance(cause, sqlite3.Error | OSError):  # an error of the server, not of the copy
            raise
        raise RunError(f"The backup {path} could not be written: {cause}. Free some space, or choose another folder.") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal", ".lock"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def restore(store: Store, path: Path, *, replace: bool = False) -> tuple[str, ...]:
    """Restore the ratings from a backup.

    It is one transaction, so readers see either the former content or the new one. A backup of an older schema is upgraded. Sessions and
    one-time links are not restored, nor are the names of people whom this database knows as erased. Older versions took some texts that
    PostgreSQL cannot hold. They are changed on their way there (`columns.storable`).

    Args:
        store: the ratings.
        path: the backup.
        replace: replace what is in the database. Without it, only an empty database is written.

    Returns:
        A sentence about each column with texts that were changed.

    Raises:
        ConfigError: the database is not empty, and `replace` is not given.
        DataError: `path` is not a backup, is damaged, or was made by a newer version.
        RunError: no space is left. The ratings do not change.
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
                raise RunError(f"The backup could not be checked: no space is left in {folder}. Free some, or set TMPDIR.") from error
            raise DataError(f"{path} is not a backup of ratings, or is damaged ({error}). Choose another file.") from error
        if store.database.file is not None:
            with store.database.exclusive():
                with store.database.read() as connection:
                    _check_replaceable(connection, replace=replace)
                _overwrite(copy, store.database.file)
            return ()
        return _import(copy, store.database, replace=replace)


def _check_replaceable(connection: Connection, *, replace: bool) -> None:
    """Raise ConfigError if the ratings are not empty and `replace` is not given."""
    tables = (schema.projects, schema.accounts)
    counts = {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}
    if any(counts.values()) and not replace:
        content = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ConfigError(f"The database is not empty ({content}); nothing was restored. Give --ratings the name of a new one.")


def _copy_file(source: Path, target: Path) -> None:
    """Copy what `source` held at one moment to `target`, as one file."""
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
        raise RunError(f"The backup could not be restored: {error}. The ratings did not change. Free some space and try again.") from error


def _prepare(copy: Path, path: Path, erased: dict[str, float]) -> None:
    """Check that the copy is sound, upgrade its schema, and delete its sessions, links and the names of erased people."""
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
                blank = {"name": None, "name_key": None, "password_hash": None, "erased": moment}
                connection.execute(update(schema.accounts).where(schema.accounts.c.id == account).values(blank))
    finally:
        database.close()


def _export(database: Database, target: Path) -> None:
    """Write the rows of a server, as of one moment, to a SQLite database at `target`."""
    copy = Database(make_engine(URL.create("sqlite+pysqlite", database=str(target))), target)
    try:
        with database.read() as source, copy.write() as connection:
            upgrade(connection, current(source))
            for table in schema.metadata.sorted_tables:
                _copy_rows(table, source, connection)
    finally:
        copy.close()
    with closing(sqlite3.connect(target)) as raw:
        raw.execute("PRAGMA journal_mode=DELETE")


def _import(source: Path, database: Database, *, replace: bool) -> tuple[str, ...]:
    """Replace a server's rows by those of the SQLite database, in one transaction. Returns and raises what `restore` does."""
    changed: Counter[str] = Counter()
    copy = Database(make_engine(URL.create("sqlite+pysqlite", database=str(source))), source)
    tables = schema.metadata.sorted_tables
    try:
        with copy.read() as rows, database.write() as connection:
            connection.execute(text("LOCK TABLE projects, accounts"))  # so that nobody writes between the check and the copy
            _check_replaceable(connection, replace=replace)
            for name in schema.APPEND_ONLY:
                connection.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER USER"))
            connection.execute(text(f"TRUNCATE {', '.join(table.name for table in tables)}"))
            for table in tables:
                changed += _copy_rows(table, rows, connection)
            for name in schema.APPEND_ONLY:
                connection.execute(text(f"ALTER TABLE {name} ENABLE TRIGGER USER"))
            _set_sequences(connection)
    finally:
        copy.close()
    return tuple(
        f"{count} {'text' if count == 1 else 'texts'} in {column} could not be stored as they are (a NUL character, or too long) and were "
        "changed" for column, count in sorted(changed.items())
    )  # fmt: skip


def _copy_rows(table: Table, source: Connection, target: Connection) -> Counter[str]:
    """Copy the rows of a table, and return how many texts of each column had to be changed so that both databases can hold them."""
    changed: Counter[str] = Counter()
    texts = {column.name: column.type for column in table.columns if isinstance(column.type, ShortText | LongText)}
    indexed = {column.name for column in table.primary_key} | {
        column.name
        for columns in (
            *(index.columns for index in table.indexes),
            *(one.columns for one in table.constraints if isinstance(one, UniqueConstraint)),
        )
        for column in columns
    }
    # An undo refers to an earlier row of its table, so rows are copied in the order of their keys.
    rows = source.execute(select(table).order_by(*table.primary_key.columns)).mappings()
    for page in rows.partitions(PAGE_ROWS):
        copies = [dict(row) for row in page]
        for name, kind in texts.items():
            for row in copies:
                former = row[name]
                row[name] = storable(former, kind, is_indexed=name in indexed)
                changed[f"{table.name}.{name}"] += row[name] != former
        target.execute(insert(table), copies)
    return +changed


def _set_sequences(connection: Connection) -> None:
    """Let the server's sequences continue after the largest number in each table."""
    for name in ("judgments", "failed_logins", "audit_log"):
        table = schema.metadata.tables[name]
        last = connection.execute(select(func.max(table.c.number))).scalar_one()
        sequence = connection.execute(select(func.pg_get_serial_sequence(name, "number"))).scalar_one()
        connection.execute(select(func.setval(sequence, last or 1, last is not None)))
