r"""Transcripts as conversations: `"\n\nHuman: ...\n\nAssistant: ..."` (Anthropic's HH), `"Human: ...\nAssistant: ...\n"` (OASST pairs)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from palate.core import Conversation, Message, Role
from palate.data.formats.row_types import InvalidRow

_TURN = re.compile(r"\n\n(Human|Assistant|System):")
_CLOSE_TURN = re.compile(r"(?:^|\n)(Human|Assistant|System): ?")
_ROLES: Mapping[str, Role] = {"Human": "user", "Assistant": "assistant", "System": "system"}


def is_transcript(value: object) -> bool:
    """Whether the value is a string that begins as transcripts do."""
    return isinstance(value, str) and value.startswith(("\n\nHuman:", "Human: "))


def prompt_of_transcript(transcript: str) -> Conversation:
    """The turns up to an open `Assistant:` at the end. Raises Unfit when the last turn is a written assistant turn."""
    turns = transcript_turns(transcript)
    if turns[-1].role == "assistant":
        if turns[-1].text:
            raise InvalidRow("the prompt does not end with a turn to answer: its last turn is assistant")
        turns = turns[:-1]
    if any(not turn.text for turn in turns):
        raise InvalidRow("empty turn: in the transcript of `prompt`")
    return turns


def transcript_turns(transcript: str) -> Conversation:
    """The turns, white space around each taken off; neighbours of one role are joined by a blank line.

    Raises:
        Unfit: the text does not begin as a transcript does.
    """
    pieces = (_TURN if transcript.startswith("\n\n") else _CLOSE_TURN).split(transcript)
    turns: list[Message] = []
    for name, said in zip(pieces[1::2], pieces[2::2], strict=True):
        role = _ROLES[name]
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].text}\n\n{said.strip()}".strip())
        else:
            turns.append(Message(role, said.strip()))
    if not turns:
        raise InvalidRow("not a transcript: it does not begin with Human:")
    return tuple(turns)
