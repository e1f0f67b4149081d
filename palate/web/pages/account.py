"""The page My data: work, password, sessions, keys, export, erasure."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError
from palate.web.access import Access, AccessError, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.credentials import check_password
from palate.web.signin import check_own_password, new_key, sign_in, sign_out
from palate.web.view import go, page

router = APIRouter(route_class=GuardedRoute, prefix="/me", include_in_schema=False)
SignedIn = Annotated[RequestContext, Depends(Access("rater"))]


@router.get("")
def my_data(context: SignedIn) -> Response:
    """Show the page."""
    return _my_data(context, {})


@router.post("/password")
def change_password(context: SignedIn) -> Response:
    """Change the password. Sessions elsewhere end, and this browser gets a new one."""
    try:
        check_own_password(context, context.text("old"))
        check_password(context.text("password"), context.me.name)
    except AccessError as error:
        return _my_data(context, {"error": error.message}, error.status)
    except ConfigError as error:
        return _my_data(context, {"error": str(error)}, 422)
    context.service.ratings.set_password(context.me.id, context.service.passwords.hash(context.text("password")))
    context.service.audit(context.me.id, "password changed", context.me.id)
    return sign_in(context, context.me, go("/me"))


@router.post("/signout")
def end_all(context: SignedIn) -> Response:
    """End every session and key of this account."""
    context.service.ratings.end_sessions(context.me.id)
    context.service.audit(context.me.id, "sessions ended", context.me.id)
    return sign_out(context, go("/signin"))


@router.post("/token")
def make_key(context: SignedIn) -> Response:
    """Make a key for programs. The page shows it once."""
    context.service.audit(context.me.id, "key made", context.me.id)
    return _my_data(context, {"token": new_key(context.service, context.me)})


@router.post("/export")
def export(context: SignedIn) -> Response:
    """Return all data about this account."""
    context.service.audit(context.me.id, "exported own data", context.me.id)
    text = json.dumps(context.service.ratings.export_person(context.me.id), ensure_ascii=False, indent=2)
    return Response(text, media_type="application/json", headers={"Content-Disposition": 'attachment; filename="my-data.json"'})


@router.post("/erase")
def erase(context: SignedIn) -> Response:
    """Erase the person. The judgments stay under the pseudonym. The last owner cannot be erased."""
    owners = [account.id for account in context.service.ratings.accounts() if account.role == "owner"]
    try:
        if owners == [context.me.id]:
            raise AccessError(422, "owner", "You are the last owner. Make another owner first.")
        check_own_password(context, context.text("password"))
    except AccessError as error:
        return _my_data(context, {"error": error.message}, error.status)
    context.service.ratings.erase(context.me.id, context.service.clock())
    context.service.audit("", "erased", context.me.id)
    return sign_out(context, go("/signin"))


def _my_data(context: RequestContext, values: dict[str, Any], status: int = 200) -> Response:
    ratings = context.service.ratings
    names = {project.id: project.name for project in ratings.projects()}
    days = ratings.time_log(context.me.id)
    worked = [{"day": day.day, "project": names[day.project], "judgments": day.judgments, "hours": day.hours} for day in days]
    newest = sorted(worked, key=lambda row: str(row["day"]), reverse=True)
    return page(context, "me.html", {"here": "me", "worked": newest, "token": "", **values}, status)
