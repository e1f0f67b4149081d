"""Counts: how far a project is, what a rater did and in how much time, and how gold was answered."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, func, select

from palate.stores.ratings import schema, votes
from palate.stores.ratings.database import Store
from palate.stores.ratings.nouns import GoldRecord, Progress, Worked
from palate.stores.ratings.rows import answer_of, tiers

_ITEMS, _SAID, _ASKED = schema.items, schema.judgments, schema.assignments


def progress(store: Store, project: str, now: float) -> Progress:
    """Where the project stands."""
    later = _SAID.alias()
    with store.database.read() as connection:
        rows = connection.execute(
            select(_ITEMS.c.id, _ITEMS.c.pool, _ITEMS.c.wanted, _ITEMS.c.removed).where(_ITEMS.c.project == project)
        ).all()
        said = connection.execute(
            select(_SAID)
            .outerjoin(later, later.c.supersedes == _SAID.c.id)
            .where(_SAID.c.project == project, _SAID.c.kind != "undo", later.c.id.is_(None))
        ).all()
        live = select(func.count()).select_from(_ASKED).where(_ASKED.c.project == project, _ASKED.c.state == "open", _ASKED.c.expires > now)
        num_open = int(connection.execute(live).scalar_one())
    wanted = {row.id: row.wanted for row in rows if row.pool == "items" and row.removed is None}
    cast: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in said:
        cast[row.item].append(row)
    counts = {item: sum(_counts(row) for row in cast[item]) for item in wanted}
    complete = [item for item, places in wanted.items() if counts[item] >= places]
    answers = [row for row in said if row.kind == "answer"]
    return Progress(
        items=len(wanted),
        complete=len(complete),
        begun=sum(0 < counts[item] < places for item, places in wanted.items()),
        wanted=sum(wanted.values()),
        judgments=sum(counts.values()),
        open=num_open,
        surplus=sum(row.status == "surplus" for row in answers),
        skipped=sum(row.is_skip for row in answers),
        flagged=len({row.item for row in answers if row.answer.get("flag")}),
        removed=sum(row.removed is not None for row in rows),
        gold=sum(row.pool != "items" and row.removed is None for row in rows),
        raters=len({row.rater for row in answers}),
        undecided=sum(not votes.is_decided(cast[item]) for item in complete),
    )


def tally(store: Store, project: str, account: str) -> int:
    """Answers of the account in the project that stand, skips left out."""
    later = _SAID.alias()
    mine = (_SAID.c.rater == account) & (_SAID.c.project == project) & (_SAID.c.kind == "answer") & ~_SAID.c.is_skip
    counted = select(func.count()).select_from(_SAID.outerjoin(later, later.c.supersedes == _SAID.c.id)).where(mine, later.c.id.is_(None))
    with store.database.read() as connection:
        return int(connection.execute(counted).scalar_one())


def gold_record(store: Store, project: str, account: str) -> GoldRecord:
    """How the account answered the gold items, by whether its ranking is the right one."""
    later = _SAID.alias()
    with store.database.read() as connection:
        rows = connection.execute(
            select(_SAID.c.answer, _SAID.c.shown, _ITEMS.c.gold, _ITEMS.c.pool)
            .join(_ITEMS, _ITEMS.c.id == _SAID.c.item)
            .outerjoin(later, later.c.supersedes == _SAID.c.id)
            .where(_SAID.c.project == project, _SAID.c.rater == account, _SAID.c.kind == "answer", ~_SAID.c.is_skip)
            .where(later.c.id.is_(None), _ITEMS.c.pool != "items")
        ).all()
        asked = select(func.count()).select_from(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.pool == "qualification")
        size = connection.execute(asked.where(_ITEMS.c.removed.is_(None))).scalar_one()
    right = {pool: [_is_right(row) for row in rows if row.pool == pool] for pool in ("gold", "qualification")}
    hidden, test = right["gold"], right["qualification"]
    return GoldRecord(len(hidden), sum(hidden), int(size), len(test), sum(test))


def time_log(store: Store, account: str) -> tuple[Worked, ...]:
    """What the account did, by project and day. Time is what the page measured for each answer."""
    query = select(_SAID.c.project, _SAID.c.created, _SAID.c.answer).where(_SAID.c.rater == account, _SAID.c.kind != "undo")
    with store.database.read() as connection:
        rows = connection.execute(query.order_by(_SAID.c.number)).all()
    days: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        days[row.project, datetime.fromtimestamp(row.created, UTC).date().isoformat()].append(row.answer.get("seconds") or 0.0)
    return tuple(Worked(project, day, len(seconds), sum(seconds)) for (project, day), seconds in sorted(days.items()))


def _counts(row: Row[Any]) -> bool:
    return row.kind == "answer" and row.status == "kept" and not row.is_skip


def _is_right(row: Any) -> bool:
    gold = tuple(tuple(sorted(tier)) for tier in tiers(row.gold))
    return votes.vote_of(answer_of(row.answer), tuple(row.shown)) == gold
