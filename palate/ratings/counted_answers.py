"""What statistics read: standing answers and the items asked, each in one pass over its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from palate.core import Comparison, Completion, Prompt
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Answer, Gold
from palate.ratings.table_rows import answer_of, gold_of, order_of

_ITEMS, _JUDGMENTS = schema.items, schema.judgments
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class CountedAnswer:
    """A rater's answer that counts: it is kept, not a skip, and not taken back.

    `order` gives the candidate at each place shown; None where nobody knows.
    """

    item: str
    rater: str
    pseudonym: str
    order: tuple[int, ...] | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class AskedItems:
    """A project's items without removed and qualification items.

    Attributes:
        comparisons: items and gold with two or more candidates, without their conversations.
        items: ids of the items without a right answer. Statistics of agreement are about these.
        gold: right answers of hidden gold, by the id of the item.
    """

    comparisons: tuple[Comparison, ...]
    items: frozenset[str]
    gold: Mapping[str, Gold]


@dataclass(frozen=True, slots=True)
class ProjectState:
    """The state of a project's answers and items. If two states are equal, figures counted from them are equal.

    Attributes:
        number: number of the newest row of judgments; 0 if there is none.
        id: id of the same row, which differs after a restore from a backup.
        items: number of items, without removed ones.
    """

    number: int
    id: str
    items: int


def project_state(store: Store, project: str) -> ProjectState:
    """Return the state of the project now. It is cheap."""
    with store.database.read() as connection:
        newest = (
            select(_JUDGMENTS.c.number, _JUDGMENTS.c.id)
            .where(_JUDGMENTS.c.project == project)
            .order_by(_JUDGMENTS.c.number.desc())
            .limit(1)
        )
        row = connection.execute(newest).one_or_none()
        query = select(func.count()).select_from(_ITEMS).where(_ITEMS.c.project == project, _ITEMS.c.removed.is_(None))
        num_items = connection.execute(query).scalar_one()
    return ProjectState(0, "", num_items) if row is None else ProjectState(row.number, row.id, num_items)


def num_rows_since(store: Store, project: str, number: int) -> int:
    """Return how many rows of judgments the project got after the row with this number."""
    newer = select(func.count()).select_from(_JUDGMENTS).where(_JUDGMENTS.c.project == project, _JUDGMENTS.c.number > number)
    with store.database.read() as connection:
        return int(connection.execute(newer).scalar_one())


def counted_answers(store: Store, project: str) -> Iterator[CountedAnswer]:
    """Yield the answers that count, in the order they came, all as of one moment."""
    superseded = select(_JUDGMENTS.c.supersedes).where(_JUDGMENTS.c.project == project, _JUDGMENTS.c.supersedes.is_not(None))
    answers = (
        select(_JUDGMENTS.c.id, _JUDGMENTS.c.item, _JUDGMENTS.c.rater, _JUDGMENTS.c.shown, _JUDGMENTS.c.answer)
        .where(_JUDGMENTS.c.project == project, _JUDGMENTS.c.kind == "answer", _JUDGMENTS.c.status == "kept", ~_JUDGMENTS.c.is_skip)
        .order_by(_JUDGMENTS.c.number)
    )
    with store.database.read() as connection:
        undone = set(connection.execute(superseded).scalars())
        pseudonyms = {row.id: row.pseudonym for row in connection.execute(select(schema.accounts.c.id, schema.accounts.c.pseudonym))}
        for row in connection.execute(answers.execution_options(yield_per=_PAGE)):
            if row.id not in undone:
                yield CountedAnswer(row.item, row.rater, pseudonyms[row.rater], order_of(row.shown), answer_of(row.answer))


def asked_items(store: Store, project: str) -> AskedItems:
    """Return the items that the project asks about, and the right answers of its hidden gold."""
    comparisons: list[Comparison] = []
    items: set[str] = set()
    gold: dict[str, Gold] = {}
    columns = _ITEMS.c.id, _ITEMS.c.candidates, _ITEMS.c.pool, _ITEMS.c.gold
    query = select(*columns).where(_ITEMS.c.project == project, _ITEMS.c.removed.is_(None), _ITEMS.c.pool != "qualification")
    with store.database.read() as connection:
        for row in connection.execute(query.order_by(_ITEMS.c.number).execution_options(yield_per=_PAGE)):
            right = gold_of(row.gold)
            if row.pool == "items":
                items.add(row.id)
            elif right is not None:
                gold[row.id] = right
            if len(row.candidates) > 1:
                completions = tuple(map(_completion, row.candidates))
                comparisons.append(Comparison(row.id, Prompt(row.id, ()), completions))
    return AskedItems(tuple(comparisons), frozenset(items), gold)


def _completion(candidate: Mapping[str, str]) -> Completion:
    return Completion(candidate.get("text") or candidate.get("media", ""), policy=candidate.get("policy", ""))
