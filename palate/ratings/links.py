"""Links that work once: the set-up of the first owner, and new passwords. They come in hashed, and every server process knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from palate.ratings import schema
from palate.ratings.accounts import find_account
from palate.ratings.database import Store

LinkUse = Literal["setup", "password"]
_LINKS, _INVITED = schema.links, schema.invitations


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for: `setup` (no account), or `password` (a new one for `account`)."""

    use: LinkUse
    account: str | None
    expires: float


def issue_link(store: Store, token_hash: str, link: Link, now: float) -> None:
    """Nothing; the link works until it expires, and an earlier one for the same account ends. Expired ones are cleared away.

    Several set-up links may be open: each server process that starts while there is no owner prints its own.

    Raises:
        DataError: there is no such account.
    """

    def work(connection: Connection) -> None:
        connection.execute(delete(_LINKS).where(_LINKS.c.expires <= now))
        if link.account is not None:
            find_account(connection, link.account)
            connection.execute(delete(_LINKS).where(_LINKS.c.account == link.account))
        connection.execute(insert(_LINKS).values(token_hash=token_hash, use=link.use, account=link.account, expires=link.expires))

    store.database.run(work)


def look_link(store: Store, token_hash: str, use: LinkUse, now: float) -> Link | None:
    """What the link is for; None when it does not work, or no more."""
    good = (_LINKS.c.token_hash == token_hash) & (_LINKS.c.use == use) & (_LINKS.c.expires > now)
    with store.database.read() as connection:
        row = connection.execute(select(_LINKS).where(good)).one_or_none()
    return None if row is None else Link(row.use, row.account, row.expires)


def take_link(store: Store, token_hash: str, use: LinkUse, now: float) -> Link | None:
    """As `look_link`, and neither it nor another for the same works any more: of many who take at once, one gets it."""
    good = (_LINKS.c.token_hash == token_hash) & (_LINKS.c.use == use) & (_LINKS.c.expires > now)

    def work(connection: Connection) -> Link | None:
        row = connection.execute(delete(_LINKS).where(good).returning(_LINKS)).one_or_none()
        if row is None:
            return None
        same = _LINKS.c.account.is_(None) if row.account is None else _LINKS.c.account == row.account
        connection.execute(delete(_LINKS).where(_LINKS.c.use == use, same))
        return Link(row.use, row.account, row.expires)

    return store.database.run(work)


def open_invitations(store: Store, project: str, now: float) -> int:
    """How many of the project's invitations somebody could still use."""
    usable = (_INVITED.c.project == project) & (_INVITED.c.expires > now) & (_INVITED.c.uses > 0)
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(_INVITED).where(usable)).scalar_one()


def end_invitations(store: Store, project: str, now: float) -> int:
    """How many invitations of the project were open; none is any more."""
    usable = (_INVITED.c.project == project) & (_INVITED.c.expires > now) & (_INVITED.c.uses > 0)
    with store.database.write() as connection:
        return connection.execute(update(_INVITED).where(usable).values(uses=0)).rowcount
