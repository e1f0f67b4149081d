"""Preference sets of TRL and Hugging Face: `prompt`, `chosen`, `rejected` as texts or messages, with or without votes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from palate.data.containers import Found
from palate.data.exchange.cells import Columns
from palate.data.exchange.conclusions import conclusions, nothing_to_write, take_pair
from palate.data.exchange.exchange import Exchange
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written
from palate.data.formats.dropped import Dropped
from palate.data.formats.hh import TranscriptFormat
from palate.data.formats.preferences import PreferenceFormat
from palate.data.formats.write import preference_row
from palate.data.jsonl import write_rows


@dataclass(frozen=True)
class TRLShape:
    """Rows of pairs; `votes` and `raters`, or counts in `votes_chosen`, `votes_rejected`, `votes_tie`, are single votes."""

    name: str = "trl"
    needs: str = "`chosen` and `rejected`, and a `prompt` unless both begin with it"
    loses: str = (
        "orders shown, times, reasons, policies, and items that nobody judged. Rankings become pairs with a smoothed share of votes. "
        "A pair that was judged on several dimensions becomes one row per dimension"
    )

    def fits(self, row: Columns) -> bool:
        """Whether there are two sides."""
        return PreferenceFormat().fits(row)

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; each row becomes an item and its votes."""
        into.each(
            rows, lambda found: take_pair(found, TranscriptFormat() if TranscriptFormat().fits(found.row) else PreferenceFormat(), into)
        )

    def write(self, exchange: Exchange, path: Path) -> Written:
        """What was written: one row for each two candidates and dimension. Raises DataError where there are none."""
        found = list(conclusions(exchange))
        pairs = [one.preference() for one in found if not isinstance(one, Dropped)]
        left_out = tuple(one for one in found if isinstance(one, Dropped))
        if not pairs:
            raise nothing_to_write(path, left_out)
        return Written(write_rows(path, map(preference_row, pairs)), left_out)
