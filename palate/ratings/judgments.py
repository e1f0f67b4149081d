"""Taking answers: idempotent, append-only, never lost. An undo is a row of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, exists, insert, select, update

from palate.core import DataError
from palate.ratings import schema
from palate.ratings import standing_answers as votes
from palate.ratings.claims import give_back
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Assignment, Receipt
from palate.ratings.projects import find_project, latest_guideline
from palate.ratings.table_rows import answer_json, assignment_of
from palate.ratings.validation import check_answer, on_rule
from palate.ratings.visibility import has_looked

_ASKED, _SAID = schema.assignments, schema.judgments
# Made once: making them anew for every answer costs more than the database does.
_HELD = select(_ASKED).where(_ASKED.c.id == bindparam("which")).with_for_update()
_ITEM = select(schema.items).where(schema.items.c.id == bindparam("which"))
_WITH_KEY = select(_SAID).where(_SAID.c.rater == bindparam("of_rater"), _SAID.c.key == bindparam("with_key"))
_MEMBER = select(schema.members.c.joined).where(
    schema.members.c.project == bindparam("in_project"), schema.members.c.account == bindparam("who")
)
_ADD = insert(_SAID)
LATE = ("expired", "released", "skipped", "declined")
"""States of an assignment that was let go of: its answer counts if the item still has a place."""
_END = update(_ASKED).where(_ASKED.c.id == bindparam("which")).values(state=bindparam("to"))


def submit(store: Store, assignment: str, account: str, answer: Answer, key: str, now: float, *, guideline: int | None = None) -> Receipt:
    """A receipt for the answer, which is on the disk.

    The same `key` from the same account is the same answer, however often it comes. An answer that comes late, after its lease ran out or
    was given back, counts while its place is free; where someone else has got it, where the item was removed, or where it is a second
    answer to the same assignment, it is kept as surplus.

    Args:
        store: the ratings.
        assignment: its id.
        account: who answers.
        answer: what he says.
        key: a random one for this answer.
        now: seconds since 1970.
        guideline: the version that he saw; by default the one that was newest when he got the item.

    Raises:
        DataError: the account does not hold the assignment, the answer does not fit the task, there is no such guideline, or the key was
            used for another assignment.
    """

    def work(connection: Connection) -> Receipt:
        row = connection.execute(_HELD, {"which": assignment}).one_or_none()
        if row is None or row.rater != account:
            raise DataError(f"The account {account!r} has no assignment {assignment!r}. Ask for a new one.")
        before = _before(connection, account, key, kind="answer", assignment=assignment)
        if before is not None:
            return Receipt(before.id, "repeat")
        project = find_project(connection, row.project)
        item = connection.execute(_ITEM, {"which": row.item}).one()
        check_answer(answer, project.task, len(item.candidates))
        seen = row.guideline if guideline is None else _version(connection, row.project, guideline)
        is_late = row.state in LATE and connection.execute(_MEMBER, {"in_project": row.project, "who": account}).first() is not None
        is_late = is_late and not has_looked(connection, row.item, account)
        has_place = row.state == "open" or (is_late and not answer.skipped and _take_place(connection, row.item))
        is_live = item.removed is None and (has_place or (is_late and answer.skipped))
        identity = store.database.identify()
        said = {"id": identity, "key": key, "guideline": seen, "created": now, "status": "kept" if is_live else "surplus"}
        _append(connection, row, on_rule(answer, project.task, item.fields, item.id), said)
        if has_place and (answer.skipped or not is_live):
            give_back(connection, row.item)
        if row.state != "done":
            # A flagged item comes no more, except in a qualification, which nobody could pass without it.
            skipped = "declined" if answer.flag and item.pool != "qualification" else "skipped"
            state = "surplus" if not is_live else skipped if answer.skipped else "done"
            connection.execute(_END, {"which": row.id, "to": state})
        votes.ask_more(connection, project, item.id)
        return Receipt(identity, "kept" if is_live else "surplus", item.pool == "qualification")

    return store.database.run(work)


def undo(store: Store, project: str, account: str, key: str, now: float) -> Assignment | None:
    """The assignment of the account's last standing answer, to be answered anew; None when there is nothing to take back.

    The answer stays in the table, and a new row says that it counts no more. The rater holds the item again, in the same order; when
    its place was given to someone else meanwhile (after a skip), the new answer will be surplus. The same `key` takes back the same
    answer, however often it comes. What was answered in the qualification stands.

    Raises:
        DataError: there is no such project, the key was used for an answer, or the rater has looked at what others said of the item.
    """

    def work(connection: Connection) -> Assignment | None:
        found = find_project(connection, project)
        connection.execute(select(schema.accounts.c.id).where(schema.accounts.c.id == account).with_for_update())
        before = _before(connection, account, key, kind="undo", project=project)
        if before is not None:
            return assignment_of(connection.execute(_HELD, {"which": before.assignment}).one())
        last = connection.execute(_standing(project, account).order_by(_SAID.c.number.desc()).limit(1)).one_or_none()
        if last is None or connection.execute(_ITEM, {"which": last.item}).one().pool == "qualification":
            return None
        row = connection.execute(_HELD, {"which": last.assignment}).one()
        if has_looked(connection, row.item, account):
            raise DataError("You have looked at what others said of the item that you answered last, so your answer stands.")
        connection.execute(
            _ADD,
            {
                "id": store.database.identify(), "project": project, "item": row.item, "assignment": row.id, "rater": account, "key": key,
                "shown": row.shown, "answer": {}, "is_skip": False, "status": "kept", "kind": "undo", "supersedes": last.id,
                "guideline": row.guideline, "created": now,
            },
        )  # fmt: skip
        if row.state != "done" or last.status == "kept":  # else a second answer is taken back, and the first one stands
            has_place = row.state in {"done", "open"} or _take_place(connection, row.item)
            again = {"state": "open", "expires": now + found.lease_seconds} if has_place else {"state": "expired"}
            connection.execute(update(_ASKED).where(_ASKED.c.id == row.id).values(again))
        votes.ask_more(connection, found, row.item)
        return assignment_of(connection.execute(_HELD, {"which": row.id}).one())

    return store.database.run(work)


def adjudicate(store: Store, item: str, account: str, answer: Answer, key: str, now: float) -> Receipt:
    """A receipt for a reviewer's decision on an item that raters disagree about; it takes no place of theirs.

    Places shown are candidate numbers. A later adjudication of the item stands beside the former one; the last one decides.

    Raises:
        DataError: there is no such item or account, the account is a rater's, the answer does not fit the task, or the key was used.
    """

    def work(connection: Connection) -> Receipt:
        row = connection.execute(select(schema.items).where(schema.items.c.id == item)).one_or_none()
        if row is None:
            raise DataError(f"There is no item {item!r}. Choose one of those listed.")
        role = connection.execute(
            select(schema.accounts.c.role).where(schema.accounts.c.id == account).with_for_update()
        ).scalar_one_or_none()
        here = select(schema.reviewers.c.since).where(schema.reviewers.c.project == row.project, schema.reviewers.c.account == account)
        if role not in {"owner", "reviewer"} and connection.execute(here).first() is None:
            raise DataError(f"The account {account!r} may not adjudicate. Make it a reviewer first.")
        before = _before(connection, account, key, kind="adjudication", item=item)
        if before is not None:
            return Receipt(before.id, "repeat")
        task = find_project(connection, row.project).task
        check_answer(answer, task, len(row.candidates))
        if answer.skipped:
            raise DataError("An adjudication decides; it cannot be a skip. Leave the item to another reviewer.")
        identity = store.database.identify()
        connection.execute(
            insert(_SAID).values(
                id=identity, project=row.project, item=item, assignment=None, rater=account, key=key,
                shown=list(range(len(row.candidates))), answer=answer_json(on_rule(answer, task, row.fields, item)), is_skip=False,
                status="kept", kind="adjudication", supersedes=None, guideline=latest_guideline(connection, row.project), created=now,
            )
        )  # fmt: skip
        return Receipt(identity, "kept")

    return store.database.run(work)


def _before(connection: Connection, account: str, key: str, **same: str) -> Row[Any] | None:
    """The account's row with this key, when it came before; in it, these columns must be the same."""
    if not 0 < len(key) <= 128:
        raise DataError("The key of an answer must have 1 to 128 characters. Give a random one for each answer.")
    row = connection.execute(_WITH_KEY, {"of_rater": account, "with_key": key}).one_or_none()
    if row is not None and any(getattr(row, name) != value for name, value in same.items()):
        raise DataError(f"The key {key!r} was used for another answer. Give each answer a random key of its own.")
    return row


