"""A project's settings as a JSON object, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from palate.data.exchange import cells
from palate.data.exchange.cells import Columns
from palate.data.exchange.task import QUEUES, REASONS, TASKS, Project, Task

MOST = 10**6
"""Most raters of an item; a database's whole numbers end a little above."""

_TASK = ("kind", "dimensions", "ties", "all_bad", "strength", "reason", "rules")
_PROJECT = ("task", "overlap", "max_overlap", "lease_seconds", "gold_share", "queue", "random_share", "created")


def project_row(project: Project) -> dict[str, Any]:
    """The settings as a JSON object, without name and id."""
    return {name: value for name, value in asdict(project).items() if name in _PROJECT}


def project_of(said: Columns, name: str) -> Project:
    """The project of that name in a JSON object. Raises Fault where a setting is missing, unknown or of another type."""
    cells.only(said, _PROJECT, "project")
    return Project(
        name=name,
        task=_task(cells.mapping(cells.present(said, "task"), "task")),
        overlap=cells.whole(said.get("overlap"), "overlap", least=1, most=MOST),
        max_overlap=cells.whole(said.get("max_overlap"), "max_overlap", least=0, most=MOST),
        lease_seconds=cells.number(said.get("lease_seconds"), "lease_seconds", least=0),
        gold_share=cells.number(said.get("gold_share"), "gold_share", least=0, most=1),
        queue=cells.choice(said.get("queue"), "queue", QUEUES),
        random_share=cells.number(said.get("random_share"), "random_share", least=0, most=1),
        created=cells.number(said.get("created"), "created"),
    )


def _task(said: Columns) -> Task:
    cells.only(said, _TASK, "task")
    dimensions, rules = (cells.sequence(cells.present(said, name), f"task.{name}") for name in ("dimensions", "rules"))
    return Task(
        kind=cells.choice(said.get("kind"), "task.kind", TASKS),
        dimensions=tuple(cells.name(dimension, "task.dimensions") for dimension in dimensions),
        ties=cells.truth(said.get("ties"), "task.ties"),
        all_bad=cells.truth(said.get("all_bad"), "task.all_bad"),
        strength=cells.truth(said.get("strength"), "task.strength"),
        reason=cells.choice(said.get("reason"), "task.reason", REASONS),
        rules=tuple(cells.text(rule, "task.rules") for rule in rules),
    )
