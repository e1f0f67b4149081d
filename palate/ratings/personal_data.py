"""Personal data: a copy of what the database holds about a person, leaving a project, and erasing a person."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, select, true, update

from palate.ratings import schema
from palate.ratings.accounts import find_account
from palate.ratings.claims import give_back
from palate.ratings.database import Store
from palate.ratings.reports import time_log


def export_person(store: Store, account: str) -> dict[str, Any]:
    """Return all rows about the account as JSON values, without the password hash and tokens, which would let a reader log in.

    Raises:
        DataError: the account does not exist.
    """
    with store.database.read() as connection:
        person = find_account(connection, account)
        judgments, assignments, audit_log = schema.judgments, schema.assignments, schema.audit_log
        rows: dict[str, Any] = {
            "account": {
                "id": person.id, "name": person.name, "kind": person.kind, "role": person.role, "pseudonym": person.pseudonym,
                "qualified": list(person.qualified), "created": person.created,
            },
            "memberships": _rows(connection, schema.members, schema.members.c.account == account),
            "reviews": _rows(connection, schema.reviewers, schema.reviewers.c.account == account),
            "item_views": _rows(connection, schema.item_views, schema.item_views.c.account == account),
            "assignments": _rows(connection, assignments, assignments.c.rater == account),
            "judgments": _rows(connection, judgments, judgments.c.rater == account),
            "sessions": _rows(connection, schema.sessions, schema.sessions.c.account == account, secret=("token_hash", "csrf")),
            "audit_log": _rows(connection, audit_log, (audit_log.c.actor == account) | (audit_log.c.subject == account)),
        }  # fmt: skip
    return rows | {"time": [{"project": day.project, "day": day.day, "seconds": day.seconds} for day in time_log(store, account)]}


def leave(store: Store, project: str, account: str) -> int | None:
    """Remove the account from the project and return how many leases were given back; None if it was not a member.

    Its answers stay, and it does not get any more items there.
    """

    def work(connection: Connection) -> int | None:
        members = schema.members
        mine = (members.c.project == project) & (members.c.account == account)
        # A claim locks this row first, so no claim can come in between.
        if connection.execute(select(members.c.joined).where(mine).with_for_update()).one_or_none() is None:
            return None
        num_released = _release_all(connection, account, schema.assignments.c.project == project)
        connection.execute(delete(members).where(mine))
        reviewers = schema.reviewers
        connection.execute(delete(reviewers).where(reviewers.c.project == project, reviewers.c.account == account))
        return num_released

    return store.database.run(work)


def erase(store: Store, account: str, now: float) -> None:
    """Erase the account's name, password and logins, so that nobody can log in to it. Its answers stay under the pseudonym.

    Leases are given back. The name is not stored anywhere else, because answers and the audit log hold the account's random id.

    Raises:
        DataError: the account does not exist.
    """
    table, failed = schema.accounts, schema.failed_logins

    def work(connection: Connection) -> None:
        find_account(connection, account)
        key = connection.execute(select(table.c.name_key).where(table.c.id == account)).scalar_one()
        for logins in (schema.sessions, schema.links):
            connection.execute(delete(logins).where(logins.c.account == account))
        connection.execute(delete(failed).where(failed.c.name_key == key))
        for memberships in (schema.members, schema.reviewers):
            connection.execute(delete(memberships).where(memberships.c.account == account))
        _release_all(connection, account, true())
        erased = {"name": None, "name_key": None, "password_hash": None, "erased": now}
        connection.execute(update(table).where(table.c.id == account).values(erased))

    store.database.run(work)


def _release_all(connection: Connection, account: str, where: ColumnElement[bool]) -> int:
    """Give back the account's open leases under this condition and return how many there were."""
    assignments = schema.assignments
    held = select(assignments.c.id, assignments.c.item).where(assignments.c.rater == account, assignments.c.state == "open", where)
    rows = connection.execute(held.order_by(assignments.c.item).with_for_update()).all()
    for row in rows:
        connection.execute(update(assignments).where(assignments.c.id == row.id).values(state="released"))
        give_back(connection, row.item)
    return len(rows)


def _rows(connection: Connection, table: Table, condition: Any, *, secret: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    columns = [column for column in table.columns if column.name not in secret]
    return [dict(row) for row in connection.execute(select(*columns).where(condition)).mappings()]
