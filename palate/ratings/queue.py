"""Drawing the next item of a rater, and the order in which its candidates are shown.

The statements are made once: making them anew for every claim costs more than the database does.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Executable,
    Row,
    Select,
    String,
    bindparam,
    case,
    exists,
    false,
    func,
    select,
    true,
    update,
)

from palate.ratings import schema
from palate.ratings.entities import Project

EVENED = 1 / 3
"""How often a rater's sides are evened out by force: the side that came less often then comes with probability 2/3."""

LOOK = 40
"""Begun items looked at in one draw before a fresh one is taken: a rater who did most of them does not search through all."""

_ITEMS, _ASKED, _CELLS = schema.items, schema.assignments, schema.cells
_SPENT = ("open", "done", "skipped", "declined", "surplus")
"""States of an assignment after which its rater is not asked again. A lease that ran out or was given back may be taken up again."""

_FREE = (_ITEMS.c.taken < _ITEMS.c.wanted) & _ITEMS.c.removed.is_(None)
_HERE = (_ITEMS.c.project == bindparam("in_project")) & (_ITEMS.c.pool == bindparam("in_pool"))
_NOT_MINE = ~exists().where(_ASKED.c.item == _ITEMS.c.id, _ASKED.c.rater == bindparam("for_rater"), _ASKED.c.state.in_(_SPENT))
_FROM_A_POINT = (_ITEMS.c.draw >= bindparam("start"), _ITEMS.c.draw < bindparam("start"))
"""Items lie in a random order; a draw searches from a random point of it to the end, then from the beginning."""


class BusyError(Exception):
    """Items are left for the rater, but others are just now changing them: try again in a moment, in a new transaction."""


def _taking(found: Select[Any]) -> Executable:
    """The statement that takes a place on the first item found, and gives its row; no row when there is none.

    It passes over items that others are just now changing: who waited for one while holding another could block everybody. The
    probability of an item's first draw is kept: `probability`, and `more` where it is the item `top`, which comes both by chance and not.
    """
    first = found.limit(1).with_for_update(of=_ITEMS, skip_locked=True, key_share=True).scalar_subquery()
    more = case((_ITEMS.c.id == bindparam("top", type_=String), bindparam("more", type_=Double)), else_=0.0)
    drawn = func.coalesce(_ITEMS.c.selection_probability, bindparam("probability", type_=Double) + more)
    values = {"taken": _ITEMS.c.taken + 1, "is_begun": True, "selection_probability": drawn}
    return update(_ITEMS).where(_ITEMS.c.id == first, _FREE).values(values).returning(_ITEMS)


def _near(side: ColumnElement[bool]) -> Select[Any]:
    begun = (_ITEMS.c.rank == bindparam("of_rank")) & (_ITEMS.c.is_begun == true())
    some = select(_ITEMS.c.id).where(_HERE, _FREE, begun, side).order_by(_ITEMS.c.draw).limit(LOOK)
    # Looked up once: a planner that knows too little would look it up again for every item.
    near = some.cte("near").prefix_with("MATERIALIZED")
    return select(_ITEMS.c.id).join(near, near.c.id == _ITEMS.c.id).where(_FREE, _NOT_MINE)


_CELL = _HERE & (_ITEMS.c.rank == bindparam("of_rank")) & (_ITEMS.c.stratum == bindparam("of_stratum")) & (_ITEMS.c.is_begun == false())
_SCORED = _HERE & (_ITEMS.c.rank == bindparam("of_rank")) & (_ITEMS.c.is_begun == false()) & _ITEMS.c.priority.is_not(None)

_BEGUN = [_taking(_near(side)) for side in _FROM_A_POINT]
_FRESH = [_taking(select(_ITEMS.c.id).where(_CELL, _FREE, side, _NOT_MINE).order_by(_ITEMS.c.draw)) for side in _FROM_A_POINT]
_SIZE = select(func.count()).select_from(_ITEMS).where(_CELL, _FREE)
_UNCERTAIN = _taking(select(_ITEMS.c.id).where(_SCORED, _FREE, _NOT_MINE).order_by(_ITEMS.c.priority.desc()))
_TOP = select(_ITEMS.c.id, _ITEMS.c.stratum).where(_SCORED, _FREE, _NOT_MINE).order_by(_ITEMS.c.priority.desc()).limit(1)
_ANY = _taking(select(_ITEMS.c.id).where(_HERE, _FREE, _NOT_MINE).order_by(_ITEMS.c.rank.desc(), _ITEMS.c.draw))
_IS_LEFT = select(_ITEMS.c.id).where(_HERE, _FREE, _NOT_MINE).limit(1)
_SKIPPED = exists().where(_ASKED.c.item == _ITEMS.c.id, _ASKED.c.rater == bindparam("for_rater"), _ASKED.c.state == "skipped")
_AGAIN = _taking(select(_ITEMS.c.id).where(_HERE, _FREE, _SKIPPED).order_by(_ITEMS.c.draw))
_TESTED_AGAIN = select(_ITEMS).where(_HERE, _ITEMS.c.removed.is_(None), _SKIPPED).order_by(_ITEMS.c.draw).limit(1)
_UNSEEN = [
    select(_ITEMS).where(_HERE, _ITEMS.c.removed.is_(None), _NOT_MINE, side).order_by(_ITEMS.c.draw).limit(1) for side in _FROM_A_POINT
]
_IN_CELL = _HERE & (_ITEMS.c.rank == _CELLS.c.rank) & (_ITEMS.c.stratum == _CELLS.c.stratum) & _FREE
# What a cell has is asked cell by cell: as a condition, PostgreSQL would gather all free items first.
_CELLS_NOW = select(
    _CELLS.c.rank,
    _CELLS.c.stratum,
    exists().where(_IN_CELL).label("is_free"),
    exists().where(_IN_CELL, _ITEMS.c.is_begun == false()).label("has_fresh"),
).where(_CELLS.c.project == bindparam("in_project"))


