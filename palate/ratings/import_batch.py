"""Judgments of a file as rows of a project: one answer for all dimensions, an account for each rater."""

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
from palate.ratings import standing_answers as votes
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Project
from palate.ratings.imported_raters import accounts_of
from palate.ratings.items import PAGE
from palate.ratings.table_rows import answer_json
from palate.ratings.validation import check_answer

_OWN = re.compile(r"[0-9a-f]{24}")
_LATEST = 253402300800.0
"""The year 10000, which no calendar of ours has."""
_FIELDS = {"compare": "ranking", "rank": "ranking", "rule": "is_broken", "probe": "is_broken", "write": "text"}


@dataclass(frozen=True, slots=True)
class ItemLocation:
    """The item of a project that one of a file is, which candidate there each of the file's is, and the rule it asks about."""

    id: str
    numbers: tuple[int, ...]
    rule: str = ""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """What a file says, and where its items are: `places` by the file's ids, `versions` of guidelines by the file's names."""

    exchange: Exchange
    project: Project
    places: Mapping[str, ItemLocation]
    versions: Mapping[str, int]
    now: float


@dataclass(slots=True)
class ImportCounts:
    """How many rows were added, were there already, came as surplus; how many accounts were made."""

    judgments: int = 0
    known: int = 0
    surplus: int = 0
    raters: int = 0


@dataclass(slots=True)
class _AnswerGroup:
    """Votes that make one answer, the first dimension first."""

    votes: list[Vote]
    place: str

    @property
    def head(self) -> Vote:
        return self.votes[0]


@dataclass(slots=True)
class _Asked:
    """An assignment as the rows of a file leave it; `is_old`: it was there before."""

    row: dict[str, Any]
    is_old: bool = False
    is_changed: bool = False


@dataclass(slots=True)
class _Writing:
    """What is gathered before anything is written: `ids` of rows by the file's, `statuses` by those of rows."""

    connection: Connection
    store: Store
    said: ImportBatch
    accounts: Mapping[str, str]
    asked: dict[tuple[str, str], _Asked]
    taken_back: set[str]
    ids: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    done: ImportCounts = field(default_factory=ImportCounts)


def insert_said(connection: Connection, store: Store, said: ImportBatch) -> ImportCounts:
    """What was added. The items are there, and the caller holds the project's row.

    Raises:
        DataError: a judgment does not fit; the message names row and field.
    """
    sittings = _sittings(said)
    accounts, made = accounts_of(connection, store, said.exchange, said.project.id, said.now)
    taken_back = {vote.supersedes for vote in said.exchange.votes}
    into = _Writing(connection, store, said, accounts, _old_assignments(connection, said, set(accounts.values())), taken_back)
    into.done.raters = made
    theirs, keys = _known(connection, said, sittings, accounts)
    times: Counter[str] = Counter()
    for sitting in sittings:
        # Not the file's name of the item, which may be only the number of its row.
        mark = json.dumps(
            [said.places[sitting.head.judgment.comparison].id, *({**vote_row(vote), "item": ""} for vote in sitting.votes)], sort_keys=True
        )
        times[mark] += 1
        key = f"import:{hashlib.sha256(f'{times[mark]} {mark}'.encode()).hexdigest()[:40]}"
        before = keys.get((accounts[sitting.head.judgment.rater], key)) or _same(sitting, theirs, into)
        if before is None:
            _add(sitting, key, into, is_free=sitting.head.id not in theirs)
        else:
            into.ids[sitting.head.id], into.statuses[before[0]] = before
            into.done.known += 1
    _write(into)
    return into.done


def check_time(time: float | None, field: str, place: str) -> None:
    """Nothing when a calendar has the time. Raises DataError otherwise."""
    if time is not None and not 0 <= time < _LATEST:
        raise DataError(f"{place}: `{field}` is {time}, which are no seconds since 1970. Nothing was added; correct the row.")


