"""Counts: how far a project is, what a rater did, in how much time and with what success, and whether the counts agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, case, cast, func, select

from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import GoldRecord, Progress, WorkDay
from palate.ratings.standing_answers import is_right, undecided_votes
from palate.ratings.table_rows import answer_of, gold_of, order_of

_ITEMS, _JUDGMENTS, _ASSIGNMENTS = schema.items, schema.judgments, schema.assignments


def progress(store: Store, project: str, now: float) -> Progress:
    """Return where the project stands.

    The database counts. Only answers to complete items with several votes are read one by one.
    """
    later = _JUDGMENTS.alias()
    with_later = _JUDGMENTS.outerjoin(later, later.c.supersedes == _JUDGMENTS.c.id)
    here = (_JUDGMENTS.c.project == project) & (_JUDGMENTS.c.kind != "undo") & later.c.id.is_(None)
    is_answer = _JUDGMENTS.c.kind == "answer"
    is_counted = is_answer & (_JUDGMENTS.c.status == "kept") & ~_JUDGMENTS.c.is_skip
    with store.database.read() as connection:
        rows = connection.execute(
            select(_ITEMS.c.id, _ITEMS.c.pool, _ITEMS.c.wanted, _ITEMS.c.removed).where(_ITEMS.c.project == project)
        ).all()
        by_item = (
            select(_JUDGMENTS.c.item, func.count().label("votes"))
            .select_from(with_later)
            .where(here, is_counted)
            .group_by(_JUDGMENTS.c.item)
        )
        votes: dict[str, int] = {row.item: row.votes for row in connection.execute(by_item)}
        kinds = select(
            func.count(func.distinct(_JUDGMENTS.c.rater)),
            func.coalesce(func.sum(case((_JUDGMENTS.c.status == "surplus", 1), else_=0)), 0),
            func.coalesce(func.sum(case((_JUDGMENTS.c.is_skip, 1), else_=0)), 0),
        )
        raters, surplus, skipped = connection.execute(kinds.select_from(with_later).where(here, is_answer)).one()
        # The cheap test of the text comes first, because few answers have a flag.
        candidates = (
            select(_JUDGMENTS.c.item, _JUDGMENTS.c.answer)
            .select_from(with_later)
            .where(here, is_answer, cast(_JUDGMENTS.c.answer, Text).like('%"flag"%'))
        )
        flagged = {row.item for row in connection.execute(candidates) if row.answer.get("flag")}
        leases = (
            select(func.count())
            .select_from(_ASSIGNMENTS)
            .where(_ASSIGNMENTS.c.project == project, _ASSIGNMENTS.c.state == "open", _ASSIGNMENTS.c.expires > now)
        )
        num_open = int(connection.execute(leases).scalar_one())
        wanted = {row.id: row.wanted for row in rows if row.pool == "items" and row.removed is None}
        complete = [item for item, places in wanted.items() if votes.get(item, 0) >= places]
        undecided = undecided_votes(connection, project, {item for item in complete if votes.get(item, 0) != 1})
    return Progress(
        items=len(wanted),
        complete=len(complete),
        begun=sum(0 < votes.get(item, 0) < places for item, places in wanted.items()),
        wanted=sum(wanted.values()),
        judgments=sum(votes.get(item, 0) for item in wanted),
        open=num_open,
        surplus=surplus,
        skipped=skipped,
        flagged=len(flagged),
        removed=sum(row.removed is not None for row in rows),
        gold=sum(row.pool != "items" and row.removed is None for row in rows),
        raters=raters,
        undecided=len(undecided),
    )


def num_answered(store: Store, project: str, account: str) -> int:
    """Return how many answers of the account stand in the project, without skips."""
    later = _JUDGMENTS.alias()
    mine = (_JUDGMENTS.c.rater == account) & (_JUDGMENTS.c.project == project) & (_JUDGMENTS.c.kind == "answer") & ~_JUDGMENTS.c.is_skip
    query = (
        select(func.count())
        .select_from(_JUDGMENTS.outerjoin(later, later.c.supersedes == _JUDGMENTS.c.id))
        .where(mine, later.c.id.is_(None))
    )
    with store.database.read() as connection:
        return int(connection.execute(query).scalar_one())


def gold_record(store: Store, project: str, account: str) -> GoldRecord:
    """Return how the account answered the gold items.

    Only the first kept answer to each item counts, so further answers do not help. Removed items do not count.
    """
    later = _JUDGMENTS.alias()
    with store.database.read() as connection:
        rows = connection.execute(
            select(_JUDGMENTS.c.item, _JUDGMENTS.c.answer, _JUDGMENTS.c.shown, _ITEMS.c.gold, _ITEMS.c.pool)
            .join(_ITEMS, _ITEMS.c.id == _JUDGMENTS.c.item)
            .outerjoin(later, later.c.supersedes == _JUDGMENTS.c.id)
            .where(_JUDGMENTS.c.project == project, _JUDGMENTS.c.rater == account, _JUDGMENTS.c.kind == "answer", ~_JUDGMENTS.c.is_skip)
            .where(_JUDGMENTS.c.status == "kept", later.c.id.is_(None), _ITEMS.c.pool != "items", _ITEMS.c.removed.is_(None))
            .order_by(_JUDGMENTS.c.number)
        ).all()
        query = select(func.count()).select_from(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.pool == "qualification")
        size = connection.execute(query.where(_ITEMS.c.removed.is_(None))).scalar_one()
    first = {row.item: row for row in reversed(rows)}.values()
    gold, qualification = ([_is_right(row) for row in first if row.pool == pool] for pool in ("gold", "qualification"))
    return GoldRecord(len(gold), sum(gold), int(size), len(qualification), sum(qualification))


def time_log(store: Store, account: str) -> tuple[WorkDay, ...]:
    """Return what the account did, by project and day. The page measured the time of each answer, within what the server saw."""
    query = select(_JUDGMENTS.c.project, _JUDGMENTS.c.created, _JUDGMENTS.c.answer).where(
        _JUDGMENTS.c.rater == account, _JUDGMENTS.c.kind != "undo"
    )
    with store.database.read() as connection:
        rows = connection.execute(query.order_by(_JUDGMENTS.c.number)).all()
    days: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    for row in rows:
        days[row.project, datetime.fromtimestamp(row.created, UTC).date().isoformat()].append(row.answer.get("seconds"))
    return tuple(WorkDay(project, day, len(times), _sum_of_known(times)) for (project, day), times in sorted(days.items()))


def _sum_of_known(times: Sequence[float | None]) -> float | None:
    known = [seconds for seconds in times if seconds is not None]
    return sum(known) if known else None


def check(store: Store) -> tuple[str, ...]:
    """Return what is wrong with the counts of places, one sentence for each fault. A killed process does not cause any.

    An item's `taken` must be its standing votes and open assignments, and at most `wanted`. No rater may have two standing votes on it.
    """
    faults = []
    with store.database.read() as connection:
        superseded = select(_JUDGMENTS.c.supersedes).where(_JUDGMENTS.c.supersedes.is_not(None))
        undone = set(connection.execute(superseded).scalars())
        counted = (_JUDGMENTS.c.kind == "answer") & (_JUDGMENTS.c.status == "kept") & ~_JUDGMENTS.c.is_skip
        rows = connection.execute(select(_JUDGMENTS.c.id, _JUDGMENTS.c.item, _JUDGMENTS.c.rater).where(counted))
        standing = [row for row in rows if row.id not in undone]
        leases = Counter(connection.execute(select(_ASSIGNMENTS.c.item).where(_ASSIGNMENTS.c.state == "open")).scalars())
        items = connection.execute(select(_ITEMS.c.id, _ITEMS.c.taken, _ITEMS.c.wanted).where(_ITEMS.c.pool == "items")).all()
    votes = Counter(row.item for row in standing)
    for item in items:
        held = votes[item.id] + leases[item.id]
        if item.taken != held:
            faults.append(f"Item {item.id}: {item.taken} places taken, but {votes[item.id]} votes and {leases[item.id]} leases.")
        if held > item.wanted:
            faults.append(f"Item {item.id}: {votes[item.id]} votes and {leases[item.id]} leases, where {item.wanted} are wanted.")
    by_rater = Counter((row.item, row.rater) for row in standing)
    faults += [f"Item {item}: {times} votes of rater {rater}." for (item, rater), times in by_rater.items() if times > 1]
    return tuple(faults)


def _is_right(row: Any) -> bool:
    return is_right(answer_of(row.answer), order_of(row.shown), gold_of(row.gold))
