"""Pages, docstrings and messages are in plain English: the worst patterns are refused, and sentences of the guides are short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.repository import PACKAGE, ROOT, sources, tree_of

MOST_WORDS = 35
SHORT = (
    *("README.md", "docs/guide.md", "docs/labelling.md", "docs/data.md", "docs/exchange.md", "docs/ratings.md", "docs/concepts.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "tutorials").glob("*.md")),
)
"""Pages whose sentences have at most `MOST_WORDS` words."""

TERSE = ("docs/log.md", "docs/reference.md")
"""Pages that may be terse, or that a program writes."""

_VERBS = "Read|Written|Shown|Given|Kept|Counted"
PATTERNS = {
    "an inverted sentence": rf"^[\s>*-]*(?:{_VERBS}) are\b|[.!?:;,]\s+(?i:{_VERBS}) are\b",
    "'is no' for 'is not a'": r"(?<![Tt]here\s)\bis\s+no\s+(?!longer\b|(?:more|less|fewer)\s+than\b)\w+",
    "'has no ... of its own'": r"\bhas\s+no\s+\w+\s+of\s+its\s+own\b",
    "'thumbs' for unpaired preferences": r"(?i)\bthumbs?\b",
    "a private word": r"\b(?:best_against_worst|imitate_best|keep_back|Unfit|missing_end|missing_end_reward)\b",
}
NOTHING = "'Nothing' as the first word of a docstring"


def faults_of(text: str) -> list[str]:
    """Each pattern that the text has, with the words around it."""
    found = []
    for name, pattern in PATTERNS.items():
        for match in re.finditer(pattern, text, flags=re.MULTILINE):
            around = text[max(match.start() - 30, 0) : match.end() + 30]
            found.append(f"{name}: ...{' '.join(around.split())}...")
    return found


def docstring_faults(text: str) -> list[str]:
    """As `faults_of`, and a first word that says nothing."""
    return [*([f"{NOTHING}: {text[:60]}"] if re.match(r"\s*Nothing\b", text) else []), *faults_of(text)]


def sentences_of(page: str) -> Iterator[str]:
    """The sentences of a Markdown page. Blocks of code, tables, headings and pictures are left out; code in a line is a word."""
    text = re.sub(r"^( *)(```|~~~).*?^ *\2 *$", "\n", page, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\s*(?:\|.*|#+ .*|<.*>)$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n\s*(?:[-*+]|\d+\.)\s+", f"\n{text}"):
        for sentence in re.split(r"(?<=[.!?])[\"')*\]]*\s+", block):
            if sentence.strip():
                yield " ".join(sentence.split())


def long_sentences(page: str, most: int = MOST_WORDS) -> list[str]:
    """The sentences with more than `most` words, each with its number of words."""
    counts = ((len(re.findall(r"\w[\w'./-]*", sentence)), sentence) for sentence in sentences_of(page))
    return [f"{count} words: {sentence}" for count, sentence in counts if count > most]


Strings = list[tuple[int, str]]
"""(line, text) of each."""


def strings_in(tree: ast.Module) -> tuple[Strings, Strings]:
    """The docstrings, those behind a constant or a field included, and the messages: other strings of two words or more.

    What an f-string puts in is `{}`.
    """
    docstrings: Strings = []
    messages: Strings = []
    apart: set[int] = set()  # a walk comes to a node before it comes to its children
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.append((node.lineno, node.value.value))
            apart.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            apart |= {id(part) for part in node.values}
            messages.append((node.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            messages.append((node.lineno, node.value))
    return docstrings, [(line, text) for line, text in messages if re.search(r"\w\s+\w", text)]


@cache
def strings_of(path: Path) -> tuple[Strings, Strings]:
    """The docstrings and the messages of a file."""
    return strings_in(tree_of(path))


def pages() -> list[str]:
    """README.md and the pages of docs/, as paths from the root."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    assert len(names) > 20
    return [name for name in names if name not in TERSE]


def folders() -> list[str]:
    """The folders of palate/, and "" for the files beside them."""
    return sorted({_folder(path) for path in sources()})


