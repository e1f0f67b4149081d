"""Importing the judgments of a file: the votes of one answer on several dimensions become one row."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, select, update

from palate.core import DataError
from palate.data.exchange import Exchange, Tiers, Vote, vote_row
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Project
from palate.ratings.items import PAGE
from palate.ratings.standing_answers import update_wanted
from palate.ratings.table_rows import answer_json
from palate.ratings.validation import check_answer, check_time

_DATABASE_ID = re.compile(r"[0-9a-f]{24}")
_FIELDS = {"compare": "ranking", "rank": "ranking", "rule": "is_broken", "probe": "is_broken", "write": "text"}


@dataclass(frozen=True, slots=True)
class ItemLocation:
    """Where an item of a file is in the project: its id, the number there of each candidate, and the rule it asks about."""

    id: str
    numbers: tuple[int, ...]
    rule: str = ""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """A file and the rows that its names stand for.

    Attributes:
        locations: the items, by the file's ids.
        versions: the versions of guidelines, by the file's names.
        accounts: the ids of accounts, by the file's raters.
    """

    exchange: Exchange
    project: Project
    locations: Mapping[str, ItemLocation]
    versions: Mapping[str, int]
    accounts: Mapping[str, str]
    now: float


@dataclass(slots=True)
class ImportCounts:
    """Numbers of rows that were added, that were known already, and that were added as surplus."""

    judgments: int = 0
    known: int = 0
    surplus: int = 0


@dataclass(slots=True)
class _AnswerGroup:
    """The votes of one answer, beginning with the task's first dimension, and their place in the file."""

    votes: list[Vote]
    place: str

    @property
    def main(self) -> Vote:
        """The vote that holds everything that belongs to the whole answer."""
        return self.votes[0]


@dataclass(slots=True)
class _AssignmentState:
    """The columns of an assignment after the rows of the file so far. `is_old` if it existed before the import."""

    row: dict[str, Any]
    is_old: bool = False
    is_changed: bool = False


@dataclass(slots=True)
class _Collected:
    """What is collected before anything is written: `ids` of rows by the file's ids, and `statuses` by ids of rows."""

    connection: Connection
    store: Store
    batch: ImportBatch
    assignments: dict[tuple[str, str], _AssignmentState]
    superseded: set[str]
    ids: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: ImportCounts = field(default_factory=ImportCounts)


def insert_judgments(connection: Connection, store: Store, batch: ImportBatch) -> ImportCounts:
    """Insert the judgments that the project does not have yet and return the counts. The caller has locked the project's row.

    Raises:
        DataError: a judgment does not fit. The message names row and field.
    """
    groups = _groups(batch)
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


def _groups(batch: ImportBatch) -> list[_AnswerGroup]:
    """Return the votes grouped by answer.

    Votes belong together if `answer` links them, or else if one rater gave them on several dimensions of an item in one order.
    """
    exchange = batch.exchange
    groups: list[_AnswerGroup] = []
    by_id: dict[str, _AnswerGroup] = {}
    last: dict[tuple[object, ...], _AnswerGroup] = {}
    for number, vote in enumerate(exchange.votes):
        judgment = vote.judgment
        shared = (judgment.comparison, judgment.rater, judgment.order, vote.time, vote.status, vote.entry, vote.is_skipped)
        group = by_id.get(vote.answer) if vote.answer else last.get(shared) if not vote.id else None
        if group is not None and judgment.dimension not in {member.judgment.dimension for member in group.votes}:
            group.votes.append(vote)
            continue
        groups.append(_AnswerGroup([vote], exchange.vote_place(number)))
        last[shared] = groups[-1]
        if vote.id:
            by_id[vote.id] = groups[-1]
    first = batch.project.task.dimensions[0]
    for group in groups:
        group.votes.sort(key=lambda vote: vote.judgment.dimension != first)
    return groups


def _old_assignments(connection: Connection, batch: ImportBatch) -> dict[tuple[str, str], _AssignmentState]:
    table, raters = schema.assignments, set(batch.accounts.values())
    rows = connection.execute(select(table).where(table.c.project == batch.project.id)).mappings()
    return {(row["item"], row["rater"]): _AssignmentState(dict(row), is_old=True) for row in rows if row["rater"] in raters}


