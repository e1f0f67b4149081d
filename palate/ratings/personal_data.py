"""What a person may ask of the store: a copy of what it knows about them, and to be forgotten; and leaving a project."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, select, true, update

from palate.ratings import schema
from palate.ratings.accounts import find_account
from palate.ratings.claims import give_back
from palate.ratings.database import Store
from palate.ratings.reports import time_log


def export_person(store: Store, account: str) -> dict[str, Any]:
    """All rows about the account as JSON values, without the password hash and tokens: they open doors.

    Raises:
        DataError: there is no such account.
    """
    with store.database.read() as connection:
        found = find_account(connection, account)
        said, asked, told = schema.judgments, schema.assignments, schema.audit_log
        rows: dict[str, Any] = {
            "account": {
                "id": found.id, "name": found.name, "kind": found.kind, "role": found.role, "pseudonym": found.pseudonym,
                "qualified": list(found.qualified), "created": found.created,
            },
            "memberships": _rows(connection, schema.members, schema.members.c.account == account),
            "reviews": _rows(connection, schema.reviewers, schema.reviewers.c.account == account),
            "item_views": _rows(connection, schema.item_views, schema.item_views.c.account == account),
            "assignments": _rows(connection, asked, asked.c.rater == account),
            "judgments": _rows(connection, said, said.c.rater == account),
            "sessions": _rows(connection, schema.sessions, schema.sessions.c.account == account, secret=("token_hash", "csrf")),
            "audit_log": _rows(connection, told, (told.c.actor == account) | (told.c.subject == account)),
        }  # fmt: skip
    return rows | {"time": [{"project": spent.project, "day": spent.day, "seconds": spent.seconds} for spent in time_log(store, account)]}


def leave(store: Store, project: str, account: str) -> int | None:
    """How many leases were given back; None when the account was no member. What it answered stays, and it gets no more items there."""

    def work(connection: Connection) -> int | None:
        members = schema.members
        mine = (members.c.project == project) & (members.c.account == account)
        # A claim locks this row first, so that none slips in between.
        if connection.execute(select(members.c.joined).where(mine).with_for_update()).one_or_none() is None:
            return None
        returned = _let_go(connection, account, schema.assignments.c.project == project)
        connection.execute(delete(members).where(mine))
        reviewers = schema.reviewers
        connection.execute(delete(reviewers).where(reviewers.c.project == project, reviewers.c.account == account))
        return returned

    return store.database.run(work)


def erase(store: Store, account: str, now: float) -> None:
    """Nothing; name, password and logins are gone, and nobody can log in as this account. Its answers stay under the pseudonym.

    Leases are given back. Names stand nowhere else: answers and the audit log hold the account's random id.

    Raises:
        DataError: there is no such account.
    """
    table, failed = schema.accounts, schema.failed_logins

    def work(connection: Connection) -> None:
        find_account(connection, account)
        key = connection.execute(select(table.c.name_key).where(table.c.id == account)).scalar_one()
        for keys in (schema.sessions, schema.links):
            connection.execute(delete(keys).where(keys.c.account == account))
        connection.execute(delete(failed).where(failed.c.name_key == key))
        for places in (schema.members, schema.reviewers):
            connection.execute(delete(places).where(places.c.account == account))
        _let_go(connection, account, true())
        gone = {"name": None, "name_key": None, "password_hash": None, "erased": now}
        connection.execute(update(table).where(table.c.id == account).values(gone))

    store.database.run(work)


def _let_go(connection: Connection, account: str, where: ColumnElement[bool]) -> int:
    """How many open leases of the account were given back."""
    asked = schema.assignments
    held = select(asked.c.id, asked.c.item).where(asked.c.rater == account, asked.c.state == "open", where).order_by(asked.c.item)
    rows = connection.execute(held.with_for_update()).all()
    for row in rows:
        connection.execute(update(asked).where(asked.c.id == row.id).values(state="released"))
        give_back(connection, row.item)
    return len(rows)


def _rows(connection: Connection, table: Table, condition: Any, *, secret: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    columns = [column for column in table.columns if column.name not in secret]
    return [dict(row) for row in connection.execute(select(*columns).where(condition)).mappings()]
