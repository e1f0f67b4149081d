"""What a project asks and how it hands its items out, as databases hold it and files carry it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from palate.data import cells
from palate.data.cells import Columns

TaskKind = Literal["compare", "rank", "rule", "rubric", "probe", "write"]
Queue = Literal["random", "uncertain"]
Reason = Literal["off", "optional", "required"]

TASKS: tuple[TaskKind, ...] = get_args(TaskKind)
QUEUES: tuple[Queue, ...] = get_args(Queue)
REASONS: tuple[Reason, ...] = get_args(Reason)

MAX_RATERS = 10**6
"""Most raters of an item, below the largest whole number of a database."""

_TASK = ("kind", "dimensions", "ties", "all_bad", "strength", "reason", "rules")
_PROJECT = ("task", "overlap", "max_overlap", "lease_seconds", "gold_share", "queue", "random_share", "created")


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked about each item of a project.

    Attributes:
        kind: compare two completions, rank several, say whether one breaks a rule, grade one by the criteria of the item's rubric, probe a
            model, or write an answer.
        dimensions: what raters compare; the first is `Answer.ranking`, the others are in `Answer.dimensions`.
        ties: whether equal completions may share a tier.
        all_bad: whether raters may answer that none of them is good.
        strength: whether raters also say how much better.
        reason: whether raters give a written reason.
        rules: the rules that tasks of kind `rule` and `probe` are about.
    """

    kind: TaskKind = "compare"
    dimensions: tuple[str, ...] = ("overall",)
    ties: bool = True
    all_bad: bool = False
    strength: bool = False
    reason: Reason = "optional"
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """Items, their task, and how raters get them. The store sets `id` and `created`.

    Attributes:
        overlap: raters per item.
        max_overlap: most raters per item; beyond `overlap`, one more is asked while no answer has more than half of the votes.
        lease_seconds: how long an assignment is held for its rater.
        gold_share: share of assignments that are hidden gold items, from 0 to 1.
        queue: how the next item is chosen: at random within strata, or the most uncertain one (`set_scores`).
        random_share: share of fresh items that an uncertain queue draws at random, at least 0.3.
    """

    name: str
    task: Task = field(default_factory=Task)
    overlap: int = 1
    max_overlap: int = 0
    lease_seconds: float = 900.0
    gold_share: float = 0.0
    queue: Queue = "random"
    random_share: float = 0.3
    id: str = ""
    created: float = 0.0


def project_row(project: Project) -> dict[str, Any]:
    """The settings as a JSON object, without name and id."""
    return {name: value for name, value in asdict(project).items() if name in _PROJECT}


def project_of(row: Columns, name: str) -> Project:
    """The project of that name from a JSON object. Raises InvalidRow if a setting is missing, unknown or of another type."""
    cells.only_known(row, _PROJECT, "project")
    return Project(
        name=name,
        task=_task(cells.mapping(cells.present(row, "task"), "task")),
        overlap=cells.whole(row.get("overlap"), "overlap", least=1, most=MAX_RATERS),
        max_overlap=cells.whole(row.get("max_overlap"), "max_overlap", least=0, most=MAX_RATERS),
        lease_seconds=cells.number(row.get("lease_seconds"), "lease_seconds", least=0),
        gold_share=cells.number(row.get("gold_share"), "gold_share", least=0, most=1),
        queue=cells.choice(row.get("queue"), "queue", QUEUES),
        random_share=cells.number(row.get("random_share"), "random_share", least=0, most=1),
        created=cells.number(row.get("created"), "created"),
    )


def _task(row: Columns) -> Task:
    cells.only_known(row, _TASK, "task")
    dimensions, rules = (cells.sequence(cells.present(row, name), f"task.{name}") for name in ("dimensions", "rules"))
    return Task(
        kind=cells.choice(row.get("kind"), "task.kind", TASKS),
        dimensions=tuple(cells.name(dimension, "task.dimensions") for dimension in dimensions),
        ties=cells.boolean(row.get("ties"), "task.ties"),
        all_bad=cells.boolean(row.get("all_bad"), "task.all_bad"),
        strength=cells.boolean(row.get("strength"), "task.strength"),
        reason=cells.choice(row.get("reason"), "task.reason", REASONS),
        rules=tuple(cells.text(rule, "task.rules") for rule in rules),
    )
