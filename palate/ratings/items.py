"""Items: adding them all or not at all, reading and removing them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from palate.core import DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Added, Gold, Item, Project, Task, Tiers
from palate.ratings.projects import find_project
from palate.ratings.table_rows import RULED, candidates_json, digest, is_text, item_of, turns_json

PAGE = 500
"""Rows read or written at a time."""

_NUM_CANDIDATES = {"compare": (2, 2), "rank": (2, 26), "rule": (1, 1), "probe": (0, 1), "write": (0, 1)}

_RANKED, _NOBODY = "must name each candidate once, best first", "nobody knows beforehand what is right here, so there is none"
_GOLD = {
    "compare": _RANKED,
    "rank": _RANKED,
    "rule": "must be true or false: whether the rule is broken",
    "probe": _NOBODY,
    "write": _NOBODY,
}


@dataclass(frozen=True, slots=True)
class Fresh:
    """An item that a project does not have yet.

    Attributes:
        id: its id.
        digest: of what is asked.
        created: when it came, in seconds since 1970.
        removed: since when it is handed out no more.
    """

    item: Item
    id: str
    digest: str
    created: float
    removed: float | None = None


def add_items(store: Store, project: str, items: Sequence[Item], now: float) -> Added:
    """What was added: every item that is not there already, or, where one is at fault, none.

    Raises:
        DataError: there is no such project, or an item does not fit its task; the message names its row, counted from 1.
    """

    def work(connection: Connection) -> Added:
        found = find_project(connection, project)
        # Numbers count up without a gap, so additions to one project take turns.
        connection.execute(select(schema.projects.c.id).where(schema.projects.c.id == project).with_for_update())
        for number, item in enumerate(items, start=1):
            check_item(item, found.task, f"Item {number}")
        fresh = [Fresh(item, store.database.identify(), mark, now) for mark, item in _fresh(connection, found, items)]
        insert_items(connection, found, fresh)
        return Added(tuple(one.id for one in fresh), len(items) - len(fresh))

    return store.database.run(work)


def insert_items(connection: Connection, project: Project, fresh: Sequence[Fresh]) -> None:
    """Nothing; the items stand at the end of the project, in this order. The caller has checked them and holds the project's row."""
    if not fresh:
        return
    table, cells = schema.items, schema.cells
    ranks = _ranks(connection, project.id, [one.item for one in fresh])
    first = connection.execute(select(func.count()).select_from(table).where(table.c.project == project.id)).scalar_one()
    rows = [_row(one, project) | {"rank": ranks[one.item.policy], "number": first + place} for place, one in enumerate(fresh, start=1)]
    connection.execute(insert(table), rows)
    _measure(connection)
    known = set(map(tuple, connection.execute(select(cells.c.rank, cells.c.stratum).where(cells.c.project == project.id))))
    new = sorted({(row["rank"], row["stratum"]) for row in rows} - known)
    if new:
        connection.execute(insert(cells), [{"project": project.id, "rank": rank, "stratum": name} for rank, name in new])


def all_items(store: Store, project: str) -> Iterator[Item]:
    """The project's items in the order added, without those removed."""
    table = schema.items
    last = 0
    while True:
        page = select(table).where(table.c.project == project, table.c.removed.is_(None), table.c.number > last)
        with store.database.read() as connection:
            rows = connection.execute(page.order_by(table.c.number).limit(PAGE)).all()
        yield from map(item_of, rows)
        if len(rows) < PAGE:
            return
        last = rows[-1].number


def item(store: Store, item: str) -> Item:
    """The item of this id, removed or not.

    Raises:
        DataError: there is none.
    """
    with store.database.read() as connection:
        row = connection.execute(select(schema.items).where(schema.items.c.id == item)).one_or_none()
    if row is None:
        raise DataError(f"There is no item {item!r}. Choose one of those listed.")
    return item_of(row)


def remove_item(store: Store, item: str, now: float) -> None:
    """Nothing; the item is handed out no more. Its judgments stay, and answers still under way are kept as surplus.

    Raises:
        DataError: there is no such item.
    """
    table, asked = schema.items, schema.assignments

    def work(connection: Connection) -> None:
        row = connection.execute(select(table).where(table.c.id == item).with_for_update()).one_or_none()
        if row is None:
            raise DataError(f"There is no item {item!r}. Choose one of those listed.")
        if row.removed is not None:
            return
        let_go = update(asked).where(asked.c.item == item, asked.c.state == "open").values(state="released")
        num_open = connection.execute(let_go).rowcount if row.pool == "items" else 0
        connection.execute(update(table).where(table.c.id == item).values(removed=now, taken=row.taken - num_open))

    store.database.run(work)


