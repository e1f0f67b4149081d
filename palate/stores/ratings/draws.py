"""Drawing the next item of a rater, and the order in which its candidates are shown."""

from __future__ import annotations

from random import Random
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, false, func, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from palate.stores.ratings import schema
from palate.stores.ratings.nouns import Assignment, Project
from palate.stores.ratings.rows import assignment_of

LOOK = 40
"""Begun items looked at in one draw before a fresh one is taken: a rater who did most of them does not search through all."""

_ITEMS, _DONE = schema.items, schema.assignments
_FREE = (_ITEMS.c.taken < _ITEMS.c.wanted) & _ITEMS.c.removed.is_(None)
_SPENT = ("open", "done", "skipped", "surplus")
"""States of an assignment after which its rater is not asked again. A lease that ran out or was given back may be taken up again."""


def draw(connection: Connection, project: Project, account: str, random: Random, *, is_qualified: bool) -> Row[Any] | None:
    """The item that the rater gets, with one of its places taken; None when nothing is left."""
    if not is_qualified and _has_qualification(connection, project.id):
        return _unseen(connection, project.id, account, "qualification", random)
    if project.gold_share and random.random() < project.gold_share:
        row = _unseen(connection, project.id, account, "gold", random)
        if row is not None:
            return row
    cells = _cells(connection, project.id)
    for rank in sorted({rank for rank, _ in cells}, reverse=True):
        strata = [stratum for at, stratum in cells if at == rank]
        random.shuffle(strata)
        row = _of_rank(connection, project, account, random, (rank, strata))
        if row is not None:
            return row
    # Nothing fresh: search every begun item, and wait for those that others are just now changing.
    rest = [_ITEMS.c.project == project.id, _ITEMS.c.pool == "items", _FREE, _not_mine(account)]
    return _take(connection, select(_ITEMS.c.id).where(*rest).order_by(_ITEMS.c.rank.desc(), _ITEMS.c.draw), is_patient=True)


def sides(count: int, item_sides: int, rater_sides: int, random: Random) -> tuple[tuple[int, ...], int]:
    """(order, sign) for an item of `count` candidates: sign 1 when candidate 0 stands before candidate 1, -1 when after, 0 when alone.

    The order is a random permutation, or its reverse where that evens out how often each side came first: on this item, else with
    this rater.
    """
    order = list(range(count))
    random.shuffle(order)
    if count < 2:
        return tuple(order), 0
    sign = 1 if order.index(0) < order.index(1) else -1
    if sign * (item_sides or rater_sides) > 0:
        order.reverse()
        sign = -sign
    return tuple(order), sign


