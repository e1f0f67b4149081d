"""The application: routes, errors, and what every request passes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from palate import __version__
from palate.core import PalateError, RunError
from palate.web import api
from palate.web.access import Access, AccessError, RequestContext, cookie_name, service_of
from palate.web.pages import account as own
from palate.web.pages import api_docs as documents
from palate.web.pages import entry, rate, review
from palate.web.pages import members as people
from palate.web.pages import project_pages as projects
from palate.web.request_limits import RequestLimits
from palate.web.service import Service
from palate.web.view import STATIC, error_page, go

PAGES = (entry, projects, rate, people, review, own, documents)
DESCRIPTION = "What people are asked, and what they answer. Send a key as `Authorization: Bearer KEY`; make one on the page *My data*."
log = logging.getLogger("palate.web")


class _Static(StaticFiles):
    """Files of the package; their address holds a digest of the content, so they may be kept."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if b"v=" in scope["query_string"] else "no-cache"
        return response


def create_app(service: Service) -> FastAPI:
    """The application on these ratings."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.courier.close()

    app = FastAPI(
        title="Palate", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.service = service
    for module in (api, *PAGES):
        app.router.routes.extend(module.router.routes)  # the routes themselves, so that a test can walk them and see each rule
    app.mount("/static", _Static(directory=STATIC), name="static")
    app.add_exception_handler(AccessError, _refused)
    app.add_exception_handler(PalateError, _faulty)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(RequestLimits, limits=service.settings.limits, secure=service.settings.secure)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        return _with_rules(described(), app)

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def rule_of(route: BaseRoute) -> Access | None:
    """The rule of a route; None when it has none."""
    found = [one for one in _dependencies(route.dependant) if isinstance(one, Access)] if isinstance(route, APIRoute) else []
    return found[0] if len(found) == 1 else None


def is_static(route: BaseRoute) -> bool:
    """Whether it is the folder of static files, which everybody may read."""
    return isinstance(route, Mount) and isinstance(route.app, _Static)


def _dependencies(dependant: Dependant) -> Iterator[object]:
    for one in dependant.dependencies:
        yield one.call
        yield from _dependencies(one)


def _with_rules(described: dict[str, Any], app: FastAPI) -> dict[str, Any]:
    for route in app.routes:
        rule = rule_of(route)
        if isinstance(route, APIRoute) and rule is not None and route.include_in_schema:
            for method in route.methods or ():
                described["paths"][route.path][method.lower()]["x-least-role"] = rule.least
    return described


def _answer(request: Request, error: AccessError) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": error.words, "code": error.code}, error.status)
    return error_page(RequestContext(request, service_of(request)), error)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AccessError)
    if error.status == 401 and not request.url.path.startswith("/api/"):
        response = go("/signin" if request.method != "GET" or request.url.path == "/" else f"/signin?next={request.url.path}")
        response.delete_cookie(cookie_name(service_of(request)), path="/")
        return response
    return _answer(request, error)


async def _faulty(request: Request, error: Exception) -> Response:
    if isinstance(error, RunError):
        log.error("%s", error)
        return _answer(request, AccessError(503, "store", "The server cannot write just now. Nothing was taken; try again in a moment."))
    return _answer(request, AccessError(422, "data", str(error)))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "There is no such page.", 405: "This address does not take such a request."}.get(error.status_code, str(error.detail))
    return _answer(request, AccessError(error.status_code, "http", words))


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "is malformed"}
    place = ".".join(str(one) for one in first["loc"] if one != "body")
    return _answer(request, AccessError(422, "malformed", f"{place}: {first['msg']}" if place else str(first["msg"])))


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(
        request, AccessError(500, "broken", "Something broke on the server. Nothing was lost that it had taken; try again in a moment.")
    )
