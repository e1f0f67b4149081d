"""Standing answers and what was shown, as far as statistics read them: one pass over the tables, without the words that raters wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from palate.core import Comparison, Completion, Prompt
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Gold
from palate.ratings.table_rows import answer_of, gold_of

_ITEMS, _SAID = schema.items, schema.judgments
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class CountedAnswer:
    """A rater's answer that counts: kept, no skip, not taken back. `order` says which candidate stood at each place shown."""

    item: str
    rater: str
    pseudonym: str
    order: tuple[int, ...]
    answer: Answer


@dataclass(frozen=True, slots=True)
class AskedItems:
    """What was asked, removed items left out.

    Attributes:
        comparisons: items and gold of two candidates or more, without their conversations; the qualification is not among them.
        items: ids of those that nobody knows the answer to: what statistics of agreement are of.
        gold: right answers of hidden gold, by id of the item.
    """

    comparisons: tuple[Comparison, ...]
    items: frozenset[str]
    gold: Mapping[str, Gold]


@dataclass(frozen=True, slots=True)
class TestGrade:
    """A state of a project that figures were counted of: equal marks, equal figures.

    Attributes:
        number: of its newest row of judgments, 0 without any.
        id: of the same row: a database put back from a backup has others.
        items: items there are, removed ones left out.
    """

    number: int
    id: str
    items: int


def mark(store: Store, project: str) -> TestGrade:
    """The state of the project now; costs next to nothing."""
    with store.database.read() as connection:
        newest = select(_SAID.c.number, _SAID.c.id).where(_SAID.c.project == project).order_by(_SAID.c.number.desc()).limit(1)
        row = connection.execute(newest).one_or_none()
        items = select(func.count()).select_from(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.removed.is_(None))
        number = connection.execute(items).scalar_one()
    return TestGrade(0, "", number) if row is None else TestGrade(row.number, row.id, number)


def rows_since(store: Store, project: str, number: int) -> int:
    """How many rows of judgments the project got after the one of this number."""
    newer = select(func.count()).select_from(_SAID).where(_SAID.c.project == project, _SAID.c.number > number)
    with store.database.read() as connection:
        return int(connection.execute(newer).scalar_one())


def heard(store: Store, project: str) -> Iterator[CountedAnswer]:
    """The answers that count, in the order they came, all of one moment."""
    gone = select(_SAID.c.supersedes).where(_SAID.c.project == project, _SAID.c.supersedes.is_not(None))
    said = (
        select(_SAID.c.id, _SAID.c.item, _SAID.c.rater, _SAID.c.shown, _SAID.c.answer)
        .where(_SAID.c.project == project, _SAID.c.kind == "answer", _SAID.c.status == "kept", ~_SAID.c.is_skip)
        .order_by(_SAID.c.number)
    )
    with store.database.read() as connection:
        undone = set(connection.execute(gone).scalars())
        names = {row.id: row.pseudonym for row in connection.execute(select(schema.accounts.c.id, schema.accounts.c.pseudonym))}
        for row in connection.execute(said.execution_options(yield_per=_PAGE)):
            if row.id not in undone:
                yield CountedAnswer(row.item, row.rater, names[row.rater], tuple(row.shown), answer_of(row.answer))


def shown(store: Store, project: str) -> AskedItems:
    """What was asked in the project, and the right answers of its hidden gold."""
    found: list[Comparison] = []
    items: set[str] = set()
    gold: dict[str, Gold] = {}
    columns = _ITEMS.c.id, _ITEMS.c.candidates, _ITEMS.c.pool, _ITEMS.c.gold
    there = select(*columns).where(_ITEMS.c.project == project, _ITEMS.c.removed.is_(None), _ITEMS.c.pool != "qualification")
    with store.database.read() as connection:
        for row in connection.execute(there.order_by(_ITEMS.c.number).execution_options(yield_per=_PAGE)):
            right = gold_of(row.gold)
            if row.pool == "items":
                items.add(row.id)
            elif right is not None:
                gold[row.id] = right
            if len(row.candidates) > 1:
                sides = (Completion(one.get("text") or one.get("media", ""), policy=one.get("policy", "")) for one in row.candidates)
                found.append(Comparison(row.id, Prompt(row.id, ()), tuple(sides)))
    return AskedItems(tuple(found), frozenset(items), gold)
