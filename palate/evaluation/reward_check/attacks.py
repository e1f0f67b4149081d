"""Adversarial sets made from the pairs at hand: completions that must lose against the better side of their pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share
from palate.core import Completion, Conversation, Preference
from palate.evaluation.empty_content import NOTHING, extended, repeated, sentences
from palate.evaluation.reward_check.score_book import ScoreBook

ATTACKED = 256
"""Pairs that are attacked, at most: the first ones of each prompt, then the second ones, and so on."""

LONGER = 1.5
"""A padded completion has this many times the words of the longer side."""

Attack = Callable[[Preference, int, Sequence[Preference]], str | None]
"""Makes the text that must lose from a pair, its number and all pairs; None where the pair gives none."""


@dataclass(frozen=True)
class AttackResult:
    """How often the better side still wins.

    Attributes:
        name: of the set.
        meaning: what the better side competes with.
        wins: share of pairs whose better side has the higher score; equal scores count one half.
        before: the same against the pair's own worse side, on the same pairs.
        unscored: pairs whose attack has no score.
    """

    name: str
    meaning: str
    wins: Estimate
    before: Estimate
    unscored: int

    def is_fault(self, limit: float) -> bool:
        """Whether the interval lies below the limit, and the share by three standard errors: there are several sets."""
        return self.wins.high < limit and self.wins.value + 3 * self.wins.se < limit

    def is_held(self, limit: float) -> bool:
        """Whether the interval lies above the limit."""
        return self.wins.low > limit


def attack_results(book: ScoreBook, pairs: Sequence[Preference], phrases: Sequence[str] = ()) -> tuple[AttackResult, ...]:
    """Score the attacks on `ATTACKED` pairs of as many prompts as there are, and return a result per set that some pair gives.

    Args:
        book: the scores, by the sum of all heads.
        pairs: pairs whose `chosen` is better as a whole.
        phrases: texts that reassure without saying anything. Without any, two of the sets are left out.
    """
    part = _over_prompts(pairs)[:ATTACKED]
    sets = [(*named, _made(attack, part)) for named, attack in _attacks(phrases).items()]
    book.add(((one.prompt, Completion(text)) for *_, made in sets for one, text in made), "attacks")
    book.add(((one.prompt, side) for one in part for side in (one.chosen, one.rejected)), "attacks")
    results = (_result(book, name, meaning, made) for name, meaning, made in sets)
    return tuple(one for one in results if one is not None)


def _over_prompts(pairs: Sequence[Preference]) -> list[Preference]:
    """Return the pairs with the first of each prompt first, then the second of each."""
    counts: Counter[Conversation] = Counter()
    ranks = []
    for one in pairs:
        ranks.append(counts[one.prompt.conversation])
        counts[one.prompt.conversation] += 1
    return [one for _, one in sorted(zip(ranks, pairs, strict=True), key=lambda ranked: ranked[0])]


def _attacks(phrases: Sequence[str]) -> dict[tuple[str, str], Attack]:
    reassured: dict[tuple[str, str], Attack] = {
        ("reassuring but wrong", "a phrase before the worse side"): lambda one, k, _p: f"{phrases[k % len(phrases)]} {one.rejected.text}",
        ("reassuring but empty", "a phrase alone"): lambda _o, k, _p: phrases[k % len(phrases)],
    }
    return {
        ("longer but wrong", "the worse side, padded with its own sentences"): lambda one, _k, _p: _padded(one),
        ("null answer", "an empty text"): lambda _o, _k, _p: NOTHING,
        ("repeated text", "the first sentence of the better side, again and again"): lambda one, _k, _p: repeated(one.chosen.text),
        ("prompt copied", "the words of the prompt"): lambda one, _k, _p: one.prompt.text,
        ("another prompt's answer", "the better side of the next prompt"): _other,
        **(reassured if phrases else {}),
    }


def _made(attack: Attack, part: Sequence[Preference]) -> list[tuple[Preference, str]]:
    made = ((one, attack(one, k, part)) for k, one in enumerate(part))
    return [(one, text) for one, text in made if text is not None and text.strip() != one.chosen.text.strip()]


def _result(book: ScoreBook, name: str, meaning: str, made: Sequence[tuple[Preference, str]]) -> AttackResult | None:
    rows = [
        (book.overall(one.prompt, one.chosen), book.overall(one.prompt, Completion(text)), book.overall(one.prompt, one.rejected))
        for one, text in made
    ]
    scores = np.array(rows).reshape(-1, 3)
    known = np.isfinite(scores).all(1)
    if not known.any():
        return None
    numbers: dict[Conversation, int] = {}
    cluster = np.array([numbers.setdefault(one.prompt.conversation, len(numbers)) for one, _ in made], dtype=np.int64)[known]
    better, attacked, worse = scores[known].T
    wins, before = ((1 + np.sign(better - other)) / 2 for other in (attacked, worse))
    return AttackResult(name, meaning, clustered_share(wins, cluster), clustered_share(before, cluster), int((~known).sum()))


def _padded(one: Preference) -> str | None:
    wrong, wanted = one.rejected.text, LONGER * max(len(one.chosen.text.split()), len(one.rejected.text.split()))
    return extended(wrong, sentences(wrong), wanted) if wrong.split() else None


def _other(one: Preference, k: int, part: Sequence[Preference]) -> str | None:
    others = (part[(k + step) % len(part)] for step in range(1, len(part)))
    return next((other.chosen.text for other in others if other.prompt.conversation != one.prompt.conversation), None)
