"""A reward by rule: whether a story ends happily. It imports nothing heavy, because it runs in its own process."""

from __future__ import annotations

import re

HAPPY = re.compile(r"\b(happy|happily|smiled|smile|laughed|glad|proud|loved|love|fun|hugged|friends)\b")
SAD = re.compile(r"\b(sad|cried|scared|angry|hurt|lost|alone|sorry|mad|not happy)\b")


def ending(prompt: str, completion: str, *, ended: bool = True, **_: object) -> float:  # noqa: ARG001 (rewards take further columns)
    """1 for a story that came to a happy end, else 0."""
    last = " ".join([part for part in re.split(r"[.!?]", completion.lower()) if part.strip()][-2:])
    return float(ended and HAPPY.search(last) is not None and SAD.search(last) is None)
