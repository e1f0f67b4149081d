"""Taking answers: a repeated call adds nothing, rows are only added, and no answer is lost. An undo is a new row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, exists, insert, select, update

from palate.core import DataError
from palate.ratings import schema
from palate.ratings.claims import give_back
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Assignment, Receipt, SurplusCause
from palate.ratings.items import find_item
from palate.ratings.projects import find_project, latest_guideline
from palate.ratings.standing_answers import update_wanted
from palate.ratings.table_rows import answer_json, assignment_of
from palate.ratings.validation import check_answer, with_rule
from palate.ratings.visibility import is_viewed
from palate.ratings.worked_time import possible_seconds

_ASSIGNMENTS, _JUDGMENTS = schema.assignments, schema.judgments
# Statements are built once, because building them for every answer would cost more than running them.
_LOCKED_ASSIGNMENT = select(_ASSIGNMENTS).where(_ASSIGNMENTS.c.id == bindparam("which")).with_for_update()
_ITEM = select(schema.items).where(schema.items.c.id == bindparam("which"))
_WITH_KEY = select(_JUDGMENTS).where(_JUDGMENTS.c.rater == bindparam("of_rater"), _JUDGMENTS.c.key == bindparam("with_key"))
_MEMBER = select(schema.members.c.joined).where(
    schema.members.c.project == bindparam("in_project"), schema.members.c.account == bindparam("who")
)
_ADD = insert(_JUDGMENTS)
LATE = ("expired", "released", "skipped", "declined")
"""States of an assignment that is not held any more. Its answer counts if the item still has a place."""
_SET_STATE = update(_ASSIGNMENTS).where(_ASSIGNMENTS.c.id == bindparam("which")).values(state=bindparam("to"))


def submit(store: Store, assignment: str, account: str, answer: Answer, key: str, now: float, *, guideline: int | None = None) -> Receipt:
    """Write the answer to the disk and return a receipt for it.

    The same `key` from the same account is the same answer, however often it comes. A late answer, after its lease ran out or was given
    back, counts if the item still has a free place. The answer is kept as surplus if someone else has the place, the item was removed, or
    the assignment has an answer already. Its seconds are cut to those that the rater can have had (`worked_time.possible_seconds`).

    Args:
        store: the ratings.
        assignment: its id.
        account: who answers.
        answer: the answer.
        key: a random string for this answer.
        now: seconds since 1970.
        guideline: the version that the rater saw. By default it is the one that was newest when they got the item.

    Raises:
        DataError: the account does not hold the assignment, the answer does not fit the task, the guideline does not exist, or the key
            was used for another assignment.
    """

    def work(connection: Connection) -> Receipt:
        row = connection.execute(_LOCKED_ASSIGNMENT, {"which": assignment}).one_or_none()
        if row is None or row.rater != account:
            raise DataError(f"The account {account!r} has no assignment {assignment!r}. Ask for a new one.")
        repeated = _row_with_key(connection, account, key, kind="answer", assignment=assignment)
        if repeated is not None:
            return Receipt(repeated.id, "repeat")
        project = find_project(connection, row.project)
        item = connection.execute(_ITEM, {"which": row.item}).one()
        check_answer(answer, project.task, len(item.candidates))
        version = row.guideline if guideline is None else _checked_version(connection, row.project, guideline)
        is_late = row.state in LATE and _is_member(connection, row) and not is_viewed(connection, row.item, account)
        has_place = row.state == "open" or (is_late and not answer.skipped and _take_place(connection, row.item))
        is_live = item.removed is None and (has_place or (is_late and answer.skipped))
        timed = replace(answer, seconds=possible_seconds(connection, account, row.claimed, now, answer.seconds))
        identity = store.database.identify()
        columns = {"id": identity, "key": key, "guideline": version, "created": now, "status": "kept" if is_live else "surplus"}
        _append(connection, row, with_rule(timed, project.task, item.fields, item.id), columns)
        if has_place and (answer.skipped or not is_live):
            give_back(connection, row.item)
        if row.state != "done":
            # A flagged item does not come again, except in a qualification, which nobody could pass without it.
            skipped = "declined" if answer.flag and item.pool != "qualification" else "skipped"
            state = "surplus" if not is_live else skipped if answer.skipped else "done"
            connection.execute(_SET_STATE, {"which": row.id, "to": state})
        update_wanted(connection, project, item.id)
        cause = "" if is_live else _surplus_cause(connection, row, is_removed=item.removed is not None)
        return Receipt(identity, "kept" if is_live else "surplus", item.pool == "qualification", cause)

    return store.database.run(work)


def _is_member(connection: Connection, assignment: Row[Any]) -> bool:
    return connection.execute(_MEMBER, {"in_project": assignment.project, "who": assignment.rater}).first() is not None


def _surplus_cause(connection: Connection, assignment: Row[Any], *, is_removed: bool) -> SurplusCause:
    """Return why an answer does not count. `assignment` is the row as it was before the answer."""
    if assignment.state in {"done", "surplus"}:
        return "answered"
    if is_removed:
        return "removed"
    if not _is_member(connection, assignment):
        return "left"
    return "viewed" if is_viewed(connection, assignment.item, assignment.rater) else "taken"


def undo(store: Store, project: str, account: str, key: str, now: float) -> Assignment | None:
    """Take back the account's last standing answer and return its assignment, to be answered again; None if there is nothing to take back.

    The answer stays in the table, and a new row says that it does not count any more. The rater holds the item again, in the same order. If
    someone else got its place in the meantime (after a skip), the new answer will be surplus. The same `key` takes back the same answer,
    however often it comes. Answers of the qualification cannot be taken back.

    Raises:
        DataError: the project does not exist, the key was used for an answer, or the rater has seen what others answered to the item.
    """

    def work(connection: Connection) -> Assignment | None:
        settings = find_project(connection, project)
        connection.execute(select(schema.accounts.c.id).where(schema.accounts.c.id == account).with_for_update())
        repeated = _row_with_key(connection, account, key, kind="undo", project=project)
        if repeated is not None:
            return assignment_of(connection.execute(_LOCKED_ASSIGNMENT, {"which": repeated.assignment}).one())
        last = connection.execute(_standing(project, account).order_by(_JUDGMENTS.c.number.desc()).limit(1)).one_or_none()
        if last is None or connection.execute(_ITEM, {"which": last.item}).one().pool == "qualification":
            return None
        row = connection.execute(_LOCKED_ASSIGNMENT, {"which": last.assignment}).one()
        if is_viewed(connection, row.item, account):
            raise DataError("You have seen what others answered to the item that you answered last, so your answer stands.")
        connection.execute(
            _ADD,
            {
                "id": store.database.identify(), "project": project, "item": row.item, "assignment": row.id, "rater": account, "key": key,
                "shown": last.shown, "answer": {}, "is_skip": False, "status": "kept", "kind": "undo", "supersedes": last.id,
                "guideline": row.guideline, "created": now,
            },
        )  # fmt: skip
        if row.state != "done" or last.status == "kept":  # otherwise a second answer is taken back, and the first one stands
            has_place = row.state in {"done", "open"} or _take_place(connection, row.item)
            state = {"state": "open", "expires": now + settings.lease_seconds} if has_place else {"state": "expired"}
            connection.execute(update(_ASSIGNMENTS).where(_ASSIGNMENTS.c.id == row.id).values(state))
        update_wanted(connection, settings, row.item)
        return assignment_of(connection.execute(_LOCKED_ASSIGNMENT, {"which": row.id}).one())

    return store.database.run(work)


def adjudicate(store: Store, item: str, account: str, answer: Answer, key: str, now: float) -> Receipt:
    """Record a reviewer's decision on an item that raters disagree about, and return a receipt. It does not take a place.

    Places shown are candidate numbers. If an item has several adjudications, all stay and the last one decides.

    Raises:
        DataError: the item or account does not exist, the account may not review, the answer does not fit the task, or the key was used.
    """

    def work(connection: Connection) -> Receipt:
        row = find_item(connection, item)
        role = connection.execute(
            select(schema.accounts.c.role).where(schema.accounts.c.id == account).with_for_update()
        ).scalar_one_or_none()
        is_reviewer = select(schema.reviewers.c.since).where(
            schema.reviewers.c.project == row.project, schema.reviewers.c.account == account
        )
        if role not in {"owner", "reviewer"} and connection.execute(is_reviewer).first() is None:
            raise DataError(f"The account {account!r} may not adjudicate. Make it a reviewer first.")
        repeated = _row_with_key(connection, account, key, kind="adjudication", item=item)
        if repeated is not None:
            return Receipt(repeated.id, "repeat")
        task = find_project(connection, row.project).task
        check_answer(answer, task, len(row.candidates))
        if answer.skipped:
            raise DataError("An adjudication cannot be a skip. Leave the item to another reviewer.")
        identity = store.database.identify()
        connection.execute(
            insert(_JUDGMENTS).values(
                id=identity, project=row.project, item=item, assignment=None, rater=account, key=key,
                shown=list(range(len(row.candidates))), answer=answer_json(with_rule(answer, task, row.fields, item)), is_skip=False,
                status="kept", kind="adjudication", supersedes=None, guideline=latest_guideline(connection, row.project), created=now,
            )
        )  # fmt: skip
        return Receipt(identity, "kept")

    return store.database.run(work)


def _row_with_key(connection: Connection, account: str, key: str, **expected: str) -> Row[Any] | None:
    """Return the account's row with this key; None if the key is new. Raises DataError if its columns are not the expected ones."""
    if not 0 < len(key) <= 128:
        raise DataError("The key of an answer must have 1 to 128 characters. Give each answer a random key.")
    row = connection.execute(_WITH_KEY, {"of_rater": account, "with_key": key}).one_or_none()
    if row is not None and any(getattr(row, name) != value for name, value in expected.items()):
        raise DataError(f"The key {key!r} was used for another answer. Give each answer another random key.")
    return row


