"""Importing an `Exchange` into a project: all of it or, if anything is at fault, nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from palate.core import ConfigError, DataError
from palate.data.cells import one_line
from palate.data.exchange import Exchange, GuidelineText, RaterKind
from palate.data.exchange.contents import SHOWN, is_shown
from palate.data.formats.dropped import Dropped
from palate.data.pseudonyms import is_address
from palate.ratings import schema
from palate.ratings.columns import is_text
from palate.ratings.database import Store
from palate.ratings.entities import Candidate, Item, Project, Task, TaskKind
from palate.ratings.import_answers import ImportBatch, ItemLocation
from palate.ratings.import_judgments import insert_judgments
from palate.ratings.items import PAGE, NewItem, insert_items, same_questions
from palate.ratings.table_rows import criteria_of, digest, project_of, rule_of, turns
from palate.ratings.validation import check_item, check_project, check_time, unjudgeable

SOURCE_ID = "source_id"
"""The field of an item that keeps its name in the file, if that is not an id of a database."""

MAX_PSEUDONYM = 32
_DATABASE_ID = re.compile(r"[0-9a-f]{24}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Result of `import_exchange`.

    Attributes:
        project: the project.
        items: ids of the items added, in order.
        known_items: number of items that the project had already.
        judgments: number of rows of judgments added.
        known_judgments: number of judgments that the project had already.
        surplus: answers among those added beyond the one that a rater can give to an item.
        raters: number of accounts added.
        left_out: items that a database cannot hold, because two candidates are the same or one is empty, and the judgments of them.
    """

    project: Project
    items: tuple[str, ...]
    known_items: int
    judgments: int
    known_judgments: int
    surplus: int
    raters: int
    left_out: tuple[Dropped, ...] = ()

    def __str__(self) -> str:
        """Return the result in words."""
        parts = [f"{len(self.items)} items added to {self.project.name!r}, {self.known_items} were there already"]
        if self.judgments or self.known_judgments:
            extra = f" ({self.surplus} of them surplus: second answers of a rater to an item)" if self.surplus else ""
            parts.append(f"{self.judgments} judgments{extra} by {self.raters} new raters, {self.known_judgments} were there already")
        if self.left_out:
            first = f"{self.left_out[0].source}: {self.left_out[0].reason}"
            parts.append(f"{len(self.left_out)} rows with nothing to judge were left out, the first: {first}")
        return "; ".join(parts)


def import_exchange(store: Store, exchange: Exchange, name: str, now: float) -> ImportResult:
    """Import a file into the project with this name in one transaction, and return what was added. A missing project is added, too.

    The project has an item already if it has its id, or an item with the same conversation and candidates in any order. It has a judgment
    already if it has its id, or if the same judgment was imported before. Raters become accounts by pseudonym that nobody can sign in to.
    A pseudonym that the database knows is that account. A project that exists keeps its settings and guidelines.

    Args:
        store: the ratings.
        exchange: the content of the file.
        name: the name of the project.
        now: the time for rows without a time.

    Raises:
        ConfigError: another process imported the same at the same moment.
        DataError: an item or a judgment does not fit the project. The message names row and field, and nothing was added.
    """
    if not is_text(name):
        raise DataError(f"The project's name {name!r} holds a character that a database cannot store. Choose another.")
    exchange, left_out = _holdable(exchange)

    def work(connection: Connection) -> ImportResult:
        project, versions = _project(connection, store, exchange, name, now)
        locations, new = _locations(connection, store, exchange, project, now)
        insert_items(connection, project, new)
        accounts, num_added = _accounts(connection, store, exchange, project.id, now)
        counts = insert_judgments(connection, store, ImportBatch(exchange, project, locations, versions, accounts, now))
        known = len(exchange.items) - len(new)
        return ImportResult(
            project, tuple(item.id for item in new), known, counts.judgments, counts.known, counts.surplus, num_added, left_out
        )

    try:
        return store.database.run(work)
    except DataError as error:
        raise DataError(one_line(str(error))) from error
    except IntegrityError as error:
        raise ConfigError(f"Project {name!r}: another process wrote the same at the same moment ({error.orig}). Try again.") from error


