"""Looking at what others said of an item: only for those who cannot be swayed by it any more."""

from __future__ import annotations

from sqlalchemy import Connection, Row, exists, func, insert, select, update

from palate.core import DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.projects import latest_guideline

_ASKED, _SAID, _ITEMS, _VIEWS = schema.assignments, schema.judgments, schema.items, schema.item_views
_LATER = _SAID.alias()
_VOTES = (_SAID.c.kind == "answer") & ~_SAID.c.is_skip & ~exists().where(_LATER.c.supersedes == _SAID.c.id)


def is_seen(store: Store, item: str, account: str) -> bool:
    """Whether the account has looked at what others said of the item."""
    with store.database.read() as connection:
        return has_looked(connection, item, account)


def has_looked(connection: Connection, item: str, account: str) -> bool:
    """As `is_seen`, within a transaction."""
    return connection.execute(select(_VIEWS.c.viewed).where(_VIEWS.c.item == item, _VIEWS.c.account == account)).first() is not None


def may_look(store: Store, item: str, account: str) -> bool:
    """Whether the account has a standing answer to the item that is no skip, or would not get it: every vote wanted is in."""
    with store.database.read() as connection:
        return _may_look(connection, item, account)


def look(store: Store, item: str, account: str, now: float) -> bool:
    """Whether the account may look; from now on it is known to have looked.

    The item is never given to it any more, what it answered stands and cannot be taken back, and what it sends yet is surplus.

    Raises:
        DataError: there is no such item.
    """

    def work(connection: Connection) -> bool:
        # Both rows are locked by an undo, too, so that no answer is taken back between the look and the mark.
        connection.execute(select(schema.accounts.c.id).where(schema.accounts.c.id == account).with_for_update())
        mine = select(_ASKED).where(_ASKED.c.item == item, _ASKED.c.rater == account).with_for_update()
        row = connection.execute(mine).one_or_none()
        if has_looked(connection, item, account):
            return True
        if not _may_look(connection, item, account) or (row is not None and row.state == "open"):
            return False
        connection.execute(insert(_VIEWS).values(item=item, account=account, viewed=now))
        if row is None:
            _decline(connection, store, _found(connection, item), account, now)
        elif row.state != "done":
            connection.execute(update(_ASKED).where(_ASKED.c.id == row.id).values(state="declined"))
        return True

    return store.database.run(work)


def _may_look(connection: Connection, item: str, account: str) -> bool:
    here = select(func.count()).select_from(_SAID).where(_SAID.c.item == item, _VOTES)
    if connection.execute(here.where(_SAID.c.rater == account)).scalar_one():
        return True
    row = _found(connection, item)
    # Gold and the items of a qualification are asked of everyone, so nobody is through with them before his own answer.
    return row.pool == "items" and bool(connection.execute(here.where(_SAID.c.status == "kept")).scalar_one() >= row.wanted)


def _found(connection: Connection, item: str) -> Row[tuple[object, ...]]:
    row = connection.execute(select(_ITEMS).where(_ITEMS.c.id == item)).one_or_none()
    if row is None:
        raise DataError(f"There is no item {item!r}. Choose one of those listed.")
    return row


def _decline(connection: Connection, store: Store, item: Row[tuple[object, ...]], account: str, now: float) -> None:
    """Nothing; an assignment that was never handed out keeps the item from the account."""
    values = {
        "id": store.database.identify(), "project": item.project, "item": item.id, "rater": account, "claimed": now, "expires": now,
        "shown": list(range(len(item.candidates))), "state": "declined", "guideline": latest_guideline(connection, item.project),
    }  # fmt: skip
    connection.execute(insert(_ASKED).values(values))
