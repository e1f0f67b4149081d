"""Coming in: the first owner, signing in and out, invitations, new passwords."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError
from palate.ratings import Account
from palate.web.access import Access, AccessError, RequestContext, check_csrf
from palate.web.credentials import check_password, hashed
from palate.web.signin import asked_for, authenticate, new_account, sign_in, sign_out
from palate.web.view import go, local_path, page

router = APIRouter(include_in_schema=False)
Anyone = Annotated[RequestContext, Depends(Access("public"))]
SignedIn = Annotated[RequestContext, Depends(Access("rater"))]

GONE = AccessError(404, "gone", "This link has been used, has run out, or never was. Ask whoever sent it for a new one.")
OWNER = {
    "heading": "The first owner",
    "lead": "Whoever opened this link owns the server: makes projects, invites people.",
    "button": "Begin",
}
JOIN = {"heading": "You are invited", "lead": "To compare what language models write, and say which is better.", "button": "Join"}
RENEW = {"heading": "A new password", "lead": "Sessions that are open elsewhere will end.", "button": "Set the password"}


@router.get("/signin")
def signin_page(visit: Anyone) -> Response:
    """The form."""
    if visit.session is not None:
        return go(local_path(visit.request.query_params.get("next", "/")))
    return page(visit, "signin.html", {"name": ""})


@router.post("/signin")
def signin(visit: Anyone) -> Response:
    """A session for the right name and password."""
    name = visit.text("name")[:200]
    try:
        account = authenticate(visit, name, visit.text("password"))
    except AccessError as error:
        response = page(visit, "signin.html", {"name": name, "error": error.words}, error.status)
        if error.status == 429:
            response.headers["Retry-After"] = str(int(visit.service.settings.window_seconds))
        return response
    visit.service.audit(account.id, "signed in", account.id)
    return sign_in(visit, account, go(local_path(visit.request.query_params.get("next", "/"))))


@router.post("/signout")
def signout(visit: SignedIn) -> Response:
    """The session ends."""
    return sign_out(visit, go("/signin"))


@router.get("/setup/{token}")
def setup_page(visit: Anyone, token: str) -> Response:
    """The form for the first owner."""
    _check_setup(visit, token)
    return page(visit, "join.html", {**OWNER, "name": "", "joinable": False})


@router.post("/setup/{token}")
def setup(visit: Anyone, token: str) -> Response:
    """The first owner; the link works no more."""
    service = visit.service
    _check_setup(visit, token)
    try:
        asked_for(visit, "owner")  # refuses what `new_account` would refuse, before anything is used up
        if service.ratings.redeem_link(hashed(token, "setup"), "setup", service.clock()) is None:
            raise GONE
        account = new_account(visit, "owner")
    except ConfigError as error:
        return page(visit, "join.html", {**OWNER, "name": visit.text("name"), "joinable": False, "error": str(error)}, 422)
    return sign_in(visit, account, go("/"))


@router.get("/invitations/{token}")
def invitation_page(visit: Anyone, token: str) -> Response:
    """The form for whoever was invited, while the link works; looking costs no use."""
    _check_invitation(visit, token)
    return page(visit, "join.html", {**JOIN, "name": "", "joinable": True})


@router.post("/invitations/{token}")
def accept(visit: Anyone, token: str) -> Response:
    """A place in the project: for the account signed in, or a new one."""
    service = visit.service
    if visit.session is not None:
        check_csrf(visit.request, visit.form, visit.session)
    _check_invitation(visit, token)
    try:
        given, kept = (visit.session.account, None) if visit.session is not None else asked_for(visit, "rater")
        done = service.ratings.redeem(hashed(token, "invitation"), service.clock(), given, kept)
    except ConfigError as error:
        return page(visit, "join.html", {**JOIN, "name": visit.text("name"), "joinable": True, "error": str(error)}, 422)
    if done is None:
        raise GONE
    invitation, account = done
    if visit.session is None:
        service.audit(account.id, "account made", account.id, {"role": account.role})
    service.audit(account.id, "joined", invitation.project, {"role": invitation.role})
    response = go(f"/projects/{invitation.project}")
    return response if visit.session is not None else sign_in(visit, account, response)


@router.get("/passwords/{token}")
def password_page(visit: Anyone, token: str) -> Response:
    """The form for a new password."""
    account = _whose(visit, token)
    return page(visit, "join.html", {**RENEW, "name": account.name, "joinable": False})


@router.post("/passwords/{token}")
def renew(visit: Anyone, token: str) -> Response:
    """The new password; every session of the account ends, and the link works no more."""
    service, account = visit.service, _whose(visit, token)
    try:
        check_password(visit.text("password"), account.name)
    except ConfigError as error:
        return page(visit, "join.html", {**RENEW, "name": account.name, "joinable": False, "error": str(error)}, 422)
    if service.ratings.redeem_link(hashed(token, "password"), "password", service.clock()) is None:
        raise GONE
    service.ratings.set_password(account.id, service.passwords.hash(visit.text("password")))
    service.ratings.forget_failed_logins(account.name)
    service.audit(account.id, "password renewed", account.id)
    return sign_in(visit, account, go("/"))


def _whose(visit: RequestContext, token: str) -> Account:
    link = visit.service.ratings.find_link(hashed(token, "password"), "password", visit.service.clock())
    if link is None or link.account is None:
        raise GONE
    return visit.service.ratings.account(link.account)


def _check_invitation(visit: RequestContext, token: str) -> None:
    """Refuses a link that does not work before anybody chooses a name."""
    if visit.service.ratings.invitation(hashed(token, "invitation"), visit.service.clock()) is None:
        raise GONE


def _check_setup(visit: RequestContext, token: str) -> None:
    """Refuses a link that does not work, and any once there is an owner."""
    ratings = visit.service.ratings
    link = ratings.find_link(hashed(token, "setup"), "setup", visit.service.clock())
    if link is None or any(one.role == "owner" for one in ratings.accounts()):
        raise GONE
