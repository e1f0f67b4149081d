"""A ranking that a judge wrote: a line such as `Ranking: B > A = C`, which names each completion once."""

from __future__ import annotations

import re
from collections.abc import Sequence

Tiers = tuple[tuple[int, ...], ...]
"""Places in tiers, best first; a tier of two or more is a tie."""

_MARKUP = " \t*_`[]()#."
_TITLE = re.compile(r"(?:final\s+)?ranking[\s*_`]*:", re.IGNORECASE)
_ANSWER = re.compile(r"(?:answer\s+)?(\w+)", re.IGNORECASE)


def ranking_in(text: str, labels: Sequence[str]) -> Tiers | str:
    """Return the last ranking in a text, or the reason why it cannot be read.

    A last line that leaves out a label, names one twice, or names another one is not a ranking, also where an earlier line was one.

    Args:
        text: a reply without the model's thoughts.
        labels: what the completions are called, in the order shown.
    """
    bodies = [body for line in text.splitlines() if (body := _body(line)) is not None]
    if not bodies:
        return f"the reply holds no ranking: {text[-80:]!r}"
    told = f"{bodies[-1][:120]!r}"
    places = {label.lower(): place for place, label in enumerate(labels)}
    tiers: list[tuple[int, ...]] = []
    seen: set[int] = set()
    for part in bodies[-1].split(">"):
        tier = []
        for name in map(_name, part.split("=")):
            place = places.get(name.lower())
            if place is None:
                return f"the ranking names {name!r}, and the answers are {', '.join(labels)}: {told}"
            if place in seen:
                return f"the ranking names {labels[place]} twice: {told}"
            seen.add(place)
            tier.append(place)
        tiers.append(tuple(sorted(tier)))
    if missing := [label for place, label in enumerate(labels) if place not in seen]:
        return f"the ranking leaves out {', '.join(missing)}: {told}"
    return tuple(tiers)


def _body(line: str) -> str | None:
    """Return what follows `Ranking:`, whatever it is, or a line that is a ranking and nothing else; None for any other line."""
    bare = line.strip(_MARKUP).lstrip("> ").strip(_MARKUP)
    if title := _TITLE.match(bare):
        return bare[title.end() :].strip(_MARKUP)
    parts = re.split("[>=]", bare)
    return bare if len(parts) > 1 and all(_ANSWER.fullmatch(part.strip(_MARKUP)) for part in parts) else None


def _name(part: str) -> str:
    bare = part.strip(_MARKUP)
    found = _ANSWER.fullmatch(bare)
    return bare if found is None else found[1]
