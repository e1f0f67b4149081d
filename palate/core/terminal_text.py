"""Text of others on a terminal."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return the text with a replacement character for each one that controls a terminal or turns the direction of writing.

    Line feeds and tabs stay.
    """
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
