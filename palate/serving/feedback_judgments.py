"""Feedback as judgments for the database of ratings: comparisons and edits in one project, verdicts on single answers in one per metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from palate.core import Completion, DataError, Judgment
from palate.core.nouns import UNKNOWN_RATER, is_anonymous
from palate.data.cells import mapping, text
from palate.data.exchange import Candidate, Exchange, ExchangeItem, Project, RaterInfo, Task, Vote
from palate.data.exchange.rule_questions import RULE
from palate.data.jsonl import Row, read_rows
from palate.serving.feedback_rows import UNREADABLE, about_of, answers_of, not_feedback, prompt_of, rater_of

PREFIX = "feedback-"
"""What stands in an id of feedback before the id that the database keeps."""


def question_of(metric: str) -> str:
    """Return what raters of a metric are asked about one answer. Yes means that the answer is not good."""
    return f'Is the answer at fault on "{metric}"?'


def project_of_metric(project: str, metric: str) -> str:
    """Return the name of the project with the verdicts of a metric."""
    return f"{project}: {metric}"


@dataclass
class _Collected:
    """The items and votes of one project, in the order said."""

    task: Task
    items: dict[str, ExchangeItem] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    anonymous: Counter[object] = field(default_factory=Counter)

    def add(self, item: ExchangeItem, vote: Vote) -> Vote:
        """Add a judgment, and return it as it stands here: on the project's first dimension, and by a rater of its own."""
        self.items.setdefault(item.id, item)
        judgment = replace(vote.judgment, dimension=self.task.dimensions[0])
        if judgment.rater == UNKNOWN_RATER:  # several on one question need not be one person
            question = item.conversation, frozenset(candidate.text for candidate in item.candidates)
            self.anonymous[question] += 1
            number = self.anonymous[question]
            judgment = replace(judgment, rater=UNKNOWN_RATER if number == 1 else f"{UNKNOWN_RATER}-{number}")
        self.votes.append(replace(vote, judgment=judgment))
        return self.votes[-1]

    def take_back(self, vote: Vote, time: float | None) -> None:
        """Add the undo of a judgment."""
        empty = replace(vote.judgment, ranking=())
        self.votes.append(Vote(empty, time=time, entry="undo", supersedes=vote.id))

    def exchange(self, name: str) -> Exchange:
        """Return them as an exchange for a project of this name."""
        raters = dict.fromkeys(vote.judgment.rater for vote in self.votes)
        infos = tuple(RaterInfo(rater, "unknown" if is_anonymous(rater) else "person") for rater in raters)
        return Exchange(tuple(self.items.values()), tuple(self.votes), infos, name=name, project=Project(name, self.task))


def feedback_exchanges(path: Path, project: str, tasks: Mapping[str, Task]) -> dict[str, Exchange]:
    """Return what a file of feedback says as judgments, by the name of the project that they belong to.

    Where one rater says something again about the same answers, the former judgment is taken back, as on the rating pages.

    Args:
        path: the file of feedback.
        project: the project of comparisons and edits. Verdicts on single answers go to one project per metric.
        tasks: the tasks of the projects that the database has, by name.

    Raises:
        DataError: the file cannot be read, a row is not feedback, or a project asks something else.
    """
    found: dict[str, _Collected] = {}
    standing: dict[object, tuple[_Collected, Vote]] = {}
    for number, row in read_rows(path):
        try:
            said = _said(row)
        except UNREADABLE as error:
            raise not_feedback(path, number, error) from error
        former = standing.pop(about_of(row), None)
        if former is not None:
            former[0].take_back(former[1], time_of(row))
        if said is None:
            continue
        item, vote = said
        name = project if item.task == "compare" else project_of_metric(project, str(row["metric_name"]))
        if name not in found:
            found[name] = _Collected(_task(item, name, tasks))
        standing[about_of(row)] = found[name], found[name].add(item, vote)
    return {name: own.exchange(name) for name, own in found.items()}


def _task(item: ExchangeItem, name: str, tasks: Mapping[str, Task]) -> Task:
    """Return the task of a project; a new one compares, or asks what the item asks."""
    new = Task("compare") if item.task == "compare" else Task("rule", rules=(str(item.fields[RULE]),))
    known = tasks.get(name, new)
    if known.kind != new.kind or known.rules != new.rules:
        raise DataError(f"The project {name!r} asks to {known.kind}, and this feedback is to {new.kind}. Give another name with --project.")
    return known


def _said(row: Row) -> tuple[ExchangeItem, Vote] | None:
    """Return the item and the judgment in a row of feedback; None for what no judgment can hold."""
    name, inference = text(row["feedback_id"], "feedback_id"), text(row["inference_id"], "inference_id")
    metric, value, choice = text(row["metric_name"], "metric_name"), row["value"], cast("int", row.get("choice", 0))
    prompt, answers = prompt_of(row, inference), [_candidate(one) for one in answers_of(row)]
    judgment = Judgment("", rater_of(row), ())
    vote = Vote(judgment, name.removeprefix(PREFIX), time_of(row))
    item = ExchangeItem("", prompt.conversation, (), fields=prompt.fields, policy=answers[choice].policy)
    if isinstance(value, bool):
        question, identity = question_of(metric), f"{inference}/{choice}"
        item = replace(item, id=identity, candidates=(answers[choice],), task="rule", fields={**prompt.fields, RULE: question})
        return item, replace(vote, judgment=replace(judgment, comparison=identity), is_broken=not value, rule=question)
    if metric == "comparison":
        sides = mapping(value, "value")
        better, worse = answers[cast("int", sides["chosen"])], answers[cast("int", sides["rejected"])]
        identity = "/".join((inference, *map(str, sorted(cast("list[int]", list(sides.values()))))))
    elif metric == "demonstration":
        better, worse, identity = Candidate(text(value, "value")), answers[choice], f"{inference}/{name}"
    else:
        return None
    if not better.text.strip() or not worse.text.strip() or better.text.strip() == worse.text.strip():
        return None  # nothing tells the two apart
    candidates = tuple(sorted((better, worse), key=lambda one: one.text))  # who looks at the item does not see who won
    ranking = tuple((candidates.index(one),) for one in (better, worse))
    return replace(item, id=identity, candidates=candidates), replace(
        vote, judgment=replace(judgment, comparison=identity, ranking=ranking)
    )


def time_of(row: Row) -> float | None:
    """Return when a row was said, in seconds since 1970."""
    time = row.get("time")
    return float(time) if isinstance(time, int | float) else None


def _candidate(answer: Completion) -> Candidate:
    return Candidate(answer.text, policy=answer.policy)
