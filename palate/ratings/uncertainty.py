"""What a training run says about items: the spread of its reward models, from which the uncertain queue takes its order."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select, update

from palate.core import DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.projects import find_project
from palate.ratings.table_rows import turns

WORDS = 256
"""Length of the features made of a prompt's words where a row brings none."""

DIVERSE = 2000
"""The most uncertain items whose order takes diversity into account; those after them follow by spread alone."""


def set_scores(store: Store, project: str, rows: Iterable[Mapping[str, object]]) -> int:
    """Number of items that have a score now; earlier scores are gone.

    A row is an object of `scores.jsonl`: `item` (id), `spread` (how far the models of an ensemble disagree, at least 0), and, where there
    are any, `features` (numbers that describe the prompt). The order of an uncertain queue is greedy: the next item has the largest
    product of its spread and its distance to the nearest one already judged or chosen, so that alike prompts do not follow each other.

    Raises:
        DataError: a row lacks a field or names no item of the project; nothing was changed.
    """
    read = [_row(number, row) for number, row in enumerate(rows, start=1)]
    table = schema.items

    def work(connection: Connection) -> int:
        find_project(connection, project)
        items = {row.id: row for row in connection.execute(select(table).where(table.c.project == project, table.c.pool == "items"))}
        for number, (item, _, _) in enumerate(read, start=1):
            if item not in items:
                raise DataError(f"scores, row {number}: there is no item {item!r} in this project. Score the items that it has.")
        connection.execute(update(table).where(table.c.project == project).values(priority=None, score=None))
        scored = {item: (spread, features) for item, spread, features in read}
        order = _order([(items[item], spread, features) for item, (spread, features) in scored.items()], list(items.values()))
        values = [{"which": item, "first": len(order) - place, "said": {"spread": scored[item][0]}} for place, item in enumerate(order)]
        if values:
            changed = update(table).where(table.c.id == bindparam("which"))
            connection.execute(changed.values(priority=bindparam("first"), score=bindparam("said")), values)
        return len(values)

    return store.database.run(work)


def _row(number: int, row: Mapping[str, object]) -> tuple[str, float, tuple[float, ...]]:
    item, spread, features = row.get("item"), row.get("spread"), row.get("features", ())
    if not isinstance(item, str):
        raise DataError(f"scores, row {number}: `item` must be the id of an item. Nothing was changed.")
    if not isinstance(spread, int | float) or isinstance(spread, bool) or not math.isfinite(spread) or spread < 0:
        raise DataError(f"scores, row {number}: `spread` must be a number of at least 0. Nothing was changed.")
    if not isinstance(features, list | tuple) or not all(isinstance(x, int | float) and math.isfinite(x) for x in features):
        raise DataError(f"scores, row {number}: `features` must be a list of numbers. Nothing was changed.")
    return item, float(spread), tuple(map(float, features))


def _order(scored: Sequence[tuple[Row[Any], float, tuple[float, ...]]], items: Sequence[Row[Any]]) -> list[str]:
    """Ids of the scored items, the one to ask about first at the front."""
    ranked = sorted(scored, key=lambda one: (-one[1], one[0].id))
    near, far = ranked[:DIVERSE], ranked[DIVERSE:]
    lengths = {len(features) for _, _, features in near}
    if not near:
        return []
    own = len(lengths) == 1 and lengths != {0}
    features = np.stack([np.array(given) if own else _words(row) for row, _, given in near])
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    distance = np.full(len(near), 2.0)
    begun = {row.id for row in items if row.is_begun}
    for at, (row, _, _) in enumerate(near):
        if row.id in begun:
            distance = np.minimum(distance, 1 - features @ features[at])
    spread, chosen = np.array([spread for _, spread, _ in near]), list[int]()
    left = np.ones(len(near), dtype=bool)
    while left.any():
        # A little is added so that of items like one already chosen the more uncertain comes first.
        gain = np.where(left, spread * (np.maximum(distance, 0) + 1e-6), -1.0)
        best = int(gain.argmax())
        chosen.append(best)
        left[best] = False
        distance = np.minimum(distance, 1 - features @ features[best])
    return [near[at][0].id for at in chosen] + [row.id for row, _, _ in far]


def _words(row: Row[Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Counts of the last turn's words, each in the box its checksum says."""
    counts = np.zeros(WORDS)
    for word in turns(row.conversation)[-1].text.lower().split():
        counts[zlib.crc32(word.encode("utf-8", errors="replace")) % WORDS] += 1
    return counts
