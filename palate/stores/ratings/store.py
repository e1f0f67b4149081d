"""The store as its users see it: every operation of the package, by name."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from palate.core import ConfigError
from palate.stores.ratings import (
    accounts as _accounts,
)
from palate.stores.ratings import (
    audit as _audit,
)
from palate.stores.ratings import (
    backup as _backup,
)
from palate.stores.ratings import (
    claims as _claims,
)
from palate.stores.ratings import (
    items as _items,
)
from palate.stores.ratings import (
    judgments as _judgments,
)
from palate.stores.ratings import (
    people as _people,
)
from palate.stores.ratings import (
    projects as _projects,
)
from palate.stores.ratings import (
    reports as _reports,
)
from palate.stores.ratings import (
    scores as _scores,
)
from palate.stores.ratings import (
    sessions as _sessions,
)
from palate.stores.ratings import (
    votes as _votes,
)
from palate.stores.ratings.database import Database, make_engine
from palate.stores.ratings.places import check_place
from palate.stores.ratings.versions import check_version, current, is_empty, is_older, upgrade


class Ratings:
    """A database of projects, items, answers and accounts. Safe to share between threads; each process opens its own.

    Methods are the functions of the modules named; an operation is one transaction, and what it returned is on the disk.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    add_project = _projects.add_project
    projects = _projects.all_projects
    project = _projects.project
    set_guideline = _projects.set_guideline
    guideline = _projects.guideline

    add_items = _items.add_items
    items = _items.all_items
    item = _items.item
    remove_item = _items.remove_item
    set_scores = _scores.set_scores

    claim = _claims.claim
    peek = _claims.peek
    release = _claims.release
    assignment = _claims.assignment

    submit = _judgments.submit
    undo = _judgments.undo
    adjudicate = _judgments.adjudicate
    judgments = _votes.judgments
    judgments_of = _votes.judgments_of
    as_comparisons = _votes.as_comparisons
    undecided = _votes.undecided
    progress = _reports.progress
    tally = _reports.tally
    gold_record = _reports.gold_record
    time_log = _reports.time_log

    add_account = _accounts.add_account
    account = _accounts.account
    account_by_name = _accounts.account_by_name
    accounts = _accounts.all_accounts
    password_hash = _accounts.password_hash
    set_role = _accounts.set_role
    set_password = _accounts.set_password
    join = _accounts.join
    leave = _accounts.leave
    memberships = _accounts.memberships
    qualify = _accounts.qualify

    invite = _sessions.invite
    redeem = _sessions.redeem
    start_session = _sessions.start_session
    session = _sessions.session
    end_session = _sessions.end_session
    end_sessions = _sessions.end_sessions
    note_failure = _sessions.note_failure
    failures = _sessions.failures
    forget_failures = _sessions.forget_failures

    erase = _people.erase
    export_person = _people.export_person
    audit = _audit.audit
    audit_log = _audit.audit_log
    backup = _backup.backup
    restore = _backup.restore

    def close(self) -> None:
        """Nothing; connections are closed."""
        self.database.close()


def open_ratings(url: str, *, create: bool = False) -> Ratings:
    """The ratings at `url`: a path, `sqlite:///path`, or `postgresql+psycopg://user@host/name`.

    Args:
        url: where the database is.
        create: make the tables where the database is empty (and the file where there is none).

    Raises:
        ConfigError: no database is there, it may not be written, it lies on a network file system, or its schema is older or newer.
        RunError: the server does not answer.
    """
    database = _connect(url, create=create)
    try:
        with database.write() as connection:
            if create and is_empty(connection):
                upgrade(connection)
            check_version(connection, _shown(url))
    except DatabaseError as error:
        raise ConfigError(f"{_shown(url)} is not a SQLite database ({error.orig}). Correct the path, or restore a backup.") from error
    return Ratings(database)


def upgrade_ratings(url: str) -> tuple[str, str]:
    """(version before, version after) of the schema of the ratings at `url`, brought to this package's in one transaction.

    Raises:
        ConfigError: as `open_ratings`, but for an older schema.
    """
    database = _connect(url, create=False)
    try:
        with database.write() as connection:
            before = current(connection)
            if not is_older(before):
                check_version(connection, _shown(url))
            upgrade(connection)
            return before, current(connection)
    finally:
        database.close()


def _connect(url: str, *, create: bool) -> Database:
    address = _address(url)
    file = None
    if address.get_backend_name() == "sqlite":
        file = Path(address.database or "").absolute()
        check_place(file)
        if not create and not file.exists():
            raise ConfigError(f"{file} does not exist. Correct the path, or make it with `palate label`.")
    try:
        return Database(make_engine(address), file)
    except ModuleNotFoundError as error:
        raise ConfigError(f"PostgreSQL needs psycopg ({error}). Install it with: pip install 'palate[postgres]'.") from error


def _address(url: str) -> URL:
    if "://" not in url:
        return URL.create("sqlite+pysqlite", database=url)
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"{url!r} is no address of a database. Give a path, or postgresql+psycopg://user@host/name.") from error
    name = address.get_backend_name()
    if name == "sqlite" and address.database in {None, "", ":memory:"}:
        raise ConfigError("Ratings need a file: a database in memory is lost. Give sqlite:///path.")
    if name == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    if name != "sqlite":
        raise ConfigError(
            f"{_shown(url)}: ratings are kept in SQLite or PostgreSQL, not in {name}. Give sqlite:/// or postgresql+psycopg://."
        )
    return address


def _shown(url: str) -> str:
    """The address without its password, for messages."""
    return make_url(url).render_as_string(hide_password=True) if "://" in url else url
