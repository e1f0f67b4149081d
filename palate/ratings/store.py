"""The store as its users see it: every operation of the package, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from palate.core import ConfigError
from palate.ratings import (
    accounts,
    audit,
    backup,
    checks,
    claims,
    counted_answers,
    exports,
    imports,
    items,
    judgments,
    links,
    personal_data,
    projects,
    reports,
    sessions,
    standing_answers,
    uncertainty,
    visibility,
)
from palate.ratings.database import Database, make_engine
from palate.ratings.locations import check_place
from palate.ratings.versions import check_version, current, is_empty, is_older, upgrade


class Ratings:
    """A database of projects, items, answers and accounts. Safe to share between threads; each process opens its own.

    Methods are the functions of the modules named; an operation is one transaction, and what it returned is on the disk.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    add_project = projects.add_project
    project = projects.project
    set_guideline = projects.set_guideline
    guideline = projects.guideline

    add_items = items.add_items
    item = items.item
    remove_item = items.remove_item
    set_scores = uncertainty.set_scores

    claim = claims.claim
    hold = claims.hold
    release = claims.release
    assignment = claims.assignment

    submit = judgments.submit
    undo = judgments.undo
    adjudicate = judgments.adjudicate
    judgments_of = standing_answers.judgments_of
    is_seen = visibility.is_seen
    may_look = visibility.may_look
    look = visibility.look
    as_comparisons = standing_answers.as_comparisons
    undecided = standing_answers.undecided
    shown = counted_answers.shown
    mark = counted_answers.mark
    rows_since = counted_answers.rows_since

    import_exchange = imports.import_exchange
    as_exchange = exports.as_exchange

    progress = reports.progress
    tally = reports.tally
    gold_record = reports.gold_record
    time_log = reports.time_log
    check = checks.check

    add_account = accounts.add_account
    account = accounts.account
    account_by_name = accounts.account_by_name
    password_hash = accounts.password_hash
    set_role = accounts.set_role
    set_password = accounts.set_password
    join = accounts.join
    reviewers = accounts.reviewers
    qualify = accounts.qualify
    leave = personal_data.leave
    erase = personal_data.erase
    export_person = personal_data.export_person

    invite = sessions.invite
    invitation = sessions.invitation
    redeem = sessions.redeem
    start_session = sessions.start_session
    session = sessions.session
    end_session = sessions.end_session
    end_sessions = sessions.end_sessions
    note_failure = sessions.note_failure
    failures = sessions.failures
    forget_failures = sessions.forget_failures

    issue_link = links.issue_link
    look_link = links.look_link
    take_link = links.take_link
    open_invitations = links.open_invitations
    end_invitations = links.end_invitations

    restore = backup.restore
    audit_log = audit.audit_log

    # Last: from here on these names mean the methods, not the modules they come from.
    accounts = accounts.all_accounts
    audit = audit.audit
    backup = backup.backup
    heard = counted_answers.heard
    items = items.all_items
    judgments = standing_answers.judgments
    projects = projects.all_projects

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
        said = str(error.orig).strip().splitlines()[0]
        if database.is_sqlite:
            raise ConfigError(f"{_shown(url)} is not a SQLite database ({said}). Correct the path, or restore a backup.") from error
        raise ConfigError(f"{_shown(url)} cannot be used ({said}). Give its user the right to make and write tables there.") from error
    return Ratings(database)


@contextmanager
def use_ratings(url: str, *, create: bool = False) -> Iterator[Ratings]:
    """The ratings at `url`, closed when the block ends. A file that was made for the block goes again when the block raises.

    Raises:
        ConfigError, RunError: as `open_ratings`.
    """
    address = _address(url)
    file = Path(address.database or "").absolute() if address.get_backend_name() == "sqlite" else None
    is_new = file is not None and not file.exists()
    opened = open_ratings(url, create=create)
    try:
        yield opened
    except BaseException:
        opened.close()
        if is_new:
            for rest in ("", "-wal", "-shm", ".lock"):
                Path(f"{file}{rest}").unlink(missing_ok=True)
        raise
    opened.close()


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
    except (ArgumentError, ValueError) as error:
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
