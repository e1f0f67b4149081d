"""Invitations, links that work once, sessions, and failed logins.

Callers give tokens as hashes, so nobody can log in with what is in the database. Every server process reads the same tables.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from palate.core import ConfigError
from palate.ratings import schema
from palate.ratings.accounts import account_in, account_of, add_member, find_account, insert_account
from palate.ratings.database import Store
from palate.ratings.entities import Account, AccountRole, FailedLogins, Invitation, Link, LinkUse, Session
from palate.ratings.projects import find_project
from palate.ratings.table_rows import name_key

FAILED_LOGIN_SECONDS = 7 * 24 * 3600.0
"""Failed logins older than this are deleted."""

_INVITATIONS, _LINKS, _SESSIONS = schema.invitations, schema.links, schema.sessions
_FAILED, _REVIEWERS = schema.failed_logins, schema.reviewers
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
    """Let whoever has the token join the project with this role, up to `uses` times, until the time `expires`.

    Raises:
        ConfigError: `uses` is below 1, or the token is taken.
        DataError: the project does not exist.
    """
    if uses < 1:
        raise ConfigError(f"An invitation must have at least 1 use, not {uses}.")
    with store.database.write() as connection:
        find_project(connection, project)
        if connection.execute(select(_INVITATIONS.c.uses).where(_INVITATIONS.c.token_hash == token_hash)).one_or_none() is not None:
            raise ConfigError("This invitation's token is taken. Draw another one.")
        connection.execute(insert(_INVITATIONS).values(token_hash=token_hash, project=project, role=role, expires=expires, uses=uses))


def invitation(store: Store, token_hash: str, now: float) -> Invitation | None:
    """Return what the invitation would give; None if it is unknown, expired or used up. This does not cost a use."""
    with store.database.query() as connection:
        row = connection.execute(select(_INVITATIONS).where(_is_valid(token_hash, now))).one_or_none()
    return None if row is None else Invitation(row.project, row.role)


def redeem(
    store: Store, token_hash: str, now: float, account: Account, password_hash: str | None = None
) -> tuple[Invitation, Account] | None:
    """Redeem an invitation and return it with the account that joined; None if it is unknown, expired or used up.

    It is one transaction, so a use is spent only if the account is a member afterwards. An account without an id is added first, with this
    name and password hash. Its role is rater, because an invitation gives a role only in its project.

    Raises:
        ConfigError: the name of the account to add cannot be used, or is taken.
    """
    spend = update(_INVITATIONS).where(_is_valid(token_hash, now)).values(uses=_INVITATIONS.c.uses - 1).returning(_INVITATIONS)
    with store.database.write() as connection:
        row = connection.execute(spend).one_or_none()
        if row is None:
            return None
        member = account if account.id else insert_account(connection, store, account, password_hash)
        add_member(connection, row.project, member.id, now, reviews=row.role != "rater")
    return Invitation(row.project, row.role), member


def _is_valid(token_hash: str, now: float) -> ColumnElement[bool]:
    return (_INVITATIONS.c.token_hash == token_hash) & (_INVITATIONS.c.expires > now) & (_INVITATIONS.c.uses > 0)


def open_invitations(store: Store, project: str, now: float) -> int:
    """Return how many of the project's invitations can still be used."""
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(_INVITATIONS).where(_is_open(project, now))).scalar_one()


def end_invitations(store: Store, project: str, now: float) -> int:
    """End the project's open invitations and return how many there were."""
    with store.database.write() as connection:
        return connection.execute(update(_INVITATIONS).where(_is_open(project, now)).values(uses=0)).rowcount


def _is_open(project: str, now: float) -> ColumnElement[bool]:
    return (_INVITATIONS.c.project == project) & (_INVITATIONS.c.expires > now) & (_INVITATIONS.c.uses > 0)


def issue_link(store: Store, token_hash: str, link: Link, now: float) -> None:
    """Issue a link that works once, until it expires. An earlier link for the same account ends, and expired links are deleted.

    Several set-up links may be open, because each server process that starts while there is no owner prints its own.

    Raises:
        DataError: the account does not exist.
    """

    def work(connection: Connection) -> None:
        connection.execute(delete(_LINKS).where(_LINKS.c.expires <= now))
        if link.account is not None:
            find_account(connection, link.account)
            connection.execute(delete(_LINKS).where(_LINKS.c.account == link.account))
        connection.execute(insert(_LINKS).values(token_hash=token_hash, use=link.use, account=link.account, expires=link.expires))

    store.database.run(work)


