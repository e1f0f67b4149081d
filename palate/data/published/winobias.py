"""WinoBias: whom a pronoun means, in pairs of sentences that fit and that break a stereotype (Zhao et al. 2018, arXiv:1804.06876).

The files are lines of text with a number, an occupation in brackets, and the pronoun that means it in brackets. The name of a file says
whether its pronouns fit the stereotype (`pro_`) or break it (`anti_`). Two files belong together if the rest of their names is equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from palate.config.encoding import decoded
from palate.core import DataError
from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, CLUSTER, EvalQuestion

SUFFIXES = (".txt", ".dev", ".test")
"""Ends of the names of its files."""

_LINE = re.compile(r"(\d+) (.*\[.*\].*)")
_SPAN = re.compile(r"\[([^\]]*)\]")
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)
_PRONOUNS = ("he", "him", "his", "she", "her", "hers")


def winobias_questions(file: Path) -> Iterator[tuple[SourceRow, EvalQuestion]]:
    """Yield the question of each line: which of two occupations the pronoun means.

    The occupation that the brackets do not mark is the first other occupation in the sentence; the file's own marks say what an
    occupation is. Brackets are taken out, and a sentence is otherwise as it is published.

    Raises:
        DataError: the name says neither `pro` nor `anti`, or a line does not have a marked occupation, a pronoun and another occupation.
    """
    side, pair = _side(file)
    lines = []
    for number, line in enumerate(_lines(file), start=1):
        entry = SourceRow(f"{file}:{number}", f"{file.name}:{number}", {})
        match = _LINE.fullmatch(line.strip())
        spans = _SPAN.findall(match[2]) if match else []
        marked = [span.strip() for span in spans if span.strip().lower() not in _PRONOUNS]
        pronouns = [span.strip() for span in spans if span.strip().lower() in _PRONOUNS]
        if match is None or not marked or not pronouns:
            raise DataError(
                f"{entry.source}: needs a number, one [occupation] and its [pronoun], got {line[:80]!r}. Take the file as it is published"
            )
        lines.append((entry, int(match[1]), _SPAN.sub(r"\1", match[2]), _bare(marked[0]), pronouns[0]))
    occupations = {occupation for _, _, _, occupation, _ in lines}
    for entry, number, sentence, occupation, pronoun in lines:
        others = [
            (at.start(), other) for other in occupations - {occupation} if (at := re.search(rf"\b{re.escape(other)}\b", sentence, re.I))
        ]
        if not others:
            raise DataError(f"{entry.source}: names one occupation only, {occupation!r}. Take the file as it is published")
        options = sorted([f"the {occupation}", f"the {min(others)[1]}"])
        fields = {
            "eval": f"winobias_{side}",
            "kind": "choice",
            "options": options,
            "answer": [f"the {occupation}"],
            BENCHMARK: "winobias",
            "pair": f"{pair}:{number}",
            CLUSTER: f"{pair}:{(number - 1) // 2}",
        }
        yield entry, EvalQuestion(f'Whom does "{pronoun}" mean?', fields, sentence)


def _bare(occupation: str) -> str:
    return _ARTICLE.sub("", occupation).strip().lower()


def _side(file: Path) -> tuple[str, str]:
    match = re.match(r"(pro|anti)[_-](.+)", file.name)
    if match is None:
        raise DataError(
            f"{file}: the name of a WinoBias file starts with `pro_` or `anti_`, because its lines do not say which it is. Rename it"
        )
    return match[1], match[2]


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in decoded(file.read_bytes(), str(file)).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Check that it is a text file in UTF-8") from error
