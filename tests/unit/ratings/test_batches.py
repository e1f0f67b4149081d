"""Writers that share a transaction: each has its own result or error, and nobody is told before it is on the disk."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert, select

from palate.core import DataError, RunError
from palate.ratings import Ratings, open_ratings, schema
from tests.support.waiting import happened, joined, wait_until


def put(name: str) -> dict[str, object]:
    return {"actor": "", "action": name, "subject": "", "created": 0.0, "detail": {}}


@pytest.fixture
def ratings(tmp_path: Path) -> Ratings:
    return open_ratings(str(tmp_path / "r.db"), create=True)


def together(ratings: Ratings, works: list[object]) -> list[object]:
    """What each work gave or raised, all in one transaction: the first holds it open until the others wait."""
    results: list[object] = [None] * len(works)
    begun, go_on = threading.Event(), threading.Event()

    def first(connection: Connection) -> None:
        begun.set()
        happened(go_on)

    def run(at: int, work: object) -> None:
        try:
            results[at] = ratings.database.run(work)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 (looked at by the test)
            results[at] = error

    leader = threading.Thread(target=lambda: ratings.database.run(first))
    leader.start()
    happened(begun)
    threads = [threading.Thread(target=run, args=(at, work)) for at, work in enumerate(works)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(ratings.database._batches._waiting) == len(works))
    go_on.set()
    joined(leader, *threads)
    return results


def actions(ratings: Ratings) -> set[str]:
    with ratings.database.read() as connection:
        return set(connection.execute(select(schema.audit_log.c.action)).scalars())


def test_one_that_fails_undoes_its_own_changes_alone(ratings: Ratings) -> None:
    def good(connection: Connection) -> str:
        connection.execute(insert(schema.audit_log).values(put("good")))
        return "done"

    def bad(connection: Connection) -> None:
        connection.execute(insert(schema.audit_log).values(put("bad")))
        raise DataError("no")

    commits: list[int] = []
    event.listen(ratings.database.engine, "commit", lambda _: commits.append(1))
    found = together(ratings, [good, bad, good])
    assert sorted(map(str, found)) == ["done", "done", "no"]
    assert len(commits) == 2
    assert actions(ratings) == {"good"}


def test_when_the_transaction_is_taken_back_nobody_is_told_of_success(ratings: Ratings) -> None:
    def work(connection: Connection) -> str:
        connection.execute(insert(schema.audit_log).values(put("x")))
        return "done"

    def breaks_off(connection: Connection) -> str:
        connection.exec_driver_sql("ROLLBACK")
        return "done"

    found = together(ratings, [work, breaks_off, work])
    assert [type(error) for error in found] == [RunError] * 3
    assert actions(ratings) == set()
    assert ratings.database.run(work) == "done"
