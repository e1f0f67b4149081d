"""Take an answer into the store and do what follows from it: qualification, webhooks, the audit log."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from palate.core import DataError
from palate.ratings import Account, AccountRole, Answer, Assignment, Item, Receipt
from palate.web.access import NOT_HERE, AccessError, RequestContext
from palate.web.service import Service


def join_as_owner(context: RequestContext) -> None:
    """Make an owner a member of the project in which they want to judge. Others become members by invitation."""
    if context.me.role == "owner" and not context.is_member(context.project):
        context.service.ratings.join(context.project.id, context.me.id, context.service.clock())


def role_in_project(account: Account, reviewers: Collection[str]) -> AccountRole:
    """Return the account's role in a project with these reviewers."""
    return "reviewer" if account.role == "rater" and account.id in reviewers else account.role


def submit(service: Service, assignment: Assignment, account: Account, answer: Answer, key: str, guideline: int | None = None) -> Receipt:
    """Store an answer and return its receipt. A passed qualification opens the project, and a kept judgment goes to the webhooks.

    Raises:
        DataError: the answer does not fit the task, or the assignment belongs to another account.
    """
    receipt = service.ratings.submit(assignment.id, account.id, answer, key, service.clock(), guideline=guideline)
    if receipt.status != "repeat":
        if receipt.is_qualification:
            qualify(service, assignment.project, account)
        service.webhooks.enqueue(_event(receipt, assignment, account, answer))
    return receipt


def adjudicate(service: Service, item: Item, account: Account, answer: Answer, key: str) -> Receipt:
    """Store a reviewer's decision and return its receipt.

    Raises:
        DataError: the decision does not fit the task.
    """
    receipt = service.ratings.adjudicate(item.id, account.id, answer, key, service.clock())
    service.audit(account.id, "adjudicated", item.id, {"project": item.project})
    return receipt


def remove_member(context: RequestContext) -> int:
    """Remove the account in the path from the project in the path. Return how many items it held; they go to others.

    Raises:
        AccessError: 404, the account is not a member.
    """
    released: int | None = context.service.ratings.leave(context.project.id, context.account.id)
    if released is None:
        raise AccessError(404, "missing", NOT_HERE)
    context.service.audit(context.me.id, "removed from project", context.account.id, {"project": context.project.id, "released": released})
    return released


def withdraw_item(context: RequestContext) -> None:
    """Stop asking about the item in the path. Its judgments stay, and an answer on its way is kept as surplus."""
    context.service.ratings.remove_item(context.item.id, context.service.clock())
    context.service.audit(context.me.id, "item removed", context.item.id, {"project": context.project.id})


def media_of(item: Item, number: int) -> str:
    """Return the media path of a candidate.

    Raises:
        DataError: the candidate does not exist, or it does not have media.
    """
    if not 0 <= number < len(item.candidates) or not item.candidates[number].media:
        raise DataError("This picture or clip does not exist.")
    return item.candidates[number].media


def qualify(service: Service, project: str, account: Account) -> bool:
    """Qualify the account if it has just passed: it answered all qualification items, and enough of them correctly.

    This is checked after each of the account's answers, and when nothing is left for a rater, because the removal of a test item can
    complete a qualification.

    Returns:
        Whether the account has passed just now.
    """
    if project in service.ratings.account(account.id).qualified:
        return False
    record = service.ratings.gold_record(project, account.id)
    is_complete = record.qualification_asked >= record.qualification_items > 0
    has_passed = is_complete and record.qualification_right >= service.settings.pass_mark * record.qualification_items
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
