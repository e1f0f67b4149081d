"""Texts as people read them: formatted, without hiding anything that was written, and beside it the source.

A judge of texts must see where two texts differ. So Markdown is drawn only where its marks become something that can be seen, such as bold
letters or a list. Backslashes, underscores, definitions of links and addresses stay on the page as they were written. LaTeX is drawn if all
of it is understood. If a part of a text would still be lost, the text is shown as its source, and the page says so.

The HTML of a text cannot do anything. HTML in the text does not pass through. Images are not fetched, because a remote server would learn
who reads what and when. Links go only to http, https or mail, in a new page that cannot reach this one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from markdown_it.token import Token
from markupsafe import Markup, escape

from palate.web.markdown_rules import markdown_parser

LONGEST_MARKDOWN = 100_000
"""Characters above which a text is shown as plain text, because its layout would take too long."""

_PARSER = markdown_parser()
_MARKS = re.compile(r"[\s*~`#>|+=:\[\]()<!.'\"-]")
"""Characters that formatting may turn into something else that can be seen. All others must be on the page."""
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\xa0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]|[ \t]+(?=\n|\Z)|\n(?=\n*\Z)"
)
"""Characters that are not drawn or look like a space, blanks at the end of a line, and empty lines at the end."""
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""Characters that belong to the writing of some languages and to emoji, beside a character that is not ASCII."""
_SPACES = frozenset("\xa0\u2007\u202f\u3000")
"""Spaces that look like one. The source names them, but no note is needed."""

AS_WRITTEN = "This text is shown as it was written, because formatting would hide a part of it."
BLANK = "This text is blank."
UNSEEN = "This text has characters that cannot be seen. The source names them."


@dataclass(frozen=True, slots=True)
class Prose:
    """A text for people.

    Attributes:
        html: the formatted text.
        source: the text as it was written, in which characters that cannot be seen have a mark.
        direction: `ltr` or `rtl`, of its first letter.
        note: what the reader has to know about the difference between the two, "" if nothing.
    """

    html: Markup
    source: Markup
    direction: str
    note: str


@lru_cache(maxsize=256)
def prose_of(text: str) -> Prose:
    """Return the text for people. A very long text is not formatted."""
    source, is_clear = _source(text)
    note = "" if is_clear else UNSEEN
    readable = text.replace("\x00", "\ufffd").replace("\r\n", "\n").replace("\r", "\n")
    if len(text) <= LONGEST_MARKDOWN:
        tokens = _PARSER.parse(readable)
        shown = "".join(_shown(tokens))
        if _UNSEEN.sub("", shown).strip() and _MARKS.sub("", shown) == _MARKS.sub("", readable):
            _set_directions(tokens)
            html = Markup(_PARSER.renderer.render(tokens, _PARSER.options, {}))
            return Prose(html, source, direction_of(text), note)
        note = BLANK if not text.strip() else note or AS_WRITTEN
    return Prose(Markup('<pre class="plain">{}</pre>').format(source), source, direction_of(text), note)


def render_markdown(text: str) -> Markup:
    """Return the text as HTML with paragraphs, lists, tables and code. Line ends are kept. A very long text stays plain."""
    return prose_of(text).html


def look_alike(texts: Sequence[str]) -> bool:
    """Whether two of the texts differ, and formatting does not show it."""
    different = dict.fromkeys(texts)
    return len(different) > 1 and len({_look_of(text) for text in different}) < len(different)


@lru_cache(maxsize=256)
def _look_of(text: str) -> str:
    """Return what a reader can tell apart of the formatted text."""
    html = re.sub(r"<annotation.*?</annotation>", "", prose_of(text).html, flags=re.DOTALL)  # the LaTeX of a formula, which is not drawn
    plain = "".join(char for char in unicodedata.normalize("NFKC", html) if char.isascii() or unicodedata.category(char) != "Cf")
    return "\n".join(re.sub(r"(?<=[^\s>])\s+", " ", line).rstrip() for line in plain.expandtabs().strip().split("\n"))


def direction_of(text: str) -> str:
    """Return the direction in which the text is written: that of its first letter, `ltr` if it has none."""
    return _first_direction(text) or "ltr"


def _first_direction(text: str) -> str:
    kinds = map(unicodedata.bidirectional, text)
    return next(("ltr" if kind == "L" else "rtl" for kind in kinds if kind in {"L", "R", "AL"}), "")


def _source(text: str) -> tuple[Markup, bool]:
    """Return the text with marks at what cannot be seen, and whether all but blanks can be seen. The marks are not part of the text."""
    parts: list[Markup] = []
    is_clear, done = True, 0
    for match in _UNSEEN.finditer(text):
        found, start = match[0], match.start()
        around = text[max(0, start - 1) : start] + text[match.end() : match.end() + 1]
        if found in _JOINERS and any(char > "\x7f" for char in around):
            continue
        is_blank = found.isspace() and found.strip(" \t\n\r") == ""
        name = {"\n": "\u21b5", "\r": "CR"}.get(found, "\u00b7" * len(found)) if is_blank else f"U+{ord(found[0]):04X}"
        is_clear &= is_blank or found in _SPACES
        kept = Markup("&#13;") if found == "\r" else escape(found.replace("\x00", "\ufffd"))
        parts += [escape(text[done:start]), Markup('<span class="unseen" data-code="{}">{}</span>').format(name, kept)]
        done = match.end()
    return Markup("").join([*parts, escape(text[done:])]), is_clear


def _shown(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield what is drawn of the tokens, in the order of the source."""
    for token in tokens:
        if token.children is not None and token.type == "inline":
            yield from _shown(token.children)
        elif token.type == "list_item_open":
            yield str(int(token.info)) if token.info else ""  # drawn without leading zeros
        elif token.type == "link_close":
            yield token.meta["target"]
        elif token.type == "hr":
            yield token.markup[:-1]  # markdown-it counts one mark too many
        elif token.type == "fence":
            yield token.info + "\n" + token.content
        else:
            yield token.content
        if token.type in {"softbreak", "hardbreak", "paragraph_close"}:
            yield "\n"


def _set_directions(tokens: Sequence[Token]) -> None:
    """Give each block the direction of its own first letter. Code is always written from the left."""
    opened: list[Token] = []
    for token in tokens:
        token.hidden = False  # the paragraphs of a tight list, which have a direction as well
        if token.nesting == 1:
            opened.append(token)
        elif token.nesting == -1:
            opened.pop()
        elif token.type == "inline":
            direction = _first_direction("".join(child.content for child in token.children or () if child.type == "text"))
            for block in opened:
                if direction and "dir" not in block.attrs and block.type not in {"thead_open", "tbody_open", "tr_open", "list_item_open"}:
                    block.attrSet("dir", direction)
