"""Answers in words, and words as answers. Completions are numbered from 1 in the order of the item, whatever a rater saw."""

from __future__ import annotations

import re

from palate.core import DataError
from palate.ratings import Answer, Tiers


def words_of(answer: Answer, order: tuple[int, ...]) -> str:
    """The answer in words, such as `2 > 1 = 3`."""
    if answer.skipped:
        return "skipped"
    if answer.all_bad:
        return "all bad"
    if answer.broken is not None:
        return "breaks the rule" if answer.broken else "keeps the rule"
    if not answer.ranking:
        return "wrote an answer" if answer.text else "took an answer back"
    first = ranking_words(answer.ranking, order)
    others = [f"{dimension}: {ranking_words(tiers, order)}" for dimension, tiers in answer.dimensions.items()]
    return "; ".join([first, *others])


def ranking_words(tiers: Tiers, order: tuple[int, ...]) -> str:
    """Tiers of places shown, as numbers of completions."""
    return " > ".join(" = ".join(str(number + 1) for number in sorted(order[place] for place in tier)) for tier in tiers)


def ranking_of(words: str, count: int) -> Tiers:
    """The tiers of a ranking in words, with completions from 0.

    Raises:
        DataError: it does not name each of `count` completions once.
    """
    if not re.fullmatch(r"[\d=> ]{1,100}", words, flags=re.ASCII):
        raise DataError(f"The ranking {words[:40]!r} is not understood; write 1 > 2, or 1 = 2.")
    tiers = tuple(tuple(int(word) - 1 for word in tier.split("=") if word.strip().isdigit()) for tier in words.split(">"))
    if sorted(place for tier in tiers for place in tier) != list(range(count)):
        raise DataError(f"The ranking {words[:40]!r} must name each of 1 to {count} once, such as 1 > 2.")
    return tiers