def _holdable(exchange: Exchange) -> tuple[Exchange, tuple[Dropped, ...]]:
    """Return the exchange without items that nobody could judge and the judgments of them, and these with the reason."""
    reasons = {item.id: reason for item in exchange.items if (reason := unjudgeable(item.candidates))}
    if not reasons:
        return exchange, ()
    items = [number for number, item in enumerate(exchange.items) if item.id not in reasons]
    votes = [number for number, vote in enumerate(exchange.votes) if vote.judgment.comparison not in reasons]
    left_out = [Dropped(exchange.item_place(k), reasons[item.id]) for k, item in enumerate(exchange.items) if item.id in reasons]
    of_votes = [(k, reasons.get(vote.judgment.comparison)) for k, vote in enumerate(exchange.votes)]
    left_out += [Dropped(exchange.vote_place(k), f"a judgment of such an item: {reason}") for k, reason in of_votes if reason]
    places = exchange.places
    kept = replace(
        exchange,
        items=tuple(exchange.items[k] for k in items),
        votes=tuple(exchange.votes[k] for k in votes),
        places=replace(
            places,
            items=tuple(places.items[k] for k in items) if places.items else (),
            votes=tuple(places.votes[k] for k in votes) if places.votes else (),
        ),
    )
    return kept, tuple(left_out)


def _project(connection: Connection, store: Store, exchange: Exchange, name: str, now: float) -> tuple[Project, Mapping[str, int]]:
    """Return the project, with its row locked, and the number there of each version of the file's guidelines."""
    table, guidelines = schema.projects, schema.guidelines
    # Additions to one project take turns.
    row = connection.execute(select(table).where(table.c.name == name).with_for_update()).one_or_none()
    if row is not None:
        known = connection.execute(select(guidelines).where(guidelines.c.project == row.id).order_by(guidelines.c.version)).all()
        numbers = {(version.text, version.warning): version.version for version in known}
        return project_of(row), {text.version: numbers.get((text.text, text.warning), 0) for text in exchange.guidelines}
    settings = exchange.project or Project(name, _task(exchange), created=now)
    project = replace(settings, name=name, id=store.database.identify(), max_overlap=max(settings.max_overlap, settings.overlap))
    try:
        check_project(project)
    except ConfigError as error:
        raise DataError(f"{exchange.places.project or 'The file'}: {error}") from error
    check_time(project.created, "created", exchange.places.project or "The file")
    connection.execute(insert(table).values(asdict(project)))
    texts = exchange.guidelines or (GuidelineText("1", ""),)
    for number, text in enumerate(texts, start=1):
        place = f"guideline {text.version!r}"
        check_time(text.created, "created", place)
        if not (is_text(text.text) and is_text(text.warning)):
            raise DataError(f"{place}: `text` or `warning` holds a NUL character. Remove it.")
        columns = {"version": number, "text": text.text, "warning": text.warning, "created": now if text.created is None else text.created}
        connection.execute(insert(guidelines).values(project=project.id, **columns))
    return project, {text.version: number for number, text in enumerate(texts, start=1)}


