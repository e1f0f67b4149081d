"""What stands in blocks of code on the pages: fenced blocks with their language and title, and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import ROOT

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ \t]*$", flags=re.MULTILINE | re.DOTALL
)
INDENTED = re.compile(r"(?:^|(?<=\n))\n?((?: {4}[^\n]*(?:\n|$))+)")
PROGRAM = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?palate (?P<words>[a-z].*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: the word behind the fence.
        title: the name of the file that the block is, in `title="..."`; "" for none.
        text: what stands in it, without its indentation.
        line: of the page, where the fence stands.
    """

    language: str
    title: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of Palate on a page.

    Attributes:
        words: what follows `palate`.
        where: page and line.
        is_whole: whether it can be typed as it stands. In a sentence, or with `...`, a command may leave out what it needs.
    """

    words: tuple[str, ...]
    where: str
    is_whole: bool


def page_paths() -> list[Path]:
    """README.md and the pages of docs/."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    assert len(found) > 60
    return found


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page's text, in their order."""
    found = []
    for fence in FENCE.finditer(page):
        title = re.search(r'title="([^"]+)"', fence["rest"])
        lines = [line.removeprefix(fence["indent"]) for line in fence["text"].splitlines(keepends=True)]
        found.append(Block(fence["language"], title[1] if title else "", "".join(lines), page[: fence.start()].count("\n") + 1))
    return found


def command_lines(text: str) -> Iterator[str]:
    """The words behind `palate` in each line of a block that begins with it, with the lines that go on after a backslash."""
    for line in text.replace("\\\n", " ").splitlines():
        if found := PROGRAM.match(line.strip()):
            yield found["words"]


def commands_of(page: Path) -> list[Command]:
    """Every command of Palate on a page that has more than its name: in blocks, and in code within sentences."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    found = [(line, f"{name}:{block.line}", True) for block in blocks_of(text) for line in command_lines(block.text)]
    sentences = FENCE.sub("\n", text)
    found += [(line, name, True) for block in INDENTED.findall(sentences) for line in command_lines(block)]
    found += [(line, name, False) for line in re.findall(r"`palate ([a-z][^`]* [^`]*)`", sentences)]
    return [command for line, where, is_whole in found if (command := _command(line, where, is_whole=is_whole)) is not None]


def _command(line: str, where: str, *, is_whole: bool) -> Command | None:
    if "[-" in line:  # the general form of a command
        return None
    words = shlex.split(re.split(r"\s(?:[|>&]|2>)", line)[0], comments=True)
    kept = tuple(word for word in words if word != "...")
    return Command(kept, where, is_whole and len(kept) == len(words)) if len(words) > 1 else None
