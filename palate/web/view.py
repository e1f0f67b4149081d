"""Render pages from templates. Text is escaped by default."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse

from palate.ratings import Task
from palate.web.access import AccessError, RequestContext
from palate.web.display import media_kind
from palate.web.prose import look_alike, prose_of, render_markdown

HERE = Path(__file__).parent
STATIC = HERE / "static"

PLACE_KEYS = "123456789abcehijknoqtwxyz"
"""Keys of the places of a ranking, as in `keys.js`."""

TASK_KINDS = (
    ("compare", "Which of two is better"),
    ("rank", "Rank several"),
    ("rule", "Does this break a rule"),
    ("rubric", "Which criteria does this meet"),
    ("probe", "Make the model break a rule"),
    ("write", "Write or edit an answer"),
)


@cache
def asset(name: str) -> str:
    """Return the address of a static file. It changes with the content, so browsers may cache the file forever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def _number(value: float | None, digits: int = 3) -> str:
    return "\u2013" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "\u2013" if value is None else f"{100 * value:.0f} %"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _task_words(task: Task) -> str:
    question = dict(TASK_KINDS)[task.kind]
    return f"{question}, on {len(task.dimensions)} dimensions" if len(task.dimensions) > 1 else question


def _place_key(place: int) -> str:
    """Return the key of a place in a ranking, or its number if the keys are used up."""
    return PLACE_KEYS[place] if place < len(PLACE_KEYS) else str(place + 1)


def signin_path(page: str = "/") -> str:
    """Return the address of the sign-in page that leads on to `page`, a path with its query."""
    return "/signin" if page == "/" else f"/signin?next={quote(page, safe='/')}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["place_key"] = _place_key
    environment.filters["look_alike"] = look_alike
    environment.filters.update(
        markdown=render_markdown, prose=prose_of, media_kind=media_kind, figure=_number, share=_percent, when=_utc, task_words=_task_words
    )
    environment.globals["asset"] = asset
    environment.globals["signin_path"] = signin_path
    return environment


_ENVIRONMENT = _environment()


def fragment(name: str, values: Mapping[str, object]) -> Markup:
    """Render a piece of a page. Half a character, as a model leaves when it is cut off, becomes "?"."""
    return Markup(_ENVIRONMENT.get_template(name).render(values).encode("utf-8", errors="replace").decode("utf-8"))


def page(context: RequestContext, name: str, values: Mapping[str, object] | None = None, status: int = 200) -> HTMLResponse:
    """Render a page. Every template gets `me`, `csrf` and `csrf_field`."""
    csrf = context.session.csrf if context.session else ""
    field = Markup('<input type="hidden" name="csrf" value="{}">').format(csrf)
    account = context.session.account if context.session else None
    common = {"me": account, "csrf": csrf, "csrf_field": field, "here": "", "error": "", "success": "", "own": context.service.settings.own}
    return HTMLResponse(fragment(name, {**common, **(values or {})}), status)


def error_page(context: RequestContext, error: AccessError) -> HTMLResponse:
    """Render a page that says why a request was refused."""
    headings = {401: "Sign in first", 403: "Not for you", 404: "Not here", 413: "Too large", 429: "Too often"}
    heading = headings.get(error.status, "That did not work")
    return page(context, "message.html", {"heading": heading, "text": error.message}, error.status)


def go(path: str) -> RedirectResponse:
    """Redirect to another page, as a GET."""
    return RedirectResponse(path, 303)


def local_path(path: str) -> str:
    """Return the path if it is on this server, otherwise the start page."""
    is_safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if is_safe else "/"
