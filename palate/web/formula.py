r"""LaTeX formulas as MathML, which browsers draw without a script, a style or a font of ours.

A formula is drawn only if every part of it is understood. Otherwise `mathml` returns None, and the page shows the LaTeX as it was written.
So a wrong or rare command is never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from markupsafe import Markup, escape

from palate.web.formula_symbols import ACCENTS, ALPHABETS, ENVIRONMENTS, FUNCTIONS, LETTERS, LIMITS, OPERATORS, SPACES, TEXTS

_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|\s+|\d+(?:\.\d+)?|.", flags=re.DOTALL)
_FRAME = re.compile(r"\$\$(.*)\$\$|\\\[(.*)\\\]|\\\((.*)\\\)|\$(.*)\$|(\\begin\{.*)", flags=re.DOTALL)
_DELIMITERS = frozenset("()[]|/.") | {
    "\\{",
    "\\}",
    "\\|",
    "\\langle",
    "\\rangle",
    "\\lfloor",
    "\\rfloor",
    "\\lceil",
    "\\rceil",
    "\\vert",
    "\\Vert",
}
DEEPEST = 40
"""Nesting above which a formula is shown as it was written."""


def mathml(source: str) -> Markup | None:
    """Return the formula, with its delimiters such as `$`, as MathML. Return None if a part of it is not understood."""
    frame = _FRAME.fullmatch(source)
    if frame is None:
        return None
    is_block = frame[3] is None and frame[4] is None
    try:
        parser = _Formula(_TOKEN.findall(next(group for group in frame.groups() if group is not None)))
        row = parser.row(frozenset())
    except (_NotUnderstoodError, RecursionError):
        return None
    if not row:
        return None
    display = Markup(' display="block"') if is_block else Markup("")
    formula = Markup('<math dir="ltr"{}><semantics>{}<annotation encoding="application/x-tex">{}</annotation></semantics></math>')
    return formula.format(display, _grouped(row), source)


def is_money(between: str) -> bool:
    """Return whether what stands between two single dollar signs may be a sentence about prices."""
    return " " in between.strip() and not re.search(r"[\\^_=<>]", between)


class _NotUnderstoodError(Exception):
    """A part of a formula that is not drawn."""


def _element(name: str, *parts: Markup, attributes: Markup = Markup("")) -> Markup:  # noqa: B008
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), attributes, Markup("").join(parts))


def _leaf(name: str, text: str) -> Markup:
    return _element(name, escape(text))


def _grouped(parts: list[Markup]) -> Markup:
    return parts[0] if len(parts) == 1 else _element("mrow", *parts)


class _Formula:
    """The tokens of a formula, and how far they were read."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.commands: Mapping[str, Callable[[], Markup]] = {
            **dict.fromkeys(("\\frac", "\\dfrac", "\\tfrac"), lambda: _element("mfrac", self.argument(), self.argument())),
            "\\binom": self.binomial,
            "\\sqrt": self.root,
            "\\left": self.fence,
            "\\begin": self.environment,
        }

    def peek(self) -> str:
        """Return the next token that is not blank, "" at the end."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """Return the next token and go on. It must be one of those expected, if some are."""
        token = self.peek()
        if not token or (expected and token not in expected):
            raise _NotUnderstoodError
        self.at += 1
        return token

    def row(self, ends: frozenset[str]) -> list[Markup]:
        """Return the parts up to one of these tokens, which is not read."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NotUnderstoodError
        parts = []
        while (token := self.peek()) and token not in ends:
            parts.append(self.scripted())
        if ends and not token:
            raise _NotUnderstoodError
        self.depth -= 1
        return parts

    def scripted(self) -> Markup:
        """Return the next part with what stands below and above it."""
        token = self.peek()
        base = _element("mrow") if token in {"^", "_"} else self.part()
        scripts: dict[str, Markup] = {}
        while (mark := self.peek()) in {"^", "_", "'"}:
            count = 0
            while mark == "'" and self.peek() == "'":
                self.take()
                count += 1
            name = "^" if count else self.take()
            if name in scripts:
                raise _NotUnderstoodError
            scripts[name] = _leaf("mo", "\u2032" * count) if count else self.argument()
        if not scripts:
            return base
        under, over, both = ("munder", "mover", "munderover") if token in LIMITS else ("msub", "msup", "msubsup")
        name = both if len(scripts) == 2 else under if "_" in scripts else over
        return _element(name, base, *(scripts[mark] for mark in "_^" if mark in scripts))

    def argument(self) -> Markup:
        """Return what stands in braces, or the next part."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:  # LaTeX takes one digit
            self.tokens[self.at] = token[1:]
            return _leaf("mn", token[0])
        return self.part()

    def group(self) -> Markup:
        self.take("{")
        parts = self.row(frozenset("}"))
        self.take("}")
        return _grouped(parts) if parts else _element("mrow")

    def part(self) -> Markup:
        """Return the next part without scripts."""
        if self.peek() == "{":
            return self.group()
        token = self.take()
        if token in self.commands:
            return self.commands[token]()
        if token in ACCENTS:
            return _element("mover", self.argument(), _leaf("mo", ACCENTS[token]), attributes=Markup(' accent="true"'))
        if token in SPACES:
            return _element("mspace", attributes=Markup(' width="{}em"').format(SPACES[token]))
        if token in TEXTS or token in ALPHABETS:
            return self.words(token)
        return self.symbol(token)

    def symbol(self, token: str) -> Markup:
        """Return a letter, number or operator."""
        if token in FUNCTIONS:
            return _leaf("mi", token[1:])
        if token in LETTERS:
            return _leaf("mi", LETTERS[token])
        if token in OPERATORS:
            return _leaf("mo", OPERATORS[token])
        if token[0].isdigit():
            return _leaf("mn", token)
        if token.isalpha() and not self.is_within_word():
            return _leaf("mi", token)
        raise _NotUnderstoodError

    def is_within_word(self) -> bool:
        """Whether the letter that was just read is one of three in a row, as in a sentence."""
        around = "".join(token if len(token) == 1 else " " for token in self.tokens[max(0, self.at - 3) : self.at + 2])
        return re.search(r"[^\W\d_]{3}", around) is not None

    def words(self, command: str) -> Markup:
        """Return the text in braces as it is, or in another alphabet."""
        self.take("{")
        text = ""
        while self.at < len(self.tokens) and self.tokens[self.at] not in {"{", "}"}:
            text += self.tokens[self.at]
            self.at += 1
        self.take("}")
        if command in TEXTS:
            if "\\" in text or "$" in text:
                raise _NotUnderstoodError
            return _leaf("mtext", text.replace(" ", "\u00a0"))
        letters = [ALPHABETS[command].get(char, "") for char in text.strip()]
        if not all(letters):
            raise _NotUnderstoodError
        return _leaf("mi", "".join(letters))

    def root(self) -> Markup:
        if self.peek() != "[":
            return _element("msqrt", self.argument())
        self.take("[")
        degree = self.row(frozenset("]"))
        self.take("]")
        return _element("mroot", self.argument(), _grouped(degree or [_element("mrow")]))

    def binomial(self) -> Markup:
        pair = _element("mfrac", self.argument(), self.argument(), attributes=Markup(' linethickness="0"'))
        return _element("mrow", _leaf("mo", "("), pair, _leaf("mo", ")"))

    def delimiter(self) -> Markup:
        token = self.take(*_DELIMITERS)
        return _leaf("mo", "" if token == "." else OPERATORS.get(token, token))

    def fence(self) -> Markup:
        left = self.delimiter()
        inner = self.row(frozenset({"\\right"}))
        self.take("\\right")
        return _element("mrow", left, *inner, self.delimiter())

    def environment(self) -> Markup:
        """Return a matrix, cases or lines that are aligned."""
        name = self.environment_name()
        left, right = ENVIRONMENTS.get(name, (None, None))
        if left is None or right is None:
            raise _NotUnderstoodError
        rows: list[list[Markup]] = [[]]
        while True:
            rows[-1].append(_element("mtd", *self.row(frozenset({"&", "\\\\", "\\end"}))))
            token = self.take()
            if token == "\\\\" and self.peek() != "\\end":
                rows.append([])
            elif token == "\\end" or (token == "\\\\" and self.take("\\end")):
                break
        if self.environment_name() != name:
            raise _NotUnderstoodError
        table = _element("mtable", *(_element("mtr", *cells) for cells in rows))
        return _element("mrow", *(_leaf("mo", side) for side in (left,) if side), table, *(_leaf("mo", side) for side in (right,) if side))

    def environment_name(self) -> str:
        self.take("{")
        name = ""
        while self.peek() not in {"}", ""}:
            name += self.take()
        self.take("}")
        return name
