"""Pages of entry: the first owner, signing in and out, invitations, new passwords."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError
from palate.ratings import Account
from palate.web.access import Access, AccessError, RequestContext, check_csrf
from palate.web.admission import GuardedRoute
from palate.web.credentials import check_password, hashed
from palate.web.signin import account_from_form, authenticate, new_account, sign_in, sign_out
from palate.web.view import go, local_path, page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Anyone = Annotated[RequestContext, Depends(Access("public"))]
SignedIn = Annotated[RequestContext, Depends(Access("rater"))]

GONE = AccessError(404, "gone", "This link was used already, has expired, or never existed. Ask the person who sent it for a new one.")
OWNER = {
    "heading": "The first owner",
    "lead": "You become the owner of this server. Owners make projects and invite people.",
    "button": "Begin",
}
JOIN = {"heading": "You are invited", "lead": "Compare what language models write, and say which is better.", "button": "Join"}
RENEW = {"heading": "A new password", "lead": "Your sessions on other devices will end.", "button": "Set the password"}


@router.get("/signin")
def signin_page(context: Anyone) -> Response:
    """Show the form to sign in."""
    if context.session is not None:
        return go(_next_page(context))
    return page(context, "signin.html", {"name": "", "next": _next_page(context)})


@router.post("/signin")
def signin(context: Anyone) -> Response:
    """Start a session if name and password are right."""
    name = context.text("name")[:200]
    try:
        account = authenticate(context, name, context.text("password"))
    except AccessError as error:
        response = page(context, "signin.html", {"name": name, "next": _next_page(context), "error": error.message}, error.status)
        if error.status == 429:
            response.headers["Retry-After"] = str(int(context.service.settings.window_seconds))
        return response
    context.service.audit(account.id, "signed in", account.id)
    return sign_in(context, account, go(_next_page(context)))


def _next_page(context: RequestContext) -> str:
    """Return the page that a person wanted before they had to sign in. The form's address carries it on."""
    return local_path(context.request.query_params.get("next", "/"))


@router.post("/signout")
def signout(context: SignedIn) -> Response:
    """End the session."""
    return sign_out(context, go("/signin"))


@router.get("/setup/{token}")
def setup_page(context: Anyone, token: str) -> Response:
    """Show the form for the first owner."""
    _check_setup(context, token)
    return page(context, "join.html", {**OWNER, "name": "", "joinable": False})


@router.post("/setup/{token}")
def setup(context: Anyone, token: str) -> Response:
    """Make the first owner. The link stops working."""
    service = context.service
    _check_setup(context, token)
    try:
        account_from_form(context, "owner")  # refuses what `new_account` would refuse, before the link is used
        if service.ratings.redeem_link(hashed(token, "setup"), "setup", service.clock()) is None:
            raise GONE
        account = new_account(context, "owner")
    except ConfigError as error:
        return page(context, "join.html", {**OWNER, "name": context.text("name"), "joinable": False, "error": str(error)}, 422)
    return sign_in(context, account, go("/"))


@router.get("/invitations/{token}")
def invitation_page(context: Anyone, token: str) -> Response:
    """Show the form of an invitation while its link works. This does not count as a use."""
    _check_invitation(context, token)
    return page(context, "join.html", {**JOIN, "name": "", "joinable": True, "link": f"/invitations/{token}"})


@router.post("/invitations/{token}")
def accept(context: Anyone, token: str) -> Response:
    """Add the signed-in account, or a new one, to the project."""
    service = context.service
    if context.session is not None:
        check_csrf(context.request, context.form, context.session)
    _check_invitation(context, token)
    try:
        if context.session is not None:
            account, password_hash = context.session.account, None
        else:
            account, password_hash = account_from_form(context, "rater")
        redeemed = service.ratings.redeem(hashed(token, "invitation"), service.clock(), account, password_hash)
    except ConfigError as error:
        values = {**JOIN, "name": context.text("name"), "joinable": True, "link": f"/invitations/{token}", "error": str(error)}
        return page(context, "join.html", values, 422)
    if redeemed is None:
        raise GONE
    invitation, account = redeemed
    if context.session is None:
        service.audit(account.id, "account made", account.id, {"role": account.role})
    service.audit(account.id, "joined", invitation.project, {"role": invitation.role})
    response = go(f"/projects/{invitation.project}")
    return response if context.session is not None else sign_in(context, account, response)


@router.get("/passwords/{token}")
def password_page(context: Anyone, token: str) -> Response:
    """Show the form for a new password."""
    account = _account_of_link(context, token)
    return page(context, "join.html", {**RENEW, "name": account.name, "joinable": False})


@router.post("/passwords/{token}")
def renew(context: Anyone, token: str) -> Response:
    """Set the new password. Every session of the account ends, and the link stops working."""
    service, account = context.service, _account_of_link(context, token)
    try:
        check_password(context.text("password"), account.name)
    except ConfigError as error:
        return page(context, "join.html", {**RENEW, "name": account.name, "joinable": False, "error": str(error)}, 422)
    if service.ratings.redeem_link(hashed(token, "password"), "password", service.clock()) is None:
        raise GONE
    service.ratings.set_password(account.id, service.passwords.hash(context.text("password")))
    service.ratings.forget_failed_logins(account.name)
    service.audit(account.id, "password renewed", account.id)
    return sign_in(context, account, go("/"))


def _account_of_link(context: RequestContext, token: str) -> Account:
    link = context.service.ratings.find_link(hashed(token, "password"), "password", context.service.clock())
    if link is None or link.account is None:
        raise GONE
    return context.service.ratings.account(link.account)


def _check_invitation(context: RequestContext, token: str) -> None:
    """Refuse a link that does not work, before anybody chooses a name."""
    if context.service.ratings.invitation(hashed(token, "invitation"), context.service.clock()) is None:
        raise GONE


def _check_setup(context: RequestContext, token: str) -> None:
    """Refuse a link that does not work, and every link once there is an owner."""
    ratings = context.service.ratings
    link = ratings.find_link(hashed(token, "setup"), "setup", context.service.clock())
    if link is None or any(account.role == "owner" for account in ratings.accounts()):
        raise GONE
