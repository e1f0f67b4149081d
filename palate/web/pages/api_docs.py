"""The page about the API. It is made from the API's description and does not load foreign scripts."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.web.access import Access, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.view import page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


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
def api_docs(context: Annotated[RequestContext, Depends(Access("rater"))]) -> Response:
    """Show every operation with its fields."""
    description = context.request.app.openapi()
    routes = [
        _route(method, path, operation, description)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    return page(context, "apidocs.html", {"routes": routes})


def _route(method: str, path: str, operation: dict[str, Any], description: dict[str, Any]) -> Route:
    text, role = operation.get("description", ""), operation.get("x-least-role", "")
    return Route(method.upper(), path, operation["summary"], text, role, _fields(operation, description))


def _fields(operation: dict[str, Any], description: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    schema = description["components"]["schemas"].get(name, content["schema"])
    fields = schema.get("properties", {})
    return json.dumps({name: {k: v for k, v in field.items() if k != "title"} for name, field in fields.items()}, indent=1)
