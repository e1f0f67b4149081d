"""A page of help for the terminal: a sentence, a line of usage, and sections of two columns."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

COLUMN = 26
"""The widest left column. A longer entry has its text on the next line."""

USAGE = "Usage: "

WIDEST = 120
"""The longest line in a wide terminal, because long lines are hard to read."""


_JOINED = "\0"


def whole(text: str) -> str:
    """Return the text with spaces at which lines do not break."""
    return text.replace(" ", _JOINED)


@dataclass(frozen=True)
class HelpRow:
    """One entry of a section.

    Attributes:
        left: the option or command.
        text: its meaning.
        depth: how far it is indented.
    """

    left: str
    text: str
    depth: int = 0


@dataclass(frozen=True)
class Section:
    """A heading with its entries.

    Attributes:
        heading: one line.
        rows: the entries.
        text: a sentence between heading and entries.
    """

    heading: str
    rows: tuple[HelpRow, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        lead: what the command does.
        usage: how the command is called; the page leaves it out where it is empty.
        sections: what the command takes; the page leaves out empty sections.
        more: commands that show further pages; these lines are never cut.
        wide: whether the left column may take two fifths of the terminal, for long names.
    """

    lead: str
    usage: str
    sections: tuple[Section, ...]
    more: tuple[HelpRow, ...] = ()
    wide: bool = False

    def render(self, width: int, *, bold: bool = False) -> str:
        """Return the page as text.

        Args:
            width: columns of the terminal.
            bold: whether headings are bold, for a terminal.
        """
        width = max(40, min(width, WIDEST))
        strong = (lambda text: f"\033[1m{text}\033[0m") if bold else str
        lines = _wrapped(self.lead, width)
        if self.usage:
            first, *more = textwrap.wrap(self.usage, width - len(USAGE), break_on_hyphens=False, break_long_words=False)
            lines += ["", f"{strong(USAGE.strip())} {first}", *(" " * len(USAGE) + line for line in more)]
        sections = [section for section in self.sections if section.rows or section.text]
        column = _column((row for section in sections for row in section.rows), width * 2 // 5 if self.wide else COLUMN)
        for section in sections:
            lines += ["", strong(f"{section.heading}:"), *(f"  {line}" for line in _wrapped(section.text, width - 2))]
            for row in section.rows:
                lines += _row_lines(row, column, width)
        if self.more:
            longest = max(len(row.left) for row in self.more)
            lines += ["", strong("Show the settings of:"), *(f"  {row.left:<{longest}}  {row.text}" for row in self.more)]
        return "\n".join(line.rstrip() for line in lines).replace(_JOINED, " ") + "\n"


def show(page: Page) -> None:
    """Write the page to standard output at the terminal's width."""
    width = shutil.get_terminal_size((100, 24)).columns
    sys.stdout.write(page.render(width, bold=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))


def _column(rows: Iterable[HelpRow], most: int) -> int:
    """Where the right column begins."""
    lengths = [2 + 2 * row.depth + len(row.left) for row in rows]
    return max([8, *(length for length in lengths if length <= most + 2)]) + 2


def _row_lines(row: HelpRow, column: int, width: int) -> list[str]:
    left = " " * (2 + 2 * row.depth) + row.left
    texts = _wrapped(row.text, width - column)
    if len(left) + 2 > column:
        return [left, *(" " * column + text for text in texts)]
    first, *others = texts or [""]
    return [f"{left:<{column}}{first}", *(" " * column + text for text in others)]


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a text; paragraphs stay apart, and words with dashes stay whole."""
    lines: list[str] = []
    for paragraph in text.split("\n\n") if text else []:
        lines += ["", *textwrap.wrap(paragraph, width, break_on_hyphens=False, break_long_words=False)]
    return lines[1:]