def _task(exchange: Exchange) -> Task:
    """Return the task that the file's items and judgments suggest.

    Raises:
        DataError: the items have different tasks, or ask about rules that the file does not name.
    """
    kinds: dict[TaskKind, int] = {item.task: number for number, item in reversed(list(enumerate(exchange.items)))}
    if set(kinds) == {"compare", "rank"}:
        del kinds["compare"]
    if len(kinds) > 1:
        examples = "; ".join(f"{exchange.item_place(number)} is to {kind}" for kind, number in kinds.items())
        raise DataError(f"`task`: all items of a project have the same task, but {examples}. Import them into separate projects.")
    kind: TaskKind = next(iter(kinds), "compare")
    if kind in {"rule", "probe"}:
        raise DataError(
            f"{exchange.item_place(0)}: `candidates` holds {len(exchange.items[0].candidates)}, so it asks about a rule ({kind}), but "
            "the file does not name any rules. Make the project with its rules first; a comparison needs two candidates."
        )
    judgments = [vote.judgment for vote in exchange.votes if vote.entry != "undo"]
    names = dict.fromkeys(judgment.dimension for judgment in judgments)
    by_answers = sorted(names, key=lambda name: (name != "overall", -sum(judgment.dimension == name for judgment in judgments)))
    has_strength = any(judgment.strength is not None for judgment in judgments)
    return Task(kind, tuple(by_answers) or ("overall",), all_bad=True, strength=has_strength)


def _locations(
    connection: Connection, store: Store, exchange: Exchange, project: Project, now: float
) -> tuple[dict[str, ItemLocation], list[NewItem]]:
    """Return the item in the project for each item of the file, and the items that are new there."""
    items = [_item(exchange, number, project.task) for number in range(len(exchange.items))]
    digests = [digest(item, project.task) for item in items]
    table = schema.items
    named = _rows_with(connection, table.c.id, [item.id for item in items if _DATABASE_ID.fullmatch(item.id)])
    used_ids, same_ids = {row.id for row in named}, {row.id: row for row in named if row.project == project.id}
    known: dict[str, tuple[str, Sequence[Candidate], Mapping[str, object]]] = {
        key: (row.id, _candidates(row), row.fields) for key, row in same_questions(connection, project, items).items()
    }
    locations: dict[str, ItemLocation] = {}
    new: list[NewItem] = []
    for number, (item, key) in enumerate(zip(items, digests, strict=True)):
        if item.id in same_ids:
            row = same_ids[item.id]
            seen, given = (list(map(_content, candidates)) for candidates in (_candidates(row), item.candidates))
            if sorted(seen) != sorted(given) or (item.conversation and turns(row.conversation) != item.conversation):
                other = "other candidates" if sorted(seen) != sorted(given) else "another conversation"
                raise DataError(f"{exchange.item_place(number)}: `id` {item.id!r} names an item of the project with {other}.")
            numbers = tuple(range(len(given))) if seen == given else tuple(map(seen.index, given))
            locations[item.id] = _location(project.task, item.id, numbers, row.fields)
            continue
        if key not in known:
            keeps_id = _DATABASE_ID.fullmatch(item.id) is not None and item.id not in used_ids
            added = replace(item, id=item.id if keeps_id else store.database.identify())
            source = exchange.items[number]
            if not keeps_id and not exchange.item_place(number).endswith(f"/{item.id}") and exchange.item_place(number) != item.id:
                added = replace(added, fields={**item.fields, SOURCE_ID: item.fields.get(SOURCE_ID, item.id)})
            created = now if source.created is None else source.created
            new.append(NewItem(added, added.id, key, created, source.removed))
            known[key] = added.id, item.candidates, added.fields
        identity, candidates, fields = known[key]
        numbers = tuple(list(candidates).index(candidate) for candidate in item.candidates)
        locations[item.id] = _location(project.task, identity, numbers, fields)
    return locations, new


def _location(task: Task, identity: str, numbers: tuple[int, ...], fields: Mapping[str, object]) -> ItemLocation:
    criteria = tuple(criterion.id for criterion in criteria_of(task, fields))
    return ItemLocation(identity, numbers, rule_of(task, fields, identity), criteria)


