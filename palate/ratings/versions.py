"""Which version of the schema a database has, and bringing it to this package's."""

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
    """The newest version that this package knows."""
    return str(ScriptDirectory(str(FOLDER)).get_current_head())


def current(connection: Connection) -> str:
    """The database's version; "" when it has none."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def is_empty(connection: Connection) -> bool:
    """Whether the database has no table at all."""
    return not inspect(connection).get_table_names()


def is_older(version: str) -> bool:
    """Whether `version` is one that this package can bring to its own."""
    return version != head() and version in {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}


def check_version(connection: Connection, where: str) -> None:
    """Nothing when the schema is the one of this package.

    Raises:
        ConfigError: it is older, newer, or not ours.
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
    """Nothing; the schema is brought to `version`. Everything happens in the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)
