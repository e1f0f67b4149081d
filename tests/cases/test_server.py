"""Strangers and hostile clients of the rating server, and what its exports and figures say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from palate.ratings import Answer
from tests.support import postgres
from tests.support.label_cases import played
from tests.support.rating_server import open_rating_server
from tests.support.ratings import team


def test_an_interval_holds_its_figure(tmp_path: Path) -> None:
    """Two raters who contradict each other on four pairs: the votes of the case, whose script reads the page of an old version."""
    with open_rating_server(tmp_path) as server:
        crew = team(server.ratings, items=4, raters=2, overlap=2)
        for rater in range(2):
            while held := crew.claim(rater):
                win = held.order.index((rater + int(server.ratings.item(held.item).candidates[0].text[0])) % 2)
                crew.submit(held, Answer(ranking=((win,), (1 - win,)), seconds=3.0), rater)
        server.account("olga", "owner")
        figures = server.client("olga").http.get(f"/api/projects/{crew.project.id}/agreement").json()
    alpha = next(one for one in figures if one["name"] == "Krippendorff's alpha")
    assert alpha["value"] == pytest.approx(-0.75)
    bounded = [one for one in figures if one["low"] is not None]
    assert len(bounded) > 3
    assert [one for one in bounded if not one["low"] <= one["value"] <= one["high"]] == []


def test_a_key_with_a_nul_is_refused_and_the_rest_moves_to_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := postgres.why_not():
        pytest.skip(reason)
    with postgres.server() as address:
        monkeypatch.setenv("PALATE_PG", postgres.new_database(address))
        printed = played("27-", monkeypatch)
    assert "NUL character" in printed
    assert "Traceback" not in printed


def test_json_of_a_stranger_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = played("29-", monkeypatch)
    assert re.search(r"^401 after", printed, flags=re.M)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = played("30-", monkeypatch)
    assert ": 422 [" in printed
    assert "unpacks to more than" in printed


def test_the_date_of_a_picture_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = played("31-", monkeypatch).splitlines()
    assert lines == ["[None, None]"] * 3


def test_nobody_works_longer_than_the_clock_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = ast.literal_eval(played("32-", monkeypatch))[:1]
    assert row.split()[-1] == "0.0"


def test_a_table_for_spreadsheets_says_how_its_bytes_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert played("36-", monkeypatch).strip() == repr(b"\xef\xbb\xbf")
