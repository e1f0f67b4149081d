"""Databases of older schemas: refused until they are upgraded, and upgraded without losing a row.

`schema_0004.json` has the rows of a database that the last version with schema 0004 wrote, table by table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError

from palate.cli import main
from palate.core import ConfigError, RunError
from palate.ratings import Answer, Link, Ratings, open_ratings, schema, upgrade_ratings
from palate.ratings.database import make_engine
from palate.ratings.table_rows import answer_of
from palate.ratings.versions import head, upgrade
from tests.support.ratings import Team

Rows = dict[str, list[dict[str, Any]]]
VERSIONS = ("0001", "0002", "0003", "0004")


@cache
def old_rows() -> Rows:
    rows: Rows = json.loads(Path(__file__).with_name("schema_0004.json").read_text(encoding="utf-8"))
    return rows


def new_row(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row as it must be after the upgrade."""
    column = {"projects": "task", "judgments": "answer"}.get(table, "")
    if column:
        row = row | {column: {"dimensions" if key == "axes" else key: value for key, value in row[column].items()}}
    return {"item": row["item"], "account": row["account"], "viewed": row["first"]} if table == "looks" else row


def insert_rows(connection: Connection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows by SQL alone, as a program would that knows nothing of the package."""
    names = list(rows[0])
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
    values = [{name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()} for row in rows]
    connection.execute(text(statement), values)


def old_database(url: str, version: str, tables: Rows) -> Engine:
    """The engine of a database with this schema that has the rows of those tables that the schema knows."""
    engine = make_engine(make_url(url))
    with engine.begin() as connection:
        upgrade(connection, version)
        known = set(inspect(connection).get_table_names())
        for table, rows in tables.items():
            if table in known:
                insert_rows(connection, table, rows)
            if table in known and "number" in rows[0] and table != "items" and engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'number'), {len(rows)})"))
    return engine


def rows_now(ratings: Ratings) -> Rows:
    with ratings.database.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()]
            for table in schema.metadata.sorted_tables
        }


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_database_is_refused_until_it_is_upgraded_and_loses_nothing(
    url: str, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with old_database(url, version, old_rows()).connect() as connection:
        known = set(inspect(connection).get_table_names())
    with pytest.raises(ConfigError, match=rf"has schema {version}.*palate label --upgrade") as caught:
        open_ratings(url)
    assert str(caught.value).count(". ") == 0
    assert main(["label", "--ratings", url, "--upgrade"]) == 0
    assert version in capsys.readouterr().out
    ratings = open_ratings(url)
    expected = {table: [new_row(table, row) for row in rows] for table, rows in old_rows().items() if table in known}
    if "looks" in expected:
        expected["item_views"] = expected.pop("looks")
    found = rows_now(ratings)
    assert {table: rows for table, rows in found.items() if rows} == expected
    assert ratings.check() == ()
    assert upgrade_ratings(url) == (head(), head())
    ratings.close()


def test_every_answer_of_an_older_database_reads_as_it_was_given(url: str) -> None:
    old_database(url, "0004", old_rows()).dispose()
    assert upgrade_ratings(url) == ("0004", head())
    ratings = open_ratings(url)
    projects = {project.name: project for project in ratings.projects()}
    assert {name: project.task.dimensions for name, project in projects.items()} == {
        "two dimensions": ("helpful", "honest"),
        "rules": ("overall",),
        "ranks": ("overall", "axes"),
    }
    answers = {entry.id: entry.answer for project in projects.values() for entry in ratings.judgments(project.id)}
    for row in old_rows()["judgments"]:
        former = dict(row["answer"])
        ranked = {name: tuple(map(tuple, tiers)) for name, tiers in former.pop("axes", {}).items()}
        assert answers[row["id"]].dimensions == ranked
        assert answers[row["id"]] == answer_of(former | {"dimensions": ranked})
    compared, judgments = ratings.as_comparisons(projects["two dimensions"].id)
    assert [judgment.is_decision for judgment in judgments if judgment.dimension == "honest"] == [False, False, False, True]
    assert len(compared) == 5
    ratings.close()


def test_work_goes_on_in_an_upgraded_database(url: str) -> None:
    old_database(url, "0004", old_rows()).dispose()
    upgrade_ratings(url)
    ratings = open_ratings(url)
    project = next(project for project in ratings.projects() if project.name == "two dimensions")
    raters = [account for account in ratings.accounts() if account.role == "rater"]
    crew = Team(ratings, project, raters, Random(1), now=1.8e9)
    two_dimensions = Answer(((0,), (1,)), dimensions={"honest": ((1,), (0,))})
    crew.judge(answer=two_dimensions)
    assert list(ratings.judgments(project.id))[-1].answer == two_dimensions
    assert ratings.as_exchange(project.id).project == replace(project, id="")
    ratings.issue_link("hash", Link("setup", None, 2e9), 1.8e9)
    for table in schema.APPEND_ONLY:
        for change in (f"UPDATE {table} SET created = 0", f"DELETE FROM {table}"):
            with pytest.raises(DBAPIError, match="append-only"), ratings.database.write() as connection:
                connection.execute(text(change))
    ratings.close()


def test_more_judgments_than_one_page_are_upgraded(url: str) -> None:
    """Every second answer has further dimensions; some of the others have the old word in what a rater wrote."""
    many = dict(old_rows())
    template = many["judgments"][0] | {"assignment": None}
    answers: list[dict[str, Any]] = [
        {"ranking": [[0], [1]], "axes": {"honest": [[number % 2], [1 - number % 2]]}, "seconds": number / 7}
        if number % 2
        else {"text": 'of "axes"', "reason": "axes"}
        for number in range(2503)
    ]
    many["judgments"] = [
        template | {"number": number + 1, "id": f"{number:024x}", "key": f"key {number}", "answer": answer}
        for number, answer in enumerate(answers)
    ]
    old_database(url, "0004", many).dispose()
    upgrade_ratings(url)
    ratings = open_ratings(url)
    assert rows_now(ratings)["judgments"] == [new_row("judgments", row) for row in many["judgments"]]
    ratings.close()


def test_an_upgrade_that_fails_changes_nothing(url: str) -> None:
    engine = old_database(url, "0004", old_rows())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item_views (x INTEGER)"))  # the last step of the upgrade cannot be done
    with pytest.raises((DBAPIError, RunError)):
        upgrade_ratings(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0004"
        left = connection.execute(text("SELECT answer FROM judgments ORDER BY number")).scalars().all()
        assert [json.loads(row) if isinstance(row, str) else row for row in left] == [row["answer"] for row in old_rows()["judgments"]]
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text("UPDATE judgments SET created = 0"))
    engine.dispose()


def test_a_backup_of_an_older_database_is_upgraded_as_it_is_restored(url: str, tmp_path: Path) -> None:
    copy = tmp_path / "old.db"
    old_database(f"sqlite:///{copy}", "0004", old_rows()).dispose()
    ratings = open_ratings(url, create=True)
    ratings.restore(copy)
    found = rows_now(ratings)
    assert found["judgments"] == [new_row("judgments", row) for row in old_rows()["judgments"]]
    assert found["item_views"] == [new_row("looks", row) for row in old_rows()["looks"]]
    ratings.close()
