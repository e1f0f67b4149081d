"""Items: adding all of them or none, reading and removing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from palate.core import DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import AddedItems, Item, Project
from palate.ratings.projects import find_project
from palate.ratings.table_rows import RULED, candidates_json, digest, item_of, turns_json
from palate.ratings.validation import check_item

PAGE = 500
"""Rows read or written at a time."""

_ITEMS = schema.items


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item that a project does not have yet.

    Attributes:
        item: the item.
        id: its id.
        digest: digest of what is asked (`table_rows.digest`).
        created: when it came, in seconds since 1970.
        removed: since when it is not handed out any more.
    """

    item: Item
    id: str
    digest: str
    created: float
    removed: float | None = None


def add_items(store: Store, project: str, items: Sequence[Item], now: float) -> AddedItems:
    """Add every item that the project does not have yet, and return what was added. If one item is at fault, none is added.

    Raises:
        DataError: the project does not exist, or an item does not fit its task; the message names the item's row, counted from 1.
    """

    def work(connection: Connection) -> AddedItems:
        target = find_project(connection, project)
        # Numbers count up without a gap, so additions to one project take turns.
        connection.execute(select(schema.projects.c.id).where(schema.projects.c.id == project).with_for_update())
        for number, item in enumerate(items, start=1):
            check_item(item, target.task, f"Item {number}")
        new = [NewItem(item, store.database.identify(), key, now) for key, item in _unknown(connection, target, items)]
        insert_items(connection, target, new)
        return AddedItems(tuple(item.id for item in new), len(items) - len(new))

    return store.database.run(work)


def insert_items(connection: Connection, project: Project, new: Sequence[NewItem]) -> None:
    """Insert the items at the end of the project, in this order. The caller has checked them and has locked the project's row."""
    if not new:
        return
    cells = schema.cells
    ranks = _ranks(connection, project.id, [one.item for one in new])
    first = connection.execute(select(func.count()).select_from(_ITEMS).where(_ITEMS.c.project == project.id)).scalar_one()
    rows = [_row(one, project) | {"rank": ranks[one.item.policy], "number": first + place} for place, one in enumerate(new, start=1)]
    connection.execute(insert(_ITEMS), rows)
    _analyze(connection)
    known = set(map(tuple, connection.execute(select(cells.c.rank, cells.c.stratum).where(cells.c.project == project.id))))
    unknown = sorted({(row["rank"], row["stratum"]) for row in rows} - known)
    if unknown:
        connection.execute(insert(cells), [{"project": project.id, "rank": rank, "stratum": name} for rank, name in unknown])


def all_items(store: Store, project: str) -> Iterator[Item]:
    """Yield the project's items in the order in which they were added, without those removed."""
    last = 0
    while True:
        page = select(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.removed.is_(None), _ITEMS.c.number > last)
        with store.database.read() as connection:
            rows = connection.execute(page.order_by(_ITEMS.c.number).limit(PAGE)).all()
        yield from map(item_of, rows)
        if len(rows) < PAGE:
            return
        last = rows[-1].number


def item(store: Store, item: str) -> Item:
    """Return the item with this id, removed or not.

    Raises:
        DataError: no item has this id.
    """
    with store.database.read() as connection:
        return item_of(find_item(connection, item))


def find_item(connection: Connection, item: str, *, lock: bool = False) -> Row[Any]:
    """Return the row of this item within a transaction, locked on request. Raises DataError as `item` does."""
    query = select(_ITEMS).where(_ITEMS.c.id == item)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise DataError(f"There is no item {item!r}. Choose one from the list.")
    return row


def remove_item(store: Store, item: str, now: float) -> None:
    """Stop handing the item out. Its judgments stay, and answers that come later are kept as surplus.

    Raises:
        DataError: no item has this id.
    """
    assignments = schema.assignments

    def work(connection: Connection) -> None:
        row = find_item(connection, item, lock=True)
        if row.removed is not None:
            return
        release = update(assignments).where(assignments.c.item == item, assignments.c.state == "open").values(state="released")
        num_open = connection.execute(release).rowcount if row.pool == "items" else 0
        connection.execute(update(_ITEMS).where(_ITEMS.c.id == item).values(removed=now, taken=row.taken - num_open))

    store.database.run(work)


def same_questions(connection: Connection, project: Project, items: Sequence[Item]) -> dict[str, Any]:
    """Return the project's items that ask the same as one of these, by `digest`: rows with `id`, `fields` and `candidates`."""
    is_ruled = project.task.kind in RULED
    keys = {digest(item, project.task) for item in items}
    if is_ruled:  # older versions made the digest without the item's rule
        keys |= {digest(replace(item, fields={}), project.task) for item in items}
    columns = [_ITEMS] if is_ruled else [_ITEMS.c.id, _ITEMS.c.digest, _ITEMS.c.fields, _ITEMS.c.candidates]
    rows_by_digest, wanted = {}, sorted(keys)
    for start in range(0, len(wanted), PAGE):
        query = select(*columns).where(_ITEMS.c.project == project.id, _ITEMS.c.digest.in_(wanted[start : start + PAGE]))
        for row in connection.execute(query):
            rows_by_digest[digest(item_of(row), project.task) if is_ruled else row.digest] = row
    return rows_by_digest


def _unknown(connection: Connection, project: Project, items: Sequence[Item]) -> list[tuple[str, Item]]:
    """Return (digest, item) of those that are neither in the project nor earlier in the list."""
    by_digest: dict[str, Item] = {}
    for item in items:
        by_digest.setdefault(digest(item, project.task), item)
    for key in same_questions(connection, project, items):
        by_digest.pop(key, None)
    return list(by_digest.items())


def _analyze(connection: Connection) -> None:
    """Update PostgreSQL's statistics of the items. Before its own upkeep runs, it would search all items at each draw."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE items")


def _ranks(connection: Connection, project: str, items: Sequence[Item]) -> dict[str, int]:
    """Return the rank of each policy. Policies that are new to the project come after the others, in the order of the list."""
    table = schema.policies
    ranks = {row.name: row.rank for row in connection.execute(select(table).where(table.c.project == project))}
    names = [name for name in dict.fromkeys(item.policy for item in items) if name not in ranks]
    new = {name: len(ranks) + place for place, name in enumerate(names)}
    if new:
        connection.execute(insert(table), [{"project": project, "name": name, "rank": rank} for name, rank in new.items()])
    return ranks | new


def _row(new: NewItem, project: Project) -> dict[str, Any]:
    item = new.item
    return {
        "id": new.id,
        "digest": new.digest,
        "project": project.id,
        "conversation": turns_json(item.conversation),
        "candidates": candidates_json(item.candidates),
        "fields": dict(item.fields),
        "stratum": item.stratum,
        "policy": item.policy,
        "pool": "qualification" if item.is_qualification else "items" if item.gold is None else "gold",
        "gold": item.gold,
        # A number made of the id, which is random. Items are ordered by these numbers, and a draw begins at a random one.
        "draw": int(new.id[:12], 16) / 16 ** len(new.id[:12]),
        "wanted": project.overlap if item.gold is None else 0,
        "taken": 0,
        "is_begun": False,
        "sides": 0,
        "selection_probability": item.selection_probability,
        "removed": new.removed,
        "created": new.created,
    }
