"""The HTTP API: JSON under /api, described at /api/openapi.json. The pages use it too."""

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import FileResponse, JSONResponse

from palate.core import DataError, Message, PalateError
from palate.web import api_models
from palate.web.access import Access, AccessError, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.item_view import ItemView, claim_items, item_view
from palate.web.judging import join_as_owner, remove_member, role_in_project, submit, withdraw_item
from palate.web.probe_model import ProbeError
from palate.web.project_form import project_of
from palate.web.transfer import export_file, import_rows

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": api_models.ErrorReply, "description": "Not signed in"},
    403: {"model": api_models.ErrorReply, "description": "Wrong role, CSRF token or origin"},
    404: {"model": api_models.ErrorReply, "description": "The object does not exist, or this account may not see it"},
    422: {"model": api_models.ErrorReply, "description": "The request is invalid"},
}
router = APIRouter(route_class=GuardedRoute, prefix="/api", responses=ERRORS)
Rater = Annotated[RequestContext, Depends(Access("rater"))]
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]


@router.get("/session", response_model=api_models.SessionReply)
def session(context: Rater) -> dict[str, str]:
    """Return who is signed in."""
    assert context.session is not None
    return {"account": context.me.id, "name": context.me.name, "role": context.me.role, "csrf": context.session.csrf}


@router.get("/projects")
def projects(context: Rater) -> list[dict[str, Any]]:
    """Return the projects that this account may see."""
    return [asdict(project) for project in context.service.ratings.projects() if context.me.role == "owner" or context.is_member(project)]


@router.post("/projects", status_code=201)
def add_project(context: Owner, body: api_models.ProjectBody) -> dict[str, Any]:
    """Make a project."""
    project = context.service.ratings.add_project(project_of(body), context.service.clock())
    context.service.audit(context.me.id, "project made", project.id)
    return asdict(project)


@router.get("/projects/{project}")
def project(context: Rater) -> dict[str, Any]:
    """Return a project and its guidelines."""
    return {**asdict(context.project), "guideline": asdict(context.service.ratings.guideline(context.project.id))}


@router.post("/projects/{project}/guideline", status_code=201)
def set_guideline(context: Owner, body: api_models.GuidelineBody) -> dict[str, Any]:
    """Save a new version of the guidelines."""
    guideline = context.service.ratings.set_guideline(context.project.id, body.text, context.service.clock(), warning=body.warning)
    context.service.audit(context.me.id, "guidelines written", context.project.id, {"version": guideline.version})
    return asdict(guideline)


@router.post("/projects/{project}/items", status_code=201, response_model=api_models.AddedReply)
def add_items(context: Owner, body: api_models.ItemsBody) -> dict[str, Any]:
    """Add items, with judgments if the rows hold some. Either all rows are added or none; what exists is not added twice."""
    imported, exchange, notes = import_rows(context.service, context.project, body.items)
    context.service.audit(context.me.id, "items added", context.project.id, {"added": len(imported.items), "judgments": imported.judgments})
    return {
        "added": list(imported.items),
        "duplicates": imported.known_items,
        "judgments": imported.judgments,
        "surplus": imported.surplus,
        "known_judgments": imported.known_judgments,
        "raters": imported.raters,
        "dropped": [f"{row.source}: {row.reason}" for row in (*exchange.dropped, *imported.left_out)],
        "notes": list(notes),
    }


@router.delete("/projects/{project}/items/{item}", status_code=204)
def remove_item(context: Owner) -> None:
    """Stop asking about an item. Its judgments stay, and an answer on its way is kept as surplus."""
    withdraw_item(context)


@router.get("/projects/{project}/members")
def members(context: Reviewer) -> list[dict[str, Any]]:
    """Return the members of a project."""
    ratings = context.service.ratings
    accounts, reviewers = ratings.accounts(context.project.id), ratings.reviewers(context.project.id)
    return [
        {
            "id": account.id,
            "name": account.name,
            "role": role_in_project(account, reviewers),
            "kind": account.kind,
            "pseudonym": account.pseudonym,
        }
        for account in accounts
    ]


@router.delete("/projects/{project}/members/{account}", response_model=api_models.ReleasedReply)
def remove_from_project(context: Owner) -> dict[str, int]:
    """Remove a member. Items that they held go to others, and their answers stay."""
    return {"released": remove_member(context)}


