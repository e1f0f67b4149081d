"""An item as its rater sees it: candidates in the order of this assignment, without anything that reveals who wrote them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from palate.ratings import Account, Assignment, Item, Project, Task
from palate.ratings.table_rows import criteria_of, rule_of
from palate.web.judging import qualify
from palate.web.service import Service
from palate.web.view import fragment


@dataclass(frozen=True)
class ItemView:
    """An assignment, ready for the page.

    Attributes:
        id: the assignment's id.
        remaining: seconds left of its lease.
        guideline: version of the guidelines to show with it.
        html: the item as HTML.
    """

    id: str
    remaining: float
    guideline: int
    html: str


def item_view(service: Service, project: Project, assignment: Assignment, item: Item) -> ItemView:
    """Return the view of the assignment's item."""
    remaining = max(0.0, round(assignment.expires - service.clock(), 1))

    def media_url(place: int) -> str:
        return f"/projects/{project.id}/assignments/{assignment.id}/media/{place}"

    values = {
        "item": item,
        "task": project.task,
        "assignment": assignment,
        "remaining": remaining,
        "rule": rule_of(project.task, item.fields, item.id),
        "criteria": criteria_of(project.task, item.fields),
        "places": [item.candidates[number] for number in assignment.order],
        "media_url": media_url,
    }
    return ItemView(assignment.id, remaining, assignment.guideline, fragment("item.html", values))


def claim_items(service: Service, project: Project, account: Account, held: Sequence[str] = ()) -> list[ItemView]:
    """Claim the current item and the next one for this rater, and return the views of those that are not in `held`.

    The list is shorter if the project has fewer items left for the rater.
    """

    def claim() -> list[tuple[Assignment, Item]]:
        return service.ratings.claim_many(project.id, account.id, service.clock(), service.random, 2)

    claimed = claim()
    if not claimed and qualify(service, project.id, account):
        claimed = claim()
    return [item_view(service, project, assignment, item) for assignment, item in claimed if assignment.id not in held]


def task_json(task: Task) -> str:
    """Return what the page's script needs to know about the task."""
    return json.dumps(
        {
            "kind": task.kind,
            "dimensions": task.dimensions,
            "ties": task.ties,
            "all_bad": task.all_bad,
            "strength": task.strength,
            "reason": task.reason,
        }
    )


def first_fragment(views: list[ItemView]) -> Markup:
    """Return the item that stands on the page when it opens, empty if there is none."""
    return Markup(views[0].html) if views else Markup("")
