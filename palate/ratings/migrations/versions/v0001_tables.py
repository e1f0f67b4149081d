"""Projects, items, assignments, judgments, accounts, logins, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_FREE = "taken < wanted AND removed IS NULL"
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _index_where(name: str, table: str, columns: list[str], condition: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


def upgrade() -> None:
    """Bring the schema to this version."""
    for make in (
        _accounts,
        _audit_log,
        _failed_logins,
        _projects,
        _cells,
        _guidelines,
        _invitations,
        _items,
        _members,
        _policies,
        _sessions,
        _assignments,
        _judgments,
    ):
        make()


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("name_key", sa.Text(), nullable=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("pseudonym", sa.String(32), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("erased", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name_key", name="uq_accounts_name_key"),
        sa.UniqueConstraint("pseudonym", name="uq_accounts_pseudonym"),
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("actor", sa.String(32), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )


def _failed_logins() -> None:
    op.create_table(
        "failed_logins",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_failed_logins"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_failed_logins_address_created", "failed_logins", ["address", "created"])
    op.create_index("ix_failed_logins_name_key_created", "failed_logins", ["name_key", "created"])


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("task", sa.JSON(), nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("max_overlap", sa.Integer(), nullable=False),
        sa.Column("lease_seconds", sa.Double(), nullable=False),
        sa.Column("gold_share", sa.Double(), nullable=False),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("random_share", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
    )


def _cells() -> None:
    op.create_table(
        "cells",
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_cells_project"),
        sa.PrimaryKeyConstraint("project", "rank", "stratum", name="pk_cells"),
    )


def _guidelines() -> None:
    op.create_table(
        "guidelines",
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("warning", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_guidelines_project"),
        sa.PrimaryKeyConstraint("project", "version", name="pk_guidelines"),
    )


def _invitations() -> None:
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.String(128), nullable=False),
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_invitations_project"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_invitations"),
    )


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("conversation", sa.JSON(), nullable=False),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("pool", sa.String(16), nullable=False),
        sa.Column("gold", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("draw", sa.Double(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("is_begun", sa.Boolean(), nullable=False),
        sa.Column("sides", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Double(), nullable=True),
        sa.Column("score", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("selection_probability", sa.Double(), nullable=True),
        sa.Column("removed", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.CheckConstraint("taken >= 0 AND taken <= wanted", name="ck_items_places"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_items_project"),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.UniqueConstraint("project", "digest", name="uq_items_project_digest"),
        sa.UniqueConstraint("project", "number", name="uq_items_project_number"),
    )
    _index_where("ix_items_free", "items", ["project", "pool", "rank", "stratum", "is_begun", "draw"], _FREE)
    _index_where("ix_items_begun", "items", ["project", "pool", "rank", "is_begun", "draw"], _FREE)
    _index_where(
        "ix_items_priority",
        "items",
        ["project", "rank", "is_begun", "priority"],
        f"{_FREE} AND priority IS NOT NULL",
    )
    op.create_index("ix_items_project_pool_draw", "items", ["project", "pool", "draw"])


def _members() -> None:
    op.create_table(
        "members",
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("joined", sa.Double(), nullable=False),
        sa.Column("qualified", sa.Double(), nullable=True),
        sa.Column("sides", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_members_account"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_members_project"),
        sa.PrimaryKeyConstraint("project", "account", name="pk_members"),
    )
    op.create_index("ix_members_account", "members", ["account"])


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_policies_project"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_policies"),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(128), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("csrf", sa.String(128), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_sessions_account"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sessions"),
    )
    op.create_index("ix_sessions_account", "sessions", ["account"])


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("item", sa.String(32), nullable=False),
        sa.Column("rater", sa.String(32), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("claimed", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_assignments_item"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_assignments_project"),
        sa.ForeignKeyConstraint(["rater"], ["accounts.id"], name="fk_assignments_rater"),
        sa.PrimaryKeyConstraint("id", name="pk_assignments"),
        sa.UniqueConstraint("item", "rater", name="uq_assignments_item_rater"),
    )
    _index_where("ix_assignments_held", "assignments", ["rater", "project"], "state = 'open'")
    _index_where("ix_assignments_open", "assignments", ["project", "expires"], "state = 'open'")


def _judgments() -> None:
    op.create_table(
        "judgments",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("project", sa.String(32), nullable=False),
        sa.Column("item", sa.String(32), nullable=False),
        sa.Column("assignment", sa.String(32), nullable=True),
        sa.Column("rater", sa.String(32), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("is_skip", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("supersedes", sa.String(32), nullable=True),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["assignment"], ["assignments.id"], name="fk_judgments_assignment"),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_judgments_item"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_judgments_project"),
        sa.ForeignKeyConstraint(["rater"], ["accounts.id"], name="fk_judgments_rater"),
        sa.ForeignKeyConstraint(["supersedes"], ["judgments.id"], name="fk_judgments_supersedes"),
        sa.PrimaryKeyConstraint("number", name="pk_judgments"),
        sa.UniqueConstraint("id", name="uq_judgments_id"),
        sa.UniqueConstraint("rater", "key", name="uq_judgments_rater_key"),
        sa.UniqueConstraint("supersedes", name="uq_judgments_supersedes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_judgments_item", "judgments", ["item"])
    op.create_index("ix_judgments_project_number", "judgments", ["project", "number"])
    op.create_index("ix_judgments_rater_number", "judgments", ["rater", "number"])
