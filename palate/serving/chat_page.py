"""A page on which people talk with the served model, and say which of two answers is better."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from palate.serving.serve_app import serving_of
from palate.web.view import fragment


async def chat_page(request: Request) -> HTMLResponse:
    """Return the page. It asks for an API key itself, where one is needed."""
    serving = serving_of(request)
    serving.gate.check_host(request)
    values = {"title": serving.model.name, "keeps": serving.feedback is not None, "needs_key": serving.gate.keys is not None}
    return HTMLResponse(fragment("chat.html", {"me": None, "here": "", **values}))


PAGE_ROUTES = (Route("/", chat_page),)
