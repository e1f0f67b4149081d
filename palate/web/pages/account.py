"""My data: work, password, sessions, keys, export, erasure."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError
from palate.web.access import Access, AccessError, RequestContext
from palate.web.credentials import check_password
from palate.web.signin import check_own_password, new_key, sign_in, sign_out
from palate.web.view import go, page

router = APIRouter(prefix="/me", include_in_schema=False)
SignedIn = Annotated[RequestContext, Depends(Access("rater"))]


@router.get("")
def mine(visit: SignedIn) -> Response:
    """The page."""
    return _mine(visit, {})


@router.post("/password")
def change_password(visit: SignedIn) -> Response:
    """Another password; sessions elsewhere end, this browser gets a new one."""
    try:
        check_own_password(visit, visit.text("old"))
        check_password(visit.text("password"), visit.me.name)
    except AccessError as error:
        return _mine(visit, {"error": error.words}, error.status)
    except ConfigError as error:
        return _mine(visit, {"error": str(error)}, 422)
    visit.service.ratings.set_password(visit.me.id, visit.service.passwords.hash(visit.text("password")))
    visit.service.audit(visit.me.id, "password changed", visit.me.id)
    return sign_in(visit, visit.me, go("/me"))


@router.post("/signout")
def end_all(visit: SignedIn) -> Response:
    """Every session and key of this account ends."""
    visit.service.ratings.end_sessions(visit.me.id)
    visit.service.audit(visit.me.id, "sessions ended", visit.me.id)
    return sign_out(visit, go("/signin"))


@router.post("/token")
def make_key(visit: SignedIn) -> Response:
    """A key for programs, shown once."""
    visit.service.audit(visit.me.id, "key made", visit.me.id)
    return _mine(visit, {"token": new_key(visit.service, visit.me)})


@router.post("/export")
def export(visit: SignedIn) -> Response:
    """All that is kept about this account."""
    visit.service.audit(visit.me.id, "exported own data", visit.me.id)
    text = json.dumps(visit.service.ratings.export_person(visit.me.id), ensure_ascii=False, indent=2)
    return Response(text, media_type="application/json", headers={"Content-Disposition": 'attachment; filename="my-data.json"'})


@router.post("/erase")
def erase(visit: SignedIn) -> Response:
    """The person goes; the judgments stay under the pseudonym. The last owner cannot go."""
    owners = [one for one in visit.service.ratings.accounts() if one.role == "owner"]
    try:
        if [one.id for one in owners] == [visit.me.id]:
            raise AccessError(422, "owner", "You are the last owner: make another owner first.")
        check_own_password(visit, visit.text("password"))
    except AccessError as error:
        return _mine(visit, {"error": error.words}, error.status)
    visit.service.ratings.erase(visit.me.id, visit.service.clock())
    visit.service.audit("", "erased", visit.me.id)
    return sign_out(visit, go("/signin"))


def _mine(visit: RequestContext, values: dict[str, Any], status: int = 200) -> Response:
    ratings = visit.service.ratings
    names = {one.id: one.name for one in ratings.projects()}
    days = ratings.time_log(visit.me.id)
    worked = [{"day": one.day, "project": names[one.project], "judgments": one.judgments, "hours": one.seconds / 3600} for one in days]
    newest = sorted(worked, key=lambda one: str(one["day"]), reverse=True)
    return page(visit, "me.html", {"here": "me", "worked": newest, "token": "", **values}, status)
