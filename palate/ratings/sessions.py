"""Invitations, logins and failed logins. Tokens come in hashed: who reads the database cannot log in with what stands there."""

from __future__ import annotations

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select, update

from palate.core import ConfigError
from palate.ratings import schema
from palate.ratings.accounts import account_in, account_of, insert_account, let_in
from palate.ratings.database import Store
from palate.ratings.entities import Account, AccountRole, Failures, Invitation, Session
from palate.ratings.projects import find_project
from palate.ratings.table_rows import name_key

KEPT_FAILURES_SECONDS = 7 * 24 * 3600.0
"""Failed logins older than this are forgotten."""

_INVITED, _SESSIONS, _FAILED, _REVIEWERS = schema.invitations, schema.sessions, schema.failed_logins, schema.reviewers
_LIVE = (
    select(_SESSIONS.c.csrf, _SESSIONS.c.created.label("begun"), _SESSIONS.c.expires, schema.accounts)
    .add_columns(schema.members.c.project, schema.members.c.qualified, _REVIEWERS.c.since)
    .join(schema.accounts, schema.accounts.c.id == _SESSIONS.c.account)
    .outerjoin(schema.members, schema.members.c.account == _SESSIONS.c.account)
    .outerjoin(_REVIEWERS, (_REVIEWERS.c.account == schema.members.c.account) & (_REVIEWERS.c.project == schema.members.c.project))
    .where(_SESSIONS.c.token_hash == bindparam("token"), _SESSIONS.c.expires > bindparam("now"))
    .order_by(schema.members.c.joined, schema.members.c.project)
)


def invite(store: Store, project: str, role: AccountRole, token_hash: str, expires: float, uses: int) -> None:
    """Nothing; whoever has the token may join the project with this role, so many times until then.

    Raises:
        ConfigError: there is nothing to use, or the token is taken.
        DataError: there is no such project.
    """
    if uses < 1:
        raise ConfigError(f"An invitation must be good for 1 use or more, not {uses}.")
    with store.database.write() as connection:
        find_project(connection, project)
        if connection.execute(select(_INVITED.c.uses).where(_INVITED.c.token_hash == token_hash)).one_or_none() is not None:
            raise ConfigError("This invitation's token is taken. Draw another one.")
        connection.execute(insert(_INVITED).values(token_hash=token_hash, project=project, role=role, expires=expires, uses=uses))


def invitation(store: Store, token_hash: str, now: float) -> Invitation | None:
    """What the invitation would give; None when it is unknown, expired or used up. Looking costs no use."""
    with store.database.look() as connection:
        row = connection.execute(select(_INVITED).where(_good(token_hash, now))).one_or_none()
    return None if row is None else Invitation(row.project, row.role)


def redeem(
    store: Store, token_hash: str, now: float, account: Account, password_hash: str | None = None
) -> tuple[Invitation, Account] | None:
    """What the invitation gave, and to whom; None when it is unknown, expired or used up.

    One transaction: a use is spent only when the account is a member afterwards. Without an id the account is made, with this name and
    password hash; it is a rater's, for the invitation gives a role in its project alone.

    Raises:
        ConfigError: the account to be made has a name that cannot be used, or that is taken.
    """
    spent = update(_INVITED).where(_good(token_hash, now)).values(uses=_INVITED.c.uses - 1).returning(_INVITED)
    with store.database.write() as connection:
        row = connection.execute(spent).one_or_none()
        if row is None:
            return None
        kept = account if account.id else insert_account(connection, store, account, password_hash)
        let_in(connection, row.project, kept.id, now, reviews=row.role != "rater")
    return Invitation(row.project, row.role), kept


def _good(token_hash: str, now: float) -> ColumnElement[bool]:
    return (_INVITED.c.token_hash == token_hash) & (_INVITED.c.expires > now) & (_INVITED.c.uses > 0)


def start_session(store: Store, account: str, token_hash: str, csrf: str, now: float, expires: float) -> Session:
    """The new session; expired ones are cleared away."""
    with store.database.write() as connection:
        connection.execute(delete(_SESSIONS).where(_SESSIONS.c.expires <= now))
        connection.execute(insert(_SESSIONS).values(token_hash=token_hash, account=account, csrf=csrf, created=now, expires=expires))
        row = connection.execute(select(schema.accounts).where(schema.accounts.c.id == account)).one()
        return Session(account_of(connection, row), csrf, now, expires)


def session(store: Store, token_hash: str, now: float) -> Session | None:
    """The live session of this token; None when there is none. Every request asks for it: one statement."""
    with store.database.look() as connection:
        rows = connection.execute(_LIVE, {"token": token_hash, "now": now}).all()
    if not rows:
        return None
    first = rows[0]
    qualified = tuple(sorted(row.project for row in rows if row.qualified is not None))
    projects = tuple(row.project for row in rows if row.project is not None)
    reviews = tuple(row.project for row in rows if row.since is not None)
    return Session(account_in(first, qualified), first.csrf, first.begun, first.expires, projects, reviews)


def end_session(store: Store, token_hash: str) -> None:
    """Nothing; the session is over."""
    with store.database.write() as connection:
        connection.execute(delete(_SESSIONS).where(_SESSIONS.c.token_hash == token_hash))


def end_sessions(store: Store, account: str) -> int:
    """How many sessions of the account there were; all are over."""
    with store.database.write() as connection:
        return connection.execute(delete(_SESSIONS).where(_SESSIONS.c.account == account)).rowcount


def note_failure(store: Store, name: str, address: str, now: float) -> None:
    """Nothing; a login with this name from this address has failed."""
    with store.database.write() as connection:
        connection.execute(delete(_FAILED).where(_FAILED.c.created < now - KEPT_FAILURES_SECONDS))
        connection.execute(insert(_FAILED).values(name_key=_short(name), address=address, created=now))


def failures(store: Store, name: str, address: str, since: float) -> Failures:
    """How many logins failed since then, with this name, from this address, and both."""
    counted = select(func.count()).select_from(_FAILED).where(_FAILED.c.created >= since)
    named, there = _FAILED.c.name_key == _short(name), _FAILED.c.address == address
    with store.database.read() as connection:
        counts = [int(connection.execute(counted.where(one)).scalar_one()) for one in (named, there, named & there)]
    return Failures(*counts)


def forget_failures(store: Store, name: str, address: str | None = None) -> None:
    """Nothing; failed logins with this name (from this address, where one is given) count no more. For after a good one."""
    gone = delete(_FAILED).where(_FAILED.c.name_key == _short(name))
    with store.database.write() as connection:
        connection.execute(gone if address is None else gone.where(_FAILED.c.address == address))


def _short(name: str) -> str:
    """A name as typed by anybody: cut, and without what a database cannot hold."""
    return name_key(name.replace("\0", "").encode("utf-8", errors="replace").decode("utf-8"))[:200]
