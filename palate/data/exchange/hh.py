r"""Anthropic's HH pairs: two transcripts (`"\n\nHuman: ...\n\nAssistant: ..."`) that differ in the last answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from palate.core import Conversation, Message
from palate.data.cells import Columns
from palate.data.containers import SourceRow
from palate.data.conversations import transcript_turns
from palate.data.exchange.conclusions import Conclusion, conclusions, nothing_to_write, take_pair
from palate.data.exchange.contents import Exchange
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written, unheld
from palate.data.formats.dropped import Dropped
from palate.data.formats.transcripts import TranscriptFormat
from palate.data.jsonl import write_rows

_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System", "text": "Human"}


@dataclass(frozen=True)
class HHShape:
    """Rows with two transcripts and nothing else. The rater is unknown."""

    name: str = "hh"
    needs: str = r'`chosen` and `rejected` that begin with "\n\nHuman:"'
    loses: str = "everything but the texts. Votes and raters become the side that more of them took, and ties are left out"

    def fits(self, row: Columns) -> bool:
        """Whether it is a pair of transcripts."""
        return TranscriptFormat().fits(row)

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item with one vote of the rater `unknown` of each row."""
        into.each(rows, lambda entry: take_pair(entry, (TranscriptFormat(),), into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per pair of candidates of which most raters preferred one. Raises DataError if there is none."""
        rows: list[dict[str, object]] = []
        left_out: list[Dropped] = []
        for result in conclusions(exchange):
            if isinstance(result, Dropped):
                left_out.append(result)
            elif result.probability == 0.5:
                left_out.append(unheld(result.item.id, "as many votes for one side as for the other"))
            else:
                sides = _transcripts(result)
                if sides is None:
                    left_out.append(unheld(result.item.id, "a text would be read as another turn, or tools are called"))
                else:
                    rows.append({"chosen": sides[0], "rejected": sides[1]})
        if not rows:
            raise nothing_to_write(path, left_out)
        return Written(write_rows(path, rows), tuple(left_out))


def _transcripts(conclusion: Conclusion) -> tuple[str, str] | None:
    """Both sides as transcripts, or None if reading would not give them back unchanged."""
    pair = conclusion.preference()
    sides = [(*pair.prompt.conversation, Message("assistant", side.text, side.tool_fields)) for side in (pair.chosen, pair.rejected)]
    written = [_transcript(turns) for turns in sides]
    for turns, transcript in zip(sides, written, strict=True):
        as_read = tuple(Message("user" if turn.role == "text" else turn.role, turn.text.strip(), turn.tool_fields) for turn in turns)
        if not transcript.startswith("\n\nHuman:") or transcript_turns(transcript) != as_read:
            return None
    return written[0], written[1]


def _transcript(turns: Conversation) -> str:
    return "".join(f"\n\n{_SPEAKERS.get(turn.role, turn.role)}: {turn.text.strip()}" for turn in turns)
