"""Every test that asks for `ratings` runs on SQLite and on a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.ratings import Ratings, open_ratings
from tests.support import postgres
from tests.support.ratings import new_file


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database: it is empty, or has the tables where the test asks for `ratings` too."""
    has_tables = "ratings" in request.fixturenames
    if request.param == "sqlite":
        path = tmp_path / "ratings.db"
        return f"sqlite:///{new_file(path) if has_tables else path}"
    server = request.getfixturevalue("postgres_server")
    return postgres.without_rows(server) if has_tables else postgres.new_database(server)


@pytest.fixture
def ratings(url: str) -> Iterator[Ratings]:
    opened = open_ratings(url)
    yield opened
    opened.close()
