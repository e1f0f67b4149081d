"""A database and its two kinds of transaction: `read`, which sees one moment, and `write`, which waits for its turn."""

from __future__ import annotations

import fcntl
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from palate.core import ConfigError, RunError
from palate.ratings.batches import Batches
from palate.ratings.columns import json_text

BUSY_SECONDS = 30.0
"""How long a writer waits for others before it fails."""

RETRIES = 5
"""How often a transaction is repeated after PostgreSQL aborted it in favour of others."""

_ABORTED = ("40001", "40P01")
_WRITE = "palate_write"

Result = TypeVar("Result")


def new_id() -> str:
    """Return 24 random hex digits."""
    return secrets.token_hex(12)


@dataclass(frozen=True)
class Database:
    """An engine and its transactions.

    Attributes:
        engine: SQLAlchemy's engine.
        file: the SQLite file; None on PostgreSQL.
        identify: a function that returns a new id.
    """

    engine: Engine
    file: Path | None
    identify: Callable[[], str] = new_id
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_batches", Batches(self.write, _converted_errors))

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, where only one transaction writes at a time."""
        return self.file is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees the database as it was at its first query.

        Raises:
            RunError: the database does not answer.
        """
        with _converted_errors(), self.engine.connect() as raw:
            connection = raw if self.is_sqlite else raw.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def query(self) -> Iterator[Connection]:
        """Yield a connection for one query. Without a transaction it saves two trips to a PostgreSQL server.

        Raises:
            RunError: the database does not answer.
        """
        with _converted_errors(), self.engine.connect() as raw:
            yield raw if self.is_sqlite else raw.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection whose changes are on the disk when the block ends, or undone if it raises.

        On SQLite, writers queue: threads at a lock, and processes at a lock on a file beside the database. SQLite itself sleeps and tries
        again, so under load some writers would wait for seconds while others pass them.

        Raises:
            RunError: no space is left, or the database does not answer.
        """
        with ExitStack() as stack:
            stack.enter_context(_converted_errors())
            stack.enter_context(self.exclusive())
            connection = stack.enter_context(self.engine.connect()).execution_options(**{_WRITE: True})
            stack.enter_context(connection.begin())
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Run the block while no other thread or process writes to the SQLite file. On PostgreSQL the server takes care of that."""
        if self.file is None:
            yield
        else:
            with self._turn, _process_turn(self.file):
                yield

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a write transaction and return its result. On SQLite several works may share the transaction (`Batches`).

        On PostgreSQL it runs again if the server aborted it in favour of others (a deadlock).
        """
        if self.is_sqlite:
            result: Result = self._batches.run(work)
            return result
        for _ in range(RETRIES):
            try:
                with self.write() as connection:
                    return work(connection)
            except RunError as error:
                if not isinstance(error.__cause__, DBAPIError) or getattr(error.__cause__.orig, "sqlstate", "") not in _ABORTED:
                    raise
        with self.write() as connection:
            return work(connection)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class Store(Protocol):
    """An object with a database, the first argument of every operation of this package."""

    @property
    def database(self) -> Database:
        """The database."""
        ...


def make_engine(url: URL) -> Engine:
    """Return an engine for a SQLite file or a PostgreSQL server, with settings that keep every acknowledged write."""
    if url.get_backend_name() == "postgresql":
        return create_engine(url, json_serializer=json_text, pool_size=20, max_overflow=20, pool_timeout=BUSY_SECONDS, pool_pre_ping=True)
    engine = create_engine(url, json_serializer=json_text, pool_size=8, max_overflow=120, pool_timeout=BUSY_SECONDS)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # With None, the driver does not open transactions, so that `_begin` can.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


@contextmanager
def _process_turn(file: Path) -> Iterator[None]:
    """Run the block while no other process writes. The system releases the lock if a process dies."""
    with Path(f"{file}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _converted_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise _converted(error) from error
    except PoolTimeout as error:
        raise RunError(
            f"No connection to the ratings was free for {BUSY_SECONDS:.0f} seconds. Start more processes, or try again."
        ) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") in _ABORTED or error.connection_invalidated:
            raise _converted(error) from error
        raise


def _converted(error: DBAPIError) -> RunError | ConfigError:
    cause = str(error.orig).strip().splitlines()[0]
    if "disk is full" in cause or "No space left" in cause or "disk I/O error" in cause:
        return RunError(f"The ratings could not be written: {cause}. Acknowledged answers are kept. Free some space and try again.")
    if "readonly" in cause or "read-only" in cause:
        return ConfigError(f"The ratings cannot be written ({cause}). Give this user the right to write the file and its folder.")
    return RunError(f"The ratings database does not answer: {cause}. Check that it runs and that the address is right, then try again.")
