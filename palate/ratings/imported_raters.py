"""Raters of a file as accounts: known by pseudonym, without a name or a password."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from sqlalchemy import Connection, insert, select

from palate.core import DataError
from palate.data.exchange import Exchange, RaterKind
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.items import PAGE
from palate.ratings.table_rows import is_text

LONGEST_PSEUDONYM = 32
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def accounts_of(connection: Connection, store: Store, exchange: Exchange, project: str, now: float) -> tuple[dict[str, str], int]:
    """Account of each rater who said something, and how many were made: without a name or a password, nobody can sign in as one."""
    table = schema.accounts
    kinds = exchange.kinds()
    first = {vote.judgment.rater: number for number, vote in reversed(list(enumerate(exchange.votes)))}
    short = {rater: _pseudonym(rater) for rater in first}
    known: dict[str, Any] = {}
    names = list(short.values())
    for start in range(0, len(names), PAGE):
        rows = connection.execute(select(table).where(table.c.pseudonym.in_(names[start : start + PAGE])))
        known |= {row.pseudonym: row for row in rows}
    made: dict[str, dict[str, Any]] = {}
    for rater, pseudonym in short.items():
        row, kind = known.get(pseudonym), kinds[rater]
        if row is None:
            made.setdefault(pseudonym, _account(store, pseudonym, kind, now))
        elif kind not in {row.kind, "person", "unknown"}:  # these two are what a file says that does not know better
            place = exchange.vote_place(first[rater])
            raise DataError(f"{place}: `rater` {rater!r} is a {kind} in the file and a {row.kind} in the database. Give it another name.")
    if made:
        connection.execute(insert(table), list(made.values()))
        joined = [{"project": project, "account": row["id"], "joined": now, "sides": 0} for row in made.values()]
        connection.execute(insert(schema.members), joined)
    ids = {name: row.id for name, row in known.items()} | {name: row["id"] for name, row in made.items()}
    accounts = {rater: ids[pseudonym] for rater, pseudonym in short.items()}
    return accounts, len(made)


def _account(store: Store, pseudonym: str, kind: RaterKind, now: float) -> dict[str, Any]:
    row = {"id": store.database.identify(), "kind": kind, "role": "rater", "pseudonym": pseudonym, "created": now}
    return row | {"name": None, "name_key": None, "password_hash": None}


def _pseudonym(rater: str) -> str:
    """The rater's name, made short where a database needs it so; the same for the same name. A UUID loses its dashes alone."""
    if len(rater) <= LONGEST_PSEUDONYM and is_text(rater):
        return rater
    if _UUID.fullmatch(rater):
        return rater.replace("-", "")
    digest = hashlib.sha256(rater.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{rater[: LONGEST_PSEUDONYM - 13]}~{digest}".replace("\0", "?")
