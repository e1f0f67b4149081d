"""Pages about projects: the list, a new one, the dashboard, guidelines, items, exports."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError, DataError
from palate.data.judge_names import UNKNOWN_CALIBRATION
from palate.ratings import Account, Project
from palate.web.access import RANKS, Access, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.figures import RaterRow
from palate.web.project_form import BLANK, FormError, bounds, read_form
from palate.web.transfer import EXPORT_KINDS, export_file, import_file
from palate.web.view import TASK_KINDS, go, page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Rater = Annotated[RequestContext, Depends(Access("rater"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]


@router.get("/")
def home(context: Rater) -> Response:
    """Show the projects that the account may see."""
    visible = [project for project in context.service.ratings.projects() if context.me.role == "owner" or context.is_member(project)]
    return page(context, "home.html", {"projects": [_card(context, project) for project in visible], "here": "home"})


def _card(context: RequestContext, project: Project) -> dict[str, object]:
    """Return the values of a project's card. Raters do not see its progress, because it does not move at a gold item."""
    if context.rank(project) < RANKS["reviewer"]:
        return {"project": project, "progress": None, "mine": context.service.ratings.num_answered(project.id, context.me.id)}
    return {"project": project, "progress": context.service.progress(project.id), "mine": 0}


@router.get("/projects/new")
def new_page(context: Owner) -> Response:
    """Show the form of a new project."""
    return _form(context, BLANK)


@router.post("/projects")
def new(context: Owner) -> Response:
    """Make a project with its guidelines."""
    ratings, now = context.service.ratings, context.service.clock()
    try:
        project = ratings.add_project(read_form(context), now)
    except ConfigError as error:
        messages = error.fields if isinstance(error, FormError) else {}
        return _form(context, {name: context.text(name) for name in BLANK}, str(error), messages)
    if context.text("text").strip() or context.text("warning").strip():
        ratings.set_guideline(project.id, context.text("text"), now, warning=context.text("warning").strip())
    ratings.join(project.id, context.me.id, now)
    context.service.audit(context.me.id, "project made", project.id)
    return go(f"/projects/{project.id}")


def _form(context: RequestContext, fields: Mapping[str, object], error: str = "", messages: Mapping[str, str] | None = None) -> Response:
    values = {"kinds": TASK_KINDS, "form": fields, "bounds": bounds(), "error": error, "messages": messages or {}}
    return page(context, "project_new.html", values, 422 if error else 200)


@router.get("/projects/{project}")
def project_page(context: Rater) -> Response:
    """Show the guidelines. Reviewers and owners also see the dashboard."""
    return _dashboard(context)


@router.post("/projects/{project}/guideline")
def write_guideline(context: Owner) -> Response:
    """Save a new version of the guidelines."""
    guideline = context.service.ratings.set_guideline(
        context.project.id, context.text("text"), context.service.clock(), warning=context.text("warning").strip()
    )
    context.service.audit(context.me.id, "guidelines written", context.project.id, {"version": guideline.version})
    return go(f"/projects/{context.project.id}")


@router.post("/projects/{project}/items")
def upload(context: Owner) -> Response:
    """Add the items of a file, all or none."""
    file = context.file("file")
    try:
        if file is None:
            raise DataError("Choose a file first.")
        imported, exchange, notes = import_file(context.service, context.project, file.file, file.filename or "the file")
    except DataError as error:
        return _dashboard(context, error=str(error))
    context.service.audit(context.me.id, "items added", context.project.id, {"added": len(imported.items), "judgments": imported.judgments})
    count = len(exchange.dropped)
    dropped = f"; {count} rows with nothing to judge were left out, the first: {exchange.dropped[0].reason}" if count else ""
    return _dashboard(context, success=f"{imported}{dropped}.{''.join(f' Note: {note}.' for note in notes)}")


@router.get("/projects/{project}/export")
def export(context: Owner) -> Response:
    """Return the project as a file of the chosen kind, with raters by pseudonym."""
    kind = context.request.query_params.get("kind", "palate")
    context.service.audit(context.me.id, "exported", context.project.id, {"form": kind[:40]})
    try:
        return export_file(context.service, context.project, kind)
    except DataError as error:
        return _dashboard(context, error=str(error))


def _dashboard(context: RequestContext, success: str = "", error: str = "") -> Response:
    service, project = context.service, context.project
    values: dict[str, object] = {
        "project": project,
        "guideline": service.ratings.guideline(project.id),
        "staff": context.is_staff,
        "export_kinds": EXPORT_KINDS,
    }
    if context.is_staff:
        cached, since = service.figures_of(project)
        figures = cached.value
        accounts = {account.id: account for account in service.ratings.accounts()}
        worked = [
            {"day": day.day, "name": accounts[id].name or accounts[id].pseudonym, "judgments": day.judgments, "hours": day.hours}
            for id, day in figures.worked
            if id in accounts
        ]
        values |= {
            "progress": service.progress(project.id, fresh=bool(success)),
            "figures": figures.figures,
            "advice": [_with_names(line, figures.raters, accounts) for line in figures.advice],
            "raters": [(rater, accounts.get(rater.account)) for rater in figures.raters],
            "models": figures.models,
            "is_of_people": figures.is_of_people,
            "unknown_calibration": UNKNOWN_CALIBRATION,
            "counted": {"answers": figures.answers, "seconds": max(0.0, service.clock() - cached.at), "since": since},
            "worked": worked,
        }
    return page(context, "project.html", {**values, "success": success, "error": error}, 422 if error else 200)


def _with_names(line: str, raters: tuple[RaterRow, ...], accounts: dict[str, Account]) -> str:
    """Return the sentence with names instead of pseudonyms. Pseudonyms are random, so no other word equals one."""
    for rater in raters:
        account = accounts.get(rater.account)
        if account is not None and account.name:
            line = line.replace(rater.pseudonym, account.name)
    return line
