"""The tables. docs/ratings.md explains them, `migrations/` makes them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
)

from palate.ratings.columns import LongText, ShortText

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Type of a key that counts up. SQLite counts only columns of the type INTEGER."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

projects = Table(
    "projects",
    metadata,
    Column("id", ShortText(32), primary_key=True),
    Column("name", LongText(), nullable=False, unique=True),
    Column("task", JSON, nullable=False),
    Column("overlap", Integer, nullable=False),
    Column("max_overlap", Integer, nullable=False),
    Column("lease_seconds", Double, nullable=False),
    Column("gold_share", Double, nullable=False),
    Column("queue", ShortText(16), nullable=False),
    Column("random_share", Double, nullable=False),
    Column("created", Double, nullable=False),
)

guidelines = Table(
    "guidelines",
    metadata,
    Column("project", ShortText(32), ForeignKey("projects.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", LongText(), nullable=False),
    Column("warning", LongText(), nullable=False),
    Column("created", Double, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("project", ShortText(32), ForeignKey("projects.id"), primary_key=True),
    Column("name", LongText(), primary_key=True),
    Column("rank", Integer, nullable=False),
)
"""Policies by the order in which they first appeared. A higher rank is newer."""

cells = Table(
    "cells",
    metadata,
    Column("project", ShortText(32), ForeignKey("projects.id"), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("stratum", LongText(), primary_key=True),
)
"""The strata of each policy. A draw chooses one of these before it chooses an item."""

items = Table(
    "items",
    metadata,
    Column("id", ShortText(32), primary_key=True),
    Column("number", NUMBER, nullable=False),
    Column("project", ShortText(32), ForeignKey("projects.id"), nullable=False),
    Column("digest", ShortText(64), nullable=False),
    Column("conversation", JSON, nullable=False),
    Column("candidates", JSON, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("stratum", LongText(), nullable=False),
    Column("policy", LongText(), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("pool", ShortText(16), nullable=False),
    Column("gold", JSON(none_as_null=True)),
    Column("draw", Double, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("taken", Integer, nullable=False),
    Column("is_begun", Boolean, nullable=False),
    Column("sides", Integer, nullable=False),
    Column("priority", Double),
    Column("score", JSON(none_as_null=True)),
    Column("selection_probability", Double),
    Column("removed", Double),
    Column("created", Double, nullable=False),
    UniqueConstraint("project", "digest"),
    UniqueConstraint("project", "number"),
    # This holds whatever the code does: nobody can take a place that does not exist.
    CheckConstraint("taken >= 0 AND taken <= wanted", name="places"),
    Index(None, "project", "pool", "draw"),
)
"""The questions. `pool` is items, gold or qualification; every rater gets the last two, which do not have places. `taken` counts standing
judgments and leases. `sides` is how often candidate 0 stood before candidate 1, minus the reverse."""

_FREE = (items.c.taken < items.c.wanted) & items.c.removed.is_(None)
Index(
    "ix_items_free",
    items.c.project,
    items.c.pool,
    items.c.rank,
    items.c.stratum,
    items.c.is_begun,
    items.c.draw,
    sqlite_where=_FREE,
    postgresql_where=_FREE,
)
Index(
    "ix_items_begun",
    items.c.project,
    items.c.pool,
    items.c.rank,
    items.c.is_begun,
    items.c.draw,
    sqlite_where=_FREE,
    postgresql_where=_FREE,
)
Index(
    "ix_items_priority",
    items.c.project,
    items.c.rank,
    items.c.is_begun,
    items.c.priority,
    sqlite_where=_FREE & items.c.priority.is_not(None),
    postgresql_where=_FREE & items.c.priority.is_not(None),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", ShortText(32), primary_key=True),
    Column("name", LongText()),
    Column("name_key", LongText(), unique=True),
    Column("kind", ShortText(16), nullable=False),
    Column("role", ShortText(16), nullable=False),
    Column("pseudonym", ShortText(32), nullable=False, unique=True),
    Column("password_hash", LongText()),
    Column("created", Double, nullable=False),
    Column("erased", Double),
)

members = Table(
    "members",
    metadata,
    Column("project", ShortText(32), ForeignKey("projects.id"), primary_key=True),
    Column("account", ShortText(32), ForeignKey("accounts.id"), primary_key=True),
    Column("joined", Double, nullable=False),
    Column("qualified", Double),
    Column("sides", Integer, nullable=False),
    Index(None, "account"),
)

reviewers = Table(
    "reviewers",
    metadata,
    Column("project", ShortText(32), ForeignKey("projects.id"), primary_key=True),
    Column("account", ShortText(32), ForeignKey("accounts.id"), primary_key=True),
    Column("since", Double, nullable=False),
    Index(None, "account"),
)
"""Members who review only in this project. An account with the role reviewer reviews in all projects that it joined."""

item_views = Table(
    "item_views",
    metadata,
    Column("item", ShortText(32), ForeignKey("items.id"), primary_key=True),
    Column("account", ShortText(32), ForeignKey("accounts.id"), primary_key=True),
    Column("viewed", Double, nullable=False),
    Index(None, "account"),
)
"""Who has seen what others answered to an item, and since when; see `visibility.py`."""

assignments = Table(
    "assignments",
    metadata,
    Column("id", ShortText(32), primary_key=True),
    Column("project", ShortText(32), ForeignKey("projects.id"), nullable=False),
    Column("item", ShortText(32), ForeignKey("items.id"), nullable=False),
    Column("rater", ShortText(32), ForeignKey("accounts.id"), nullable=False),
    Column("shown", JSON, nullable=False),
    Column("claimed", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("state", ShortText(16), nullable=False),
    Column("guideline", Integer, nullable=False),
    UniqueConstraint("item", "rater"),
)
_OPEN = assignments.c.state == "open"
Index("ix_assignments_open", assignments.c.project, assignments.c.expires, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("ix_assignments_held", assignments.c.rater, assignments.c.project, sqlite_where=_OPEN, postgresql_where=_OPEN)

judgments = Table(
    "judgments",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", ShortText(32), nullable=False, unique=True),
    Column("project", ShortText(32), ForeignKey("projects.id"), nullable=False),
    Column("item", ShortText(32), ForeignKey("items.id"), nullable=False),
    Column("assignment", ShortText(32), ForeignKey("assignments.id")),
    Column("rater", ShortText(32), ForeignKey("accounts.id"), nullable=False),
    Column("key", ShortText(128), nullable=False),
    Column("shown", JSON, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("is_skip", Boolean, nullable=False),
    Column("status", ShortText(16), nullable=False),
    Column("kind", ShortText(16), nullable=False),
    Column("supersedes", ShortText(32), ForeignKey("judgments.id"), unique=True),
    Column("guideline", Integer, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("rater", "key"),
    Index(None, "item"),
    Index(None, "project", "number"),
    Index(None, "rater", "number"),
    sqlite_autoincrement=True,
)

invitations = Table(
    "invitations",
    metadata,
    Column("token_hash", ShortText(128), primary_key=True),
    Column("project", ShortText(32), ForeignKey("projects.id"), nullable=False),
    Column("role", ShortText(16), nullable=False),
    Column("expires", Double, nullable=False),
    Column("uses", Integer, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", ShortText(128), primary_key=True),
    Column("account", ShortText(32), ForeignKey("accounts.id"), nullable=False),
    Column("csrf", ShortText(128), nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Index(None, "account"),
)

links = Table(
    "links",
    metadata,
    Column("token_hash", ShortText(128), primary_key=True),
    Column("use", ShortText(16), nullable=False),
    Column("account", ShortText(32), ForeignKey("accounts.id")),
    Column("expires", Double, nullable=False),
    Index(None, "account"),
)

failed_logins = Table(
    "failed_logins",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("name_key", LongText(), nullable=False),
    Column("address", LongText(), nullable=False),
    Column("created", Double, nullable=False),
    Index(None, "name_key", "created"),
    Index(None, "address", "created"),
    sqlite_autoincrement=True,
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("actor", ShortText(32), nullable=False),
    Column("action", LongText(), nullable=False),
    Column("subject", LongText(), nullable=False),
    Column("created", Double, nullable=False),
    Column("detail", JSON, nullable=False),
    sqlite_autoincrement=True,
)

APPEND_ONLY = ("judgments", "audit_log")
"""Tables whose rows triggers protect from changes and deletion."""
