"""Taking answers: idempotent, append-only, never lost. An undo is a row of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, exists, insert, select, update

from palate.core import DataError
from palate.stores.ratings import schema, votes
from palate.stores.ratings.answers import check_answer
from palate.stores.ratings.claims import give_back
from palate.stores.ratings.database import Store
from palate.stores.ratings.nouns import Answer, Assignment, Receipt, Status
from palate.stores.ratings.projects import find_project, latest_guideline
from palate.stores.ratings.rows import answer_json, assignment_of

_ASKED, _SAID = schema.assignments, schema.judgments
# Made once: making them anew for every answer costs more than the database does.
_HELD = select(_ASKED).where(_ASKED.c.id == bindparam("which")).with_for_update()
_ITEM = select(schema.items).where(schema.items.c.id == bindparam("which"))
_SAME = select(_SAID.c.id, _SAID.c.assignment).where(_SAID.c.rater == bindparam("of_rater"), _SAID.c.key == bindparam("with_key"))
_ADD = insert(_SAID)
_END = update(_ASKED).where(_ASKED.c.id == bindparam("which")).values(state=bindparam("to"))


def submit(store: Store, assignment: str, account: str, answer: Answer, key: str, now: float) -> Receipt:
    """A receipt for the answer, which is on the disk.

    The same `key` from the same account is the same answer, however often it comes. An answer to an expired, released or removed
    assignment, or a second one to the same, is kept as surplus.

    Raises:
        DataError: the account does not hold the assignment, the answer does not fit the task, or the key was used for another assignment.
    """

    def work(connection: Connection) -> Receipt:
        row = connection.execute(_HELD, {"which": assignment}).one_or_none()
        if row is None or row.rater != account:
            raise DataError(f"The account {account!r} has no assignment {assignment!r}. Ask for a new one.")
        before = _same_key(connection, account, key, assignment)
        if before is not None:
            return before
        project = find_project(connection, row.project)
        item = connection.execute(_ITEM, {"which": row.item}).one()
        check_answer(answer, project.task, len(item.candidates))
        is_live = row.state == "open" and row.expires > now and item.removed is None
        identity = store.database.identify()
        _append(connection, row, answer, identity=identity, key=key, now=now, status="kept" if is_live else "surplus")
        _settle(connection, row, answer, is_live=is_live)
        votes.ask_more(connection, project, item.id)
        return Receipt(identity, "kept" if is_live else "surplus", item.pool == "qualification")

    return store.database.run(work)


def undo(store: Store, project: str, account: str, now: float) -> Assignment | None:
    """The assignment of the account's last standing answer, to be answered anew; None when there is nothing to take back.

    The answer stays in the table, and a new row says that it counts no more. The rater holds the item again, in the same order; when
    its place was given to someone else meanwhile (after a skip), the new answer will be surplus.
    """

    def work(connection: Connection) -> Assignment | None:
        found = find_project(connection, project)
        last = connection.execute(_standing(project, account).order_by(_SAID.c.number.desc()).limit(1)).one_or_none()
        if last is None:
            return None
        row = connection.execute(select(_ASKED).where(_ASKED.c.id == last.assignment).with_for_update()).one()
        if connection.execute(select(_SAID.c.id).where(_SAID.c.supersedes == last.id)).first() is not None:
            return assignment_of(row)  # another page of the same rater was faster
        identity = store.database.identify()
        connection.execute(
            insert(_SAID).values(
                id=identity, project=project, item=row.item, assignment=row.id, rater=account, key=f"undo:{identity}", shown=row.shown,
                answer={}, is_skip=False, status="kept", kind="undo", supersedes=last.id, guideline=row.guideline, created=now,
            )
        )  # fmt: skip
        if row.state != "done" or last.status == "kept":  # else a second answer is taken back, and the first one stands
            has_place = row.state == "done" or _take_place(connection, row.item)
            again = {"state": "open", "expires": now + found.lease_seconds} if has_place else {"state": "expired"}
            connection.execute(update(_ASKED).where(_ASKED.c.id == row.id).values(again))
        votes.ask_more(connection, found, row.item)
        return assignment_of(connection.execute(select(_ASKED).where(_ASKED.c.id == row.id)).one())

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
        if role not in {"owner", "reviewer"}:
            raise DataError(f"The account {account!r} may not adjudicate. Make it a reviewer first.")
        before = _same_key(connection, account, key, None)
        if before is not None:
            return before
        check_answer(answer, find_project(connection, row.project).task, len(row.candidates))
        if answer.skipped:
            raise DataError("An adjudication decides; it cannot be a skip. Leave the item to another reviewer.")
        identity = store.database.identify()
        connection.execute(
            insert(_SAID).values(
                id=identity, project=row.project, item=item, assignment=None, rater=account, key=key,
                shown=list(range(len(row.candidates))), answer=answer_json(answer), is_skip=False, status="kept",
                kind="adjudication", supersedes=None, guideline=latest_guideline(connection, row.project), created=now,
            )
        )  # fmt: skip
        return Receipt(identity, "kept")

    return store.database.run(work)


def _same_key(connection: Connection, account: str, key: str, assignment: str | None) -> Receipt | None:
    if not 0 < len(key) <= 128:
        raise DataError("The key of an answer must have 1 to 128 characters. Give a random one for each answer.")
    row = connection.execute(_SAME, {"of_rater": account, "with_key": key}).one_or_none()
    if row is None:
        return None
    if row.assignment != assignment:
        raise DataError(f"The key {key!r} was used for another answer. Give each answer a random key of its own.")
    return Receipt(row.id, "repeat")


def _append(connection: Connection, row: Row[Any], answer: Answer, *, identity: str, key: str, now: float, status: Status) -> None:
    said = {
        "id": identity, "project": row.project, "item": row.item, "assignment": row.id, "rater": row.rater, "key": key,
        "shown": row.shown, "answer": answer_json(answer), "is_skip": answer.skipped, "status": status, "kind": "answer",
        "supersedes": None, "guideline": row.guideline, "created": now,
    }  # fmt: skip
    connection.execute(_ADD, said)


def _settle(connection: Connection, row: Row[Any], answer: Answer, *, is_live: bool) -> None:
    """Nothing; the assignment is over. A live answer keeps its place, a skip or a late answer gives it back."""
    if row.state == "open" and (answer.skipped or not is_live):
        give_back(connection, row.item)
    if row.state != "done":
        state = "surplus" if not is_live else "skipped" if answer.skipped else "done"
        connection.execute(_END, {"which": row.id, "to": state})


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
