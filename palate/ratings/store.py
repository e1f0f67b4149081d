"""The database as its users see it: every operation of the package, as a method of `Ratings`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from palate.core import ConfigError
from palate.ratings import (
    accounts,
    backup,
    claims,
    counted_answers,
    exports,
    imports,
    items,
    judgments,
    personal_data,
    projects,
    reports,
    sessions,
    standing_answers,
    uncertainty,
    visibility,
)
from palate.ratings.database import Database, make_engine
from palate.ratings.locations import check_location
from palate.ratings.versions import check_version, current, is_empty, is_older, upgrade


class Ratings:
    """A database of projects, items, answers and accounts. Threads can share it, but each process must open its own.

    The methods are the functions of the modules named. An operation is one transaction, and when it returns, its changes are on the disk.
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
    claim_many = claims.claim_many
    release = claims.release
    assignment = claims.assignment

    submit = judgments.submit
    undo = judgments.undo
    adjudicate = judgments.adjudicate
    judgments_of = standing_answers.judgments_of
    has_viewed = visibility.has_viewed
    may_view = visibility.may_view
    view_answers = visibility.view_answers
    as_comparisons = standing_answers.as_comparisons
    undecided_items = standing_answers.undecided_items
    asked_items = counted_answers.asked_items
    project_state = counted_answers.project_state
    num_rows_since = counted_answers.num_rows_since

    import_exchange = imports.import_exchange
    as_exchange = exports.as_exchange

    progress = reports.progress
    num_answered = reports.num_answered
    gold_record = reports.gold_record
    time_log = reports.time_log
    check = reports.check

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
    record_failed_login = sessions.record_failed_login
    failed_logins = sessions.failed_logins
    forget_failed_logins = sessions.forget_failed_logins

    open_invitations = sessions.open_invitations
    end_invitations = sessions.end_invitations
    issue_link = sessions.issue_link
    find_link = sessions.find_link
    redeem_link = sessions.redeem_link

    audit = accounts.audit
    audit_log = accounts.audit_log
    restore = backup.restore

    # These come last, because from here on each name means the method, not the module.
    accounts = accounts.all_accounts
    backup = backup.backup
    counted_answers = counted_answers.counted_answers
    items = items.all_items
    judgments = standing_answers.judgments
    projects = projects.all_projects

    def close(self) -> None:
        """Close all connections."""
        self.database.close()


def open_ratings(url: str, *, create: bool = False) -> Ratings:
    """Open the ratings at `url`: a path, `sqlite:///path`, or `postgresql+psycopg://user@host/name`.

    Args:
        url: the address of the database.
        create: make the tables if the database is empty, and the file if it does not exist.

    Raises:
        ConfigError: the database does not exist, cannot be written, is on a network file system, or has an older or newer schema.
        RunError: the server does not answer.
    """
    database = _connect(url, create=create)
    try:
        with database.write() as connection:
            if create and is_empty(connection):
                upgrade(connection)
            check_version(connection, _without_password(url))
    except DatabaseError as error:
        cause = str(error.orig).strip().splitlines()[0]
        if database.is_sqlite:
            raise ConfigError(
                f"{_without_password(url)} is not a SQLite database ({cause}). Correct the path, or restore a backup."
            ) from error
        raise ConfigError(
            f"{_without_password(url)} cannot be used ({cause}). Give its user the right to make and write tables there."
        ) from error
    return Ratings(database)


@contextmanager
def use_ratings(url: str, *, create: bool = False) -> Iterator[Ratings]:
    """Open the ratings at `url` and close them when the block ends. If the block raises, a file made for it is deleted again.

    Raises:
        ConfigError, RunError: as `open_ratings` does.
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
            for suffix in ("", "-wal", "-shm", ".lock"):
                Path(f"{file}{suffix}").unlink(missing_ok=True)
        raise
    opened.close()


def upgrade_ratings(url: str) -> tuple[str, str]:
    """Upgrade the schema of the ratings at `url` in one transaction, and return (version before, version after).

    Raises:
        ConfigError: as `open_ratings` does, except for an older schema.
    """
    database = _connect(url, create=False)
    try:
        with database.write() as connection:
            before = current(connection)
            if not is_older(before):
                check_version(connection, _without_password(url))
            upgrade(connection)
            return before, current(connection)
    finally:
        database.close()


def _connect(url: str, *, create: bool) -> Database:
    address = _address(url)
    file = None
    if address.get_backend_name() == "sqlite":
        file = Path(address.database or "").absolute()
        check_location(file)
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
        raise ConfigError(f"{url!r} is not an address of a database. Give a path, or postgresql+psycopg://user@host/name.") from error
    name = address.get_backend_name()
    if name == "sqlite" and address.database in {None, "", ":memory:"}:
        raise ConfigError("Ratings need a file, because a database in memory would be lost. Give sqlite:///path.")
    if name == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    if name != "sqlite":
        raise ConfigError(
            f"{_without_password(url)}: Palate keeps ratings in SQLite or PostgreSQL, not in {name}. Give sqlite:/// or postgresql+psycopg://."
        )
    return address


def _without_password(url: str) -> str:
    """Return the address without its password, for messages."""
    return make_url(url).render_as_string(hide_password=True) if "://" in url else url
