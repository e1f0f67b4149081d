"""Writers of one process that wait for each other share a transaction, and so a sync of the disk.

The first writer leads. It runs its own work and the work of all who wait, each in a savepoint, commits, and then hands out the results. The
writer that waits next leads the next transaction. So writers are served in the order they came, and many cost little more than one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from palate.core import PalateError, RunError

MAX_BATCH = 64
"""The most writers in one transaction. With more, the first would wait too long for the last."""


@dataclass(eq=False)
class _Ticket:
    work: Callable[[Connection], Any]
    is_settled: threading.Event = field(default_factory=threading.Event)
    is_leader: bool = False
    result: Any = None
    error: BaseException | None = None


class Batches:
    """The queue of one database's writers. `write` opens a transaction, and `convert_errors` turns a database's errors into Palate's."""

    def __init__(
        self, write: Callable[[], AbstractContextManager[Connection]], convert_errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._write, self._convert_errors = write, convert_errors
        self._lock, self._waiting, self._has_leader = threading.Lock(), deque[_Ticket](), False

    def run(self, work: Callable[[Connection], Any]) -> Any:
        """Return what `work` returns, once its transaction is on the disk. An error of `work` undoes only its own changes.

        Raises:
            RunError: the transaction could not be written, so none of its changes were made.
        """
        ticket = _Ticket(work)
        with self._lock:
            self._waiting.append(ticket)
            ticket.is_leader, self._has_leader = not self._has_leader, True
        if not ticket.is_leader:
            ticket.is_settled.wait()
        if ticket.is_leader:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _lead(self) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        try:
            with self._write() as connection:
                for ticket in batch:
                    self._do(ticket, connection)
        except BaseException as error:
            # Nothing was committed, even if the work itself succeeded. Each thread gets its own error object.
            for ticket in batch:
                known = isinstance(error, PalateError)
                ticket.error = ticket.error or (type(error)(str(error)) if known else RunError(f"The ratings were not written: {error!r}."))
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_over(batch)

    def _do(self, ticket: _Ticket, connection: Connection) -> None:
        """Do the ticket's work in a savepoint and store its result or error. If the work fails, undo its changes.

        Raises:
            RunError: the whole transaction is gone. SQLite rolls it back if the disk is full, and later work would be in another one.
        """
        savepoint = connection.begin_nested()
        try:
            with self._convert_errors():
                ticket.result = ticket.work(connection)
        except Exception as error:  # noqa: BLE001 (raised again in the thread it belongs to)
            ticket.error = error
        if not _is_open(connection):
            raise RunError(str(ticket.error or "The ratings could not be written: the transaction was broken off. Try again."))
        if ticket.error is None:
            savepoint.commit()
        else:
            savepoint.rollback()

    def _hand_over(self, batch: list[_Ticket]) -> None:
        """Let the next writer lead, and wake those of this batch."""
        with self._lock:
            self._has_leader = bool(self._waiting)
            successor = self._waiting[0] if self._waiting else None
        if successor is not None:
            successor.is_leader = True
            successor.is_settled.set()
        for ticket in batch:
            ticket.is_leader = False
            ticket.is_settled.set()


def _is_open(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    return isinstance(driver, sqlite3.Connection) and driver.in_transaction
