"""Accounts, the projects they belong to, and the audit log of who did what.

People, models, rules and simulated raters all have accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from palate.core import ConfigError, DataError
from palate.ratings import schema
from palate.ratings.columns import is_text
from palate.ratings.database import Store
from palate.ratings.entities import Account, AccountRole, AuditEntry, RaterKind
from palate.ratings.projects import find_project
from palate.ratings.table_rows import name_key

_ACCOUNTS, _MEMBERS, _AUDIT_LOG = schema.accounts, schema.members, schema.audit_log


def add_account(
    store: Store, name: str, role: AccountRole, now: float, *, password_hash: str | None = None, kind: RaterKind = "person"
) -> Account:
    """Add an account and return it. Without a password hash nobody can log in to it.

    Raises:
        ConfigError: the name is empty, too long or taken. Names that differ only in capitals or outer blanks are the same.
    """
    with store.database.write() as connection:
        return insert_account(connection, store, Account("", name, kind, role, "", (), now), password_hash)


def insert_account(connection: Connection, store: Store, account: Account, password_hash: str | None) -> Account:
    """Add the account within a transaction, with a new id and pseudonym, and return it. Raises ConfigError as `add_account`."""
    name = account.name
    if not 0 < len(name.strip()) <= 200 or not name.isprintable():
        raise ConfigError("An account's name must have 1 to 200 characters, all of them printable.")
    pseudonym = f"rater-{store.database.identify()[:10]}"
    added = replace(account, id=store.database.identify(), name=name.strip(), pseudonym=pseudonym)
    row = {"id": added.id, "name": added.name, "name_key": name_key(name), "kind": added.kind, "role": added.role, "pseudonym": pseudonym}
    try:
        connection.execute(insert(_ACCOUNTS).values(row | {"password_hash": password_hash, "created": added.created}))
    except IntegrityError as error:
        raise ConfigError(f"The account {name!r} exists already. Choose another name.") from error
    return added


def account(store: Store, account: str) -> Account:
    """Return the account with this id, erased or not.

    Raises:
        DataError: no account has this id.
    """
    with store.database.read() as connection:
        return find_account(connection, account)


def find_account(connection: Connection, account: str) -> Account:
    """Return the account as `account` does, within a transaction."""
    row = connection.execute(select(_ACCOUNTS).where(_ACCOUNTS.c.id == account)).one_or_none()
    if row is None:
        raise DataError(f"There is no account {account!r}. Choose one from the list.")
    return account_of(connection, row)


def account_by_name(store: Store, name: str) -> Account | None:
    """Return the account with this name, whatever its capitals; None if no account has it, or none can have it."""
    if not is_text(name):
        return None
    with store.database.read() as connection:
        row = connection.execute(select(_ACCOUNTS).where(_ACCOUNTS.c.name_key == name_key(name))).one_or_none()
        return None if row is None else account_of(connection, row)


def all_accounts(store: Store, project: str | None = None) -> tuple[Account, ...]:
    """Return every account that is not erased, or the members of a project, the oldest first."""
    query: Select[Any] = select(_ACCOUNTS).where(_ACCOUNTS.c.erased.is_(None)).order_by(_ACCOUNTS.c.created, _ACCOUNTS.c.id)
    if project is not None:
        query = query.where(_ACCOUNTS.c.id.in_(select(_MEMBERS.c.account).where(_MEMBERS.c.project == project)))
    with store.database.read() as connection:
        return tuple(account_of(connection, row) for row in connection.execute(query).all())


def password_hash(store: Store, account: str) -> str | None:
    """Return the account's password hash; None if it does not have one or the account does not exist."""
    with store.database.read() as connection:
        return connection.execute(select(_ACCOUNTS.c.password_hash).where(_ACCOUNTS.c.id == account)).scalar_one_or_none()


def set_role(store: Store, account: str, role: AccountRole) -> None:
    """Give the account this role. Raises DataError as `account` does."""
    _change(store, account, {"role": role})


def set_password(store: Store, account: str, password_hash: str) -> None:
    """Give the account this password hash, and end its sessions and password links. Raises DataError as `account` does."""
    _change(store, account, {"password_hash": password_hash}, ends_sessions=True)


