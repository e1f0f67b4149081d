"""Projects and their guidelines."""

from __future__ import annotations

from dataclasses import asdict, replace

from sqlalchemy import Connection, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError

from palate.core import ConfigError, DataError
from palate.ratings import schema
from palate.ratings.columns import is_text
from palate.ratings.database import Store
from palate.ratings.entities import Guideline, Project
from palate.ratings.table_rows import project_of
from palate.ratings.validation import check_project

_FIND = select(schema.projects).where(schema.projects.c.id == bindparam("which"))


def add_project(store: Store, project: Project, now: float) -> Project:
    """Add a project, with an empty first guideline, and return it with its id.

    Raises:
        ConfigError: its settings do not fit together, or the name is taken.
    """
    check_project(project)
    added = replace(project, id=store.database.identify(), created=now, max_overlap=max(project.max_overlap, project.overlap))
    try:
        with store.database.write() as connection:
            connection.execute(insert(schema.projects).values(asdict(added)))
            connection.execute(insert(schema.guidelines).values(project=added.id, version=1, text="", warning="", created=now))
    except IntegrityError as error:
        raise ConfigError(f"The project {project.name!r} exists already. Choose another name.") from error
    return added


def all_projects(store: Store) -> tuple[Project, ...]:
    """Return every project, the oldest first."""
    with store.database.read() as connection:
        return tuple(map(project_of, connection.execute(select(schema.projects).order_by(schema.projects.c.created, schema.projects.c.id))))


def project(store: Store, project: str) -> Project:
    """Return the project with this id.

    Raises:
        DataError: no project has this id.
    """
    with store.database.query() as connection:
        return find_project(connection, project)


def find_project(connection: Connection, project: str) -> Project:
    """Return the project as `project` does, within a transaction."""
    row = connection.execute(_FIND, {"which": project}).one_or_none()
    if row is None:
        raise DataError(f"There is no project {project!r}. Choose one from the list.")
    return project_of(row)


def set_guideline(store: Store, project: str, text: str, now: float, *, warning: str = "") -> Guideline:
    """Add a version of the project's guideline and return it. Former versions stay, and each assignment names the one that its rater saw.

    Raises:
        DataError: the project does not exist, or the text holds a character that a database cannot store.
    """
    if not (is_text(text) and is_text(warning)):
        raise DataError("The guideline holds a NUL character or half of a surrogate pair. Remove it.")

    def work(connection: Connection) -> Guideline:
        find_project(connection, project)
        # Two calls at once must not get the same number.
        connection.execute(select(schema.projects.c.id).where(schema.projects.c.id == project).with_for_update())
        added = Guideline(project, latest_guideline(connection, project) + 1, text, warning, now)
        connection.execute(insert(schema.guidelines).values(asdict(added)))
        return added

    return store.database.run(work)


def guideline(store: Store, project: str, version: int | None = None) -> Guideline:
    """Return this version of the guideline, by default the newest.

    Raises:
        DataError: the project or the version does not exist.
    """
    table = schema.guidelines
    with store.database.read() as connection:
        query = select(table).where(table.c.project == project).order_by(table.c.version.desc()).limit(1)
        row = connection.execute(query if version is None else query.where(table.c.version == version)).one_or_none()
    if row is None:
        raise DataError(f"There is no guideline {'' if version is None else version} of project {project!r}. Choose one that exists.")
    return Guideline(row.project, row.version, row.text, row.warning, row.created)


def latest_guideline(connection: Connection, project: str) -> int:
    """Return the number of the project's newest guideline."""
    table = schema.guidelines
    return int(connection.execute(select(func.max(table.c.version)).where(table.c.project == project)).scalar_one())