def _known(
    connection: Connection, batch: ImportBatch, groups: Sequence[_AnswerGroup]
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


def _known_by_id(group: _AnswerGroup, same_ids: Mapping[str, Any], collected: _Collected) -> tuple[str, str] | None:
    """Return (id, status) of the project's row with this judgment's id; None if there is none. Raises DataError if the two differ."""
    row = same_ids.get(group.main.id)
    if row is None or row.project != collected.batch.project.id:
        return None
    judgment, batch = group.main.judgment, collected.batch
    answer, order = _answer(group, batch)
    expected = (batch.locations[judgment.comparison].id, batch.accounts[judgment.rater], group.main.entry, order)
    if (row.item, row.rater, row.kind, tuple(row.shown)) != expected or (row.answer or {}) != json.loads(json.dumps(answer_json(answer))):
        raise DataError(f"{group.place}: `id` {group.main.id!r} names another judgment of the project. Remove the row.")
    return row.id, row.status


def _answer(group: _AnswerGroup, batch: ImportBatch) -> tuple[Answer, tuple[int, ...]]:
    """Return the answer, and the order shown in numbers of the project's item. Raises DataError if the answer does not fit the task."""
    main, task = group.main, batch.project.task
    location = batch.locations[main.judgment.comparison]
    order = tuple(location.numbers[number] for number in main.judgment.order)
    rankings: dict[str, Tiers] = {vote.judgment.dimension: vote.judgment.ranking for vote in group.votes}
    ranking = rankings.pop(task.dimensions[0], ())
    reasons = [vote.judgment.reason for vote in group.votes if vote.judgment.reason]
    answer = Answer(
        ranking=ranking,
        all_bad=any(vote.is_all_bad for vote in group.votes),
        dimensions={dimension: tiers for dimension, tiers in rankings.items() if tiers},
        strength=main.judgment.strength,
        reason=reasons[0] if reasons else "",
        text=main.text,
        dialogue=main.dialogue,
        broken=main.is_broken,
        rule=main.rule,
        flag=main.flag,
        skipped=main.is_skipped,
        seconds=main.judgment.seconds,
    )
    if main.entry == "undo":
        return Answer(), order
    if answer.rule and not answer.skipped and answer.rule != location.rule:
        fault = f"{group.place}: `rule` is {answer.rule!r}, but the item asks about {location.rule!r}"
        raise DataError(f"{fault}. Nothing was added; remove the row, or name the rule in the `fields` of its item.")
    # Another tool may not have asked about all further dimensions.
    answered = replace(
        task, dimensions=(task.dimensions[0], *(dimension for dimension in task.dimensions[1:] if dimension in answer.dimensions))
    )
    try:
        check_answer(answer, answered, len(order))
    except DataError as error:
        wanted = f"project {batch.project.name!r} asks to {task.kind} on {', '.join(task.dimensions)}"
        raise DataError(f"{group.place}: `{_FIELDS[task.kind]}`: {error} The {wanted}. Nothing was added.") from error
    return answer, order


def _add(group: _AnswerGroup, key: str, collected: _Collected, *, is_free: bool) -> None:
    """Collect the row of an answer, and change its assignment. The row keeps the file's id if that is free."""
    main, batch = group.main, collected.batch
    answer, order = _answer(group, batch)
    check_time(main.time, "time", group.place)
    item, rater = batch.locations[main.judgment.comparison].id, batch.accounts[main.judgment.rater]
    identity = main.id if is_free and _DATABASE_ID.fullmatch(main.id) else collected.store.database.identify()
    created = batch.now if main.time is None else main.time
    row = {
        "id": identity, "project": batch.project.id, "item": item, "assignment": None, "rater": rater, "key": key, "shown": list(order),
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
        shared = {name: row[name] for name in ("project", "item", "rater", "shown", "guideline")}
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
    for state in changed:
        if not state.is_old and len(state.row["shown"]) == 2:
            sides[state.row["item"]] += 1 if state.row["shown"] == [0, 1] else -1
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
