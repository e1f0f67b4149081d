"""Drawing a rater's next item, and the order in which its candidates are shown.

The statements are built once, because building them for every claim would cost more than running them.
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

BALANCED_SHARE = 1 / 3
"""Share of orders that are forced to balance a rater's sides. So the side that came less often comes with probability 2/3."""

MAX_BEGUN = 40
"""Begun items that one draw tries before it takes a fresh one, so that a rater who did most of them need not search all."""

_ITEMS, _ASSIGNMENTS, _CELLS = schema.items, schema.assignments, schema.cells
_FINAL = ("open", "done", "skipped", "declined", "surplus")
"""States of an assignment after which its rater does not get the item again. A lease that ran out or was given back can be renewed."""

_FREE = (_ITEMS.c.taken < _ITEMS.c.wanted) & _ITEMS.c.removed.is_(None)
_HERE = (_ITEMS.c.project == bindparam("in_project")) & (_ITEMS.c.pool == bindparam("in_pool"))
_NOT_MINE = ~exists().where(
    _ASSIGNMENTS.c.item == _ITEMS.c.id, _ASSIGNMENTS.c.rater == bindparam("for_rater"), _ASSIGNMENTS.c.state.in_(_FINAL)
)
_FROM_START = (_ITEMS.c.draw >= bindparam("start"), _ITEMS.c.draw < bindparam("start"))
"""Items are in a random order. A draw searches from a random point of it to the end, then from the beginning."""


class BusyError(Exception):
    """Items are left for the rater, but other transactions are changing them. Try again in a moment, in a new transaction."""


def _take_first(query: Select[Any]) -> Executable:
    """Return the statement that takes a place of the first item of the query and returns its row, if there is one.

    It passes over items that other transactions are changing: whoever waited for one while holding another could block everybody. It
    stores the probability of an item's first draw. That is `probability`, plus `more` for the item `top`, which can come either way.
    """
    first = query.limit(1).with_for_update(of=_ITEMS, skip_locked=True, key_share=True).scalar_subquery()
    more = case((_ITEMS.c.id == bindparam("top", type_=String), bindparam("more", type_=Double)), else_=0.0)
    probability = func.coalesce(_ITEMS.c.selection_probability, bindparam("probability", type_=Double) + more)
    values = {"taken": _ITEMS.c.taken + 1, "is_begun": True, "selection_probability": probability}
    return update(_ITEMS).where(_ITEMS.c.id == first, _FREE).values(values).returning(_ITEMS)


def _begun_near(side: ColumnElement[bool]) -> Select[Any]:
    begun = (_ITEMS.c.rank == bindparam("of_rank")) & (_ITEMS.c.is_begun == true())
    first = select(_ITEMS.c.id).where(_HERE, _FREE, begun, side).order_by(_ITEMS.c.draw).limit(MAX_BEGUN)
    # MATERIALIZED runs it once. A planner without statistics would run it again for every item.
    near = first.cte("near").prefix_with("MATERIALIZED")
    return select(_ITEMS.c.id).join(near, near.c.id == _ITEMS.c.id).where(_FREE, _NOT_MINE)


_CELL = _HERE & (_ITEMS.c.rank == bindparam("of_rank")) & (_ITEMS.c.stratum == bindparam("of_stratum")) & (_ITEMS.c.is_begun == false())
_SCORED = _HERE & (_ITEMS.c.rank == bindparam("of_rank")) & (_ITEMS.c.is_begun == false()) & _ITEMS.c.priority.is_not(None)

