"""Taking an answer: into the store, then whatever follows from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from palate.core import DataError
from palate.ratings import Account, AccountRole, Answer, Assignment, Item, Receipt
from palate.web.access import NOT_HERE, AccessError, RequestContext
from palate.web.service import Service


def seat(visit: RequestContext) -> None:
    """Makes an owner a member of a project where he wants to judge; others are members by invitation."""
    if visit.me.role == "owner" and not visit.is_member(visit.project):
        visit.service.ratings.join(visit.project.id, visit.me.id, visit.service.clock())


def role_here(account: Account, reviewers: Collection[str]) -> AccountRole:
    """The account's role in a project with these reviewers."""
    return "reviewer" if account.role == "rater" and account.id in reviewers else account.role


def submit(service: Service, assignment: Assignment, account: Account, answer: Answer, key: str, guideline: int | None = None) -> Receipt:
    """The store's receipt. A passed qualification opens the project; webhooks are told of a kept judgment.

    Raises:
        DataError: the answer does not fit the task, or the assignment is another account's.
    """
    receipt = service.ratings.submit(assignment.id, account.id, answer, key, service.clock(), guideline=guideline)
    if receipt.status != "repeat":
        if receipt.is_qualification:
            qualify(service, assignment.project, account)
        service.courier.tell(_event(receipt, assignment, account, answer))
    return receipt


def adjudicate(service: Service, item: Item, account: Account, answer: Answer, key: str) -> Receipt:
    """The store's receipt of a reviewer's decision.

    Raises:
        DataError: the decision does not fit the task.
    """
    receipt = service.ratings.adjudicate(item.id, account.id, answer, key, service.clock())
    service.audit(account.id, "adjudicated", item.id, {"project": item.project})
    return receipt


def remove_member(visit: RequestContext) -> int:
    """How many items the account in the path held; they go to others, for it is no more in the project in the path.

    Raises:
        AccessError: 404, it was not.
    """
    released: int | None = visit.service.ratings.leave(visit.project.id, visit.account.id)
    if released is None:
        raise AccessError(404, "missing", NOT_HERE)
    visit.service.audit(visit.me.id, "removed from project", visit.account.id, {"project": visit.project.id, "released": released})
    return released


def take_out(visit: RequestContext) -> None:
    """Hands the item in the path out no more. Its judgments stay; an answer under way is kept as surplus."""
    visit.service.ratings.remove_item(visit.item.id, visit.service.clock())
    visit.service.audit(visit.me.id, "item removed", visit.item.id, {"project": visit.project.id})


def media_of(item: Item, number: int) -> str:
    """The media path of a candidate.

    Raises:
        DataError: there is no such candidate, or it has none.
    """
    if not 0 <= number < len(item.candidates) or not item.candidates[number].media:
        raise DataError("There is no such picture or clip.")
    return item.candidates[number].media


def qualify(service: Service, project: str, account: Account) -> bool:
    """Whether the account has just now passed the project's qualification: all of it answered, and enough of that rightly.

    Asked after each of its answers, and when nothing is left for a rater: he may have passed since a test item was removed.
    """
    if project in service.ratings.account(account.id).qualified:
        return False
    record = service.ratings.gold_record(project, account.id)
    enough = record.qualification_asked >= record.qualification_items > 0
    has_passed = enough and record.qualification_right >= service.settings.pass_mark * record.qualification_items
    if has_passed:
        service.ratings.qualify(project, account.id, service.clock())
        service.audit("", "qualified", account.id, {"project": project})
    return has_passed


def _event(receipt: Receipt, assignment: Assignment, account: Account, answer: Answer) -> Mapping[str, object]:
    return {
        "event": "judgment",
        "judgment": receipt.judgment,
        "status": receipt.status,
        "project": assignment.project,
        "item": assignment.item,
        "rater": account.pseudonym,
        "skipped": answer.skipped,
        "flagged": bool(answer.flag),
    }
