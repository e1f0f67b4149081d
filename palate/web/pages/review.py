"""Review: items without a majority or with a flag, and a reviewer's decision."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from palate.core import DataError
from palate.data.rubrics import GRADE_WORDS, GradeWord
from palate.ratings import Answer, Item, JudgmentEntry
from palate.ratings.table_rows import criteria_of
from palate.web.access import Access, RequestContext
from palate.web.admission import GuardedRoute
from palate.web.api_models import LONGEST_REASON, LONGEST_TEXT
from palate.web.display import answer_in_words, parse_ranking
from palate.web.judging import adjudicate, withdraw_item
from palate.web.view import go, page

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Reviewer = Annotated[RequestContext, Depends(Access("reviewer"))]
Owner = Annotated[RequestContext, Depends(Access("owner"))]

LONGEST_TITLE = 110


@dataclass(frozen=True)
class ReviewCase:
    """An item to review."""

    item: str
    title: str
    undecided: bool
    flags: tuple[str, ...]
    judgments: int


@dataclass(frozen=True)
class RaterAnswer:
    """What one rater answered, in words."""

    name: str
    words: str
    reason: str
    text: str
    flag: str


@router.get("/projects/{project}/review")
def review(context: Reviewer) -> Response:
    """Show the items to review."""
    ratings, project = context.service.ratings, context.project
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
    open_items = ((undecided | set(flags)) - settled) & items.keys()
    cases = [
        ReviewCase(item, _title(items[item]), item in undecided, tuple(sorted(flags[item])), counts[item])
        for item in sorted(open_items, key=lambda item: (item not in undecided, item))
    ]
    return page(context, "review.html", {"project": project, "cases": cases})


@router.get("/projects/{project}/review/{item}")
def case(context: Reviewer) -> Response:
    """Show an item with its answers."""
    return _case(context)


@router.post("/projects/{project}/items/{item}/remove")
def remove(context: Owner) -> Response:
    """Remove the item. Nobody is asked about it any more, and nothing is learned from it."""
    withdraw_item(context)
    return go(f"/projects/{context.project.id}/review")


@router.post("/projects/{project}/review/{item}/look")
def look(context: Reviewer) -> Response:
    """Show the answers of others. Afterwards this reviewer cannot answer the item any more, nor take an answer back."""
    if not context.service.ratings.view_answers(context.item.id, context.me.id, context.service.clock()):
        return _case(context, "Not yet. You may still be asked about this item yourself.", 409)
    context.service.audit(context.me.id, "looked at answers", context.item.id, {"project": context.project.id})
    return go(f"/projects/{context.project.id}/review/{context.item.id}")


@router.post("/projects/{project}/review/{item}")
def decide(context: Reviewer) -> Response:
    """Store the decision beside the judgments."""
    try:
        adjudicate(context.service, context.item, context.me, _decision(context), context.service.token())
    except DataError as error:
        return _case(context, str(error), 422)
    return go(f"/projects/{context.project.id}/review")


def _decision(context: RequestContext) -> Answer:
    reason, kind = context.text("reason"), context.project.task.kind
    for name, limit in (("reason", LONGEST_REASON), ("text", LONGEST_TEXT)):
        if len(context.text(name)) > limit:
            raise DataError(f"The {name} has {len(context.text(name))} characters, and {limit} fit. Shorten it; nothing was saved yet.")
    if kind == "write":
        return Answer(text=context.text("text"), reason=reason)
    if kind in {"rule", "probe"}:
        return Answer(broken=context.text("broken") == "yes", reason=reason)
    if kind == "rubric":
        criteria = criteria_of(context.project.task, context.item.fields)
        return Answer(grades={one.id: _grade(context.text(f"grade-{k}")) for k, one in enumerate(criteria)}, reason=reason)
    ranking = context.text("ranking").strip()
    if ranking == "0":
        return Answer(all_bad=True, reason=reason)
    count = len(context.item.candidates)
    dimensions = {
        dimension: parse_ranking(context.text(f"ranking-{number}").strip(), count)
        for number, dimension in enumerate(context.project.task.dimensions[1:], 1)
    }
    return Answer(ranking=parse_ranking(ranking, count), dimensions=dimensions, reason=reason)


def _grade(text: str) -> GradeWord:
    for word in GRADE_WORDS:
        if word == text:
            return word
    raise DataError(f"Choose {', '.join(GRADE_WORDS)} for each criterion, not {text[:40]!r}.")


def _case(context: RequestContext, error: str = "", status: int = 200) -> Response:
    ratings, item = context.service.ratings, context.item
    is_seen = ratings.has_viewed(item.id, context.me.id)
    names = {account.id: account.name for account in ratings.accounts()}
    entries = [entry for entry in ratings.judgments_of(item.id) if entry.is_standing] if is_seen else []
    values = {
        "project": context.project,
        "item": item,
        "criteria": criteria_of(context.project.task, item.fields),
        "is_seen": is_seen,
        "may_look": is_seen or ratings.may_view(item.id, context.me.id),
        "votes": [_rater_answer(entry, names.get(entry.rater, "") or entry.pseudonym) for entry in entries],
        "error": error,
        "form_text": context.text,
    }
    return page(context, "review_item.html", values, status)


def _rater_answer(entry: JudgmentEntry, name: str) -> RaterAnswer:
    answer = entry.answer
    dialogue = "\n\n".join(f"{turn.role}: {turn.text}" for turn in answer.dialogue)
    display_name = f"{name} (reviewer)" if entry.kind == "adjudication" else name
    return RaterAnswer(display_name, answer_in_words(answer, entry.order), answer.reason, answer.text or dialogue, answer.flag)


def _title(item: Item) -> str:
    text = " ".join(item.conversation[-1].text.split())
    return text if len(text) <= LONGEST_TITLE else text[: LONGEST_TITLE - 1] + "\u2026"
