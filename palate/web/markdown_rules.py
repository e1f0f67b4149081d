r"""The parts of Markdown that are drawn, as a parser. It differs from CommonMark where that would hide what somebody wrote.

- A backslash stays on the page. It still keeps the next character from being a mark.
- Only asterisks make emphasis, and only outside of words and expressions: `__init__` and `2*3*4` stay as they are.
- Definitions of links are text. A link shows its address, an image its description and address, a block of code its language.
- LaTeX between `$...$`, `$$...$$`, `\(...\)`, `\[...\]` or `\begin...\end` is drawn as a formula, or stays as it is.
- Numbers of a list are those that were written. Line ends and indentation are kept.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.normalize_url import normalizeLink
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.emphasis import tokenize
from markdown_it.token import Token
from markupsafe import Markup

from palate.web.formula import is_money, mathml

LINKS = ("https://", "http://", "mailto:")
Env = MutableMapping[str, Any]

_CLOSED_BY = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
_ENVIRONMENT = re.compile(r"\\begin(\{[\w*]{1,40}\})")
_SHORT_FORMULA = re.compile(r"\$(?![\s$])(?:[^$\n\\]|\\.)+?(?<!\s)\$(?!\w)")
LONGEST_FORMULA = 4000
"""Characters within which a formula must end. So a text full of beginnings does not take long."""
_WITHIN = re.compile(r"[\w)\]}/=][*]+[\w(\[{]|.[*]+/|/[*]+", flags=re.ASCII | re.DOTALL)
"""Asterisks within an expression, a path or a comment of code."""


def markdown_parser() -> MarkdownIt:
    """Return the parser."""
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False, "breaks": True})
    parser.enable(["table", "strikethrough"])
    parser.disable(["entity", "reference", "lheading"])
    parser.inline.ruler.at("escape", _backslash)
    parser.inline.ruler.at("newline", _line_end)
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.block.ruler.before("fence", "formula_block", _formula_block, {"alt": ["paragraph", "blockquote", "list"]})
    parser.core.ruler.push("addresses", _addresses)
    parser.validateLink = lambda url: url.strip().lower().startswith(LINKS)  # type: ignore[method-assign]
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]  # the page shows it as it was written; `_link` encodes it
    parser.normalizeLinkText = lambda link: link  # type: ignore[method-assign]
    drawn = {
        "image": _image, "link_open": _link, "link_close": _link_end, "fence": _code, "code_block": _code, "code_inline": _code_inline,
        "softbreak": _break, "hardbreak": _break, "list_item_open": _list_item, "ordered_list_open": _list, "td_open": _cell,
        "th_open": _cell, "formula": _formula_html, "formula_block": _formula_block_html,
    }  # fmt: skip
    for name, rule in drawn.items():
        parser.add_render_rule(name, rule)
    return parser


def _backslash(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """Keep a backslash, and the character after it as a plain one."""
    if state.src[state.pos] != "\\" or state.pos + 1 >= state.posMax:
        return False
    length = 1 if state.src[state.pos + 1] == "\n" else 2
    if not silent:
        state.pending += state.src[state.pos : state.pos + length]
    state.pos += length
    return True


def _line_end(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """Break the line, and keep the indentation of the next one."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.push("softbreak", "br", 0)
    state.pos += 1
    return True


