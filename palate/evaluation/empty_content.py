"""Texts without content: what a policy writes that wants a high score and says nothing about the prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOTHING = ""
"""The null answer."""

REPEATS = 3
"""A repeated sentence has this many times the words of the completion that it comes from."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def repeated(text: str) -> str | None:
    """Return the first sentence of a completion, again and again: its length without its content. None where there is no sentence."""
    parts = sentences(text)
    return extended(parts[0], parts[:1], REPEATS * len(text.split())) if parts else None


def extended(text: str, parts: Sequence[str], words: float) -> str:
    """Return the text followed by the parts in turn, at least one, until it has that many words."""
    pieces, count = [text.rstrip()], len(text.split())
    while len(pieces) == 1 or count < words:
        piece = parts[(len(pieces) - 1) % len(parts)]
        pieces.append(piece.strip())
        count += len(piece.split())
    return " ".join(pieces)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, without those that are empty."""
    return [part for part in _SENTENCE_END.split(text) if part.strip()]
