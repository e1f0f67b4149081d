r"""Pairs as transcripts, as in Anthropic's HH data: `"\n\nHuman: ...\n\nAssistant: ..."` in `chosen` and `rejected`."""

from __future__ import annotations

from dataclasses import dataclass

from palate.data.cells import Columns, present, text
from palate.data.conversations import is_transcript, transcript_turns
from palate.data.formats.preferences import PAIR_COLUMNS, pair_of_wholes
from palate.data.formats.row_types import PairRow, RowKind


@dataclass(frozen=True)
class TranscriptFormat:
    """Rows with two transcripts that share all but the last assistant turn."""

    name: str = "transcripts"
    kind: RowKind = "preferences"
    needs: str = r'`chosen` and `rejected` that begin with "\n\nHuman:"'
    columns: frozenset[str] = PAIR_COLUMNS - {"prompt"}

    def fits(self, row: Columns) -> bool:
        """Whether `chosen` is a transcript and there is no `prompt` column."""
        return is_transcript(row.get("chosen")) and "prompt" not in row

    def parse(self, row: Columns) -> PairRow:
        """The turns that both sides share as the prompt, and the last assistant turns as completions."""
        chosen, rejected = (text(present(row, side), side) for side in ("chosen", "rejected"))
        return pair_of_wholes(transcript_turns(chosen), transcript_turns(rejected))
