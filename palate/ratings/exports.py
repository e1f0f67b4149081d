"""Exporting a project as an `Exchange`: all its questions and answers, and only the pseudonym and kind of its raters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Row, select

from palate.core import Judgment
from palate.data.exchange import Exchange, ExchangeItem, GuidelineText, RaterInfo, Task, Vote
from palate.data.pseudonyms import masked
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer
from palate.ratings.projects import find_project
from palate.ratings.table_rows import answer_of, item_of, order_of, rule_of
from palate.ratings.validation import is_ranking


def as_exchange(store: Store, project: str) -> Exchange:
    """Return the project as it was at one moment: settings, all guidelines, all items and removed items, and every row of judgments.

    It leaves out names, passwords and whatever else identifies a rater, members who did not answer, open leases, and what `set_scores`
    wrote. An answer on several dimensions is one vote on each. Half of a surrogate pair, which a UTF-8 file cannot hold, becomes a question
    mark.

    Raises:
        DataError: the project does not exist.
    """
    judgments, accounts, later = schema.judgments, schema.accounts, schema.judgments.alias()
    answers = (
        select(judgments, accounts.c.pseudonym, accounts.c.kind.label("rater_kind"), later.c.id.label("later"))
        .join(accounts, accounts.c.id == judgments.c.rater)
        .outerjoin(later, later.c.supersedes == judgments.c.id)
        .where(judgments.c.project == project)
        .order_by(judgments.c.number)
    )
    guidelines = select(schema.guidelines).where(schema.guidelines.c.project == project).order_by(schema.guidelines.c.version)
    items = select(schema.items).where(schema.items.c.project == project).order_by(schema.items.c.number)
    with store.database.read() as connection:
        settings = find_project(connection, project)
        raters: dict[str, RaterInfo] = {}
        votes: list[Vote] = []
        for row in map(_writable, connection.execute(answers)):
            rater = masked(row.pseudonym, row.rater_kind)
            raters.setdefault(rater, RaterInfo(rater, row.rater_kind))
            votes.extend(_votes(row, rater, settings.task))
        return Exchange(
            items=tuple(_item(row, settings.task) for row in map(_writable, connection.execute(items))),
            votes=tuple(votes),
            raters=tuple(raters.values()),
            guidelines=tuple(
                GuidelineText(str(row.version), row.text, row.warning, float(row.created)) for row in connection.execute(guidelines)
            ),
            name=settings.name,
            project=replace(settings, id=""),
        )


def _writable(row: Row[Any]) -> Any:
    """Return the row with JSON values that UTF-8 can hold."""
    values = {name: value for name, value in row._mapping.items() if isinstance(value, dict | list)}
    encoded = json.dumps(values, ensure_ascii=False)
    try:
        encoded.encode("utf-8")
    except UnicodeEncodeError:
        return SimpleNamespace(**{**row._mapping, **json.loads(encoded.encode("utf-8", "replace"))})
    return row


def _item(row: Any, task: Task) -> ExchangeItem:
    item = item_of(row)
    rule = rule_of(task, item.fields, item.id)  # drawn by the id, which may differ in another database
    return ExchangeItem(
        id=item.id,
        conversation=item.conversation,
        candidates=item.candidates,
        task=task.kind,
        stratum=item.stratum,
        gold=item.gold,
        is_qualification=item.is_qualification,
        selection_probability=item.selection_probability,
        fields={**item.fields, **({"rule": rule} if rule else {})},
        policy=item.policy,
        created=float(row.created),
        removed=row.removed,
    )


def _votes(row: Any, rater: str, task: Task) -> Iterator[Vote]:
    """Yield the row's votes. The first is on the task's first dimension and holds everything that belongs to the whole answer."""
    answer, order = answer_of(row.answer), order_of(row.shown)
    judgment = Judgment(
        comparison=row.item,
        rater=rater,
        ranking=_ranking(answer, task.dimensions[0], order),
        dimension=task.dimensions[0],
        order=order,
        strength=_number(answer.strength),
        reason=answer.reason,
        seconds=_number(answer.seconds),
        guideline=str(row.guideline) if row.guideline else "",
        probability=_number(answer.probability),
        is_consistent=answer.is_consistent,
        probabilities=tuple(map(float, answer.probabilities)),
    )
    vote = Vote(
        judgment,
        id=row.id,
        time=float(row.created),
        status="superseded" if row.later is not None else row.status,
        is_all_bad=answer.all_bad,
        is_skipped=answer.skipped,
        entry=row.kind,
        supersedes=row.supersedes or "",
        was_surplus=row.later is not None and row.status == "surplus",
    )
    probabilities = {name: float(one) for name, one in answer.grade_probabilities.items()}
    vote = replace(vote, grades=answer.grades, grade_probabilities=probabilities, marks=tuple(map(float, answer.marks)))
    yield replace(vote, flag=answer.flag, text=answer.text, is_broken=answer.broken, rule=answer.rule, dialogue=answer.dialogue)
    for dimension in answer.dimensions:
        if ranking := _ranking(answer, dimension, order):
            yield replace(
                vote,
                judgment=Judgment(
                    row.item,
                    rater,
                    ranking,
                    dimension,
                    order,
                    reason=judgment.reason,
                    seconds=judgment.seconds,
                    guideline=judgment.guideline,
                ),
                marks=(),
                id=f"{row.id}/{dimension}",
                answer=row.id,
                supersedes="",
            )


def _ranking(answer: Answer, dimension: str, order: tuple[int, ...] | None) -> tuple[tuple[int, ...], ...]:
    """Return the ranking on this dimension. It is empty if there is none, or if a skip of an older version holds half of one."""
    ranking = answer.dimensions.get(dimension, answer.ranking)
    return ranking if is_ranking(ranking, sum(map(len, ranking)) if order is None else len(order)) else ()


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