def _item(exchange: Exchange, number: int, task: Task) -> Item:
    """Return the item with this number in the file. Raises DataError if it does not fit the task."""
    source, place = exchange.items[number], exchange.item_place(number)
    newest = source.candidates[-1].policy if source.candidates else ""
    item = Item(
        conversation=source.conversation,
        candidates=source.candidates,
        fields=source.fields,
        stratum=source.stratum,
        policy=newest if source.policy is None else source.policy,
        gold=source.gold,
        is_qualification=source.is_qualification,
        id=source.id,
        selection_probability=source.selection_probability,
    )
    check_item(item, task, place)
    if wrong := [candidate.media for candidate in source.candidates if candidate.media and not is_shown(candidate.media)]:
        raise DataError(f"{place}, candidates: {wrong[0]!r} is not a path inside the media folder that ends in {', '.join(SHOWN)}.")
    for field, time in (("created", source.created), ("removed", source.removed)):
        check_time(time, field, place)
    return item


def _rows_with(connection: Connection, column: Any, values: Sequence[str]) -> list[Any]:
    """Return the rows of items that have one of the values in the column."""
    table = schema.items
    rows: list[Any] = []
    for start in range(0, len(values), PAGE):
        columns = table.c.id, table.c.project, table.c.fields, table.c.candidates, table.c.conversation
        query = select(*columns).where(column.in_(values[start : start + PAGE]))
        rows += connection.execute(query).all()
    return rows


def _candidates(row: Any) -> tuple[Candidate, ...]:
    return tuple(Candidate(**candidate) for candidate in row.candidates)


def _content(candidate: Candidate) -> str:
    return candidate.text + candidate.media


def _accounts(connection: Connection, store: Store, exchange: Exchange, project: str, now: float) -> tuple[dict[str, str], int]:
    """Return the account of each rater who answered, and how many accounts were added. Nobody can sign in to an added account."""
    table = schema.accounts
    kinds = exchange.kinds()
    first = {vote.judgment.rater: number for number, vote in reversed(list(enumerate(exchange.votes)))}
    for rater, number in first.items():
        if is_address(rater, kinds[rater]):
            raise DataError(f"{exchange.vote_place(number)}: `rater` is an email address. Replace it by a pseudonym. Nothing was added.")
    pseudonyms = {rater: _pseudonym(rater) for rater in first}
    known: dict[str, Any] = {}
    names = list(pseudonyms.values())
    for start in range(0, len(names), PAGE):
        rows = connection.execute(select(table).where(table.c.pseudonym.in_(names[start : start + PAGE])))
        known |= {row.pseudonym: row for row in rows}
    added: dict[str, dict[str, Any]] = {}
    for rater, pseudonym in pseudonyms.items():
        row, kind = known.get(pseudonym), kinds[rater]
        if row is None:
            added.setdefault(pseudonym, _account_row(store, pseudonym, kind, now))
        elif kind not in {row.kind, "person", "unknown"}:  # a file that does not know the kind gives one of these two
            place = exchange.vote_place(first[rater])
            raise DataError(f"{place}: `rater` {rater!r} is a {kind} in the file and a {row.kind} in the database. Give it another name.")
    if added:
        connection.execute(insert(table), list(added.values()))
        members = [{"project": project, "account": row["id"], "joined": now, "sides": 0} for row in added.values()]
        connection.execute(insert(schema.members), members)
    ids = {name: row.id for name, row in known.items()} | {name: row["id"] for name, row in added.items()}
    return {rater: ids[pseudonym] for rater, pseudonym in pseudonyms.items()}, len(added)


def _account_row(store: Store, pseudonym: str, kind: RaterKind, now: float) -> dict[str, Any]:
    row = {"id": store.database.identify(), "kind": kind, "role": "rater", "pseudonym": pseudonym, "created": now}
    return row | {"name": None, "name_key": None, "password_hash": None}


def _pseudonym(rater: str) -> str:
    """Return the rater's name, shortened if it is too long for a pseudonym. Equal names give equal pseudonyms."""
    if len(rater) <= MAX_PSEUDONYM and is_text(rater):
        return rater
    if _UUID.fullmatch(rater):
        return rater.replace("-", "")
    digits = hashlib.sha256(rater.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{rater[: MAX_PSEUDONYM - 13]}~{digits}".replace("\0", "?")
