"""Text of others that is printed: it cannot control the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.table import Table
from rich.text import Text

from palate.core import printable
from palate.runs.console import Console

ESCAPES = "\x1b[2Ja\x1b]0;title\x07b\x9b31mc\rd\u202ee"


def test_escapes_of_texts_reach_no_terminal_and_colours_do() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=100)
    table = Table(ESCAPES)
    table.add_row(ESCAPES)
    console.print(Text(ESCAPES, style="red"), ESCAPES, table, sep="\n")
    written = out.getvalue()
    assert "\x1b[31m" in written
    plain = re.sub(r"\x1b\[[0-9;]*m", "", written)
    assert not [c for c in plain if not c.isprintable() and c != "\n"]
    assert plain.count("\N{REPLACEMENT CHARACTER}[2Ja") == 4


def test_a_line_keeps_its_breaks_and_tabs() -> None:
    assert printable(f"one\n\ttwo{ESCAPES}") == "one\n\ttwo\ufffd[2Ja\ufffd]0;title\ufffdb\ufffd31mc\ufffdd\ufffde"


def test_every_command_prints_to_this_console() -> None:
    others = [path for path in Path("palate").rglob("*.py") if "from rich.console import Console\n" in path.read_text(encoding="utf-8")]
    assert others == []