def _append(connection: Connection, row: Row[Any], answer: Answer, columns: dict[str, Any]) -> None:
    values = {
        "project": row.project, "item": row.item, "assignment": row.id, "rater": row.rater, "shown": row.shown,
        "answer": answer_json(answer), "is_skip": answer.skipped, "kind": "answer", "supersedes": None,
    }  # fmt: skip
    connection.execute(_ADD, values | columns)


def _checked_version(connection: Connection, project: str, guideline: int) -> int:
    if not 1 <= guideline <= latest_guideline(connection, project):
        raise DataError(f"The project does not have version {guideline} of the guideline. Load the page again.")
    return guideline


def _standing(project: str, account: str) -> Any:
    later = _JUDGMENTS.alias()
    taken_back = exists().where(later.c.supersedes == _JUDGMENTS.c.id)
    return select(_JUDGMENTS).where(
        _JUDGMENTS.c.rater == account, _JUDGMENTS.c.project == project, _JUDGMENTS.c.kind == "answer", ~taken_back
    )


def _take_place(connection: Connection, item: str) -> bool:
    """Take a free place of the item, and return whether there was one. Gold items do not have places and are always free."""
    table = schema.items
    is_here = (table.c.id == item) & table.c.removed.is_(None)
    if connection.execute(select(table.c.pool).where(is_here)).scalar_one_or_none() in {"gold", "qualification"}:
        return True
    return connection.execute(update(table).where(is_here, table.c.taken < table.c.wanted).values(taken=table.c.taken + 1)).rowcount == 1
