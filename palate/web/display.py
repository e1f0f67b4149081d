"""How texts, media and answers are displayed: Markdown as harmless HTML, media from one folder, answers in words.

The HTML of a prompt or completion cannot do anything. HTML in the text does not pass through. Images are not fetched, because a remote
server would learn who reads what and when. Links go only to http, https or mail, in a new page that cannot reach this one.
"""

from __future__ import annotations

import html
import re
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from palate.core import DataError
from palate.ratings import Answer, Tiers

LONGEST_MARKDOWN = 100_000
"""Characters above which a text is shown as plain text, because its layout would take too long."""

LINKS = ("https://", "http://", "mailto:")

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
MEDIA_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
    "Content-Disposition": "inline",
}


def _image(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:  # noqa: ARG001
    description = html.escape(tokens[idx].content or "no description")
    return f'<span class="noimage">[image: {description}]</span>'


def _link(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
    tokens[idx].attrSet("rel", "noopener noreferrer nofollow")
    tokens[idx].attrSet("target", "_blank")
    return self.renderToken(tokens, idx, options, env)


def _markdown_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False, "breaks": True})
    parser.enable(["table", "strikethrough"])
    parser.disable("entity")  # a reader should see the characters that the model wrote
    parser.validateLink = lambda url: url.strip().lower().startswith(LINKS)  # type: ignore[method-assign]
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link)
    return parser


_PARSER = _markdown_parser()


@lru_cache(maxsize=512)
def render_markdown(text: str) -> Markup:
    """Return the text as HTML with paragraphs, lists, tables and code. Line ends are kept. A very long text stays plain."""
    text = text.replace("\x00", "\ufffd")
    if len(text) > LONGEST_MARKDOWN:
        return Markup('<pre class="plain">{}</pre>').format(text)
    return Markup(_PARSER.render(text))


def media_kind(name: str) -> str:
    """Return `image` or `video` for a file that can be shown, "" for any other."""
    return MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), "").partition("/")[0]


def media_file(folder: Path | None, name: str) -> tuple[Path, str] | None:
    """Return path and content type of a media file, or None if it is missing or lies outside the folder, also by way of a link.

    The type follows from the ending of the name alone.
    """
    kind = MEDIA_TYPES.get(PurePosixPath(name).suffix.lower())
    if folder is None or kind is None or "\x00" in name or "\\" in name or not name.isprintable():
        return None
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return None
    except OSError:  # a name too long for the file system
        return None
    return path, kind


def answer_in_words(answer: Answer, order: tuple[int, ...]) -> str:
    """Return the answer in words, such as `2 > 1 = 3`.

    Completions are numbered from 1 in the order of the item, in whatever order the rater saw them.
    """
    if answer.skipped:
        return "skipped"
    if answer.all_bad:
        return "all bad"
    if answer.broken is not None:
        return "breaks the rule" if answer.broken else "keeps the rule"
    if not answer.ranking:
        return "wrote an answer" if answer.text else "took an answer back"
    first = ranking_in_words(answer.ranking, order)
    others = [f"{dimension}: {ranking_in_words(tiers, order)}" for dimension, tiers in answer.dimensions.items()]
    return "; ".join([first, *others])


def ranking_in_words(tiers: Tiers, order: tuple[int, ...]) -> str:
    """Return tiers of displayed places as numbers of completions, such as `2 > 1 = 3`."""
    return " > ".join(" = ".join(str(number + 1) for number in sorted(order[place] for place in tier)) for tier in tiers)


def parse_ranking(text: str, count: int) -> Tiers:
    """Return the tiers of a ranking such as `2 > 1 = 3`, with completions numbered from 0.

    Raises:
        DataError: the text does not name each of `count` completions once.
    """
    if not re.fullmatch(r"[\d=> ]{1,100}", text, flags=re.ASCII):
        raise DataError(f"The ranking {text[:40]!r} cannot be read. Write 1 > 2, or 1 = 2.")
    tiers = tuple(tuple(int(word) - 1 for word in tier.split("=") if word.strip().isdigit()) for tier in text.split(">"))
    if sorted(place for tier in tiers for place in tier) != list(range(count)):
        raise DataError(f"The ranking {text[:40]!r} must name each of 1 to {count} once, such as 1 > 2.")
    return tiers