def _sittings(said: ImportBatch) -> list[_AnswerGroup]:
    """Votes by the answer they are part of: linked by `answer`, or else one rater's on several dimensions of an item, seen in one order."""
    exchange = said.exchange
    found: list[_AnswerGroup] = []
    by_id: dict[str, _AnswerGroup] = {}
    last: dict[tuple[object, ...], _AnswerGroup] = {}
    for number, vote in enumerate(exchange.votes):
        judgment = vote.judgment
        alike = (judgment.comparison, judgment.rater, judgment.order, vote.time, vote.status, vote.entry, vote.is_skipped)
        sitting = by_id.get(vote.answer) if vote.answer else last.get(alike) if not vote.id else None
        if sitting is not None and judgment.dimension not in {one.judgment.dimension for one in sitting.votes}:
            sitting.votes.append(vote)
            continue
        found.append(_AnswerGroup([vote], exchange.vote_place(number)))
        last[alike] = found[-1]
        if vote.id:
            by_id[vote.id] = found[-1]
    first = said.project.task.dimensions[0]
    for sitting in found:
        sitting.votes.sort(key=lambda vote: vote.judgment.dimension != first)
    return found


def _old_assignments(connection: Connection, said: ImportBatch, raters: set[str]) -> dict[tuple[str, str], _Asked]:
    table = schema.assignments
    rows = connection.execute(select(table).where(table.c.project == said.project.id)).mappings()
    return {(row["item"], row["rater"]): _Asked(dict(row), is_old=True) for row in rows if row["rater"] in raters}


def _known(
    connection: Connection, said: ImportBatch, sittings: Sequence[_AnswerGroup], accounts: Mapping[str, str]
) -> tuple[dict[str, Any], dict[tuple[str, str], tuple[str, str]]]:
    """Rows that have an id of the file's, and by rater and key those that were imported into the project before."""
    table = schema.judgments
    own = [sitting.head.id for sitting in sittings if _OWN.fullmatch(sitting.head.id)]
    theirs: dict[str, Any] = {}
    for start in range(0, len(own), PAGE):
        theirs |= {row.id: row for row in connection.execute(select(table).where(table.c.id.in_(own[start : start + PAGE])))}
    before = select(table.c.rater, table.c.key, table.c.id, table.c.status).where(
        table.c.project == said.project.id, table.c.key.like("import:%")
    )
    raters = set(accounts.values())
    return theirs, {(row.rater, row.key): (row.id, row.status) for row in connection.execute(before) if row.rater in raters}


def _same(sitting: _AnswerGroup, theirs: Mapping[str, Any], into: _Writing) -> tuple[str, str] | None:
    """Id and status of the project's row with this judgment's id; None where there is none. Raises DataError when it says another thing."""
    row = theirs.get(sitting.head.id)
    if row is None or row.project != into.said.project.id:
        return None
    judgment = sitting.head.judgment
    answer, order = _answer(sitting, into)
    mine = (into.said.places[judgment.comparison].id, into.accounts[judgment.rater], sitting.head.entry, order)
    if (row.item, row.rater, row.kind, tuple(row.shown)) != mine or (row.answer or {}) != json.loads(json.dumps(answer_json(answer))):
        raise DataError(f"{sitting.place}: `id` {sitting.head.id!r} names another judgment of the project. Take the row out.")
    return row.id, row.status


def _answer(sitting: _AnswerGroup, into: _Writing) -> tuple[Answer, tuple[int, ...]]:
    """What was answered, and the order shown in numbers of the project's item. Raises DataError where it does not fit the task."""
    head, task = sitting.head, into.said.project.task
    place = into.said.places[head.judgment.comparison]
    order = tuple(place.numbers[number] for number in head.judgment.order)
    rankings: dict[str, Tiers] = {vote.judgment.dimension: vote.judgment.ranking for vote in sitting.votes}
    ranking = rankings.pop(task.dimensions[0], ())
    reasons = [vote.judgment.reason for vote in sitting.votes if vote.judgment.reason]
    answer = Answer(
        ranking=ranking,
        all_bad=any(vote.is_all_bad for vote in sitting.votes),
        dimensions={dimension: tiers for dimension, tiers in rankings.items() if tiers},
        strength=head.judgment.strength,
        reason=reasons[0] if reasons else "",
        text=head.text,
        dialogue=head.dialogue,
        broken=head.is_broken,
        rule=head.rule,
        flag=head.flag,
        skipped=head.is_skipped,
        seconds=head.judgment.seconds,
    )
    if head.entry == "undo":
        return Answer(), order
    if answer.rule and not answer.skipped and answer.rule != place.rule:
        other = f"{sitting.place}: `rule` is {answer.rule!r}, and the item asks about {place.rule!r}"
        raise DataError(f"{other}. Nothing was added; take the row out, or name the rule in the `fields` of its item.")
    # What was asked elsewhere may have left further dimensions out.
    narrow = replace(
        task, dimensions=(task.dimensions[0], *(dimension for dimension in task.dimensions[1:] if dimension in answer.dimensions))
    )
    try:
        check_answer(answer, narrow, len(order))
    except DataError as error:
        asked = f"project {into.said.project.name!r} asks to {task.kind} on {', '.join(task.dimensions)}"
        raise DataError(f"{sitting.place}: `{_FIELDS[task.kind]}`: {error} The {asked}. Nothing was added.") from error
    return answer, order


