"""The console that every command prints to: text from files and people cannot control the terminal."""

from __future__ import annotations

from collections.abc import Iterable

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from palate.core.terminal_text import printable


class Console(rich.console.Console):
    """A console of rich that shows control characters of texts, such as the escapes of a rater's name, as replacement characters.

    rich itself strips a few of them and lets escapes through. Colours and cursor movements of rich are not text, and stay.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, their texts without control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