def _folder(path: Path) -> str:
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else ""


@pytest.mark.parametrize("page", pages())
def test_readme_and_docs_are_plain(page: str) -> None:
    assert faults_of((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", SHORT)
def test_sentences_of_the_guides_are_short(page: str) -> None:
    assert long_sentences((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("folder", folders())
def test_docstrings_are_plain(folder: str) -> None:
    files = [path for path in sources() if _folder(path) == folder]
    assert [f"{path}:{line}: {one}" for path in files for line, text in strings_of(path)[0] for one in docstring_faults(text)] == []


@pytest.mark.parametrize("folder", folders())
def test_messages_are_plain(folder: str) -> None:
    files = [path for path in sources() if _folder(path) == folder]
    found = [f"{path}:{line}: {one}" for path in files for line, text in strings_of(path)[1] for one in faults_of(text)]
    templates = [path for ending in ("html", "js") for path in sorted((PACKAGE / folder).rglob(f"*.{ending}")) if folder]
    found += [f"{path}: {one}" for path in templates for one in faults_of(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("an inverted sentence", "Read are a list of rows.", "Palate reads a list of rows."),
        ("an inverted sentence", "There is no such kind. Written are csv and trl.", "Palate writes csv and trl."),
        ("an inverted sentence", "unknown role: 'x', read are user and tool", "unknown role: 'x'; rows that were\nread are listed"),
        ("an inverted sentence", "- Kept are the last three.", "The three that are kept are the last."),
        ("'is no' for 'is not a'", "That is no fault.", "That is not a fault. There is no fault."),
        ("'is no' for 'is not a'", "the share is\nno judgment", "It is no longer read. It is no more than 3."),
        ("'has no ... of its own'", "The loss has no meaning of its own.", "The loss does not mean anything by itself."),
        ("'thumbs' for unpaired preferences", "Thumbs go to `direct`.", "Unpaired preferences go to `direct`."),
        ("'thumbs' for unpaired preferences", "rows: thumb, pair", "rule_of_thumbnails"),
        ("a private word", "`best_against_worst` learns", "`online_dpo` learns"),
        ("a private word", "Raises Unfit.", "The unfit row is left out."),
        ("a private word", "`shaping.missing_end_reward: -1`", "`shaping.missing_eos_reward: -1`"),
    ],
)
def test_a_pattern_is_found_where_it_is_and_only_there(name: str, bad: str, good: str) -> None:
    assert [fault.partition(": ...")[0] for fault in faults_of(bad)] == [name]
    assert faults_of(good) == []


def test_a_docstring_that_begins_with_nothing_is_found() -> None:
    assert docstring_faults("Nothing; the row is kept.") == [f"{NOTHING}: Nothing; the row is kept."]
    assert docstring_faults("Keep the row. Nothing else changes.") == []


def test_strings_are_told_apart_as_docstrings_and_messages() -> None:
    tree = ast.parse('"""A page."""\nSIZE = 3\n"""How many."""\ndef f(x):\n    """Return x."""\n    raise E(f"no {x} is " "left", "id")\n')
    docstrings, messages = strings_in(tree)
    assert [text for _, text in docstrings] == ["A page.", "How many.", "Return x."]
    assert messages == [(6, "no {} is left")]


def test_long_sentences_are_found_outside_code_and_tables() -> None:
    words = " ".join(["word"] * (MOST_WORDS + 1))
    assert long_sentences(f"Short one. {words.capitalize()}. Short one.") == [f"{MOST_WORDS + 1} words: {words.capitalize()}."]
    assert long_sentences(f"- {words}") != []
    half = " ".join(["word"] * 20)
    spared = (
        *(f"```\n{words}\n```\n", f"| {words} | {words} |\n", f"# {words}\n", f"`{words}` is code.", f"![{words}](a.png)"),
        *(f"{half}.\n{half}.", f"{half}:\n\n- {half}\n- {half}", f"[{half}](https://e.org/{'?a' * 40})", f"**{half}.** {half}."),
    )
    for page in spared:
        assert long_sentences(page) == []
