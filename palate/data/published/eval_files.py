"""Read the questions of evals from published files, recognised by their columns, or from eval rows of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from palate.core import DataError, Prompt, derive_seed
from palate.data.containers import SourceRow, read_container
from palate.data.formats import read_prompts
from palate.data.formats.dropped import Dropped
from palate.data.published.bbq import BBQ
from palate.data.published.crows_pairs import CROWS_PAIRS
from palate.data.published.eval_questions import EvalQuestion, PublishedEval
from palate.data.published.gsm8k import GSM8K
from palate.data.published.ifeval import IFEVAL
from palate.data.published.truthfulqa import TRUTHFULQA_CSV, TRUTHFULQA_JSON
from palate.data.published.winobias import SUFFIXES, winobias_questions
from palate.data.published.xstest import XSTEST

PUBLISHED: tuple[PublishedEval, ...] = (XSTEST, TRUTHFULQA_JSON, TRUTHFULQA_CSV, BBQ, CROWS_PAIRS, GSM8K, IFEVAL)
"""Published evals with columns, in the order in which a file is compared with them."""

T = TypeVar("T")

_LIKE = 0.5
"""A file that has this share of the columns of a published eval is taken for a changed copy of it."""


@dataclass(frozen=True, slots=True)
class EvalTable:
    """The questions of a file, and the rows of it that cannot be used."""

    questions: tuple[Prompt, ...]
    dropped: tuple[Dropped, ...] = ()


def read_evals(path: str | Path, *, chat: bool, limit: int | None = None) -> EvalTable:
    """Return the questions in a file: a published eval as it is, or eval rows of one's own.

    Args:
        path: the file.
        chat: whether published questions are put as a user's turn, and not as plain text. Rows of one's own say it themselves.
        limit: how many rows are taken, at most, as a fixed random choice that is the same for every model and seed.

    Raises:
        DataError: the file cannot be read, looks like a published eval with a column missing, or a row of a published eval is wrong. A
            published eval without some of its rows would have another result, so its rows are never left out.
    """
    file = Path(path)
    if file.suffix in SUFFIXES and file.is_file():
        return EvalTable(
            tuple(_prompt(entry, question, 0, chat=chat) for entry, question in fixed_choice(list(winobias_questions(file)), limit))
        )
    rows = read_container(path)
    first = next(rows, None)
    published = None if first is None else _published(first)
    if first is None or published is None:
        table = read_prompts(path)
        return EvalTable(tuple(fixed_choice(list(table.rows), limit)), tuple(table.dropped))
    return EvalTable(tuple(_asked(fixed_choice([first, *rows], limit), published, chat=chat)))


def _asked(rows: list[SourceRow], published: PublishedEval, *, chat: bool) -> Iterator[Prompt]:
    for entry in rows:
        if entry.fault:
            raise DataError(f"{entry.source}: {entry.fault}. Take the file as it is published")
        _check_columns(entry, published)
        for at, question in enumerate(published.read(entry)):
            yield _prompt(entry, question, at, chat=chat)


def _prompt(entry: SourceRow, question: EvalQuestion, at: int, *, chat: bool) -> Prompt:
    name = f"{entry.place}#{at + 1}" if at else entry.place
    return Prompt(name, question.conversation(chat=chat), question.columns(chat=chat), entry.source)


def _published(entry: SourceRow) -> PublishedEval | None:
    """Return the published eval whose columns the row has, or None. Raises DataError where it has most of the columns of one."""
    if "eval" in entry.row:
        return None
    found = next((one for one in PUBLISHED if one.columns <= entry.row.keys()), None)
    nearest = max(PUBLISHED, key=lambda one: len(one.columns & entry.row.keys()) / len(one.columns))
    if found is None and len(nearest.columns & entry.row.keys()) / len(nearest.columns) >= _LIKE:
        _check_columns(entry, nearest)
    return found


def _check_columns(entry: SourceRow, published: PublishedEval) -> None:
    missing = sorted(published.columns - entry.row.keys())
    if missing:
        names = ", ".join(map(str, entry.row))
        raise DataError(
            f"{entry.source}: looks like {published.title}, but has no column {', '.join(f'`{name}`' for name in missing)}. "
            f"It has: {names}. Take the file as it is published, or rename the column back"
        )


def fixed_choice(rows: list[T], limit: int | None) -> list[T]:
    """Return at most `limit` rows, in their order, as a random choice that is the same each time for as many rows."""
    if limit is None or len(rows) <= limit:
        return rows
    rng = np.random.default_rng(derive_seed(0, "evals_limit"))
    return [rows[at] for at in sorted(rng.choice(len(rows), limit, replace=False))]