def draw(connection: Connection, project: Project, account: str, random: Random, *, is_tested: bool) -> Row[Any] | None:
    """The item that the rater gets, with one of its places taken; None when nothing is left.

    Who is still tested gets qualification items and nothing else. What the rater skipped comes again when nothing else is left.

    Raises:
        BusyError: what is left is held by transactions under way.
    """
    who = {"in_project": project.id, "for_rater": account, "top": "", "more": 0.0}
    if is_tested:
        test = who | {"in_pool": "qualification"}
        return _unseen(connection, test, random) or connection.execute(_TESTED_AGAIN, test).one_or_none()
    here = who | {"in_pool": "items"}
    # Gold stands in for an item that the rater would have had; when those are out, gold that still came would be known by that.
    if project.gold_share and random.random() < project.gold_share and connection.execute(_IS_LEFT, here).first() is not None:
        row = _unseen(connection, who | {"in_pool": "gold"}, random)
        if row is not None:
            return row
    cells = [(row.rank, row.stratum, row.has_fresh) for row in connection.execute(_CELLS_NOW, here) if row.is_free]
    for rank in sorted({rank for rank, _, _ in cells}, reverse=True):
        strata = [stratum for at, stratum, has_fresh in cells if at == rank and has_fresh]
        random.shuffle(strata)
        row = _of_rank(connection, project, here | {"of_rank": rank}, strata, random)
        if row is not None:
            return row
    # Nothing fresh: search every begun item.
    row = connection.execute(_ANY, here | {"probability": None}).one_or_none() if cells else None
    if row is None and cells and connection.execute(_IS_LEFT, here).first() is not None:
        raise BusyError
    return row if row is not None or not cells else connection.execute(_AGAIN, here | {"probability": None}).one_or_none()


def sides(count: int, item_sides: int, rater_sides: int, random: Random) -> tuple[tuple[int, ...], int]:
    """(order, sign) for an item of `count` candidates: sign 1 when candidate 0 stands before candidate 1, -1 when after, 0 when alone.

    The order is a random permutation, or its reverse where that evens out how often each side came first: on this item, else, in
    `EVENED` of the cases, with this rater. (B. Efron 1971, "Forcing a sequential experiment to be balanced", Biometrika 58: a rater who
    knows the last order must not know the next.)
    """
    order = list(range(count))
    random.shuffle(order)
    if count < 2:
        return tuple(order), 0
    sign = 1 if order.index(0) < order.index(1) else -1
    if sign * (item_sides or (rater_sides if random.random() < EVENED else 0)) > 0:
        order.reverse()
        sign = -sign
    return tuple(order), sign


def _of_rank(connection: Connection, project: Project, here: dict[str, Any], strata: list[str], random: Random) -> Row[Any] | None:
    """A place on an item of one rank of policies: one begun by others, so that items are finished, or a fresh one."""
    row = _first(connection, _BEGUN, here | {"probability": None}, random)
    if row is not None:
        return row
    top = connection.execute(_TOP, here).first() if project.queue == "uncertain" else None
    share = 1.0
    if top is not None:
        share = project.random_share
        here |= {"top": top.id, "more": 1 - share}
        if random.random() >= share:
            size = connection.execute(_SIZE, here | {"of_stratum": top.stratum}).scalar_one()
            by_chance = share / (len(strata) * size) if size else 0.0
            row = connection.execute(_UNCERTAIN, here | {"probability": by_chance}).one_or_none()
            if row is not None:
                return row
    for stratum in strata:
        cell = here | {"of_stratum": stratum}
        size = connection.execute(_SIZE, cell).scalar_one()
        row = _first(connection, _FRESH, cell | {"probability": share / (len(strata) * size)}, random) if size else None
        if row is not None:
            return row
    return None


def _unseen(connection: Connection, who: dict[str, Any], random: Random) -> Row[Any] | None:
    """A gold item that the rater has not had. It has no places to take, as every rater gets it."""
    return _first(connection, _UNSEEN, who, random)


def _first(connection: Connection, statements: Sequence[Executable], values: dict[str, Any], random: Random) -> Row[Any] | None:
    """The row of the first of the statements that gives one; both start at the same random point."""
    start = random.random()
    for statement in statements:
        row: Row[Any] | None = connection.execute(statement, values | {"start": start}).one_or_none()
        if row is not None:
            return row
    return None
