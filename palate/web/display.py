"""How media and answers are displayed: media from one folder, answers in words."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from palate.core import DataError
from palate.ratings import Answer, Tiers

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
_GRADES = {"met": "met", "unmet": "not met", "unsure": "unsure"}
MEDIA_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
    "Content-Disposition": "inline",
}


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


def answer_in_words(answer: Answer, order: tuple[int, ...] | None) -> str:
    """Return the answer in words, such as `2 > 1 = 3`.

    Completions are numbered from 1 in the order of the item, in whatever order the rater saw them.
    """
    if answer.skipped:
        return "skipped"
    if answer.all_bad:
        return "all bad"
    if answer.broken is not None:
        return "breaks the rule" if answer.broken else "keeps the rule"
    if answer.grades:
        return "; ".join(f"{name}: {_GRADES[word]}" for name, word in answer.grades.items())
    if not answer.ranking:
        return "wrote an answer" if answer.text else "took an answer back"
    first = ranking_in_words(answer.ranking, order)
    others = [f"{dimension}: {ranking_in_words(tiers, order)}" for dimension, tiers in answer.dimensions.items()]
    return "; ".join([first, *others])


def ranking_in_words(tiers: Tiers, order: tuple[int, ...] | None) -> str:
    """Return tiers of displayed places, or of candidates without an order, as numbers of completions, such as `2 > 1 = 3`."""
    numbers = (sorted(tier if order is None else (order[place] for place in tier)) for tier in tiers)
    return " > ".join(" = ".join(str(number + 1) for number in tier) for tier in numbers)


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
