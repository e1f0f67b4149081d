"""What SQLite would take and PostgreSQL refuses is refused by both, and what older versions took can still be moved."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import String, Text

from palate.core import ConfigError, DataError, Message
from palate.ratings import Candidate, Item, Project, Ratings, open_ratings, schema
from palate.ratings.columns import INDEXED_BYTES, LongText, ShortText, json_text, storable
from palate.web.command import restore
from palate.web.options import LabelOptions
from tests.support.ratings import FIRST, team

BAD = ["abcdefgh\0", "abcdefgh\ud800"]


def test_every_text_column_is_checked() -> None:
    columns = [column for table in schema.metadata.sorted_tables for column in table.columns]
    assert [str(column) for column in columns if isinstance(column.type, String | Text)] == []
    assert sum(isinstance(column.type, ShortText | LongText) for column in columns) > 40


@pytest.mark.parametrize("key", BAD)
def test_a_key_that_one_database_cannot_hold_is_refused_by_both(ratings: Ratings, key: str) -> None:
    crew = team(ratings)
    held = crew.sure()
    for use in (
        lambda: ratings.submit(held.id, crew.raters[0].id, FIRST, key, 5.0),
        lambda: ratings.undo(crew.project.id, crew.raters[0].id, key, 5.0),
        lambda: ratings.adjudicate(held.item, crew.raters[0].id, FIRST, key, 5.0),
        lambda: ratings.project(key),
        lambda: ratings.item(key),
        lambda: ratings.assignment(key),
        lambda: ratings.account(key),
        lambda: ratings.set_guideline(crew.project.id, key, 5.0),
        lambda: ratings.audit(key, "a", "b", 5.0),
    ):
        with pytest.raises(DataError):
            use()
    with pytest.raises(ConfigError):
        ratings.add_account(key, "rater", 5.0)
    assert ratings.account_by_name(key) is None
    ratings.record_failed_login(key, "1.2.3.4", 5.0)
    assert list(ratings.judgments(crew.project.id)) == []
    crew.judge()  # and nothing is broken afterwards


def test_a_text_longer_than_its_column_is_refused_by_both(ratings: Ratings) -> None:
    with pytest.raises(DataError, match="has 129 characters where 128 fit"):
        ratings.session("x" * 129, 5.0)


def test_a_name_that_an_index_cannot_hold_is_refused_by_both(ratings: Ratings) -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=4000))  # PostgreSQL compresses what repeats
    with pytest.raises(ConfigError, match="more than 2000 bytes"):
        ratings.add_project(Project(noise), 1.0)
    project = ratings.add_project(Project(noise[:INDEXED_BYTES]), 1.0)
    item = Item((Message("user", "q"),), (Candidate("a"), Candidate("b")), stratum=noise, policy="p")
    with pytest.raises(DataError, match="more than 2000 bytes"):
        ratings.add_items(project.id, [item], 2.0)
    fits = noise[:INDEXED_BYTES]
    ratings.add_items(project.id, [Item(item.conversation, item.candidates, stratum=fits, policy=fits)], 2.0)


@pytest.mark.parametrize("value", [{"a": float("nan")}, [float("inf")], {"a": object()}])
def test_json_that_postgresql_does_not_read_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="cannot be stored as JSON"):
        json_text(value)


def test_what_older_versions_took_becomes_what_both_hold() -> None:
    short, long = ShortText(32), LongText()
    assert storable("as it is", short, is_indexed=True) == "as it is"
    assert storable(None, short, is_indexed=True) is None
    changed = storable("a\0", short, is_indexed=True)
    assert changed == storable("a\0", short, is_indexed=True)
    assert changed != storable("a\ufffd", short, is_indexed=True)
    assert changed.startswith("a\ufffd~")
    assert len(storable("x" * 100, short, is_indexed=False)) == 32
    assert len(storable("\u20ac" * 3000, long, is_indexed=True).encode()) <= INDEXED_BYTES
    assert storable("\u20ac" * 3000, long, is_indexed=False) == "\u20ac" * 3000


def test_an_old_database_with_a_nul_can_be_moved(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The old file has what this version refuses, put there behind its back."""
    old = tmp_path / "old.db"
    with closing(open_ratings(str(old), create=True)) as ratings:
        crew = team(ratings, items=2)
        crew.judge()
        with closing(sqlite3.connect(old)) as raw:
            for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                raw.execute(f"DROP TRIGGER {trigger}")
            raw.execute("UPDATE judgments SET key = 'abcdefgh' || char(0)")
            raw.execute("UPDATE items SET stratum = char(0)")
            raw.execute("UPDATE cells SET stratum = char(0)")
            raw.commit()
        ratings.backup(tmp_path / "copy.db")
    said: list[str] = []
    options = LabelOptions(ratings=url if "postgresql" in url else str(tmp_path / "new.db"), restore=tmp_path / "copy.db")
    restore(options, said.append)
    with closing(open_ratings(options.ratings)) as moved:
        assert len(list(moved.judgments(crew.project.id))) == 1
        assert len({item.stratum for item in moved.items(crew.project.id)}) == 1
        assert moved.check() == ()
    if "postgresql" in url:
        assert any("1 text in judgments.key" in line for line in said)
        assert any("2 texts in items.stratum" in line for line in said)
