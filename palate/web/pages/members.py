"""Pages about people: of a project, of the server, and the audit log."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError
from palate.ratings import Link
from palate.web.access import Access, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.credentials import hashed
from palate.web.judging import remove_member, role_in_project
from palate.web.service import DAY
from palate.web.view import go, page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]

PASSWORD_LINK_SECONDS = DAY
AUDIT_ROWS = 300


@router.get("/projects/{project}/people")
def people(context: Reviewer) -> Response:
    """Show who is in the project."""
    return _people(context, {})


@router.post("/projects/{project}/invitations")
def invite(context: Owner) -> Response:
    """Make an invitation link. The page shows it once, and the store keeps only its hash."""
    service = context.service
    role = "reviewer" if context.text("role") == "reviewer" else "rater"
    try:
        uses, days = _number(context, "uses", 1000), _number(context, "days", 90)
    except ConfigError as error:
        return _people(context, {"error": str(error)}, 422)
    token, until = service.token(), service.clock() + days * DAY
    service.ratings.invite(context.project.id, cast(Any, role), hashed(token, "invitation"), until, uses)
    service.audit(context.me.id, "invited", context.project.id, {"role": role, "uses": uses})
    return _people(context, {"link": f"{_base_url(context)}/invitations/{token}", "uses": uses, "until": until})


@router.post("/projects/{project}/invitations/end")
def end_invitations(context: Owner) -> Response:
    """End all invitations to the project."""
    count = context.service.ratings.end_invitations(context.project.id, context.service.clock())
    context.service.audit(context.me.id, "invitations ended", context.project.id, {"count": count})
    return go(f"/projects/{context.project.id}/people")


@router.post("/projects/{project}/people/{account}/remove")
def remove(context: Owner) -> Response:
    """Remove somebody from the project. Items that they held go to others, and their answers stay."""
    remove_member(context)
    return _people(
        context,
        {"success": f"{context.account.name} has left this project. Their answers stay. Other raters get the items that they held."},
    )


@router.get("/accounts")
def accounts(context: Owner) -> Response:
    """Show all accounts."""
    return _accounts(context, {})


@router.post("/accounts/{account}/role")
def set_role(context: Owner) -> Response:
    """Change the role of an account. The last owner cannot lose the role."""
    role, ratings = context.text("role"), context.service.ratings
    owners = [account for account in ratings.accounts() if account.role == "owner"]
    if role not in {"rater", "reviewer", "owner"}:
        return _accounts(context, {"error": "A role is rater, reviewer or owner."}, 422)
    if context.account.role == "owner" and role != "owner" and len(owners) == 1:
        return _accounts(context, {"error": "This is the last owner. Make another owner first."}, 422)
    ratings.set_role(context.account.id, cast(Any, role))
    context.service.audit(context.me.id, "role set", context.account.id, {"role": role})
    return go("/accounts")


@router.post("/accounts/{account}/signout")
def sign_out_everywhere(context: Owner) -> Response:
    """End all sessions and keys of an account."""
    count = context.service.ratings.end_sessions(context.account.id)
    context.service.audit(context.me.id, "sessions ended", context.account.id, {"count": count})
    return go("/accounts")


@router.post("/accounts/{account}/newpassword")
def new_password(context: Owner) -> Response:
    """Make a link with which the account sets a new password once."""
    service, token = context.service, context.service.token()
    now = service.clock()
    until = now + PASSWORD_LINK_SECONDS
    service.ratings.issue_link(hashed(token, "password"), Link("password", context.account.id, until), now)
    service.audit(context.me.id, "password link made", context.account.id)
    return _accounts(context, {"link": f"{_base_url(context)}/passwords/{token}", "link_owner": context.account.name, "until": until})


@router.get("/audit")
def audit(context: Owner) -> Response:
    """Show the audit log."""
    ratings = context.service.ratings
    names = {account.id: account.name for account in ratings.accounts()} | {project.id: project.name for project in ratings.projects()}
    return page(context, "audit.html", {"entries": ratings.audit_log(limit=AUDIT_ROWS), "names": names, "here": "audit"})


def _people(context: RequestContext, values: dict[str, Any], status: int = 200) -> Response:
    ratings, project = context.service.ratings, context.project
    reviewers = ratings.reviewers(project.id)
    people = [(account, role_in_project(account, reviewers)) for account in ratings.accounts(project.id)]
    defaults: dict[str, Any] = {"project": project, "people": people, "link": "", "uses": 0, "until": 0.0}
    defaults["open_invitations"] = ratings.open_invitations(project.id, context.service.clock())
    return page(context, "people.html", {**defaults, **values}, status)


def _accounts(context: RequestContext, values: dict[str, Any], status: int = 200) -> Response:
    defaults = {"accounts": context.service.ratings.accounts(), "here": "accounts", "link": "", "link_owner": "", "until": 0.0}
    return page(context, "accounts.html", {**defaults, **values}, status)


def _base_url(context: RequestContext) -> str:
    return str(context.request.base_url).rstrip("/")


def _number(context: RequestContext, name: str, maximum: int) -> int:
    text = context.text(name)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= maximum):
        raise ConfigError(f"{name}: give a whole number from 1 to {maximum}.")
    return int(text)