_BEGUN = [_take_first(_begun_near(side)) for side in _FROM_START]
_FRESH = [_take_first(select(_ITEMS.c.id).where(_CELL, _FREE, side, _NOT_MINE).order_by(_ITEMS.c.draw)) for side in _FROM_START]
_SIZE = select(func.count()).select_from(_ITEMS).where(_CELL, _FREE)
_UNCERTAIN = _take_first(select(_ITEMS.c.id).where(_SCORED, _FREE, _NOT_MINE).order_by(_ITEMS.c.priority.desc()))
_TOP = select(_ITEMS.c.id, _ITEMS.c.stratum).where(_SCORED, _FREE, _NOT_MINE).order_by(_ITEMS.c.priority.desc()).limit(1)
_ANY = _take_first(select(_ITEMS.c.id).where(_HERE, _FREE, _NOT_MINE).order_by(_ITEMS.c.rank.desc(), _ITEMS.c.draw))
_IS_LEFT = select(_ITEMS.c.id).where(_HERE, _FREE, _NOT_MINE).limit(1)
_SKIPPED = exists().where(
    _ASSIGNMENTS.c.item == _ITEMS.c.id, _ASSIGNMENTS.c.rater == bindparam("for_rater"), _ASSIGNMENTS.c.state == "skipped"
)
_AGAIN = _take_first(select(_ITEMS.c.id).where(_HERE, _FREE, _SKIPPED).order_by(_ITEMS.c.draw))
_SKIPPED_QUALIFICATION = select(_ITEMS).where(_HERE, _ITEMS.c.removed.is_(None), _SKIPPED).order_by(_ITEMS.c.draw).limit(1)
_UNSEEN = [
    select(_ITEMS).where(_HERE, _ITEMS.c.removed.is_(None), _NOT_MINE, side).order_by(_ITEMS.c.draw).limit(1) for side in _FROM_START
]
_IN_CELL = _HERE & (_ITEMS.c.rank == _CELLS.c.rank) & (_ITEMS.c.stratum == _CELLS.c.stratum) & _FREE
# One subquery per cell, because PostgreSQL would gather all free items first if this were a condition.
_CELL_STATES = select(
    _CELLS.c.rank,
    _CELLS.c.stratum,
    exists().where(_IN_CELL).label("is_free"),
    exists().where(_IN_CELL, _ITEMS.c.is_begun == false()).label("has_fresh"),
).where(_CELLS.c.project == bindparam("in_project"))


def draw_item(connection: Connection, project: Project, account: str, random: Random, *, is_tested: bool) -> Row[Any] | None:
    """Take a place of the rater's next item and return the item's row; None if nothing is left.

    Raters who are still tested get only qualification items. Items that the rater skipped come again when nothing else is left.

    Raises:
        BusyError: other transactions hold the items that are left.
    """
    who = {"in_project": project.id, "for_rater": account, "top": "", "more": 0.0}
    if is_tested:
        tested = who | {"in_pool": "qualification"}
        return _unseen(connection, tested, random) or connection.execute(_SKIPPED_QUALIFICATION, tested).one_or_none()
    here = who | {"in_pool": "items"}
    # Gold replaces an item that the rater would have had. If it came after the last of those, raters would recognise it.
    if project.gold_share and random.random() < project.gold_share and connection.execute(_IS_LEFT, here).first() is not None:
        row = _unseen(connection, who | {"in_pool": "gold"}, random)
        if row is not None:
            return row
    cells = [(row.rank, row.stratum, row.has_fresh) for row in connection.execute(_CELL_STATES, here) if row.is_free]
    for rank in sorted({rank for rank, _, _ in cells}, reverse=True):
        strata = [stratum for at, stratum, has_fresh in cells if at == rank and has_fresh]
        random.shuffle(strata)
        row = _of_rank(connection, project, here | {"of_rank": rank}, strata, random)
        if row is not None:
            return row
    # There is no fresh item, so search every begun one.
    row = connection.execute(_ANY, here | {"probability": None}).one_or_none() if cells else None
    if row is None and cells and connection.execute(_IS_LEFT, here).first() is not None:
        raise BusyError
    return row if row is not None or not cells else connection.execute(_AGAIN, here | {"probability": None}).one_or_none()


def balanced_order(count: int, item_sides: int, rater_sides: int, random: Random) -> tuple[tuple[int, ...], int]:
    """Return (order, sign) for an item of `count` candidates.

    The sign is 1 if candidate 0 stands before candidate 1, -1 if it stands after it, and 0 if there is only one candidate.

    The order is a random permutation. It is reversed if that balances how often each side came first: for this item, or otherwise, in
    `BALANCED_SHARE` of the cases, for this rater. The rest stays random, so that a rater cannot predict the next order from the last.
    Source: B. Efron 1971, "Forcing a sequential experiment to be balanced", Biometrika 58.
    """
    order = list(range(count))
    random.shuffle(order)
    if count < 2:
        return tuple(order), 0
    sign = 1 if order.index(0) < order.index(1) else -1
    if sign * (item_sides or (rater_sides if random.random() < BALANCED_SHARE else 0)) > 0:
        order.reverse()
        sign = -sign
    return tuple(order), sign


def _of_rank(connection: Connection, project: Project, here: dict[str, Any], strata: list[str], random: Random) -> Row[Any] | None:
    """Take a place of an item of one policy: an item that others began, so that items are finished, or else a fresh one."""
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
    """Return a gold item that the rater has not had. It does not have places, because every rater gets it."""
    return _first(connection, _UNSEEN, who, random)


def _first(connection: Connection, statements: Sequence[Executable], values: dict[str, Any], random: Random) -> Row[Any] | None:
    """Return the row of the first statement that has one. All statements start at the same random point."""
    start = random.random()
    for statement in statements:
        row: Row[Any] | None = connection.execute(statement, values | {"start": start}).one_or_none()
        if row is not None:
            return row
    return None
