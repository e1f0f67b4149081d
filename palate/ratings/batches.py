"""Writers of one process that wait for each other share a transaction, and so a sync of the disk.

The first to come leads: it runs its own work and that of all who wait, each in a savepoint, commits, and only then tells them. Whoever
waits next leads the next one. So writers are served in the order they came, and many at once cost little more than one.
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

MOST = 64
"""Works in one transaction at most; more would make the first wait too long for the last."""


@dataclass(eq=False)
class _Ticket:
    work: Callable[[Connection], Any]
    told: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    result: Any = None
    error: BaseException | None = None


class Batches:
    """The queue of one database's writers. `write` opens a transaction, `plain` turns a database's errors into ours."""

    def __init__(self, write: Callable[[], AbstractContextManager[Connection]], plain: Callable[[], AbstractContextManager[None]]) -> None:
        self._write, self._plain = write, plain
        self._lock, self._waiting, self._is_led = threading.Lock(), deque[_Ticket](), False

    def run(self, work: Callable[[Connection], Any]) -> Any:
        """What `work` returns, once the transaction it was part of is on the disk. What it raises undoes its own changes alone.

        Raises:
            RunError: the transaction could not be written; nothing of it was.
        """
        ticket = _Ticket(work)
        with self._lock:
            self._waiting.append(ticket)
            ticket.leads, self._is_led = not self._is_led, True
        if not ticket.leads:
            ticket.told.wait()
        if ticket.leads:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _lead(self) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        try:
            with self._write() as connection:
                for ticket in batch:
                    self._do(ticket, connection)
        except BaseException as error:
            # Nothing was committed, whatever the works thought of themselves. Each thread gets an error of its own.
            for ticket in batch:
                known = isinstance(error, PalateError)
                ticket.error = ticket.error or (type(error)(str(error)) if known else RunError(f"The ratings were not written: {error!r}."))
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_on(batch)

    def _do(self, ticket: _Ticket, connection: Connection) -> None:
        """Nothing; the ticket has its result or error, and the changes of a work that failed are undone.

        Raises:
            RunError: the whole transaction is gone. On a full disk SQLite takes it back, and what came after would be in another one.
        """
        savepoint = connection.begin_nested()
        try:
            with self._plain():
                ticket.result = ticket.work(connection)
        except Exception as error:  # noqa: BLE001 (raised again in the thread it belongs to)
            ticket.error = error
        if not _is_open(connection):
            raise RunError(str(ticket.error or "The ratings could not be written: the transaction was broken off. Try again."))
        if ticket.error is None:
            savepoint.commit()
        else:
            savepoint.rollback()

    def _hand_on(self, batch: list[_Ticket]) -> None:
        """Nothing; the next one leads, and those of the batch know how it went."""
        with self._lock:
            self._is_led = bool(self._waiting)
            following = self._waiting[0] if self._waiting else None
        if following is not None:
            following.leads = True
            following.told.set()
        for ticket in batch:
            ticket.leads = False
            ticket.told.set()


def _is_open(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    return isinstance(driver, sqlite3.Connection) and driver.in_transaction
