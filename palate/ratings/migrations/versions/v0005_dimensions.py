"""Tasks and answers call their dimensions `dimensions` (before: `axes`), and the table `looks` becomes `item_views`."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OLD, _NEW = "axes", "dimensions"
_PAGE = 1000
"""Rows of judgments that are in memory at one time."""

_PROJECTS = sa.table("projects", sa.column("id", sa.String(32)), sa.column("task", sa.JSON()))
_JUDGMENTS = sa.table("judgments", sa.column("number", sa.BigInteger()), sa.column("answer", sa.JSON()))
_TRIGGER = "judgments_no_update"


def upgrade() -> None:
    """Bring the schema to this version.

    Judgments are append-only, so their trigger is off while the keys are renamed. All of it is one transaction: if it fails, the
    trigger and the former answers are there again.
    """
    connection = op.get_bind()
    _rename_in_projects(connection)
    is_sqlite = connection.dialect.name == "sqlite"
    op.execute(f"DROP TRIGGER {_TRIGGER}" if is_sqlite else "ALTER TABLE judgments DISABLE TRIGGER judgments_no_change")
    _rename_in_judgments(connection)
    op.execute(
        f"CREATE TRIGGER {_TRIGGER} BEFORE update ON judgments BEGIN SELECT RAISE(ABORT, 'judgments is append-only'); END"
        if is_sqlite
        else "ALTER TABLE judgments ENABLE TRIGGER judgments_no_change"
    )
    _replace_looks()


def _renamed(value: dict[str, Any]) -> dict[str, Any]:
    """The object with its own key renamed, in its place; keys of the objects inside it stay."""
    return {_NEW if name == _OLD else name: content for name, content in value.items()}


def _rename_in_projects(connection: sa.Connection) -> None:
    for identity, task in connection.execute(sa.select(_PROJECTS.c.id, _PROJECTS.c.task)).all():
        connection.execute(sa.update(_PROJECTS).where(_PROJECTS.c.id == identity).values(task=_renamed(task)))


def _rename_in_judgments(connection: sa.Connection) -> None:
    rows = sa.select(_JUDGMENTS.c.number, _JUDGMENTS.c.answer).order_by(_JUDGMENTS.c.number).limit(_PAGE)
    rows = rows.where(sa.cast(_JUDGMENTS.c.answer, sa.Text()).like(f'%"{_OLD}"%'))
    change = sa.update(_JUDGMENTS).where(_JUDGMENTS.c.number == sa.bindparam("which")).values(answer=sa.bindparam("renamed"))
    last = 0
    while page := connection.execute(rows.where(_JUDGMENTS.c.number > last)).all():
        connection.execute(change, [{"which": number, "renamed": _renamed(answer)} for number, answer in page])
        last = page[-1].number


def _replace_looks() -> None:
    op.create_table(
        "item_views",
        sa.Column("item", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("viewed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("item", "account", name="pk_item_views"),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_item_views_item"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_item_views_account"),
    )
    op.create_index("ix_item_views_account", "item_views", ["account"])
    op.execute("INSERT INTO item_views (item, account, viewed) SELECT item, account, first FROM looks")
    op.drop_table("looks")
