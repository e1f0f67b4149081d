"""The HTTP API: JSON under /api, described at /api/openapi.json. The pages use it too."""

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, JSONResponse

from palate.clients.chat import ChatError
from palate.core import DataError, Message, PalateError
from palate.web import api_models as body
from palate.web.access import Access, AccessError, RequestContext
from palate.web.item_view import ItemView, show, waiting
from palate.web.judging import remove_member, role_here, seat, submit, take_out
from palate.web.project_form import project_of
from palate.web.transfer import export_file, take_rows

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": body.ErrorReply, "description": "Not signed in"},
    403: {"model": body.ErrorReply, "description": "Role, CSRF token or origin"},
    404: {"model": body.ErrorReply, "description": "Not there, or not for this account"},
    422: {"model": body.ErrorReply, "description": "The request does not fit"},
}
router = APIRouter(prefix="/api", responses=ERRORS)
Rater = Annotated[RequestContext, Depends(Access("rater"))]
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]


@router.get("/session", response_model=body.SessionReply)
def session(visit: Rater) -> dict[str, str]:
    """Who is signed in."""
    assert visit.session is not None
    return {"account": visit.me.id, "name": visit.me.name, "role": visit.me.role, "csrf": visit.session.csrf}


@router.get("/projects")
def projects(visit: Rater) -> list[dict[str, Any]]:
    """The projects that this account may see."""
    return [asdict(one) for one in visit.service.ratings.projects() if visit.me.role == "owner" or visit.is_member(one)]


@router.post("/projects", status_code=201)
def add_project(visit: Owner, given: body.ProjectBody) -> dict[str, Any]:
    """A new project."""
    made = visit.service.ratings.add_project(project_of(given), visit.service.clock())
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
    """Adds items and, where the rows have some, judgments: all or none. What is there already is not added twice."""
    done, said, odd = take_rows(visit.service, visit.project, given.items)
    visit.service.audit(visit.me.id, "items added", visit.project.id, {"added": len(done.items), "judgments": done.judgments})
    return {
        "added": list(done.items),
        "duplicates": done.known_items,
        "judgments": done.judgments,
        "surplus": done.surplus,
        "known_judgments": done.known_judgments,
        "raters": done.raters,
        "dropped": [f"{one.source}: {one.reason}" for one in said.dropped],
        "notes": list(odd),
    }


@router.delete("/projects/{project}/items/{item}", status_code=204)
def remove_item(visit: Owner) -> None:
    """Hands an item out no more. Its judgments stay; an answer under way is kept as surplus."""
    take_out(visit)


@router.get("/projects/{project}/members")
def members(visit: Reviewer) -> list[dict[str, Any]]:
    """Who is in the project."""
    ratings = visit.service.ratings
    found, reviewers = ratings.accounts(visit.project.id), ratings.reviewers(visit.project.id)
    return [
        {"id": one.id, "name": one.name, "role": role_here(one, reviewers), "kind": one.kind, "pseudonym": one.pseudonym} for one in found
    ]


@router.delete("/projects/{project}/members/{account}", response_model=body.ReleasedReply)
def remove_from_project(visit: Owner) -> dict[str, int]:
    """Takes somebody out of the project: what he held goes to others, what he answered stays."""
    return {"released": remove_member(visit)}


@router.post("/projects/{project}/scores")
def set_scores(visit: Owner, given: body.ScoresBody) -> dict[str, int]:
    """What a training run says of the items (rows of scores.jsonl): the queue `uncertain` goes by it."""
    return {"scored": visit.service.ratings.set_scores(visit.project.id, given.rows)}


@router.post("/projects/{project}/assignments", response_model=body.AssignmentsReply)
def assignments(visit: Rater, given: body.HeldBody) -> dict[str, Any]:
    """The item under way and the one after it, held for this rater. Asked again, they are the same; `held` are left out."""
    seat(visit)
    return {"assignments": [asdict(one) for one in waiting(visit.service, visit.project, visit.me, given.held)]}


