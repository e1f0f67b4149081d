"""The HTTP API: JSON under /api, described at /api/openapi.json. The pages use it too."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, StreamingResponse

from palate.core import DataError
from palate.stores.ratings import Project, Task
from palate.web import api_models as body
from palate.web.access import Access, AccessError, Visit
from palate.web.exports import as_jsonl
from palate.web.intake import read_item
from palate.web.items_shown import waiting
from palate.web.judging import seat, submit

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": body.ErrorReply, "description": "Not signed in"},
    403: {"model": body.ErrorReply, "description": "Role, CSRF token or origin"},
    404: {"model": body.ErrorReply, "description": "Not there, or not for this account"},
    422: {"model": body.ErrorReply, "description": "The request does not fit"},
}
router = APIRouter(prefix="/api", responses=ERRORS)
Rater = Annotated[Visit, Depends(Access("rater"))]
Reviewer = Annotated[Visit, Depends(Access("reviewer"))]
Owner = Annotated[Visit, Depends(Access("owner"))]


@router.get("/session", response_model=body.SessionReply)
def session(visit: Rater) -> dict[str, str]:
    """Who is signed in."""
    assert visit.session is not None
    return {"account": visit.me.id, "name": visit.me.name, "role": visit.me.role, "csrf": visit.session.csrf}


@router.get("/projects")
def projects(visit: Rater) -> list[dict[str, Any]]:
    """The projects that this account may see."""
    mine = visit.service.ratings.memberships(visit.me.id)
    return [asdict(one) for one in visit.service.ratings.projects() if visit.me.role == "owner" or one.id in mine]


@router.post("/projects", status_code=201)
def add_project(visit: Owner, given: body.ProjectBody) -> dict[str, Any]:
    """A new project."""
    task = given.task.model_dump()
    made = visit.service.ratings.add_project(
        Project(
            name=given.name,
            task=Task(**{**task, "axes": tuple(task["axes"]), "rules": tuple(task["rules"])}),
            overlap=given.overlap,
            max_overlap=given.max_overlap,
            lease_seconds=given.lease_seconds,
            gold_share=given.gold_share,
            queue=given.queue,
        ),
        visit.service.clock(),
    )
    visit.service.audit(visit.me.id, "project made", made.id)
    return asdict(made)


@router.get("/projects/{project}")
def project(visit: Rater) -> dict[str, Any]:
    """A project and its guidelines."""
    return {**asdict(visit.project), "guideline": asdict(visit.service.ratings.guideline(visit.project.id))}


@router.post("/projects/{project}/guideline", status_code=201)
def set_guideline(visit: Owner, given: body.GuidelineBody) -> dict[str, Any]:
    """A new version of the guidelines."""
    made = visit.service.ratings.set_guideline(visit.project.id, given.text, visit.service.clock(), warning=given.warning)
    visit.service.audit(visit.me.id, "guidelines written", visit.project.id, {"version": made.version})
    return asdict(made)


@router.post("/projects/{project}/items", status_code=201, response_model=body.AddedReply)
def add_items(visit: Owner, given: body.ItemsBody) -> dict[str, Any]:
    """Adds items, all or none. What is there already is not added twice."""
    items = [read_item(row, f"item {number}") for number, row in enumerate(given.items, start=1)]
    added = visit.service.ratings.add_items(visit.project.id, items, visit.service.clock())
    visit.service.audit(visit.me.id, "items added", visit.project.id, {"added": len(added.kept)})
    return {"added": list(added.kept), "duplicates": added.duplicates}


@router.delete("/projects/{project}/items/{item}", status_code=204)
def remove_item(visit: Owner) -> None:
    """Hands an item out no more. Its judgments stay; an answer under way is kept as surplus."""
    visit.service.ratings.remove_item(visit.item.id, visit.service.clock())
    visit.service.audit(visit.me.id, "item removed", visit.item.id, {"project": visit.project.id})


@router.post("/projects/{project}/scores")
def set_scores(visit: Owner, given: body.ScoresBody) -> dict[str, int]:
    """What a training run says of the items (rows of scores.jsonl): the queue `uncertain` goes by it."""
    return {"scored": visit.service.ratings.set_scores(visit.project.id, given.rows)}


@router.post("/projects/{project}/assignments", response_model=body.AssignmentsReply)
def assignments(visit: Rater, given: body.HeldBody) -> dict[str, Any]:
    """The item under way and the one after it, held for this rater. Asked again, they are the same; `held` are left out."""
    seat(visit.service, visit.project, visit.me)
    shown = waiting(visit.service, visit.project, visit.me)
    return {"assignments": [asdict(one) for one in shown if one.id not in given.held]}


@router.post("/projects/{project}/assignments/{assignment}/release")
def release(visit: Rater) -> dict[str, bool]:
    """Gives an assignment back."""
    return {"released": visit.service.ratings.release(visit.assignment.id, visit.me.id)}


@router.post("/projects/{project}/assignments/{assignment}/probe", response_model=body.TextReply)
def probe(visit: Rater, given: body.ProbeBody) -> dict[str, str]:
    """The live model's next turn in a probe."""
    model = visit.service.settings.probe
    if visit.project.task.kind != "probe" or model is None:
        raise AccessError(409, "nomodel", "No model is connected: start the server with --model_url.")
    item = visit.service.ratings.item(visit.assignment.item)
    turns = [{"role": turn.role, "text": turn.text} for turn in item.conversation]
    try:
        return {"text": model([*turns, *(turn.model_dump() for turn in given.dialogue)])}
    except OSError as error:
        raise AccessError(502, "model", "The model does not answer. Try again in a moment.") from error


