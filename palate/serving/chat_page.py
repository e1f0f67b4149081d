"""A page on which people talk with the served model, and say which of two answers is better."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from palate.serving.serve_app import serving_of
from palate.web.view import fragment

page_router = APIRouter()


@page_router.get("/")
async def chat_page(request: Request) -> HTMLResponse:
    """Return the page. It asks for an API key itself, where one is needed."""
    serving = serving_of(request)
    serving.gate.check_host(request)
    values = {"title": serving.model.name, "keeps": serving.feedback is not None, "needs_key": serving.gate.keys is not None}
    return HTMLResponse(fragment("chat.html", {"me": None, "here": "", **values}))
