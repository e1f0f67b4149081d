"""Hold out prompts for testing, and shuffle labels as a control."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from palate.core import Preference, Prompt


class Judged(Protocol):
    """What somebody judged about a prompt."""

    @property
    def prompt(self) -> Prompt:
        """The prompt."""
        ...


J = TypeVar("J", bound=Judged)


def split_held_out(judged: Sequence[J], share: float, seed: int) -> tuple[list[J], list[J]]:
    """Split off what was judged about a share of the prompts, drawn at random. Returns (the rest, what is held out)."""
    distinct = list(dict.fromkeys(one.prompt.conversation for one in judged))
    held_out = set(random.Random(seed).sample(distinct, max(1, round(share * len(distinct)))))
    rest = [one for one in judged if one.prompt.conversation not in held_out]
    return rest, [one for one in judged if one.prompt.conversation in held_out]


def shuffled(preferences: Sequence[Preference], seed: int) -> list[Preference]:
    """The same pairs with the chosen side drawn at random: a control without any signal."""
    rng = random.Random(seed)
    return [replace(p, chosen=p.rejected, rejected=p.chosen) if rng.random() < 0.5 else p for p in preferences]
