"""Whether the bookkeeping of places agrees with the answers and leases it was made from."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select

from palate.ratings import schema
from palate.ratings.database import Store


def check(store: Store) -> tuple[str, ...]:
    """What is wrong, one sentence each; nothing in a sound database, whatever was killed when.

    An item's `taken` must be its standing votes and open assignments, at most `wanted`, and no rater may have two standing votes on it.
    """
    said, asked, items = schema.judgments, schema.assignments, schema.items
    found = []
    with store.database.read() as connection:
        gone = set(connection.execute(select(said.c.supersedes).where(said.c.supersedes.is_not(None))).scalars())
        counted = (said.c.kind == "answer") & (said.c.status == "kept") & ~said.c.is_skip
        cast = [row for row in connection.execute(select(said.c.id, said.c.item, said.c.rater).where(counted)) if row.id not in gone]
        leases = Counter(connection.execute(select(asked.c.item).where(asked.c.state == "open")).scalars())
        rows = connection.execute(select(items.c.id, items.c.taken, items.c.wanted).where(items.c.pool == "items")).all()
    votes = Counter(row.item for row in cast)
    for row in rows:
        held = votes[row.id] + leases[row.id]
        if row.taken != held:
            found.append(f"Item {row.id}: {row.taken} places taken, but {votes[row.id]} votes and {leases[row.id]} leases.")
        if held > row.wanted:
            found.append(f"Item {row.id}: {votes[row.id]} votes and {leases[row.id]} leases, where {row.wanted} are wanted.")
    twice = Counter((row.item, row.rater) for row in cast)
    found += [f"Item {item}: {times} votes of rater {rater}." for (item, rater), times in twice.items() if times > 1]
    return tuple(found)
