"""Every test that asks for `ratings` runs on SQLite and on a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.ratings import Ratings, open_ratings
from tests.support import postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    reason = postgres.why_not()
    if reason:
        pytest.skip(reason)
    with postgres.server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ratings.db'}"
    return postgres.new_database(request.getfixturevalue("server"))


@pytest.fixture
def ratings(url: str) -> Iterator[Ratings]:
    opened = open_ratings(url, create=True)
    yield opened
    opened.close()