def _add(sitting: _AnswerGroup, key: str, into: _Writing, *, is_free: bool) -> None:
    """Nothing; the row is gathered, with what it does to the assignment."""
    head, said = sitting.head, into.said
    answer, order = _answer(sitting, into)
    check_time(head.time, "time", sitting.place)
    item, rater = said.places[head.judgment.comparison].id, into.accounts[head.judgment.rater]
    identity = head.id if is_free and _OWN.fullmatch(head.id) else into.store.database.identify()
    created = said.now if head.time is None else head.time
    row = {
        "id": identity, "project": said.project.id, "item": item, "assignment": None, "rater": rater, "key": key, "shown": list(order),
        "answer": answer_json(answer), "is_skip": answer.skipped, "status": "kept", "kind": head.entry, "supersedes": None,
        "guideline": said.versions.get(head.judgment.guideline, 0), "created": created,
    }  # fmt: skip
    if head.id:
        into.ids[head.id] = identity
    if head.entry == "undo":
        row["supersedes"] = into.ids[head.supersedes]
    if head.entry != "adjudication":
        _settle(row, head, into)
    into.rows.append(row)
    into.statuses[identity] = str(row["status"])
    into.done.judgments += 1
    into.done.surplus += row["status"] == "surplus" and head.entry == "answer" and head.status == "kept"
    if head.status == "superseded" and head.id not in into.taken_back:  # the file says so, and not how
        identity = into.store.database.identify()
        undo = row | {"id": identity, "key": f"undo:{identity}", "answer": {}, "is_skip": False, "status": "kept", "kind": "undo"}
        undo["supersedes"] = row["id"]
        _settle(undo, replace(head, entry="undo"), into)
        into.rows.append(undo)


def _settle(row: dict[str, Any], vote: Vote, into: _Writing) -> None:
    """Nothing; the row has its assignment and status, and the assignment its state, as when the answers had come one by one."""
    key = row["item"], row["rater"]
    if key not in into.asked:
        about = {name: row[name] for name in ("project", "item", "rater", "shown", "guideline")}
        times = {"claimed": row["created"], "expires": row["created"], "state": "released"}
        into.asked[key] = _Asked({"id": into.store.database.identify(), **about, **times})
    asked = into.asked[key]
    asked.is_changed = True
    row["assignment"] = asked.row["id"]
    state = asked.row["state"]
    if vote.entry == "undo":
        if state in {"done", "skipped"} and into.statuses[row["supersedes"]] == "surplus":
            return  # a second answer is taken back, and the first one stands
        if state != "open":
            asked.row["state"] = "released"
    elif vote.status == "surplus" or vote.was_surplus or state in {"done", "skipped", "open"}:
        row["status"] = "surplus"
        if state == "released":
            asked.row["state"] = "surplus"
    else:
        asked.row["state"] = "skipped" if row["is_skip"] else "done"


def _write(into: _Writing) -> None:
    """Nothing; assignments, judgments and the places that they take are in the database."""
    table, items, connection = schema.assignments, schema.items, into.connection
    changed = [one for one in into.asked.values() if one.is_changed]
    if new := [one.row for one in changed if not one.is_old]:
        connection.execute(insert(table), new)
    if old := [{"which": one.row["id"], "to": one.row["state"]} for one in changed if one.is_old]:
        connection.execute(update(table).where(table.c.id == bindparam("which")).values(state=bindparam("to")), old)
    if into.rows:
        connection.execute(insert(schema.judgments), into.rows)
    sides = Counter[str]()
    for one in changed:
        if not one.is_old and len(one.row["shown"]) == 2:
            sides[one.row["item"]] += 1 if one.row["shown"] == [0, 1] else -1
    touched = sorted({one.row["item"] for one in changed})
    held: Counter[str] = Counter(
        connection.execute(
            select(table.c.item).where(table.c.project == into.said.project.id, table.c.state.in_(("done", "open")))
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
        votes.ask_more(connection, into.said.project, item)
