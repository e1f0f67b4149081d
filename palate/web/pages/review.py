"""Review: items that raters disagree about or flagged, and a reviewer's decision."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import DataError
from palate.ratings import Answer, Item, JudgmentEntry
from palate.web.access import Access, RequestContext
from palate.web.answer_text import ranking_of, words_of
from palate.web.judging import adjudicate, take_out
from palate.web.view import go, page

router = APIRouter(include_in_schema=False)
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]

LONGEST_TITLE = 110


@dataclass(frozen=True)
class Case:
    """An item to be looked at."""

    item: str
    title: str
    undecided: bool
    flags: tuple[str, ...]
    judgments: int


@dataclass(frozen=True)
class RaterAnswer:
    """What one rater said, in words."""

    name: str
    words: str
    reason: str
    text: str
    flag: str


@router.get("/projects/{project}/review")
def review(visit: Reviewer) -> Response:
    """The queue."""
    ratings, project = visit.service.ratings, visit.project
    undecided = set(ratings.undecided_items(project.id))
    flags: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    settled = set()
    for entry in ratings.judgments(project.id):
        if entry.is_standing and entry.kind == "adjudication":
            settled.add(entry.item)
        if entry.is_standing and entry.kind == "answer":
            counts[entry.item] += not entry.answer.skipped
            if entry.answer.flag:
                flags[entry.item].add(entry.answer.flag)
    items = {item.id: item for item in ratings.items(project.id)}
    wanted = ((undecided | set(flags)) - settled) & items.keys()
    cases = [
        Case(one, _title(items[one]), one in undecided, tuple(sorted(flags[one])), counts[one])
        for one in sorted(wanted, key=lambda one: (one not in undecided, one))
    ]
    return page(visit, "review.html", {"project": project, "cases": cases})


@router.get("/projects/{project}/review/{item}")
def case(visit: Reviewer) -> Response:
    """An item with what was said of it."""
    return _case(visit)


@router.post("/projects/{project}/items/{item}/remove")
def remove(visit: Owner) -> Response:
    """The queue, without the item: nobody is asked about it any more, and it is left out of what is learned."""
    take_out(visit)
    return go(f"/projects/{visit.project.id}/review")


@router.post("/projects/{project}/review/{item}/look")
def look(visit: Reviewer) -> Response:
    """What others said of the item. Whoever has seen it cannot answer the item any more, nor take an answer back."""
    if not visit.service.ratings.view_answers(visit.item.id, visit.me.id, visit.service.clock()):
        return _case(visit, "Not yet: you may still be asked about this item yourself.", 409)
    visit.service.audit(visit.me.id, "looked at answers", visit.item.id, {"project": visit.project.id})
    return go(f"/projects/{visit.project.id}/review/{visit.item.id}")


@router.post("/projects/{project}/review/{item}")
def decide(visit: Reviewer) -> Response:
    """The decision, beside the judgments."""
    try:
        adjudicate(visit.service, visit.item, visit.me, _decision(visit), visit.service.token())
    except DataError as error:
        return _case(visit, str(error), 422)
    return go(f"/projects/{visit.project.id}/review")


def _decision(visit: RequestContext) -> Answer:
    reason, kind = visit.text("reason")[:4000], visit.project.task.kind
    if kind == "write":
        return Answer(text=visit.text("text")[:60_000], reason=reason)
    if kind in {"rule", "probe"}:
        return Answer(broken=visit.text("broken") == "yes", reason=reason)
    words = visit.text("ranking").strip()
    if words == "0":
        return Answer(all_bad=True, reason=reason)
    count = len(visit.item.candidates)
    dimensions = {
        dimension: ranking_of(visit.text(f"ranking-{number}").strip(), count)
        for number, dimension in enumerate(visit.project.task.dimensions[1:], 1)
    }
    return Answer(ranking=ranking_of(words, count), dimensions=dimensions, reason=reason)


def _case(visit: RequestContext, error: str = "", status: int = 200) -> Response:
    ratings, item = visit.service.ratings, visit.item
    is_seen = ratings.has_viewed(item.id, visit.me.id)
    names = {one.id: one.name for one in ratings.accounts()}
    entries = [one for one in ratings.judgments_of(item.id) if one.is_standing] if is_seen else []
    values = {
        "project": visit.project,
        "item": item,
        "is_seen": is_seen,
        "may_look": is_seen or ratings.may_view(item.id, visit.me.id),
        "votes": [_said(one, names.get(one.rater, "") or one.pseudonym) for one in entries],
        "error": error,
        "given": visit.text,
    }
    return page(visit, "review_item.html", values, status)


def _said(entry: JudgmentEntry, name: str) -> RaterAnswer:
    answer = entry.answer
    talk = "\n\n".join(f"{turn.role}: {turn.text}" for turn in answer.dialogue)
    who = f"{name} (reviewer)" if entry.kind == "adjudication" else name
    return RaterAnswer(who, words_of(answer, entry.order), answer.reason, answer.text or talk, answer.flag)


def _title(item: Item) -> str:
    text = " ".join(item.conversation[-1].text.split())
    return text if len(text) <= LONGEST_TITLE else text[: LONGEST_TITLE - 1] + "\u2026"
