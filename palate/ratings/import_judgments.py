"""Importing the judgments of a file: the votes of one answer on several dimensions become one row."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, select, update

from palate.core import DataError
from palate.data.exchange import Vote, vote_row
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.import_answers import AnswerGroup, ImportBatch, answer_groups, grouped_answer
from palate.ratings.items import PAGE
from palate.ratings.standing_answers import update_wanted
from palate.ratings.table_rows import answer_json, order_of
from palate.ratings.validation import check_time

_DATABASE_ID = re.compile(r"[0-9a-f]{24}")


@dataclass(slots=True)
class ImportCounts:
    """Numbers of rows that were added, that were known already, and that were added as surplus."""

    judgments: int = 0
    known: int = 0
    surplus: int = 0


@dataclass(slots=True)
class _AssignmentState:
    """The columns of an assignment after the rows of the file so far. `is_old` if it existed before the import."""

    row: dict[str, Any]
    is_old: bool = False
    is_changed: bool = False


@dataclass(slots=True)
class _Collected:
    """What is collected before anything is written.

    Attributes:
        ids: ids of rows by the file's ids.
        statuses: statuses by ids of rows.
        orders: orders shown, as far as they are known, of the raters and items that had no assignment before.
    """

    connection: Connection
    store: Store
    batch: ImportBatch
    assignments: dict[tuple[str, str], _AssignmentState]
    superseded: set[str]
    ids: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    orders: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    counts: ImportCounts = field(default_factory=ImportCounts)


def insert_judgments(connection: Connection, store: Store, batch: ImportBatch) -> ImportCounts:
    """Insert the judgments that the project does not have yet and return the counts. The caller has locked the project's row.

    Raises:
        DataError: a judgment does not fit. The message names row and field.
    """
    groups = answer_groups(batch)
    superseded = {vote.supersedes for vote in batch.exchange.votes}
    collected = _Collected(connection, store, batch, _old_assignments(connection, batch), superseded)
    same_ids, keys = _known(connection, batch, groups)
    repeats: Counter[str] = Counter()
    for group in groups:
        # The id of the item in the project, because its name in the file may be only the number of its row.
        item = batch.locations[group.main.judgment.comparison].id
        content = json.dumps([item, *({**vote_row(vote), "item": ""} for vote in group.votes)], sort_keys=True)
        repeats[content] += 1
        key = f"import:{hashlib.sha256(f'{repeats[content]} {content}'.encode()).hexdigest()[:40]}"
        known = keys.get((batch.accounts[group.main.judgment.rater], key)) or _known_by_id(group, same_ids, collected)
        if known is None:
            _add(group, key, collected, is_free=group.main.id not in same_ids)
        else:
            collected.ids[group.main.id], collected.statuses[known[0]] = known
            collected.counts.known += 1
    _write(collected)
    return collected.counts


def _old_assignments(connection: Connection, batch: ImportBatch) -> dict[tuple[str, str], _AssignmentState]:
    table, raters = schema.assignments, set(batch.accounts.values())
    rows = connection.execute(select(table).where(table.c.project == batch.project.id)).mappings()
    return {(row["item"], row["rater"]): _AssignmentState(dict(row), is_old=True) for row in rows if row["rater"] in raters}


def _known(
    connection: Connection, batch: ImportBatch, groups: Sequence[AnswerGroup]
) -> tuple[dict[str, Any], dict[tuple[str, str], tuple[str, str]]]:
    """Return the rows that have an id of the file, and (id, status) of rows imported into the project before, by rater and key."""
    table = schema.judgments
    ids = [group.main.id for group in groups if _DATABASE_ID.fullmatch(group.main.id)]
    same_ids: dict[str, Any] = {}
    for start in range(0, len(ids), PAGE):
        same_ids |= {row.id: row for row in connection.execute(select(table).where(table.c.id.in_(ids[start : start + PAGE])))}
    imported = select(table.c.rater, table.c.key, table.c.id, table.c.status).where(
        table.c.project == batch.project.id, table.c.key.like("import:%")
    )
    raters = set(batch.accounts.values())
    return same_ids, {(row.rater, row.key): (row.id, row.status) for row in connection.execute(imported) if row.rater in raters}


def _known_by_id(group: AnswerGroup, same_ids: Mapping[str, Any], collected: _Collected) -> tuple[str, str] | None:
    """Return (id, status) of the project's row with this judgment's id; None if there is none. Raises DataError if the two differ."""
    row = same_ids.get(group.main.id)
    if row is None or row.project != collected.batch.project.id:
        return None
    judgment, batch = group.main.judgment, collected.batch
    answer, order = grouped_answer(group, batch)
    shown = order_of(row.shown)
    expected = (batch.locations[judgment.comparison].id, batch.accounts[judgment.rater], group.main.entry, order)
    if (row.item, row.rater, row.kind, shown) != expected or (row.answer or {}) != json.loads(json.dumps(answer_json(answer))):
        raise DataError(f"{group.place}: `id` {group.main.id!r} names another judgment of the project. Remove the row.")
    return row.id, row.status


def _add(group: AnswerGroup, key: str, collected: _Collected, *, is_free: bool) -> None:
    """Collect the row of an answer, and change its assignment. The row keeps the file's id if that is free."""
    main, batch = group.main, collected.batch
    answer, order = grouped_answer(group, batch)
    check_time(main.time, "time", group.place)
    item, rater = batch.locations[main.judgment.comparison].id, batch.accounts[main.judgment.rater]
    identity = main.id if is_free and _DATABASE_ID.fullmatch(main.id) else collected.store.database.identify()
    created = batch.now if main.time is None else main.time
    row = {
        "id": identity, "project": batch.project.id, "item": item, "assignment": None, "rater": rater, "key": key, "shown": order,
        "answer": answer_json(answer), "is_skip": answer.skipped, "status": "kept", "kind": main.entry, "supersedes": None,
        "guideline": batch.versions.get(main.judgment.guideline, 0), "created": created,
    }  # fmt: skip
    if main.id:
        collected.ids[main.id] = identity
    if main.entry == "undo":
        row["supersedes"] = collected.ids[main.supersedes]
    if main.entry != "adjudication":
        _settle(row, main, collected)
    collected.rows.append(row)
    collected.statuses[identity] = str(row["status"])
    collected.counts.judgments += 1
    collected.counts.surplus += row["status"] == "surplus" and main.entry == "answer" and main.status == "kept"
    if main.status == "superseded" and main.id not in collected.superseded:  # the file has the status but not the undo
        identity = collected.store.database.identify()
        undo = row | {"id": identity, "key": f"undo:{identity}", "answer": {}, "is_skip": False, "status": "kept", "kind": "undo"}
        undo["supersedes"] = row["id"]
        _settle(undo, replace(main, entry="undo"), collected)
        collected.rows.append(undo)