@router.post("/projects/{project}/assignments/{assignment}/release")
def release(visit: Rater) -> dict[str, bool]:
    """Gives an assignment back."""
    return {"released": visit.service.ratings.release(visit.assignment.id, visit.me.id)}


@router.post("/projects/{project}/assignments/{assignment}/probe", response_model=body.TextReply)
def probe(visit: Rater, given: body.ProbeBody) -> dict[str, str]:
    """The live model's next turn in a probe."""
    model = visit.service.settings.probe
    if visit.project.task.kind != "probe" or model is None:
        raise AccessError(409, "nomodel", "No model is connected: an owner must start the server with --model_url.")
    item = visit.service.ratings.item(visit.assignment.item)
    try:
        return {"text": model.reply([*item.conversation, *(Message(turn.role, turn.text) for turn in given.dialogue)])}
    except ChatError as error:
        raise AccessError(502, "model", str(error)) from error


@router.post("/projects/{project}/judgments", response_model=body.ReceiptReply)
def judge(visit: Rater, given: body.JudgmentBody) -> dict[str, Any]:
    """Takes an answer, and gives what follows. When this returns, the judgment is on the disk."""
    try:
        assignment = visit.service.ratings.assignment(given.assignment)
    except DataError as error:
        raise AccessError(404, "missing", "There is no such assignment.") from error
    if (assignment.project, assignment.rater) != (visit.project.id, visit.me.id):
        raise AccessError(404, "missing", "There is no such assignment.")
    receipt = submit(visit.service, assignment, visit.me, given.answer.noun(), given.key, given.guideline)
    following: list[ItemView] = []
    if given.held is not None:
        with suppress(PalateError):  # the answer is taken whatever becomes of this; who needs more asks again, and hears why
            following = waiting(visit.service, visit.project, visit.me, given.held)
    return {"judgment": receipt.judgment, "status": receipt.status, "assignments": [asdict(one) for one in following]}


@router.post("/projects/{project}/undo", response_model=body.UndoneReply)
def undo(visit: Rater, given: body.UndoBody) -> dict[str, Any]:
    """Takes this account's last answer in the project back, and gives its assignment again."""
    ratings = visit.service.ratings
    assignment = ratings.undo(visit.project.id, visit.me.id, given.key, visit.service.clock())
    if assignment is None:
        raise AccessError(409, "nothing", "There is nothing to take back.")
    shown = show(visit.service, visit.project, assignment, ratings.item(assignment.item))
    return {**asdict(shown), "judged": ratings.num_answered(visit.project.id, visit.me.id)}


@router.get("/projects/{project}/judgments", response_class=FileResponse)
def judgments(visit: Owner, kind: str = "palate") -> FileResponse:
    """The whole project as a file, raters by pseudonym: `palate` loses nothing; the other kinds are those that `palate exchange` writes."""
    visit.service.audit(visit.me.id, "exported", visit.project.id, {"form": kind[:40]})
    return export_file(visit.service, visit.project, kind)


@router.get("/projects/{project}/progress")
def progress(visit: Rater) -> dict[str, int]:
    """How many answers of this account stand; for reviewers and owners also how far the project is.

    Raters are not told of the project: its figures stand still when gold is answered, which would give the gold away.
    """
    mine = {"mine": visit.service.ratings.num_answered(visit.project.id, visit.me.id)}
    return mine | asdict(visit.service.progress(visit.project.id)) if visit.is_staff else mine


@router.get("/projects/{project}/agreement")
def agreement(visit: Reviewer) -> list[dict[str, Any]]:
    """Figures of how far to trust the answers."""
    return [asdict(one) for one in visit.service.findings_of(visit.project)[0].value.figures]


@router.get("/openapi.json", include_in_schema=False)
def description(visit: Annotated[RequestContext, Depends(Access("public"))]) -> JSONResponse:
    """The description of the API."""
    return JSONResponse(visit.request.app.openapi())
