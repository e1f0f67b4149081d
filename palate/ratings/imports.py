"""An `Exchange` into a project: everything it says or, where anything is at fault, nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from palate.core import ConfigError, DataError
from palate.data import exchange as outside
from palate.data.cells import one_line
from palate.data.exchange import Exchange
from palate.data.exchange.contents import SHOWN, is_shown
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Candidate, Item, Project, Task, TaskKind
from palate.ratings.import_batch import ImportBatch, ItemLocation, check_time, insert_said
from palate.ratings.items import PAGE, Fresh, check_item, insert_items, same_questions
from palate.ratings.projects import check_project
from palate.ratings.table_rows import digest, is_text, project_of, rule_of

SOURCE_ID = "source_id"
"""The field of an item that keeps what its file called it, where that is no id of a database."""

_OWN = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_exchange` did.

    Attributes:
        items: ids of the items added, in order; `known_items` were there already.
        judgments: rows of judgments added; `known_judgments` were there already.
        surplus: of those added, answers beyond the one that a rater can give to an item.
        raters: accounts made.
    """

    project: Project
    items: tuple[str, ...]
    known_items: int
    judgments: int
    known_judgments: int
    surplus: int
    raters: int

    def __str__(self) -> str:
        """In words."""
        parts = [f"{len(self.items)} items added to {self.project.name!r}, {self.known_items} were there already"]
        if self.judgments or self.known_judgments:
            extra = f" ({self.surplus} of them surplus: second answers of a rater to an item)" if self.surplus else ""
            parts.append(f"{self.judgments} judgments{extra} by {self.raters} new raters, {self.known_judgments} were there already")
        return "; ".join(parts)


def import_exchange(store: Store, exchange: Exchange, name: str, now: float) -> Imported:
    """What was added to the project of that name, in one transaction; the project is made where there is none.

    An item is there already when the project has its id, or one with the same conversation and candidates in any order. A judgment is,
    when the project has its id, or the same one was imported before. Raters become accounts by pseudonym that nobody can sign in with;
    one that the database knows is that account. A project that is there keeps its settings and guidelines.

    Args:
        store: the ratings.
        exchange: what a file said.
        name: of the project.
        now: the time, for what has none of its own.

    Raises:
        DataError: an item or a judgment does not fit the project; the message names row and field. Nothing was added.
    """
    if not is_text(name):
        raise DataError(f"The project's name {name!r} holds a character that a database cannot. Choose another.")

    def work(connection: Connection) -> Imported:
        project, versions = _project(connection, store, exchange, name, now)
        places, fresh = _places(connection, store, exchange, project, now)
        insert_items(connection, project, fresh)
        done = insert_said(connection, store, ImportBatch(exchange, project, places, versions, now))
        known = len(exchange.items) - len(fresh)
        return Imported(project, tuple(one.id for one in fresh), known, done.judgments, done.known, done.surplus, done.raters)

    try:
        return store.database.run(work)
    except DataError as error:
        raise DataError(one_line(str(error))) from error
    except IntegrityError as error:
        raise ConfigError(f"Project {name!r}: somebody else wrote the same at the same moment ({error.orig}). Try again.") from error


def _project(connection: Connection, store: Store, exchange: Exchange, name: str, now: float) -> tuple[Project, Mapping[str, int]]:
    """The project, its row locked, and the number there of each version of the file's guidelines."""
    table, guides = schema.projects, schema.guidelines
    # Whoever adds to one project takes turns.
    row = connection.execute(select(table).where(table.c.name == name).with_for_update()).one_or_none()
    if row is not None:
        known = connection.execute(select(guides).where(guides.c.project == row.id).order_by(guides.c.version)).all()
        numbers = {(one.text, one.warning): one.version for one in known}
        return project_of(row), {one.version: numbers.get((one.text, one.warning), 0) for one in exchange.guidelines}
    settings = exchange.project or outside.Project(name, _task(exchange), created=now)
    made = replace(settings, name=name, id=store.database.identify(), max_overlap=max(settings.max_overlap, settings.overlap))
    try:
        check_project(made)
    except ConfigError as error:
        raise DataError(f"{exchange.places.project or 'The file'}: {error}") from error
    check_time(made.created, "created", exchange.places.project or "The file")
    connection.execute(insert(table).values(asdict(made)))
    versions = exchange.guidelines or (outside.GuidelineText("1", ""),)
    for number, one in enumerate(versions, start=1):
        place = f"guideline {one.version!r}"
        check_time(one.created, "created", place)
        if not (is_text(one.text) and is_text(one.warning)):
            raise DataError(f"{place}: `text` or `warning` holds a NUL character. Take it out.")
        created = now if one.created is None else one.created
        connection.execute(insert(guides).values(project=made.id, version=number, text=one.text, warning=one.warning, created=created))
    return made, {one.version: number for number, one in enumerate(versions, start=1)}


