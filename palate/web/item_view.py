"""An item as its rater sees it: candidates in the order drawn for this assignment, and nothing that tells who wrote them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from palate.ratings import Account, Assignment, Item, Project, Task
from palate.ratings.table_rows import rule_of
from palate.web.judging import qualify
from palate.web.service import Service
from palate.web.view import fragment


@dataclass(frozen=True)
class ItemView:
    """One assignment, ready for the page: `remaining` is the seconds of its lease that are left, `html` the item."""

    id: str
    remaining: float
    guideline: int
    html: str


def show(service: Service, project: Project, assignment: Assignment, item: Item) -> ItemView:
    """The assignment's item."""
    remaining = max(0.0, round(assignment.expires - service.clock(), 1))

    def media_url(place: int) -> str:
        return f"/projects/{project.id}/assignments/{assignment.id}/media/{place}"

    values = {
        "item": item,
        "task": project.task,
        "assignment": assignment,
        "remaining": remaining,
        "rule": rule_of(project.task, item.fields, item.id),
        "places": [item.candidates[number] for number in assignment.order],
        "media_url": media_url,
    }
    return ItemView(assignment.id, remaining, assignment.guideline, fragment("item.html", values))


def waiting(service: Service, project: Project, account: Account, held: Sequence[str] = ()) -> list[ItemView]:
    """The item under way and the one after it, claimed for this rater, without those `held` already; fewer when there are no more."""

    def hold() -> list[tuple[Assignment, Item]]:
        return service.ratings.claim_many(project.id, account.id, service.clock(), service.random, 2)

    found = hold()
    if not found and qualify(service, project.id, account):
        found = hold()
    return [show(service, project, assignment, item) for assignment, item in found if assignment.id not in held]


def task_json(task: Task) -> str:
    """What the page's script has to know of the task."""
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


def first_fragment(shown: list[ItemView]) -> Markup:
    """The item that stands on the page when it opens; empty when there is none."""
    return Markup(shown[0].html) if shown else Markup("")
