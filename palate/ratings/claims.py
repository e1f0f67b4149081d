"""Handing items out: who gets which item, for how long, and in which order its candidates are shown.

An item has `wanted` places, and `taken` counts its standing judgments and its leases. One statement finds an item with a free place and
takes the place, so two raters cannot take the same one. PostgreSQL checks the row again after waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf, nextafter
from random import Random
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from palate.core import DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Assignment, Item
from palate.ratings.projects import find_project
from palate.ratings.queue import BusyError, balanced_order, draw_item
from palate.ratings.table_rows import assignment_of, item_of

ATTEMPTS = 20
"""How often a claim is tried if others are changing the last items (on PostgreSQL); about half a second in all."""

SWEEP_SIZE = 200
"""Expired leases given back at a time."""

_ASSIGNMENTS, _ITEMS, _MEMBERS = schema.assignments, schema.items, schema.members
_OPEN = (_ASSIGNMENTS.c.project == bindparam("in_project")) & (_ASSIGNMENTS.c.state == "open")
_HELD = select(_ASSIGNMENTS).where(_OPEN, _ASSIGNMENTS.c.rater == bindparam("for_rater"), _ASSIGNMENTS.c.expires > bindparam("now"))
_HELD_IN_ORDER = _HELD.order_by(_ASSIGNMENTS.c.claimed, _ASSIGNMENTS.c.id).limit(bindparam("count"))
_ITEMS_BY_ID = select(_ITEMS).where(_ITEMS.c.id.in_(bindparam("those", expanding=True)))
_EXPIRED = select(_ASSIGNMENTS.c.id, _ASSIGNMENTS.c.item).where(_OPEN, _ASSIGNMENTS.c.expires <= bindparam("now"))
_SWEEP = _EXPIRED.order_by(_ASSIGNMENTS.c.item).limit(SWEEP_SIZE).with_for_update(skip_locked=True)
_MINE = (_MEMBERS.c.project == bindparam("in_project")) & (_MEMBERS.c.account == bindparam("for_rater"))
# The pool is written into the statement, because a plan for any pool would search them all.
_QUALIFICATION: BindParameter[str] = bindparam("tested", "qualification", literal_execute=True)
_TEST = (_ITEMS.c.project == bindparam("in_project")) & (_ITEMS.c.pool == _QUALIFICATION) & _ITEMS.c.removed.is_(None)
_MEMBER = select(_MEMBERS, exists().where(_TEST).label("is_tested")).where(_MINE).with_for_update(of=_MEMBERS)
_GUIDELINE = select(func.max(schema.guidelines.c.version)).where(schema.guidelines.c.project == bindparam("project")).scalar_subquery()
_ITEM_SIDES = update(_ITEMS).where(_ITEMS.c.id == bindparam("which")).values(sides=_ITEMS.c.sides + bindparam("sign"))
_MEMBER_SIDES = update(_MEMBERS).where(_MINE).values(sides=_MEMBERS.c.sides + bindparam("sign"))


def claim(store: Store, project: str, account: str, now: float, random: Random) -> Assignment | None:
    """Return the assignment that the rater works on, which may be a new one; None if nothing is left for this rater.

    A second call before an answer returns the same assignment. If the project has a qualification, raters who have not passed it get only
    its items. The account must be a member of the project (`join`).

    Raises:
        DataError: the project does not exist, or the account is not a member of it.
    """
    held = claim_many(store, project, account, now, random, 1)
    return held[0][0] if held else None


def claim_many(store: Store, project: str, account: str, now: float, random: Random, count: int) -> list[tuple[Assignment, Item]]:
    """Return the rater's first `count` assignments with their items; fewer if no more are left.

    The first is the one that `claim` returns. A page can fetch those after it ahead of time. Raises errors as `claim` does.
    """
    for attempt in range(ATTEMPTS):
        try:
            return store.database.run(lambda connection: _take(connection, project, (account, store.database.identify), now, random, count))
        except BusyError:
            time.sleep(random.random() * 0.002 * (attempt + 1))
    return []


def release(store: Store, assignment: str, account: str) -> bool:
    """Give the assignment back, so that someone else may take it, and return whether the rater held it."""
    table = schema.assignments

    def work(connection: Connection) -> bool:
        mine = select(table).where(table.c.id == assignment, table.c.rater == account, table.c.state == "open").with_for_update()
        row = connection.execute(mine).one_or_none()
        if row is not None:
            connection.execute(update(table).where(table.c.id == assignment).values(state="released"))
            give_back(connection, row.item)
        return row is not None

    return store.database.run(work)


def assignment(store: Store, assignment: str) -> Assignment:
    """Return the assignment with this id.

    Raises:
        DataError: no assignment has this id.
    """
    with store.database.query() as connection:
        row = connection.execute(select(schema.assignments).where(schema.assignments.c.id == assignment)).one_or_none()
    if row is None:
        raise DataError(f"There is no assignment {assignment!r}. Ask for a new one.")
    return assignment_of(row)


def give_back(connection: Connection, item: str) -> None:
    """Give the item one more free place. Gold items do not have places."""
    table = schema.items
    connection.execute(update(table).where(table.c.id == item, table.c.pool == "items").values(taken=table.c.taken - 1))


def _take(
    connection: Connection, project: str, who: tuple[str, Callable[[], str]], now: float, random: Random, count: int
) -> list[tuple[Assignment, Item]]:
    """Return what the rater holds, filled up to `count` assignments as far as there are items."""
    account, identify = who
    mine = {"in_project": project, "for_rater": account}
    settings = find_project(connection, project)
    # Locking this row keeps two pages of one rater from claiming at once.
    member = connection.execute(_MEMBER, mine).one_or_none()
    if member is None:
        raise DataError(f"The account {account!r} does not rate in project {settings.name!r}. Let it join first.")
    held, rater_sides = _held(connection, project, account, now, count), member.sides
    if len(held) < count:
        _sweep(connection, project, now)
    while len(held) < count:
        try:
            item = draw_item(connection, settings, account, random, is_tested=member.is_tested and member.qualified is None)
        except BusyError:
            if held:
                break
            raise
        if item is None:
            break
        order, sign = balanced_order(len(item.candidates), item.sides, rater_sides, random)
        # Two claims of one moment are ordered as they were made.
        claimed = max(now, nextafter(held[-1][0].claimed, inf)) if held else now
        first = {"id": identify(), "project": project, "item": item.id, "rater": account, "shown": list(order), "state": "open"}
        lease = {"claimed": claimed, "expires": now + settings.lease_seconds}
        row = connection.execute(_ASSIGN[connection.dialect.name], first | lease).one()
        if sign and row.id == first["id"]:
            connection.execute(_ITEM_SIDES, {"which": item.id, "sign": sign})
            connection.execute(_MEMBER_SIDES, mine | {"sign": sign})
            rater_sides += sign
        held.append((assignment_of(row), item_of(item)))
    return held


def _assigning(dialect: Any) -> Any:
    """Return the statement that adds an assignment. If the rater had the item before, it renews that assignment in its old order."""
    names = ("id", "project", "item", "rater", "shown", "claimed", "expires", "state")
    addition = dialect.insert(_ASSIGNMENTS).values(
        {name: bindparam(name, type_=_ASSIGNMENTS.c[name].type) for name in names} | {"guideline": _GUIDELINE}
    )
    renewed = {name: addition.excluded[name] for name in ("claimed", "expires", "state", "guideline")}
    return addition.on_conflict_do_update(index_elements=["item", "rater"], set_=renewed).returning(_ASSIGNMENTS)


_ASSIGN = {"sqlite": _assigning(sqlite), "postgresql": _assigning(postgresql)}


def _held(connection: Connection, project: str, account: str, now: float, count: int) -> list[tuple[Assignment, Item]]:
    """Return the first `count` of the rater's live assignments, the oldest first."""
    mine = {"in_project": project, "for_rater": account, "now": now, "count": count}
    rows = connection.execute(_HELD_IN_ORDER, mine).all()
    if not rows:
        return []
    items = {item.id: item_of(item) for item in connection.execute(_ITEMS_BY_ID, {"those": [row.item for row in rows]})}
    return [(assignment_of(row), items[row.item]) for row in rows]


def _sweep(connection: Connection, project: str, now: float) -> None:
    """Free the places of expired leases, in the order of items, so that two sweeps do not block each other."""
    rows = connection.execute(_SWEEP, {"in_project": project, "now": now}).all()
    if rows:
        connection.execute(update(_ASSIGNMENTS).where(_ASSIGNMENTS.c.id.in_([row.id for row in rows])).values(state="expired"))
    for row in rows:
        give_back(connection, row.item)
