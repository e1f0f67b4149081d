"""What a project asks and how it hands its items out, as databases hold it and files carry it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

TaskKind = Literal["compare", "rank", "rule", "probe", "write"]
Queue = Literal["random", "uncertain"]
Reason = Literal["off", "optional", "required"]

TASKS: tuple[TaskKind, ...] = get_args(TaskKind)
QUEUES: tuple[Queue, ...] = get_args(Queue)
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked about each item of a project.

    Attributes:
        kind: compare two completions, rank several, say whether one breaks a rule, probe a model, write an answer.
        dimensions: what is compared; the first is `Answer.ranking`, the others are in `Answer.dimensions`.
        ties: equal completions may share a tier.
        all_bad: "none of them is good" is an answer.
        strength: how much better is asked, too.
        reason: whether a written reason is asked for.
        rules: the rules that kind `rule` and `probe` are about.
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
    """Items, their task, and how they are handed out. `id` and `created` are given by the store.

    Attributes:
        overlap: raters asked about each item.
        max_overlap: raters asked at most; above `overlap` a further one is asked while no answer has more than half of the votes.
        lease_seconds: how long an assignment is held for its rater.
        gold_share: share of assignments that are hidden gold items, 0 to 1.
        queue: which item comes next: at random within strata, or the most uncertain (`set_scores`).
        random_share: share of fresh items drawn at random in an uncertain queue, at least 0.3.
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
