"""Pages from templates: escaped by default, with the filters and the address of static files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse

from palate.ratings import Task
from palate.web.access import AccessError, RequestContext
from palate.web.markdown import rendered
from palate.web.media import media_kind

HERE = Path(__file__).parent
STATIC = HERE / "static"

PLACES = "123456789abcdehijklmnoqtwxyz"
"""Keys of the places of a ranking; the same stand in `keys.js`."""

KINDS = (
    ("compare", "Which of two is better"),
    ("rank", "Rank several"),
    ("rule", "Does this break a rule"),
    ("probe", "Make the model break a rule"),
    ("write", "Write or edit an answer"),
)


@cache
def asset(name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep the file for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def _figure(value: float | None, digits: int = 3) -> str:
    return "\u2013" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "\u2013" if value is None else f"{100 * value:.0f} %"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _task_words(task: Task) -> str:
    words = dict(KINDS)[task.kind]
    return f"{words}, on {len(task.dimensions)} dimensions" if len(task.dimensions) > 1 else words


def _place_key(place: int) -> str:
    """The key of a place of a ranking, as `keys.js` has them; the number where there are no more keys."""
    return PLACES[place] if place < len(PLACES) else str(place + 1)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["place_key"] = _place_key
    made.filters.update(markdown=rendered, media_kind=media_kind, figure=_figure, share=_share, when=_when, task_words=_task_words)
    made.globals["asset"] = asset
    return made


_ENVIRONMENT = _environment()


def fragment(name: str, values: Mapping[str, object]) -> Markup:
    """A piece of a page. Half a character, which a model that was cut off leaves behind, is shown as "?"."""
    return Markup(_ENVIRONMENT.get_template(name).render(values).encode("utf-8", errors="replace").decode("utf-8"))


def page(visit: RequestContext, name: str, values: Mapping[str, object] | None = None, status: int = 200) -> HTMLResponse:
    """A page for whoever visits; `me`, `csrf` and `csrf_field` are given to every template."""
    csrf = visit.session.csrf if visit.session else ""
    field = Markup('<input type="hidden" name="csrf" value="{}">').format(csrf)
    given = {"me": visit.session.account if visit.session else None, "csrf": csrf, "csrf_field": field, "here": "", "error": "", "told": ""}
    return HTMLResponse(fragment(name, {**given, **(values or {})}), status)


def error_page(visit: RequestContext, error: AccessError) -> HTMLResponse:
    """A page that says why there is no page."""
    headings = {401: "Sign in first", 403: "Not for you", 404: "Not here", 413: "Too large", 429: "Too often"}
    heading = headings.get(error.status, "That did not work")
    return page(visit, "message.html", {"heading": heading, "text": error.words}, error.status)


def go(place: str) -> RedirectResponse:
    """On to another page, as a GET."""
    return RedirectResponse(place, 303)


def local_path(place: str) -> str:
    """The place, when it is a path on this server; else the start."""
    safe = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable() and "\\" not in place
    return place if safe else "/"
