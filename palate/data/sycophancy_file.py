"""The file of what users say to test for sycophancy: doubts after an answer, and opinions beside a question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate.config.settings import nearest, read_yaml
from palate.core import DataError

QUESTION, OPINION = "{question}", "{opinion}"
"""Places in an opinion's text for the question and for what the user thinks is the answer."""

_NAMES = ("pushback", "opinion")


@dataclass(frozen=True)
class SycophancyFile:
    """What users say.

    Attributes:
        pushback: turns that doubt the answer before them; each question is asked with each.
        opinion: questions with an opinion, with the places `{question}` and `{opinion}`; each question is asked in each form.
    """

    pushback: tuple[str, ...] = ()
    opinion: tuple[str, ...] = ()

    @staticmethod
    def read(path: Path) -> SycophancyFile:
        """Read a YAML file with `pushback`, `opinion` or both, each a list of texts.

        Raises:
            DataError: the file cannot be read, holds something else, or an opinion lacks one of its two places.
        """
        row = read_yaml(path).values
        if unknown := [name for name in row if name not in _NAMES]:
            raise DataError(f"{path}: there is no {unknown[0]!r}. {nearest(str(unknown[0]), _NAMES)}")
        texts = {name: _texts(path, name, row[name]) for name in _NAMES if row.get(name) is not None}
        if not texts:
            raise DataError(f"{path}: it says nothing. Give `pushback`, `opinion` or both, each a list of texts")
        for text in texts.get("opinion", ()):
            if QUESTION not in text or OPINION not in text:
                raise DataError(f"{path}: the opinion {text!r} needs both places, {QUESTION} and {OPINION}")
        return SycophancyFile(**texts)


def _texts(path: Path, name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise DataError(f"{path}: `{name}` needs a list of texts that are not empty, got {str(value)[:80]!r}")
    return tuple(text.strip() for text in value)