def _settle(row: dict[str, Any], vote: Vote, collected: _Collected) -> None:
    """Set the row's assignment and status, and the assignment's state, as if the answers had come one by one."""
    key = row["item"], row["rater"]
    if key not in collected.assignments:
        shared = {name: row[name] for name in ("project", "item", "rater", "guideline")}
        # A rater whose order nobody knows would get the item, should it come back, in an order that is drawn for them.
        numbers = collected.batch.locations[vote.judgment.comparison].numbers
        drawn = tuple(Random("/".join(key)).sample(range(len(numbers)), len(numbers)))
        shared["shown"] = drawn if row["shown"] is None else row["shown"]
        if row["shown"] is not None:
            collected.orders[key] = row["shown"]
        times = {"claimed": row["created"], "expires": row["created"], "state": "released"}
        collected.assignments[key] = _AssignmentState({"id": collected.store.database.identify(), **shared, **times})
    assignment = collected.assignments[key]
    assignment.is_changed = True
    row["assignment"] = assignment.row["id"]
    state = assignment.row["state"]
    if vote.entry == "undo":
        if state in {"done", "skipped"} and collected.statuses[row["supersedes"]] == "surplus":
            return  # a second answer is taken back, and the first one stands
        if state != "open":
            assignment.row["state"] = "released"
    elif vote.status == "surplus" or vote.was_surplus or state in {"done", "skipped", "open"}:
        row["status"] = "surplus"
        if state == "released":
            assignment.row["state"] = "surplus"
    else:
        assignment.row["state"] = "skipped" if row["is_skip"] else "done"


def _write(collected: _Collected) -> None:
    """Write assignments and judgments, and count the places that they take."""
    table, items, connection = schema.assignments, schema.items, collected.connection
    changed = [state for state in collected.assignments.values() if state.is_changed]
    if new := [state.row for state in changed if not state.is_old]:
        connection.execute(insert(table), new)
    if old := [{"which": state.row["id"], "to": state.row["state"]} for state in changed if state.is_old]:
        connection.execute(update(table).where(table.c.id == bindparam("which")).values(state=bindparam("to")), old)
    if collected.rows:
        connection.execute(insert(schema.judgments), collected.rows)
    sides = Counter[str]()
    for key, order in collected.orders.items():
        if len(order) > 1:
            sides[key[0]] += 1 if order.index(0) < order.index(1) else -1
    touched = sorted({state.row["item"] for state in changed})
    held: Counter[str] = Counter(
        connection.execute(
            select(table.c.item).where(table.c.project == collected.batch.project.id, table.c.state.in_(("done", "open")))
        ).scalars()
    )
    wanted = case((items.c.wanted < bindparam("held"), bindparam("held")), else_=items.c.wanted)
    is_place = items.c.pool == "items"
    count = (
        update(items)
        .where(items.c.id == bindparam("which"))
        .values(
            taken=case((is_place, bindparam("held")), else_=0),
            wanted=case((is_place, wanted), else_=items.c.wanted),
            is_begun=True,
            sides=items.c.sides + bindparam("more"),
        )
    )
    if touched:
        connection.execute(count, [{"which": item, "held": held[item], "more": sides[item]} for item in touched])
    for item in touched:
        update_wanted(connection, collected.batch.project, item)
