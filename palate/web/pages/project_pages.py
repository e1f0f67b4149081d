"""Projects: the list, a new one, the dashboard, guidelines, items, exports."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import ConfigError, DataError
from palate.ratings import Account, Project
from palate.web.access import RANKS, Access, RequestContext
from palate.web.figures import RaterRow
from palate.web.project_form import BLANK, FormError, bounds, read_form
from palate.web.transfer import KINDS as FILES
from palate.web.transfer import export_file, take_file
from palate.web.view import KINDS, go, page

router = APIRouter(include_in_schema=False)
Rater = Annotated[RequestContext, Depends(Access("rater"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]


@router.get("/")
def home(visit: Rater) -> Response:
    """The projects of whoever is signed in."""
    seen = [one for one in visit.service.ratings.projects() if visit.me.role == "owner" or visit.is_member(one)]
    listed = [_card(visit, one) for one in seen]
    return page(visit, "home.html", {"projects": listed, "here": "home"})


def _card(visit: RequestContext, project: Project) -> dict[str, object]:
    """What stands on a project's card. How far it is is not for raters: it stands still when gold is answered."""
    if visit.rank(project) < RANKS["reviewer"]:
        return {"project": project, "progress": None, "mine": visit.service.ratings.num_answered(project.id, visit.me.id)}
    return {"project": project, "progress": visit.service.progress(project.id), "mine": 0}


@router.get("/projects/new")
def new_page(visit: Owner) -> Response:
    """The form of a new project."""
    return _form(visit, BLANK)


@router.post("/projects")
def new(visit: Owner) -> Response:
    """The new project, with its guidelines."""
    ratings, now = visit.service.ratings, visit.service.clock()
    try:
        made = ratings.add_project(read_form(visit), now)
    except ConfigError as error:
        faults = error.fields if isinstance(error, FormError) else {}
        return _form(visit, {name: visit.text(name) for name in BLANK}, str(error), faults)
    if visit.text("text").strip() or visit.text("warning").strip():
        ratings.set_guideline(made.id, visit.text("text"), now, warning=visit.text("warning").strip())
    ratings.join(made.id, visit.me.id, now)
    visit.service.audit(visit.me.id, "project made", made.id)
    return go(f"/projects/{made.id}")


def _form(visit: RequestContext, given: Mapping[str, object], error: str = "", faults: Mapping[str, str] | None = None) -> Response:
    values = {"kinds": KINDS, "form": given, "bounds": bounds(), "error": error, "faults": faults or {}}
    return page(visit, "project_new.html", values, 422 if error else 200)


@router.get("/projects/{project}")
def project_page(visit: Rater) -> Response:
    """Guidelines for raters; for reviewers and owners the dashboard, too."""
    return _dashboard(visit)


@router.post("/projects/{project}/guideline")
def write_guideline(visit: Owner) -> Response:
    """A new version of the guidelines."""
    made = visit.service.ratings.set_guideline(
        visit.project.id, visit.text("text"), visit.service.clock(), warning=visit.text("warning").strip()
    )
    visit.service.audit(visit.me.id, "guidelines written", visit.project.id, {"version": made.version})
    return go(f"/projects/{visit.project.id}")


@router.post("/projects/{project}/items")
def upload(visit: Owner) -> Response:
    """The items of a file, all or none."""
    file = visit.file("file")
    try:
        if file is None:
            raise DataError("Choose a file first.")
        done, said, odd = take_file(visit.service, visit.project, file.file, file.filename or "the file")
    except DataError as error:
        return _dashboard(visit, error=str(error))
    visit.service.audit(visit.me.id, "items added", visit.project.id, {"added": len(done.items), "judgments": done.judgments})
    dropped = f"; {len(said.dropped)} rows with nothing to judge were left out, the first: {said.dropped[0].reason}" if said.dropped else ""
    return _dashboard(visit, told=f"{done}{dropped}.{''.join(f' Note: {one}.' for one in odd)}")


@router.get("/projects/{project}/export")
def export(visit: Owner) -> Response:
    """The project as a file of the kind asked for, raters by pseudonym."""
    kind = visit.request.query_params.get("kind", "palate")
    visit.service.audit(visit.me.id, "exported", visit.project.id, {"form": kind[:40]})
    try:
        return export_file(visit.service, visit.project, kind)
    except DataError as error:
        return _dashboard(visit, error=str(error))


def _dashboard(visit: RequestContext, told: str = "", error: str = "") -> Response:
    service, project = visit.service, visit.project
    values: dict[str, object] = {
        "project": project,
        "guideline": service.ratings.guideline(project.id),
        "staff": visit.is_staff,
        "files": FILES,
    }
    if visit.is_staff:
        counted, since = service.findings_of(project)
        accounts = {one.id: one for one in service.ratings.accounts()}
        worked = [
            {"day": day.day, "name": accounts[who].name or accounts[who].pseudonym, "judgments": day.judgments, "hours": day.seconds / 3600}
            for who, day in counted.value.worked
            if who in accounts
        ]
        values |= {
            "progress": service.progress(project.id, fresh=bool(told)),
            "figures": counted.value.figures,
            "advice": [_named(line, counted.value.raters, accounts) for line in counted.value.advice],
            "raters": [(one, accounts.get(one.account)) for one in counted.value.raters],
            "counted": {"answers": counted.value.answers, "seconds": max(0.0, service.clock() - counted.at), "since": since},
            "worked": worked,
        }
    return page(visit, "project.html", {**values, "told": told, "error": error}, 422 if error else 200)


def _named(line: str, raters: tuple[RaterRow, ...], accounts: dict[str, Account]) -> str:
    """The sentence with names for pseudonyms, which are random: no other word is one."""
    for one in raters:
        account = accounts.get(one.account)
        if account is not None and account.name:
            line = line.replace(one.pseudonym, account.name)
    return line
