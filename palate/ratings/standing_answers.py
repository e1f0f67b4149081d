"""Reading answers: rows, comparisons and judgments for export and training, and items about which raters disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from palate.core import Comparison, Completion, Judgment, Prompt
from palate.data.pseudonyms import masked
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Gold, Item, JudgmentEntry, Project, Tiers
from palate.ratings.items import PAGE, all_items
from palate.ratings.table_rows import answer_of, order_of

_JUDGMENTS = schema.judgments

Vote = tuple[object, ...]
"""An answer in candidate numbers, so that answers can be compared whatever the order shown."""


def judgments(store: Store, project: str) -> Iterator[JudgmentEntry]:
    """Yield every row of the project in the order they came: kept and surplus answers, skips, undos, adjudications."""
    last = 0
    while True:
        page = _rows().where(_JUDGMENTS.c.project == project, _JUDGMENTS.c.number > last).order_by(_JUDGMENTS.c.number).limit(PAGE)
        with store.database.read() as connection:
            rows = connection.execute(page).all()
        yield from map(_entry, rows)
        if len(rows) < PAGE:
            return
        last = rows[-1].number


def judgments_of(store: Store, item: str) -> tuple[JudgmentEntry, ...]:
    """Return every row about one item in the order they came. Do not show them to raters who have not answered yet."""
    with store.database.read() as connection:
        return tuple(map(_entry, connection.execute(_rows().where(_JUDGMENTS.c.item == item).order_by(_JUDGMENTS.c.number))))


def as_comparisons(
    store: Store, project: str, *, surplus: bool = False, overruled: bool = False
) -> tuple[list[Comparison], list[Judgment]]:
    """Return the project's items as comparisons, and the standing rankings as judgments: one per answer and dimension.

    Judgments name raters by pseudonym. A reviewer's last decision replaces the raters' judgments of its item. Gold and qualification items
    test raters and are left out, as are skips and answers that do not rank anything. "All bad" is a tie of all. A comparison's completions
    are in the item's own order, and `Judgment.order` says which stood where, if anybody knows.

    Args:
        store: the ratings.
        project: its id.
        surplus: include surplus answers.
        overruled: include raters' judgments of items that have a decision. `Judgment.is_decision` tells the two apart.
    """
    main_dimension = _main_dimension(store, project)
    comparisons = [_comparison(item) for item in all_items(store, project) if len(item.candidates) > 1 and item.gold is None]
    known = {comparison.id: comparison for comparison in comparisons}
    answered: list[Judgment] = []
    decided: dict[str, list[Judgment]] = {}
    for entry in judgments(store, project):
        if entry.is_standing and not entry.answer.skipped and entry.item in known and (surplus or entry.status == "kept"):
            rankings = judgments_of_answer(
                known[entry.item], masked(entry.pseudonym), entry.order, entry.answer, main_dimension, str(entry.guideline)
            )
            if entry.kind == "adjudication":
                decided[entry.item] = [replace(judgment, is_decision=True) for judgment in rankings]
            else:
                answered.extend(rankings)
    kept = answered if overruled else [judgment for judgment in answered if judgment.comparison not in decided]
    return comparisons, [*kept, *(judgment for decision in decided.values() for judgment in decision)]


def undecided_items(store: Store, project: str) -> tuple[str, ...]:
    """Return the ids of the items whose votes are all in, without a majority and without an adjudication."""
    table = schema.items
    with store.database.read() as connection:
        full = select(table.c.id, table.c.wanted).where(table.c.project == project, table.c.pool == "items", table.c.removed.is_(None))
        wanted: dict[str, int] = {row.id: row.wanted for row in connection.execute(full.order_by(table.c.number))}
        num_votes = undecided_votes(connection, project, set(wanted))
    return tuple(item for item, places in wanted.items() if num_votes.get(item, 0) >= places)


def undecided_votes(connection: Connection, project: str, items: Collection[str]) -> dict[str, int]:
    """Return how many votes each of these items has, for those with neither a majority nor an adjudication."""
    votes: dict[str, list[Vote]] = {item: [] for item in items}
    columns = _JUDGMENTS.c.item, _JUDGMENTS.c.shown, _JUDGMENTS.c.answer, _JUDGMENTS.c.kind
    counted = (_JUDGMENTS.c.status == "kept") & ~_JUDGMENTS.c.is_skip | (_JUDGMENTS.c.kind == "adjudication")
    rows = _standing().with_only_columns(*columns, maintain_column_froms=True).where(_JUDGMENTS.c.project == project, counted)
    for item, order, answer, kind in connection.execute(rows.execution_options(yield_per=PAGE)) if votes else ():
        if kind == "adjudication":
            votes.pop(item, None)
        elif item in votes:
            votes[item].append(vote_of(answer_of(answer), order_of(order)))
    return {item: len(cast) for item, cast in votes.items() if not has_majority(cast)}


def update_wanted(connection: Connection, project: Project, item: str) -> None:
    """Give the item as many places as its votes need: one more while all votes are in and no answer has more than half of them.

    Gold items do not have places, so they do not change.
    """
    if project.max_overlap <= project.overlap:
        return
    table = schema.items
    # No place may be taken between counting the votes and writing the number of places.
    row = connection.execute(select(table).where(table.c.id == item).with_for_update(key_share=True)).one()
    if row.pool != "items":
        return
    votes = _cast(connection.execute(_standing().where(_JUDGMENTS.c.item == item)).all())
    wanted = project.overlap if has_majority(votes) or len(votes) < project.overlap else min(len(votes) + 1, project.max_overlap)
    connection.execute(update(table).where(table.c.id == item).values(wanted=max(wanted, row.taken)))


def has_majority(votes: list[Vote]) -> bool:
    """Return whether more than half of the votes are the same. A single vote is a majority."""
    return bool(votes) and max(Counter(votes).values()) * 2 > len(votes)


def vote_of(answer: Answer, order: tuple[int, ...] | None) -> Vote:
    """Return the answer on the first dimension in candidate numbers."""
    if answer.all_bad:
        return ("all bad",)
    if answer.broken is not None:
        return ("rule", answer.broken)  # the item says which rule
    if answer.grades:
        return ("grades", *sorted(answer.grades.items()))
    return tuple(tuple(sorted(tier if order is None else (order[place] for place in tier))) for tier in answer.ranking)


def is_right(answer: Answer, order: tuple[int, ...] | None, gold: Gold | None) -> bool:
    """Return whether the answer is the right one: the same yes or no, or the same ranking on the first dimension."""
    if gold is None or isinstance(gold, bool):
        return gold is not None and answer.broken is gold
    return vote_of(answer, order) == tuple(tuple(sorted(tier)) for tier in gold)


def _cast(rows: Any) -> list[Vote]:
    """Return the raters' votes in these rows, without surplus answers, skips and adjudications."""
    counted = (row for row in rows if row.kind == "answer" and row.status == "kept" and not row.is_skip)
    return [vote_of(answer_of(row.answer), order_of(row.shown)) for row in counted]