def _task(exchange: Exchange) -> Task:
    """What the file's items ask, as far as they tell.

    Raises:
        DataError: they ask different things, or break rules that nobody named.
    """
    kinds: dict[TaskKind, int] = {item.task: number for number, item in reversed(list(enumerate(exchange.items)))}
    if set(kinds) == {"compare", "rank"}:
        del kinds["compare"]
    if len(kinds) > 1:
        told = "; ".join(f"{exchange.item_place(number)} is to {kind}" for kind, number in kinds.items())
        raise DataError(f"`task`: a project asks one thing of all its items, but {told}. Import them into a project each.")
    kind: TaskKind = next(iter(kinds), "compare")
    if kind in {"rule", "probe"}:
        raise DataError(
            f"{exchange.item_place(0)}: `candidates` holds {len(exchange.items[0].candidates)}, so it asks about a rule ({kind}), and "
            "the file names no rules. Make the project with its rules first; to compare takes two candidates."
        )
    judged = [vote for vote in exchange.votes if vote.entry != "undo"]
    asked = dict.fromkeys(vote.judgment.dimension for vote in judged)
    by_answers = sorted(asked, key=lambda name: (name != "overall", -sum(vote.judgment.dimension == name for vote in judged)))
    has_strength = any(vote.judgment.strength is not None for vote in judged)
    return Task(kind, tuple(by_answers) or ("overall",), all_bad=True, strength=has_strength)


def _places(
    connection: Connection, store: Store, exchange: Exchange, project: Project, now: float
) -> tuple[dict[str, ItemLocation], list[Fresh]]:
    """What each item of the file is in the project, and those that are new there."""
    items = [_item(exchange, number, project.task) for number in range(len(exchange.items))]
    marks = [digest(item, project.task) for item in items]
    table = schema.items
    named = _found(connection, table.c.id, [item.id for item in items if _OWN.fullmatch(item.id)])
    taken, mine = {row.id for row in named}, {row.id: row for row in named if row.project == project.id}
    known: dict[str, tuple[str, Sequence[Candidate], Mapping[str, object]]] = {
        mark: (row.id, tuple(Candidate(**one) for one in row.candidates), row.fields)
        for mark, row in same_questions(connection, project, items).items()
    }
    places: dict[str, ItemLocation] = {}
    fresh: list[Fresh] = []
    for number, (item, mark) in enumerate(zip(items, marks, strict=True)):
        if item.id in mine:
            theirs = [Candidate(**one) for one in mine[item.id].candidates]
            if [one.text + one.media for one in theirs] != [one.text + one.media for one in item.candidates]:
                raise DataError(f"{exchange.item_place(number)}: `id` {item.id!r} names an item of the project with other candidates.")
            places[item.id] = ItemLocation(item.id, tuple(range(len(theirs))), rule_of(project.task, mine[item.id].fields, item.id))
            continue
        if mark not in known:
            is_own = _OWN.fullmatch(item.id) is not None and item.id not in taken
            kept = replace(item, id=item.id if is_own else store.database.identify())
            source = exchange.items[number]
            if not is_own and not exchange.item_place(number).endswith(f"/{item.id}") and exchange.item_place(number) != item.id:
                kept = replace(kept, fields={**item.fields, SOURCE_ID: item.fields.get(SOURCE_ID, item.id)})
            created = now if source.created is None else source.created
            fresh.append(Fresh(kept, kept.id, mark, created, source.removed))
            known[mark] = kept.id, item.candidates, kept.fields
        identity, theirs_in_order, fields = known[mark]
        numbers = tuple(list(theirs_in_order).index(one) for one in item.candidates)
        places[item.id] = ItemLocation(identity, numbers, rule_of(project.task, fields, identity))
    return places, fresh


def _item(exchange: Exchange, number: int, task: Task) -> Item:
    """The item of this number as the store has it. Raises DataError where it does not fit the task."""
    said, place = exchange.items[number], exchange.item_place(number)
    newest = said.candidates[-1].policy if said.candidates else ""
    item = Item(
        conversation=said.conversation,
        candidates=said.candidates,
        fields=said.fields,
        stratum=said.stratum,
        policy=newest if said.policy is None else said.policy,
        gold=said.gold,
        is_qualification=said.is_qualification,
        id=said.id,
        selection_probability=said.selection_probability,
    )
    check_item(item, task, place)
    if odd := [one.media for one in said.candidates if one.media and not is_shown(one.media)]:
        raise DataError(f"{place}, candidates: {odd[0]!r} is no path inside the media folder that ends in {', '.join(SHOWN)}.")
    for field, time in (("created", said.created), ("removed", said.removed)):
        check_time(time, field, place)
    return item


def _found(connection: Connection, column: Any, values: Sequence[str]) -> list[Any]:
    """Items with one of the values in the column."""
    table = schema.items
    rows: list[Any] = []
    for start in range(0, len(values), PAGE):
        found = select(table.c.id, table.c.project, table.c.fields, table.c.candidates).where(column.in_(values[start : start + PAGE]))
        rows += connection.execute(found).all()
    return rows
