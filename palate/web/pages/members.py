"""People: of a project, of the server, and the audit log."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError
from palate.ratings import Link
from palate.web.access import Access, RequestContext
from palate.web.credentials import hashed
from palate.web.judging import remove_member, role_here
from palate.web.service import DAY
from palate.web.view import go, page

router = APIRouter(include_in_schema=False)
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]

PASSWORD_LINK_SECONDS = DAY
AUDIT_ROWS = 300


@router.get("/projects/{project}/people")
def people(visit: Reviewer) -> Response:
    """Who is in the project."""
    return _people(visit, {})


@router.post("/projects/{project}/invitations")
def invite(visit: Owner) -> Response:
    """A link that is shown once; the store has only its hash."""
    service = visit.service
    role = "reviewer" if visit.text("role") == "reviewer" else "rater"
    try:
        uses, days = _number(visit, "uses", 1000), _number(visit, "days", 90)
    except ConfigError as error:
        return _people(visit, {"error": str(error)}, 422)
    token, until = service.token(), service.clock() + days * DAY
    service.ratings.invite(visit.project.id, cast(Any, role), hashed(token, "invitation"), until, uses)
    service.audit(visit.me.id, "invited", visit.project.id, {"role": role, "uses": uses})
    return _people(visit, {"link": f"{_address(visit)}/invitations/{token}", "uses": uses, "until": until})


@router.post("/projects/{project}/invitations/end")
def end_invitations(visit: Owner) -> Response:
    """No invitation to the project works any more."""
    count = visit.service.ratings.end_invitations(visit.project.id, visit.service.clock())
    visit.service.audit(visit.me.id, "invitations ended", visit.project.id, {"count": count})
    return go(f"/projects/{visit.project.id}/people")


@router.post("/projects/{project}/people/{account}/remove")
def remove(visit: Owner) -> Response:
    """Somebody gets no more items here; what he held goes to others, and what he answered stays."""
    remove_member(visit)
    return _people(visit, {"told": f"{visit.account.name} is no longer in this project. The answers stay; items held were given back."})


@router.get("/accounts")
def accounts(visit: Owner) -> Response:
    """Everybody."""
    return _accounts(visit, {})


@router.post("/accounts/{account}/role")
def set_role(visit: Owner) -> Response:
    """Another role. The last owner stays one."""
    role, ratings = visit.text("role"), visit.service.ratings
    owners = [one for one in ratings.accounts() if one.role == "owner"]
    if role not in {"rater", "reviewer", "owner"}:
        return _accounts(visit, {"error": "A role is rater, reviewer or owner."}, 422)
    if visit.account.role == "owner" and role != "owner" and len(owners) == 1:
        return _accounts(visit, {"error": "The last owner stays one: make another owner first."}, 422)
    ratings.set_role(visit.account.id, cast(Any, role))
    visit.service.audit(visit.me.id, "role set", visit.account.id, {"role": role})
    return go("/accounts")


@router.post("/accounts/{account}/signout")
def sign_out_everywhere(visit: Owner) -> Response:
    """All sessions and keys of an account end."""
    count = visit.service.ratings.end_sessions(visit.account.id)
    visit.service.audit(visit.me.id, "sessions ended", visit.account.id, {"count": count})
    return go("/accounts")


@router.post("/accounts/{account}/newpassword")
def new_password(visit: Owner) -> Response:
    """A link with which the account sets a new password, once."""
    service, token = visit.service, visit.service.token()
    now = service.clock()
    until = now + PASSWORD_LINK_SECONDS
    service.ratings.issue_link(hashed(token, "password"), Link("password", visit.account.id, until), now)
    service.audit(visit.me.id, "password link made", visit.account.id)
    return _accounts(visit, {"link": f"{_address(visit)}/passwords/{token}", "whose": visit.account.name, "until": until})


@router.get("/audit")
def audit(visit: Owner) -> Response:
    """Who did what."""
    ratings = visit.service.ratings
    names = {one.id: one.name for one in ratings.accounts()} | {one.id: one.name for one in ratings.projects()}
    return page(visit, "audit.html", {"entries": ratings.audit_log(limit=AUDIT_ROWS), "names": names, "here": "audit"})


def _people(visit: RequestContext, values: dict[str, Any], status: int = 200) -> Response:
    ratings, project = visit.service.ratings, visit.project
    reviewers = ratings.reviewers(project.id)
    people = [(one, role_here(one, reviewers)) for one in ratings.accounts(project.id)]
    given: dict[str, Any] = {"project": project, "people": people, "link": "", "uses": 0, "until": 0.0}
    given["open_invitations"] = ratings.open_invitations(project.id, visit.service.clock())
    return page(visit, "people.html", {**given, **values}, status)


def _accounts(visit: RequestContext, values: dict[str, Any], status: int = 200) -> Response:
    given = {"accounts": visit.service.ratings.accounts(), "here": "accounts", "link": "", "whose": "", "until": 0.0}
    return page(visit, "accounts.html", {**given, **values}, status)


def _address(visit: RequestContext) -> str:
    return str(visit.request.base_url).rstrip("/")


def _number(visit: RequestContext, name: str, most: int) -> int:
    word = visit.text(name)
    if not (word.isascii() and word.isdigit() and 1 <= int(word[:6]) <= most):
        raise ConfigError(f"{name}: give a whole number from 1 to {most}.")
    return int(word)
