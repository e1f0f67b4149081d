"""Judgments as files: JSON lines with everything but names, and a table that no spreadsheet takes for formulas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from palate.stores.exchange import csv_table
from palate.stores.ratings import Entry, Ratings
from palate.web.wording import words_of

COLUMNS = (
    "judgment",
    "item",
    "rater",
    "kind",
    "status",
    "standing",
    "answer",
    "strength",
    "reason",
    "text",
    "flag",
    "seconds",
    "guideline",
    "created",
)


def as_jsonl(ratings: Ratings, project: str) -> Iterator[str]:
    """One line a row of the table of judgments: whoever answered stands there by pseudonym alone."""
    for entry in ratings.judgments(project):
        row = asdict(entry)
        row["rater"] = row.pop("pseudonym")
        yield json.dumps(row, ensure_ascii=False) + "\n"


def as_csv(ratings: Ratings, project: str) -> Iterator[str]:
    """A table for reading. A cell that a spreadsheet would compute begins with an apostrophe instead."""
    yield csv_table([COLUMNS])
    for entry in ratings.judgments(project):
        yield csv_table([_cells(entry)])


def _cells(entry: Entry) -> tuple[object, ...]:
    answer = entry.answer
    return (
        entry.id, entry.item, entry.pseudonym, entry.kind, entry.status, entry.is_standing, words_of(answer, entry.order), answer.strength,
        answer.reason, answer.text, answer.flag, answer.seconds, entry.guideline, entry.created,
    )  # fmt: skip
