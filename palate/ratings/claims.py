"""Handing items out: who gets which item, for how long, and in which order its candidates are shown.

An item has `wanted` places; `taken` counts its standing judgments and its leases. A place is taken by one statement that looks for an
item with a free one and counts it up, so two raters cannot take the same. PostgreSQL checks the row again after waiting for it.
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
from palate.ratings import queue as draws
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Assignment, Item
from palate.ratings.projects import find_project
from palate.ratings.table_rows import assignment_of, item_of

TURNS = 20
"""How often a claim is tried whose last items are in the hands of others (on PostgreSQL), about half a second in all."""

SWEEP = 200
"""Expired leases given back in one go."""

_ASKED, _ITEMS, _MEMBERS = schema.assignments, schema.items, schema.members
_OPEN = (_ASKED.c.project == bindparam("in_project")) & (_ASKED.c.state == "open")
_HELD = select(_ASKED).where(_OPEN, _ASKED.c.rater == bindparam("for_rater"), _ASKED.c.expires > bindparam("now"))
_HELD_IN_ORDER = _HELD.order_by(_ASKED.c.claimed, _ASKED.c.id).limit(bindparam("count"))
_THEIR_ITEMS = select(_ITEMS).where(_ITEMS.c.id.in_(bindparam("those", expanding=True)))
_STALE = select(_ASKED.c.id, _ASKED.c.item).where(_OPEN, _ASKED.c.expires <= bindparam("now"))
_SWEEP = _STALE.order_by(_ASKED.c.item).limit(SWEEP).with_for_update(skip_locked=True)
_MINE = (_MEMBERS.c.project == bindparam("in_project")) & (_MEMBERS.c.account == bindparam("for_rater"))
# Written into the statement: a plan for any pool would search them all.
_TESTED: BindParameter[str] = bindparam("tested", "qualification", literal_execute=True)
_TEST = (_ITEMS.c.project == bindparam("in_project")) & (_ITEMS.c.pool == _TESTED) & _ITEMS.c.removed.is_(None)
_MEMBER = select(_MEMBERS, exists().where(_TEST).label("is_tested")).where(_MINE).with_for_update(of=_MEMBERS)
_GUIDELINE = select(func.max(schema.guidelines.c.version)).where(schema.guidelines.c.project == bindparam("project")).scalar_subquery()
_ITEM_SIDES = update(_ITEMS).where(_ITEMS.c.id == bindparam("which")).values(sides=_ITEMS.c.sides + bindparam("sign"))
_MEMBER_SIDES = update(_MEMBERS).where(_MINE).values(sides=_MEMBERS.c.sides + bindparam("sign"))


def claim(store: Store, project: str, account: str, now: float, random: Random) -> Assignment | None:
    """What the rater works on: an assignment under way, or a new one; None when nothing is left for this rater.

    Asked again before an answer, it is the same assignment. A rater who has not passed a qualification that the project has gets its items
    first, and nothing else. The account must be a member of the project (`join`).

    Raises:
        DataError: there is no such project, or the account is not one of its members.
    """
    held = hold(store, project, account, now, random, 1)
    return held[0][0] if held else None


def hold(store: Store, project: str, account: str, now: float, random: Random, count: int) -> list[tuple[Assignment, Item]]:
    """The first `count` assignments of the rater with their items; fewer where no more are left.

    The first is the one that `claim` gives; those after it are to be fetched ahead. Errors as `claim`.
    """
    for turn in range(TURNS):
        try:
            return store.database.run(lambda connection: _take(connection, project, (account, store.database.identify), now, random, count))
        except draws.BusyError:
            time.sleep(random.random() * 0.002 * (turn + 1))
    return []


def release(store: Store, assignment: str, account: str) -> bool:
    """Whether the rater held the assignment; it is given back, and someone else may take it."""
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
    """The assignment of this id.

    Raises:
        DataError: there is none.
    """
    with store.database.look() as connection:
        row = connection.execute(select(schema.assignments).where(schema.assignments.c.id == assignment)).one_or_none()
    if row is None:
        raise DataError(f"There is no assignment {assignment!r}. Ask for a new one.")
    return assignment_of(row)


def give_back(connection: Connection, item: str) -> None:
    """Nothing; the item has one more free place. Gold items have no places to give."""
    table = schema.items
    connection.execute(update(table).where(table.c.id == item, table.c.pool == "items").values(taken=table.c.taken - 1))


def _take(
    connection: Connection, project: str, who: tuple[str, Callable[[], str]], now: float, random: Random, count: int
) -> list[tuple[Assignment, Item]]:
    """What the rater holds, filled up to `count` as far as there are items."""
    account, identify = who
    mine = {"in_project": project, "for_rater": account}
    found = find_project(connection, project)
    # Locking this row keeps two pages of one rater from claiming at once.
    member = connection.execute(_MEMBER, mine).one_or_none()
    if member is None:
        raise DataError(f"The account {account!r} does not rate in project {found.name!r}. Let it join first.")
    held, sides = _held(connection, project, account, now, count), member.sides
    if len(held) < count:
        _sweep(connection, project, now)
    while len(held) < count:
        try:
            item = draws.draw(connection, found, account, random, is_tested=member.is_tested and member.qualified is None)
        except draws.BusyError:
            if held:
                break
            raise
        if item is None:
            break
        order, sign = draws.sides(len(item.candidates), item.sides, sides, random)
        # The order of two claims of one moment is the order in which they were made.
        claimed = max(now, nextafter(held[-1][0].claimed, inf)) if held else now
        first = {"id": identify(), "project": project, "item": item.id, "rater": account, "shown": list(order), "state": "open"}
        lease = {"claimed": claimed, "expires": now + found.lease_seconds}
        row = connection.execute(_ASSIGN[connection.dialect.name], first | lease).one()
        if sign and row.id == first["id"]:
            connection.execute(_ITEM_SIDES, {"which": item.id, "sign": sign})
            connection.execute(_MEMBER_SIDES, mine | {"sign": sign})
            sides += sign
        held.append((assignment_of(row), item_of(item)))
    return held


def _assigning(dialect: Any) -> Any:
    """The statement that makes an assignment, or takes up again, in its old order, one that the rater let go of before."""
    names = ("id", "project", "item", "rater", "shown", "claimed", "expires", "state")
    fresh = dialect.insert(_ASKED).values({name: bindparam(name, type_=_ASKED.c[name].type) for name in names} | {"guideline": _GUIDELINE})
    again = {name: fresh.excluded[name] for name in ("claimed", "expires", "state", "guideline")}
    return fresh.on_conflict_do_update(index_elements=["item", "rater"], set_=again).returning(_ASKED)


_ASSIGN = {"sqlite": _assigning(sqlite), "postgresql": _assigning(postgresql)}


def _held(connection: Connection, project: str, account: str, now: float, count: int) -> list[tuple[Assignment, Item]]:
    """The first `count` of the rater's live assignments, the oldest first."""
    mine = {"in_project": project, "for_rater": account, "now": now, "count": count}
    held = connection.execute(_HELD_IN_ORDER, mine).all()
    found = {row.id: item_of(row) for row in connection.execute(_THEIR_ITEMS, {"those": [one.item for one in held]})} if held else {}
    return [(assignment_of(row), found[row.item]) for row in held]


def _sweep(connection: Connection, project: str, now: float) -> None:
    """Nothing; places of expired leases are free again. In the order of items, so that two sweeps do not block each other."""
    rows = connection.execute(_SWEEP, {"in_project": project, "now": now}).all()
    if rows:
        connection.execute(update(_ASKED).where(_ASKED.c.id.in_([row.id for row in rows])).values(state="expired"))
    for row in rows:
        give_back(connection, row.item)