def join(store: Store, project: str, account: str, now: float, *, reviews: bool = False) -> None:
    """Make the account a member of the project, so that it may claim items. With `reviews` it may also review there.

    Raises:
        DataError: the project or the account does not exist.
    """
    with store.database.write() as connection:
        find_project(connection, project)
        find_account(connection, account)
        add_member(connection, project, account, now, reviews=reviews)


def add_member(connection: Connection, project: str, account: str, now: float, *, reviews: bool) -> None:
    """Add a member as `join` does, within a transaction. The caller has checked that project and account exist."""
    connection.execute(select(_ACCOUNTS.c.id).where(_ACCOUNTS.c.id == account).with_for_update())  # for two calls at once
    key = {"project": project, "account": account}
    rows: list[tuple[Table, dict[str, float]]] = [(_MEMBERS, {"joined": now, "sides": 0})]
    if reviews:
        rows.append((schema.reviewers, {"since": now}))
    for table, values in rows:
        present = select(table.c.project).where(table.c.project == project, table.c.account == account)
        if connection.execute(present).one_or_none() is None:
            connection.execute(insert(table).values(key | values))


def reviewers(store: Store, project: str) -> frozenset[str]:
    """Return the ids of the members who may review in this project, whatever the role of their account is."""
    table = schema.reviewers
    with store.database.read() as connection:
        return frozenset(connection.execute(select(table.c.account).where(table.c.project == project)).scalars())


def qualify(store: Store, project: str, account: str, now: float) -> None:
    """Record that the account passed the project's qualification (see `gold_record`), so that it gets items.

    Raises:
        DataError: the account is not a member of the project.
    """
    mine = (_MEMBERS.c.project == project) & (_MEMBERS.c.account == account)
    with store.database.write() as connection:
        if connection.execute(update(_MEMBERS).where(mine).values(qualified=now)).rowcount != 1:
            raise DataError(f"The account {account!r} is not a member of project {project!r}. Let it join first.")


def audit(store: Store, actor: str, action: str, subject: str, now: float, detail: Mapping[str, object] | None = None) -> None:
    """Add a row to the audit log. Give ids, not names, because the log stays when a person is erased."""
    with store.database.write() as connection:
        connection.execute(insert(_AUDIT_LOG).values(actor=actor, action=action, subject=subject, created=now, detail=dict(detail or {})))


def audit_log(store: Store, *, actor: str | None = None, limit: int = 1000, before: int | None = None) -> tuple[AuditEntry, ...]:
    """Return rows of the audit log, the newest first.

    Args:
        store: the ratings.
        actor: return only what this account did.
        limit: the largest number of rows to return.
        before: return only rows with a smaller number. For the next page, give the number of the last row of this page.
    """
    query = select(_AUDIT_LOG).order_by(_AUDIT_LOG.c.number.desc()).limit(limit)
    if actor is not None:
        query = query.where(_AUDIT_LOG.c.actor == actor)
    if before is not None:
        query = query.where(_AUDIT_LOG.c.number < before)
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    return tuple(AuditEntry(row.number, row.actor, row.action, row.subject, row.created, row.detail) for row in rows)


def account_of(connection: Connection, row: Any) -> Account:
    """Return the account in a row of `accounts`, with the projects it is qualified for."""
    qualified = (
        select(_MEMBERS.c.project).where(_MEMBERS.c.account == row.id, _MEMBERS.c.qualified.is_not(None)).order_by(_MEMBERS.c.project)
    )
    return account_in(row, tuple(connection.execute(qualified).scalars()))


def account_in(row: Any, qualified: tuple[str, ...]) -> Account:
    """Return the account in a row of `accounts`, with these projects as `qualified`."""
    return Account(row.id, row.name or "", row.kind, row.role, row.pseudonym, qualified, row.created)


def _change(store: Store, account: str, values: dict[str, str], *, ends_sessions: bool = False) -> None:
    with store.database.write() as connection:
        change = update(_ACCOUNTS).where(_ACCOUNTS.c.id == account, _ACCOUNTS.c.erased.is_(None)).values(values)
        if connection.execute(change).rowcount != 1:
            raise DataError(f"There is no account {account!r}. Choose one from the list.")
        if ends_sessions:
            for table in (schema.sessions, schema.links):
                connection.execute(delete(table).where(table.c.account == account))
