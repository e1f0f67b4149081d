"""Tables for spreadsheets: no cell is a formula."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Judgment
from palate.data.exchange import csv_table, guarded, write_exchange
from tests.support.fuzz import sample


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "\uff1d1+1", '=HYPERLINK("http://x")'])
def test_cells_that_begin_as_formulas_do_are_quoted(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["a=1", "1+1", "", -1, 0.5, "ä"])
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
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(exchange.votes)
    assert sum(cell.startswith("'=") for cell in rows[0].values()) == 8
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


def test_rankings_count_candidates_from_one_whatever_was_shown_first() -> None:
    from palate.data.exchange.contents import Vote
    from palate.data.exchange.spreadsheet import ranking

    assert ranking(Vote(Judgment("i", "r", ((0,), (1, 2)), order=(2, 0, 1))).tiers) == "3>1=2"
    assert csv_table([["a,b", 'c"d', "e\nf"]]) == '"a,b","c""d","e\nf"\n'
