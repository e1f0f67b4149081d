"""Who reviews in one project, and who has seen what others answered to an item."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this version."""
    op.create_table(
        "reviewers",
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project", "account", name="pk_reviewers"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_reviewers_project"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_reviewers_account"),
    )
    op.create_index("ix_reviewers_account", "reviewers", ["account"])
    op.create_table(
        "looks",
        sa.Column("item", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("first", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("item", "account", name="pk_looks"),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_looks_item"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_looks_account"),
    )
    op.create_index("ix_looks_account", "looks", ["account"])
