"""Who may see what others answered to an item: only accounts whose own answer it can no longer influence."""

from __future__ import annotations

from sqlalchemy import Connection, Row, exists, func, insert, select, update

from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.items import find_item
from palate.ratings.projects import latest_guideline

_ASSIGNMENTS, _JUDGMENTS, _VIEWS = schema.assignments, schema.judgments, schema.item_views
_LATER = _JUDGMENTS.alias()
_VOTES = (_JUDGMENTS.c.kind == "answer") & ~_JUDGMENTS.c.is_skip & ~exists().where(_LATER.c.supersedes == _JUDGMENTS.c.id)


def has_viewed(store: Store, item: str, account: str) -> bool:
    """Return whether the account has seen what others answered to the item."""
    with store.database.read() as connection:
        return is_viewed(connection, item, account)


def is_viewed(connection: Connection, item: str, account: str) -> bool:
    """Return the same as `has_viewed`, within a transaction."""
    return connection.execute(select(_VIEWS.c.viewed).where(_VIEWS.c.item == item, _VIEWS.c.account == account)).first() is not None


def may_view(store: Store, item: str, account: str) -> bool:
    """Return whether the account may see what others answered to the item.

    It may if it has a standing answer to the item that is not a skip, or if all wanted votes are in, so that it would not get the item.
    """
    with store.database.read() as connection:
        return _may_view(connection, item, account)


def view_answers(store: Store, item: str, account: str, now: float) -> bool:
    """Record that the account sees what others answered to the item, and return whether it may. If it may not, record nothing.

    From then on the account never gets the item, its answer to the item cannot be taken back, and later answers are surplus.

    Raises:
        DataError: the item does not exist.
    """

    def work(connection: Connection) -> bool:
        # An undo locks both rows as well, so no answer is taken back between the check and the record.
        connection.execute(select(schema.accounts.c.id).where(schema.accounts.c.id == account).with_for_update())
        mine = select(_ASSIGNMENTS).where(_ASSIGNMENTS.c.item == item, _ASSIGNMENTS.c.rater == account).with_for_update()
        row = connection.execute(mine).one_or_none()
        if is_viewed(connection, item, account):
            return True
        if not _may_view(connection, item, account) or (row is not None and row.state == "open"):
            return False
        connection.execute(insert(_VIEWS).values(item=item, account=account, viewed=now))
        if row is None:
            _decline(connection, store, find_item(connection, item), account, now)
        elif row.state != "done":
            connection.execute(update(_ASSIGNMENTS).where(_ASSIGNMENTS.c.id == row.id).values(state="declined"))
        return True

    return store.database.run(work)


def _may_view(connection: Connection, item: str, account: str) -> bool:
    here = select(func.count()).select_from(_JUDGMENTS).where(_JUDGMENTS.c.item == item, _VOTES)
    if connection.execute(here.where(_JUDGMENTS.c.rater == account)).scalar_one():
        return True
    row = find_item(connection, item)
    # Everyone gets gold and the items of a qualification, so an account that has not answered one would still get it.
    return row.pool == "items" and bool(connection.execute(here.where(_JUDGMENTS.c.status == "kept")).scalar_one() >= row.wanted)


def _decline(connection: Connection, store: Store, item: Row[tuple[object, ...]], account: str, now: float) -> None:
    """Add an assignment that was never handed out, which keeps the item from the account."""
    values = {
        "id": store.database.identify(), "project": item.project, "item": item.id, "rater": account, "claimed": now, "expires": now,
        "shown": list(range(len(item.candidates))), "state": "declined", "guideline": latest_guideline(connection, item.project),
    }  # fmt: skip
    connection.execute(insert(_ASSIGNMENTS).values(values))
