"""The page on which people judge, and its pictures and clips."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import DataError
from palate.web.access import NOT_HERE, Access, AccessError, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.api_models import LONGEST_REASON, LONGEST_TEXT
from palate.web.display import media_file
from palate.web.item_view import claim_items, first_fragment, task_json
from palate.web.judging import join_as_owner, media_of
from palate.web.media_response import media_response
from palate.web.probe_model import LONGEST_TURN
from palate.web.view import page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Rater = Annotated[RequestContext, Depends(Access("rater"))]
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]


@router.get("/projects/{project}/rate")
def rate(context: Rater) -> Response:
    """Show the page with the first item on it."""
    service, project = context.service, context.project
    join_as_owner(context)
    values = {
        "project": project,
        "task": project.task,
        "task_json": task_json(project.task),
        "limits": {"text": LONGEST_TEXT, "reason": LONGEST_REASON, "turn": LONGEST_TURN},
        "guideline": service.ratings.guideline(project.id),
        "fragment": first_fragment(claim_items(service, project, context.me)),
        "mine": service.ratings.num_answered(project.id, context.me.id),
        "total": service.progress(project.id).items if service.settings.own else 0,
    }
    return page(context, "rate.html", values)


@router.get("/projects/{project}/assignments/{assignment}/media/{place}")
def media_of_place(context: Rater, place: int) -> Response:
    """Return the picture or clip at a place on the page. The address does not reveal which candidate it is."""
    order = context.assignment.order
    if not 0 <= place < len(order):
        raise AccessError(404, "missing", NOT_HERE)
    return _media(context, context.assignment.item, order[place])


@router.get("/projects/{project}/items/{item}/media/{number}")
def media_of_item(context: Reviewer, number: int) -> Response:
    """Return the picture or clip of a candidate, for reviewers."""
    return _media(context, context.item.id, number)


def _media(context: RequestContext, item: str, number: int) -> Response:
    try:
        media = media_file(context.service.settings.media, media_of(context.service.ratings.item(item), number))
    except DataError:
        media = None
    if media is None:
        raise AccessError(404, "missing", NOT_HERE)
    path, content_type = media
    return media_response(context.request, path, content_type)