def assign(
    connection: Connection, item: Row[Any], account: str, identity: str, order: tuple[int, ...], lease: tuple[float, float], guideline: int
) -> tuple[Assignment, bool]:
    """(assignment, whether it is new). One that the rater let go of before is taken up again, in its old order."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    claimed, expires = lease
    values = {"id": identity, "project": item.project, "item": item.id, "rater": account, "shown": list(order), "claimed": claimed}
    again = {"state": "open", "claimed": claimed, "expires": expires, "guideline": guideline}
    row = connection.execute(
        insert(_DONE).values(values | again).on_conflict_do_update(index_elements=["item", "rater"], set_=again).returning(_DONE)
    ).one()
    return assignment_of(row), row.id == identity


def _of_rank(connection: Connection, project: Project, account: str, random: Random, cells: tuple[int, list[str]]) -> Row[Any] | None:
    """A place on an item of the newest policies: one begun by others, so that items are finished, or a fresh one."""
    rank, strata = cells
    row = _begun(connection, project.id, account, random, rank)
    if row is not None:
        return row
    share = project.random_share if project.queue == "uncertain" else 1.0
    if random.random() >= share:
        row = _most_uncertain(connection, project.id, account, rank)
        if row is not None:
            return _with_probability(connection, row, 1 - share)
    for stratum in strata:
        cell = [_ITEMS.c.project == project.id, _ITEMS.c.pool == "items", _ITEMS.c.rank == rank, _ITEMS.c.stratum == stratum]
        fresh = [*cell, _FREE, _ITEMS.c.is_begun == false()]
        size = connection.execute(select(func.count()).select_from(_ITEMS).where(*fresh)).scalar_one()
        row = _anywhere(connection, select(_ITEMS.c.id).where(*fresh, _not_mine(account)), random) if size else None
        if row is not None:
            return _with_probability(connection, row, share / (len(strata) * size))
    return None


def _begun(connection: Connection, project: str, account: str, random: Random, rank: int) -> Row[Any] | None:
    """A begun item among some that lie together, not all, so that the search stays short."""
    start = random.random()
    near = select(_ITEMS.c.id).where(_ITEMS.c.project == project, _ITEMS.c.pool == "items", _ITEMS.c.rank == rank, _FREE)
    for side in (_ITEMS.c.draw >= start, _ITEMS.c.draw < start):
        some = near.where(_ITEMS.c.is_begun == true(), side).order_by(_ITEMS.c.draw).limit(LOOK)
        row = _take(connection, select(_ITEMS.c.id).where(_ITEMS.c.id.in_(some), _FREE, _not_mine(account)))
        if row is not None:
            return row
    return None


def _most_uncertain(connection: Connection, project: str, account: str, rank: int) -> Row[Any] | None:
    fresh = [_ITEMS.c.project == project, _ITEMS.c.rank == rank, _ITEMS.c.priority.is_not(None), _ITEMS.c.is_begun == false(), _FREE]
    return _take(connection, select(_ITEMS.c.id).where(*fresh, _not_mine(account)).order_by(_ITEMS.c.priority.desc()))


def _unseen(connection: Connection, project: str, account: str, pool: str, random: Random) -> Row[Any] | None:
    """A gold item that the rater has not had. It has no places to take, as every rater gets it."""
    left = select(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.pool == pool, _ITEMS.c.removed.is_(None), _not_mine(account))
    start = random.random()
    for side in (_ITEMS.c.draw >= start, _ITEMS.c.draw < start):
        row = connection.execute(left.where(side).order_by(_ITEMS.c.draw).limit(1)).one_or_none()
        if row is not None:
            return row
    return None


def _anywhere(connection: Connection, found: Select[Any], random: Random) -> Row[Any] | None:
    """A place on one of the items found, from a random point of their order on, then from its beginning."""
    start = random.random()
    for side in (_ITEMS.c.draw >= start, _ITEMS.c.draw < start):
        row = _take(connection, found.where(side).order_by(_ITEMS.c.draw))
        if row is not None:
            return row
    return None


def _take(connection: Connection, found: Select[Any], *, is_patient: bool = False) -> Row[Any] | None:
    """The first item found, with one more place taken, in one statement; None when there is none (or, unless patient, others are at it)."""
    first = found.limit(1).with_for_update(of=_ITEMS, skip_locked=not is_patient, key_share=True).scalar_subquery()
    taking = update(_ITEMS).where(_ITEMS.c.id == first, _FREE).values(taken=_ITEMS.c.taken + 1, is_begun=True)
    return connection.execute(taking.returning(_ITEMS)).one_or_none()


def _with_probability(connection: Connection, row: Row[Any], probability: float) -> Row[Any]:
    """The row; how it was drawn is written down at the first time."""
    first = (_ITEMS.c.id == row.id) & _ITEMS.c.selection_probability.is_(None)
    connection.execute(update(_ITEMS).where(first).values(selection_probability=probability))
    return row


def _not_mine(account: str) -> ColumnElement[bool]:
    return ~exists().where(_DONE.c.item == _ITEMS.c.id, _DONE.c.rater == account, _DONE.c.state.in_(_SPENT))


def _cells(connection: Connection, project: str) -> list[tuple[int, str]]:
    """(rank, stratum) of the cells in which an item is free."""
    cells = schema.cells
    free = exists().where(
        _ITEMS.c.project == project, _ITEMS.c.pool == "items", _ITEMS.c.rank == cells.c.rank, _ITEMS.c.stratum == cells.c.stratum, _FREE
    )
    return [
        (row.rank, row.stratum) for row in connection.execute(select(cells.c.rank, cells.c.stratum).where(cells.c.project == project, free))
    ]


def _has_qualification(connection: Connection, project: str) -> bool:
    found = select(_ITEMS.c.id).where(_ITEMS.c.project == project, _ITEMS.c.pool == "qualification", _ITEMS.c.removed.is_(None))
    return connection.execute(found.limit(1)).first() is not None
