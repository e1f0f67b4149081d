"""Where a SQLite database may lie, which schemas are read, and what a full disk does."""

import os
import sqlite3
import tempfile
from pathlib import Path

import psycopg
import pytest

from palate.core import ConfigError, PalateError, RunError
from palate.ratings import Answer, Item, open_ratings, upgrade_ratings
from palate.ratings.locations import check_location, file_system
from palate.ratings.schema import metadata
from tests.support import postgres
from tests.support.ratings import FIRST, pair, team


def test_a_missing_file_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        open_ratings(str(tmp_path / "r.db"))
    open_ratings(str(tmp_path / "r.db"), create=True).close()
    open_ratings(f"sqlite:///{tmp_path / 'r.db'}").close()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("sqlite://", "in memory"),
        ("postgresql+psycopg://a@host:port/x", "is not an address"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://me@server/x", "not in mysql"),
        ("http://server", "not an address|not in http"),
        ("sqlite:////no/such/folder/r.db", "not a folder"),
        ("/", "folder"),
    ],
)
def test_addresses_that_cannot_be_are_refused(url: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        open_ratings(url, create=True)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(RunError, match="does not answer") as caught:
        open_ratings("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_the_settings_of_a_connection_are_those_that_lose_nothing(tmp_path: Path) -> None:
    ratings = open_ratings(str(tmp_path / "r.db"), create=True)
    with ratings.database.write() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    ratings.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_network_file_system_is_refused_by_its_type(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    share = tmp_path / "a share"
    share.mkdir()
    escaped = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\n/dev/vdb {escaped}/local ext4 rw 0 0\n")
    assert file_system(share / "r.db", mounts) == ("nfs4", str(share))
    with pytest.raises(ConfigError, match="network file system .nfs4"):
        check_location(share / "r.db", mounts=mounts)
    (share / "local").mkdir()
    check_location(share / "local" / "r.db", mounts=mounts)
    (tmp_path / "link").symlink_to(share)
    with pytest.raises(ConfigError, match="PostgreSQL"):
        check_location(tmp_path / "link" / "r.db", mounts=mounts)


def as_nobody(file: Path) -> str:
    """What opening the ratings says to a user who has no rights of his own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setegid(65534)
                os.seteuid(65534)
            open_ratings(str(file), create=True)
            said = "opened"
        except PalateError as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 (told to the parent)
            said = f"other {error!r}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_folder_or_file_that_may_not_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, whose parents are closed to others
        folder = Path(name)
        folder.chmod(0o555)
        assert as_nobody(folder / "r.db").startswith("ConfigError: The folder ")
        folder.chmod(0o777)
        open_ratings(str(folder / "r.db"), create=True).close()
        (folder / "r.db").chmod(0o444)
        assert "cannot be read and written" in as_nobody(folder / "r.db")


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but a text file that is long enough", b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.db").write_bytes(content)
    with pytest.raises((ConfigError, RunError), match=r"r\.db|not"):
        open_ratings(str(tmp_path / "r.db"), create=True)
    assert (tmp_path / "r.db").read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError, match="not one of ratings"):
        open_ratings(str(tmp_path / "r.db"), create=True)


def test_a_newer_schema_is_refused(url: str) -> None:
    ratings = open_ratings(url, create=True)
    with ratings.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for call in (open_ratings, upgrade_ratings):
        with pytest.raises(ConfigError, match="a newer one wrote it"):
            call(url)


def test_the_migrations_make_what_the_schema_says(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    ratings = open_ratings(url, create=True)
    with ratings.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_full_disk_refuses_new_answers_and_keeps_the_old(tmp_path: Path) -> None:
    ratings = open_ratings(str(tmp_path / "r.db"), create=True)
    crew = team(ratings, items=60)
    for _ in range(5):
        crew.judge()
    held = crew.sure()
    # SQLite's own limit stands for the disk: what it says and does is the same as without space.
    with ratings.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    ratings.database.engine.dispose()

    from sqlalchemy import event

    event.listen(ratings.database.engine, "connect", lambda connection, _: connection.execute(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(RunError, match=r"full.*Free some space"):
        crew.submit(held, Answer(ranking=FIRST.ranking, reason="long " * 50_000))
    with pytest.raises(RunError, match="full"):
        ratings.add_items(crew.project.id, [Item(pair(f"x{n}").conversation, pair(f"{'y' * 5000}{n}").candidates) for n in range(50)], 5.0)
    ratings.close()
    again = open_ratings(str(tmp_path / "r.db"))
    crew.ratings = again
    assert len(list(again.judgments(crew.project.id))) == 5
    assert crew.submit(held).status == "kept"
    assert again.check() == ()


def test_a_role_without_rights_is_told_so(postgres_server: str) -> None:
    url = postgres.new_database(postgres_server)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
    with pytest.raises(ConfigError, match="Give its user the right"):
        open_ratings(url.replace("palate@", "stranger@"), create=True)
