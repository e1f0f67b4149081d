"""Copies while others write, and putting them back, in the same kind of database or the other."""

import sqlite3
import threading
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from palate.core import ConfigError, DataError, RunError
from palate.ratings import Ratings, open_ratings, schema
from tests.support import postgres
from tests.support.ratings import FIRST, team
from tests.support.waiting import joined

COPIES = 10
"""As many at most while others write: on a busy machine they come so often that the others hardly get on."""


def content(ratings: Ratings, *, without: str = "") -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with ratings.database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in schema.metadata.sorted_tables
            if table.name != without
        }


def test_a_backup_put_back_is_the_same_to_the_last_row(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=20, gold_share=0.1, overlap=2)
    for _ in range(6):
        crew.judge()
    crew.undo()
    ratings.audit("x", "did", "y", 1.0, {"z": [1, None, "ü"]})
    ratings.start_session(crew.raters[0].id, "t", "c", 1.0, 1e12)
    before = content(ratings, without="sessions")
    ratings.backup(tmp_path / "copy.db")
    crew.judge()
    ratings.add_account("later", "rater", 9.0)
    assert content(ratings, without="sessions") != before
    ratings.restore(tmp_path / "copy.db", replace=True)
    assert content(ratings, without="sessions") == before
    assert ratings.session("t", 2.0) is None
    crew.judge()
    ratings.audit("x", "restored", "y", 2.0)
    assert ratings.check() == ()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".copy", "copy"))) == ["copy.db"]


def test_after_a_restore_rows_still_cannot_be_changed(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings)
    crew.judge()
    ratings.backup(tmp_path / "copy.db")
    ratings.restore(tmp_path / "copy.db", replace=True)
    for statement in ("UPDATE judgments SET created = 0", "DELETE FROM judgments"):
        with pytest.raises(Exception, match="append-only"), ratings.database.write() as connection:
            connection.exec_driver_sql(statement)


def test_a_backup_moves_a_project_to_a_server_and_home_again(postgres_server: str, tmp_path: Path) -> None:
    home = open_ratings(str(tmp_path / "home.db"), create=True)
    crew = team(home, items=10)
    for _ in range(4):
        crew.judge()
    home.backup(tmp_path / "copy.db")
    away = open_ratings(postgres.new_database(postgres_server), create=True)
    away.restore(tmp_path / "copy.db")
    assert content(away) == content(home)
    crew.ratings = away
    crew.judge()
    away.backup(tmp_path / "back.db")
    home.restore(tmp_path / "back.db", replace=True)
    assert content(home) == content(away)
    away.close()


def test_a_backup_while_others_write_is_of_one_moment(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=150, raters=3)
    is_over, failures = threading.Event(), []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                held = ratings.claim(crew.project.id, crew.raters[number].id, crew.now, Random(turn))
                assert held is not None
                ratings.submit(held.id, crew.raters[number].id, FIRST, f"{number} {turn}", crew.now)
        except BaseException as error:  # noqa: BLE001 (shown by the test's own thread)
            failures.append(error)
        is_over.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    counts = []
    while (not is_over.is_set() and len(counts) < COPIES) or not counts:
        path = tmp_path / f"copy{len(counts)}.db"
        known = len(list(ratings.judgments(crew.project.id)))
        ratings.backup(path)
        copy = open_ratings(str(path))
        assert copy.check() == ()
        counts.append(len(list(copy.judgments(crew.project.id))))
        assert counts[-1] >= known
        copy.close()
    joined(*threads)
    assert failures == []
    assert len(list(ratings.judgments(crew.project.id))) == 120


def test_who_was_erased_since_stays_erased(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings)
    ratings.backup(tmp_path / "copy.db")
    ratings.erase(crew.raters[1].id, 77.0)
    ratings.restore(tmp_path / "copy.db", replace=True)
    assert ratings.account(crew.raters[1].id).name == ""
    assert ratings.account_by_name(crew.raters[1].name) is None


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "spoilt", "other", "newer"])
def test_what_is_no_backup_is_refused_and_changes_nothing(ratings: Ratings, tmp_path: Path, damage: str) -> None:
    crew = team(ratings, items=200)
    crew.judge()
    path = tmp_path / "copy.db"
    ratings.backup(path)
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("no database " * 100)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "spoilt":
        with path.open("rb+") as file:
            file.seek(path.stat().st_size - 4096)
            file.write(b"\xff" * 4096)
    elif damage == "other":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE theirs (x)")
    else:
        with sqlite3.connect(path) as newer:
            newer.execute("UPDATE alembic_version SET version_num = '9999'")
    before = content(ratings)
    with pytest.raises(DataError, match=r"copy\.db"):
        ratings.restore(path, replace=True)
    assert content(ratings) == before


def test_a_backup_that_cannot_be_written_leaves_the_one_before(ratings: Ratings, tmp_path: Path) -> None:
    team(ratings)
    with pytest.raises(ConfigError, match="not a folder"):
        ratings.backup(tmp_path / "nowhere" / "copy.db")
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "x").touch()
    with pytest.raises(RunError, match="could not be written"):
        ratings.backup(folder)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".taken")] == []