def check_item(item: Item, task: Task, place: str) -> None:
    """Nothing when the item fits the task. Raises DataError that names `place` and the field otherwise."""
    least, most = _NUM_CANDIDATES[task.kind]
    count = len(item.candidates)
    faults = {
        "conversation: is empty": not item.conversation,
        f"candidates: {count} given, a task of kind {task.kind} takes {least if least == most else f'{least} to {most}'}": not (
            least <= count <= most
        ),
        "candidates: one has neither text nor media": any(not (candidate.text or candidate.media) for candidate in item.candidates),
        "candidates: two are the same": len(set(map(json.dumps, candidates_json(item.candidates)))) < count,
        f"gold: {_GOLD[task.kind]}": item.gold is not None and not _is_right_kind(item.gold, task, count),
        "is_qualification: needs a gold answer": item.is_qualification and item.gold is None,
        f"fields: the rule {item.fields.get('rule')!r} is none of the project's ({', '.join(task.rules)})": _is_foreign(item, task),
        "fields: hold what JSON does not have": not _is_json(item.fields),
        "stratum or policy: holds a character that a database cannot": not (is_text(item.stratum) and is_text(item.policy)),
    }
    for fault, holds in faults.items():
        if holds:
            raise DataError(f"{place}, {fault}. Nothing was added; correct the item or leave it out.")


def _is_right_kind(gold: Gold, task: Task, count: int) -> bool:
    if isinstance(gold, bool):
        return task.kind == "rule"
    return task.kind in {"compare", "rank"} and is_ranking(gold, count)


def _is_foreign(item: Item, task: Task) -> bool:
    """Whether the item names a rule that the project does not have: raters would be asked about another one."""
    return task.kind in RULED and bool(item.fields.get("rule")) and item.fields["rule"] not in task.rules


def is_ranking(tiers: Tiers, count: int) -> bool:
    """Whether the tiers name each of `count` things once."""
    return all(tiers) and sorted(place for tier in tiers for place in tier) == list(range(count))


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        return False
    return True


def same_questions(connection: Connection, project: Project, items: Sequence[Item]) -> dict[str, Any]:
    """The project's items that ask the same as one of these, by `digest`: rows with `id`, `fields` and `candidates`."""
    table, is_ruled = schema.items, project.task.kind in RULED
    marks = {digest(item, project.task) for item in items}
    if is_ruled:  # items of older versions are marked without their rule
        marks |= {digest(replace(item, fields={}), project.task) for item in items}
    columns = [table] if is_ruled else [table.c.id, table.c.digest, table.c.fields, table.c.candidates]
    found, wanted = {}, sorted(marks)
    for start in range(0, len(wanted), PAGE):
        here = select(*columns).where(table.c.project == project.id, table.c.digest.in_(wanted[start : start + PAGE]))
        for row in connection.execute(here):
            found[digest(item_of(row), project.task) if is_ruled else row.digest] = row
    return found


def _fresh(connection: Connection, project: Project, items: Sequence[Item]) -> list[tuple[str, Item]]:
    """(digest, item) of those neither in the project nor earlier in the list."""
    marked: dict[str, Item] = {}
    for item in items:
        marked.setdefault(digest(item, project.task), item)
    for mark in same_questions(connection, project, items):
        marked.pop(mark, None)
    return list(marked.items())


def _measure(connection: Connection) -> None:
    """Nothing; PostgreSQL knows how the items lie. Until its own upkeep comes round, it would search all of them at each draw."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE items")


def _ranks(connection: Connection, project: str, items: Sequence[Item]) -> dict[str, int]:
    """Rank of each policy, those new to the project after the others in the order of the list."""
    table = schema.policies
    ranks = {row.name: row.rank for row in connection.execute(select(table).where(table.c.project == project))}
    new = [name for name in dict.fromkeys(item.policy for item in items) if name not in ranks]
    fresh = {name: len(ranks) + place for place, name in enumerate(new)}
    if fresh:
        connection.execute(insert(table), [{"project": project, "name": name, "rank": rank} for name, rank in fresh.items()])
    return ranks | fresh


def _row(one: Fresh, project: Project) -> dict[str, Any]:
    item = one.item
    return {
        "id": one.id,
        "digest": one.digest,
        "project": project.id,
        "conversation": turns_json(item.conversation),
        "candidates": candidates_json(item.candidates),
        "fields": dict(item.fields),
        "stratum": item.stratum,
        "policy": item.policy,
        "pool": "qualification" if item.is_qualification else "items" if item.gold is None else "gold",
        "gold": item.gold,
        # The id is random, so a number made of it is as well; items lie in the order of these numbers, and a draw begins anywhere.
        "draw": int(one.id[:12], 16) / 16 ** len(one.id[:12]),
        "wanted": project.overlap if item.gold is None else 0,
        "taken": 0,
        "is_begun": False,
        "sides": 0,
        "selection_probability": item.selection_probability,
        "removed": one.removed,
        "created": one.created,
    }
