"""Accounts and which projects they belong to. People, models, rules and simulated raters are alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from palate.core import ConfigError, DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Account, AccountRole, RaterKind
from palate.ratings.projects import find_project
from palate.ratings.table_rows import name_key

_TABLE, _MEMBERS = schema.accounts, schema.members


def add_account(
    store: Store, name: str, role: AccountRole, now: float, *, password_hash: str | None = None, kind: RaterKind = "person"
) -> Account:
    """The new account. Without a password hash nobody can log in with it.

    Raises:
        ConfigError: the name is empty, too long or taken (capitals and blanks around it do not make another name).
    """
    with store.database.write() as connection:
        return insert_account(connection, store, Account("", name, kind, role, "", (), now), password_hash)


def insert_account(connection: Connection, store: Store, account: Account, password_hash: str | None) -> Account:
    """As `add_account`, within a transaction, which an error ends; id and pseudonym are drawn."""
    name = account.name
    if not 0 < len(name.strip()) <= 200 or not name.isprintable():
        raise ConfigError("An account's name must have 1 to 200 characters, all of them printable.")
    pseudonym = f"rater-{store.database.identify()[:10]}"
    kept = replace(account, id=store.database.identify(), name=name.strip(), pseudonym=pseudonym)
    row = {"id": kept.id, "name": kept.name, "name_key": name_key(name), "kind": kept.kind, "role": kept.role, "pseudonym": pseudonym}
    try:
        connection.execute(insert(_TABLE).values(row | {"password_hash": password_hash, "created": kept.created}))
    except IntegrityError as error:
        raise ConfigError(f"There is an account {name!r} already. Choose another name.") from error
    return kept


def account(store: Store, account: str) -> Account:
    """The account of this id, erased or not.

    Raises:
        DataError: there is none.
    """
    with store.database.read() as connection:
        return find_account(connection, account)


def find_account(connection: Connection, account: str) -> Account:
    """As `account`, within a transaction."""
    row = connection.execute(select(_TABLE).where(_TABLE.c.id == account)).one_or_none()
    if row is None:
        raise DataError(f"There is no account {account!r}. Choose one of those listed.")
    return account_of(connection, row)


def account_by_name(store: Store, name: str) -> Account | None:
    """The account of this name, without regard to capitals; None when there is none."""
    with store.database.read() as connection:
        row = connection.execute(select(_TABLE).where(_TABLE.c.name_key == name_key(name))).one_or_none()
        return None if row is None else account_of(connection, row)


def all_accounts(store: Store, project: str | None = None) -> tuple[Account, ...]:
    """Every account that was not erased, oldest first; with a project, its members."""
    found: Select[Any] = select(_TABLE).where(_TABLE.c.erased.is_(None)).order_by(_TABLE.c.created, _TABLE.c.id)
    if project is not None:
        found = found.where(_TABLE.c.id.in_(select(_MEMBERS.c.account).where(_MEMBERS.c.project == project)))
    with store.database.read() as connection:
        return tuple(account_of(connection, row) for row in connection.execute(found).all())


def password_hash(store: Store, account: str) -> str | None:
    """The account's password hash; None when it has none or there is no such account."""
    with store.database.read() as connection:
        return connection.execute(select(_TABLE.c.password_hash).where(_TABLE.c.id == account)).scalar_one_or_none()


def set_role(store: Store, account: str, role: AccountRole) -> None:
    """Nothing; the account has this role. Raises DataError as `account`."""
    _change(store, account, {"role": role})


def set_password(store: Store, account: str, password_hash: str) -> None:
    """Nothing; the account has this password hash; its sessions and password links have ended. Raises DataError as `account`."""
    _change(store, account, {"password_hash": password_hash}, ends_sessions=True)


def join(store: Store, project: str, account: str, now: float, *, reviews: bool = False) -> None:
    """Nothing; the account is a member of the project and may claim its items; with `reviews` it may review there, too.

    Raises:
        DataError: there is no such project or account.
    """
    with store.database.write() as connection:
        find_project(connection, project)
        find_account(connection, account)
        let_in(connection, project, account, now, reviews=reviews)


def let_in(connection: Connection, project: str, account: str, now: float, *, reviews: bool) -> None:
    """As `join`, within a transaction, of a project and an account that are there."""
    connection.execute(select(_TABLE.c.id).where(_TABLE.c.id == account).with_for_update())  # two who join at once
    place = {"project": project, "account": account}
    rows: list[tuple[Table, dict[str, float]]] = [(_MEMBERS, {"joined": now, "sides": 0})]
    if reviews:
        rows.append((schema.reviewers, {"since": now}))
    for table, values in rows:
        is_there = select(table.c.project).where(table.c.project == project, table.c.account == account)
        if connection.execute(is_there).one_or_none() is None:
            connection.execute(insert(table).values(place | values))


def reviewers(store: Store, project: str) -> frozenset[str]:
    """Ids of the members who may review in this project, whatever the role of their account is."""
    table = schema.reviewers
    with store.database.read() as connection:
        return frozenset(connection.execute(select(table.c.account).where(table.c.project == project)).scalars())


def qualify(store: Store, project: str, account: str, now: float) -> None:
    """Nothing; the account has passed the project's qualification (see `gold_record`) and gets its items.

    Raises:
        DataError: the account is no member of the project.
    """
    mine = (_MEMBERS.c.project == project) & (_MEMBERS.c.account == account)
    with store.database.write() as connection:
        if connection.execute(update(_MEMBERS).where(mine).values(qualified=now)).rowcount != 1:
            raise DataError(f"The account {account!r} is no member of project {project!r}. Let it join first.")


def account_of(connection: Connection, row: Any) -> Account:
    """The account in a row of `accounts`, with the projects it is qualified for."""
    passed = select(_MEMBERS.c.project).where(_MEMBERS.c.account == row.id, _MEMBERS.c.qualified.is_not(None)).order_by(_MEMBERS.c.project)
    return account_in(row, tuple(connection.execute(passed).scalars()))


def account_in(row: Any, qualified: tuple[str, ...]) -> Account:
    """The account in a row of `accounts`."""
    return Account(row.id, row.name or "", row.kind, row.role, row.pseudonym, qualified, row.created)


def _change(store: Store, account: str, values: dict[str, str], *, ends_sessions: bool = False) -> None:
    with store.database.write() as connection:
        changed = update(_TABLE).where(_TABLE.c.id == account, _TABLE.c.erased.is_(None)).values(values)
        if connection.execute(changed).rowcount != 1:
            raise DataError(f"There is no account {account!r}. Choose one of those listed.")
        if ends_sessions:
            for table in (schema.sessions, schema.links):
                connection.execute(delete(table).where(table.c.account == account))
