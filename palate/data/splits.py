"""Which prompts are kept back for testing, and the control whose labels say nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from palate.core import Preference


def split_held_out(preferences: Sequence[Preference], share: float, seed: int) -> tuple[list[Preference], list[Preference]]:
    """The preferences without a share of their prompts, and those of that share."""
    distinct = list(dict.fromkeys(preference.prompt.conversation for preference in preferences))
    kept = set(random.Random(seed).sample(distinct, max(1, round(share * len(distinct)))))
    rest = [preference for preference in preferences if preference.prompt.conversation not in kept]
    return rest, [preference for preference in preferences if preference.prompt.conversation in kept]


def shuffled(preferences: Sequence[Preference], seed: int) -> list[Preference]:
    """The same pairs with a coin tossed for which side is called chosen: a control without any signal."""
    rng = random.Random(seed)
    return [replace(p, chosen=p.rejected, rejected=p.chosen) if rng.random() < 0.5 else p for p in preferences]
