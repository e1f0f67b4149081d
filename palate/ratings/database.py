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

BUSY_SECONDS = 30.0
"""How long a writer waits for others before it gives up."""

RETRIES = 5
"""How often a transaction is done again that PostgreSQL broke off for the sake of others."""

_BROKEN_OFF = ("40001", "40P01")
_WRITE = "palate_write"

Result = TypeVar("Result")


def new_id() -> str:
    """24 random hex digits."""
    return secrets.token_hex(12)


@dataclass(frozen=True)
class Database:
    """An engine, and what is the same for every operation on it.

    Attributes:
        file: the SQLite file; None on PostgreSQL.
        identify: gives a new id.
    """

    engine: Engine
    file: Path | None
    identify: Callable[[], str] = new_id
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_batches", Batches(self.write, _plain_errors))

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database, where one transaction writes at a time."""
        return self.file is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees the database as it was at its first query.

        Raises:
            RunError: the database does not answer.
        """
        with _plain_errors(), self.engine.connect() as plain:
            connection = plain if self.is_sqlite else plain.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A connection for one query, without a transaction around it, which on PostgreSQL would cost two more trips to the server.

        Raises:
            RunError: the database does not answer.
        """
        with _plain_errors(), self.engine.connect() as plain:
            yield plain if self.is_sqlite else plain.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection whose changes are on the disk when the block ends, or undone when it raises.

        On SQLite writers queue here, threads at a lock and processes at a lock on a file beside the database. SQLite's own waiting
        sleeps and tries again, so that under load some wait for seconds while others pass.

        Raises:
            RunError: no space is left, or the database does not answer.
        """
        with ExitStack() as stack:
            stack.enter_context(_plain_errors())
            stack.enter_context(self.exclusive())
            connection = stack.enter_context(self.engine.connect()).execution_options(**{_WRITE: True})
            stack.enter_context(connection.begin())
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The block runs while no other thread or process writes to the SQLite file. On PostgreSQL, the server sees to that."""
        if self.file is None:
            yield
        else:
            with self._turn, _process_turn(self.file):
                yield

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns in a write transaction, which on SQLite may be one with that of others (`Batches`).

        On PostgreSQL it is done again when the server broke it off for the sake of others (a deadlock).
        """
        if self.is_sqlite:
            result: Result = self._batches.run(work)
            return result
        for _ in range(RETRIES):
            try:
                with self.write() as connection:
                    return work(connection)
            except RunError as error:
                if not isinstance(error.__cause__, DBAPIError) or getattr(error.__cause__.orig, "sqlstate", "") not in _BROKEN_OFF:
                    raise
        with self.write() as connection:
            return work(connection)

    def close(self) -> None:
        """Nothing; connections are given back."""
        self.engine.dispose()


class Store(Protocol):
    """What the operations of this package work on: whoever has a database."""

    @property
    def database(self) -> Database:
        """The database."""
        ...


def make_engine(url: URL) -> Engine:
    """An engine for a SQLite file or a PostgreSQL server, with the settings that keep what was acknowledged."""
    if url.get_backend_name() == "postgresql":
        return create_engine(url, pool_size=20, max_overflow=20, pool_timeout=BUSY_SECONDS, pool_pre_ping=True)
    engine = create_engine(url, pool_size=8, max_overflow=120, pool_timeout=BUSY_SECONDS)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # None: the driver opens no transaction of its own; `_begin` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


@contextmanager
def _process_turn(file: Path) -> Iterator[None]:
    """The block runs while no other process writes; the system lets go of the lock when a process dies."""
    with Path(f"{file}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise _plain(error) from error
    except PoolTimeout as error:
        raise RunError(
            f"No connection to the ratings was free for {BUSY_SECONDS:.0f} seconds. Start more processes, or try again."
        ) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") in _BROKEN_OFF or error.connection_invalidated:
            raise _plain(error) from error
        raise


def _plain(error: DBAPIError) -> RunError | ConfigError:
    said = str(error.orig).strip().splitlines()[0]
    if "disk is full" in said or "No space left" in said or "disk I/O error" in said:
        return RunError(f"The ratings could not be written: {said}. What was acknowledged before is kept. Free some space and try again.")
    if "readonly" in said or "read-only" in said:
        return ConfigError(f"The ratings may not be written ({said}). Give this user the right to write the file and its folder.")
    return RunError(f"The ratings database does not answer: {said}. Check that it runs and that the address is right, then try again.")
