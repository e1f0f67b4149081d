"""Tables for spreadsheets: no cell is a formula."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import DataError, Judgment
from palate.data.exchange import convert, csv_table, guarded, read_exchange, write_exchange
from tests.support.fuzz import sample


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "\uff1d1+1", '=HYPERLINK("http://x")'])
def test_cells_that_begin_as_formulas_do_are_quoted(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["\u00a0=1", "\u200b=1", "\ufeff=1", "\u3000@x", "\x0b-1", "12345678901234567890", "12e34", "1E5"])
def test_nor_what_is_hidden_before_a_formula_or_would_be_rounded(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


def test_a_nul_does_not_cut_a_cell() -> None:
    assert guarded("a\0b") == "a\ufffdb"


@pytest.mark.parametrize("cell", ["a=1", "1+1", "", -1, 0.5, "ä", "12", "1.5", "12e", "e12", 10**20])
def test_other_cells_are_as_they_are(cell: object) -> None:
    assert guarded(cell) == cell


def test_every_cell_of_an_export_is_guarded(tmp_path: Path) -> None:
    evil = '=cmd|"/C calc"!A0'
    exchange = sample()
    item = replace(exchange.items[0], stratum=evil, candidates=tuple(replace(one, policy=evil) for one in exchange.items[0].candidates))
    first = exchange.votes[0]
    judgment = replace(first.judgment, dimension=evil, reason=evil, guideline=evil)
    vote = replace(first, judgment=judgment, id=evil, flag=evil, text=evil)
    changed = replace(exchange, items=(item, *exchange.items[1:]), votes=(vote, *exchange.votes[1:]))
    write_exchange(changed, tmp_path / "a.csv", "csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(exchange.votes)
    assert sum(cell.startswith("'=") for cell in rows[0].values()) == 8
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


def test_a_table_says_that_its_bytes_are_utf_8_and_is_known_again(tmp_path: Path) -> None:
    write_exchange(sample(), tmp_path / "a.csv", "csv")
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbfjudgment,")
    with pytest.raises(DataError, match="is a table for spreadsheets"):
        read_exchange(tmp_path / "a.csv")


def test_a_small_archive_that_unpacks_to_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MOST_UNPACKED", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", b" " * 2000)
    with pytest.raises(DataError, match="unpacks to 2000 bytes, more than 1000"):
        read_exchange(tmp_path / "a.zip")


def test_rankings_count_candidates_from_one_whatever_was_shown_first() -> None:
    from palate.data.exchange.contents import Vote
    from palate.data.exchange.spreadsheet import ranking

    assert ranking(Vote(Judgment("i", "r", ((0,), (1, 2)), order=(2, 0, 1))).tiers) == "3>1=2"
    assert csv_table([["a,b", 'c"d', "e\nf"]]) == '\ufeff"a,b","c""d","e\nf"\n'
