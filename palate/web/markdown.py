"""Markdown of prompts, completions and guidelines as HTML that can do nothing.

No HTML passes through, no image is fetched (a remote one would tell its server who reads what, and when), and a link goes only to http,
https or mail, in a new page that knows nothing of this one.
"""

from __future__ import annotations

import html
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

LONGEST = 100_000
"""Characters beyond which a text is shown as it stands: laying it out would keep everybody waiting."""

LINKS = ("https://", "http://", "mailto:")


def _image(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:  # noqa: ARG001
    token = tokens[idx]
    words = html.escape(token.content or "no description")
    return f'<span class="noimage">[image: {words}]</span>'


def _link(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
    tokens[idx].attrSet("rel", "noopener noreferrer nofollow")
    tokens[idx].attrSet("target", "_blank")
    return self.renderToken(tokens, idx, options, env)


def _maker() -> MarkdownIt:
    maker = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False, "breaks": True})
    maker.enable(["table", "strikethrough"])
    maker.disable("entity")  # a reader should see the characters that the model wrote
    maker.validateLink = lambda url: url.strip().lower().startswith(LINKS)  # type: ignore[method-assign]
    maker.add_render_rule("image", _image)
    maker.add_render_rule("link_open", _link)
    return maker


_MAKER = _maker()


@lru_cache(maxsize=512)
def rendered(text: str) -> Markup:
    """The text as HTML: paragraphs, lists, tables, code; line ends are kept. A very long text is shown as it stands."""
    text = text.replace("\x00", "\ufffd")
    if len(text) > LONGEST:
        return Markup('<pre class="plain">{}</pre>').format(text)
    return Markup(_MAKER.render(text))
