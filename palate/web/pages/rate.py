"""The desk, and the pictures and clips on it."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, Response

from palate.core import DataError
from palate.web.access import NOT_HERE, Access, AccessError, RequestContext
from palate.web.item_view import first_fragment, task_json, waiting
from palate.web.judging import media_of, seat
from palate.web.media import HEADERS, media_file
from palate.web.view import page

router = APIRouter(include_in_schema=False)
Rater = Annotated[RequestContext, Depends(Access("rater"))]
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]


@router.get("/projects/{project}/rate")
def rate(visit: Rater) -> Response:
    """The page where people judge; the first item stands on it."""
    service, project = visit.service, visit.project
    seat(visit)
    values = {
        "project": project,
        "task": project.task,
        "task_json": task_json(project.task),
        "guideline": service.ratings.guideline(project.id),
        "fragment": first_fragment(waiting(service, project, visit.me)),
        "mine": service.ratings.num_answered(project.id, visit.me.id),
    }
    return page(visit, "rate.html", values)


@router.get("/projects/{project}/assignments/{assignment}/media/{place}")
def media_shown(visit: Rater, place: int) -> Response:
    """The picture or clip at a place shown: the address does not tell which candidate it is."""
    order = visit.assignment.order
    if not 0 <= place < len(order):
        raise AccessError(404, "missing", NOT_HERE)
    return _media(visit, visit.assignment.item, order[place])


@router.get("/projects/{project}/items/{item}/media/{number}")
def media_of_item(visit: Reviewer, number: int) -> Response:
    """The picture or clip of a candidate, for reviewers."""
    return _media(visit, visit.item.id, number)


def _media(visit: RequestContext, item: str, number: int) -> Response:
    try:
        found = media_file(visit.service.settings.media, media_of(visit.service.ratings.item(item), number))
    except DataError:
        found = None
    if found is None:
        raise AccessError(404, "missing", NOT_HERE)
    path, kind = found
    return FileResponse(path, media_type=kind, headers=HEADERS)
