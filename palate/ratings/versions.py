"""The version of a database's schema, and upgrading it to this package's version."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from palate.core import ConfigError

FOLDER = Path(__file__).parent / "migrations"


def head() -> str:
    """Return the newest version that this package knows."""
    return str(ScriptDirectory(str(FOLDER)).get_current_head())


def current(connection: Connection) -> str:
    """Return the database's version; "" if it does not have one."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def is_empty(connection: Connection) -> bool:
    """Return whether the database does not have any tables."""
    return not inspect(connection).get_table_names()


def is_older(version: str) -> bool:
    """Return whether this package can upgrade from `version`."""
    return version != head() and version in {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}


def check_version(connection: Connection, where: str) -> None:
    """Check that the database, named `where` in messages, has this package's schema.

    Raises:
        ConfigError: the schema is older, newer, or not one of ratings.
    """
    version = current(connection)
    if version == head():
        return
    if not version:
        raise ConfigError(f"{where} is a database, but not one of ratings. Give the address of a ratings database, or of an empty one.")
    if is_older(version):
        raise ConfigError(
            f"{where} has schema {version}, older than this version's {head()}: copy the database, then run `palate label --upgrade`."
        )
    raise ConfigError(
        f"{where} has schema {version}, which this version of palate does not know (its own is {head()}): a newer one wrote it. "
        "Install that version or a later one."
    )


def upgrade(connection: Connection, version: str = "head") -> None:
    """Bring the schema to `version`, in the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)
