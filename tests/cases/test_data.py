"""Comparable cases about readers: files of other people's kinds, each read as what it is, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.core import DataError, Message
from palate.data.exchange import read_exchange
from palate.data.formats import Table, dropped_summary, prompt_row, read_demonstrations, read_preferences, read_prompts, read_unpaired
from palate.data.jsonl import write_rows
from tests.support.repository import ROOT

CASES = ROOT.parent / "shared" / "cases"
TRAIN, LABEL = CASES / "train" / "data", CASES / "label"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the folder of comparable cases is not beside the repository")


def only(table: Table[object]) -> object:
    """The only row of a table without dropped ones."""
    assert not table.dropped, dropped_summary(table)
    (row,) = table.rows
    return row


def test_a_system_column_is_the_first_turn() -> None:
    (row,) = read_demonstrations(TRAIN / "system_column.jsonl").rows
    assert row.conversation == (Message("system", "Answer in French."), Message("user", "Good day"), Message("assistant", "Bonjour"))
    assert row.learned == (2,)


def test_a_question_column_is_the_prompt() -> None:
    table = read_preferences(TRAIN / "question_column.jsonl")
    assert not table.dropped
    assert [row.prompt.conversation for row in table.rows] == [
        (Message("system", "Be brief."), Message("user", "Which fruit is red?")),
        (Message("system", "Be brief."), Message("user", "Which root is orange?")),
    ]
    assert [(row.chosen.text, row.rejected.text) for row in table.rows][1] == ("A carrot.", "Snow.")


def test_messages_as_text_are_messages() -> None:
    (row,) = read_preferences(TRAIN / "messages_as_text.jsonl").rows
    assert row.prompt.conversation == (Message("user", "Which fruit is red?"),)
    assert (row.chosen.text, row.rejected.text) == ("An apple.", "A leek.")


def test_several_splits_are_not_one() -> None:
    with pytest.raises(DataError, match=r"train_gen, train_prefs, train_sft and several are for training .*; name the file"):
        read_preferences(TRAIN / "splits")


def test_numbers_as_text_are_numbers() -> None:
    (row,) = read_preferences(TRAIN / "scores.csv").rows
    assert row.margin == 6


def test_a_long_cell_is_read() -> None:
    assert [len(row.conversation[-1].text) > 131_072 for row in read_demonstrations(TRAIN / "long_cell.csv").rows] == [False, True]


def test_nan_is_absent_and_what_is_read_can_be_written(tmp_path: Path) -> None:
    rows = read_prompts(TRAIN / "nan_field.parquet").rows
    assert [row.fields for row in rows] == [{"score": 1.0}, {}]
    write_rows(tmp_path / "a.jsonl", map(prompt_row, rows))


def test_zero_and_one_are_labels() -> None:
    demonstrations = read_demonstrations(TRAIN / "labels_as_numbers.jsonl")
    assert [row.conversation[-1].text for row in demonstrations.rows] == [" An apple."]
    assert dropped_summary(demonstrations).startswith("1 x an undesirable completion is not imitated")
    assert [row.desirable for row in read_unpaired(TRAIN / "labels_as_numbers.jsonl").rows] == [True, False]


def test_a_transcript_with_windows_line_ends_has_turns() -> None:
    (row,) = read_preferences(TRAIN / "transcript_crlf.jsonl").rows
    assert row.prompt.conversation == (Message("user", "Which fruit is red?"),)
    assert (row.chosen.text, row.rejected.text) == ("An apple.", "A leek.")


def test_votes_in_a_table_are_votes() -> None:
    exchange = read_exchange(LABEL / "08-votes-in-csv-turned-round" / "votes.csv")
    assert [(vote.judgment.rater, vote.judgment.ranking) for vote in exchange.votes] == [
        ("ann", ((0,), (1,))),
        ("bob", ((1,), (0,))),
        ("cid", ((1,), (0,))),
    ]


@pytest.mark.parametrize(("name", "votes", "items"), [("mt", 1, 1), ("pandalm", 2, 1), ("counts", 4, 1), ("items", 0, 1)])
def test_documented_kinds_are_read_as_tables(name: str, votes: int, items: int) -> None:
    exchange = read_exchange(LABEL / "09-csv-of-documented-kinds" / f"{name}.csv")
    assert (len(exchange.votes), len(exchange.items)) == (votes, items)
    assert all(len(item.candidates) == 2 for item in exchange.items)