@router.post("/projects/{project}/judgments", response_model=body.ReceiptReply)
def judge(visit: Rater, given: body.JudgmentBody) -> dict[str, str]:
    """Takes an answer. When this returns, the judgment is on the disk."""
    try:
        assignment = visit.service.ratings.assignment(given.assignment)
    except DataError as error:
        raise AccessError(404, "missing", "There is no such assignment.") from error
    if (assignment.project, assignment.rater) != (visit.project.id, visit.me.id):
        raise AccessError(404, "missing", "There is no such assignment.")
    receipt = submit(visit.service, assignment, visit.me, given.answer.noun(), given.key)
    return {"judgment": receipt.judgment, "status": receipt.status}


@router.post("/projects/{project}/undo", response_model=body.ShownReply)
def undo(visit: Rater) -> dict[str, Any]:
    """Takes this account's last answer in the project back, and gives its assignment again."""
    from palate.web.items_shown import show

    assignment = visit.service.ratings.undo(visit.project.id, visit.me.id, visit.service.clock())
    if assignment is None:
        raise AccessError(409, "nothing", "There is nothing to take back.")
    return asdict(show(visit.service, visit.project, assignment))


@router.get("/projects/{project}/judgments")
def judgments(visit: Owner) -> StreamingResponse:
    """Every row of the table of judgments as JSON lines, raters by pseudonym."""
    lines: Iterator[str] = as_jsonl(visit.service.ratings, visit.project.id)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/projects/{project}/progress")
def progress(visit: Rater) -> dict[str, int]:
    """How far the project is."""
    found = visit.service.progress(visit.project.id)
    return asdict(found) if visit.is_staff else {"judgments": found.judgments, "wanted": found.wanted}


@router.get("/projects/{project}/agreement")
def agreement(visit: Reviewer) -> list[dict[str, Any]]:
    """Figures of how far to trust the answers."""
    return [asdict(one) for one in visit.service.findings_of(visit.project)[0].value.figures]


@router.get("/openapi.json", include_in_schema=False)
def description(visit: Annotated[Visit, Depends(Access("public"))]) -> JSONResponse:
    """The description of the API."""
    return JSONResponse(visit.request.app.openapi())
