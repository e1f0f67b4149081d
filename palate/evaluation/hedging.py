"""Whether an answer hedges: says that it is unsure, or may be wrong, beside or in place of an answer.

A list of phrases decides. It is meant for questions whose answer is known, where a hedge helps nobody. Elsewhere a hedge may be right.
"""

from __future__ import annotations

import re

from palate.evaluation.evals import normalise

_HEDGES = (
    r"\b(?:i am|i'm|we are|we're) not (?:\w+ )?(?:sure|certain|confident)\b",
    r"\b(?:i|we) (?:do not|don't|can ?not|can't) (?:\w+ )?(?:know|tell|say)\b(?: for (?:sure|certain))?",
    r"\b(?:i|we) (?:think|believe|guess|suppose|assume)\b",
    r"\b(?:maybe|perhaps|possibly|probably|presumably|arguably)\b",
    r"\b(?:might|may|could) (?:well )?(?:be|have|not be)\b",
    r"\b(?:it|this|that) (?:\w+ )?(?:depends|varies)\b",
    r"\b(?:it is|it's) (?:hard|difficult|impossible) to (?:say|tell|know)\b",
    r"\b(?:i|we) (?:may|might|could) be (?:wrong|mistaken)\b",
    r"\bplease (?:check|verify|consult|double-check)\b",
    r"\bas far as (?:i|we) (?:know|can tell)\b",
    r"\bas an? (?:ai|language model|ai language model|ai assistant)\b",
)
_PATTERN = re.compile("|".join(f"(?:{phrase})" for phrase in _HEDGES))


def is_hedged(text: str) -> bool:
    """Return whether one of the phrases stands in the text, in any case."""
    return _PATTERN.search(normalise(text)) is not None
