"""The pages of `palate judge` around the judging: the link that lets its one person in, and the result at the end."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import HTMLResponse, Response

from palate.web.access import NOT_HERE, Access, AccessError, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.own_machine import OwnJudging
from palate.web.signin import sign_in
from palate.web.view import error_page, go, page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Anyone = Annotated[RequestContext, Depends(Access("public"))]
SignedIn = Annotated[RequestContext, Depends(Access("rater"))]

RESULT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The last page is a file without scripts that holds its own style, and every string in it is escaped."""


@router.get("/judge/{key}")
def begin_page(context: Anyone, key: str) -> Response:
    """Show what there is to judge, and how."""
    own = _own(context, key)
    ratings = context.service.ratings
    progress = ratings.progress(own.project, context.service.clock())
    values = {"project": ratings.project(own.project), "guideline": ratings.guideline(own.project), "progress": progress}
    return page(context, "begin.html", values)


@router.post("/judge/{key}")
def begin(context: Anyone, key: str) -> Response:
    """Let the person in, to this project alone."""
    own = _own(context, key)
    own.begun.set()
    return sign_in(context, context.service.ratings.account(own.account), go(f"/projects/{own.project}/rate"))


@router.get("/signin")
def closed(context: Anyone) -> Response:
    """Say how to get in, because nobody has a password here."""
    return error_page(context, AccessError(401, "signin", "Open the link that `palate judge` printed. Nobody needs a password here."))


@router.get("/judged")
def judged(context: SignedIn) -> Response:
    """Show the result once it is there. Until then the page says what goes on and asks again each second."""
    own = context.service.settings.own
    assert own is not None
    if context.me.id != own.account:
        raise AccessError(404, "missing", NOT_HERE)
    if own.result.exists():
        own.delivered.set()
        return HTMLResponse(own.result.read_text(encoding="utf-8"), headers={"Content-Security-Policy": RESULT_POLICY})
    progress = context.service.ratings.progress(own.project, context.service.clock())
    return page(context, "learning.html", {"project": own.project, "progress": progress, "result": own.result})


def _own(context: RequestContext, key: str) -> OwnJudging:
    """Return whom the link lets in. Raises AccessError 404 for another link."""
    own = context.service.settings.own
    if own is None or not hmac.compare_digest(key.encode(), own.key.encode()):
        raise AccessError(404, "gone", "This link does not belong to the running `palate judge`. Open the one that it printed last.")
    return own
