r"""Pairs as transcripts, as in Anthropic's HH data: `"\n\nHuman: ...\n\nAssistant: ..."` in `chosen` and `rejected`."""

from __future__ import annotations

from dataclasses import dataclass

from palate.data.cells import column, text
from palate.data.formats.preferences import PAIR_COLUMNS, pair_of_wholes
from palate.data.formats.row_types import Columns, PairRow
from palate.data.formats.transcripts import is_transcript, transcript_turns


@dataclass(frozen=True)
class TranscriptFormat:
    """Rows with two transcripts that share all but the last assistant turn."""

    name: str = "transcripts"
    needs: str = r'`chosen` and `rejected` that begin with "\n\nHuman:"'
    columns: frozenset[str] = PAIR_COLUMNS - {"prompt"}

    def fits(self, row: Columns) -> bool:
        """Whether `chosen` is a transcript and no `prompt` is given apart from it."""
        return is_transcript(row.get("chosen")) and "prompt" not in row

    def parse(self, row: Columns) -> PairRow:
        """The turns both share as the prompt, the last assistant turns as completions."""
        chosen, rejected = (text(column(row, side), side) for side in ("chosen", "rejected"))
        return pair_of_wholes(transcript_turns(chosen), transcript_turns(rejected))
