"""Projects and their guidelines."""

from __future__ import annotations

from dataclasses import asdict, replace

from sqlalchemy import Connection, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError

from palate.core import ConfigError, DataError
from palate.ratings import schema
from palate.ratings.database import Store
from palate.ratings.entities import Guideline, Project
from palate.ratings.table_rows import is_text, project_of

LEAST_RANDOM = 0.3
"""Smallest share of an uncertain queue that is drawn at random; below it what is learned speaks for the chosen items only."""

_FIND = select(schema.projects).where(schema.projects.c.id == bindparam("which"))


def add_project(store: Store, project: Project, now: float) -> Project:
    """The project with its id; its first guideline is empty.

    Raises:
        ConfigError: its settings contradict each other, or the name is taken.
    """
    check_project(project)
    kept = replace(project, id=store.database.identify(), created=now, max_overlap=max(project.max_overlap, project.overlap))
    try:
        with store.database.write() as connection:
            connection.execute(insert(schema.projects).values(asdict(kept)))
            connection.execute(insert(schema.guidelines).values(project=kept.id, version=1, text="", warning="", created=now))
    except IntegrityError as error:
        raise ConfigError(f"There is a project {project.name!r} already. Choose another name.") from error
    return kept


def all_projects(store: Store) -> tuple[Project, ...]:
    """Every project, oldest first."""
    with store.database.read() as connection:
        return tuple(map(project_of, connection.execute(select(schema.projects).order_by(schema.projects.c.created, schema.projects.c.id))))


def project(store: Store, project: str) -> Project:
    """The project of this id.

    Raises:
        DataError: there is none.
    """
    with store.database.look() as connection:
        return find_project(connection, project)


def find_project(connection: Connection, project: str) -> Project:
    """As `project`, within a transaction."""
    row = connection.execute(_FIND, {"which": project}).one_or_none()
    if row is None:
        raise DataError(f"There is no project {project!r}. Choose one of those listed.")
    return project_of(row)


def set_guideline(store: Store, project: str, text: str, now: float, *, warning: str = "") -> Guideline:
    """The new version of the project's guideline; former ones stay, and each assignment names the one it was shown with.

    Raises:
        DataError: there is no such project.
    """
    if not (is_text(text) and is_text(warning)):
        raise DataError("The guideline holds a NUL character or half a character. Take it out.")

    def work(connection: Connection) -> Guideline:
        find_project(connection, project)
        # Two who write at once must not get the same number.
        connection.execute(select(schema.projects.c.id).where(schema.projects.c.id == project).with_for_update())
        kept = Guideline(project, latest_guideline(connection, project) + 1, text, warning, now)
        connection.execute(insert(schema.guidelines).values(asdict(kept)))
        return kept

    return store.database.run(work)


def guideline(store: Store, project: str, version: int | None = None) -> Guideline:
    """The guideline of this version, by default the newest.

    Raises:
        DataError: there is no such project or version.
    """
    table = schema.guidelines
    with store.database.read() as connection:
        found = select(table).where(table.c.project == project).order_by(table.c.version.desc()).limit(1)
        row = connection.execute(found if version is None else found.where(table.c.version == version)).one_or_none()
    if row is None:
        raise DataError(f"There is no guideline {'' if version is None else version} of project {project!r}. Choose one that exists.")
    return Guideline(row.project, row.version, row.text, row.warning, row.created)


def latest_guideline(connection: Connection, project: str) -> int:
    """Number of the project's newest guideline."""
    table = schema.guidelines
    return int(connection.execute(select(func.max(table.c.version)).where(table.c.project == project)).scalar_one())


def check_project(project: Project) -> None:
    """Nothing when the settings fit together. Raises ConfigError that names each fault otherwise."""
    task = project.task
    faults = {
        "name: is empty, or holds a character that a database cannot": not project.name.strip() or not is_text(project.name),
        "overlap: must be at least 1": project.overlap < 1,
        "max_overlap: must be 0 or at least overlap": project.max_overlap != 0 and project.max_overlap < project.overlap,
        "lease_seconds: must be above 0": not project.lease_seconds > 0,
        "gold_share: must be between 0 and 0.5": not 0 <= project.gold_share <= 0.5,
        f"random_share: must be between {LEAST_RANDOM} and 1": not LEAST_RANDOM <= project.random_share <= 1,
        "queue: must be random or uncertain": project.queue not in {"random", "uncertain"},
        "task.dimensions: name at least one, each once": not task.dimensions
        or len(set(task.dimensions)) != len(task.dimensions)
        or not all(dimension.strip() for dimension in task.dimensions),
        "task.rules: name at least one": task.kind in {"rule", "probe"} and not task.rules,
    }
    found = [fault for fault, holds in faults.items() if holds]
    if found:
        raise ConfigError(f"Project {project.name!r} cannot be made: {'; '.join(found)}.")
