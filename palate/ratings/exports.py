"""A project as an `Exchange`: everything about its questions and answers, and nothing about people but pseudonym and kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Row, select

from palate.core import Judgment
from palate.data.exchange import Exchange, ExchangeItem, GuidelineText, RaterInfo, Task, Vote
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer
from palate.ratings.items import is_ranking
from palate.ratings.projects import find_project
from palate.ratings.table_rows import answer_of, item_of, rule_of


def as_exchange(store: Store, project: str) -> Exchange:
    """The project as it was at one moment: settings, every version of the guidelines, items (removed ones, too), every row of judgments.

    Left behind are names, passwords and whatever else says who a rater is; members who said nothing; open leases; and what
    `set_scores` wrote, which a training run writes again. An answer on several dimensions is a vote on each.
    Half a surrogate pair, which no UTF-8 file can hold, becomes a question mark.

    Raises:
        DataError: there is no such project.
    """
    said, people, later = schema.judgments, schema.accounts, schema.judgments.alias()
    answers = (
        select(said, people.c.pseudonym, people.c.kind.label("who"), later.c.id.label("later"))
        .join(people, people.c.id == said.c.rater)
        .outerjoin(later, later.c.supersedes == said.c.id)
        .where(said.c.project == project)
        .order_by(said.c.number)
    )
    guides = select(schema.guidelines).where(schema.guidelines.c.project == project).order_by(schema.guidelines.c.version)
    asked = select(schema.items).where(schema.items.c.project == project).order_by(schema.items.c.number)
    with store.database.read() as connection:
        found = find_project(connection, project)
        raters: dict[str, RaterInfo] = {}
        votes: list[Vote] = []
        for row in map(_writable, connection.execute(answers)):
            raters.setdefault(row.pseudonym, RaterInfo(row.pseudonym, row.who))
            votes.extend(_votes(row, found.task))
        return Exchange(
            items=tuple(_item(row, found.task) for row in map(_writable, connection.execute(asked))),
            votes=tuple(votes),
            raters=tuple(raters.values()),
            guidelines=tuple(
                GuidelineText(str(row.version), row.text, row.warning, float(row.created)) for row in connection.execute(guides)
            ),
            name=found.name,
            project=replace(found, id=""),
        )


def _writable(row: Row[Any]) -> Any:
    """The row, with its JSON as UTF-8 can hold it."""
    values = {name: value for name, value in row._mapping.items() if isinstance(value, dict | list)}
    said = json.dumps(values, ensure_ascii=False)
    try:
        said.encode("utf-8")
    except UnicodeEncodeError:
        return SimpleNamespace(**{**row._mapping, **json.loads(said.encode("utf-8", "replace"))})
    return row


def _item(row: Any, task: Task) -> ExchangeItem:
    item = item_of(row)
    rule = rule_of(task, item.fields, item.id)  # drawn by the id, which may be another one elsewhere
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


def _votes(row: Any, task: Task) -> Iterator[Vote]:
    """The row's votes: what it says as a whole stands in the first, on the task's first dimension."""
    answer, order = answer_of(row.answer), tuple(row.shown)
    judgment = Judgment(
        comparison=row.item,
        rater=row.pseudonym,
        ranking=_sound(answer, task.dimensions[0], order),
        dimension=task.dimensions[0],
        order=order,
        strength=_number(answer.strength),
        reason=answer.reason,
        seconds=_number(answer.seconds),
        guideline=str(row.guideline) if row.guideline else "",
    )
    head = Vote(
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
    whole = replace(head, flag=answer.flag, text=answer.text, is_broken=answer.broken, rule=answer.rule, dialogue=answer.dialogue)
    yield whole
    for dimension in answer.dimensions:
        if ranking := _sound(answer, dimension, order):
            yield replace(
                head,
                judgment=replace(judgment, ranking=ranking, dimension=dimension, strength=None),
                id=f"{row.id}/{dimension}",
                answer=row.id,
                supersedes="",
            )


def _sound(answer: Answer, dimension: str, order: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The ranking on this dimension; empty where there is none, or where a skip that an older version took holds half of one."""
    ranking = answer.dimensions.get(dimension, answer.ranking)
    return ranking if is_ranking(ranking, len(order)) else ()


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
