"""Preference sets of TRL and Hugging Face: `prompt`, `chosen`, `rejected` as texts or messages, with or without votes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from palate.data.cells import Columns
from palate.data.containers import SourceRow
from palate.data.exchange.conclusions import conclusions, nothing_to_write, take_pair
from palate.data.exchange.contents import Exchange
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written, parted
from palate.data.formats.preferences import PreferenceFormat
from palate.data.formats.transcripts import TranscriptFormat
from palate.data.formats.write import preference_row
from palate.data.jsonl import write_rows


@dataclass(frozen=True)
class TRLShape:
    """Rows of pairs with single votes: `votes` and `raters`, or counts in `votes_chosen`, `votes_rejected` and `votes_tie`."""

    name: str = "trl"
    needs: str = "`chosen` and `rejected`, and a `prompt` unless both begin with it"
    loses: str = (
        "orders shown, times, reasons, policies, and items that nobody judged. Rankings become pairs with a smoothed share of votes. "
        "A pair that was judged on several dimensions becomes one row per dimension"
    )

    def fits(self, row: Columns) -> bool:
        """Whether there are two sides."""
        return PreferenceFormat().fits(row)

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item and its votes of each row."""
        into.each(rows, lambda entry: take_pair(entry, (TranscriptFormat(), PreferenceFormat()), into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per pair of candidates and dimension. Raises DataError if there is none."""
        pairs, left_out = parted(conclusions(exchange))
        if not pairs:
            raise nothing_to_write(path, left_out)
        return Written(write_rows(path, (preference_row(pair.preference()) for pair in pairs)), left_out)
