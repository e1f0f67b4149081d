"""Write votes as a table for spreadsheets (CSV): one vote per row, and no cell that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.data.exchange.contents import Exchange, Tiers
from palate.data.exchange.shape import Written
from palate.data.files import write_atomic

MARK = "\ufeff"
"""Byte order mark. Without it a spreadsheet reads the bytes as the code page of the machine, and "é" as two characters."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet's formula begins with one of these, even after characters that are not drawn. The last four are full-width forms."""

_HIDDEN = re.compile(r"[\s\x00-\x1f\x7f\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*")
_NUMBER = re.compile(r"\d{16,}|\d+(\.\d*)?[eE]\d+", re.ASCII)
"""Texts that a spreadsheet would take for a number and round: long ids, and ids such as 12e34."""

COLUMNS = (
    *("judgment", "item", "dimension", "rater", "kind", "ranking", "first_shown", "policies", "strength", "seconds", "time"),
    *("status", "all_bad", "skipped", "flag", "reason", "text", "guideline", "stratum", "entry", "rule", "broken", "grades"),
)


@dataclass(frozen=True)
class CSVShape:
    """A table to look at, which Palate does not read back.

    An apostrophe stands before cells that begin like a formula, and before ids that a spreadsheet would round like a number.
    """

    name: str = "csv"
    loses: str = "conversations and candidates. Palate does not read such a table back"

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per vote, with candidates counted from 1 and rankings such as `1>2=3`."""
        kinds, items = exchange.kinds(), {item.id: item for item in exchange.items}
        rows: list[Sequence[object]] = []
        for vote in exchange.votes:
            judgment, item = vote.judgment, items[vote.judgment.comparison]
            first_shown = judgment.order[0] + 1 if judgment.order else None
            policies = " ".join(candidate.policy for candidate in item.candidates)
            row: list[object] = [vote.id, item.id, judgment.dimension, judgment.rater, kinds[judgment.rater], ranking(vote.tiers)]
            row += [first_shown, policies, judgment.strength, judgment.seconds, vote.time, vote.status, vote.is_all_bad, vote.is_skipped]
            row += [vote.flag, judgment.reason, vote.text, judgment.guideline, item.stratum, vote.entry, vote.rule]
            grades = "; ".join(f"{name}: {word}" for name, word in vote.grades.items())
            rows.append([*row, {None: "", True: "yes", False: "no"}[vote.is_broken], grades])
        write_atomic(path, table([COLUMNS, *rows]))
        return Written(len(rows))


def ranking(tiers: Tiers) -> str:
    """Candidates counted from 1, the best first: `2>1=3`."""
    return ">".join("=".join(str(number + 1) for number in tier) for tier in tiers)


def table(rows: Iterable[Sequence[object]]) -> str:
    """CSV for spreadsheets: with a byte order mark, and every cell guarded."""
    file = io.StringIO(newline="")
    file.write(MARK)
    csv.writer(file, lineterminator="\n").writerows([guarded(cell) for cell in row] for row in rows)
    return file.getvalue()


def guarded(cell: object) -> object:
    """The cell, with an apostrophe before a text that a spreadsheet would take for a formula or a number. Numbers stay as they are.

    NUL, which ends a text for some programs, becomes U+FFFD.
    """
    if isinstance(cell, str):
        text = cell.replace("\0", "\ufffd")
        is_formula = text.startswith(FORMULA) or _HIDDEN.sub("", text, count=1).startswith(FORMULA)
        return f"'{text}" if is_formula or _NUMBER.fullmatch(text) else text
    if isinstance(cell, bool):
        return "yes" if cell else ""
    return "" if cell is None else cell
