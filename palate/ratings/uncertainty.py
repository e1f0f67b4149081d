"""Scores of items from a training run: the spread of its reward models, which orders the uncertain queue."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select, update

from palate.agreement.selection import diverse_order
from palate.core import DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.projects import find_project
from palate.ratings.table_rows import turns

WORDS = 256
"""Length of the features made from a prompt's words if a row does not have features."""

DIVERSE = 2000
"""Number of the most uncertain items that are ordered by diversity, too. Those after them are ordered by spread alone."""


LARGEST = 1e100
"""Largest number of a row, without its sign."""


def set_scores(store: Store, project: str, rows: Iterable[Mapping[str, object]]) -> int:
    """Replace the project's scores and return the number of items that have one now.

    A row is an object of `scores.jsonl`: `item` (id), `spread` (how far the models of an ensemble disagree, at least 0) and optionally
    `features` (numbers that describe the prompt). An uncertain queue asks in the order of `diverse_order`, so similar prompts do not follow
    each other. Scored items that somebody has begun count as asked.

    Raises:
        DataError: a row lacks a field, or its item is not in the project. Nothing was changed.
    """
    scores = [_row(number, row) for number, row in enumerate(rows, start=1)]
    table = schema.items

    def work(connection: Connection) -> int:
        find_project(connection, project)
        items = {row.id: row for row in connection.execute(select(table).where(table.c.project == project, table.c.pool == "items"))}
        for number, (item, _, _) in enumerate(scores, start=1):
            if item not in items:
                raise DataError(f"scores, row {number}: there is no item {item!r} in this project. Score only its items.")
        connection.execute(update(table).where(table.c.project == project).values(priority=None, score=None))
        scored = {item: (spread, features) for item, spread, features in scores}
        order = _order([(items[item], spread, features) for item, (spread, features) in scored.items()])
        values = [{"which": item, "first": len(order) - place, "json": {"spread": scored[item][0]}} for place, item in enumerate(order)]
        if values:
            change = update(table).where(table.c.id == bindparam("which"))
            connection.execute(change.values(priority=bindparam("first"), score=bindparam("json")), values)
        return len(values)

    return store.database.run(work)


def _row(number: int, row: Mapping[str, object]) -> tuple[str, float, tuple[float, ...]]:
    item, spread, features = row.get("item"), row.get("spread"), row.get("features", ())
    if not isinstance(item, str):
        raise DataError(f"scores, row {number}: `item` must be the id of an item. Nothing was changed.")
    if not _is_number(spread) or spread < 0:
        raise DataError(f"scores, row {number}: `spread` must be a number of at least 0. Nothing was changed.")
    if not isinstance(features, list | tuple) or not all(map(_is_number, features)):
        raise DataError(f"scores, row {number}: `features` must be a list of numbers. Nothing was changed.")
    return item, float(spread), tuple(map(float, features))


def _is_number(value: object) -> TypeGuard[float]:
    """Return whether the value is a number that can be squared and summed. Whole numbers of JSON may have thousands of digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _order(scored: Sequence[tuple[Row[Any], float, tuple[float, ...]]]) -> list[str]:
    """Return the ids of the scored items, beginning with the one to ask about first."""
    ranked = sorted(scored, key=lambda score: (-score[1], score[0].id))
    near, far = ranked[:DIVERSE], ranked[DIVERSE:]
    lengths = {len(features) for _, _, features in near}
    if not near:
        return []
    has_features = len(lengths) == 1 and lengths != {0}
    features = np.stack([np.array(given) if has_features else _words(row) for row, _, given in near])
    begun = np.array([row.is_begun for row, _, _ in near], dtype=bool)
    order = diverse_order(np.array([spread for _, spread, _ in near]), features, begun)
    return [near[at][0].id for at in order] + [row.id for row, _, _ in far]


def _words(row: Row[Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return counts of the last turn's words, hashed into `WORDS` boxes by checksum."""
    counts = np.zeros(WORDS)
    for word in turns(row.conversation)[-1].text.lower().split():
        counts[zlib.crc32(word.encode("utf-8", errors="replace")) % WORDS] += 1
    return counts
