"""The answers of a file in terms of a project: which votes are one answer, and what they say about the project's items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from palate.core import DataError
from palate.data.exchange import Exchange, Tiers, Vote
from palate.ratings.entities import Answer, Project
from palate.ratings.validation import check_answer, check_criteria

_FIELDS = {"compare": "ranking", "rank": "ranking", "rule": "is_broken", "rubric": "grades", "probe": "is_broken", "write": "text"}


@dataclass(frozen=True, slots=True)
class ItemLocation:
    """Where an item of a file is in the project: its id, the number there of each candidate, and the rule or the criteria it asks about."""

    id: str
    numbers: tuple[int, ...]
    rule: str = ""
    criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """A file and the rows that its names stand for.

    Attributes:
        locations: the items, by the file's ids.
        versions: the versions of guidelines, by the file's names.
        accounts: the ids of accounts, by the file's raters.
    """

    exchange: Exchange
    project: Project
    locations: Mapping[str, ItemLocation]
    versions: Mapping[str, int]
    accounts: Mapping[str, str]
    now: float


@dataclass(slots=True)
class AnswerGroup:
    """The votes of one answer, beginning with the task's first dimension, and their place in the file."""

    votes: list[Vote]
    place: str

    @property
    def main(self) -> Vote:
        """The vote that holds everything that belongs to the whole answer."""
        return self.votes[0]


def answer_groups(batch: ImportBatch) -> list[AnswerGroup]:
    """Return the votes grouped by answer.

    Votes belong together if `answer` links them, or else if one rater gave them on several dimensions of an item in one order.
    """
    exchange = batch.exchange
    groups: list[AnswerGroup] = []
    by_id: dict[str, AnswerGroup] = {}
    last: dict[tuple[object, ...], AnswerGroup] = {}
    for number, vote in enumerate(exchange.votes):
        judgment = vote.judgment
        shared = (judgment.comparison, judgment.rater, judgment.order, vote.time, vote.status, vote.entry, vote.is_skipped)
        group = by_id.get(vote.answer) if vote.answer else last.get(shared) if not vote.id else None
        if group is not None and judgment.dimension not in {member.judgment.dimension for member in group.votes}:
            group.votes.append(vote)
            continue
        groups.append(AnswerGroup([vote], exchange.vote_place(number)))
        last[shared] = groups[-1]
        if vote.id:
            by_id[vote.id] = groups[-1]
    first = batch.project.task.dimensions[0]
    for group in groups:
        group.votes.sort(key=lambda vote: vote.judgment.dimension != first)
    return groups


def grouped_answer(group: AnswerGroup, batch: ImportBatch) -> tuple[Answer, tuple[int, ...] | None]:
    """Return the answer, and the order shown, where it is known, in numbers of the project's item.

    Raises:
        DataError: the answer does not fit the task.
    """
    main, task = group.main, batch.project.task
    location = batch.locations[main.judgment.comparison]
    votes = [vote.renumbered(location.id, location.numbers) for vote in group.votes]
    judgments = [vote.judgment for vote in votes]
    order = judgments[0].order
    rankings: dict[str, Tiers] = {judgment.dimension: judgment.ranking for judgment in judgments}
    ranking = rankings.pop(task.dimensions[0], ())
    reasons = [judgment.reason for judgment in judgments if judgment.reason]
    answer = Answer(
        ranking=ranking,
        all_bad=any(vote.is_all_bad for vote in group.votes),
        dimensions={dimension: tiers for dimension, tiers in rankings.items() if tiers},
        strength=main.judgment.strength,
        reason=reasons[0] if reasons else "",
        text=main.text,
        dialogue=main.dialogue,
        broken=main.is_broken,
        rule=main.rule,
        grades=main.grades,
        grade_probabilities=main.grade_probabilities,
        flag=main.flag,
        skipped=main.is_skipped,
        seconds=main.judgment.seconds,
        probability=judgments[0].probability,
        is_consistent=main.judgment.is_consistent,
        probabilities=judgments[0].probabilities,
        marks=votes[0].marks,
    )
    if main.entry == "undo":
        return Answer(), order
    if answer.rule and not answer.skipped and answer.rule != location.rule:
        fault = f"{group.place}: `rule` is {answer.rule!r}, but the item asks about {location.rule!r}"
        raise DataError(f"{fault}. Nothing was added; remove the row, or name the rule in the `fields` of its item.")
    # Another tool may not have asked about all further dimensions.
    answered = replace(
        task, dimensions=(task.dimensions[0], *(dimension for dimension in task.dimensions[1:] if dimension in answer.dimensions))
    )
    try:
        check_answer(answer, answered, len(location.numbers))
        check_criteria(answer, [name for name in location.criteria if name in answer.grades])  # a model may have left some out
    except DataError as error:
        wanted = f"project {batch.project.name!r} asks to {task.kind} on {', '.join(task.dimensions)}"
        raise DataError(f"{group.place}: `{_FIELDS[task.kind]}`: {error} The {wanted}. Nothing was added.") from error
    return answer, order
