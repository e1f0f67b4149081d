"""Who did what: rows are only ever added."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select

from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import AuditEntry

_TABLE = schema.audit_log


def audit(store: Store, actor: str, action: str, subject: str, now: float, detail: Mapping[str, object] | None = None) -> None:
    """Nothing; the row stands in the log. Put ids there, not names: the log outlives a person's erasure."""
    with store.database.write() as connection:
        connection.execute(insert(_TABLE).values(actor=actor, action=action, subject=subject, created=now, detail=dict(detail or {})))


def audit_log(store: Store, *, actor: str | None = None, limit: int = 1000, before: int | None = None) -> tuple[AuditEntry, ...]:
    """The newest rows first, those of one actor where one is named; `before` is the number of the last row of the page before."""
    found = select(_TABLE).order_by(_TABLE.c.number.desc()).limit(limit)
    if actor is not None:
        found = found.where(_TABLE.c.actor == actor)
    if before is not None:
        found = found.where(_TABLE.c.number < before)
    with store.database.read() as connection:
        rows = connection.execute(found).all()
    return tuple(AuditEntry(row.number, row.actor, row.action, row.subject, row.created, row.detail) for row in rows)
