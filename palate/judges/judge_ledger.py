"""What judges were asked, what they answered and what that cost, kept so that no answer is paid twice and no budget is exceeded."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from palate.config.types import Amount, Count
from palate.core import RunError

LEDGER = "judge_ledger.sqlite"
"""Name of the ledger in a run's directory."""

TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, cost REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, state TEXT NOT NULL, tokens INTEGER NOT NULL, cost REAL NOT NULL, reason TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS answers_stay BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'an answer never changes'); END;
"""
"""A charge is `reserved` while its request is under way, then `answered`, `free` (the server refused it), or `lost`."""

NO_COST = 1e-9
"""Sums of many small costs are compared up to this much."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What questions to a judge may cost in one run.

    The most that a request can cost is reserved before it is sent, so that requests under way together stay within the budget too. That
    much also counts for a request that broke off, or was under way when the run was killed: the server may have charged for it.

    Attributes:
        tokens: most tokens, read and written together.
        cost: most money, in the currency of the prices.
    """

    tokens: Count | None = None
    cost: Amount | None = None


class BudgetSpent(Exception):  # noqa: N818 (a reason that callers record, not a fault of this program)
    """What is left of the budget does not pay for a request. The text says how much was spent."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Tokens and money, of one request or of many."""

    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer of the ledger: the JSON value that came, and what it used."""

    answer: object
    tokens_in: int
    tokens_out: int
    cost: float


def digest_of(value: object) -> str:
    """Return the key of a JSON value: 32 hex digits of the digest of its content."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class JudgeLedger:
    """A file of requests, answers and charges. Several threads and processes may use one file.

    Answers are keyed by content and never change. An answer is on the disk before anybody reads it, so a run that was killed goes on with
    what it has. `cache` is a second file that runs share: an answer in it is taken over without a charge.
    """

    def __init__(self, path: Path, budget: Budget | None = None, cache: Path | None = None) -> None:
        """Open the file, or begin it.

        Raises:
            RunError: a file cannot be used.
        """
        self._path, self._budget = path, budget or Budget()
        self._database = _opened(path)
        self._shared = None if cache is None else _opened(cache / LEDGER)
        self._turn = threading.Condition()
        self._under_way = 0

    def kept(self, key: str) -> KeptAnswer | None:
        """Return the answer to the request with this key; None where nobody has it."""
        with self._turn:
            row = _answer(self._database, key)
            if row is None and self._shared is not None and (row := _answer(self._shared, key)) is not None:
                row = (*row[:6], 0.0)  # another run paid for it
                with self._database:
                    self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return None if row is None else KeptAnswer(json.loads(row[3]), row[4], row[5], row[6])

    def reserve(self, key: str, most: Charge) -> int:
        """Set aside the most that a request can cost, and return the number of the charge.

        It waits for requests under way where only they stand between the budget and this one.

        Raises:
            BudgetSpent: the budget does not have that much left.
        """
        with self._turn:
            while not self._fits(most):
                if not self._under_way:
                    raise BudgetSpent(self._spent_text())
                self._turn.wait()
            with self._database:
                row = self._database.execute(
                    "INSERT INTO charges (key, state, tokens, cost, reason) VALUES (?, 'reserved', ?, ?, '')", (key, most.tokens, most.cost)
                )
            self._under_way += 1
            return cast("int", row.lastrowid)

    def keep(self, charge: int, key: str, request: tuple[str, object], kept: KeptAnswer) -> None:
        """Write an answer and what it cost. `request` is the name of the model and the JSON value that was sent."""
        name, body = request
        row = (key, name, _json(body), _json(kept.answer), kept.tokens_in, kept.tokens_out, kept.cost)

        def change(database: sqlite3.Connection) -> None:
            database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)

        self._settle(charge, "answered", Charge(kept.tokens_in + kept.tokens_out, kept.cost), change=change)
        if self._shared is not None:
            with self._turn, self._shared:
                change(self._shared)

    def give_up(self, charge: int, reason: str, *, is_charged: bool) -> None:
        """Write why there is no answer. `is_charged` says whether the server may have charged for one; then the most counts as spent."""
        self._settle(charge, "lost" if is_charged else "free", None if is_charged else Charge(), reason)

    def spent(self) -> Charge:
        """Return what was spent so far, with what is reserved."""
        with self._turn:
            return self._total()

    def close(self) -> None:
        """Close the files. Nobody may use the ledger afterwards."""
        with self._turn:
            for database in (self._database, self._shared):
                if database is not None:
                    database.close()

    def _settle(
        self, charge: int, state: str, used: Charge | None, reason: str = "", change: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        with self._turn:
            with self._database:  # the answer and its charge are written together, or neither is
                if change is not None:
                    change(self._database)
                self._database.execute("UPDATE charges SET state = ?, reason = ? WHERE id = ?", (state, reason, charge))
                if used is not None:
                    self._database.execute("UPDATE charges SET tokens = ?, cost = ? WHERE id = ?", (used.tokens, used.cost, charge))
            self._under_way -= 1
            self._turn.notify_all()

    def _total(self) -> Charge:
        tokens, cost = self._database.execute("SELECT COALESCE(SUM(tokens), 0), COALESCE(SUM(cost), 0.0) FROM charges").fetchone()
        return Charge(tokens, cost)

    def _fits(self, most: Charge) -> bool:
        budget = self._budget
        if budget.tokens is None and budget.cost is None:
            return True
        total = self._total()
        has_tokens = budget.tokens is None or total.tokens + most.tokens <= budget.tokens
        return has_tokens and (budget.cost is None or total.cost + most.cost <= budget.cost + NO_COST)

    def _spent_text(self) -> str:
        total, budget = self._total(), self._budget
        parts = [
            *([] if budget.tokens is None else [f"{total.tokens} of {budget.tokens} tokens"]),
            *([] if budget.cost is None else [f"{total.cost:.4f} of {budget.cost:g}"]),
        ]
        return f"the budget is spent ({', '.join(parts)}), and what is left does not pay for another request"


def _opened(path: Path) -> sqlite3.Connection:
    """Return a connection to the file. Threads share it under a lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=60.0, check_same_thread=False)
        with closing(database.cursor()) as cursor:
            with suppress(sqlite3.OperationalError):  # a folder on a network cannot share memory; the file works without it
                cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.executescript(TABLES)
    except (OSError, sqlite3.Error) as error:
        raise RunError(
            f"{path}: the ledger of judges cannot be used ({error}). Choose a folder that can be written, or delete it"
        ) from error
    return database


def _answer(database: sqlite3.Connection, key: str) -> tuple[str, str, str, str, int, int, float] | None:
    row = database.execute("SELECT key, model, request, answer, tokens_in, tokens_out, cost FROM answers WHERE key = ?", (key,)).fetchone()
    return cast("tuple[str, str, str, str, int, int, float] | None", row)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
