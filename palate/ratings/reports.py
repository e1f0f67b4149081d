"""Counts: how far a project is, what a rater did and in how much time, and how gold was answered."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, case, cast, func, select

from palate.ratings import schema
from palate.ratings import standing_answers as votes
from palate.ratings.database import Store
from palate.ratings.entities import GoldRecord, Progress, Worked
from palate.ratings.table_rows import answer_of, gold_of

_ITEMS, _SAID, _ASKED = schema.items, schema.judgments, schema.assignments


def progress(store: Store, project: str, now: float) -> Progress:
    """Where the project stands. The database counts; only answers to complete items with several votes are read one by one."""
    later = _SAID.alias()
    stands = _SAID.outerjoin(later, later.c.supersedes == _SAID.c.id)
    here = (_SAID.c.project == project) & (_SAID.c.kind != "undo") & later.c.id.is_(None)
    is_answer = _SAID.c.kind == "answer"
    counts = is_answer & (_SAID.c.status == "kept") & ~_SAID.c.is_skip
    with store.database.read() as connection:
        rows = connection.execute(
            select(_ITEMS.c.id, _ITEMS.c.pool, _ITEMS.c.wanted, _ITEMS.c.removed).where(_ITEMS.c.project == project)
        ).all()
        by_item = select(_SAID.c.item, func.count().label("votes")).select_from(stands).where(here, counts).group_by(_SAID.c.item)
        said: dict[str, int] = {row.item: row.votes for row in connection.execute(by_item)}
        kinds = select(
            func.count(func.distinct(_SAID.c.rater)),
            func.coalesce(func.sum(case((_SAID.c.status == "surplus", 1), else_=0)), 0),
            func.coalesce(func.sum(case((_SAID.c.is_skip, 1), else_=0)), 0),
        )
        raters, surplus, skipped = connection.execute(kinds.select_from(stands).where(here, is_answer)).one()
        # A cheap look at the text first: few answers have a flag.
        hints = select(_SAID.c.item, _SAID.c.answer).select_from(stands).where(here, is_answer, cast(_SAID.c.answer, Text).like('%"flag"%'))
        flagged = {row.item for row in connection.execute(hints) if row.answer.get("flag")}
        live = select(func.count()).select_from(_ASKED).where(_ASKED.c.project == project, _ASKED.c.state == "open", _ASKED.c.expires > now)
        num_open = int(connection.execute(live).scalar_one())
        wanted = {row.id: row.wanted for row in rows if row.pool == "items" and row.removed is None}
        complete = [item for item, places in wanted.items() if said.get(item, 0) >= places]
        undecided = votes.undecided_of(connection, project, {item for item in complete if said.get(item, 0) != 1})
    return Progress(
        items=len(wanted),
        complete=len(complete),
        begun=sum(0 < said.get(item, 0) < places for item, places in wanted.items()),
        wanted=sum(wanted.values()),
        judgments=sum(said.get(item, 0) for item in wanted),
        open=num_open,
        surplus=surplus,
        skipped=skipped,
        flagged=len(flagged),
        removed=sum(row.removed is not None for row in rows),
        gold=sum(row.pool != "items" and row.removed is None for row in rows),
        raters=raters,
        undecided=len(undecided),
    )


def tally(store: Store, project: str, account: str) -> int:
    """Answers of the account in the project that stand, skips left out."""
    later = _SAID.alias()
    mine = (_SAID.c.rater == account) & (_SAID.c.project == project) & (_SAID.c.kind == "answer") & ~_SAID.c.is_skip
    counted = select(func.count()).select_from(_SAID.outerjoin(later, later.c.supersedes == _SAID.c.id)).where(mine, later.c.id.is_(None))
    with store.database.read() as connection:
        return int(connection.execute(counted).scalar_one())


def gold_record(store: Store, project: str, account: str) -> GoldRecord:
    """How the account answered the gold items: by the first answer to each that was kept, so that more of them win nothing.

    Removed items do not count.
    """
    later = _SAID.alias()
    with store.database.read() as connection:
        rows = connection.execute(
            select(_SAID.c.item, _SAID.c.answer, _SAID.c.shown, _ITEMS.c.gold, _ITEMS.c.pool)
            .join(_ITEMS, _ITEMS.c.id == _SAID.c.item)
            .outerjoin(later, later.c.supersedes == _SAID.c.id)
            .where(_SAID.c.project == project, _SAID.c.rater == account, _SAID.c.kind == "answer", ~_SAID.c.is_skip)
            .where(_SAID.c.status == "kept", later.c.id.is_(None), _ITEMS.c.pool != "items", _ITEMS.c.removed.is_(None))
            .order_by(_SAID.c.number)
        ).all()
        asked = select(func.count()).select_from(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.pool == "qualification")
        size = connection.execute(asked.where(_ITEMS.c.removed.is_(None))).scalar_one()
    first = {row.item: row for row in reversed(rows)}.values()
    hidden, test = ([_is_right(row) for row in first if row.pool == pool] for pool in ("gold", "qualification"))
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


def _is_right(row: Any) -> bool:
    return votes.is_right(answer_of(row.answer), tuple(row.shown), gold_of(row.gold))