@router.post("/projects/{project}/scores")
def set_scores(context: Owner, body: api_models.ScoresBody) -> dict[str, int]:
    """Set scores of the items from a training run (rows of scores.jsonl). The queue `uncertain` uses them."""
    return {"scored": context.service.ratings.set_scores(context.project.id, body.rows)}


@router.post("/projects/{project}/assignments", response_model=api_models.AssignmentsReply)
def assignments(context: Rater, body: api_models.HeldBody) -> dict[str, Any]:
    """Hold the current item and the next one for this rater. A repeated call returns the same ones, without those in `held`."""
    join_as_owner(context)
    return {"assignments": [asdict(view) for view in claim_items(context.service, context.project, context.me, body.held)]}


@router.post("/projects/{project}/assignments/{assignment}/release")
def release(context: Rater) -> dict[str, bool]:
    """Give an assignment back."""
    return {"released": context.service.ratings.release(context.assignment.id, context.me.id)}


@router.post("/projects/{project}/assignments/{assignment}/probe", response_model=api_models.TextReply)
def probe(context: Rater, body: api_models.ProbeBody) -> dict[str, str]:
    """Return the live model's next turn in a probe."""
    model = context.service.settings.probe
    if context.project.task.kind != "probe" or model is None:
        raise AccessError(409, "nomodel", "No model is connected: an owner must start the server with --model_url.")
    item = context.service.ratings.item(context.assignment.item)
    try:
        return {"text": model.reply([*item.conversation, *(Message(turn.role, turn.text) for turn in body.dialogue)])}
    except ProbeError as error:
        raise AccessError(502, "model", str(error)) from error


@router.post("/projects/{project}/judgments", response_model=api_models.ReceiptReply)
def judge(context: Rater, body: api_models.JudgmentBody) -> dict[str, Any]:
    """Store an answer, and return the next assignments. When this returns, the judgment is on the disk."""
    try:
        assignment = context.service.ratings.assignment(body.assignment)
    except DataError as error:
        raise AccessError(404, "missing", "This assignment does not exist.") from error
    if (assignment.project, assignment.rater) != (context.project.id, context.me.id):
        raise AccessError(404, "missing", "This assignment does not exist.")
    receipt = submit(context.service, assignment, context.me, body.answer.to_answer(), body.key, body.guideline)
    following: list[ItemView] = []
    if body.held is not None:
        with suppress(PalateError):  # the answer is stored in any case; a later request for assignments tells why there are none
            following = claim_items(context.service, context.project, context.me, body.held)
    views = [asdict(view) for view in following]
    return {"judgment": receipt.judgment, "status": receipt.status, "cause": receipt.cause, "assignments": views}


@router.post("/projects/{project}/undo", response_model=api_models.UndoneReply)
def undo(context: Rater, body: api_models.UndoBody) -> dict[str, Any]:
    """Take back this account's last answer in the project, and return its assignment."""
    ratings = context.service.ratings
    assignment = ratings.undo(context.project.id, context.me.id, body.key, context.service.clock())
    if assignment is None:
        raise AccessError(409, "nothing", "There is nothing to take back.")
    view = item_view(context.service, context.project, assignment, ratings.item(assignment.item))
    return {**asdict(view), "judged": ratings.num_answered(context.project.id, context.me.id)}


@router.get("/projects/{project}/judgments", response_class=FileResponse)
def judgments(context: Owner, kind: str = "palate") -> FileResponse:
    """Return the project as a file, with raters by pseudonym.

    `palate` loses nothing. The other kinds are those that `palate exchange` writes.
    """
    context.service.audit(context.me.id, "exported", context.project.id, {"form": kind[:40]})
    return export_file(context.service, context.project, kind)


@router.get("/projects/{project}/progress")
def progress(context: Rater) -> dict[str, int]:
    """Return how many answers of this account count. Reviewers and owners also get the progress of the project.

    Raters do not get it, because its figures do not move at a gold item and would give it away.
    """
    mine = {"mine": context.service.ratings.num_answered(context.project.id, context.me.id)}
    return mine | asdict(context.service.progress(context.project.id)) if context.is_staff else mine


@router.get("/projects/{project}/agreement")
def agreement(context: Reviewer) -> list[dict[str, Any]]:
    """Return the figures that say how far raters agree."""
    return [asdict(figure) for figure in context.service.figures_of(context.project)[0].value.figures]


@router.get("/openapi.json", include_in_schema=False)
def description(context: Annotated[RequestContext, Depends(Access("public"))]) -> JSONResponse:
    """Return the description of the API."""
    return JSONResponse(context.request.app.openapi())
