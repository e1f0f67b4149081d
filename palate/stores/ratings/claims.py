"""Handing items out: who gets which item, for how long, and in which order its candidates are shown.

An item has `wanted` places; `taken` counts its standing judgments and its leases. A place is taken by one statement that looks for an
item with a free one and counts it up, so two raters cannot take the same. PostgreSQL checks the row again after waiting for it.
"""

from __future__ import annotations

from random import Random

from sqlalchemy import Connection, select, update

from palate.core import DataError
from palate.stores.ratings import draws, schema
from palate.stores.ratings.database import Store
from palate.stores.ratings.nouns import Assignment, Project
from palate.stores.ratings.projects import find_project, latest_guideline
from palate.stores.ratings.rows import assignment_of

SWEEP = 200
"""Expired leases given back in one go."""


def claim(store: Store, project: str, account: str, now: float, random: Random) -> Assignment | None:
    """What the rater works on: an assignment under way, or a new one; None when nothing is left for this rater.

    Asked again before an answer, it is the same assignment. A rater who has not passed a qualification that the project has gets its items
    first, and nothing else. The account must be a member of the project (`join`).

    Raises:
        DataError: there is no such project, or the account is not one of its members.
    """
    return _hold(store, project, account, now, random, 0)


def peek(store: Store, project: str, account: str, now: float, random: Random) -> Assignment | None:
    """The assignment that `claim` will give after the one under way, to be fetched ahead; None when there is none. Errors as `claim`."""
    return _hold(store, project, account, now, random, 1)


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
    with store.database.read() as connection:
        row = connection.execute(select(schema.assignments).where(schema.assignments.c.id == assignment)).one_or_none()
    if row is None:
        raise DataError(f"There is no assignment {assignment!r}. Ask for a new one.")
    return assignment_of(row)


def give_back(connection: Connection, item: str) -> None:
    """Nothing; the item has one more free place. Gold items have no places to give."""
    table = schema.items
    connection.execute(update(table).where(table.c.id == item, table.c.pool == "items").values(taken=table.c.taken - 1))


def _hold(store: Store, project: str, account: str, now: float, random: Random, place: int) -> Assignment | None:
    with store.database.read() as connection:
        found = find_project(connection, project)
        held = _held(connection, project, account, now)
        stale = _has_stale(connection, project, now)
    if len(held) > place:
        return held[place]
    if stale:
        store.database.run(lambda connection: _sweep(connection, project, now))
    return store.database.run(lambda connection: _take(connection, found, (account, store.database.identify()), now, random, place))


def _take(connection: Connection, project: Project, who: tuple[str, str], now: float, random: Random, place: int) -> Assignment | None:
    account, identity = who
    members = schema.members
    # Locking this row keeps two pages of one rater from claiming at once.
    mine = select(members).where(members.c.project == project.id, members.c.account == account).with_for_update()
    member = connection.execute(mine).one_or_none()
    if member is None:
        raise DataError(f"The account {account!r} does not rate in project {project.name!r}. Let it join first.")
    held = _held(connection, project.id, account, now)
    if len(held) > place:
        return held[place]
    row = draws.draw(connection, project, account, random, is_qualified=member.qualified is not None)
    if row is None:
        return None
    order, sign = draws.sides(len(row.candidates), row.sides, member.sides, random)
    lease = (now, now + project.lease_seconds)
    kept, is_new = draws.assign(connection, row, account, identity, order, lease, latest_guideline(connection, project.id))
    if is_new and sign:
        connection.execute(update(schema.items).where(schema.items.c.id == row.id).values(sides=schema.items.c.sides + sign))
        connection.execute(
            update(members).where(members.c.project == project.id, members.c.account == account).values(sides=member.sides + sign)
        )
    return kept


def _held(connection: Connection, project: str, account: str, now: float) -> list[Assignment]:
    """The rater's live assignments, the oldest first."""
    table = schema.assignments
    live = select(table).where(table.c.rater == account, table.c.project == project, table.c.state == "open", table.c.expires > now)
    return [assignment_of(row) for row in connection.execute(live.order_by(table.c.claimed, table.c.id))]


def _has_stale(connection: Connection, project: str, now: float) -> bool:
    table = schema.assignments
    stale = select(table.c.id).where(table.c.project == project, table.c.state == "open", table.c.expires <= now).limit(1)
    return connection.execute(stale).first() is not None


def _sweep(connection: Connection, project: str, now: float) -> None:
    """Nothing; places of expired leases are free again. In the order of items, so that two sweeps do not block each other."""
    table = schema.assignments
    stale = select(table.c.id, table.c.item).where(table.c.project == project, table.c.state == "open", table.c.expires <= now)
    rows = connection.execute(stale.order_by(table.c.item).limit(SWEEP).with_for_update(skip_locked=True)).all()
    if rows:
        connection.execute(update(table).where(table.c.id.in_([row.id for row in rows])).values(state="expired"))
    for row in rows:
        give_back(connection, row.item)
