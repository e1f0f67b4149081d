"""Answers read back: rows, core nouns for export and training, and what raters do not agree about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from palate.core import Comparison, Completion, Judgment, Prompt
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Gold, Item, JudgmentEntry, Project, Tiers
from palate.ratings.items import PAGE, all_items
from palate.ratings.table_rows import answer_of

_SAID = schema.judgments

Vote = tuple[object, ...]
"""What an answer says, in candidate numbers, so that answers can be compared whatever the order shown."""


def judgments(store: Store, project: str) -> Iterator[JudgmentEntry]:
    """Every row of the project, in the order they came: answers kept and surplus, skips, undos, adjudications."""
    last = 0
    while True:
        page = _rows().where(_SAID.c.project == project, _SAID.c.number > last).order_by(_SAID.c.number).limit(PAGE)
        with store.database.read() as connection:
            rows = connection.execute(page).all()
        yield from map(_entry, rows)
        if len(rows) < PAGE:
            return
        last = rows[-1].number


def judgments_of(store: Store, item: str) -> tuple[JudgmentEntry, ...]:
    """Every row about one item, in the order they came. Not for the eyes of raters who have yet to answer."""
    with store.database.read() as connection:
        return tuple(map(_entry, connection.execute(_rows().where(_SAID.c.item == item).order_by(_SAID.c.number))))


def as_comparisons(
    store: Store, project: str, *, surplus: bool = False, overruled: bool = False
) -> tuple[list[Comparison], list[Judgment]]:
    """The project's items as comparisons, and the rankings that stand as judgments, raters by pseudonym; one judgment an dimension.

    A reviewer's decision stands in place of what raters said of its item, and the last one in place of former ones. Gold and the
    qualification test raters, and are left out, as are skips and answers that rank nothing; "all bad" is a tie of all. A comparison's
    completions stand in the item's own order, `Judgment.order` says which stood where.

    Args:
        store: the ratings.
        project: its id.
        surplus: surplus answers, too.
        overruled: raters' judgments of items that were decided, too, beside the decision, which `is_decision` tells apart.
    """
    task = _task_axes(store, project)
    compared = [_comparison(item) for item in all_items(store, project) if len(item.candidates) > 1 and item.gold is None]
    known = {comparison.id for comparison in compared}
    said: list[Judgment] = []
    decided: dict[str, list[Judgment]] = {}
    for entry in judgments(store, project):
        if entry.is_standing and not entry.answer.skipped and entry.item in known and (surplus or entry.status == "kept"):
            told = judgments_of_answer(entry.item, entry.pseudonym, entry.order, entry.answer, task, str(entry.guideline))
            if entry.kind == "adjudication":
                decided[entry.item] = [replace(one, is_decision=True) for one in told]
            else:
                said.extend(told)
    kept = said if overruled else [one for one in said if one.comparison not in decided]
    return compared, [*kept, *(one for told in decided.values() for one in told)]


def undecided(store: Store, project: str) -> tuple[str, ...]:
    """Ids of the items with all their votes, no majority among them and no adjudication."""
    table = schema.items
    with store.database.read() as connection:
        full = select(table.c.id, table.c.wanted).where(table.c.project == project, table.c.pool == "items", table.c.removed.is_(None))
        wanted: dict[str, int] = {row.id: row.wanted for row in connection.execute(full.order_by(table.c.number))}
        open_ones = undecided_of(connection, project, set(wanted))
    return tuple(item for item, places in wanted.items() if open_ones.get(item, 0) >= places)


def undecided_of(connection: Connection, project: str, items: Collection[str]) -> dict[str, int]:
    """Of these items those with neither a majority nor an adjudication, and how many votes each has."""
    said: dict[str, list[Vote]] = {item: [] for item in items}
    columns = _SAID.c.item, _SAID.c.shown, _SAID.c.answer, _SAID.c.kind
    counted = (_SAID.c.status == "kept") & ~_SAID.c.is_skip | (_SAID.c.kind == "adjudication")
    rows = _standing().with_only_columns(*columns, maintain_column_froms=True).where(_SAID.c.project == project, counted)
    for item, order, answer, kind in connection.execute(rows.execution_options(yield_per=PAGE)) if said else ():
        if kind == "adjudication":
            said.pop(item, None)
        elif item in said:
            said[item].append(vote_of(answer_of(answer), tuple(order)))
    return {item: len(cast) for item, cast in said.items() if not has_majority(cast)}


def ask_more(connection: Connection, project: Project, item: str) -> None:
    """Nothing; the item has as many places as its votes call for: one more while they are all in and none has more than half.

    Gold items have no places, so nothing changes.
    """
    if project.max_overlap <= project.overlap:
        return
    table = schema.items
    # No place may be taken between counting the votes and writing the number of places.
    row = connection.execute(select(table).where(table.c.id == item).with_for_update(key_share=True)).one()
    if row.pool != "items":
        return
    votes = _cast(connection.execute(_standing().where(_SAID.c.item == item)).all())
    wanted = project.overlap if has_majority(votes) or len(votes) < project.overlap else min(len(votes) + 1, project.max_overlap)
    connection.execute(update(table).where(table.c.id == item).values(wanted=max(wanted, row.taken)))


def has_majority(votes: list[Vote]) -> bool:
    """Whether more than half of the votes say the same; of a single vote, whether it is there."""
    return bool(votes) and max(Counter(votes).values()) * 2 > len(votes)


def vote_of(answer: Answer, order: tuple[int, ...]) -> Vote:
    """What the answer says on the first dimension, in candidate numbers."""
    if answer.all_bad:
        return ("all bad",)
    if answer.broken is not None:
        return ("rule", answer.broken)  # which rule that is, the item says
    return tuple(tuple(sorted(order[place] for place in tier)) for tier in answer.ranking)


def is_right(answer: Answer, order: tuple[int, ...], gold: Gold | None) -> bool:
    """Whether the answer is the right one: the same yes or no, or on the first dimension the same ranking."""
    if gold is None or isinstance(gold, bool):
        return gold is not None and answer.broken is gold
    return vote_of(answer, order) == tuple(tuple(sorted(tier)) for tier in gold)


def _cast(rows: Any) -> list[Vote]:
    """Votes of the raters asked, without surplus, skips and adjudications."""
    counted = (row for row in rows if row.kind == "answer" and row.status == "kept" and not row.is_skip)
    return [vote_of(answer_of(row.answer), tuple(row.shown)) for row in counted]


def _rows() -> Select[Any]:
    later = _SAID.alias()
    return (
        select(_SAID, schema.accounts.c.pseudonym, later.c.id.label("later"))
        .join(schema.accounts, schema.accounts.c.id == _SAID.c.rater)
        .outerjoin(later, later.c.supersedes == _SAID.c.id)
    )


def _standing() -> Select[Any]:
    later = _SAID.alias()
    return select(_SAID).outerjoin(later, later.c.supersedes == _SAID.c.id).where(later.c.id.is_(None), _SAID.c.kind != "undo")


def _entry(row: Row[Any]) -> JudgmentEntry:
    return JudgmentEntry(
        id=row.id,
        number=row.number,
        project=row.project,
        item=row.item,
        assignment=row.assignment or "",
        rater=row.rater,
        pseudonym=row.pseudonym,
        order=tuple(row.shown),
        answer=answer_of(row.answer),
        status=row.status,
        kind=row.kind,
        supersedes=row.supersedes or "",
        guideline=row.guideline,
        created=row.created,
        is_standing=row.kind != "undo" and row.later is None,
    )


def _task_axes(store: Store, project: str) -> str:
    with store.database.read() as connection:
        task: Mapping[str, Any] = connection.execute(select(schema.projects.c.task).where(schema.projects.c.id == project)).scalar_one()
    return str(task["dimensions"][0])


def _comparison(item: Item) -> Comparison:
    completions = tuple(
        Completion(candidate.text or candidate.media, policy=candidate.policy, tool_fields=candidate.tool_fields)
        for candidate in item.candidates
    )
    return Comparison(item.id, Prompt(item.id, item.conversation, item.fields), completions)


def judgments_of_answer(
    item: str, rater: str, order: tuple[int, ...], answer: Answer, dimension: str, guideline: str = ""
) -> list[Judgment]:
    """A judgment for each dimension on which the answer ranks; its main ranking is on `dimension`, and "all bad" there is a tie of all.

    The strength was asked of the main ranking alone.
    """
    places = tuple(range(len(order)))
    rankings: dict[str, Tiers] = {dimension: answer.ranking or ((places,) if answer.all_bad else ()), **answer.dimensions}
    return [
        Judgment(
            item, rater, ranking, name, order, answer.strength if name == dimension else None, answer.reason, answer.seconds, guideline
        )
        for name, ranking in rankings.items()
        if ranking
    ]
