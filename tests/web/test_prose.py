"""What people see of a text: nothing that was written is hidden, or the page says so."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.web.formula import mathml
from palate.web.prose import AS_WRITTEN, BLANK, UNSEEN, direction_of, look_alike, prose_of


def seen(text: str) -> str:
    """What a reader reads of the formatted text, without its markup."""
    return html.unescape(re.sub(r"<br>", "\n", re.sub(r"<(?!br>)[^>]+>", "", prose_of(text).html))).strip()


@pytest.mark.parametrize(
    "text",
    [
        r"^\d+\.\d+$",
        r"C:\temp\new\*.txt",
        '[1]: https://example.org/a "A paper"',
        "__init__ and a_b_c and _x_",
        "2*3*4 and x**2**3",
        "/* a */ x /* b */",
        "src/**/*.py and lib/**/*.js",
        r"\[ x = \rare{-b}{2a} \]",
        r"\(a \rare 0\) and \{1, 2\}",
        r"so $x^*y^*\rare$ and $$a_1*b*c\rare$$",
        "&lt; and &amp;",
        "costs $5 and $6 * 2 * 3",
        "a\n===",
        "it costs $5 a day or 6$ *2",
        "[x](javascript:alert(1))",
        "a\n  indented  twice",
        "a line \\\nand one more",
        r"\*not bold\*",
    ],
)
def test_every_character_stays_on_the_page(text: str) -> None:
    assert (seen(text), prose_of(text).note) == (text, "")


def test_lines_of_a_formula_are_no_list_and_no_heading() -> None:
    text = "$$\na\n= b\n- \\rare\n+ d\n$$"
    assert prose_of(text).html == f'<pre class="formula" dir="ltr"><code>{text}</code></pre>\n'
    drawn = prose_of(text.replace("\\rare", "c")).html
    assert ('display="block"' in drawn, "<li>" in drawn) == (True, False)
    assert "<li>" in prose_of("$$\na\n- c\n\nno end").html


def test_a_formula_is_drawn() -> None:
    shown = prose_of(r"\[ x = \frac{-b \pm \sqrt{b^2-4ac}}{2a} \] with $a_i \neq 0$")
    for part in ("<msqrt>", "<mfrac>", "<msup><mi>b</mi><mn>2</mn></msup>", "<mo>±</mo>", "<msub><mi>a</mi><mi>i</mi></msub><mo>≠</mo>"):
        assert part in shown.html
    assert shown.html.count("<math ") == 2
    assert look_alike([r"$\frac12$", r"$\frac{1}{2}$"])  # so both are shown as written


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (r"$\frac12$", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        (r"$x^12$", "<msup><mi>x</mi><mn>1</mn></msup><mn>2</mn>"),
        (r"$\sum_{i=1}^n$", "<munderover><mo>∑</mo>"),
        (r"$f''(x)$", "<msup><mi>f</mi><mo>\u2032\u2032</mo></msup>"),
        (r"\begin{pmatrix}1 & 2\\ 3 & 4\end{pmatrix}", "<mo>(</mo><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr>"),
        (r"$\left( x \right]$", "<mrow><mo>(</mo><mi>x</mi><mo>]</mo></mrow>"),
        (r"$\mathbb{R}^n \text{ if <b> }$", "<mtext>\xa0if\xa0&lt;b&gt;\xa0</mtext>"),
        (r"$\sqrt[3]{x}$", "<mroot><mi>x</mi><mn>3</mn></mroot>"),
    ],
)
def test_what_latex_means(source: str, part: str) -> None:
    assert part in str(mathml(source))


@pytest.mark.parametrize(
    "source",
    [
        r"$\rare$",
        "$a^b^c$",
        "$x{$",
        r"$\frac{1}$",
        r"$\left( x$",
        r"$x \right)$",
        "$5 and 6$",
        "$five = six$",
        r"$a & b$",
        r"$a \\ b$",
        "$" + "{" * 99 + "}" * 99 + "$",
        r"\begin{matrix} 1 \end{pmatrix}",
        r"\begin{rare} 1 \end{rare}",
        r"$\text{\rare}$",
        r"$\mathbb{1}$",
        "$x % y$",
        "$ $",
        r"$\href{https://x.org}{x}$",
    ],
)
def test_what_is_not_understood_stays_as_it_was_written(source: str) -> None:
    assert mathml(source) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [("**bold** and *it*, **重要**です", ["<strong>bold</strong>", "<em>it</em>", "<strong>重要</strong>"]),
     ("[the paper](https://example.org/a_b \"Title\")", ['href="https://example.org/a_b"', "(https://example.org/a_b &#34;Title&#34;)"]),
     ("![a cat](https://example.org/c_t.png)", ["[image: a cat https://example.org/c_t.png]"]),
     ("```python x=1\ny_1\n```", ['<span class="language">python x=1</span>', "y_1"]),
     ("1. a\n1. b\n7. c", ['<li value="1">', '<li value="7">']),
     ("3) a", ['<ol dir="ltr" class="bracketed">', '<li value="3">']),
     ("| a | b |\n|:-:|--:|\n| c | d |", ['<td dir="ltr" class="center">c</td>', '<td dir="ltr" class="right">d</td>'])],
)  # fmt: skip
def test_what_formatting_takes_is_drawn(text: str, parts: list[str]) -> None:
    shown = prose_of(text)
    assert [part for part in parts if part not in shown.html] == []
    assert shown.note == ""


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n|---|---|\n| c | d | lost |",
        "| a \\| b | c |\n|---|---|\n| 1 | 2 |",
        "007. a",
        r"[a\_b](https://example.org/a\_b)",
        "#",
        "```\n```",
        "- \n- ",
    ],
)
def test_what_formatting_would_lose_is_shown_as_written(text: str) -> None:
    shown = prose_of(text)
    assert shown.note == AS_WRITTEN
    assert seen(text) == text.strip()
    assert shown.html.startswith('<pre class="plain">')


def test_the_source_is_the_text_with_marks_at_what_cannot_be_seen() -> None:
    text = "a\u200bb\u202ec \n\xa0d\r\n\x00\u2028\n\n"
    shown = prose_of(text)
    names = re.findall(r'data-code="([^"]*)"', shown.source)
    assert names == ["U+200B", "U+202E", "\u00b7", "U+00A0", "CR", "U+0000", "U+2028", "\u21b5", "\u21b5"]
    assert html.unescape(re.sub(r"<[^>]+>", "", shown.source)) == text.replace("\x00", "\ufffd")
    assert shown.note == UNSEEN
    for clear in ("\U0001f469\u200d\U0001f680 \u2714\ufe0f", "بی\u200cتی", "a\xa0b", "a  \n\n"):  # emoji, Persian, and spaces
        assert prose_of(clear).note == ""
    assert (prose_of(" \n").note, prose_of("\u200b").note) == (BLANK, UNSEEN)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("- a", "* a"),
        ("```\nx\n```", "~~~\nx\n~~~"),
        ("a", "a "),
        ("a  b", "a b"),
        ("a", "a\n"),
        ("ab", "a\u200bb"),
        ("*a*", "*a*\n\n\n"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_texts_that_look_alike_are_found(first: str, second: str) -> None:
    assert look_alike([first, second])
    assert look_alike(["other", first, second])


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("a", "b"), ("*a*", "a"), (r"\d+\.\d", r"\d+.\d"), ("1. a", "1) a"), ("```\n  a\n```", "```\n a\n```")],
)
def test_texts_that_are_equal_or_look_different_are_not(first: str, second: str) -> None:
    assert not look_alike([first, second])


def test_each_block_has_its_own_direction() -> None:
    shown = prose_of(
        "هذه دالة `f(x)`:\n\n```python\nf(x)\n```\n\n1. أولاً\n2. English\n\n> اقتباس\n\nEnglish, ثم\n\n"
        "| أ | b |\n|---|---|\n| 1 | 2 |\n\n# 1: عنوان"
    )
    parts = re.findall(r'<(\w+) (?:value="\d" )?dir="(\w+)"', shown.html)
    assert shown.direction == "rtl"
    assert parts == [
        ("p", "rtl"), ("code", "ltr"), ("pre", "ltr"), ("ol", "rtl"), ("p", "rtl"), ("p", "ltr"), ("blockquote", "rtl"), ("p", "rtl"),
        ("p", "ltr"), ("table", "rtl"), ("th", "rtl"), ("th", "ltr"), ("h1", "rtl"),
    ]  # fmt: skip
    assert direction_of("123 ...") == direction_of("") == "ltr"


def test_nothing_in_the_html_is_a_style() -> None:
    assert "style=" not in prose_of("| a |\n|--:|\n| b |\n\n| a |\n|:-:|\n| b |").html


PIECES = (
    "*",
    "**",
    "_",
    "__",
    "`",
    "```",
    "~~~",
    "# ",
    "- ",
    "1. ",
    "> ",
    "|",
    "|---|",
    "\n",
    "\n\n",
    "\\",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "[a]",
    "(https://x.org/_)",
    "![",
    "<",
    ">",
    "&amp;",
    "    ",
    "  ",
    "a",
    "b_c",
    "7",
    "é",
    "ش",
    "\u200b",
    ":",
    "=",
    "---",
    "~~",
    "\r\n",
    '"t"',
)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_letters_digits_underscores_and_backslashes_never_vanish(text: str) -> None:
    """Or the text is shown as its source. The browser draws the numbers of lists, which are attributes here, and the lines."""
    drawn = re.sub(r'<li value="(\d+)">', r"\1", prose_of(text).html.replace("<hr />", "_" * 80))
    kept = html.unescape(re.sub(r"<[^>]+>", "", drawn))
    letters = re.findall(r"[^\W]|\\", text)
    rest = iter(re.findall(r"[^\W]|\\", kept))
    assert all(letter in rest for letter in letters)