def _emphasis(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """Take asterisks as emphasis if they stand beside a word, not within one."""
    if state.src[state.pos] != "*":
        return False
    within = _WITHIN.match(state.src, max(0, state.pos - 1), state.posMax) if state.pos else None
    if within is None:
        return tokenize(state, silent)
    run = len(within[0]) - len(within[0].lstrip("*")) if within[0].startswith("*") else len(re.findall(r"\*+", within[0])[0])
    if not silent:
        state.pending += "*" * run
    state.pos += run
    return True


def _formula_end(text: str, start: int) -> int:
    """Return where the formula that begins at `start` ends, -1 if none begins there."""
    environment = _ENVIRONMENT.match(text, start)
    closing = f"\\end{environment[1]}" if environment else _CLOSED_BY.get(text[start : start + 2])
    if closing is not None:
        found = text.find(closing, start + 2, start + LONGEST_FORMULA)
        return found + len(closing) if found > start + 2 else -1
    short = _SHORT_FORMULA.match(text, start, start + LONGEST_FORMULA)
    return short.end() if short and not is_money(short[0][1:-1]) else -1


def _formula(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    end = _formula_end(state.src, state.pos) if state.src[state.pos] in "\\$" else -1
    if not 0 < end <= state.posMax:
        return False
    if not silent:
        state.push("formula", "code", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


def _formula_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: FBT001
    """Take lines that begin with a formula and end with its end. Within them, no line is a list or a heading."""
    first = state.bMarks[start] + state.tShift[start]
    if state.is_code_block(start) or not state.src.startswith(("$$", "\\[", "\\begin{"), first):
        return False
    last = _formula_end(state.src, first)
    following = next((line for line in range(start, end) if state.eMarks[line] >= last), end) if last > 0 else end
    if following == end or state.src[last : state.eMarks[following]].strip():
        return False
    if not silent:
        state.push("formula_block", "pre", 0).content = state.getLines(start, following + 1, state.blkIndent, keepLastLF=False).strip()
        state.line = following + 1
    return True


def _addresses(state: StateCore) -> None:
    """Put the address and title of each link, as they were written, beside its end."""
    for block in state.tokens:
        opened: list[str] = []
        for token in block.children or ():
            if token.type == "link_open":
                title = token.attrGet("title")
                is_bare = token.info == "auto"
                opened.append("" if is_bare else f"{token.attrGet('href')}" + (f' "{title}"' if title else ""))
            elif token.type == "link_close":
                token.meta["target"] = opened.pop()
            elif token.type == "image":
                title = token.attrGet("title")
                token.content = f"{token.content} {token.attrGet('src')}" + (f' "{title}"' if title else "")


def _image(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    return Markup('<span class="noimage">[image: {}]</span>').format(tokens[idx].content)


def _link(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:
    tokens[idx].attrSet("href", normalizeLink(str(tokens[idx].attrGet("href"))))
    tokens[idx].attrSet("rel", "noopener noreferrer nofollow")
    tokens[idx].attrSet("target", "_blank")
    return self.renderToken(tokens, idx, options, env)


def _link_end(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    target = tokens[idx].meta["target"]
    is_said = idx >= 2 and tokens[idx - 2].type == "link_open" and tokens[idx - 1].content == target
    return "</a>" if is_said or not target else Markup('</a> <bdi class="target">({})</bdi>').format(target)


def _code(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    block, name = Markup('<pre dir="ltr"><code>{}</code></pre>\n').format(tokens[idx].content), tokens[idx].info.strip()
    return block if not name else Markup('<div class="listing"><span class="language">{}</span>{}</div>\n').format(name, block)


def _code_inline(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    return Markup('<code dir="ltr">{}</code>').format(tokens[idx].content)


def _break(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    return "<br>"


def _list(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:
    tokens[idx].attrs.pop("start", None)  # each item has its number
    if tokens[idx].markup == ")":
        tokens[idx].attrSet("class", "bracketed")
    return self.renderToken(tokens, idx, options, env)


def _list_item(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:
    if tokens[idx].info:
        tokens[idx].attrSet("value", str(int(tokens[idx].info)))
    return self.renderToken(tokens, idx, options, env)


def _cell(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:
    """Name the alignment as a class, because the content policy of the pages forbids styles in HTML."""
    style = tokens[idx].attrs.pop("style", None)
    if style is not None:
        tokens[idx].attrSet("class", str(style).removeprefix("text-align:"))
    return self.renderToken(tokens, idx, options, env)


def _formula_html(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    drawn = mathml(tokens[idx].content)
    return Markup('<code class="formula" dir="ltr">{}</code>').format(tokens[idx].content) if drawn is None else drawn


def _formula_block_html(self: RendererHTML, tokens: Sequence[Token], idx: int, options: Any, env: Env) -> str:  # noqa: ARG001
    drawn = mathml(tokens[idx].content)
    block = Markup('<pre class="formula" dir="ltr"><code>{}</code></pre>\n').format(tokens[idx].content)
    return block if drawn is None else Markup('<div class="formula" dir="ltr">{}</div>\n').format(drawn)
