"""The application: routes, error handlers and middleware."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount

from palate import __version__
from palate.core import PalateError, RunError
from palate.web import api
from palate.web.access import SAFE_METHODS, AccessError, RequestContext, cookie_name, service_of
from palate.web.admission import malformed, rule_of
from palate.web.own_machine import OwnMachineOnly
from palate.web.pages import account, api_docs, entry, members, own_judging, project_pages, rate, review
from palate.web.request_limits import RequestLimits
from palate.web.service import Service
from palate.web.static_files import PackageFiles
from palate.web.view import STATIC, error_page, go, signin_path

PAGES = (entry, project_pages, rate, members, review, account, api_docs)
DESCRIPTION = "Items for people to judge, and their judgments. Send a key as `Authorization: Bearer KEY`. Make one on the page *My data*."
log = logging.getLogger("palate.web")


def create_app(service: Service) -> FastAPI:
    """Return the application for a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.webhooks.close()

    app = FastAPI(
        title="Palate", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.state.service = service
    is_own = service.settings.own is not None
    for module in (*([own_judging] if is_own else []), api, *PAGES):  # the first route of an address answers
        app.router.routes.extend(module.router.routes)  # not mounted, so that a test can walk the routes and see each rule
    app.mount("/static", PackageFiles(directory=STATIC), name="static")
    app.add_exception_handler(AccessError, _on_refusal)
    app.add_exception_handler(PalateError, _on_palate_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_malformed_request)
    app.add_exception_handler(Exception, _on_unexpected_error)
    if is_own:
        app.add_middleware(OwnMachineOnly, command="palate judge")
    app.add_middleware(RequestLimits, limits=service.settings.limits, secure=service.settings.secure)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        return _with_roles(describe(), app)

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def is_static(route: BaseRoute) -> bool:
    """Whether the route is the folder of static files, which everybody may read."""
    return isinstance(route, Mount) and isinstance(route.app, PackageFiles)


def _with_roles(description: dict[str, Any], app: FastAPI) -> dict[str, Any]:
    for route in app.routes:
        rule = rule_of(route)
        if isinstance(route, APIRoute) and rule is not None and route.include_in_schema:
            for method in route.methods or ():
                description["paths"][route.path][method.lower()]["x-least-role"] = rule.least
    return description


def _error_response(request: Request, error: AccessError) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": error.message, "code": error.code}, error.status)
    return error_page(RequestContext(request, service_of(request)), error)


def _page_of(request: Request) -> str:
    """Return path and query of the page that a person wants: of the request, or of the page whose form the request sends."""
    url = request.url if request.method in SAFE_METHODS else URL(request.headers.get("referer", ""))
    is_ours = url.netloc == request.url.netloc
    return (url.path + (f"?{url.query}" if url.query else "")) if is_ours else "/"


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, AccessError)
    if error.status == 401 and not request.url.path.startswith("/api/"):
        response = go(signin_path(_page_of(request)))
        response.delete_cookie(cookie_name(request), path="/")
        return response
    return _error_response(request, error)


async def _on_palate_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RunError):
        log.error("%s", error)
        return _error_response(request, AccessError(503, "store", "The server cannot write now. Nothing was saved; try again in a moment."))
    return _error_response(request, AccessError(422, "data", str(error)))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: "This page does not exist.", 405: "This address does not accept such a request."}.get(
        error.status_code, str(error.detail)
    )
    response = _error_response(request, AccessError(error.status_code, "http", message))
    response.headers.update(error.headers or {})
    return response


async def _on_malformed_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _error_response(request, malformed(error.errors()))


async def _on_unexpected_error(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error_response(
        request, AccessError(500, "broken", "Something broke on the server. What it had saved is not lost; try again in a moment.")
    )
