"""Strangers and hostile clients of the rating server, and what its exports and figures say."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support import postgres
from tests.support.label_cases import played


def test_an_interval_holds_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = played("07-", monkeypatch)
    assert "alpha" in printed
    assert "outside" not in printed


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