def _append(connection: Connection, row: Row[Any], answer: Answer, said: dict[str, Any]) -> None:
    values = {
        "project": row.project, "item": row.item, "assignment": row.id, "rater": row.rater, "shown": row.shown,
        "answer": answer_json(answer), "is_skip": answer.skipped, "kind": "answer", "supersedes": None,
    }  # fmt: skip
    connection.execute(_ADD, values | said)


def _version(connection: Connection, project: str, guideline: int) -> int:
    if not 1 <= guideline <= latest_guideline(connection, project):
        raise DataError(f"The project has no guideline of version {guideline}. Load the page again.")
    return guideline


def _standing(project: str, account: str) -> Any:
    later = _SAID.alias()
    taken_back = exists().where(later.c.supersedes == _SAID.c.id)
    return select(_SAID).where(_SAID.c.rater == account, _SAID.c.project == project, _SAID.c.kind == "answer", ~taken_back)


def _take_place(connection: Connection, item: str) -> bool:
    """Whether the rater may hold the item again; a free place of it is taken. Gold items have no places, and are always free."""
    table = schema.items
    there = (table.c.id == item) & table.c.removed.is_(None)
    if connection.execute(select(table.c.pool).where(there)).scalar_one_or_none() in {"gold", "qualification"}:
        return True
    return connection.execute(update(table).where(there, table.c.taken < table.c.wanted).values(taken=table.c.taken + 1)).rowcount == 1
