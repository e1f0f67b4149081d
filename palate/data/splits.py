"""Hold out prompts for testing, and shuffle labels as a control."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from palate.core import Preference


def split_held_out(preferences: Sequence[Preference], share: float, seed: int) -> tuple[list[Preference], list[Preference]]:
    """Split off the preferences of a share of the prompts, drawn at random. Returns (the rest, those held out)."""
    distinct = list(dict.fromkeys(preference.prompt.conversation for preference in preferences))
    held_out = set(random.Random(seed).sample(distinct, max(1, round(share * len(distinct)))))
    rest = [preference for preference in preferences if preference.prompt.conversation not in held_out]
    return rest, [preference for preference in preferences if preference.prompt.conversation in held_out]


def shuffled(preferences: Sequence[Preference], seed: int) -> list[Preference]:
    """The same pairs with the chosen side drawn at random: a control without any signal."""
    rng = random.Random(seed)
    return [replace(p, chosen=p.rejected, rejected=p.chosen) if rng.random() < 0.5 else p for p in preferences]