def _rows() -> Select[Any]:
    later = _JUDGMENTS.alias()
    return (
        select(_JUDGMENTS, schema.accounts.c.pseudonym, later.c.id.label("later"))
        .join(schema.accounts, schema.accounts.c.id == _JUDGMENTS.c.rater)
        .outerjoin(later, later.c.supersedes == _JUDGMENTS.c.id)
    )


def _standing() -> Select[Any]:
    later = _JUDGMENTS.alias()
    return (
        select(_JUDGMENTS).outerjoin(later, later.c.supersedes == _JUDGMENTS.c.id).where(later.c.id.is_(None), _JUDGMENTS.c.kind != "undo")
    )


def _entry(row: Row[Any]) -> JudgmentEntry:
    return JudgmentEntry(
        id=row.id,
        number=row.number,
        project=row.project,
        item=row.item,
        assignment=row.assignment or "",
        rater=row.rater,
        pseudonym=row.pseudonym,
        order=order_of(row.shown),
        answer=answer_of(row.answer),
        status=row.status,
        kind=row.kind,
        supersedes=row.supersedes or "",
        guideline=row.guideline,
        created=row.created,
        is_standing=row.kind != "undo" and row.later is None,
    )


def _main_dimension(store: Store, project: str) -> str:
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
    comparison: Comparison, rater: str, order: tuple[int, ...] | None, answer: Answer, dimension: str, guideline: str = ""
) -> list[Judgment]:
    """Return one judgment of the comparison for each dimension on which the answer ranks.

    The main ranking is on `dimension`, where "all bad" is a tie of all. Strength and probability belong only to it.
    """
    places = tuple(range(len(comparison.completions)))
    rankings: dict[str, Tiers] = {dimension: answer.ranking or ((places,) if answer.all_bad else ()), **answer.dimensions}
    return [
        Judgment(
            comparison=comparison.id,
            rater=rater,
            ranking=ranking,
            dimension=name,
            order=order,
            strength=answer.strength if name == dimension else None,
            reason=answer.reason,
            seconds=answer.seconds,
            guideline=guideline,
            probability=answer.probability if name == dimension else None,
            is_consistent=answer.is_consistent if name == dimension else None,
            probabilities=answer.probabilities if name == dimension else (),
        )
        for name, ranking in rankings.items()
        if ranking
    ]
