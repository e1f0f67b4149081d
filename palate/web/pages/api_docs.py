"""The API as a page: made from its own description, without anybody else's scripts."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.web.access import Access, RequestContext
from palate.web.view import page

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    summary: str
    text: str
    who: str
    body: str


@router.get("/api/docs")
def documents(visit: Annotated[RequestContext, Depends(Access("rater"))]) -> Response:
    """Every operation, with the fields it takes."""
    described = visit.request.app.openapi()
    routes = [
        Route(method.upper(), path, one["summary"], one.get("description", ""), one.get("x-least-role", ""), _fields(one, described))
        for path, methods in described["paths"].items()
        for method, one in methods.items()
    ]
    return page(visit, "apidocs.html", {"routes": routes})


def _fields(operation: dict[str, Any], described: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    schema = described["components"]["schemas"].get(name, content["schema"])
    return json.dumps({key: {k: v for k, v in one.items() if k != "title"} for key, one in schema.get("properties", {}).items()}, indent=1)