def find_link(store: Store, token_hash: str, use: LinkUse, now: float) -> Link | None:
    """Return what the link is for; None if it does not work, or does not work any more."""
    with store.database.read() as connection:
        row = connection.execute(select(_LINKS).where(_works(token_hash, use, now))).one_or_none()
    return None if row is None else Link(row.use, row.account, row.expires)


def redeem_link(store: Store, token_hash: str, use: LinkUse, now: float) -> Link | None:
    """Use up the link, with all others for the same purpose, and return what it is for; None as `find_link`.

    If several callers redeem a link at once, one of them gets it.
    """

    def work(connection: Connection) -> Link | None:
        # Everyone locks the links in one order. Otherwise PostgreSQL aborts callers that wait for each other.
        connection.execute(select(_LINKS.c.token_hash).where(_LINKS.c.use == use).order_by(_LINKS.c.token_hash).with_for_update()).all()
        row = connection.execute(delete(_LINKS).where(_works(token_hash, use, now)).returning(_LINKS)).one_or_none()
        if row is None:
            return None
        is_same = _LINKS.c.account.is_(None) if row.account is None else _LINKS.c.account == row.account
        connection.execute(delete(_LINKS).where(_LINKS.c.use == use, is_same))
        return Link(row.use, row.account, row.expires)

    return store.database.run(work)


def _works(token_hash: str, use: LinkUse, now: float) -> ColumnElement[bool]:
    return (_LINKS.c.token_hash == token_hash) & (_LINKS.c.use == use) & (_LINKS.c.expires > now)


def start_session(store: Store, account: str, token_hash: str, csrf: str, now: float, expires: float) -> Session:
    """Start a session and return it. Expired sessions are deleted."""
    with store.database.write() as connection:
        connection.execute(delete(_SESSIONS).where(_SESSIONS.c.expires <= now))
        connection.execute(insert(_SESSIONS).values(token_hash=token_hash, account=account, csrf=csrf, created=now, expires=expires))
        row = connection.execute(select(schema.accounts).where(schema.accounts.c.id == account)).one()
        return Session(account_of(connection, row), csrf, now, expires)


def session(store: Store, token_hash: str, now: float) -> Session | None:
    """Return the live session of this token; None if there is none. It is one statement, because every request needs it."""
    with store.database.query() as connection:
        rows = connection.execute(_LIVE, {"token": token_hash, "now": now}).all()
    if not rows:
        return None
    first = rows[0]
    qualified = tuple(sorted(row.project for row in rows if row.qualified is not None))
    projects = tuple(row.project for row in rows if row.project is not None)
    reviews = tuple(row.project for row in rows if row.since is not None)
    return Session(account_in(first, qualified), first.csrf, first.begun, first.expires, projects, reviews)


def end_session(store: Store, token_hash: str) -> None:
    """End the session."""
    with store.database.write() as connection:
        connection.execute(delete(_SESSIONS).where(_SESSIONS.c.token_hash == token_hash))


def end_sessions(store: Store, account: str) -> int:
    """End all sessions of the account and return how many there were."""
    with store.database.write() as connection:
        return connection.execute(delete(_SESSIONS).where(_SESSIONS.c.account == account)).rowcount


def record_failed_login(store: Store, name: str, address: str, now: float) -> None:
    """Record that a login with this name from this address failed. Old rows are deleted."""
    with store.database.write() as connection:
        connection.execute(delete(_FAILED).where(_FAILED.c.created < now - FAILED_LOGIN_SECONDS))
        connection.execute(insert(_FAILED).values(name_key=_short(name), address=address, created=now))


def failed_logins(store: Store, name: str, address: str, since: float) -> FailedLogins:
    """Return how many logins failed since that time: with this name, from this address, and both."""
    query = select(func.count()).select_from(_FAILED).where(_FAILED.c.created >= since)
    named, there = _FAILED.c.name_key == _short(name), _FAILED.c.address == address
    with store.database.read() as connection:
        counts = [int(connection.execute(query.where(condition)).scalar_one()) for condition in (named, there, named & there)]
    return FailedLogins(*counts)


def forget_failed_logins(store: Store, name: str, address: str | None = None) -> None:
    """Delete the failed logins with this name, or only those from this address. Call it after a login that succeeded."""
    removal = delete(_FAILED).where(_FAILED.c.name_key == _short(name))
    with store.database.write() as connection:
        connection.execute(removal if address is None else removal.where(_FAILED.c.address == address))


def _short(name: str) -> str:
    """Return a name that anybody may have typed, cut to 200 characters and without those that a database cannot hold."""
    return name_key(name.replace("\0", "").encode("utf-8", errors="replace").decode("utf-8"))[:200]
